package main

import (
	"io"
	"net/http"
	"sync"
)

// A gate stands between one client and WhatsApp. It lets nothing through, in either direction, once
// it is shut or the leases cannot be relied on: no connection that whatsmeow makes by itself, and
// nothing on one that there is.
type gate struct {
	base    http.RoundTripper
	holds   func() bool
	opening func() // is told of each connection, before it is made

	mu      sync.Mutex
	closed  bool
	streams map[*gatedStream]struct{}
}

func newGate(base http.RoundTripper, holds func() bool) *gate {
	return &gate{base: base, holds: holds, opening: func() {}, streams: make(map[*gatedStream]struct{})}
}

func (g *gate) isOpen() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.closed && g.holds()
}

// shut breaks the connections, and lets none be made. It does not wait for whatsmeow.
func (g *gate) shut() {
	g.mu.Lock()
	g.closed = true
	streams := g.streams
	g.streams = nil
	g.mu.Unlock()
	for s := range streams {
		_ = s.ReadWriteCloser.Close()
	}
}

// RoundTrip opens the websocket. What whatsmeow says on it goes through the gate, too.
func (g *gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if !g.isOpen() {
		return nil, errNoLease
	}
	g.opening()
	resp, err := g.base.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		return resp, err
	}
	body, ok := resp.Body.(io.ReadWriteCloser)
	if !ok {
		return resp, nil
	}
	s := &gatedStream{body, g}
	g.mu.Lock()
	closed := g.closed
	if !closed {
		g.streams[s] = struct{}{}
	}
	g.mu.Unlock()
	if closed {
		_ = body.Close()
		return nil, errNoLease
	}
	resp.Body = s
	return resp, nil
}

// A gatedStream is the client's side of a websocket.
type gatedStream struct {
	io.ReadWriteCloser
	gate *gate
}

func (s *gatedStream) Read(p []byte) (int, error) {
	n, err := s.ReadWriteCloser.Read(p)
	if err == nil && !s.gate.isOpen() { // it may have waited for long
		return 0, s.refuse()
	}
	return n, err
}

func (s *gatedStream) Write(p []byte) (int, error) {
	if !s.gate.isOpen() {
		return 0, s.refuse()
	}
	return s.ReadWriteCloser.Write(p)
}

func (s *gatedStream) refuse() error {
	_ = s.Close()
	return errNoLease
}

func (s *gatedStream) Close() error {
	s.gate.mu.Lock()
	delete(s.gate.streams, s)
	s.gate.mu.Unlock()
	return s.ReadWriteCloser.Close()
}
