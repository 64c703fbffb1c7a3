package wabox

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// urlToken is a parameter of the query of a media URL, which is worth the file for as long as the
// URL works. encoding/json writes & as \u0026, and net/url as %26.
var urlToken = regexp.MustCompile(`(?:\b|u0026|%26)(oh|oe|hash|_nc_sid)(?:=|%3[Dd])[\w-]`)

// keyBegins is how many bytes of a media key are enough to know it by, where its end is cut off.
const keyBegins = 12

// Leaks tells which secrets of the box's files are in something that was printed, logged or stored:
// media keys or their first 12 bytes, as bytes, in hex, in base64 or as Go prints them, files
// themselves, and the queries of their URLs, in JSON and in other URLs too. It says what there is
// and not the secret itself. A file of fewer than 8 bytes is not looked for, since such bytes occur
// by chance.
func (b *Box) Leaks(printed []byte) []string {
	var leaks []string
	if token := urlToken.FindSubmatch(printed); token != nil {
		leaks = append(leaks, fmt.Sprintf("the query of a URL: %s=", token[1]))
	}
	lower := bytes.ToLower(printed)
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	for _, m := range b.cdn.media {
		for form, key := range formsOf(m.MediaKey) {
			if bytes.Contains(printed, []byte(key)) || strings.HasPrefix(form, "in hex") && bytes.Contains(lower, []byte(key)) {
				leaks = append(leaks, fmt.Sprintf("the media key of %s %s", pathOf(m.DirectPath), form))
			}
		}
		if len(m.Plaintext) >= 8 && bytes.Contains(printed, m.Plaintext) {
			leaks = append(leaks, "the file "+pathOf(m.DirectPath))
		}
	}
	return leaks
}

// formsOf returns how a key begins, in the ways in which one is written.
func formsOf(key []byte) map[string]string {
	begin := key[:min(keyBegins, len(key))]
	quoted := strconv.Quote(string(key)) // log/slog's TextHandler prints bytes so, and %q
	return map[string]string{
		"as bytes":             string(begin),
		"in hex":               hex.EncodeToString(begin),
		"in hex with spaces":   fmt.Sprintf("% x", begin),
		"in base64":            base64.RawStdEncoding.EncodeToString(begin),
		"in base64 for URLs":   base64.RawURLEncoding.EncodeToString(begin),
		"as a list of numbers": strings.Trim(fmt.Sprint(begin), "[]"),
		"as Go code":           strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", begin), "[]byte{"), "}"),
		"in quotes":            quoted[1:min(1+2*keyBegins, len(quoted)-1)],
	}
}
