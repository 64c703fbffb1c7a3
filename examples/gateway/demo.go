package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

const (
	// patience bounds the whole demo.
	patience = 2 * time.Minute
	// demoTimeout is how long the demo's gateway waits for a phone. One that answers does
	// so in milliseconds.
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

// demo runs the gateway, unchanged, with a WhatsApp that is in this process, and with a PostgreSQL
// of its own unless a database is named. The error tells what went other than it has to.
func demo(ctx context.Context, out io.Writer, dsn string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("the demo was not through after %v", patience))
	defer cancel()
	box, err := wabox.New(wabox.Sockets())
	if err != nil {
		return err
	}
	defer box.Close()
	return demoIn(ctx, out, dsn, box)
}

func demoIn(ctx context.Context, out io.Writer, dsn string, box *wabox.Box) error {
	s := &stage{out: out, box: box, phones: make(map[string]*wabox.Account), files: make(map[file]*wabox.Media)}
	if dsn == "" {
		private, stop, err := startPostgres(ctx)
		if err != nil {
			return err
		}
		defer stop()
		dsn = private
		s.say("demo", "started a private PostgreSQL")
	}
	s.configure(dsn, demoTimeout)
	if err := s.play(ctx); err != nil {
		s.say("demo", "WRONG: %v", err)
		return err
	}
	s.say("demo", "right: this is how it has to go")
	return nil
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
