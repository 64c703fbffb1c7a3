package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

const (
	// patience bounds the whole demo.
	patience = 2 * time.Minute
	// demoTimeout is how long the demo's gateway waits for a phone. One that answers does so in milliseconds.
	demoTimeout = 3 * time.Second
)

// The messages of the demo. All are in the chat with somebody who writes to both accounts.
const (
	healsID  types.MessageID = "3EB0AA01" // to the first account
	lostID   types.MessageID = "3EB0AA02"
	silentID types.MessageID = "3EB0AA03"
	otherID  types.MessageID = "3EB0BB01" // to the second one
	awayID   types.MessageID = "3EB0BB02"
	bothID   types.MessageID = "3EB0CC01" // to both, each with a file of its own
)

// The somebody, with both addresses.
var (
	sender    = types.NewJID("447700900123", types.DefaultUserServer)
	senderLID = types.NewJID("200000000000123", types.HiddenUserServer)
)

// demo runs the gateway, unchanged, with a WhatsApp that is in this process, and with a PostgreSQL of its own unless a database
// is named. The error tells what went other than it has to.
func demo(ctx context.Context, out io.Writer, dsn string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the demo was not through after %v", patience))
	defer cancel()
	s := &stage{out: out, phones: make(map[string]*wabox.Account), files: make(map[file]*wabox.Media)}
	if dsn == "" {
		private, stop, err := startPostgres(ctx)
		if err != nil {
			return err
		}
		defer stop()
		dsn = private
		s.say("demo", "started a private PostgreSQL")
	}
	var err error
	if s.box, err = wabox.New(); err != nil {
		return err
	}
	defer s.box.Close()
	s.configure(dsn, demoTimeout)
	if err := s.play(ctx); err != nil {
		s.say("demo", "WRONG: %v", err)
		return err
	}
	s.say("demo", "right: this is how it has to go")
	return nil
}

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
	s.cfg.dsn, s.cfg.timeout, s.cfg.log, s.cfg.newClient = dsn, timeout, slog.New(teller{s}), s.newClient
}

func (s *stage) newClient(device *store.Device, log waLog.Logger) *whatsmeow.Client {
	client := whatsmeow.NewClient(device, log)
	if phone := s.phones[device.GetJID().User]; phone != nil {
		phone.Configure(client)
	}
	return client
}

// link gives a new device of the database an account in the box, as linking would.
func (s *stage) link(ctx context.Context, g *gateway) (phone string, err error) {
	device := g.sessions.NewDevice()
	account := s.box.Pair(device)
	s.phones[account.PN.User] = account
	return account.PN.User, device.Save(ctx)
}

func (s *stage) play(ctx context.Context) error {
	if err := s.linkBoth(ctx); err != nil {
		return fmt.Errorf("linking: %w", err)
	}
	if err := s.withGateway(ctx, s.receive); err != nil {
		return fmt.Errorf("before the restart: %w", err)
	}

	s.say("demo", "the gateway has ended; months pass, and all files expire on WhatsApp's servers")
	for _, media := range s.files {
		s.box.Expire(media)
	}
	s.phones[s.a].Forget(lostID)
	s.phones[s.a].Script(silentID, wabox.Answer{None: true})
	if err := s.withGateway(ctx, s.walk); err != nil {
		return fmt.Errorf("after the restart: %w", err)
	}
	return nil
}

func (s *stage) linkBoth(ctx context.Context) error {
	g, err := open(ctx, s.cfg)
	if err != nil {
		return err
	}
	defer g.close()
	if len(g.accounts) > 0 {
		return errors.New("the database has accounts already; name an empty one with -dsn")
	}
	if s.a, err = s.link(ctx, g); err != nil {
		return err
	}
	if s.b, err = s.link(ctx, g); err != nil {
		return err
	}
	s.say("demo", "linked two accounts, %s and %s, in one database", s.a, s.b)
	return nil
}

