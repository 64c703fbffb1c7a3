package wabox

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"go.mau.fi/whatsmeow"
)

var (
	errJoined     = errors.New("wabox: this process has joined a box of another one, and can have none of its own")
	errOtherTrust = errors.New("wabox: this process trusts another box, its own or one that it has joined; join from a process of its own")
)

// Invitation returns what another process needs to reach the box and to trust it, for [Join]: a
// line of text without spaces, for an environment variable or a flag. It is good for as long as the
// box lives. It panics on a box without [Sockets], which no other process can reach.
func (b *Box) Invitation() string {
	if _, ok := b.network.(*sockets); !ok {
		panic("wabox: no other process can reach a box in memory; make the box with Sockets")
	}
	encode := base64.RawURLEncoding.EncodeToString
	query := url.Values{"root": {encode(b.authority.root[:])}, "ca": {encode(b.authority.ca.Raw)}}
	return (&url.URL{Scheme: scheme, Host: b.addr, RawQuery: query.Encode()}).String()
}

// scheme begins an invitation: "wabox://127.0.0.1:40123?ca=…&root=…".
const scheme = "wabox"

// A Remote is a box in another process.
type Remote struct{ addr string }

// Join makes this process trust a box of another one, and returns the way to it. It is for bots
// that a test runs as processes, so that it can kill them:
//
//	remote, err := wabox.Join(os.Getenv("BOX")) // box.Invitation(), in the test
//	…
//	client := whatsmeow.NewClient(device, log)
//	remote.Configure(client)
//
// As for the first box of a process, no client may be connecting at that moment. A process can join
// several boxes of one other process, but none of a second one, nor have boxes of its own.
func Join(invitation string) (*Remote, error) {
	addr, theirs, err := parseInvitation(invitation)
	if err != nil {
		return nil, fmt.Errorf("wabox: not an invitation of a box: %w", err)
	}
	trusted.mu.Lock()
	defer trusted.mu.Unlock()
	if trusted.authority == nil {
		trust(theirs)
	}
	if trusted.authority.root != theirs.root {
		return nil, errOtherTrust
	}
	return &Remote{addr}, nil
}

func parseInvitation(invitation string) (addr string, a *authority, err error) {
	u, err := url.Parse(strings.TrimSpace(invitation))
	if err != nil {
		return "", nil, err
	}
	if u.Scheme != scheme || u.Host == "" {
		return "", nil, errors.New("it does not begin with " + scheme + "://")
	}
	root, err := base64.RawURLEncoding.DecodeString(u.Query().Get("root"))
	if err != nil {
		return "", nil, err
	}
	a = new(authority)
	if len(root) != len(a.root) {
		return "", nil, fmt.Errorf("its root key has %d bytes", len(root))
	}
	copy(a.root[:], root)
	ca, err := base64.RawURLEncoding.DecodeString(u.Query().Get("ca"))
	if err == nil {
		a.ca, err = x509.ParseCertificate(ca)
	}
	return u.Host, a, err
}

// Transport returns a new transport that reaches the box whatever the host in the URL, as
// [Box.Transport] does.
func (r *Remote) Transport() *http.Transport { return newTransport(new(sockets), r.addr, nil) }

// Configure gives a client the HTTP clients that lead it to the box. The client must not be
// connected.
func (r *Remote) Configure(cli *whatsmeow.Client) {
	transport := r.Transport()
	lead(cli, transport, transport)
}
