package wabox

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// A cable is a connection in memory with its two ends, and what the network does to it.
type cable struct {
	memory *memory
	ends   [2]*memoryConn

	mu    sync.Mutex
	plan  Plan
	begun bool        // the plan has begun
	timer *time.Timer // of the plan's fault
	got   int64       // bytes on their way to the client since the plan has begun
}

// The two ends of a cable.
const (
	clientEnd = 0
	serverEnd = 1
)

func newCable(m *memory, plan Plan, addr net.Addr) (client, server *memoryConn) {
	l := &cable{memory: m, plan: plan}
	for i := range l.ends {
		l.ends[i] = &memoryConn{cable: l, index: i, local: memoryAddr("client" + domain), remote: addr, changed: make(chan struct{})}
	}
	server = l.ends[serverEnd]
	server.local, server.remote = server.remote, server.local
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cables == nil {
		m.cables = make(map[*cable]struct{})
	}
	m.cables[l] = struct{}{}
	return l.ends[clientEnd], server
}

// begin lets the plan of a cable begin. Until then, what is written arrives at once.
func (l *cable) begin() {
	l.change(func() {
		l.begun = true
		if l.plan.Fault != NoFault && (l.plan.After > 0 || l.plan.AfterBytes == 0) {
			l.timer = time.AfterFunc(l.plan.After, func() { l.change(l.fault) })
		}
	})
}

// disturb makes a fault happen now.
func (l *cable) disturb(f Fault, lasts time.Duration) {
	l.change(func() {
		l.plan.Fault, l.plan.For = f, lasts
		l.fault()
	})
}

// change changes a cable, and wakes all that wait for something on it.
func (l *cable) change(how func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how()
	for _, c := range l.ends {
		c.wake()
	}
	if l.ends[0].closed && l.ends[1].closed {
		l.stop()
	}
}

// fault executes the fault of the plan. It needs l.mu.
func (l *cable) fault() {
	client, server := l.ends[clientEnd], l.ends[serverEnd]
	switch f := l.plan.Fault; f {
	case Cut:
		client.broken, server.broken = true, true
	case ClientUnaware:
		client.deaf, client.mute, server.broken = true, true, true
	case ServerUnaware:
		server.deaf, server.mute, client.broken = true, true, true
	case Stall:
		for _, c := range l.ends {
			c.stalled, c.until = true, time.Time{}
			if l.plan.For > 0 {
				c.until = time.Now().Add(l.plan.For)
			}
		}
	}
	l.plan.Fault = NoFault
}

// destroy ends a cable for both sides, whatever its plan. It needs l.mu.
func (l *cable) destroy() {
	for _, c := range l.ends {
		c.broken, c.deaf, c.mute, c.stalled = true, false, false, false
	}
	l.stop()
}

// stop ends what a cable has under way. It needs l.mu.
func (l *cable) stop() {
	if l.timer != nil {
		l.timer.Stop()
	}
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	delete(l.memory.cables, l)
}

// A memoryConn is one end of a cable. The cable's mu guards all fields that change.
type memoryConn struct {
	cable         *cable
	index         int
	local, remote net.Addr

	changed chan struct{} // closed, and replaced, when something happens that Read can wait for
	inbox   []packet
	closed  bool // by its owner
	linger  bool // a Close resets the connection
	broken  bool // it was reset
	deaf    bool // nothing arrives, and nothing tells that
	mute    bool // what is written is lost, and nothing tells that
	stalled bool // nothing arrives until some time, or for ever
	until   time.Time

	readDeadline, writeDeadline time.Time
}

// A packet is the data of one Write.
type packet struct {
	at   time.Time // when it arrives
	data []byte    // nil for the end
}

func (c *memoryConn) peer() *memoryConn    { return c.cable.ends[1-c.index] }
func (c *memoryConn) LocalAddr() net.Addr  { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

// wake wakes a Read. It needs the cable's mu.
func (c *memoryConn) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *memoryConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: c.local.Network(), Source: c.local, Addr: c.remote, Err: err}
}

// Read implements [net.Conn].
func (c *memoryConn) Read(p []byte) (int, error) {
	for {
		n, wait, changed, err := c.tryRead(p)
		if err != nil || n > 0 || len(p) == 0 {
			return n, err
		}
		c.await(wait, changed)
	}
}

