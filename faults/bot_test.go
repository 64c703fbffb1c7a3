package faults

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
	_ "modernc.org/sqlite"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A bot is one process: a client with the plugin, and its index.
type bot struct {
	w        *world
	client   *whatsmeow.Client
	cdn      *http.Transport
	plugin   *reupload.Plugin
	index    *mortal
	messages chan *events.Message
	inside   chan struct{} // an event handler waits for a job
	jobs     chan func()   // for the event handler
}

// boot starts a process, and logs it in.
func (w *world) boot() *bot {
	b := w.newBot()
	b.register()
	w.must(b.client.Connect())
	w.must(w.account.WaitOnline(w.Context()))
	time.Sleep(4 * w.latency()) // what waits for the client comes
	return b
}

// newBot makes a bot with the account's device, which does not connect yet.
func (w *world) newBot() *bot {
	w.account.Device.PreKeys = somePreKeys
	client := w.account.NewClient(w.log())
	b := &bot{
		w: w, client: client, cdn: w.box.Transport(), index: w.store.open(),
		messages: make(chan *events.Message, 16), inside: make(chan struct{}), jobs: make(chan func()),
	}
	client.SetMediaHTTPClient(&http.Client{Transport: b.cdn})
	client.AddEventHandler(b.handle)
	return b
}

func (b *bot) register() {
	opts := &reupload.Options{Index: b.index.Index}
	if b.w.cell.fault.restart {
		opts.Index = b.index
	}
	if b.w.cell.phase == queued {
		opts.MaxInFlight = 1
	}
	var err error
	b.plugin, err = reupload.Register(b.client, opts)
	b.w.must(err)
}

func (b *bot) handle(evt any) {
	msg, ok := evt.(*events.Message)
	if !ok {
		return
	}
	b.messages <- msg
	if msg.Message.GetConversation() == "!get" {
		b.inside <- struct{}{}
		(<-b.jobs)()
	}
}

// end ends the process as a careful bot does.
func (b *bot) end() {
	b.client.Disconnect()
	if n := b.plugin.Stats().Waiting; n > 0 {
		b.w.Errorf("%d requests still wait", n)
	}
	b.w.must(b.plugin.Close())
	b.cdn.CloseIdleConnections()
	b.index.close()
}

// kill ends the process as kill -9 does: nothing reaches the index any more, and nothing the
// server.
func (b *bot) kill() {
	b.index.dead.Store(true)
	b.w.account.Cut()
	b.client.Disconnect()
	b.w.must(b.plugin.Close())
	b.cdn.CloseIdleConnections()
	b.index.close()
}

// downtime is how long it takes until the next process starts.
const downtime = 700 * time.Millisecond

// restart kills the process, and starts another one a little later.
func (w *world) restart() {
	w.bot.kill()
	time.Sleep(downtime)
	if !w.cell.fault.keeps {
		w.store.clear()
	}
	w.bot = w.boot()
}

// replace lets another client log in with the same session.
func (w *world) replace() {
	w.other = w.account.NewClient(nil)
	w.must(w.other.Connect())
	if moments[w.cell.phase] == 0 {
		time.Sleep(farewell)
	}
}

// farewell is how long the server keeps a connection that it has told to end.
const farewell = 6 * time.Second

// pair links a new device of the bot's to the account, after the old one was removed.
func (w *world) pair() {
	w.bot.end()
	w.account.Device = wabox.NewDevice()
	w.bot = w.newBot()
	w.bot.register()
	codes, err := w.bot.client.GetQRChannel(w.Context())
	w.must(err)
	w.must(w.bot.client.Connect())
	w.must(w.account.Scan(w.Context(), (<-codes).Code))
	for range codes {
	}
	w.must(w.account.WaitOnline(w.Context()))
}

func (w *world) log() waLog.Logger {
	if !replays() {
		return nil
	}
	return logger{w, "whatsmeow"}
}

// A logger puts what is logged into the transcript of a cell.
type logger struct {
	w      *world
	module string
}

