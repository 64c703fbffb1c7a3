package reupload

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// A sender wraps the client's node sender for the one stanza that this package sends.
// Nothing else sends.
type sender struct {
	client    *whatsmeow.Client
	tap       *host.Tap // nil if there is none
	asked     atomic.Uint64
	account   atomic.Pointer[account] // nil after a logout
	wasOnline atomic.Bool             // a login has been seen, so that whatsmeow reconnects by itself
	groups    groups
}

// internals is what whatsmeow exports under protest.
func (s *sender) internals() *whatsmeow.DangerousInternalClient { return host.Internals(s.client) }

// A wire is where a receipt is written to.
type wire struct {
	gone <-chan *waBinary.Node // gets something when the connection ends
	acks <-chan *waBinary.Node // gets the next ack for the message, if the tap does not see it
	free func()
}

// release must be called when no caller waits for the wire any more.
func (w wire) release() {
	if w.free != nil {
		w.free()
	}
}

// errInterrupted means that the connection went away, and that whatsmeow is about to bring it back.
var errInterrupted = errors.New("the connection was interrupted")

// send seals a request and writes it to the socket. The wire must be released in any case. The
// error is errInterrupted if waiting for the next login will help, or whatsmeow.ErrNotLoggedIn,
// whatsmeow.ErrNotConnected or the context's.
func (s *sender) send(ctx context.Context, req Request, addr address, c retryCipher) (w wire, err error) {
	if addr.to.IsEmpty() {
		return w, errNotLoggedIn
	}
	if s.reconnecting() && host.IsDialing(s.client) { // which holds up who sends, and perhaps for long
		return w, errInterrupted
	}
	w = s.watch()
	if !s.tapped() {
		w.acks = s.nextAck(req.MessageID)
	}
	s.asked.Add(1) // before an answer can come
	err = s.internals().SendNode(ctx, receiptNode(req.MessageID, req.IsFromMe, addr, c.sealRequest(req.MessageID)))
	if err == nil {
		return w, nil
	}
	if ctx.Err() != nil { // an answer has ended it, or whatsmeow writes the receipt all the same
		return w, ctx.Err()
	}
	s.asked.Add(^uint64(0))
	switch {
	case s.reconnecting():
		return w, errInterrupted
	case errors.Is(err, whatsmeow.ErrNotConnected):
		return w, whatsmeow.ErrNotConnected
	}
	return w, fmt.Errorf("%w: %w", whatsmeow.ErrNotConnected, err)
}

// watch returns the wire of the connection that there is.
func (s *sender) watch() wire {
	internals := s.internals()
	// When a connection ends, whatsmeow tells all that wait for a response. No response ever has
	// this id.
	id := internals.GenerateRequestID()
	gone := internals.WaitResponse(id)
	return wire{gone: gone, free: func() { internals.CancelResponse(id, gone) }}
}

// meet notes that the server may be asked about a chat.
func (s *sender) meet(chat types.JID) { s.groups.meet(chat) }

// tapped reports whether acks come through the tap.
func (s *sender) tapped() bool { return s.tap.IsLive() }

// deaf says so if there was a login of which the tap has seen no node; nil if it sees them, and
// before the first login.
func (s *sender) deaf() error {
	if s.tap == nil || s.tapped() || !s.wasOnline.Load() {
		return nil
	}
	return errNotAtOnce(errors.New("this version of whatsmeow hands its receive logger no nodes"))
}

// errNotAtOnce says what is lost without a tap, and why.
func errNotAtOnce(cause error) error {
	return fmt.Errorf("downloads inside event handlers do not heal at once, but fail and heal the next time: %w", cause)
}

// nextAck returns a channel that gets the next ack for a message, whichever of its receipts
// that is for. It is never cancelled: CancelResponse closes the channel, and an ack that
// arrives in that moment would panic in whatsmeow. One that never comes costs a map entry
// until the connection ends.
func (s *sender) nextAck(id types.MessageID) <-chan *waBinary.Node {
	return s.internals().WaitResponse(id)
}

// reconnecting reports whether whatsmeow brings a connection back that was lost.
func (s *sender) reconnecting() bool {
	return s.wasOnline.Load() && s.client.EnableAutoReconnect && !s.internals().IsExpectedDisconnect()
}

// isOnline reports whether there is a connection on which a receipt can go out.
func (s *sender) isOnline() bool {
	return s.client.IsLoggedIn() && !host.IsDialing(s.client) && s.client.IsConnected()
}

// An account is the account's phone-number JID and LID, without device part.
type account struct{ pn, lid types.JID }

// identify reads the account's names. whatsmeow changes them without a lock when it is logged out.
func (s *sender) identify() {
	s.account.Store(&account{s.client.Store.GetJID().ToNonAD(), s.client.Store.GetLID().ToNonAD()})
}

// own returns the account, which is empty if the client is not logged in.
func (s *sender) own() (pn, lid types.JID) {
	if a := s.account.Load(); a != nil {
		return a.pn, a.lid
	}
	return types.EmptyJID, types.EmptyJID
}

// ownID returns the account's phone-number JID without device part, which is empty if the client is
// not logged in.
func (s *sender) ownID() types.JID {
	pn, _ := s.own()
	return pn
}

// isOwn reports whether a JID is this account, by any of its names.
func (s *sender) isOwn(jid types.JID) bool {
	server, _ := canonicalServer(jid.Server)
	pn, lid := s.own()
	return jid.User != "" && (jid.User == pn.User && server == pn.Server || jid.User == lid.User && server == lid.Server)
}
