package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A stage is the world around the gateway: a WhatsApp with two phones.
type stage struct {
	box *wabox.Box
	cfg config
	// phones are by phone number. The first account is a, the second one is b.
	phones map[string]*wabox.Account
	a, b   string
	files  map[file]*wabox.Media
	g      *gateway // that runs now
	base   string   // its URL

	mu  sync.Mutex
	out io.Writer
}

type file struct {
	account string
	id      types.MessageID
}

func (s *stage) configure(dsn string, timeout time.Duration) {
	s.cfg = defaults()
	s.cfg.dsn, s.cfg.timeout, s.cfg.log, s.cfg.transport = dsn, timeout, slog.New(teller{s}), s.box.Transport()
}

// link gives a new device of the database an account in the box, as linking would.
func (s *stage) link(ctx context.Context, g *gateway) (phone string, err error) {
	device := g.sessions.NewDevice()
	account := s.box.Pair(device)
	s.phones[account.PN.User] = account
	return account.PN.User, device.Save(ctx)
}

// An answer is what the gateway says.
type answer struct {
	status int
	header http.Header
	length int64
	body   []byte
	took   time.Duration
}

func (a answer) String() string {
	line := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	if a.status == http.StatusOK {
		return fmt.Sprintf("%s, %d bytes of %s, SHA-256 %.4x…", line, a.length, a.header.Get("Content-Type"), sha256.Sum256(a.body))
	}
	return line + " " + strings.TrimSpace(string(a.body))
}

func (a answer) judge(want *wabox.Media) error {
	if !bytes.Equal(a.body, want.Plaintext) {
		return errors.New("the file is not the original")
	}
	if got := a.header.Get("Content-Type"); got != "image/jpeg" || a.length != int64(want.Length) {
		return fmt.Errorf("the file should have %d bytes of image/jpeg, and is said to have %d of %s", want.Length, a.length, got)
	}
	if how, params, err := mime.ParseMediaType(a.header.Get("Content-Disposition")); err != nil || how != "inline" || params["filename"] == "" {
		return fmt.Errorf("Content-Disposition is %q", a.header.Get("Content-Disposition"))
	}
	return nil
}

func (s *stage) get(ctx context.Context, account, chat string, id types.MessageID) (answer, error) {
	url := fmt.Sprintf("%s/accounts/%s/chats/%s/messages/%s/media", s.base, account, chat, id)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	start := time.Now()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, resp.ContentLength, body, time.Since(start)}, err
}

// withGateway runs the gateway, as main does, while f plays with it.
func (s *stage) withGateway(ctx context.Context, f func(context.Context) error) (err error) {
	g, err := open(ctx, s.cfg)
	if err != nil {
		return err
	}
	defer g.close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.g, s.base = g, "http://"+listener.Addr().String()
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- g.serve(running, listener) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	for _, phone := range s.phones {
		if err := phone.WaitOnline(ctx); err != nil {
			return fmt.Errorf("%s did not log in: %w", phone.PN.User, err)
		}
	}
	s.say("demo", "the gateway runs, and both accounts are connected")
	return f(ctx)
}

func (s *stage) say(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%-9s  %s\n", who, redact(fmt.Sprintf(format, args...)))
}

// A teller is the log: it tells what the gateway and the plugins say. whatsmeow's own words are
// left out, as the demo breaks a connection on purpose.
type teller struct{ *stage }

func (t teller) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (t teller) WithAttrs([]slog.Attr) slog.Handler               { return t }
func (t teller) WithGroup(string) slog.Handler                    { return t }

func (t teller) Handle(_ context.Context, record slog.Record) error {
	who, line := "gateway", record.Message
	record.Attrs(func(a slog.Attr) bool {
		if a.Key == "module" {
			who = a.Value.String()
		} else {
			line += fmt.Sprintf(" %s=%q", a.Key, a.Value)
		}
		return true
	})
	if record.Level > slog.LevelInfo {
		line = strings.ToLower(record.Level.String()) + ": " + line
	}
	switch who {
	case "Client/Reupload":
		t.say("plugin", "%s", line)
	case "gateway":
		t.say(who, "%s", line)
	}
	return nil
}
