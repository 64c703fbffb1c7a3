package reupload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A transport repairs downloads whose file has expired. It stands where the media HTTP client's own transport stood, which
// does all the work: every request, the repeated one too, goes out through base.
type transport struct {
	base   http.RoundTripper
	plugin *Plugin
}

// RoundTrip implements [http.RoundTripper]. An expired file that cannot be healed is never an error: whatsmeow would repeat
// the download five times. The caller gets the response that it would have got without us, and [Cause] tells why.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	file, ok := parseDownload(req)
	if !ok || t.plugin.isClosed() {
		return t.base.RoundTrip(req)
	}
	out, moved := req, t.plugin.memory.movedTo(file.path)
	if moved != "" {
		if replay, err := file.requestAt(req, moved); err == nil {
			out = replay
		}
	}
	resp, err := t.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		t.plugin.stats.healthy.Add(1)
		if out != req {
			t.verify(resp, file, moved)
		}
		return resp, nil
	}
	if !isExpired(out.URL, resp) {
		return resp, nil
	}
	t.plugin.stats.expired.Add(1)
	peek(resp) // to its end, as a rule, which gives the connection back while the phone is asked
	healed, cause := t.heal(req, file, pathOf(out.URL))
	if cause != nil {
		t.plugin.stats.fail(cause)
		return withCause(resp, req, cause), nil
	}
	t.plugin.stats.healed.Add(1)
	resp.Body.Close() // only now: until the repeated download has succeeded, this is what the caller gets
	return healed, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport that has the connections.
func (t *transport) CloseIdleConnections() {
	if closer, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// A directPath is a direct path cut at the question mark, as it can be taken from a URL without copying.
type directPath struct{ path, query string }

func (d directPath) String() string {
	if d.query == "" {
		return d.path
	}
	return d.path + "?" + d.query
}

// A download is what whatsmeow's download URL says:
//
//	https://HOST + direct path with its query + &hash=BASE64URL(encSHA256)&mms-type=TYPE&__wa-mms=
type download struct {
	path   directPath
	hash   string // base64; empty for media that is not encrypted
	suffix string // what follows the direct path, without its ampersand
}

// parseDownload tells whether a request downloads media of a message. Uploads, history-sync blobs, app state and link previews
// are not for us. It allocates nothing: it is all that a healthy download costs.
func parseDownload(req *http.Request) (download, bool) {
	if req.Method != http.MethodGet {
		return download{}, false
	}
	query, rest, found := cutLast(req.URL.RawQuery, "&hash=")
	if !found {
		return download{}, false
	}
	hash, rest, _ := strings.Cut(rest, "&mms-type=")
	mmsType, _, _ := strings.Cut(rest, "&")
	switch mmsType {
	case "md-msg-hist", "md-app-state", "thumbnail-link": // see canReupload
		return download{}, false
	}
	return download{
		path:   directPath{req.URL.EscapedPath(), query},
		hash:   hash,
		suffix: req.URL.RawQuery[len(query)+1:],
	}, true
}

func pathOf(u *url.URL) directPath {
	query, _, _ := cutLast(u.RawQuery, "&hash=")
	return directPath{u.EscapedPath(), query}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// fileEncSHA256 returns the hash of the encrypted file, 32 bytes, or nil.
func (d download) fileEncSHA256() []byte {
	hash, err := base64.URLEncoding.DecodeString(d.hash)
	if err != nil || len(hash) != 32 {
		return nil
	}
	return hash
}

// requestAt returns a copy of a download request that asks the same host for another path, which checkDirectPath has passed.
func (d download) requestAt(req *http.Request, path string) (*http.Request, error) {
	separator := "&"
	if !strings.Contains(path, "?") {
		separator = "?"
	}
	u, err := url.Parse(req.URL.Scheme + "://" + req.URL.Host + path + separator + d.suffix)
	if err != nil {
		return nil, errors.New("reupload: the new path makes no URL") // url.Parse's error would quote it
	}
	replay := req.Clone(req.Context())
	replay.URL = u
	return replay, nil
}

// isExpired tells whether a response means that the file is gone and should be uploaded again, as WhatsApp Web decides it
// (WAWebMmsClient, validateMmsResponse): 404, 410, or a 403 that is about the age of the URL. Any other 403, 401, 429 or 5xx
// is a fault of another kind, which a new upload would only hide. The response's body stays readable from its beginning.
func isExpired(u *url.URL, resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return true
	case http.StatusForbidden:
		return pastExpiry(u.RawQuery, time.Now()) || bytes.Contains(peek(resp), []byte("URL signature expired"))
	}
	return false
}

// pastExpiry reads the oe parameter of a media URL, hexadecimal unix seconds. A file can go before, but never comes back after.
func pastExpiry(rawQuery string, now time.Time) bool {
	for part := range strings.SplitSeq(rawQuery, "&") {
		if value, ok := strings.CutPrefix(part, "oe="); ok {
			expiry, err := strconv.ParseInt(value, 16, 64)
			return err == nil && now.Unix() > expiry
		}
	}
	return false
}

// peek returns the first bytes of a failed response's body and puts them back in front.
func peek(resp *http.Response) []byte {
	head, err := io.ReadAll(io.LimitReader(resp.Body, 8<<10))
	rest := io.Reader(resp.Body)
	if err != nil {
		rest = failingReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), resp.Body}
	return head
}

