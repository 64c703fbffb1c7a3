package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"image/color"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	box := wabox.Start(t, wabox.Sockets())
	if err := demoIn(t.Context(), &out, t.TempDir(), box); err != nil {
		t.Error(err)
	}
	story := out.String()
	for _, want := range []string{
		"plugin     Healed a download after ",
		"Saved as ",
		"The phone no longer has this file either.",
		"the phone was asked for 3EB0C0FFEE and 3EB0DECAF0: the index",
		"right: this is how it has to go",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(story, "error:") {
		t.Error("there is an error")
	}
	for _, leak := range box.Leaks(out.Bytes()) {
		t.Error(leak)
	}
	if t.Failed() {
		t.Logf("the story was\n%s", story)
	}
}

func TestDemoEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if demo(ctx, new(bytes.Buffer)) == nil {
		t.Error("it passed")
	}
}

// mustDraw makes a picture, a different one for each number.
func mustDraw(t *testing.T, s *stage, n uint8) *wabox.Media {
	t.Helper()
	picture, err := s.draw(color.RGBA{R: n})
	if err != nil {
		t.Fatal(err)
	}
	return picture
}

// files returns the names in the directory for media.
func (s *stage) files(t *testing.T) (names []string) {
	t.Helper()
	found, err := os.ReadDir(s.cfg.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range found {
		names = append(names, entry.Name())
	}
	return names
}

// newStage returns a stage that does not tell its story.
func newStage(t *testing.T) *stage {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	dir := t.TempDir()
	s := &stage{out: new(bytes.Buffer), box: box, answers: make(chan answer, 8)}
	s.cfg = config{db: filepath.Join(dir, "a bot?.db"), dir: filepath.Join(dir, "media"), log: logger{s, "bot", false}, newClient: s.newClient}
	return s
}

func TestQuotesThatClaimWhatTheyLike(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	first, second := mustDraw(t, s, 1), mustDraw(t, s, 2)
	get := func(id string, of *wabox.Media) *waE2E.Message {
		msg := reply(of)
		msg.ExtendedTextMessage.ContextInfo.StanzaID = &id
		msg.ExtendedTextMessage.ContextInfo.Participant = proto.String(sender.String())
		return msg
	}
	noChecksum := get("3EB0AA", first)
	noChecksum.ExtendedTextMessage.ContextInfo.QuotedMessage.ImageMessage.FileSHA256 = nil
	err := s.withBot(t.Context(), func(*bot) error {
		for _, step := range []struct {
			msg  *waE2E.Message
			want string
		}{
			{get("3EB0AA", first), "Saved as " + fileName(pictureOf(first)) + "."},
			{get("3EB0BB", first), "Saved as " + fileName(pictureOf(first)) + "."},
			{get("3EB0AA", second), "Saved as " + fileName(pictureOf(second)) + "."},
			{get("../../3EB0BB", second), "Saved as " + fileName(pictureOf(second)) + "."},
			{noChecksum, "It did not work this time. Reply !get again in a few minutes."},
			{&waE2E.Message{Conversation: proto.String(" !GET\n")}, "Reply !get to a picture, a video, an audio or a document."},
		} {
			if err := s.deliver("", step.msg); err != nil {
				return err
			}
			if err := s.expect(t.Context(), step.want); err != nil {
				return err
			}
		}
		return errors.Join(s.waitSaved(t.Context(), first), s.waitSaved(t.Context(), second))
	})
	if err != nil {
		t.Error(err)
	}
	if names := s.files(t); len(names) != 2 {
		t.Errorf("got %v, want the two files and nothing else", names)
	}
	if info, err := os.Stat(s.cfg.db); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others can read the database: %v, %v", info, err)
	}
}

