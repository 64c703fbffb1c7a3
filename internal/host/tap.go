package host

import (
	"errors"
	"sync"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// Why a client gets no tap.
var (
	// ErrTapped means that it has one that is not mute.
	ErrTapped = errors.New("the client has a tap already")
	// ErrConnected means that the receive logger may have a reader, so that it cannot be exchanged
	// any more.
	ErrConnected = errors.New("the client was connected before")

	errNoReceiveLogger = errors.New("this version of whatsmeow has no receive logger that can be used")
)

// A Tap stands in for the receive logger. whatsmeow hands it every node, on the goroutine that
// reads the socket, before the node is queued behind the event handler that is running. It passes
// everything on.
//
// Where whatsmeow, or a fork of it, has a hook for received nodes, the tap hangs there too, and a
// node that has come by the hook is not taken from the logger again: see hookOf. Where it lets
// itself be observed, that takes the place of both.
//
// A tap that is no observer stays for good: the field has no lock, and the reader of a connection
// that has ended can still be at work. When it is mute, the next [InstallTap] takes it over.
//
// The methods Mute and IsLive of a nil Tap do what they say of a tap that sees nothing.
type Tap struct {
	waLog.Logger
	receive atomic.Pointer[func(*waBinary.Node)]
	live    atomic.Bool                   // a node has come through
	hooked  atomic.Pointer[waBinary.Node] // the one that the hook has brought, until it is logged
	stop    func()                        // takes an observer away; nil for a tap that stays
}

// An observable is a whatsmeow client that shows its nodes of itself: see docs/upstream.md. An
// observer can come and go at any time, so that neither a logger nor a hook is touched then.
type observable interface {
	AddNodeObserver(observer func(node *waBinary.Node)) (remove func())
}

var observers sync.Map // the taps of observable clients that are not mute, by client

// observe installs a tap that is an observer. It misses no node from now on.
func observe(client *whatsmeow.Client, nodes observable, receive func(*waBinary.Node)) (*Tap, error) {
	t := new(Tap)
	t.receive.Store(&receive)
	if _, another := observers.LoadOrStore(client, t); another {
		return nil, ErrTapped
	}
	remove := nodes.AddNodeObserver(t.see)
	t.stop = func() {
		remove()
		observers.CompareAndDelete(client, t)
	}
	t.live.Store(true)
	return t, nil
}

// InstallTap makes receive see every node. receive must not block, or the socket stands still.
//
// The Tap is nil if there is none. The error then says why: it is ErrTapped or ErrConnected, or
// whatsmeow has no receive logger that can be used.
func InstallTap(client *whatsmeow.Client, receive func(*waBinary.Node)) (*Tap, error) {
	if nodes, ok := any(client).(observable); ok {
		return observe(client, nodes, receive)
	}
	logger, hook := fieldOf[waLog.Logger](client, "recvLog"), hookOf(client)
	if logger == nil && !hook.IsValid() {
		return nil, errNoReceiveLogger
	}
	if logger != nil {
		if t, ok := (*logger).(*Tap); ok {
			if !t.receive.CompareAndSwap(nil, &receive) {
				return nil, ErrTapped
			}
			return t, nil
		}
	}
	// An interface is two words and its reader takes no lock, so it is set only while
	// nothing reads it.
	if client.IsConnected() || !client.LastSuccessfulConnect.IsZero() {
		return nil, ErrConnected
	}
	t := new(Tap)
	t.receive.Store(&receive)
	if hook.IsValid() {
		chain(hook, func(node *waBinary.Node) {
			t.hooked.Store(node)
			t.see(node)
		})
	}
	if logger != nil {
		t.Logger = *logger
		*logger = t
	}
	return t, nil
}

// Debugf implements [waLog.Logger].
func (t *Tap) Debugf(format string, args ...any) {
	if len(args) == 1 {
		if node, ok := args[0].(*waBinary.Node); ok && node != nil && !t.hooked.CompareAndSwap(node, nil) {
			t.see(node)
		}
	}
	t.Logger.Debugf(format, args...)
}

// see hands a node on.
func (t *Tap) see(node *waBinary.Node) {
	t.live.Store(true)
	if receive := t.receive.Load(); receive != nil {
		(*receive)(node)
	}
}

// Mute makes the tap pass everything on and see nothing.
func (t *Tap) Mute() {
	if t == nil {
		return
	}
	t.receive.Store(nil)
	if t.stop != nil {
		t.stop()
	}
}

// IsLive reports whether a node has come through, so that all further ones do.
func (t *Tap) IsLive() bool { return t != nil && t.live.Load() }