// discard closes a failed response, and keeps its connection if the body is short.
func discard(resp *http.Response) {
	peek(resp)
	resp.Body.Close()
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// The key under which the request of a response that was not healed holds the cause. whatsmeow's error holds the response.
type causeKey struct{}

func withCause(resp *http.Response, req *http.Request, cause error) *http.Response {
	resp.Request = req.WithContext(context.WithValue(req.Context(), causeKey{}, cause))
	return resp
}

// replayPauses are the pauses after which a repeated download that fails for a passing reason is tried again.
var replayPauses = [...]time.Duration{200 * time.Millisecond, time.Second}

// fetch downloads the file from a new path. It returns a response only if that is a success.
func (t *transport) fetch(req *http.Request, file download, path string) (*http.Response, error) {
	replay, err := file.requestAt(req, path)
	if err != nil {
		return nil, err
	}
	for try := 0; ; try++ {
		resp, err := t.base.RoundTrip(replay)
		switch {
		case err != nil:
			if withURL := (*url.Error)(nil); errors.As(err, &withURL) { // a transport that is a client inside
				err = withURL.Err
			}
			err = fmt.Errorf("%w: %w", ErrReplayFailed, err)
		case resp.StatusCode == http.StatusOK:
			t.verify(resp, file, path)
			return resp, nil
		case isExpired(replay.URL, resp):
			discard(resp)
			return nil, fmt.Errorf("%w: there is nothing under the new path (HTTP status %d)", ErrInvalidAnswer, resp.StatusCode)
		default:
			discard(resp)
			err = fmt.Errorf("%w: HTTP status %d", ErrReplayFailed, resp.StatusCode)
			if resp.StatusCode < 500 && resp.StatusCode != http.StatusTooManyRequests {
				return nil, err
			}
		}
		if try == len(replayPauses) {
			return nil, err
		}
		select {
		case <-time.After(replayPauses[try]):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

// verify watches what comes from a new path. whatsmeow refuses a file with another hash, but would be led to the same path
// the next time; a path that has given such a file is not used again unless the phone names it once more.
func (t *transport) verify(resp *http.Response, file download, path string) {
	resp.Body = &verifiedBody{ReadCloser: resp.Body, hash: sha256.New(), want: file.fileEncSHA256(), wrong: func() {
		t.plugin.memory.setWrong(path)
		t.plugin.log.Warnf("The phone's new upload is not the file that the message is about; it will be asked for again")
	}}
}

type verifiedBody struct {
	io.ReadCloser
	hash  hash.Hash
	want  []byte
	wrong func()
}

func (b *verifiedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	if err == io.EOF && b.want != nil && !bytes.Equal(b.hash.Sum(nil), b.want) {
		b.wrong()
		b.want = nil // once
	}
	return n, err
}

// heal gets a file that has expired: from a path that is known already, or else by asking the phone for one message after
// the other that the file was in, the newest first and each at most once. The error is the cause that [Cause] reports.
func (t *transport) heal(req *http.Request, file download, dead directPath) (*http.Response, error) {
	p, start := t.plugin, time.Now()
	entries, cause := p.messagesOf(req.Context(), file)
	tried := map[string]bool{dead.String(): true, file.path.String(): true}
	for _, e := range entries {
		if e.DirectPath == "" || tried[e.DirectPath] || p.memory.isWrong(e.DirectPath) {
			continue
		}
		tried[e.DirectPath] = true
		resp, err := t.fetch(req, file, e.DirectPath)
		if err == nil {
			p.memory.move(e.DirectPath, file.path, dead)
			p.log.Infof("Healed a download of %s in %s with a path that was known", e.MessageID, e.Chat)
			return resp, nil
		}
		if !errors.Is(err, ErrInvalidAnswer) {
			return nil, err // not that the path is dead: asking for another would not help
		}
	}
	canWait := p.canWait()
	for _, e := range entries {
		if cause = p.memory.refusal(e.Request); cause != nil {
			if !isAboutMessage(cause) {
				break
			}
			continue
		}
		var resp *http.Response
		if resp, cause = t.askFor(req, file, dead, e, canWait); cause == nil {
			p.log.Infof("Healed a download of %s in %s after %s", e.MessageID, e.Chat, time.Since(start).Round(time.Millisecond))
			return resp, nil
		}
		if !isAboutMessage(cause) {
			break // nobody answers, and would not about the next message either
		}
	}
	return nil, cause
}

// askFor asks the phone for the file of one message, and downloads what it has uploaded.
func (t *transport) askFor(req *http.Request, file download, dead directPath, e Entry, canWait bool) (*http.Response, error) {
	result, err := t.plugin.pending.ask(req.Context(), e, canWait)
	if err != nil {
		return nil, err
	}
	if result.DirectPath == "" {
		return nil, result.Err()
	}
	resp, err := t.fetch(req, file, result.DirectPath)
	if err != nil {
		if errors.Is(err, ErrInvalidAnswer) {
			t.plugin.memory.settle(e.Request, Result{}, err, false) // or each download would ask again
		}
		if refused := result.Err(); refused != nil { // the path was worth a try, no more
			err = refused
		}
		return nil, err
	}
	t.plugin.memory.move(result.DirectPath, file.path, dead)
	return resp, nil
}

// isAboutMessage tells whether the phone or the server has answered, so that another message may fare better.
func isAboutMessage(cause error) bool {
	for _, answer := range [...]error{ErrNotFound, ErrDecryption, ErrGeneral, ErrRejected, ErrInvalidAnswer} {
		if errors.Is(cause, answer) {
			return true
		}
	}
	return false
}

// messagesOf returns the messages that a file was in, the newest first: the one that the caller names through WithMessage, and
// those that the index knows. If there is none, the error tells why.
func (p *Plugin) messagesOf(ctx context.Context, file download) ([]Entry, error) {
	var known []Entry
	hash := file.fileEncSHA256()
	if hash != nil {
		known = p.index.byFile(ctx, hash)
	}
	named, ok := ctx.Value(messageKey{}).(*Entry)
	if !ok || !bytes.Equal(named.FileEncSHA256, hash) {
		return known, ErrUnknownMessage
	}
	first := *named
	var err error
	if first.Request, err = named.normalize(); err != nil {
		return known, err
	}
	for _, e := range p.index.byMessage(ctx, first.MessageID) { // it may have been asked for without its file
		if sameMessage(e.Request, first.Request) && e.DirectPath != "" {
			first.DirectPath = e.DirectPath
		}
	}
	known = slices.DeleteFunc(known, func(e Entry) bool { return sameMessage(e.Request, first.Request) })
	p.index.put(ctx, []Entry{first}) // so that a late answer can be opened
	return append([]Entry{first}, known...), nil
}