func TestRunEnds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		end  func(*stage, context.CancelFunc)
		want string
	}{
		"by a signal":         {func(_ *stage, cancel context.CancelFunc) { cancel() }, "<nil>"},
		"by being logged out": {func(s *stage, _ context.CancelFunc) { s.phone.Logout() }, "the phone has unlinked the bot"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			if err := s.withBot(t.Context(), func(*bot) error { return nil }); err != nil { // links it
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error)
			logins := s.phone.Logins()
			go func() { ended <- run(ctx, new(bytes.Buffer), s.cfg) }()
			for s.phone.Logins() == logins || s.phone.WaitOnline(t.Context()) != nil {
				if t.Context().Err() != nil {
					t.Fatal("the bot did not log in")
				}
			}
			c.end(s, cancel)
			if err := <-ended; !strings.HasPrefix(fmt.Sprint(err), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			s.cfg.newClient = nil
			b, err := openBot(t.Context(), s.cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer b.close()
			if linked := b.client.Store.ID != nil; linked != (c.want == "<nil>") {
				t.Errorf("after that, linked is %v", linked)
			}
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("this is no database, and no directory"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := newStage(t).cfg
	cfg.db = file
	if err := run(t.Context(), new(bytes.Buffer), cfg); err == nil || !strings.Contains(err.Error(), "-db") {
		t.Errorf("got %v", err)
	}
	cfg = newStage(t).cfg
	cfg.dir = file
	if err := run(t.Context(), new(bytes.Buffer), cfg); err == nil || !strings.Contains(err.Error(), "-dir") {
		t.Errorf("got %v", err)
	}
}

func TestFileName(t *testing.T) {
	t.Parallel()
	checksum := bytes.Repeat([]byte{0xab}, 32)
	for mimetype, ext := range map[string]string{
		"image/jpeg":               ".jpg",
		"audio/ogg; codecs=opus":   ".ogg",
		"AUDIO/OGG;codecs":         ".ogg",
		"application/x-msdownload": ".bin",
		"../../etc":                ".bin",
		"":                         ".bin",
	} {
		file := &waE2E.DocumentMessage{Mimetype: &mimetype, FileSHA256: checksum, FileName: proto.String("/etc/passwd")}
		if got, want := fileName(file), strings.Repeat("ab", 16)+ext; got != want {
			t.Errorf("type %q: got %s, want %s", mimetype, got, want)
		}
	}
}

func TestDatabaseSettings(t *testing.T) {
	t.Parallel()
	db, err := openDB(filepath.Join(t.TempDir(), "bot.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for pragma, want := range map[string]string{
		"busy_timeout": "5000", "foreign_keys": "1", "journal_mode": "wal", "synchronous": "1",
	} {
		var got string
		if err := db.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s: got %s, %v, want %s", pragma, got, err, want)
		}
	}
}

func TestAttachmentOf(t *testing.T) {
	t.Parallel()
	for name, msg := range map[string]*waE2E.Message{
		"picture":     {ImageMessage: &waE2E.ImageMessage{}},
		"video":       {VideoMessage: &waE2E.VideoMessage{}},
		"round video": {PtvMessage: &waE2E.VideoMessage{}},
		"audio":       {AudioMessage: &waE2E.AudioMessage{}},
		"document":    {DocumentMessage: &waE2E.DocumentMessage{}},
	} {
		if attachmentOf(msg) == nil {
			t.Errorf("%s: got nothing", name)
		}
	}
	if got := attachmentOf(&waE2E.Message{Conversation: proto.String("text")}); got != nil {
		t.Errorf("text: got %v", got)
	}
	if got := attachmentOf(nil); got != nil {
		t.Errorf("nothing: got %v", got)
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	const otherwise = "It did not work this time. Reply !get again in a few minutes."
	for _, err := range []error{reupload.ErrNotFound, reupload.ErrDecryption, reupload.ErrTimeout, reupload.ErrUnknownMessage, syscall.ENOSPC} {
		if got := explain(fmt.Errorf("wrapped: %w", err)); got == otherwise {
			t.Errorf("nothing is said about %v", err)
		}
	}
	for _, err := range []error{reupload.ErrGeneral, errors.New("another")} {
		if got := explain(err); got != otherwise {
			t.Errorf("%v: got %s", err, got)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	key := base64.URLEncoding.EncodeToString([]byte("key"))
	got := redact(`Get "https://mmg.whatsapp.net/v/x.enc?oh=1&hash=` + key + `": EOF`)
	if got != `Get "https://mmg.whatsapp.net/v/x.enc?…": EOF` {
		t.Errorf("got %s", got)
	}
}
