package reupload

import (
	"context"
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
	account := g.account()
	if len(entries) == 0 || account.IsEmpty() {
		return nil
	}
	return g.do(ctx, func(ctx context.Context) error { return g.index.Put(ctx, account, entries) })
}

func (g *guardedIndex) byFile(ctx context.Context, fileEncSHA256 []byte) (found []Entry) {
	_ = g.do(ctx, func(ctx context.Context) (err error) {
		found, err = g.index.ByFile(ctx, g.account(), fileEncSHA256)
		return err
	})
	return found
}

func (g *guardedIndex) byMessage(ctx context.Context, id types.MessageID) (found []Entry) {
	_ = g.do(ctx, func(ctx context.Context) (err error) {
		found, err = g.index.ByMessage(ctx, g.account(), id)
		return err
	})
	return found
}

func (g *guardedIndex) do(ctx context.Context, call func(context.Context) error) error {
	timeout := indexTimeout
	if g.failing.Load() {
		timeout = failingIndexTimeout
	}
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
