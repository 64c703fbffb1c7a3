package wabox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A network is how clients reach a box: in memory, or through sockets on loopback.
type network interface {
	// listen opens a listener whose address dial takes. The name says what it is for.
	listen(name string) (net.Listener, error)
	// dial connects to a listener. The host is the one that the client wants to reach.
	dial(ctx context.Context, addr, host string) (net.Conn, error)
	// close breaks all connections.
	close()
}

// sockets are TCP connections on 127.0.0.1.
type sockets struct{ dialer net.Dialer }

func (*sockets) listen(string) (net.Listener, error) {
	if time.Now().Year() < 2020 { // which only a bubble's clock says
		return nil, errSocketInBubble
	}
	return net.Listen("tcp", "127.0.0.1:0")
}

var errSocketInBubble = errors.New("the clock of a testing/synctest bubble stands while a socket is read; make the box without Sockets")

func (s *sockets) dial(ctx context.Context, addr, _ string) (net.Conn, error) {
	return s.dialer.DialContext(ctx, "tcp", addr)
}

func (*sockets) close() {} // each end is closed by its owner

// memory is a network inside the process. Its connections have buffers, deadlines and faults. All
// that it waits for are channels and timers of the goroutine that uses it, so that it works inside
// a testing/synctest bubble.
type memory struct {
	made time.Time
	plan atomic.Pointer[func(Dial) Plan]

	mu     sync.Mutex
	dials  int
	cables map[*cable]struct{}
}

// chatHost is the host of the chat server.
const chatHost = "web.whatsapp.com"

// domain ends the names of listeners in memory, which are unique in the process: "chat-1.wabox:1".
const domain = ".wabox:1"

var (
	listeners sync.Map // of *memoryListener, by address
	listening atomic.Int64
)

// DialContext connects to an address as a net.Dialer does, and besides to a [Proxy] that is in
// memory. It is for transports that go through one, such as http.DefaultTransport, of which
// whatsmeow's SetProxy takes a copy.
func DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if l, ok := listeners.Load(addr); ok {
		return l.(*memoryListener).connect(ctx, Plan{}, false)
	}
	return new(net.Dialer).DialContext(ctx, network, addr)
}

func (m *memory) listen(name string) (net.Listener, error) {
	l := &memoryListener{
		memory: m,
		addr:   memoryAddr(fmt.Sprint(name, "-", listening.Add(1), domain)),
		conns:  make(chan net.Conn),
		closed: make(chan struct{}),
	}
	listeners.Store(l.addr.String(), l)
	return l, nil
}

// errOtherClock is what a client gets whose clock is decades behind that of its box.
var errOtherClock = errors.New("wabox: the box was made outside the testing/synctest bubble that its client is in; make it inside")

func (m *memory) dial(ctx context.Context, addr, host string) (net.Conn, error) {
	if time.Now().Before(m.made.AddDate(-10, 0, 0)) {
		return nil, errOtherClock // where the runtime would end the process, and say less
	}
	l, ok := listeners.Load(addr)
	if !ok {
		return nil, refused(memoryAddr(addr))
	}
	var plan Plan
	if f := m.plan.Load(); f != nil {
		m.mu.Lock()
		m.dials++
		n := m.dials
		m.mu.Unlock()
		plan = (*f)(Dial{Host: host, Number: n})
	}
	if plan.Refuse {
		return nil, refused(memoryAddr(host))
	}
	return l.(*memoryListener).connect(ctx, plan, strings.HasPrefix(host, chatHost+":"))
}

func (m *memory) close() {
	m.mu.Lock()
	cables := m.cables
	m.cables = nil
	m.mu.Unlock()
	for l := range cables {
		l.change(l.destroy)
	}
}

func refused(addr net.Addr) error {
	return &net.OpError{Op: "dial", Net: addr.Network(), Addr: addr, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

type memoryAddr string

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return string(a) }

type memoryListener struct {
	memory *memory
	addr   memoryAddr
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memoryListener) Close() error {
	l.once.Do(func() {
		listeners.Delete(l.addr.String())
		close(l.closed)
	})
	return nil
}

// connect makes a connection. A chat connection is a good one until its handshake is over.
func (l *memoryListener) connect(ctx context.Context, plan Plan, isChat bool) (net.Conn, error) {
	client, server := newCable(l.memory, plan, l.addr)
	if !isChat {
		client.cable.begin()
	}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		client.cable.change(client.cable.destroy)
		return nil, refused(l.addr)
	case <-ctx.Done():
		client.cable.change(client.cable.destroy)
		return nil, ctx.Err()
	}
}
