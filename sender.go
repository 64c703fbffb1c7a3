package reupload

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// A sender wraps the client's node sender for the one stanza that this package sends. It is the only place that sends.
type sender struct {
	client    *whatsmeow.Client
	tap       *tap // nil if there is none
	sent      atomic.Uint64
	identity  atomic.Pointer[identity] // of the account, nil after a logout
	wasOnline atomic.Bool              // a login has been seen, so that whatsmeow reconnects by itself
}

// internals opens what whatsmeow exports under protest: the node sender, the acks, the state of the connection.
func (s *sender) internals() *whatsmeow.DangerousInternalClient {
	//lint:ignore SA1019 "dangerous" is what is deprecated; there is no other way to send a receipt and see its ack.
	return s.client.DangerousInternals()
}

// A delivery is a receipt that was written to the socket.
type delivery struct {
	// acks gets the next ack for the message, if the tap does not see it.
	acks <-chan *waBinary.Node
	// gone gets something when the connection ends.
	gone <-chan *waBinary.Node
	// nextLogin is closed by the next login.
	nextLogin <-chan struct{}
	// release must be called when nobody waits for the above any more.
	release func()
}

// errInterrupted means that the connection went away, and that whatsmeow is about to bring it back.
var errInterrupted = errors.New("the connection was interrupted")

// send seals a request and writes it to the socket. The error is errInterrupted if waiting for delivery.nextLogin will help,
// or whatsmeow.ErrNotLoggedIn, whatsmeow.ErrNotConnected or the context's.
func (s *sender) send(ctx context.Context, req Request, addr address, c retryCipher) (delivery, error) {
	internals := s.internals()
	d := delivery{nextLogin: internals.GetSocketWaitChan(), release: func() {}} // before sending: a login in between must not be missed
	if addr.to.IsEmpty() {
		return d, whatsmeow.ErrNotLoggedIn
	}
	// When a connection ends, whatsmeow tells all who wait for a response. Nothing ever responds to this id.
	watch := internals.GenerateRequestID()
	gone := internals.WaitResponse(watch)
	d.gone, d.release = gone, func() { internals.CancelResponse(watch, gone) }
	if !s.tapped() {
		d.acks = s.nextAck(req.MessageID)
	}
	err := internals.SendNode(ctx, receiptNode(req.MessageID, req.IsFromMe, addr, c.sealRequest(req.MessageID)))
	switch {
	case err == nil:
		s.sent.Add(1)
		return d, nil
	case ctx.Err() != nil:
		return d, context.Cause(ctx)
	case s.reconnecting():
		return d, errInterrupted
	case errors.Is(err, whatsmeow.ErrNotConnected):
		return d, whatsmeow.ErrNotConnected
	}
	return d, fmt.Errorf("%w: %w", whatsmeow.ErrNotConnected, err)
}

// tapped tells whether acks come through the tap.
func (s *sender) tapped() bool { return s.tap != nil && s.tap.live.Load() }

// nextAck returns a channel that gets the next ack for a message, whichever of its receipts that is for. It is never
// cancelled: CancelResponse closes the channel, and an ack that arrives in that moment would panic in whatsmeow. One that
// never comes costs a map entry until the connection ends.
func (s *sender) nextAck(id types.MessageID) <-chan *waBinary.Node {
	return s.internals().WaitResponse(id)
}

// reconnecting tells whether whatsmeow brings a connection back that was lost.
func (s *sender) reconnecting() bool {
	return s.wasOnline.Load() && s.client.EnableAutoReconnect && !s.internals().IsExpectedDisconnect()
}

// ownID returns the account's phone-number JID without device part, which is empty if the client is not logged in.
func (s *sender) ownID() types.JID {
	pn, _ := s.own()
	return pn
}

// An identity is the account's phone-number JID and LID, without device part.
type identity struct{ pn, lid types.JID }

// identify reads who the account is. whatsmeow changes that without a lock when it is logged out.
func (s *sender) identify() {
	s.identity.Store(&identity{s.client.Store.GetJID().ToNonAD(), s.client.Store.GetLID().ToNonAD()})
}

// own returns the identity, which is empty if the client is not logged in.
func (s *sender) own() (pn, lid types.JID) {
	if id := s.identity.Load(); id != nil {
		return id.pn, id.lid
	}
	return types.EmptyJID, types.EmptyJID
}

// isOwn tells whether a JID is this account, by phone number or LID.
func (s *sender) isOwn(jid types.JID) bool {
	pn, lid := s.own()
	return jid.User != "" && (jid.User == pn.User && jid.Server == pn.Server || jid.User == lid.User && jid.Server == lid.Server)
}
