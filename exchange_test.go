package reupload_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The time-out of the bot's HTTP client is for each exchange with the CDN, and not for the phone.
func TestTimeoutOfTheHTTPClient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const timeout = 10 * time.Second
		r := newUnregisteredRig(t)
		r.client.SetMediaHTTPClient(&http.Client{Transport: r.box.Transport(), Timeout: timeout})
		r.register(nil)
		r.connect()
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Delay: 2 * timeout})
		r.heals(p)

		alive := r.box.Upload(content(), whatsmeow.MediaImage)
		stalled := make(chan struct{})
		defer close(stalled)
		r.box.Stall(alive.DirectPath, stalled)
		ctx, cancel := context.WithTimeout(t.Context(), 10*timeout)
		defer cancel()
		start := time.Now()
		status, err := fetch(ctx, r.client, alive)
		if took := time.Since(start); err == nil || ctx.Err() != nil || took != timeout {
			t.Errorf("a download that stalls: status %d, %v after %s", status, err, took)
		}
	})
}

// fetch makes one download request as whatsmeow does, without repeating it, and reads what comes.
func fetch(ctx context.Context, client *whatsmeow.Client, m *wabox.Media) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL()+"&hash="+hashOf(m)+"&mms-type=image&__wa-mms=", nil)
	if err != nil {
		return 0, err
	}
	resp, err := host.MediaClient(client).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = new(bytes.Buffer).ReadFrom(resp.Body)
	return resp.StatusCode, err
}

// The body of a 410 that does not come holds up no download.
func TestStalledBodyOfAnExpiredFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		stall := &stallingTransport{base: r.box.Transport(), release: make(chan struct{})}
		t.Cleanup(func() { close(stall.release); stall.base.CloseIdleConnections() })
		r.client.SetMediaHTTPClient(&http.Client{Transport: stall})
		r.register(nil)
		r.connect()
		p := r.receivePicture()
		start := time.Now()
		r.heals(p)
		if took := time.Since(start); took > prompt {
			t.Errorf("it took %s", took)
		}
	})
}

// A stallingTransport sends the headers of failed responses, and no bodies.
type stallingTransport struct {
	base    *http.Transport
	release chan struct{}
}

func (s *stallingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		resp.Body = &stalledBody{release: s.release, closed: make(chan struct{})}
	}
	return resp, err
}

type stalledBody struct {
	release, closed chan struct{}
	once            sync.Once
}

func (b *stalledBody) Read([]byte) (int, error) {
	select {
	case <-b.release:
	case <-b.closed:
	}
	return 0, errors.New("closed")
}

func (b *stalledBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// A new path can lead on to another one.
func TestRedirectFromTheNewPath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		redirects := &redirectingTransport{base: r.box.Transport()}
		t.Cleanup(redirects.base.CloseIdleConnections)
		r.client.SetMediaHTTPClient(&http.Client{Transport: redirects})
		r.register(nil)
		r.connect()
		p := r.receivePicture()
		target := r.box.Reupload(p.Media)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: "/redirect?ccb=11-4&oh=x&oe=7FFFFFFF"})
		redirects.to = target
		for range 2 {
			r.heals(p)
		}
		r.asked(1)
	})
}

type redirectingTransport struct {
	base *http.Transport
	to   string
}

func (s *redirectingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != "/redirect" {
		return s.base.RoundTrip(req)
	}
	_, suffix, _ := strings.Cut(req.URL.RawQuery, "&hash=")
	return &http.Response{
		StatusCode: http.StatusFound, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Request: req,
		Header: http.Header{"Location": {"https://mmg.whatsapp.net" + s.to + "&hash=" + suffix}},
	}, nil
}

func hashOf(m *wabox.Media) string { return base64.URLEncoding.EncodeToString(m.FileEncSHA256) }
