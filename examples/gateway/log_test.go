package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestLogLinesCannotBeForged(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"text", "json"} {
		var out bytes.Buffer
		log, err := newLog(&out, format, slog.LevelInfo)
		if err != nil {
			t.Fatal(err)
		}
		forged := "3EB0\n" + `time=2026-01-01T00:00:00Z level=ERROR msg=forged` + "\r\u2028{\"msg\":\"forged\"}\x1b[2J"
		info := &types.MessageInfo{ID: forged}
		log.Error("one", about(new(account), info, "error", errors.New(forged))...)
		waLogger{log, "Client"}.Sub("Reupload").Warnf("two %s", forged)
		log.Error(forged)
		lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
		if len(lines) != 3 {
			t.Errorf("%s: three lines became %d:\n%s", format, len(lines), out.String())
		}
		if strings.ContainsAny(out.String(), "\r\u2028\x1b") {
			t.Errorf("%s: there are characters that a terminal obeys: %q", format, out.String())
		}
		for _, line := range lines {
			if strings.Contains(line, " msg=forged\n") || strings.HasPrefix(line, "time=2026-01-01T00:00:00Z level=ERROR msg=forged") {
				t.Errorf("%s: %s", format, line)
			}
		}
	}
	if _, err := newLog(nil, "xml", slog.LevelInfo); err == nil || !strings.Contains(err.Error(), "-log-format") {
		t.Errorf("got %v", err)
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, _ := newLog(&out, "text", slog.LevelInfo)
	for _, url := range []string{
		`Get "https://mmg.whatsapp.net/v/x.enc?ccb=1&oh=SECRET&oe=SECRET": EOF`,
		`Get "https://mmg.whatsapp.net/v/x.enc&hash=SECRET": EOF`,
	} {
		log.Error(url, "error", fmt.Errorf("wrapped: %w", errors.New(url)), "text", url)
		waLogger{log, "Client"}.Errorf("%v", errors.New(url))
	}
	if strings.Contains(out.String(), "SECRET") || strings.Count(out.String(), "mmg.whatsapp.net") != 8 {
		t.Errorf("got %s", out.String())
	}
}

// A safeBuffer can be written to by all goroutines that log.
type safeBuffer struct {
	mu   sync.Mutex
	said bytes.Buffer // not embedded, as its ReadFrom takes no lock
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.said.String()
}

// TestLogHasNoSecrets heals a file, and fails to heal another, with a log that leaves nothing out.
// There are no secrets in what callers and operators see either, nor in the names of what is kept.
func TestLogHasNoSecrets(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	out, shown := new(safeBuffer), make(map[string]string)
	s.cfg.log, _ = newLog(out, "text", slog.LevelDebug)
	s.cfg.cache.dir = t.TempDir()
	err := s.withGateway(t.Context(), func(context.Context) error {
		for id, want := range map[types.MessageID]int{"HEALS": http.StatusOK, "REFUSED": http.StatusBadGateway} {
			media := s.upload("secret " + id)
			if want != http.StatusOK {
				s.phones[s.a].Script(id, wabox.Answer{Ack: wabox.AckError("479")})
			}
			s.box.Expire(media)
			s.deliver(t, id, &waE2E.Message{ImageMessage: media.Image()})
			got := s.waitStored(t, id)
			if got.status != want {
				t.Errorf("%s: got %s", id, got)
			} else if want != http.StatusOK {
				shown["the answer"] = string(got.body)
			}
			shown["the headers for "+id] = fmt.Sprint(got.header)
		}
		for _, path := range []string{"/", "/accounts", "/metrics", "/readyz"} {
			got := s.request(t, http.MethodGet, path)
			shown[path], shown["the headers for "+path] = string(got.body), fmt.Sprint(got.header)
		}
		files, err := os.ReadDir(s.cfg.cache.dir)
		for _, file := range files {
			shown["the cache"] += file.Name() + "\n"
		}
		if err != nil || len(files) != 1 {
			t.Errorf("the cache has %q, %v", shown["the cache"], err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if !strings.Contains(out.String(), "id=REFUSED") || !strings.Contains(out.String(), "Healed a download") {
		t.Errorf("nothing was logged: %s", out.String())
	}
	shown["the log"] = out.String()
	for where, text := range shown {
		if text == "" {
			t.Errorf("%s: nothing", where)
		}
		for _, leak := range s.box.Leaks([]byte(text)) {
			t.Errorf("%s: %s", where, leak)
		}
	}
	for _, node := range []string{"<receipt", "<media_conn"} {
		if strings.Contains(out.String(), node) {
			t.Errorf("the log has %s", node)
		}
	}
}

// An end that WhatsApp means is in the log, with the account and the reason.
func TestEndIsLogged(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	out := new(safeBuffer)
	s.cfg.log, _ = newLog(out, "text", slog.LevelError)
	err := s.withGateway(t.Context(), func(context.Context) error {
		a := s.g.account(s.a)
		s.g.handle(a, new(events.ClientOutdated))
		if a.online.Load() {
			t.Error("it counts as online")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if log := out.String(); !strings.Contains(log, "for good") || !strings.Contains(log, s.a) || !strings.Contains(log, "reason=") {
		t.Errorf("the log is %s", log)
	}
}

// In the demo, a line of the log has all that the record has.
func TestTeller(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	log := slog.New(teller{&stage{out: &out}})
	log.Warn("It ends", "module", "Client/Reupload", "why", "a reason", "n", 2)
	log.Info("On", "module", "Client/Socket")
	log.Debug("quiet")
	if got, want := out.String(), "plugin     warn: It ends why=\"a reason\" n=\"2\"\n"; got != want {
		t.Errorf("it says %q, not %q", got, want)
	}
}
