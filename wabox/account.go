package wabox

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

var (
	errUnlinked = errors.New("wabox: no device is linked to the account; link one with Account.Scan or Account.EnterCode")
	errOffline  = errors.New("wabox: the account is offline")
)

// An Account is one WhatsApp account: its phone, and the one linked device that a client is. Its
// methods can be called from any goroutine.
type Account struct {
	PN, LID types.JID // without device part
	Device  *store.Device

	box    *Box
	index  int // in the box's accounts
	linked atomic.Pointer[linked]
	signal signal
	phone  phone

	mu       sync.Mutex
	conn     *conn
	logins   int
	offline  bool
	lidless  bool
	unlinked bool
	outbox   outbox
	sent     []Sent
	// originals are the messages on their way to the client.
	originals map[originalKey]*original
	groups    map[types.JID]group
	changed   chan struct{} // closed, and replaced, when something happens that a Wait method can wait for
}

// NewClient returns a client for the account that connects to the box. A nil log is silent. For an
// account without a device it makes one, which is not linked yet.
func (a *Account) NewClient(log waLog.Logger) *whatsmeow.Client {
	if a.Device == nil {
		a.Device = NewDevice()
	}
	cli := whatsmeow.NewClient(a.Device, log)
	a.Configure(cli)
	return cli
}

// Configure gives a client made elsewhere the HTTP clients that lead it to the box. The client must
// not be connected.
func (a *Account) Configure(cli *whatsmeow.Client) { a.box.configure(cli, strconv.Itoa(a.index)) }

// Configure gives a client the HTTP clients that lead it to the box, when it is not known yet which
// account it will be linked to. The client must not be connected.
func (b *Box) Configure(cli *whatsmeow.Client) { b.configure(cli, "") }

func (b *Box) configure(cli *whatsmeow.Client, account string) {
	transport := b.Transport()
	var chat http.RoundTripper = transport
	if _, inMemory := b.network.(*memory); inMemory {
		chat = hastyTransport{transport}
	}
	lead(cli, transport, accountTransport{chat, account})
}

// lead gives a client its HTTP clients: one for media, and one for the chat connection.
func lead(cli *whatsmeow.Client, media, chat http.RoundTripper) {
	cli.SetMediaHTTPClient(&http.Client{Transport: media})
	websocket := &http.Client{Transport: chat}
	cli.SetWebsocketHTTPClient(websocket)
	cli.SetPreLoginHTTPClient(websocket)
}

// accountHeader tells the box whose websocket this is, before the handshake does. A box needs that
// only to refuse an account that is offline with an HTTP status.
const accountHeader = "X-Wabox-Account"

type accountTransport struct {
	base    http.RoundTripper
	account string
}

func (t accountTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(accountHeader, t.account)
	return t.base.RoundTrip(r)
}

// attach makes a connection that has completed its handshake the account's own, in place of
// one that it may have had. It refuses one whose device is logged out, and fails if the
// account is offline.
func (a *Account) attach(c *conn) (refused bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.unlinked:
		return true, nil
	case a.offline:
		return true, errOffline
	}
	if old := a.conn; old != nil {
		a.box.spawn(func() { old.farewell(streamError("", "replaced")) })
	}
	a.conn = c
	a.logins++
	return false, nil
}

// detach takes a connection away from the account, so that what is sent from now on waits for
// the next one.
func (a *Account) detach(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == c {
		a.conn = nil
		a.notify()
	}
}

// HideLID makes the server tell the client nothing of the account's LID, as if it had none. Call it
// before the client is made: the device of [Box.NewAccount] loses its LID, too.
func (a *Account) HideLID() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lidless = true
	if a.Device != nil {
		a.Device.LID = types.EmptyJID
	}
}

// tellsLID adds the LID of the account's device to what the client is told, if it may know it.
func (a *Account) tellsLID(attrs waBinary.Attrs, lid types.JID) waBinary.Attrs {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.lidless {
		attrs["lid"] = lid
	}
	return attrs
}

// notify wakes everyone who waits for a change. a.mu is held.
func (a *Account) notify() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// wait blocks until a condition holds, which it checks with a.mu held.
func (a *Account) wait(ctx context.Context, done func() bool) error {
	for {
		a.mu.Lock()
		ok, changed := done(), a.changed
		a.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-a.box.ctx.Done():
			return errClosed
		}
	}
}

// Cut breaks the client's connection, abruptly, as a network that fails does. What is sent after
// Cut has returned waits for the next login.
func (a *Account) Cut() {
	a.mu.Lock()
	c := a.conn
	a.mu.Unlock()
	if c != nil {
		a.detach(c)
		c.abort()
	}
}

// Offline cuts the client off while it is true: the connection breaks, and new ones are refused
// with HTTP status 503. Those of a client that connects otherwise than by [Account.Configure] end
// with a stream error when it has said who it is.
func (a *Account) Offline(off bool) {
	a.mu.Lock()
	a.offline = off
	a.mu.Unlock()
	if off {
		a.Cut()
	}
}

// Logout does what a user does to remove the linked device on the phone. A client that is connected
// is told so, and disconnected a little later if it has not hung up by then; later logins are
// refused with <failure reason="401"/>. Messages that wait for the client are lost. Logout does not
// wait for the client. The phone can then link another device.
func (a *Account) Logout() {
	a.mu.Lock()
	c := a.conn
	a.unlinked = true
	a.outbox, a.originals = outbox{}, make(map[originalKey]*original)
	a.mu.Unlock()
	if c != nil {
		a.detach(c)
		a.box.spawn(func() { c.farewell(streamError("401", "device_removed")) })
	}
}

// Logins returns how many times the client has logged in.
func (a *Account) Logins() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logins
}

// WaitOnline waits until the client is logged in and has made its connection active, so that what
// is sent to it arrives at once. The box may not have seen yet that a client has hung up: after a
// client has connected again, wait for its events.Connected.
func (a *Account) WaitOnline(ctx context.Context) error {
	return a.wait(ctx, func() bool { return a.conn != nil && a.conn.active })
}