// receive sends media to both accounts, and gets it from the gateway while it is fresh.
func (s *stage) receive(ctx context.Context) error {
	s.say("demo", "somebody sends pictures to both")
	for _, f := range []file{{s.a, healsID}, {s.a, lostID}, {s.a, silentID}, {s.b, otherID}, {s.b, awayID}, {s.a, bothID}, {s.b, bothID}} {
		plaintext := make([]byte, 100_000+rand.IntN(100_000))
		for i := range plaintext {
			plaintext[i] = byte(rand.Uint32())
		}
		media := s.box.Upload(plaintext, whatsmeow.MediaImage)
		s.files[f] = media
		from := wabox.Incoming{ID: f.id, From: sender, Alt: senderLID}
		if _, err := s.phones[f.account].Deliver(from, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			return err
		}
	}
	for f := range s.files { // messages are stored as they come, a moment from now
		for {
			got, err := s.get(ctx, f.account, sender.String(), f.id)
			if err != nil {
				return err
			}
			if got.status == http.StatusOK {
				break
			}
			if got.status != http.StatusNotFound {
				return fmt.Errorf("%s of %s: %s", f.id, f.account, got)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return s.expect(ctx, step{"while it is fresh", s.a, sender.String(), healsID, http.StatusOK, false})
}

// A step is a request to the gateway, and the answer that it has to get.
type step struct {
	story   string
	account string
	chat    string
	id      types.MessageID
	status  int
	retry   bool
}

// walk asks the gateway for everything after it has expired.
func (s *stage) walk(ctx context.Context) error {
	chat := sender.String()
	for _, next := range []step{
		{"the phone uploads it again", s.a, chat, healsID, http.StatusOK, false},
		{"the same once more, out of the cache", s.a, chat, healsID, http.StatusOK, false},
		{"under the chat's other address, a LID", s.a, senderLID.String(), healsID, http.StatusOK, false},
		{"the phone has lost it", s.a, chat, lostID, http.StatusGone, false},
		{"the phone is silent", s.a, chat, silentID, http.StatusGatewayTimeout, true},
		{"no such message", s.a, chat, "3EB0DD01", http.StatusNotFound, false},
		{"the chat is no chat", s.a, "somebody", healsID, http.StatusBadRequest, false},
		{"it is the other account's", s.a, chat, otherID, http.StatusNotFound, false},
		{"the other account gets it", s.b, chat, otherID, http.StatusOK, false},
		{"both have this id, this is the first one's", s.a, chat, bothID, http.StatusOK, false},
		{"both have this id, this is the second one's", s.b, chat, bothID, http.StatusOK, false},
		{"there is no such account", "4915550009999", chat, healsID, http.StatusNotFound, false},
	} {
		if err := s.expect(ctx, next); err != nil {
			return err
		}
	}
	heals := 0
	for _, r := range s.phones[s.a].Requests() {
		if r.ID == healsID {
			heals++
		}
	}
	if heals != 1 {
		return fmt.Errorf("the phone was asked for %s %d times, which once is enough for", healsID, heals)
	}
	s.say("demo", "the second account loses its connection")
	s.phones[s.b].Offline(true)
	if err := s.expect(ctx, step{"a file in the cache needs no connection", s.b, chat, otherID, http.StatusOK, false}); err != nil {
		return err
	}
	return s.expect(ctx, step{"one that has expired does", s.b, chat, awayID, http.StatusServiceUnavailable, true})
}

// expect makes a request, prints the answer, and compares it.
func (s *stage) expect(ctx context.Context, want step) error {
	got, err := s.get(ctx, want.account, want.chat, want.id)
	if err != nil {
		return err
	}
	s.say("demo", "%-54s GET …/%s/…/%s/media: %s", want.story, want.account, want.id, got)
	if got.status != want.status {
		return fmt.Errorf("%s: got status %d, want %d", want.story, got.status, want.status)
	}
	if want.status == http.StatusOK {
		return got.judge(s.files[file{want.account, want.id}])
	}
	var body struct {
		Error string `json:"error"`
		Retry *bool  `json:"retry"`
	}
	if err := json.Unmarshal(got.body, &body); err != nil || body.Error == "" || body.Retry == nil || *body.Retry != want.retry {
		return fmt.Errorf("%s: the body should have an error, and retry %v, and is %s", want.story, want.retry, got.body)
	}
	if strings.ContainsAny(body.Error, "?=") || strings.Contains(body.Error, "://") || strings.Contains(body.Error, "/v/") {
		return fmt.Errorf("%s: the error speaks of paths: %s", want.story, body.Error)
	}
	return nil
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

// A teller is the log: it tells what the gateway and the plugins say. whatsmeow's own words are left out, as the demo breaks a
// connection on purpose.
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
