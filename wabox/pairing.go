package wabox

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waAdv"
	"google.golang.org/protobuf/proto"
)

var (
	errLinked    = errors.New("wabox: the account has a linked device; unlink it with Account.Logout")
	errNoClient  = errors.New("wabox: no client waits with this code; it may have expired, or be another box's")
	errBadCode   = errors.New("wabox: not a code that a client shows")
	errWrongCode = errors.New("wabox: the linking code is not the one that the client shows")
	errGone      = errors.New("wabox: the client has gone away")
)

// Scan does what the user does who scans a client's QR code with the phone: the client is linked to
// the account, which must have no linked device. code is what the client has in an item of
// whatsmeow's QR channel, or in an events.QR. Scan returns when the client has accepted. The client
// then connects again and logs in, see [Account.WaitOnline].
//
// Do not call it inside an event handler, in which it would wait for itself.
func (a *Account) Scan(ctx context.Context, code string) error {
	_, code, _ = strings.Cut(code, "#") // newer codes are links
	parts := strings.Split(code, ",")
	if len(parts) < 4 {
		return errBadCode
	}
	identity, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil {
		return errBadCode
	}
	secret, err := base64.StdEncoding.DecodeString(parts[3])
	if err != nil {
		return errBadCode
	}
	c := a.box.waiting(func(r *registration) bool {
		return slices.Contains(r.refs, parts[0]) && string(r.keys.identity[:]) == string(identity)
	})
	if c == nil {
		return errNoClient
	}
	return a.accept(ctx, c, secret)
}

// EnterCode does what a user does to link a client with a code on the phone. The client must have
// called whatsmeow's PairPhone with the account's phone number, and the account must have no linked
// device. code is what PairPhone has returned. EnterCode returns when the client has accepted. The
// client then connects again and logs in, see [Account.WaitOnline].
//
// Do not call it inside an event handler, in which it would wait for itself.
func (a *Account) EnterCode(ctx context.Context, code string) error {
	c := a.box.waiting(func(r *registration) bool { return r.hello != nil && r.hello.jid == a.PN })
	if c == nil {
		return fmt.Errorf("wabox: no client waits to be linked with the number %s; call PairPhone first", a.PN.User)
	}
	if _, _, err := a.nextDevice(); err != nil {
		return err
	}
	a.box.mu.Lock()
	hello, finish := c.registration.hello, c.registration.finish
	a.box.mu.Unlock()
	exchange, err := newExchange(hello, code)
	if err != nil {
		return err
	}
	phone := a.signal.phone()
	if err := c.write(exchange.primaryHello(phone)); err != nil {
		return err
	}
	var wrapped []byte
	select {
	case wrapped = <-finish:
	case <-c.registration.ended:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
	secret, err := exchange.secret(wrapped, phone, c.registration.keys.identity)
	if err != nil {
		return err
	}
	return a.accept(ctx, c, secret)
}

// waiting returns the connection of a client that waits to be linked, the newest that fits, or nil.
func (b *Box) waiting(fits func(*registration) bool) *conn {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range slices.Backward(b.unlinked) {
		if fits(c.registration) {
			return c
		}
	}
	return nil
}

// The roundTrip is what a real server takes at least from an answer to what follows from it.
const roundTrip = 50 * time.Millisecond

// accept links a client to the account: it tells the client so, in a way that only a phone can that
// knows the secret, and waits for it to accept.
func (a *Account) accept(ctx context.Context, c *conn, secret []byte) error {
	id, lid, err := a.nextDevice()
	if err != nil {
		return err
	}
	r := c.registration
	identity, err := a.certify(r.keys.identity, secret)
	if err != nil {
		return err
	}
	accepted := make(chan error, 1)
	pairID := newMessageID()
	a.box.mu.Lock()
	r.pairID, r.accepted = pairID, accepted
	a.box.mu.Unlock()
	err = c.write(serverIQ("set", pairID, waBinary.Node{Tag: "pair-success", Content: []waBinary.Node{
		{Tag: "device-identity", Content: identity},
		{Tag: "device", Attrs: a.tellsLID(waBinary.Attrs{"jid": id}, lid)},
		{Tag: "platform", Attrs: waBinary.Attrs{"name": "android"}},
	}}))
	if err != nil {
		return err
	}
	select {
	case err = <-accepted:
	case <-r.ended:
		return errGone
	case <-ctx.Done():
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	a.linkDevice(r.noise, r.keys, id, lid)
	// The client now has to connect again, as the device that it has become. whatsmeow reports the
	// linking once its acceptance is sent: told at once, it could be connected before it reports
	// that.
	time.Sleep(roundTrip)
	return c.write(waBinary.Node{Tag: "stream:error", Attrs: waBinary.Attrs{"code": "515"}})
}

// certify returns the phone's signature under a client's key, authenticated with the secret that
// the client has shown.
func (a *Account) certify(client [32]byte, secret []byte) ([]byte, error) {
	details, err := proto.Marshal(&waAdv.ADVDeviceIdentity{
		RawID: proto.Uint32(uint32(a.index)), Timestamp: proto.Uint64(uint64(time.Now().Unix())), KeyIndex: proto.Uint32(1),
	})
	if err != nil {
		return nil, err
	}
	phone := a.signal.phone()
	signed := slices.Concat(whatsmeow.AdvAccountSignaturePrefix, details, client[:])
	signature := ecc.CalculateSignature(ecc.NewDjbECPrivateKey(*phone.Priv), signed)
	identity, err := proto.Marshal(&waAdv.ADVSignedDeviceIdentity{
		Details: details, AccountSignatureKey: phone.Pub[:], AccountSignature: signature[:],
	})
	if err != nil {
		return nil, err
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(identity)
	return proto.Marshal(&waAdv.ADVSignedDeviceIdentityHMAC{Details: identity, HMAC: mac.Sum(nil)})
}
