package simulation

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"time"

	"go.mau.fi/whatsmeow/types"
	_ "modernc.org/sqlite" // the driver

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// An index is one of the plugin's own with a fault.
type index struct {
	reupload.Index
	world *World
	bot   *bot
	kind  Kind
	calls int
}

const sqliteOptions = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_txlock=immediate"

// newIndex makes an index as the world has them.
func (w *World) newIndex(b *bot) *index {
	x := &index{world: w, bot: b, kind: w.Index}
	switch w.Index {
	case indexSQLite:
		w.count(indexSQLite)
		db, err := sql.Open("sqlite", "file:"+filepath.Join(w.t.TempDir(), "index.db")+sqliteOptions)
		if err != nil {
			panic(err)
		}
		w.databases = append(w.databases, db)
		if x.Index, err = sqlindex.New(context.Background(), db, "sqlite3"); err != nil {
			panic(err)
		}
	case indexSmall:
		w.count(indexSmall)
		x.Index = reupload.NewMemoryIndex(w.Capacity)
	default:
		x.Index = reupload.NewMemoryIndex(0)
	}
	return x
}

var errIndex = errors.New("the index has failed, as it does")

// before injects the fault before each call. It returns false if the call must not be made.
func (x *index) before(ctx context.Context) bool {
	w := x.world
	w.mu.Lock()
	x.calls++
	t := w.dice.For("index", x.bot.n, x.calls)
	w.mu.Unlock()
	switch x.kind {
	case indexSlow:
		w.count(indexSlow)
		return sleep(ctx, t.Between(0, 300*time.Millisecond))
	case indexFails:
		if t.Chance(0.3) {
			w.count(indexFails)
			return false
		}
	case indexIgnores:
		if t.Chance(0.02) {
			w.count(indexIgnores)
			time.Sleep(20 * time.Second)
		}
	}
	return true
}

func (x *index) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if !x.before(ctx) {
		return errIndex
	}
	x.world.mu.Lock()
	x.world.stored += len(entries)
	x.world.mu.Unlock()
	if x.kind == indexWipes { // what the index has got is its own
		defer func() {
			x.world.count(indexWipes)
			for _, e := range entries {
				clear(e.MediaKey)
				clear(e.FileEncSHA256)
			}
		}()
	}
	return x.Index.Put(ctx, account, entries)
}

func (x *index) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	if !x.before(ctx) {
		return nil, errIndex
	}
	return x.Index.ByFile(ctx, account, hash)
}

func (x *index) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	if !x.before(ctx) {
		return nil, errIndex
	}
	return x.Index.ByMessage(ctx, account, id)
}
