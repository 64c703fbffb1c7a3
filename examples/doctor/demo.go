package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// demoTime bounds the whole demo.
const demoTime = time.Minute

// demo runs the doctor, unchanged, with a WhatsApp that is in this process. The error tells what
// went other than it has to.
func demo(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTime, fmt.Errorf("the demo was not through after %v", demoTime))
	defer cancel()
	dir, err := os.MkdirTemp("", "reupload-doctor-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	box, err := wabox.New()
	if err != nil {
		return err
	}
	defer box.Close()
	s := newStage(box, dir, out)
	s.cfg.pause, s.cfg.wait, s.cfg.files = 500*time.Millisecond, 3*time.Second, 7
	if err = s.play(ctx); err != nil {
		fmt.Fprintf(out, "demo: WRONG: %v\n", err)
		return err
	}
	fmt.Fprintln(out, "\ndemo: right: this is how it has to go")
	return nil
}

// A stage is the world around the doctor: a WhatsApp, the user's phone, and a bot that has been
// there before.
type stage struct {
	box   *wabox.Box
	phone *wabox.Account
	cfg   config
	out   io.Writer
	count int
	// sent are the files of the messages that the bot has seen, by message id.
	sent map[types.MessageID]*wabox.Media
}

// The people and chats of the demo.
var (
	anna, annaLID = types.NewJID("447700900123", types.DefaultUserServer), types.NewJID("200000000000123", types.HiddenUserServer)
	ben, benLID   = types.NewJID("447700900124", types.DefaultUserServer), types.NewJID("200000000000124", types.HiddenUserServer)
	family        = types.NewJID("120363040237990503", types.GroupServer)
	list          = types.NewJID("1700000000123", types.BroadcastServer)
)

func newStage(box *wabox.Box, dir string, out io.Writer) *stage {
	s := &stage{box: box, out: out, sent: make(map[types.MessageID]*wabox.Media)}
	s.cfg = config{
		db: filepath.Join(dir, "bot.db"), state: filepath.Join(dir, "doctor.json"), record: filepath.Join(dir, "doctor-record.json"),
		files: 5, pause: 30 * time.Second, wait: 30 * time.Second, quiet: 5 * time.Second, yes: true,
		newClient: s.newClient, media: box.Transport(),
	}
	return s
}

// newClient makes a client that goes to the box. A new device gets an account there, as linking
// would give it one.
func (s *stage) newClient(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
	if device.ID == nil {
		s.phone = s.box.Pair(device)
		device.Platform = "android"
		if err := device.Save(context.Background()); err != nil {
			return nil, err
		}
		if err := device.LIDs.PutLIDMapping(context.Background(), s.phone.LID, s.phone.PN); err != nil { // as pairing does
			return nil, err
		}
		s.phone.Group(family, types.AddressingModeLID, s.phone.LID, annaLID, benLID)
	}
	client := whatsmeow.NewClient(device, log)
	s.phone.Configure(client)
	return client, nil
}

// The bot acknowledges all that comes.
type bot struct{ hears func(evt any) }

func (bot) node(*waBinary.Node)    {}
func (b bot) event(evt any) bool   { b.hears(evt); return true }
func (s *stage) note(text string)  { fmt.Fprintf(s.out, "demo: %s\n", text) }
func (s *stage) isDone(n int) bool { return n == s.count }

// asBot plays the bot that has the session, while f lets things happen. It ends when the index has
// all messages.
func (s *stage) asBot(ctx context.Context, f func() error) error {
	a, err := openAccount(ctx, s.cfg, logger{&doctor{out: s.out}}, bot{func(any) {}})
	if err != nil {
		return err
	}
	defer a.close()
	if err = a.connect(ctx, s.out, ""); err != nil {
		return err
	}
	if err = f(); err != nil {
		return err
	}
	for {
		var n int
		if err = a.db.QueryRowContext(ctx, `SELECT count(*) FROM reupload_media`).Scan(&n); err != nil || s.isDone(n) {
			return err
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the bot has seen %d files of %d: %w", n, s.count, context.Cause(ctx))
		}
	}
}

// send sends a picture, which expires when it has come.
func (s *stage) send(in wabox.Incoming, wrap ...func(*waE2E.Message) *waE2E.Message) (types.MessageID, error) {
	s.count++
	media := s.box.Upload(fmt.Appendf(nil, "picture %d, which is private", s.count), whatsmeow.MediaImage)
	s.box.Expire(media)
	msg := &waE2E.Message{ImageMessage: media.Image()}
	msg.ImageMessage.Caption = proto.String("a private caption")
	for _, f := range wrap {
		msg = f(msg)
	}
	if in.Timestamp.IsZero() {
		in.Timestamp = time.Now().Add(-time.Duration(40+s.count) * 24 * time.Hour)
	}
	id, err := s.phone.Deliver(in, msg)
	s.sent[id] = media
	return id, err
}

