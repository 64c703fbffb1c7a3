package reupload

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// How long the plugin waits for its index: in whatsmeow's handler queue or in front of a download, where a database that is
// locked or gone must not hold up the bot. An index that has just failed gets less.
const (
	indexTimeout        = 2 * time.Second
	failingIndexTimeout = 100 * time.Millisecond
)

// A guardedIndex is an index that may fail: the plugin works on as if it were empty, and says so once.
type guardedIndex struct {
	index   Index
	account func() types.JID
	log     waLog.Logger
	failing atomic.Bool
}

func (g *guardedIndex) put(ctx context.Context, entries []Entry) {
	_ = g.putNow(ctx, entries) // it is in the log
}

func (g *guardedIndex) putNow(ctx context.Context, entries []Entry) error {
	return g.putFor(ctx, g.timeout(), entries)
}

// smallBatch is how many entries an index must always take in indexTimeout.
const smallBatch = 1000

// putMany puts in a batch of a history sync. Nobody waits for that, so it always has its full time; and what did not fit into
// that at once is put in a little at a time.
func (g *guardedIndex) putMany(ctx context.Context, entries []Entry) {
	if g.putFor(ctx, indexTimeout, entries) == nil {
		return
	}
	for batch := range slices.Chunk(entries, smallBatch) {
		if g.putFor(ctx, indexTimeout, batch) != nil {
			return
		}
	}
}

func (g *guardedIndex) putFor(ctx context.Context, timeout time.Duration, entries []Entry) error {
	account := g.account()
	if len(entries) == 0 || account.IsEmpty() {
		return nil
	}
	return g.do(ctx, timeout, func(ctx context.Context) error { return g.index.Put(ctx, account, entries) })
}

func (g *guardedIndex) byFile(ctx context.Context, fileEncSHA256 []byte) (found []Entry) {
	_ = g.do(ctx, g.timeout(), func(ctx context.Context) (err error) {
		found, err = g.index.ByFile(ctx, g.account(), fileEncSHA256)
		return err
	})
	return found
}

func (g *guardedIndex) byMessage(ctx context.Context, id types.MessageID) (found []Entry) {
	_ = g.do(ctx, g.timeout(), func(ctx context.Context) (err error) {
		found, err = g.index.ByMessage(ctx, g.account(), id)
		return err
	})
	return found
}

func (g *guardedIndex) timeout() time.Duration {
	if g.failing.Load() {
		return failingIndexTimeout
	}
	return indexTimeout
}

func (g *guardedIndex) do(ctx context.Context, timeout time.Duration, call func(context.Context) error) error {
	bounded, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := call(bounded)
	switch {
	case err == nil && g.failing.Load():
		g.failing.Store(false)
		g.log.Infof("The index works again")
	case err != nil && ctx.Err() == nil && !g.failing.Swap(true):
		g.log.Warnf("The index fails, so that media that arrives now may not heal later: %v", err)
	}
	return err
}
