// Package wabox is WhatsApp in a box: one WhatsApp inside this process, for the tests of bots. It
// has a chat server, phones, contacts and a CDN, and is good enough for an unmodified whatsmeow
// client to be linked to and log in to over a real websocket and noise handshake, to exchange
// messages that are truly encrypted with Signal, to synchronise history, to download and upload
// media, and to ask the phone to upload a file again.
//
//	func TestBot(t *testing.T) {
//		box := wabox.Start(t)
//		account := box.NewAccount()
//		account.Login(t, func(client *whatsmeow.Client) {
//			client.AddEventHandler(newBot(client).handle)
//		})
//		chat := account.Chat(t, wabox.Incoming{})
//		chat.Say("!ping")
//		if got := chat.Next().Text(); got != "pong" {
//			t.Errorf("got %q", got)
//		}
//		photo := box.Upload(jpeg, whatsmeow.MediaImage)
//		box.Expire(photo)          // its download gets 410
//		chat.Send(&waE2E.Message{ImageMessage: photo.Image()})
//		…                          // and the phone answers requests for the file
//	}
//
// Functions that take a [TB] are for tests, and end them when something fails. The others return
// errors, and are for programs too.
//
// # Network
//
// Clients reach a box through a network in memory: there are no sockets, and all works inside a
// testing/synctest bubble, where a day passes in no time. [Box.Network] and [Account.Disturb] let
// that network fail. With [Sockets], the box listens on 127.0.0.1 for other processes, which
// [Box.Invitation] and [Join] let in: a test can kill a bot that is a process of its own.
//
// # Time
//
// Inside a bubble, make and end there everything that you use. Nothing may read a socket, or wait
// while it holds a sync.Mutex that another goroutine wants: the clock stands still meanwhile. Dials
// therefore take no time, see [Plan]. Before you call client.Disconnect, call synctest.Wait, so
// that nodes on their way arrive. The keep-alives of a day take a third of a second of real time;
// for more than some weeks, set whatsmeow.KeepAliveIntervalMin and KeepAliveIntervalMax to hours.
//
// # Trust
//
// whatsmeow checks the chat server against whatsmeow.WACertPubKey, one variable for the whole
// process. The first box, or the first call of [CertPool] or [Join], sets it: a process that uses
// this package can no longer talk to the real WhatsApp. No client may be connecting at that moment.
//
// # Linking
//
// [Box.NewAccount] and [Box.Pair] make accounts whose device is linked already, which is what most
// tests want. A client that is to be linked as users do it gets an account from [Box.NewPhone], and
// [Account.Scan] or [Account.EnterCode].
//
// # Delivery
//
// Nodes for an account wait until a client has logged in and made its connection active, and
// arrive in order. Then comes <ib><offline count/></ib>, then new nodes. As with the real
// WhatsApp, a message, notification or receipt is kept until the client has acknowledged it, and
// comes again after the next login if the connection broke before that: nothing is lost, but
// something that was handled an instant before a break can be seen twice. A message that the
// client cannot decrypt is encrypted again when it asks for that. Answers to what the client
// itself sends, which are acks and iq results, belong to the connection that they came in on,
// and go down with it.
//
// # Re-uploads
//
// The phone has the files of all messages that the client gets or sends, and answers a request to
// upload one again, if the request names the message rightly: see [Account.Strict]. [Account.Phone]
// and [Account.Script] make it answer otherwise, and [Account.Replay] as a real account has shown.
//
// # What it is not
//
// This package does what public code and documents say of WhatsApp, and was not compared with
// WhatsApp's servers. It has no calls, presence, profiles, app state, or changes of groups by
// clients: what a client asks beyond the above is answered with an empty result. A contact has one
// device, and confirms nothing. The accounts of a box do not hear each other. And whatsmeow itself
// gives up the order of nodes when more than 2048 of them wait for its handlers.
package wabox

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// A Box is one WhatsApp. Its methods can be called from any goroutine.
type Box struct {
	authority *authority
	network   network
	addr      string // of the server, in the network
	server    *http.Server
	cdn       cdn
	people    people
	observer  atomic.Pointer[func(Event)]
	tickets   tls.ClientSessionCache

	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	accounts []*Account
	proxies  []*Proxy
	unlinked []*conn // of clients that wait to be linked
}

// An Option changes what [New] and [Start] make.
type Option func(*Box)

// Sockets makes a box that listens on 127.0.0.1, for clients in other processes and for browsers.
// Its network has no faults of its own.
func Sockets() Option { return func(b *Box) { b.network = new(sockets) } }