func asGroupStatus(msg *waE2E.Message) *waE2E.Message {
	return &waE2E.Message{GroupStatusMessageV2: &waE2E.FutureProofMessage{Message: msg}}
}

// sendHistory sends a part of the history, and then lets it expire.
func (s *stage) sendHistory() (*wabox.HistoryPart, error) {
	s.count++
	chat := proto.String(anna.String())
	part, err := s.phone.UploadHistory(&waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_RECENT.Enum(),
		Conversations: []*waHistorySync.Conversation{{ID: chat, Name: proto.String("Anna Private"), Messages: []*waHistorySync.HistorySyncMsg{{Message: &waWeb.WebMessageInfo{
			Key:              &waCommon.MessageKey{ID: proto.String("3EB0FFFF"), RemoteJID: chat},
			Message:          &waE2E.Message{Conversation: proto.String("a private text")},
			MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())),
		}}}}},
	})
	if err != nil {
		return nil, err
	}
	return part, part.Deliver()
}

func (s *stage) play(ctx context.Context) error {
	var unreadable, last types.MessageID
	err := s.asBot(ctx, func() error {
		var err error
		var errs []error
		deliver := func(in wabox.Incoming, wrap ...func(*waE2E.Message) *waE2E.Message) (id types.MessageID) {
			id, err = s.send(in, wrap...)
			errs = append(errs, err)
			return id
		}
		deliver(wabox.Incoming{From: anna, Alt: annaLID})
		unreadable = deliver(wabox.Incoming{From: ben, Alt: benLID})
		deliver(wabox.Incoming{Chat: family, From: annaLID, Alt: anna})
		last = deliver(wabox.Incoming{Chat: family, From: benLID, Alt: ben})
		deliver(wabox.Incoming{Chat: list, From: anna, Alt: annaLID})
		lost := deliver(wabox.Incoming{Chat: family, From: benLID, Alt: ben}, asGroupStatus)
		s.phone.Script(lost, wabox.Answer{AckDelay: 40 * time.Millisecond, Delay: 300 * time.Millisecond, Result: wabox.NotFound})
		_, err = s.sendHistory()
		return errors.Join(append(errs, err)...)
	})
	if err != nil {
		return fmt.Errorf("as the bot: %w", err)
	}
	s.note("a bot has seen seven old files, and has ended. This is the doctor:\n")
	off := make(chan struct{})
	s.phone.Phone(func(r wabox.Request) []wabox.Answer {
		answer := wabox.Answer{AckDelay: 40 * time.Millisecond, Delay: 400 * time.Millisecond, Result: wabox.Success}
		switch {
		case r.ID == unreadable:
			answer.Result = wabox.DecryptionError
		case r.ID == last:
			answer.Hold = off
		}
		return []wabox.Answer{answer}
	})
	s.phone.Resend(wabox.Incoming{ID: unreadable, From: ben}, &waE2E.Message{ImageMessage: s.box.Upload([]byte("again"), whatsmeow.MediaImage).Image()})
	if err = run(ctx, s.out, s.cfg); err != nil {
		return err
	}
	s.note("the phone was off at the end, and is on again. A new path dies. Later:\n")
	close(off)
	state, err := readState(s.cfg.state)
	if err != nil {
		return err
	}
	for _, f := range state.Files {
		if f.Told != "" {
			s.box.SetStatus(f.Told, 410, "")
			break
		}
	}
	s.cfg.files = 0
	time.Sleep(2 * time.Second)
	if err = run(ctx, s.out, s.cfg); err != nil {
		return err
	}
	return s.judge()
}

// judge compares the record with what has to be in it.
func (s *stage) judge() error {
	data, err := os.ReadFile(s.cfg.record)
	if err != nil {
		return err
	}
	record, err := wabox.ReadRecord(strings.NewReader(string(data)))
	if err != nil {
		return err
	}
	for name, want := range map[string]string{
		"address-form":   "to the number: 2 of 2 recognised",
		"offline-queue":  "yes: 1 had waited",
		"history-part":   "1 of 1 have come",
		"new-key":        "1 x came with another key",
		"path-life":      "410 after",
		"broadcast-list": "by the list 1 of 1",
	} {
		if !strings.Contains(record.Answers[name], want) {
			return fmt.Errorf("the answer to %s is %q, and should have %q in it", name, record.Answers[name], want)
		}
	}
	return nil
}
