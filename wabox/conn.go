package wabox

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/socket"
)

// farewellTime is how long a client that is told to go has for hanging up by itself.
const farewellTime = 5 * time.Second

// A conn is one connection of a client.
type conn struct {
	box    *Box
	raw    net.Conn      // the connection under TLS and websocket
	stream net.Conn      // the websocket, one message for each Write
	reader *bufio.Reader // of stream
	wg     sync.WaitGroup

	account *Account // nil until the handshake is over, and if that shows a client of no account
	// registration is that of a client that wants to be linked.
	registration *registration
	active       bool // guarded by account.mu: the client wants what waits for it
	wake         chan struct{}

	receive cipherState
	busy    atomic.Int64 // when anything was last sent by either side, in microseconds

	sendMu sync.Mutex
	send   cipherState
}

// serveChat serves a client from its websocket's handshake to its end.
func (b *Box) serveChat(w http.ResponseWriter, r *http.Request) {
	if a := b.named(r.Header.Get(accountHeader)); a != nil && a.isOffline() {
		http.Error(w, "offline", http.StatusServiceUnavailable)
		return
	}
	ws, err := websocket.Accept(w, r, nil)
	if err != nil {
		return
	}
	defer ws.CloseNow()
	// The request's context ends with the hijacking of its connection.
	ctx, cancel := context.WithCancel(b.ctx)
	defer cancel()
	c := &conn{box: b, stream: websocket.NetConn(ctx, ws, websocket.MessageBinary), wake: make(chan struct{}, 1)}
	c.reader = bufio.NewReader(c.stream)
	c.raw, _ = r.Context().Value(netConnKey{}).(net.Conn)
	if wrapped, ok := c.raw.(interface{ NetConn() net.Conn }); ok {
		c.raw = wrapped.NetConn()
	}
	defer context.AfterFunc(ctx, c.abort)()

	c.run(ctx)
	_ = ws.CloseNow() // before cancel, which would reset the connection
	cancel()
	c.wg.Wait()
}

func (a *Account) isOffline() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.offline
}

// run is what happens on a connection, until it breaks.
func (c *conn) run(ctx context.Context) {
	var err error
	if c.account, err = c.handshake(); err != nil {
		return
	}
	if inMemory, ok := c.raw.(*memoryConn); ok {
		inMemory.cable.begin()
	}
	if c.registration != nil {
		c.register()
		return
	}
	refused := true
	if c.account != nil {
		if refused, err = c.account.attach(c); err != nil {
			// whatsmeow has a data race if a connection ends before its first node.
			c.farewell(streamError("503", ""))
			_ = c.raw.SetReadDeadline(time.Now().Add(time.Second))
			_, _ = c.read()
			return
		}
		defer c.account.detach(c)
	}
	if refused {
		c.farewell(waBinary.Node{Tag: "failure", Attrs: waBinary.Attrs{
			"reason": "401", "location": location,
		}})
	} else if c.write(success(c.account)) != nil {
		return
	}
	for {
		node, err := c.read()
		if err != nil {
			return
		}
		if !refused {
			c.account.handle(ctx, c, node)
		}
	}
}

// latency returns how long what is sent on the connection is on its way.
func (c *conn) latency() time.Duration {
	inMemory, ok := c.raw.(*memoryConn)
	if !ok {
		return 0
	}
	return inMemory.cable.plan.Latency
}

// abort breaks the connection, without the ceremonies of websocket and TLS.
func (c *conn) abort() {
	if tcp, ok := c.raw.(interface{ SetLinger(sec int) error }); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.raw.Close()
}

// farewell sends a last node, and gives the client time to hang up before the box does.
//
// A client handles nodes on a queue that it drops when the connection ends: closing at once would
// let it miss the node.
func (c *conn) farewell(node waBinary.Node) {
	_ = c.raw.SetReadDeadline(time.Now().Add(farewellTime))
	if c.write(node) != nil {
		c.abort()
	}
}

// read returns the next node.
func (c *conn) read() (*waBinary.Node, error) {
	frame, err := c.readFrame()
	if err != nil {
		return nil, err
	}
	data, err := c.receive.aead.Open(frame[:0], c.receive.nonce(), frame, nil)
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to decrypt frame: %w", err)
	}
	if len(data) == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	if data, err = waBinary.Unpack(data); err != nil {
		return nil, err
	}
	c.busy.Store(time.Now().UnixMicro())
	node, err := waBinary.Unmarshal(data)
	if err != nil {
		return nil, err
	}
	if c.account != nil {
		c.box.emit(NodeIn, c.account.PN, c.raw.RemoteAddr(), node, nil)
	}
	return node, nil
}

// write sends a node now.
func (c *conn) write(node waBinary.Node) error {
	data, err := marshal(node)
	if err != nil {
		return err
	}
	return c.writeMarshalled(node, data)
}

// writeMarshalled sends a node that was marshalled before.
func (c *conn) writeMarshalled(node waBinary.Node, data []byte) error {
	if c.account != nil {
		c.box.emit(NodeOut, c.account.PN, c.raw.RemoteAddr(), &node, nil)
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	c.busy.Store(time.Now().UnixMicro())
	// The counter and the wire have to agree on the order.
	return c.writeFrame(c.send.aead.Seal(nil, c.send.nonce(), data, nil))
}

// marshal encodes a node. What a test has put into one can be anything, and the encoder panics on
// what it does not know.
func marshal(node waBinary.Node) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("wabox: failed to marshal <%s>: %v", node.Tag, p)
		}
	}()
	return waBinary.Marshal(node)
}

func (c *conn) readFrame() ([]byte, error) {
	var header [4]byte
	if _, err := io.ReadFull(c.reader, header[1:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(header[:]))
	_, err := io.ReadFull(c.reader, frame)
	return frame, err
}

func (c *conn) writeFrame(data []byte) error {
	if len(data) >= socket.FrameMaxSize {
		return socket.ErrFrameTooLarge
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(data)), uint32(len(data)))
	_, err := c.stream.Write(append(frame, data...)[1:])
	return err
}
