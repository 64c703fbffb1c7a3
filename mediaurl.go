package reupload

import (
	"bytes"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
)

// A directPath is a direct path cut at the question mark, as it can be taken from a
// URL without copying.
type directPath struct{ path, query string }

func (d directPath) String() string {
	if d.query == "" {
		return d.path
	}
	return d.path + "?" + d.query
}

func (d directPath) size() int { return len(d.path) + 1 + len(d.query) }

// directPathOf cuts a direct path that checkDirectPath has passed.
func directPathOf(path string) directPath {
	path, query, _ := strings.Cut(path, "?")
	return directPath{path, query}
}

// pathIn returns the direct path that media says, or that of its URL where it says none. It is ""
// if neither can be used.
func pathIn(media whatsmeow.DownloadableMessage) string {
	path := media.GetDirectPath()
	if path == "" || path == standInPath {
		path = pathInURL(media)
	}
	if checkDirectPath(path) != nil {
		return ""
	}
	return path
}

// pathInURL returns the direct path in the URL that media can have besides, or "". Some bots keep
// nothing but the URL.
func pathInURL(media whatsmeow.DownloadableMessage) string {
	if has, ok := media.(interface{ GetURL() string }); ok {
		return pathOf(has.GetURL())
	}
	return ""
}

// pathOf returns the direct path of what a bot has kept: that path, or a URL of which host and
// scheme are left out, as is what whatsmeow appends to a path. It is "" for anything else.
func pathOf(kept string) string {
	if u, err := url.Parse(kept); err == nil && u.Host != "" {
		kept = u.EscapedPath()
		if query, _, _ := strings.Cut(u.RawQuery, "&hash="); query != "" {
			kept += "?" + query
		}
	}
	if checkDirectPath(kept) != nil {
		return ""
	}
	return kept
}

// standInPath is the direct path of media that has none: whatsmeow makes no request without. Our
// transport knows it, and answers the request itself.
const standInPath = "/reupload/no-path-yet?ask-the-phone"

var standIn = directPathOf(standInPath)

// A location is a direct path and the file that should be there. The sender of a message chooses
// its path, but has no other file with the same hash.
type location struct {
	path directPath
	hash string // of the encrypted file, as the URL has it
}

// clone returns a location that keeps nothing of a URL alive.
func (p location) clone() location {
	return location{directPath{strings.Clone(p.path.path), strings.Clone(p.path.query)}, strings.Clone(p.hash)}
}

// A download is what whatsmeow's download URL says:
//
//	https://HOST + direct path with its query + &hash=BASE64URL(encSHA256)&mms-type=TYPE&__wa-mms=
//
// A direct path that has lost its query makes a URL without a question mark.
type download struct {
	path   directPath
	hash   string // base64; empty for media that is not encrypted
	suffix string // what follows the direct path, without its ampersand
	isPart bool   // of the account's history
}

// parseDownload reports whether a request downloads media of a message, or a part of the history.
// Uploads, app state and link previews are not for us. It allocates nothing: it is all that a
// healthy download costs.
func parseDownload(req *http.Request) (d download, ok bool) {
	if req.Method != http.MethodGet {
		return download{}, false
	}
	d.path = directPath{req.URL.EscapedPath(), req.URL.RawQuery}
	from := &d.path.query
	if *from == "" {
		from = &d.path.path
	}
	whole := *from
	before, rest, found := cutLast(whole, "&hash=")
	if !found {
		return download{}, false
	}
	*from, d.suffix = before, whole[len(before)+1:]
	hash, rest, _ := strings.Cut(rest, "&mms-type=")
	d.hash = hash
	mmsType, _, _ := strings.Cut(rest, "&")
	switch mmsType {
	case "md-app-state", "thumbnail-link": // see canReupload
		return download{}, false
	case "md-msg-hist":
		d.isPart = true
	}
	return d, true
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// isStripped reports whether the direct path has lost its query.
func (d download) isStripped() bool { return d.path.query == "" && !d.isStandIn() }

func (d download) isStandIn() bool {
	return d.path.path == standIn.path && d.path.query == standIn.query
}

// location returns where the caller expects the file.
func (d download) location() location { return location{d.path, d.hash} }

// at returns where the file is expected under another path, which checkDirectPath has passed.
func (d download) at(path string) location { return location{directPathOf(path), d.hash} }

// fileEncSHA256 returns the hash of the encrypted file, 32 bytes, or nil.
func (d download) fileEncSHA256() []byte {
	hash, err := base64.URLEncoding.DecodeString(d.hash)
	if err != nil || len(hash) != fileHashSize {
		return nil
	}
	return hash
}

// requestAt returns a copy of a download request that asks the same host for another path, which
// checkDirectPath has passed.
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
	replay.Header.Del("Cookie") // the HTTP client that repeats it has the cookies, and adds them
	return replay, nil
}

// isExpired reports whether a response means that the file is gone and should be uploaded again, as
// WhatsApp Web decides it (WAWebMmsClient, validateMmsResponse): 404, 410, or a 403 that is about
// the age of the URL. Any other 403, 401, 429 or 5xx is a fault of another kind, which a new upload
// would only hide. But a path that has lost its query can never succeed, however the CDN puts it.
// The response's body stays readable from its beginning.
func (d download) isExpired(rawQuery string, resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		return true
	case http.StatusForbidden:
		return d.isStripped() || pastExpiry(rawQuery, time.Now()) || bytes.Contains(peek(resp), []byte("URL signature expired"))
	case http.StatusBadRequest:
		return d.isStripped()
	}
	return false
}

// pastExpiry reads the oe parameter of a media URL, hexadecimal unix seconds. A file can go before,
// but never comes back after.
func pastExpiry(rawQuery string, now time.Time) bool {
	for part := range strings.SplitSeq(rawQuery, "&") {
		if value, ok := strings.CutPrefix(part, "oe="); ok {
			expiry, err := strconv.ParseInt(value, 16, 64)
			return err == nil && now.Unix() > expiry
		}
	}
	return false
}
