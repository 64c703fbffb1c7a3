package wabox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

const (
	defaultMediaHost = "mmg.whatsapp.net"
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
	asked   []Asked
	unasked bool // asked is not kept
}

// A blob is one stored file. It never changes.
type blob struct {
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
	hits     int
}

// Asked is one request to the CDN, and the status that it was answered with.
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
	c.hosts = []string{defaultMediaHost}
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
	c.links[pathOf(directPath)] = &link{blob: f}
	return directPath
}

// find returns the file with a media key. If it was not uploaded by [Box.Upload], it makes one out of what a message says
// about the file: the CDN may have that from a client, or not at all.
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

// SetStatus makes the CDN answer downloads from a path with an HTTP status and a body, before it checks anything else.
// The path's query does not matter, and the path need not exist. Status 0 takes that back.
func (b *Box) SetStatus(directPath string, status int, body string) {
	b.edit(directPath, func(l *link) { l.status, l.body = status, body })
}

// Corrupt makes the CDN serve wrong bytes, of the right length and with status 200, from a path.
func (b *Box) Corrupt(directPath string) { b.edit(directPath, func(l *link) { l.corrupt = true }) }

// Truncate makes the CDN break the connection after half of the bytes that it announced.
func (b *Box) Truncate(directPath string) { b.edit(directPath, func(l *link) { l.truncate = true }) }

// Stall makes the CDN wait until a channel is closed before it answers a download from a path. nil takes that back.
func (b *Box) Stall(directPath string, until <-chan struct{}) {
	b.edit(directPath, func(l *link) { l.stall = until })
}

// Expire makes the CDN answer 410 on every path that a file has so far.
func (b *Box) Expire(m *Media) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	for _, l := range b.cdn.links {
		if l.blob != nil && l.blob == m.blob {
			l.status, l.body = http.StatusGone, ""
		}
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

// MediaHosts sets the hosts that a client is told to download from. whatsmeow remembers them for the five minutes that
// they are good for.
func (b *Box) MediaHosts(hosts ...string) {
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	b.cdn.hosts = slices.Clone(hosts)
}

func (c *cdn) mediaHosts() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hosts
}

func (c *cdn) serve(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet:
		c.download(ctx, w, r)
	case http.MethodPost:
		c.upload(w, r)
	case http.MethodDelete:
		c.remove(w, r)
	default:
		c.record(r, r.URL.Path, http.StatusMethodNotAllowed)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

func (c *cdn) record(r *http.Request, path string, status int) {
	asked := &Asked{
		Method: r.Method, Host: r.Host, Path: path, RawQuery: r.URL.RawQuery,
		Header: r.Header, Status: status, At: time.Now(),
	}
	c.mu.Lock()
	if !c.unasked {
		if len(c.asked) >= maxAsked {
			c.asked = slices.Delete(c.asked, 0, maxAsked/2)
		}
		c.asked = append(c.asked, *asked)
	}
	c.mu.Unlock()
	c.box.emit(CDN, types.EmptyJID, nil, asked)
}

func (c *cdn) download(ctx context.Context, w http.ResponseWriter, r *http.Request) {
	// A client appends "&hash=…" to a direct path even if that has lost its query.
	path, _, _ := strings.Cut(r.URL.Path, "&")
	var l link
	c.mu.Lock()
	if found := c.links[path]; found != nil {
		found.hits++
		l = *found
	}
	c.mu.Unlock()

	status, body := l.check(r)
	c.record(r, path, status)
	if l.stall != nil {
		select {
		case <-l.stall:
		case <-r.Context().Done():
			return
		case <-ctx.Done():
			return
		}
	}
	if status != http.StatusOK {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return
	}
	var data []byte
	if l.blob != nil { // there is none under a path that was given status 200 by hand
		data = l.blob.data
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(data)))
	switch {
	case l.corrupt:
		data = slices.Clone(data)
		for i := range data {
			data[i] ^= 0x55
		}
	case l.truncate:
		// net/http closes the connection of a handler that wrote less than it announced.
		data = data[:len(data)/2]
	}
	_, _ = w.Write(data)
}

// check returns the status that a download deserves, and a body if that is not 200.
func (l *link) check(r *http.Request) (status int, body string) {
	if l.status != 0 {
		return l.status, l.body
	}
	query := r.URL.Query()
	expires, err := strconv.ParseInt(query.Get("oe"), 16, 64)
	switch {
	case query.Get("oh") == "" || err != nil:
		return http.StatusForbidden, "Bad URL hash"
	case time.Unix(expires, 0).Before(time.Now()):
		return http.StatusForbidden, "URL signature expired"
	case l.blob == nil:
		return http.StatusNotFound, ""
	case !l.blob.plain && query.Get("hash") != l.blob.hash:
		return http.StatusNotFound, ""
	}
	return http.StatusOK, ""
}

// upload takes a file as whatsmeow's Upload and UploadNewsletter send it: /mms/TYPE/HASH or /newsletter/newsletter-TYPE/HASH.
func (c *cdn) upload(w http.ResponseWriter, r *http.Request) {
	parts := strings.Split(r.URL.Path, "/")
	if len(parts) != 4 || parts[1] != "mms" && parts[1] != "newsletter" {
		c.record(r, r.URL.Path, http.StatusNotFound)
		w.WriteHeader(http.StatusNotFound)
		return
	}
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	hash := sha256.Sum256(data)
	if base64.URLEncoding.EncodeToString(hash[:]) != parts[3] {
		c.record(r, r.URL.Path, http.StatusBadRequest)
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	plain := parts[1] == "newsletter"
	directPath := c.link(c.store(data, plain), mediaTypes[strings.TrimPrefix(parts[2], "newsletter-")])
	answer := map[string]string{"url": "https://" + r.Host + directPath, "direct_path": directPath}
	if plain {
		answer["handle"] = base64.URLEncoding.EncodeToString(randomBytes(12))
	}
	c.record(r, r.URL.Path, http.StatusOK)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer)
}

// mediaTypes are the names of media types in URLs. Others are stored like documents.
var mediaTypes = map[string]whatsmeow.MediaType{
	"image": whatsmeow.MediaImage, "video": whatsmeow.MediaVideo, "audio": whatsmeow.MediaAudio,
	"document": whatsmeow.MediaDocument, "md-msg-hist": whatsmeow.MediaHistory, "md-app-state": whatsmeow.MediaAppState,
	"sticker-pack": whatsmeow.MediaStickerPack, "thumbnail-link": whatsmeow.MediaLinkThumbnail,
}

// remove takes a path away, as a client that has read a history sync asks for. The phone still has the file.
func (c *cdn) remove(w http.ResponseWriter, r *http.Request) {
	path, _ := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("d_md"))
	c.mu.Lock()
	if l := c.links[string(path)]; l != nil {
		l.status, l.body = http.StatusNotFound, ""
	}
	c.mu.Unlock()
	c.record(r, r.URL.Path, http.StatusOK)
	w.WriteHeader(http.StatusOK)
}
