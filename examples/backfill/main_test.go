package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
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

// TestMain lets the demo, and tests that kill, run the backfill as a process: it is this program.
func TestMain(m *testing.M) {
	if os.Getenv(demoVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A world is a box, an account with its phone, and a directory for a backfill.
type world struct {
	t     *testing.T
	box   *wabox.Box
	phone *wabox.Account
	cfg   config
	errs  lockedBuffer // what the backfill has logged
	n     int
}

func newWorld(t *testing.T, options ...wabox.Option) *world {
	t.Helper()
	w := &world{t: t, box: wabox.Start(t, options...)}
	dir := t.TempDir()
	w.cfg = config{
		db: filepath.Join(dir, "a backfill?.db"), dir: filepath.Join(dir, "media"), json: true, workers: 4,
		quiet: 400 * time.Millisecond, timeout: 500 * time.Millisecond, patience: 5 * time.Second,
		newClient: func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
			if device.ID == nil {
				return nil, fmt.Errorf("it is not linked")
			}
			client := whatsmeow.NewClient(device, log)
			w.phone.Configure(client)
			return client, nil
		},
	}
	s := &stage{box: w.box, dir: dir}
	ctx := t.Context()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := s.link(ctx); err != nil {
		t.Fatal(err)
	}
	w.cfg.db = filepath.Join(dir, "backfill.db")
	w.phone = s.account
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("it has logged\n%s", w.errs.String())
		}
	})
	return w
}

// A lockedBuffer is written by many goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A post is a message of the history.
type post struct {
	chat   types.JID
	sender types.JID // in groups and status
	age    time.Duration
	msg    *waE2E.Message
	id     types.MessageID // given by history
}

// history sends posts as one part of the history.
func (w *world) history(posts ...*post) {
	w.t.Helper()
	h := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_FULL.Enum(), Progress: proto.Uint32(100)}
	chats := make(map[types.JID]*waHistorySync.Conversation)
	for _, p := range posts {
		w.n++
		p.id = fmt.Sprintf("3EB0%08X", w.n)
		web := &waWeb.WebMessageInfo{
			Key:     &waCommon.MessageKey{ID: &p.id, RemoteJID: proto.String(p.chat.String()), FromMe: proto.Bool(false)},
			Message: p.msg, MessageTimestamp: proto.Uint64(uint64(time.Now().Add(-p.age).Unix())),
		}
		if !p.sender.IsEmpty() {
			web.Participant = proto.String(p.sender.String())
		}
		if p.chat == types.StatusBroadcastJID {
			h.StatusV3Messages = append(h.StatusV3Messages, web)
			continue
		}
		c := chats[p.chat]
		if c == nil {
			c = &waHistorySync.Conversation{ID: proto.String(p.chat.String()), Name: proto.String(names[p.chat])}
			chats[p.chat] = c
			h.Conversations = append(h.Conversations, c)
		}
		c.Messages = append(c.Messages, &waHistorySync.HistorySyncMsg{Message: web})
	}
	if err := w.phone.DeliverHistory(h); err != nil {
		w.t.Fatal(err)
	}
}

var (
	anna   = types.NewJID("447700900101", types.DefaultUserServer)
	ben    = types.NewJID("447700900102", types.DefaultUserServer)
	channl = types.NewJID("120363144038483540", types.NewsletterServer)

	names = map[types.JID]string{anna: "Anna", ben: "Ben", channl: "News"}
)

const day = 24 * time.Hour

// picture puts a picture on WhatsApp's servers, and returns it with a message of it.
func (w *world) picture() (*wabox.Media, *waE2E.Message) {
	w.n++
	m := w.box.Upload(draw(w.n), whatsmeow.MediaImage)
	image := m.Image()
	image.Mimetype, image.FileLength = proto.String("image/png"), proto.Uint64(uint64(m.Length))
	return m, &waE2E.Message{ImageMessage: image}
}

// run runs the backfill to its end, and returns its events.
func (w *world) run(change ...func(*config)) []event {
	w.t.Helper()
	events, err := w.try(w.t.Context(), change...)
	if err != nil {
		w.t.Fatal(err)
	}
	return events
}

func (w *world) try(ctx context.Context, change ...func(*config)) ([]event, error) {
	w.t.Helper()
	cfg := w.cfg
	for _, f := range change {
		f(&cfg)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute, fmt.Errorf("it does not end"))
	defer cancel()
	var out lockedBuffer
	err := run(ctx, &out, &w.errs, cfg)
	if ctx.Err() != nil && err == nil {
		err = context.Cause(ctx)
	}
	return parse(w.t, out.String()), err
}

// parse reads events.
func parse(t *testing.T, text string) (events []event) {
	t.Helper()
	for line := range strings.Lines(text) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Time.IsZero() || e.Event == "" {
			t.Fatalf("%q: %v", line, err)
		}
		events = append(events, e)
	}
	return events
}

// summary returns what the summary says: how many files of each state and cause.
func summary(t *testing.T, events []event) string {
	t.Helper()
	for _, e := range events {
		if e.Event == "summary" {
			var all []string
			for _, n := range e.Counts {
				all = append(all, strings.TrimSuffix(fmt.Sprintf("%s %d %s", n.State, n.Files, n.Cause), " "))
			}
			return strings.Join(all, ", ")
		}
	}
	t.Fatal("there is no summary")
	return ""
}

// saved returns the files that are there, by their paths, and without the report.
func (w *world) saved() map[string][]byte {
	w.t.Helper()
	files := make(map[string][]byte)
	err := filepath.WalkDir(w.cfg.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(w.cfg.dir, path)
		if err != nil || strings.HasPrefix(name, reportFolder) {
			return err
		}
		files[filepath.ToSlash(name)], err = os.ReadFile(path)
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		w.t.Fatal(err)
	}
	return files
}

// has checks that just these files are there, somewhere in the folder of a chat.
func (w *world) has(want map[*wabox.Media]string) {
	w.t.Helper()
	files := w.saved()
	for m, folder := range want {
		found := false
		for name, data := range files {
			if strings.HasPrefix(name, folder+"/") && bytes.Equal(data, m.Plaintext) {
				delete(files, name)
				found = true
				break
			}
		}
		if !found {
			w.t.Errorf("a file is not in %s", folder)
		}
	}
	for name := range files {
		w.t.Errorf("%s is there", name)
	}
}
