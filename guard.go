package reupload

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// How long the plugin waits for its index: in whatsmeow's handler queue or in front of a
// download, where a database that is locked or gone must not hold up the bot. An index that has
// just failed gets less.
const (
	indexTimeout        = 2 * time.Second
	failingIndexTimeout = 100 * time.Millisecond
)

// A guardedIndex is an index that may fail: the plugin works on as if it were empty, and
// says so once.
type guardedIndex struct {
	index   Index
	account func() types.JID
	log     waLog.Logger
	failing atomic.Bool
}

func (g *guardedIndex) put(ctx context.Context, entries []Entry) {
	_ = g.putFor(ctx, g.timeout(), entries) // it is in the log
}

// historyBatch is how many entries of a history sync are given to the index at once, and
// historyTimeout how long that may take. Nobody waits for it, so that an index can take pauses in
// which others get at its database.
const (
	historyBatch   = 1000
	historyTimeout = 30 * time.Second
)

// putMany puts in what nobody waits for.
func (g *guardedIndex) putMany(ctx context.Context, entries []Entry) error {
	for batch := range slices.Chunk(entries, historyBatch) {
		if err := g.putFor(ctx, historyTimeout, batch); err != nil {
			return err
		}
	}
	return nil
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
	if _, inMemory := g.index.(*MemoryIndex); inMemory { // which neither waits nor fails
		return call(ctx)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := contained(func() error { return call(limited) })
	switch {
	case err == nil && g.failing.Load():
		g.failing.Store(false)
		g.log.Infof("The index works again")
	case err != nil && ctx.Err() == nil && !g.failing.Swap(true):
		g.log.Warnf("The index fails, so that media that arrives now may not heal later: %v", err)
	}
	return err
}

// contained makes an error of a panic, such as one of a database driver: it is no reason for the
// bot to end.
func contained(call func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the index has panicked: %v", r)
		}
	}()
	return call()
}

// within returns what call returns, or the context's error if it does not return in time: then it
// ends in the background.
func within[T any](ctx context.Context, timeout time.Duration, call func(context.Context) (T, error)) (T, error) {
	type returned struct {
		value T
		err   error
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	done := make(chan returned, 1)
	go func() {
		var r returned
		r.value, r.err = call(ctx)
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return *new(T), ctx.Err()
	}
}
