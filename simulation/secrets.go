package simulation

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	waLog "go.mau.fi/whatsmeow/util/log"
)

// secrets are what may be in no log, error or printed value: media keys in hexadecimal, base64 or
// as they are, plaintexts, and the queries of paths.
type secrets struct {
	mu    sync.Mutex
	begin map[[window]byte]struct{} // how the secrets begin
}

// window is how many bytes of a secret are enough to know it by.
const window = 10

func (s *secrets) add(key []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begin == nil {
		s.begin = make(map[[window]byte]struct{})
	}
	forms := []string{
		string(key), hex.EncodeToString(key), strings.ToUpper(hex.EncodeToString(key)), base64.StdEncoding.EncodeToString(key),
		base64.URLEncoding.EncodeToString(key), strings.Trim(fmt.Sprint(key), "[]"),
	}
	for _, form := range forms {
		s.begin[[window]byte([]byte(form))] = struct{}{}
	}
}

// find returns what is secret in a text, or "".
func (s *secrets) find(text string) string {
	if strings.Contains(text, plaintextMark) {
		return "a plaintext"
	}
	if strings.Contains(text, "oh=01_") {
		return "a path with its query"
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := 0; i+window <= len(text); i++ {
		if _, found := s.begin[[window]byte([]byte(text[i:i+window]))]; found {
			return "a media key"
		}
	}
	return ""
}

// look looks for secrets in a value that the plugin has returned.
func (w *World) look(what string, value any) {
	if value == nil {
		return
	}
	texts := []string{fmt.Sprintf("%v\n%+v", value, value)}
	if err, ok := value.(error); ok {
		texts = append(texts, chain(err)...)
	}
	facts := []string{"printed"}
	for i, text := range texts {
		if found := w.secrets.find(text); found != "" {
			if i > 0 {
				facts = []string{"chain"}
			}
			w.violate(Violation{Rule: "secrets", Facts: facts, What: fmt.Sprintf("%s has %s in it: %T", what, found, value)})
			return
		}
	}
	var line strings.Builder // what log/slog prints of it as JSON
	slog.New(slog.NewJSONHandler(&line, nil)).Info("", "value", value)
	if found := w.secrets.find(line.String()); found != "" {
		w.violate(Violation{Rule: "secrets", Facts: []string{"JSON"}, What: fmt.Sprintf("%s, a %T as log/slog's JSON, has %s in it", what, value, found)})
	}
}

// chain returns the texts of all errors that an error wraps.
func chain(err error) (texts []string) {
	switch wraps := err.(type) {
	case interface{ Unwrap() error }:
		if inner := wraps.Unwrap(); inner != nil {
			texts = append(chain(inner), inner.Error())
		}
	case interface{ Unwrap() []error }:
		for _, inner := range wraps.Unwrap() {
			texts = append(append(texts, chain(inner)...), inner.Error())
		}
	}
	return texts
}

// A log is the plugin's own, which is looked through for secrets.
type log struct{ *World }

func (l *log) add(level, format string, args []any) {
	text := fmt.Sprintf(format, args...)
	if found := l.secrets.find(text); found != "" {
		l.violate(Violation{Rule: "secrets", Facts: []string{"log"}, What: fmt.Sprintf("the log has %s in it: %s %s", found, level, format)})
	}
}

func (l *log) Sub(string) waLog.Logger           { return l }
func (l *log) Debugf(format string, args ...any) { l.add("DEBUG", format, args) }
func (l *log) Infof(format string, args ...any)  { l.add("INFO", format, args) }
func (l *log) Warnf(format string, args ...any)  { l.add("WARN", format, args) }
func (l *log) Errorf(format string, args ...any) { l.add("ERROR", format, args) }
