package wabox

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// A Proxy is an HTTP CONNECT proxy that leads every host to its box, in memory or on loopback as
// the box is. It is closed with the box. One in memory is reached by [Box.Transport] and
// [DialContext].
type Proxy struct {
	box      *Box
	listener net.Listener
	hits     atomic.Int64
}

// NewProxy starts a proxy.
func (b *Box) NewProxy() (*Proxy, error) {
	listener, err := b.network.listen("proxy")
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to listen: %w", err)
	}
	p := &Proxy{box: b, listener: listener}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		_ = listener.Close()
		return nil, errClosed
	}
	b.proxies = append(b.proxies, p)
	b.wg.Go(p.accept)
	return p, nil
}

// URL returns the proxy's address, as http.ProxyURL wants it.
func (p *Proxy) URL() *url.URL {
	return &url.URL{Scheme: "http", Host: p.listener.Addr().String()}
}

// Hits returns the number of CONNECT requests so far.
func (p *Proxy) Hits() int { return int(p.hits.Load()) }

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if !p.box.spawn(func() { p.tunnel(client) }) {
			_ = client.Close()
			return
		}
	}
}

func (p *Proxy) tunnel(client net.Conn) {
	defer client.Close()
	defer context.AfterFunc(p.box.ctx, func() { _ = client.Close() })()
	reader := bufio.NewReader(client)
	request, err := http.ReadRequest(reader)
	if err != nil {
		return
	}
	if request.Method != http.MethodConnect {
		_, _ = io.WriteString(client, "HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n\r\n")
		return
	}
	p.hits.Add(1)
	server, err := p.box.network.dial(p.box.ctx, p.box.addr, request.Host)
	if err != nil {
		_, _ = io.WriteString(client, "HTTP/1.1 502 Bad Gateway\r\nConnection: close\r\n\r\n")
		return
	}
	defer server.Close()
	if _, err := io.WriteString(client, "HTTP/1.1 200 Connection Established\r\n\r\n"); err != nil {
		return
	}
	// Either side's end is the end of both, as a cut connection has to be seen on the other
	// side at once.
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = io.Copy(server, reader)
		_ = server.Close()
	})
	_, _ = io.Copy(client, server)
	_ = client.Close()
	wg.Wait()
}