// New starts a box, in memory unless an option says otherwise. What is used inside a
// testing/synctest bubble must be made there.
func New(opts ...Option) (*Box, error) {
	authority, err := theAuthority()
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to set up trust: %w", err)
	}
	if authority.noise == nil {
		return nil, errJoined
	}
	b := &Box{authority: authority, network: &memory{made: time.Now()}, tickets: tls.NewLRUClientSessionCache(0)}
	for _, opt := range opts {
		opt(b)
	}
	listener, err := b.network.listen("server")
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to listen: %w", err)
	}
	b.addr = listener.Addr().String()
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.cdn.init(b)
	b.server = &http.Server{
		Handler: http.HandlerFunc(b.serveHTTP),
		// The websocket needs HTTP/1.1.
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{authority.tls}, NextProtos: []string{"http/1.1"}, CurvePreferences: []tls.CurveID{curve},
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, netConnKey{}, c)
		},
		// A client that goes away in the middle of a TLS handshake is nothing to report.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	b.wg.Go(func() { _ = b.server.ServeTLS(listener, "", "") })
	return b, nil
}

var errClosed = errors.New("wabox: the box is closed")

// netConnKey is the key of a request's connection in its context.
type netConnKey struct{}

// Close stops every listener, connection and goroutine of the box, and waits for them. Proxies are
// closed too. It can be called more than once, but not from a callback that the box makes.
func (b *Box) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		// The server comes first: a handler that is told to stop while its connection lives would
		// end its response well.
		_ = b.server.Close()
		b.cancel()
		for _, p := range b.proxies {
			_ = p.listener.Close()
		}
		b.network.close()
	}
	b.mu.Unlock()
	b.wg.Wait()
}

// enter notes that a request is being served. The caller calls wg.Done if it returns true.
func (b *Box) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.wg.Add(1)
	}
	return !b.closed
}

// spawn runs a function on a goroutine that Close waits for. In a closed box it does nothing,
// and returns false.
func (b *Box) spawn(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.wg.Go(f)
	}
	return !b.closed
}

// sleep pauses for d. It returns false at once when the box closes.
func (b *Box) sleep(d time.Duration) bool {
	if d <= 0 {
		return b.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.ctx.Done():
		return false
	}
}

func (b *Box) serveHTTP(w http.ResponseWriter, r *http.Request) {
	if !b.enter() {
		http.Error(w, "closed", http.StatusServiceUnavailable)
		return
	}
	defer b.wg.Done()
	if r.URL.Path == "/ws/chat" {
		b.serveChat(w, r)
	} else {
		b.cdn.serve(b.ctx, w, r)
	}
}

// Transport returns a new transport that reaches the box whatever the host in the URL, and trusts
// [CertPool]. A [Proxy] in its Proxy field is dialed as it is, and so are loopback addresses.
func (b *Box) Transport() *http.Transport { return newTransport(b.network, b.addr, b.tickets) }

// curve is the cheapest curve for key exchange, since each connection of a test has a handshake.
const curve = tls.X25519

// newTransport makes a transport that reaches a box by its address. With tickets, TLS sessions of
// earlier transports are resumed, which costs half of a handshake.
func newTransport(to network, box string, tickets tls.ClientSessionCache) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if isProxy(addr) {
				return DialContext(ctx, network, addr)
			}
			return to.dial(ctx, box, addr)
		},
		TLSClientConfig:     &tls.Config{RootCAs: CertPool(), CurvePreferences: []tls.CurveID{curve}, ClientSessionCache: tickets},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}
}

// isProxy reports whether an address is that of something on this machine, and not the name
// of a host of WhatsApp's.
func isProxy(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.HasSuffix(addr, domain)
}

// What happened, in an [Event].
const (
	NodeIn  = "node in"  // a client sent Node
	NodeOut = "node out" // a client is being sent Node
	CDN     = "cdn"      // the CDN was asked Asked
)

// An Event is something that happened in the box. Do not change Node and Asked.
type Event struct {
	At      time.Time
	What    string
	Account types.JID // the phone number, for nodes
	Client  net.Addr  // the client's end of the connection, for nodes
	Node    *waBinary.Node
	Asked   *Asked
}

// OnEvent calls f for each event, on the goroutine on which it happens, so that calls can be
// concurrent. nil turns that off.
func (b *Box) OnEvent(f func(Event)) {
	if f == nil {
		b.observer.Store(nil)
	} else {
		b.observer.Store(&f)
	}
}

// emit passes an event on. Without a listener it costs one atomic load.
func (b *Box) emit(what string, account types.JID, client net.Addr, node *waBinary.Node, asked *Asked) {
	if f := b.observer.Load(); f != nil {
		(*f)(Event{At: time.Now(), What: what, Account: account, Client: client, Node: node, Asked: asked})
	}
}
