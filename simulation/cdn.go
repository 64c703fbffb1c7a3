package simulation

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// A cdn stands between a bot's media client and the box, and decides how each request ends. It
// injects faults that the box does not have. Requests that should succeed go on to the box, through
// its network.
type cdn struct {
	world *World
	bot   *bot
	base  *http.Transport
}

// mainHost, and others that whatsmeow may be told; and the one that a redirect leads to.
var cdnHosts = []string{"mmg.whatsapp.net", "media-ams4-1.cdn.whatsapp.net"}

const otherHost = "elsewhere.whatsapp.net"

// An exchange is one request to the CDN, and its outcome.
type exchange struct {
	host, path string
	at         time.Time
	status     int  // 0 for an error
	fault      Kind // that was injected
}

type downloadKey struct{}

func (c *cdn) CloseIdleConnections() { c.base.CloseIdleConnections() }

func (c *cdn) RoundTrip(req *http.Request) (*http.Response, error) {
	path, _, _ := strings.Cut(req.URL.Path, "&") // a path that has lost its query
	d, _ := req.Context().Value(downloadKey{}).(*download)
	e := exchange{host: req.URL.Host, path: path, at: time.Now()}
	resp, err := c.exchange(req, path, &e)
	if resp != nil {
		e.status = resp.StatusCode
	}
	if d != nil {
		c.world.exchanged(d, e)
	}
	return resp, err
}

var errCDN = &net.OpError{Op: "read", Net: "memory", Err: syscall.ECONNRESET}

func (c *cdn) exchange(req *http.Request, path string, e *exchange) (*http.Response, error) {
	w := c.world
	w.mu.Lock()
	u := w.uploads[path]
	if u == nil {
		w.mu.Unlock()
		if strings.HasPrefix(path, junkPrefix) {
			w.count(cdnJunk)
			return largeJunk(req), nil
		}
		if strings.HasPrefix(path, "/v/t62.36144-24/") || req.Method != http.MethodGet { // history
			return c.base.RoundTrip(req)
		}
		return answered(req, http.StatusNotFound, ""), nil
	}
	u.hits++
	hits, fault, dead, fresh := u.hits, u.fault, !time.Now().Before(u.dies), time.Since(u.at)
	status := w.dice.For("death", u.file.n, path).IntN(4)
	w.mu.Unlock()
	inject := func() {
		e.fault = fault
		w.count(fault)
	}
	if fault == cdnRedirect && req.URL.Host != otherHost {
		inject()
		resp := answered(req, http.StatusFound, "")
		resp.Header.Set("Location", "https://"+otherHost+req.URL.EscapedPath()+"?"+req.URL.RawQuery)
		return resp, nil
	}
	if dead {
		switch status {
		case 0:
			return answered(req, http.StatusNotFound, ""), nil
		case 1:
			return answered(req, http.StatusForbidden, "URL signature expired"), nil
		}
		return answered(req, http.StatusGone, ""), nil
	}
	if !strings.Contains(req.URL.RawQuery, "oh=") {
		return answered(req, http.StatusForbidden, "Bad URL hash"), nil
	}
	const settles = 700 * time.Millisecond
	switch {
	case fault == cdnFails && hits <= 2, fault == cdnBusy && hits == 1:
		inject()
		if fault == cdnBusy {
			return answered(req, http.StatusTooManyRequests, ""), nil
		}
		return answered(req, http.StatusServiceUnavailable, ""), nil
	case fault == cdnStalls && hits <= 2:
		inject()
		if !sleep(req.Context(), 40*time.Second) {
			return nil, req.Context().Err()
		}
	case fault == cdnCuts && hits == 1:
		inject()
		resp := answered(req, http.StatusOK, "")
		resp.ContentLength = 1000
		resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(make([]byte, 100)), failing{}))
		return resp, nil
	case fault == cdnEmpty && fresh < settles:
		inject()
		return answered(req, http.StatusOK, ""), nil
	case fault == cdnLate && fresh < settles:
		inject()
		return answered(req, http.StatusNotFound, ""), nil
	case fault == cdnOther && hits == 1:
		inject()
		return answered(req, http.StatusOK, strings.Repeat("other bytes", 30)), nil
	case fault == cdnForbids && hits > 1:
		inject()
		return answered(req, http.StatusForbidden, "Forbidden"), nil
	}
	if u.large {
		w.count(cdnLarge)
	}
	return c.base.RoundTrip(req)
}

// largeJunk returns a response with a large file of a stranger's.
func largeJunk(req *http.Request) *http.Response {
	resp := answered(req, http.StatusOK, "")
	resp.ContentLength = comparedWhileItComes
	resp.Body = io.NopCloser(io.LimitReader(zeros{}, comparedWhileItComes))
	return resp
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// answered returns a response of the CDN's.
func answered(req *http.Request, status int, body string) *http.Response {
	return &http.Response{
		Status: http.StatusText(status), StatusCode: status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header),
		ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)), Request: req,
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCDN }

// sleep waits, and reports false if the context ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
