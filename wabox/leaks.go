package wabox

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// urlToken is a parameter of the query of a media URL, which is worth the file for as long as the
// URL works.
var urlToken = regexp.MustCompile(`\b(oh|oe|hash|_nc_sid)=[\w-]`)

// Leaks tells which secrets of the box's files are in something that was printed, logged or stored:
// media keys, as bytes, in hex, in base64 or as Go prints them, files themselves, and the queries
// of their URLs. It says what there is and not the secret itself. A file of fewer than 8 bytes is
// not looked for, since such bytes occur by chance.
func (b *Box) Leaks(printed []byte) []string {
	var leaks []string
	if token := urlToken.Find(printed); token != nil {
		leaks = append(leaks, fmt.Sprintf("the query of a URL: %s", token[:len(token)-1]))
	}
	lower := bytes.ToLower(printed)
	b.cdn.mu.Lock()
	defer b.cdn.mu.Unlock()
	for _, m := range b.cdn.media {
		for form, key := range formsOf(m.MediaKey) {
			if bytes.Contains(printed, []byte(key)) || form == "in hex" && bytes.Contains(lower, []byte(key)) {
				leaks = append(leaks, fmt.Sprintf("the media key of %s %s", pathOf(m.DirectPath), form))
			}
		}
		if len(m.Plaintext) >= 8 && bytes.Contains(printed, m.Plaintext) {
			leaks = append(leaks, "the file "+pathOf(m.DirectPath))
		}
	}
	return leaks
}

// formsOf returns the ways in which a key is written.
func formsOf(key []byte) map[string]string {
	return map[string]string{
		"as bytes":             string(key),
		"in hex":               hex.EncodeToString(key),
		"in base64":            strings.TrimRight(base64.StdEncoding.EncodeToString(key), "="),
		"in base64 for URLs":   strings.TrimRight(base64.URLEncoding.EncodeToString(key), "="),
		"as a list of numbers": strings.Trim(fmt.Sprint(key), "[]"),
		"as Go code":           strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", key), "[]byte{"), "}"),
	}
}
