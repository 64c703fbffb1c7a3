package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
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
// Only an account that is connected is certain to be linked still: one may have been unlinked while
// nobody could tell the gateway.
func (g *gateway) pair(ctx context.Context, phone string) (code string, err error) {
	if a := g.account(phone); a != nil && a.connected() {
		return "", errLinked
	}
	a, err := g.newAccount(g.sessions.NewDevice())
	if err != nil {
		return "", err
	}
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
	g.background.Go(func() {
		defer cancel()
		g.finish(a, steps)
	})
	return code, nil
}

// finish waits for the code to be typed.
func (g *gateway) finish(a *account, steps <-chan whatsmeow.QRChannelItem) {
	for step := range steps {
		switch step.Event {
		case whatsmeow.QRChannelEventCode:
		case whatsmeow.QRChannelSuccess.Event:
			phone := a.phone()
			g.log.Info("An account was linked", "account", phone)
			// whatsmeow itself deletes the session of one that was unlinked.
			if replaced := g.add(phone, a); replaced != nil && !replaced.unlinked.Load() {
				// Or the next start would find two sessions of the account, and not know which
				// one is good.
				if err := replaced.client.Store.Delete(g.root); err != nil {
					g.log.Error("The former session of an account was not deleted", "account", phone, "error", err)
				}
			}
			return
		default:
			g.log.Warn("An account was not linked", "reason", step.Event)
		}
	}
	a.close()
}
