package wabox

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

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
	c.box.emit(CDN, types.EmptyJID, nil, nil, asked)
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

	if l.serve != nil && c.served(&l, w, r, path) {
		return
	}
	status, body := l.check(r)
	var data []byte
	if l.blob != nil { // there is none under a path that was given status 200 by hand
		data = l.blob.data
	}
	contentRange := ""
	if status == http.StatusOK {
		status, contentRange, data = partOf(data, r.Header.Get("Range"))
	}
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
	if contentRange != "" {
		w.Header().Set("Content-Range", contentRange)
	}
	if status != http.StatusOK && status != http.StatusPartialContent {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
		return
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
	w.WriteHeader(status)
	_, _ = w.Write(data)
}

// partOf returns what a request gets of a file: all of it, or with a Range header of the form
// "bytes=FIRST-LAST" the bytes from FIRST to LAST. Other forms count as none.
func partOf(data []byte, requested string) (status int, contentRange string, part []byte) {
	var first, last int
	if n, err := fmt.Sscanf(requested, "bytes=%d-%d", &first, &last); n != 2 || err != nil || first < 0 || last < first {
		return http.StatusOK, "", data
	}
	if first >= len(data) {
		return http.StatusRequestedRangeNotSatisfiable, fmt.Sprintf("bytes */%d", len(data)), nil
	}
	last = min(last, len(data)-1)
	return http.StatusPartialContent, fmt.Sprintf("bytes %d-%d/%d", first, last, len(data)), data[first : last+1]
}

// served lets a function of [Box.Serve] answer a download, and records it even if that ends with a
// panic, which is how a handler breaks the connection.
func (c *cdn) served(l *link, w http.ResponseWriter, r *http.Request, path string) (done bool) {
	done = true
	defer func() {
		if done {
			c.record(r, path, 0)
		}
	}()
	done = l.serve(w, r)
	return done
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

// upload takes a file as whatsmeow's Upload and UploadNewsletter send it:
// /mms/TYPE/HASH or /newsletter/newsletter-TYPE/HASH.
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

// remove takes a path away, as a client that has read a history sync asks for. The phone still
// has the file.
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
