package reupload

import (
	"errors"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

var errNoMediaClient = errors.New("reupload: this version of whatsmeow hides its media HTTP client; pass the one to use, with its proxy, as Options.HTTPClient")

// A mediaWrap keeps our transport in a client's media HTTP client. The bot can exchange that, with
// SetMediaHTTPClient, or its transport, with SetProxy, at any time and without telling anyone.
type mediaWrap struct {
	client *whatsmeow.Client
	healer *healer
	log    waLog.Logger

	current atomic.Pointer[wrapping]

	mu   sync.Mutex
	off  bool
	seen host.Sighting // of a change that was not acted on yet
}

// A wrapping is a media HTTP client of ours, and the one that it stands for.
type wrapping struct {
	original *http.Client // put back by Close
	inner    *http.Client // that, or the one that the bot has chosen instead
	wrapped  *http.Client // what whatsmeow gets: our transport, and all else as inner has it
	lookout  host.Lookout
	sighting host.Sighting // what is seen while the bot has changed nothing
}

// install gives the client a wrapped media client: the one that the bot has chosen, or by default
// the one that the client has.
func (m *mediaWrap) install(chosen *http.Client) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	original := host.MediaClient(m.client)
	if original == nil {
		if original = chosen; original == nil {
			return errNoMediaClient
		}
	}
	m.wrap(original, chosen)
	return nil
}

// wrap gives the client an HTTP client of ours in place of another one, by default of the original.
// What the other one has is read when it is used, as whatsmeow would, so that the bot can change
// it. Its time-out is for each exchange with the CDN, and not for the phone, so that our transport
// sees to it. It needs m.mu.
func (m *mediaWrap) wrap(original, instead *http.Client) {
	if instead == nil {
		instead = original
	}
	wrapped := &http.Client{
		Transport:     &transport{bot: instead, healer: m.healer},
		CheckRedirect: func(req *http.Request, via []*http.Request) error { return checkRedirect(instead, req, via) },
		Jar:           jarOf{instead},
	}
	m.client.SetMediaHTTPClient(wrapped)
	w := &wrapping{original: original, inner: instead, wrapped: wrapped, lookout: host.Watch(m.client, wrapped)}
	w.sighting = w.lookout.Look()
	m.current.Store(w)
}

// checkRedirect does what an HTTP client does about a redirect.
func checkRedirect(client *http.Client, req *http.Request, via []*http.Request) error {
	if client.CheckRedirect != nil {
		return client.CheckRedirect(req, via)
	}
	if len(via) >= 10 { // as net/http has it
		return errors.New("stopped after 10 redirects")
	}
	return nil
}

// A jarOf is the cookie jar of an HTTP client, which may have none.
type jarOf struct{ client *http.Client }

func (j jarOf) SetCookies(u *url.URL, cookies []*http.Cookie) {
	if j.client.Jar != nil {
		j.client.Jar.SetCookies(u, cookies)
	}
}

func (j jarOf) Cookies(u *url.URL) []*http.Cookie {
	if j.client.Jar == nil {
		return nil
	}
	return j.client.Jar.Cookies(u)
}

// notice wraps what the bot has set since. It costs next to nothing while nothing has
// changed. Unless it is the bot that calls, which has then set what it means to use, the bot
// may be just at it.
func (m *mediaWrap) notice(botCalls bool) {
	w := m.current.Load()
	if w == nil { // the tap that an earlier plugin has left can see nodes before all is in place
		return
	}
	if now := w.lookout.Look(); now != w.sighting {
		m.changed(now, botCalls)
	}
}

// glance remembers what there is to see, so that the next event finds it for the second time. It
// never waits: it is for the goroutine that reads the socket.
func (m *mediaWrap) glance() {
	w := m.current.Load()
	if w == nil {
		return
	}
	if now := w.lookout.Look(); now != w.sighting && m.mu.TryLock() {
		m.seen = now
		m.mu.Unlock()
	}
}

func (m *mediaWrap) changed(now host.Sighting, isSure bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.current.Load()
	if m.off || now != w.lookout.Look() || now == w.sighting {
		return
	}
	if now != m.seen && !isSure { // an interface has two words
		m.seen = now
		return
	}
	if original := m.updated(w, w.original); original != nil {
		m.log.Infof("The media HTTP client or its proxy was changed; wrapping the new one")
		m.wrap(original, m.updated(w, w.inner))
	}
}

// updated returns a media client of a wrapping as it would be by now, had we not stood in its
// place. It needs m.mu.
func (m *mediaWrap) updated(w *wrapping, client *http.Client) *http.Client {
	current := host.MediaClient(m.client)
	switch {
	case current != nil && current != w.wrapped: // SetMediaHTTPClient
		return current
	case isOurs(w.wrapped):
		return client
	}
	changed := *client // SetProxy, which has changed our copy
	changed.Transport = w.wrapped.Transport
	return &changed
}

// remove leaves the client as it would be without us.
func (m *mediaWrap) remove() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.off = true
	w := m.current.Load()
	if restored := m.updated(w, w.original); restored != nil && restored != host.MediaClient(m.client) {
		m.client.SetMediaHTTPClient(restored)
	}
}

func isOurs(client *http.Client) bool {
	_, ours := client.Transport.(*transport)
	return ours
}