// await waits for a change, or for a time to pass if that is not negative.
func (c *memoryConn) await(wait time.Duration, changed <-chan struct{}) {
	if wait < 0 {
		<-changed
		return
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// tryRead reads what has arrived. If that is nothing, it returns when to look again: after some
// time, or for a negative one only after a change.
func (c *memoryConn) tryRead(p []byte) (n int, wait time.Duration, changed <-chan struct{}, err error) {
	c.cable.mu.Lock()
	defer c.cable.mu.Unlock()
	now := time.Now()
	wait = -1
	sooner := func(at time.Time) {
		if d := at.Sub(now); wait < 0 || d < wait {
			wait = max(d, 0)
		}
	}
	if c.stalled && !c.until.IsZero() && !now.Before(c.until) {
		c.stalled = false
	}
	switch {
	case c.closed:
		return 0, 0, nil, c.fail("read", net.ErrClosed)
	case !c.readDeadline.IsZero() && !now.Before(c.readDeadline):
		return 0, 0, nil, c.fail("read", os.ErrDeadlineExceeded)
	case !c.readDeadline.IsZero():
		sooner(c.readDeadline)
	}
	switch {
	case c.deaf:
	case c.broken && len(c.inbox) == 0 || c.broken && !c.stalled && now.Before(c.inbox[0].at):
		return 0, 0, nil, c.fail("read", os.NewSyscallError("read", syscall.ECONNRESET))
	case c.stalled:
		if !c.until.IsZero() {
			sooner(c.until)
		}
	case len(c.inbox) == 0:
	case now.Before(c.inbox[0].at):
		sooner(c.inbox[0].at)
	case c.inbox[0].data == nil:
		return 0, 0, nil, io.EOF
	default:
		n = copy(p, c.inbox[0].data)
		if c.inbox[0].data = c.inbox[0].data[n:]; len(c.inbox[0].data) == 0 {
			c.inbox[0] = packet{}
			c.inbox = c.inbox[1:]
		}
	}
	return n, wait, c.changed, nil
}

// Write implements [net.Conn]. It never blocks: buffers have no limit, as a writer that waits can
// hold a lock of whatsmeow's that others wait for.
func (c *memoryConn) Write(p []byte) (n int, err error) {
	if len(p) == 0 {
		return 0, nil
	}
	c.cable.change(func() {
		n, err = len(p), nil
		switch peer := c.peer(); {
		case c.closed:
			n, err = 0, c.fail("write", net.ErrClosed)
		case !c.writeDeadline.IsZero() && !time.Now().Before(c.writeDeadline):
			n, err = 0, c.fail("write", os.ErrDeadlineExceeded)
		case c.mute:
		case c.broken, peer.closed:
			n, err = 0, c.fail("write", os.NewSyscallError("write", syscall.EPIPE))
		default:
			c.send(append(make([]byte, 0, len(p)), p...))
		}
	})
	return n, err
}

// send puts data on its way, and cuts it at the byte at which the plan has a fault. It needs the
// cable's mu.
func (c *memoryConn) send(data []byte) {
	l, peer := c.cable, c.peer()
	arrives := time.Now()
	if l.begun {
		arrives = arrives.Add(l.plan.Latency)
	}
	faulty := false
	if c.index == serverEnd && l.begun && l.plan.Fault != NoFault && l.plan.AfterBytes > 0 {
		left := l.plan.AfterBytes - l.got
		if faulty = int64(len(data)) >= left; faulty {
			rest := data[left:]
			data = data[:left]
			defer func() {
				l.fault()
				if peer.stalled && len(rest) > 0 { // it comes when the stall is over
					peer.inbox = append(peer.inbox, packet{arrives, rest})
				}
			}()
		}
		l.got += int64(len(data))
	}
	if len(data) > 0 {
		peer.inbox = append(peer.inbox, packet{arrives, data})
	}
}

// Close implements [net.Conn].
func (c *memoryConn) Close() error {
	c.cable.change(func() {
		if c.closed {
			return
		}
		c.closed = true
		switch peer := c.peer(); {
		case c.mute, c.broken:
		case c.linger:
			peer.broken = true
		default:
			at := time.Now()
			if c.cable.begun {
				at = at.Add(c.cable.plan.Latency)
			}
			peer.inbox = append(peer.inbox, packet{at: at})
		}
	})
	return nil
}

// SetLinger makes Close reset the connection, as that of a net.TCPConn does for 0.
func (c *memoryConn) SetLinger(sec int) error {
	c.cable.change(func() { c.linger = sec == 0 })
	return nil
}

// SetDeadline implements [net.Conn].
func (c *memoryConn) SetDeadline(t time.Time) error {
	c.cable.change(func() { c.readDeadline, c.writeDeadline = t, t })
	return nil
}

// SetReadDeadline implements [net.Conn].
func (c *memoryConn) SetReadDeadline(t time.Time) error {
	c.cable.change(func() { c.readDeadline = t })
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (c *memoryConn) SetWriteDeadline(t time.Time) error {
	c.cable.change(func() { c.writeDeadline = t })
	return nil
}
