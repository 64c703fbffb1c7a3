package wabox

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// deviceID is the number of a new device in its account. The phone is device 0.
const deviceID = 3

var (
	errLoggedOut = errors.New("wabox: the device is logged out")
	errOffline   = errors.New("wabox: the account is offline")
)

// An Account is one WhatsApp account: its phone, and the one linked device that a client is. Its methods can be called
// from any goroutine.
type Account struct {
	PN, LID types.JID // without device part
	Device  *store.Device

	box    *Box
	device uint16 // what Device says of itself, which it forgets when it is logged out
	lid    types.JID
	noise  [32]byte
	signal signal
	phone  phone

	mu        sync.Mutex
	conn      *conn
	logins    int
	offline   bool
	loggedOut bool
	outbox    outbox
	groups    map[types.JID]group
	changed   chan struct{} // closed, and replaced, when something happens that a Wait method can wait for
}

// NewAccount makes an account with its own phone number and LID, and a device as pairing leaves it, in memory.
func (b *Box) NewAccount() *Account { return b.Pair(NewDevice()) }

// Pair makes an account for a device made elsewhere, such as one of whatsmeow's sqlstore. It fills in what pairing does,
// and keys that are missing; the caller saves it, and makes its client only then, for whatsmeow looks whether it is paired
// when a client is made. A device that has addresses, from another box or because it is a second one of an account, keeps
// them. A second device is an Account of its own, with a phone that answers for itself.
func (b *Box) Pair(dev *store.Device) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	id, lid := b.newAddresses()
	if dev.ID != nil {
		id = *dev.ID
	}
	if !dev.LID.IsEmpty() {
		lid = dev.LID
	}
	pair(dev, id, lid)
	a := &Account{
		PN: id.ToNonAD(), LID: lid.ToNonAD(), Device: dev,
		box: b, device: id.Device, lid: lid, noise: *dev.NoiseKey.Pub, changed: make(chan struct{}),
	}
	a.signal.init(dev, id, lid)
	a.phone.init(a)
	b.accounts = append(b.accounts, a)
	return a
}

// newAddresses returns the phone number and LID of a device of a new account. b.mu is held.
func (b *Box) newAddresses() (id, lid types.JID) {
	for n := len(b.accounts) + 1; ; n++ {
		id = types.JID{User: fmt.Sprintf("1555%07d", n), Device: deviceID, Server: types.DefaultUserServer}
		lid = types.JID{User: fmt.Sprintf("1000%011d", n), Device: deviceID, Server: types.HiddenUserServer}
		if !slices.ContainsFunc(b.accounts, func(a *Account) bool { return a.PN.User == id.User }) {
			return id, lid
		}
	}
}

func pair(dev *store.Device, id, lid types.JID) {
	if dev.NoiseKey == nil {
		dev.NoiseKey = keys.NewKeyPair()
	}
	if dev.IdentityKey == nil {
		dev.IdentityKey = keys.NewKeyPair()
	}
	if dev.SignedPreKey == nil {
		dev.SignedPreKey = dev.IdentityKey.CreateSignedPreKey(1)
	}
	if len(dev.AdvSecretKey) == 0 {
		dev.AdvSecretKey = randomBytes(32)
	}
	dev.ID, dev.LID = &id, lid
	dev.Platform = "android"
	dev.PushName = "WhatsApp in a box"
	dev.Account = &waAdv.ADVSignedDeviceIdentity{
		Details:             randomBytes(16),
		AccountSignatureKey: randomBytes(32),
		AccountSignature:    randomBytes(64),
		DeviceSignature:     randomBytes(64),
	}
	if dev.LIDs != nil { // an sqlstore gives a device its stores when it is saved first
		_ = dev.LIDs.PutLIDMapping(context.Background(), lid, id)
	}
}

// NewClient returns a client for the account that connects to the box. A nil log is silent.
func (a *Account) NewClient(log waLog.Logger) *whatsmeow.Client {
	cli := whatsmeow.NewClient(a.Device, log)
	a.Configure(cli)
	return cli
}

// Configure gives a client made elsewhere the HTTP clients that lead it to the box. The client must not be connected.
func (a *Account) Configure(cli *whatsmeow.Client) {
	transport := a.box.Transport()
	cli.SetMediaHTTPClient(&http.Client{Transport: transport})
	chat := &http.Client{Transport: accountTransport{transport, a.name()}}
	cli.SetWebsocketHTTPClient(chat)
	cli.SetPreLoginHTTPClient(chat)
}

// accountHeader tells the box whose websocket this is, before the handshake does. A box needs that only to refuse an
// account that is offline with an HTTP status.
const accountHeader = "X-Wabox-Account"

type accountTransport struct {
	base http.RoundTripper
	name string
}

func (t accountTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(accountHeader, t.name)
	return t.base.RoundTrip(r)
}

// name tells an account's device from all others.
func (a *Account) name() string { return deviceName(a.PN.User, uint32(a.device)) }

func deviceName(user string, device uint32) string { return fmt.Sprintf("%s:%d", user, device) }

// findAccount returns the account whose device has a name, or nil.
func (b *Box) findAccount(name string) *Account {
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.IndexFunc(b.accounts, func(a *Account) bool { return a.name() == name }); i >= 0 {
		return b.accounts[i]
	}
	return nil
}

// attach makes a connection that has completed its handshake the account's own, in place of one that it may have had. It
// refuses one whose device is logged out, and fails if the account is offline.
func (a *Account) attach(c *conn) (refused bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.loggedOut:
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

// detach takes a connection away from the account, so that what is sent from now on waits for the next one.
func (a *Account) detach(c *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == c {
		a.conn = nil
		a.notify()
	}
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

// Cut breaks the client's connection, abruptly, as a network that fails does. What is sent after Cut has returned waits
// for the next login.
func (a *Account) Cut() {
	a.mu.Lock()
	c := a.conn
	a.mu.Unlock()
	if c != nil {
		a.detach(c)
		c.abort()
	}
}

// Offline cuts the client off while it is true: the connection breaks, and new ones are refused with HTTP status 503. Those
// of a client that connects otherwise than by [Account.Configure] break when it has said who it is.
func (a *Account) Offline(off bool) {
	a.mu.Lock()
	a.offline = off
	a.mu.Unlock()
	if off {
		a.Cut()
	}
}

// Logout does what the user does who removes the linked device on the phone. The client is told so, and disconnected a
// little later if it has not hung up by then; later logins are refused with <failure reason="401"/>. Logout does not wait
// for the client.
func (a *Account) Logout() {
	a.mu.Lock()
	c := a.conn
	a.loggedOut = true
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

// WaitOnline waits until the client is logged in and has made its connection active, so that what is sent to it arrives
// at once.
func (a *Account) WaitOnline(ctx context.Context) error {
	return a.wait(ctx, func() bool { return a.conn != nil && a.conn.active })
}
