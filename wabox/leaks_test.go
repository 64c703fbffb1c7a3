package wabox_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
)

func TestLeaks(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.Upload([]byte("a picture of mine"), whatsmeow.MediaImage)
	small := box.Upload([]byte("a"), whatsmeow.MediaImage)
	key := media.MediaKey
	for what, printed := range map[string]string{
		"as bytes":                 string(key),
		"in hex":                   strings.ToUpper(hex.EncodeToString(key)),
		"in base64":                base64.RawStdEncoding.EncodeToString(key),
		"in base64 for URLs":       base64.URLEncoding.EncodeToString(key),
		"as a list of numbers":     fmt.Sprint(key),
		"as Go code":               fmt.Sprintf("%#v", key),
		"in hex with spaces":       fmt.Sprintf("% X", key),
		"in quotes":                fmt.Sprintf("%q", key),
		"the file":                 "a picture of mine",
		"the query of a URL: oh=":  "/v/t62.7118-24/1?oh=01_abc",
		"the query of a URL: hash": "https://mmg.whatsapp.net/v/1&hash=abc",
	} {
		leaks := box.Leaks([]byte("printed: " + printed + "!"))
		if len(leaks) == 0 || !strings.Contains(strings.Join(leaks, "\n"), what) {
			t.Errorf("%s: got %q", what, leaks)
		}
		for _, leak := range leaks {
			if strings.Contains(leak, "abc") || strings.Contains(leak, media.DirectPath) {
				t.Errorf("told %q", leak)
			}
		}
	}
	// As JSON, in another URL, and cut off.
	asJSON, err := json.Marshal(map[string]any{"path": media.DirectPath})
	if err != nil {
		t.Fatal(err)
	}
	for printed, what := range map[string]string{
		string(asJSON): "the query of a URL: oh=",
		"https://proxy.example/?to=" + url.QueryEscape(media.DirectPath): "the query of a URL: oh=",
		hex.EncodeToString(key)[:30]:                                     "in hex",
		base64.StdEncoding.EncodeToString(key)[:20]:                      "in base64",
		fmt.Sprintf("%q", key)[:40]:                                      "in quotes",
	} {
		if leaks := box.Leaks([]byte(printed)); !strings.Contains(strings.Join(leaks, "\n"), what) {
			t.Errorf("%s: got %q", what, leaks)
		}
	}
	path, _, _ := strings.Cut(media.DirectPath, "?")
	for _, printed := range []string{"", "Healed a download of " + path, string(small.Plaintext), hex.EncodeToString(media.FileEncSHA256), "oh="} {
		if leaks := box.Leaks([]byte(printed)); len(leaks) > 0 {
			t.Errorf("%q: got %q", printed, leaks)
		}
	}
	if leaks := newBox(t).Leaks(key); len(leaks) > 0 {
		t.Errorf("another box: got %q", leaks)
	}
}