func (l logger) Sub(module string) waLog.Logger { return logger{l.w, module} }
func (l logger) Debugf(msg string, args ...any) {
	if l.module == "Reupload" {
		l.w.say(l.module+": "+msg, args...)
	}
}
func (l logger) Infof(msg string, args ...any)  { l.w.say(l.module+": "+msg, args...) }
func (l logger) Warnf(msg string, args ...any)  { l.w.say(l.module+": "+msg, args...) }
func (l logger) Errorf(msg string, args ...any) { l.w.say(l.module+": "+msg, args...) }

// preKeys are the one-time prekeys of every bot. To make new ones would take longer than all the
// rest of a login.
type preKeys struct{ keys []*keys.PreKey }

var somePreKeys = newPreKeys()

func newPreKeys() (p preKeys) {
	for id := range uint32(10) {
		p.keys = append(p.keys, keys.NewPreKey(id+1))
	}
	return p
}

func (p preKeys) GetOrGenPreKeys(context.Context, uint32) ([]*keys.PreKey, error) { return p.keys, nil }
func (p preKeys) GenOnePreKey(context.Context) (*keys.PreKey, error)              { return p.keys[0], nil }
func (p preKeys) RemovePreKey(context.Context, uint32) error                      { return nil }
func (p preKeys) MarkPreKeysAsUploaded(context.Context, uint32) error             { return nil }
func (p preKeys) UploadedPreKeyCount(context.Context) (int, error)                { return len(p.keys), nil }

func (p preKeys) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	if id == 0 || int(id) > len(p.keys) {
		return nil, nil
	}
	return p.keys[id-1], nil
}

// A store is where indexes are, whichever process has them open.
type store struct {
	*testing.T
	memory *reupload.MemoryIndex // nil for SQLite
	file   string
}

func newStore(t *testing.T, c cell) *store {
	s := &store{T: t}
	if c.index == "sqlite" {
		s.file = filepath.Join(t.TempDir(), "index.db")
	}
	s.clear()
	return s
}

const memoryCapacity = 1000

// clear makes the index an empty one.
func (s *store) clear() {
	if s.file == "" {
		s.memory = reupload.NewMemoryIndex(memoryCapacity)
		return
	}
	for _, suffix := range []string{"-wal", "-shm"} {
		if err := os.Remove(s.file + suffix); err != nil && !errors.Is(err, os.ErrNotExist) {
			s.Fatal(err)
		}
	}
	if err := os.WriteFile(s.file, emptyDatabase(), 0o600); err != nil {
		s.Fatal(err)
	}
}

// emptyDatabase returns a database file with the index's tables. To make them takes longer than a
// cell.
var emptyDatabase = sync.OnceValue(func() []byte {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "empty.db")
	db, err := sql.Open("sqlite", "file:"+file+moderncOptions)
	if err != nil {
		panic(err)
	}
	if _, err = sqlindex.New(context.Background(), db, "sqlite3"); err != nil {
		panic(err)
	}
	if err = db.Close(); err != nil { // which leaves no log beside the file
		panic(err)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	return content
})

const moderncOptions = "?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"

// open opens the index for a process.
func (s *store) open() *mortal {
	if s.memory != nil {
		return &mortal{Index: s.memory, close: func() {}}
	}
	db, err := sql.Open("sqlite", "file:"+s.file+moderncOptions)
	if err != nil {
		s.Fatal(err)
	}
	index, err := sqlindex.New(s.Context(), db, "sqlite3")
	if err != nil {
		s.Fatal(err)
	}
	return &mortal{Index: index, close: func() { db.Close() }}
}

// A mortal index is that of a process that can be killed.
type mortal struct {
	reupload.Index
	dead  atomic.Bool
	close func()
}

var errKilled = errors.New("the process was killed")

func (m *mortal) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if m.dead.Load() {
		return errKilled
	}
	return m.Index.Put(ctx, account, entries)
}

func (m *mortal) ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]reupload.Entry, error) {
	if m.dead.Load() {
		return nil, errKilled
	}
	return m.Index.ByFile(ctx, account, fileEncSHA256)
}

func (m *mortal) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	if m.dead.Load() {
		return nil, errKilled
	}
	return m.Index.ByMessage(ctx, account, id)
}
