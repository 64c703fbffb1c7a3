package wabox

import (
	"errors"
	"time"
)

// A Dial is a client that connects to the box, as [Box.Network] is told of it.
type Dial struct {
	Host   string // that the client wants to reach, with its port: "web.whatsapp.com:443" for the chat
	Number int    // counts the dials of the box, from 1
}

// IsChat reports whether it is the chat server that is dialed, and not the CDN.
func (d Dial) IsChat() bool { return d.Host == chatHost+":443" }

// A Plan is what the network does to one connection. The zero Plan is a good one.
//
// whatsmeow holds a lock while it dials and shakes hands, and inside a testing/synctest bubble no
// time passes while anything waits for a lock. So a dial is refused at once or succeeds at once,
// and on a chat connection the plan begins when the handshake is over. For the same reason the
// server's answers to what the client asks should not be late while several goroutines ask it at
// once: latency and stalls of a chat connection are for clients that have asked for the CDN's hosts
// and for their groups already (see [Box.MediaTTL]).
type Plan struct {
	Refuse  bool          // the connection is refused
	Latency time.Duration // how long everything is on its way, in each direction

	// Fault happens once: when the client has got AfterBytes bytes, or when After has passed,
	// whichever is first. If both are zero, it happens at once.
	Fault      Fault
	After      time.Duration
	AfterBytes int64
	For        time.Duration // how long a Stall takes; 0 is for ever
}

// A Fault is what happens to a connection.
type Fault int

const (
	NoFault Fault = iota
	Cut           // the connection is reset, and both sides see it
	Stall         // nothing arrives any more, and later everything does
	// ClientUnaware is a connection that is half open: it has ended for the server, and the client
	// does not learn of it. What it writes is lost.
	ClientUnaware
	// ServerUnaware is the reverse.
	ServerUnaware
)

// Network sets what the network does to connections that are dialed from now on: it is called for
// each dial, from any goroutine, and before the dial returns. nil makes the network a good one. It
// panics on a box with [Sockets], whose network is the machine's.
func (b *Box) Network(plan func(Dial) Plan) {
	m, ok := b.network.(*memory)
	switch {
	case !ok:
		panic("wabox: the network of a box with Sockets cannot be planned; make the box without that option")
	case plan == nil:
		m.plan.Store(nil)
	default:
		m.plan.Store(&plan)
	}
}

var (
	errNoConnection = errors.New("wabox: the client has no connection")
	errSockets      = errors.New("wabox: the network of a box with Sockets has no faults; make the box without that option")
)

// Disturb lets a fault happen to the client's present chat connection. For a Stall, lasts is how
// long it takes; 0 is for ever. It fails if there is no connection, and for a box with [Sockets].
func (a *Account) Disturb(f Fault, lasts time.Duration) error {
	a.mu.Lock()
	c := a.conn
	a.mu.Unlock()
	if c == nil {
		return errNoConnection
	}
	raw, ok := c.raw.(*memoryConn)
	if !ok {
		return errSockets
	}
	raw.cable.disturb(f, lasts)
	return nil
}
