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
	"testing"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	err := demo(t.Context(), &out)
	if err != nil {
		t.Error(err)
	}
	story := out.String()
	for _, want := range []string{
		"plugin     Healed a download of message \"3EB0C0FFEE",
		"Saved as sha256-",
		"The phone no longer has this file either.",
		"the phone was asked for 3EB0C0FFEE and 3EB0DECAF0: the index",
		"right: this is how it has to go",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(story, "oh=") || strings.Contains(story, "hash=") || strings.Contains(story, "error:") {
		t.Error("there is a query or an error")
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

// newStage returns a stage that tells its story to nobody.
func newStage(t *testing.T) *stage {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	dir := t.TempDir()
	s := &stage{out: new(bytes.Buffer), box: box, answers: make(chan string, 8)}
	s.cfg = config{db: filepath.Join(dir, "a bot?.db"), dir: filepath.Join(dir, "media"), log: logger{s, "bot", false}, newClient: s.newClient}
	return s
}

func TestQuotesThatClaimWhatTheyLike(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	first, err := s.draw(color.RGBA{R: 1})
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.draw(color.RGBA{R: 2})
	if err != nil {
		t.Fatal(err)
	}
	get := func(id string, of *wabox.Media) *waE2E.Message {
		msg := reply(of)
		msg.ExtendedTextMessage.ContextInfo.StanzaID = &id
		msg.ExtendedTextMessage.ContextInfo.Participant = proto.String(sender.String())
		return msg
	}
	err = s.withBot(t.Context(), func(*bot) error {
		for _, step := range []struct {
			msg  *waE2E.Message
			want string
		}{
			{get("3EB0AA", first), "Saved as 3EB0AA.png."},
			{get("3EB0AA", first), "Saved as 3EB0AA.png."},
			{get("3EB0AA", second), "Another file has been saved under the name of this message."},
			{get("../../3EB0BB", second), "Saved as " + fileName("", pictureOf(second)) + "."},
			{&waE2E.Message{Conversation: proto.String(" !GET\n")}, "Reply !get to a picture, a video, an audio or a document."},
		} {
			if err := s.deliver("", step.msg); err != nil {
				return err
			}
			if err := s.expect(t.Context(), step.want); err != nil {
				return err
			}
		}
		return s.waitSaved(t.Context(), "3EB0AA.png", first)
	})
	if err != nil {
		t.Error(err)
	}
	found, err := os.ReadDir(s.cfg.dir)
	if err != nil || len(found) != 2 {
		t.Errorf("got %v, %v, want the two files and nothing else", found, err)
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
	const byChecksum = "sha256-abababababababababababababababab"
	for _, c := range []struct{ id, mimetype, want string }{
		{"3EB0C0FFEE", "image/jpeg", "3EB0C0FFEE.jpg"},
		{"3A-b_c", "audio/ogg; codecs=opus", "3A-b_c.ogg"},
		{"A", "AUDIO/OGG;codecs", "A.ogg"},
		{"A", "application/x-msdownload", "A.bin"},
		{"A", "../../etc", "A.bin"},
		{"A", "", "A.bin"},
		{"", "image/png", byChecksum + ".png"},
		{"../A", "image/png", byChecksum + ".png"},
		{".hidden", "image/png", byChecksum + ".png"},
		{"-A", "image/png", byChecksum + ".png"},
		{"A\x00", "image/png", byChecksum + ".png"},
		{`C:\A`, "image/png", byChecksum + ".png"},
		{strings.Repeat("A", 65), "image/png", byChecksum + ".png"},
	} {
		file := &waE2E.DocumentMessage{Mimetype: &c.mimetype, FileSHA256: checksum, FileName: proto.String("/etc/passwd")}
		if got := fileName(c.id, file); got != c.want {
			t.Errorf("%q of type %q: got %s, want %s", c.id, c.mimetype, got, c.want)
		}
	}
	if got := fileName("", &waE2E.ImageMessage{}); got != "sha256-.bin" { // which whatsmeow does not download
		t.Errorf("got %s", got)
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
	for _, err := range []error{reupload.ErrNotFound, reupload.ErrDecryption, reupload.ErrTimeout, reupload.ErrUnknownMessage, errTaken} {
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
