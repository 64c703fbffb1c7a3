package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// skipWithoutPostgres skips a test where no PostgreSQL is installed, except in CI.
func skipWithoutPostgres(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, errNoPostgres) && os.Getenv("CI") != "true" {
		t.Skip(err)
	}
}

// postgres is the server of all tests but that of the demo.
var postgres struct {
	once  sync.Once
	dsn   string
	stop  func()
	err   error
	count atomic.Int32
}

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	if os.Getenv(boxVariable) != "" { // this process is a gateway of TestProcesses
		if err := gatewayProcess(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	status := m.Run()
	if postgres.stop != nil {
		postgres.stop()
	}
	os.Exit(status)
}

// newDatabase returns an empty database.
func newDatabase(t testing.TB) (dsn string) {
	t.Helper()
	postgres.once.Do(func() { postgres.dsn, postgres.stop, postgres.err = startPostgres(context.Background()) })
	skipWithoutPostgres(t, postgres.err)
	if postgres.err != nil {
		t.Fatal(postgres.err)
	}
	db, err := sql.Open(driver, postgres.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	name := fmt.Sprint("test", postgres.count.Add(1))
	if _, err = db.ExecContext(t.Context(), "CREATE DATABASE "+name+" TEMPLATE template0"); err != nil {
		t.Fatal(err)
	}
	return postgres.dsn + " dbname=" + name
}

func TestDemo(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	box := wabox.Start(t, wabox.Sockets())
	err := demoIn(t.Context(), &out, "", box)
	skipWithoutPostgres(t, err)
	if err != nil {
		t.Error(err)
	}
	story := out.String()
	for _, want := range []string{
		"media: 200 OK", "media: 410 Gone", "media: 504 Gateway Timeout", "media: 404 Not Found", "media: 400 Bad Request",
		"media: 503 Service Unavailable", "plugin     Healed a download after ", "right: this is how it has to go",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if strings.Contains(story, "error: ") {
		t.Error("there is an error")
	}
	for _, leak := range box.Leaks(out.Bytes()) {
		t.Error(leak)
	}
	if t.Failed() {
		t.Logf("the story was\n%s", story)
	}
}

// newStage returns a stage with two accounts and with a database of its own, which does not tell
// its story.
func newStage(t *testing.T) *stage {
	t.Helper()
	dsn := newDatabase(t)
	var err error
	s := &stage{out: io.Discard, phones: make(map[string]*wabox.Account), files: make(map[file]*wabox.Media)}
	if s.box, err = wabox.New(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.box.Close)
	s.configure(dsn, time.Minute)
	if err = s.linkBoth(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestGateway does with one gateway what the demo does not show.
func TestGateway(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	err := s.withGateway(t.Context(), func(context.Context) error {
		t.Run("Document", func(t *testing.T) { testDocument(t, s) })
		t.Run("Conditions", func(t *testing.T) { testConditions(t, s) })
		t.Run("SharedDownload", func(t *testing.T) { testSharedDownload(t, s) })
		t.Run("Causes", func(t *testing.T) { testCauses(t, s) })
		t.Run("Pauses", func(t *testing.T) { testPauses(t, s) })
		t.Run("Newsletter", func(t *testing.T) { testNewsletter(t, s) })
		t.Run("History", func(t *testing.T) { testHistory(t, s) })
		t.Run("IDs", func(t *testing.T) { testIDs(t, s) })
		t.Run("FirstOneStays", func(t *testing.T) { testFirstOneStays(t, s) })
		t.Run("ComesAgain", func(t *testing.T) { testComesAgain(t, s) })
		t.Run("Accounts", func(t *testing.T) { testAccounts(t, s) })
		t.Run("Metrics", func(t *testing.T) { testMetrics(t, s) })
		t.Run("LoggedOut", func(t *testing.T) { testLoggedOut(t, s) })
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func (s *stage) upload(text string) *wabox.Media {
	return s.box.Upload([]byte(text), whatsmeow.MediaImage)
}

// deliver sends a message to the first account.
func (s *stage) deliver(t *testing.T, id types.MessageID, msg *waE2E.Message) {
	t.Helper()
	if _, err := s.phones[s.a].Deliver(wabox.Incoming{ID: id, From: sender, Alt: senderLID}, msg); err != nil {
		t.Fatal(err)
	}
}

// waitRow waits until a message of the first account is in the table.
func (s *stage) waitRow(t *testing.T, id types.MessageID) {
	t.Helper()
	for {
		_, err := s.g.messages.get(t.Context(), s.a, sender, id)
		if err == nil {
			return
		} else if !errors.Is(err, errUnknown) {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// waitStored waits for a message, and gets its file.
func (s *stage) waitStored(t *testing.T, id types.MessageID) answer {
	t.Helper()
	s.waitRow(t, id)
	got, err := s.get(t.Context(), s.a, sender.String(), id)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func testDocument(t *testing.T, s *stage) {
	document := s.box.Upload([]byte("<script>alert(1)</script>"), whatsmeow.MediaDocument).Document()
	document.Mimetype, document.FileName = proto.String("text/html"), proto.String("/tmp/../Bücher \"1\".html")
	document.JPEGThumbnail = make([]byte, 50_000)
	s.deliver(t, "DOCUMENT", &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{DocumentMessage: document}}})
	got := s.waitStored(t, "DOCUMENT")
	if got.status != http.StatusOK || string(got.body) != "<script>alert(1)</script>" || got.length != int64(len(got.body)) {
		t.Errorf("got %s", got)
	}
	for name, want := range map[string]string{
		"Content-Type":            "text/html",
		"Content-Disposition":     "attachment; filename*=utf-8''B%C3%BCcher%20%221%22.html",
		"X-Content-Type-Options":  "nosniff",
		"Content-Security-Policy": "sandbox; default-src 'none'",
	} {
		if got := got.header.Get(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, s.base+"/accounts/+"+s.a+"/chats/"+sender.String()+"/messages/DOCUMENT/media", nil)
	req.Header.Set("Range", "bytes=1-6")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if part, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusPartialContent || string(part) != "script" {
		t.Errorf("a part: got %d, %q, %v", resp.StatusCode, part, err)
	}
}

func testHistory(t *testing.T, s *stage) {
	media := s.upload("old")
	s.box.Expire(media)
	err := s.phones[s.a].DeliverHistory(&waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_RECENT.Enum(),
		Conversations: []*waHistorySync.Conversation{{
			ID: proto.String(sender.String()),
			Messages: []*waHistorySync.HistorySyncMsg{{Message: &waWeb.WebMessageInfo{
				Key:              &waCommon.MessageKey{RemoteJID: proto.String(sender.String()), FromMe: proto.Bool(false), ID: proto.String("HISTORY")},
				MessageTimestamp: proto.Uint64(1_600_000_000),
				Message:          &waE2E.Message{ImageMessage: media.Image()},
			}}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.waitStored(t, "HISTORY"); got.status != http.StatusOK || string(got.body) != "old" {
		t.Errorf("got %s", got)
	}
}

func testIDs(t *testing.T, s *stage) {
	// PostgreSQL has no text with a NUL in it. Such a message is left out, and does not stop the
	// ones after it.
	s.deliver(t, "A\x00B", &waE2E.Message{ImageMessage: s.upload("NUL").Image()})
	s.deliver(t, "AFTER", &waE2E.Message{ImageMessage: s.upload("after").Image()})
	if got := s.waitStored(t, "AFTER"); got.status != http.StatusOK {
		t.Errorf("got %s", got)
	}
	for _, id := range []types.MessageID{"A%00B", "A%2FB", "%FF", "..%2F..", "'"} {
		if got, err := s.get(t.Context(), s.a, sender.String(), id); err != nil || got.status != http.StatusNotFound {
			t.Errorf("%s: got %s, %v", id, got, err)
		}
		if got, err := s.get(t.Context(), id, sender.String(), "AFTER"); err != nil || got.status != http.StatusNotFound {
			t.Errorf("an account %s: got %s, %v", id, got, err)
		}
	}
}

func testFirstOneStays(t *testing.T, s *stage) {
	s.deliver(t, "TWICE", &waE2E.Message{ImageMessage: s.upload("first").Image()})
	s.deliver(t, "TWICE", &waE2E.Message{ImageMessage: s.upload("second").Image()})
	s.deliver(t, "LAST", &waE2E.Message{ImageMessage: s.upload("last").Image()})
	s.waitStored(t, "LAST")
	if got := s.waitStored(t, "TWICE"); string(got.body) != "first" {
		t.Errorf("got %q", got.body)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}

func (s *stage) log(out io.Writer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.out = out
}

// A message that could not be stored is not lost.
func testComesAgain(t *testing.T, s *stage) {
	db, err := sql.Open(driver, s.cfg.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err = db.ExecContext(t.Context(), "ALTER TABLE gateway_message RENAME TO away"); err != nil {
		t.Fatal(err)
	}
	failed := make(chan struct{}, 1)
	s.log(writerFunc(func(line []byte) {
		if bytes.Contains(line, []byte("will come again account=")) {
			failed <- struct{}{}
		}
	}))
	defer s.log(io.Discard)
	s.deliver(t, "AGAIN", &waE2E.Message{ImageMessage: s.upload("again").Image()})
	<-failed
	if _, err = db.ExecContext(t.Context(), "ALTER TABLE away RENAME TO gateway_message"); err != nil {
		t.Fatal(err)
	}
	s.phones[s.a].Cut()
	if got := s.waitStored(t, "AGAIN"); got.status != http.StatusOK || string(got.body) != "again" {
		t.Errorf("got %s", got)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for _, dsn := range []string{"", "host=/nonexistent user=nobody", "://"} {
		if err := run(t.Context(), config{dsn: dsn, listen: "127.0.0.1:0", log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "-dsn") {
			t.Errorf("%q: got %v", dsn, err)
		}
	}
}
