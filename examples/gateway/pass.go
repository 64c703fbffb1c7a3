package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"
)

// passTries is how often a request is passed on, a beat apart, while accounts are moving.
const passTries = 5

// stallTime is how long another gateway may be silent in the middle of a file, which it has on its
// disk as a whole.
const stallTime = 15 * time.Second

var (
	// errMisdirected means that the account is not where the request was passed on to.
	errMisdirected = errors.New("another gateway has the account")
	errMoved       = errors.New("the account has moved")
	errStalled     = errors.New("the other gateway has stopped in the middle of a file")
	errStranger    = errors.New("what answers there is not that gateway, or does not have the same token")
)

// peers reaches the other gateways, and nothing in between.
var peers = &http.Transport{
	DialContext:         (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
	MaxIdleConnsPerHost: 32,
	IdleConnTimeout:     time.Minute,
	DisableCompression:  true,
}

// pass lets the process answer a request that has the account. It reports false if nothing was
// answered, since the account is here, or no process has it that can be reached. body is the
// request's. What is no GET or HEAD may not be done twice, and is sent again only if it was
// refused.
func (g *gateway) pass(w http.ResponseWriter, r *http.Request, phone string, body []byte) (answered bool) {
	if p, passed := passingOf(r); passed {
		l, ok := g.leases.present().of(phone)
		if p.to == g.leases.process && (g.isHere(phone) || !ok || l.process == 0) {
			return false
		}
		fail(w, failure{status: http.StatusMisdirectedRequest, Error: errMisdirected.Error(), Retry: true})
		return true
	}
	for try := range passTries {
		present := g.leases.present()
		l, ok := present.of(phone)
		if try == 0 && !ok && !g.isHere(phone) { // it may have been linked a moment ago
			present = g.leases.look(r.Context())
			l, ok = present.of(phone)
		}
		if g.isHere(phone) || !ok || try == 0 && l.process == 0 {
			return false
		}
		if to, err := url.Parse(present.urls[l.process]); err == nil && to.Host != "" && to.String() != g.cfg.peerURL && l.process != g.leases.process {
			err := g.passTo(w, r, body, to, l)
			if err == nil {
				g.passed.Inc()
				return true
			}
			level := slog.LevelWarn
			if errors.Is(err, errMisdirected) || errors.Is(err, errMoved) { // which is how accounts move
				level = slog.LevelDebug
			}
			g.log.Log(r.Context(), level, "A request could not be passed on", "account", phone, "to", to.Host, "error", err)
			if r.Method != http.MethodGet && r.Method != http.MethodHead && !errors.Is(err, errMisdirected) {
				return false
			}
		}
		select {
		case <-time.After(g.leases.times.beat):
		case <-r.Context().Done():
			return false
		}
	}
	return false
}

// isHere reports whether an account is here, or is being linked here.
func (g *gateway) isHere(phone string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accounts[phone] != nil || g.busy[phone] == linking
}

// passTo answers a request with what another gateway says, and fails if nothing was answered. It
// gives up when that gateway loses the account before it has said anything, as one that is stopped
// does.
func (g *gateway) passTo(w http.ResponseWriter, r *http.Request, body []byte, to *url.URL, l lease) (err error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	p := newPassing(l.process)
	answers := make(chan struct{})
	go func() {
		ticker := time.NewTicker(g.leases.times.beat)
		defer ticker.Stop()
		for {
			if now, _ := g.leases.present().of(l.account); now.process != l.process {
				cancel(errMoved)
				return
			}
			select {
			case <-ticker.C:
			case <-answers:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	proxy := httputil.ReverseProxy{
		Transport: peers,
		Rewrite: func(out *httputil.ProxyRequest) {
			out.SetURL(to)
			header := out.Out.Header
			for _, name := range []string{"Authorization", "Cookie", "Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User"} {
				header.Del(name) // they were for this gateway
			}
			p.sign(g.cfg.token, out.Out, body)
		},
		ModifyResponse: func(resp *http.Response) error {
			if !p.isAnsweredBy(g.cfg.token, resp) {
				return errStranger
			}
			if resp.StatusCode == http.StatusMisdirectedRequest {
				return errMisdirected
			}
			close(answers)
			resp.Body = &stallingBody{resp.Body, func() { cancel(errStalled) }}
			return nil
		},
		ErrorHandler: func(_ http.ResponseWriter, _ *http.Request, failed error) {
			if err = context.Cause(ctx); err == nil || errors.Is(failed, errMisdirected) || errors.Is(failed, errStranger) {
				err = failed
			}
		},
		ErrorLog: slog.NewLogLogger(g.log.Handler(), slog.LevelDebug),
	}
	r = r.WithContext(ctx)
	r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	proxy.ServeHTTP(w, r)
	return err
}

// A stallingBody breaks off when nothing comes for long.
type stallingBody struct {
	io.ReadCloser
	stalled func()
}

func (b *stallingBody) Read(p []byte) (int, error) {
	defer time.AfterFunc(stallTime, b.stalled).Stop()
	return b.ReadCloser.Read(p)
}
