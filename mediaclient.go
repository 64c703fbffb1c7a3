package reupload

import (
	"errors"
	"net/http"
	"reflect"
	"sync"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waLog "go.mau.fi/whatsmeow/util/log"
)

var errNoMediaClient = errors.New("reupload: this version of whatsmeow hides its media HTTP client; pass the one to use, with its proxy, as Options.HTTPClient")

// A mediaWrap keeps our transport in a client's media HTTP client. The bot can exchange that, with
// SetMediaHTTPClient, or its transport, with SetProxy, at any time and without telling anyone.
type mediaWrap struct {
	client *whatsmeow.Client
	plugin *Plugin
	log    waLog.Logger

	current atomic.Pointer[wrapping]

	mu   sync.Mutex
	off  bool
	seen sighting // of a change that was not acted on yet
}

// A wrapping is a media HTTP client of ours, and the one that it stands for.
type wrapping struct {
	original *http.Client // put back by Close
	inner    *http.Client // a copy of it, or of the one that the bot has chosen instead
	wrapped  *http.Client // a copy of that, with our transport around its own
	lookout  lookout
	sighting sighting // what is seen while nobody has changed it
}

// install gives the client a wrapped media client: by default the one that it has, or else the one
// that the bot has chosen.
func (m *mediaWrap) install(chosen *http.Client) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	original, readable := mediaClient(m.client)
	if !readable {
		if original = chosen; original == nil {
			return errNoMediaClient
		}
	}
	m.wrap(original, chosen)
	return nil
}

// wrap gives the client a copy of an HTTP client, by default of the original. Its time-out
// is for each exchange with the CDN, and not for the phone, so that our transport sees to
// it. It needs m.mu.
func (m *mediaWrap) wrap(original, instead *http.Client) {
	if instead == nil {
		instead = original
	}
	inner := *instead
	if inner.Transport == nil {
		inner.Transport = http.DefaultTransport
	}
	wrapped := inner
	wrapped.Timeout = 0
	wrapped.Transport = &transport{base: inner.Transport, client: &inner, plugin: m.plugin}
	m.client.SetMediaHTTPClient(&wrapped)
	w := &wrapping{original: original, inner: &inner, wrapped: &wrapped, lookout: lookoutOf(m.client, &wrapped)}
	w.sighting = w.lookout.look()
	m.current.Store(w)
}

// notice wraps what the bot has set since. It costs next to nothing while nothing has
// changed. Unless it is the bot that calls, which has then set what it means to use, the bot
// may be just at it.
func (m *mediaWrap) notice(botCalls bool) {
	w := m.current.Load()
	if w == nil { // the tap that an earlier plugin has left can see nodes before all is in place
		return
	}
	if now := w.lookout.look(); now != w.sighting {
		m.changed(now, botCalls)
	}
}

func (m *mediaWrap) changed(now sighting, isSure bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.current.Load()
	if m.off || now != w.lookout.look() || now == w.sighting {
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
	current, readable := mediaClient(m.client)
	switch {
	case readable && current != w.wrapped: // SetMediaHTTPClient
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
	if restored := m.updated(w, w.original); restored != nil {
		if current, readable := mediaClient(m.client); !readable || current != restored {
			m.client.SetMediaHTTPClient(restored)
		}
	}
}

func isOurs(client *http.Client) bool {
	_, ours := client.Transport.(*transport)
	return ours
}

// A sighting is how the client's media client looked: the pointer to it, and the two words of
// our copy's transport.
type sighting [3]uintptr

// A lookout is where these words are. The bot may be writing them, and nothing guards them: they
// are only compared, and never followed, and whoever acts on a change does so when the bot calls,
// or when it has stayed the same for two looks.
type lookout struct {
	pointer   *[1]uintptr // nil if whatsmeow hides it
	transport *[2]uintptr
}

func lookoutOf(client *whatsmeow.Client, wrapped *http.Client) (l lookout) {
	if field := privateField[*http.Client](client, "mediaHTTP"); field != nil {
		l.pointer = wordsOf[[1]uintptr](field)
	}
	l.transport = wordsOf[[2]uintptr](&wrapped.Transport)
	return l
}

// wordsOf returns the words of what p points to, which must be as large as W.
func wordsOf[W, T any](p *T) *W {
	return reflect.NewAt(reflect.TypeFor[W](), reflect.ValueOf(p).UnsafePointer()).Interface().(*W)
}

// look is not for the race detector, which does not know that nobody follows the words.
//
//go:norace
func (l lookout) look() (s sighting) {
	if l.pointer != nil {
		s[0] = l.pointer[0]
	}
	s[1], s[2] = l.transport[0], l.transport[1]
	return s
}
