package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

// Why an account cannot be linked.
var (
	errLinked = errors.New("the account is linked already")
	errNoCode = errors.New("WhatsApp gave no code; check the number, and wait some minutes after several tries")
)

// pairingTime is how long a code is good for.
const pairingTime = 160 * time.Second

// pair begins to link an account, and returns the code that is to be typed on its phone. The error
// is errLinked, wraps errNoCode, or is the context's.
//
// Only an account that is connected is certain to be linked still: another one may have been
// unlinked while the gateway could not be told.
func (g *gateway) pair(ctx context.Context, phone string) (code string, err error) {
	if a := g.account(phone); a != nil && a.connected() {
		return "", errLinked
	}
	if !g.reserve(phone, linking) {
		return "", errAway
	}
	var claimed lease
	defer func() {
		if err != nil {
			g.notLinked(claimed, phone)
		}
	}()
	claimed, ok, err := g.leases.claim(ctx, phone)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errDatabase, err)
	}
	if !ok {
		return "", errAway
	}
	if claimed.linked && g.account(phone) == nil { // it is about to be connected
		claimed = lease{}
		return "", errAway
	}
	a, err := g.newAccount(g.sessions.NewDevice())
	if err != nil {
		return "", err
	}
	a.term = claimed.term
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	pairing, cancel := context.WithTimeout(g.running, pairingTime)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	steps, err := a.client.GetQRChannel(pairing)
	if err != nil {
		return "", err
	}
	if err = a.client.Connect(); err != nil {
		return "", fmt.Errorf("%w: %w", errNoCode, err)
	}
	select {
	case step := <-steps: // the first QR code, which shows that the connection is ready
		if step.Event != whatsmeow.QRChannelEventCode {
			return "", errNoCode
		}
	case <-ctx.Done():
		return "", ctx.Err()
	}
	code, err = a.client.PairPhone(ctx, phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoCode, err)
	}
	running := g.spawn(func() {
		defer cancel()
		if !g.finish(a, steps) {
			a.close()
			g.notLinked(claimed, phone)
		} else {
			g.unreserve(phone)
		}
	})
	if !running {
		return "", errAway
	}
	return code, nil
}

// notLinked gives up the lease of an account that was not linked, unless it was before. The process
// that takes it next forgets the account if it has no session.
func (g *gateway) notLinked(claimed lease, phone string) {
	defer g.unreserve(phone)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.root), statementTime)
	defer cancel()
	if g.account(phone) != nil || claimed.term == 0 {
		return
	}
	if err := g.leases.give(ctx, phone, claimed.term); err != nil {
		g.log.Warn("The lease of an account that was not linked is kept", "account", phone, "error", err)
	}
}

// finish waits for the code to be typed, and reports whether it was.
func (g *gateway) finish(a *account, steps <-chan whatsmeow.QRChannelItem) bool {
	for step := range steps {
		switch step.Event {
		case whatsmeow.QRChannelEventCode:
		case whatsmeow.QRChannelSuccess.Event:
			phone := a.phone()
			g.log.Info("An account was linked", "account", phone)
			if replaced := g.add(phone, a); replaced != nil && *replaced.session.Load() != *a.session.Load() {
				// Or the next start would find two sessions of the account, and not know which
				// one is good. whatsmeow deletes that of one that was unlinked, but may not come to
				// it before the gateway ends.
				if err := g.sessions.DeleteDevice(g.root, &store.Device{ID: replaced.session.Load()}); err != nil {
					g.log.Error("The former session of an account was not deleted", "account", phone, "error", err)
				}
			}
			return true
		default:
			g.log.Warn("An account was not linked", "reason", step.Event)
		}
	}
	return false
}
