package reupload_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/whatsmeow-plugins/reupload"
)

var (
	goodPaths = []string{
		"/v/t62.7118-24/13375842_1204_n.enc?ccb=11-4&oh=01_Q5AaIC&oe=66A1B2C3&_nc_sid=5e03e0",
		"/v/a", "/", "/?", "/o1/v/t24/f2/m234/AQ?ccb=9-4&mms3=true", "/v/%20a", "/v/%0f%F9%aA", "/v/a:b@c", "/a//b", "/v/a?b=%zz", "/v/ü",
	}
	badPaths = []string{
		"", "v/a", "//evil.example/v/a", "@evil.example/v/a", ".evil.example/v/a", ":443/v/a", "https://evil.example/v/a",
		"/\\evil.example/a", "\\\\evil.example/a", "/v/a#fragment", "/v/a#", "/v/a b", "/v/a\r\nHost: evil.example", "/v/a\x00", "/v/\x7f",
		"/v/\u0085a", "/v/\u2028a", "/v/%zz", "/v/%", "/v/%2", "/v/%2?b=c", "/v/%2g", "/v/%20%", "/v/\xff\xfe", " /v/a", "?a=b",
	}
)

func TestCheckDirectPath(t *testing.T) {
	t.Parallel()
	for _, path := range goodPaths {
		if err := reupload.CheckDirectPath(path); err != nil {
			t.Errorf("%q is refused: %v", path, err)
		}
	}
	for _, path := range badPaths {
		err := reupload.CheckDirectPath(path)
		if err == nil {
			t.Errorf("%q is accepted", path)
		} else if path != "" && strings.Contains(err.Error(), path) {
			t.Errorf("the error quotes the path: %v", err)
		}
	}
}

// Each message with a file has a path, which is checked on whatsmeow's handler queue.
func TestCheckDirectPathAllocatesNothing(t *testing.T) {
	for _, path := range goodPaths {
		if n := testing.AllocsPerRun(100, func() { _ = reupload.CheckDirectPath(path) }); n > 0 {
			t.Errorf("%q costs %v allocations", path, n)
		}
	}
}

// checkWithURL is checkDirectPath in other words: what a URL is, net/url says.
func checkWithURL(path string) error {
	isForbidden := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || strings.ContainsRune(`\#`, r) }
	if len(path) > 2048 || !utf8.ValidString(path) || strings.ContainsFunc(path, isForbidden) {
		return errors.New("its characters")
	}
	u, err := url.Parse(path)
	switch {
	case err != nil:
		return err
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"), u.Scheme != "", u.Host != "", u.User != nil, u.Opaque != "":
		return errors.New("it is more or less than a path with a query")
	}
	return nil
}

func FuzzCheckDirectPath(f *testing.F) {
	for _, path := range goodPaths {
		f.Add(path)
	}
	for _, path := range badPaths {
		f.Add(path)
	}
	f.Add("/" + strings.Repeat("p", 2047))
	f.Add("/" + strings.Repeat("p", 2048))
	f.Fuzz(func(t *testing.T, path string) {
		if got, want := reupload.CheckDirectPath(path), checkWithURL(path); (got == nil) != (want == nil) {
			t.Errorf("%q: %v, and with net/url %v", path, got, want)
		}
	})
}
