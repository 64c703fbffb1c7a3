// Package wabox is WhatsApp in a box: one WhatsApp on loopback, inside this process, with a chat server, phones and a
// CDN. It is good enough for an unmodified whatsmeow client to log in to over a real websocket and noise handshake, get
// messages that are truly encrypted with Signal, synchronise history, download and upload media, and ask the phone to
// upload a file again.
//
//	box, err := wabox.New()
//	…
//	defer box.Close()
//	account := box.NewAccount()
//	client := account.NewClient(nil)
//	err = client.Connect()
//	photo := box.Upload(jpeg, whatsmeow.MediaImage)
//	id, err := account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: photo.Image()})
//	box.Expire(photo)          // the next download gets 410
//	…                          // and the phone answers a server-error receipt for id
//
// # Trust
//
// whatsmeow checks the chat server against whatsmeow.WACertPubKey, one variable for the whole process. The first box, or
// the first call of [CertPool], sets it: a process that uses this package can no longer talk to the real WhatsApp.
// No client may be connecting at that moment.
//
// # Delivery
//
// What an account is sent waits until a client has logged in and made its connection active, and arrives in order. Then
// comes <ib><offline count/></ib>, then what is new. As with the real WhatsApp, a message, notification or receipt is
// kept until the client has acknowledged it, and comes again after the next login if the connection broke before that:
// nothing is lost, but something that was handled an instant before a break can be seen twice. Answers to what the client
// itself sends, which are acks and iq results, belong to the connection that they came in on, and go down with it.
//
// # Limits
//
// A client cannot send messages to others, change groups or pair by QR code: what it asks beyond the above is answered
// with an empty result. A message that it cannot decrypt is not encrypted for it anew. And whatsmeow itself gives up the
// order of nodes when more than 2048 of them wait for its handlers.
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
	"sync"
	"sync/atomic"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// A Box is one WhatsApp. Its methods can be called from any goroutine.
type Box struct {
	authority *authority
	addr      string
	server    *http.Server
	cdn       cdn
	observer  atomic.Pointer[func(Event)]

	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	accounts []*Account
	proxies  []*Proxy
}

// New starts a box. It listens on 127.0.0.1 only.
func New() (*Box, error) {
	trust, err := theAuthority()
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to set up trust: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to listen: %w", err)
	}
	b := &Box{authority: trust, addr: listener.Addr().String()}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.cdn.init(b)
	b.server = &http.Server{
		Handler: http.HandlerFunc(b.serveHTTP),
		// The websocket needs HTTP/1.1.
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{trust.tls}, NextProtos: []string{"http/1.1"}},
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

// Close stops every listener, connection and goroutine of the box, and waits for them. Proxies are closed too.
// It can be called more than once, but not from a callback that the box makes.
func (b *Box) Close() {
	b.mu.Lock()
	if !b.closed {
		b.closed = true
		// The server comes first: a handler that is told to stop while its connection lives would end its response well.
		_ = b.server.Close()
		b.cancel()
		for _, p := range b.proxies {
			_ = p.listener.Close()
		}
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

// spawn runs a function on a goroutine that Close waits for. In a closed box it does nothing, and returns false.
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

// Transport returns a new transport that reaches the box whatever the host in the URL, and trusts [CertPool].
// Only loopback addresses are dialed as they are, so that its Proxy field can be set to a local proxy.
func (b *Box) Transport() *http.Transport {
	var dialer net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(addr)
			if err != nil {
				return nil, err
			}
			if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
				addr = b.addr
			}
			return dialer.DialContext(ctx, network, addr)
		},
		TLSClientConfig:     &tls.Config{RootCAs: CertPool()},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     time.Minute,
	}
}

// What happened, in an [Event].
const (
	NodeIn  = "node in"  // a client sent Node
	NodeOut = "node out" // a client is being sent Node
	CDN     = "cdn"      // the CDN was asked Asked
)

// An Event is something that happened in the box. Node and Asked are not to be changed.
type Event struct {
	At      time.Time
	What    string
	Account types.JID // the phone number, for nodes
	Node    *waBinary.Node
	Asked   *Asked
}

// OnEvent calls f for everything that happens, on the goroutine on which it happens, so that calls can be concurrent. nil
// turns that off.
func (b *Box) OnEvent(f func(Event)) {
	if f == nil {
		b.observer.Store(nil)
	} else {
		b.observer.Store(&f)
	}
}

// emit passes an event on. When nobody listens, it costs one atomic load.
func (b *Box) emit(what string, account types.JID, node *waBinary.Node, asked *Asked) {
	if f := b.observer.Load(); f != nil {
		(*f)(Event{At: time.Now(), What: what, Account: account, Node: node, Asked: asked})
	}
}
