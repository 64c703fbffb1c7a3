package wabox

import (
	"context"
	"slices"

	waBinary "go.mau.fi/whatsmeow/binary"
)

// An outbox is what an account is to be sent. It is guarded by the account's mu.
type outbox struct {
	waiting []letter // not yet sent on the present connection
	sent    []letter // sent, and not yet acknowledged, or being sent
}

// A letter is one node of an outbox.
type letter struct {
	node waBinary.Node
	data []byte // the node, marshalled
}

// key is what the client's ack will name the node by. It is empty for a node that no client
// acknowledges: to send such a node is to be done with it.
func (l letter) key() letterKey {
	switch l.node.Tag {
	case "message", "notification", "receipt":
		if id, _ := l.node.Attrs["id"].(string); id != "" {
			return letterKey{l.node.Tag, id}
		}
	}
	return letterKey{}
}

type letterKey struct{ tag, id string }

// SendNode sends any node to the client, or holds it until the client has logged in. It fails if
// the node cannot be marshalled, and when no device is linked or the box is closed. The node must
// not be changed afterwards.
func (a *Account) SendNode(n waBinary.Node) error {
	data, err := marshal(n)
	if err != nil {
		return err
	}
	if a.box.ctx.Err() != nil {
		return errClosed
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.unlinked {
		return errUnlinked
	}
	a.outbox.waiting = append(a.outbox.waiting, letter{n, data})
	if a.conn != nil {
		select {
		case a.conn.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// activate begins delivery on a connection, with what earlier ones did not get through.
func (a *Account) activate(ctx context.Context, c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn != c || c.active {
		return
	}
	a.outbox.waiting = append(a.outbox.sent, a.outbox.waiting...)
	a.outbox.sent = nil
	held := len(a.outbox.waiting)
	c.active = true
	c.wg.Go(func() { a.deliver(ctx, c, held) })
	a.notify()
}

// deliver sends what is in the outbox until the connection ends. The first so many nodes are those
// that were held.
func (a *Account) deliver(ctx context.Context, c *conn, held int) {
	for n := 0; ; n++ {
		if n == held && c.write(offlineEnd(held)) != nil {
			c.abort()
			return
		}
		next, ok := a.next(ctx, c)
		if !ok {
			return
		}
		if c.writeMarshalled(next.node, next.data) != nil {
			c.abort()
			return // it stays among the sent, and so is sent again
		}
		if next.key() == (letterKey{}) {
			a.settle(func(l letter) bool { return &l.data[0] == &next.data[0] })
		}
	}
}

// next waits for a node to send on a connection. It returns false when the connection is no
// longer the account's.
func (a *Account) next(ctx context.Context, c *conn) (letter, bool) {
	for {
		a.mu.Lock()
		if a.conn != c {
			a.mu.Unlock()
			return letter{}, false
		}
		if box := &a.outbox; len(box.waiting) > 0 {
			next := box.waiting[0]
			box.waiting = box.waiting[1:]
			box.sent = append(box.sent, next)
			a.mu.Unlock()
			return next, true
		}
		a.mu.Unlock()
		select {
		case <-c.wake:
		case <-ctx.Done():
			return letter{}, false
		}
	}
}

// acknowledged forgets the node that the client says it has. Of several with the same id, it
// is the oldest.
func (a *Account) acknowledged(tag, id string) {
	a.settle(func(l letter) bool { return l.key() == letterKey{tag, id} })
}

func (a *Account) settle(match func(letter) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	sent := a.outbox.sent
	if i := slices.IndexFunc(sent, match); i >= 0 {
		// Acks come nearly in order: it is the front that has to be moved.
		copy(sent[1:i+1], sent[:i])
		sent[0] = letter{}
		a.outbox.sent = sent[1:]
	}
}
