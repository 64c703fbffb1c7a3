package reupload

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
)

// Whatever a path is called, as much as a real one takes is kept of it, and never that a file has
// moved to where it was.
func TestPathsKeepsWhatCanBeUsed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxDirectPath)
	for path, want := range map[string]string{"/v/a": "/new", "/v/" + long: "", "/v/a?" + long: "", "/new": ""} {
		p, at := newPaths(), location{directPathOf(path), "hash"}
		p.move(at, "/new")
		if got := p.movedTo(at); got != want {
			t.Errorf("%.20s has moved to %q", path, got)
		}
		p.spoil(at)
		if isBad := len(path) <= maxDirectPath; p.isBad(at) != isBad {
			t.Errorf("%.20s is bad: %t", path, p.isBad(at))
		}
	}
}

// Whatever path a message brings, a download of it is read as it was written, and moves to another
// path with the hash that it had.
func FuzzDownloadURL(f *testing.F) {
	for _, path := range []string{"/v/t62.7118-24/1_n.enc?ccb=11-4&oh=x&oe=7FFFFFFF", "/v/1.enc", "/v/a&hash=b", "/v/%41?a=&hash=&mms-type=thumbnail-link", standInPath} {
		f.Add(path, "/v/2.enc?oh=y", []byte("a hash"), "image")
	}
	f.Fuzz(func(t *testing.T, from, to string, seed []byte, mmsType string) {
		hash := sha256.Sum256(seed)
		tail := "&hash=" + base64.URLEncoding.EncodeToString(hash[:]) + "&mms-type=" + mmsType + "&__wa-mms="
		req, err := http.NewRequest(http.MethodGet, "https://mmg.whatsapp.net"+from+tail, nil)
		if err != nil {
			return
		}
		file, ok := parseDownload(req)
		isUsual := req.URL.String() == "https://mmg.whatsapp.net"+from+tail // nothing in it had to be escaped
		if checkDirectPath(from) != nil || checkDirectPath(to) != nil || strings.ContainsAny(mmsType, "&?#=") || !ok || !isUsual {
			return // it must not panic
		}
		if file.path != directPathOf(from) || !bytes.Equal(file.fileEncSHA256(), hash[:]) {
			t.Errorf("%q is read as %q", from, file.path)
		}
		moved, err := file.requestAt(req, to)
		if err != nil || !strings.Contains(to, "?") || !strings.HasPrefix(moved.URL.String(), "https://mmg.whatsapp.net"+to) {
			return // it is a URL as whatsmeow makes none
		}
		if again, ok := parseDownload(moved); !ok || again.path != directPathOf(to) || again.hash != file.hash || moved.URL.Host != req.URL.Host {
			t.Errorf("%q moves to %q", to, again.path)
		}
	})
}
