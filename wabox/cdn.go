package wabox

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
)

const (
	defaultMediaHost = "mmg.whatsapp.net"
	defaultMediaTTL  = 5 * time.Minute
	// maxAsked bounds the log of requests: when it is full, the older half goes.
	maxAsked = 1 << 16
)

// A cdn keeps files under paths, and does what WhatsApp's does with requests for them.
type cdn struct {
	box *Box

	mu      sync.Mutex
	links   map[string]*link // by path, without query
	blobs   map[string]*blob // by hash, as in a URL
	media   map[string]*Media
	hosts   []string
	ttl     time.Duration // of hosts
	asked   []Asked
	unasked bool // asked is not kept
}

// A blob is one stored file. What is in it never changes.
type blob struct {
	links []*link // guarded by the cdn's mu
	data  []byte
	hash  string // base64url of the SHA-256 of data
	plain bool   // newsletter media: downloads carry no hash
}

// A link is what one path leads to. There may be no file there.
type link struct {
	blob     *blob
	status   int // 0 means whatever is right
	body     string
	corrupt  bool
	truncate bool
	stall    <-chan struct{}
	serve    func(http.ResponseWriter, *http.Request) bool
	hits     int
}

// Asked is one request to the CDN, and the status that it was answered with, which is 0 if that was
// left to [Box.Serve].
type Asked struct {
	Method   string
	Host     string
	Path     string
	RawQuery string
	Header   http.Header
	Status   int
	At       time.Time
}

func (c *cdn) init(b *Box) {
	c.box = b
	c.links = make(map[string]*link)
	c.blobs = make(map[string]*blob)
	c.media = make(map[string]*Media)
	c.hosts, c.ttl = []string{defaultMediaHost}, defaultMediaTTL
}

// add stores a new file and fills in where it is.
func (c *cdn) add(m *Media, data []byte) {
	m.blob = c.store(data, m.MediaKey == nil)
	m.DirectPath = c.link(m.blob, m.Type)
	if m.MediaKey != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.media[string(m.MediaKey)] = m
	}
}

func (c *cdn) store(data []byte, plain bool) *blob {
	hash := sha256.Sum256(data)
	f := &blob{data: data, hash: base64.URLEncoding.EncodeToString(hash[:]), plain: plain}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blobs[f.hash] = f
	return f
}

// link makes a fresh path for a file.
func (c *cdn) link(f *blob, t whatsmeow.MediaType) string {
	directPath := newDirectPath(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	l := &link{blob: f}
	c.links[pathOf(directPath)] = l
	f.links = append(f.links, l)
	return directPath
}

// find returns the file with a media key. If it was not uploaded by [Box.Upload], it makes one out
// of what a message says about the file: the CDN may have that from a client, or not at all.
func (c *cdn) find(said *Media) *Media {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m, ok := c.media[string(said.MediaKey)]; ok {
		return m
	}
	said.blob = c.blobs[base64.URLEncoding.EncodeToString(said.FileEncSHA256)]
	c.media[string(said.MediaKey)] = said
	return said
}

// edit changes what a path leads to, which may be nothing so far.
func (b *Box) edit(directPath string, f func(*link)) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	path := pathOf(directPath)
	if b.cdn.links[path] == nil {
		b.cdn.links[path] = &link{}
	}
	f(b.cdn.links[path])
}

// SetStatus makes the CDN answer downloads from a path with an HTTP status and a body, before it
// checks anything else. The path's query does not matter, and the path need not exist. Status 0
// takes that back.
func (b *Box) SetStatus(directPath string, status int, body string) {
	b.edit(directPath, func(l *link) { l.status, l.body = status, body })
}

// Corrupt makes the CDN serve wrong bytes, of the right length and with status 200, from a path.
func (b *Box) Corrupt(directPath string) { b.edit(directPath, func(l *link) { l.corrupt = true }) }

// Truncate makes the CDN break the connection after half of the bytes that it announced.
func (b *Box) Truncate(directPath string) { b.edit(directPath, func(l *link) { l.truncate = true }) }

// Stall makes the CDN wait until a channel is closed before it answers a download from a path. nil
// takes that back.
func (b *Box) Stall(directPath string, until <-chan struct{}) {
	b.edit(directPath, func(l *link) { l.stall = until })
}

// Serve lets a function answer downloads from a path, such as with a redirect or for a while only.
// If it returns false, it has written nothing, and the CDN answers as it would without. nil takes
// that back.
func (b *Box) Serve(directPath string, f func(http.ResponseWriter, *http.Request) bool) {
	b.edit(directPath, func(l *link) { l.serve = f })
}

// Expire makes the CDN answer 410 on every path that a file has so far.
func (b *Box) Expire(m *Media) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	if m.blob == nil {
		return
	}
	for _, l := range m.blob.links {
		l.status, l.body = http.StatusGone, ""
	}
}

// Hits returns how many downloads from a path were begun.
func (b *Box) Hits(directPath string) int {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	if l := b.cdn.links[pathOf(directPath)]; l != nil {
		return l.hits
	}
	return 0
}

// Asked returns what the CDN was asked, in order. Of very many requests, only the latest are kept.
func (b *Box) Asked() []Asked {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	return slices.Clone(b.cdn.asked)
}

// RecordAsked turns off, or on again, the record of what the CDN was asked.
func (b *Box) RecordAsked(on bool) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	b.cdn.unasked = !on
}

// MediaHosts sets the hosts that a client is told to download from. whatsmeow remembers them for as
// long as they are good for: see [Box.MediaTTL].
func (b *Box) MediaHosts(hosts ...string) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	b.cdn.hosts = slices.Clone(hosts)
}

// MediaTTL sets for how long the hosts are good that a client is told, five minutes by default.
// When that is over, whatsmeow asks the server before the next download, and all downloads wait for
// a lock meanwhile.
func (b *Box) MediaTTL(ttl time.Duration) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	b.cdn.ttl = ttl
}

func (c *cdn) mediaHosts() ([]string, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts, c.ttl
}
