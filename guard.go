package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
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

// A guardedIndex is an index that may fail, hang, or return anything: the plugin works on as if it
// were empty, and says so once. Reads and writes are apart, since a database that is read-only or
// full still answers.
type guardedIndex struct {
	index   Index
	account func() types.JID
	log     waLog.Logger
	reads   side
	writes  side
}

// A side is what is known of the index's reads or of its writes.
type side struct {
	name, harm string
	calls      *outside // nil for an index in memory, which is called as any function
	failing    atomic.Bool
}

// newGuardedIndex guards an index. Nil is one in memory.
func newGuardedIndex(index Index, account func() types.JID, log waLog.Logger) *guardedIndex {
	if index == nil {
		index = NewMemoryIndex(DefaultMemoryCapacity)
	}
	g := &guardedIndex{
		index: index, account: account, log: log,
		reads:  side{name: "reads", harm: "media that has expired may not heal"},
		writes: side{name: "writes", harm: "media that arrives now may not heal later"},
	}
	if !g.inMemory() {
		g.reads.calls, g.writes.calls = newOutside(), newOutside()
	}
	return g
}

// isNil reports whether a value is nil or holds a nil pointer, as an interface does that was set
// from a nil variable of the bot's own type. Its methods would panic.
func isNil(value any) bool {
	if value == nil {
		return true
	}
	switch v := reflect.ValueOf(value); v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice:
		return v.IsNil()
	}
	return false
}

func (g *guardedIndex) put(ctx context.Context, entries []Entry) {
	_ = g.putFor(ctx, g.timeout(), entries) // it is in the log
}

// historyBatch is how many entries of a history sync are given to the index at once, and
// historyTimeout how long that may take. No handler or download waits for it, so an index can
// take pauses in which others get at its database.
const (
	historyBatch   = 1000
	historyTimeout = 30 * time.Second
)

// putMany puts in the entries of a history sync, batch by batch.
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
	if !g.inMemory() { // which keeps nothing of what it is given
		entries = cloneAll(entries)
	}
	_, err := ask(ctx, g, &g.writes, timeout, func(ctx context.Context) (struct{}, error) {
		return struct{}{}, g.index.Put(ctx, account, entries)
	})
	return err
}

// byFile returns what the index knows of a file: 16 entries at the most.
func (g *guardedIndex) byFile(ctx context.Context, fileEncSHA256 []byte) ([]Entry, error) {
	account, file := g.account(), bytes.Clone(fileEncSHA256)
	found, err := ask(ctx, g, &g.reads, g.reads.timeout(), func(ctx context.Context) ([]Entry, error) {
		return g.index.ByFile(ctx, account, file)
	})
	return g.checked(found, fileCrowd, func(e *Entry) bool { return bytes.Equal(e.FileEncSHA256, fileEncSHA256) }), err
}

// byMessage returns what the index knows of a message id: 256 entries at the most.
func (g *guardedIndex) byMessage(ctx context.Context, id types.MessageID) ([]Entry, error) {
	account := g.account()
	found, err := ask(ctx, g, &g.reads, g.reads.timeout(), func(ctx context.Context) ([]Entry, error) {
		return g.index.ByMessage(ctx, account, id)
	})
	return g.checked(found, idCrowd, func(e *Entry) bool { return e.MessageID == id }), err
}

func (g *guardedIndex) inMemory() bool {
	_, inMemory := g.index.(*MemoryIndex)
	return inMemory
}

// timeout returns how long a write may take.
func (g *guardedIndex) timeout() time.Duration { return g.writes.timeout() }

func (s *side) timeout() time.Duration {
	if s.failing.Load() {
		return failingIndexTimeout
	}
	return indexTimeout
}

// ask calls the index. That it fails is logged once, and that it works again. A context of the
// caller's that ends is the error, and says nothing about the index.
func ask[T any](ctx context.Context, g *guardedIndex, s *side, timeout time.Duration, f func(context.Context) (T, error)) (T, error) {
	if g.inMemory() { // which neither waits nor fails
		return f(ctx)
	}
	value, err := call(s.calls, ctx, timeout, "the index", f)
	switch ended := ctx.Err(); {
	case err == nil:
		if s.failing.CompareAndSwap(true, false) {
			g.log.Infof("The index works again (%s)", s.name)
		}
	case ended != nil && !errors.Is(err, ended):
		err = fmt.Errorf("%w: %w", ended, err)
	case ended == nil && !s.failing.Swap(true):
		g.log.Warnf("The index fails (%s), so that %s: %v", s.name, s.harm, err)
		if p := (*panicError)(nil); errors.As(err, &p) {
			g.log.Debugf("%s", p.stack)
		}
	}
	return value, err
}

// cloneAll copies entries with their bytes, which an index may keep, change or wipe.
func cloneAll(entries []Entry) []Entry {
	copies := slices.Clone(entries)
	for i := range copies {
		e := &copies[i]
		e.MediaKey, e.FileEncSHA256 = bytes.Clone(e.MediaKey), bytes.Clone(e.FileEncSHA256)
	}
	return copies
}

// checked returns those of the entries that can be what was asked for, as copies, and only as many
// as are kept of a crowd. A path that makes no URL is left out, and so is the time of a request in
// the future, which a wrong clock has noted.
func (g *guardedIndex) checked(found []Entry, c crowd, isAsked func(*Entry) bool) []Entry {
	if g.inMemory() {
		return found
	}
	found = slices.DeleteFunc(slices.Clone(found), func(e Entry) bool { return !isSound(&e) || !isAsked(&e) })
	found = cloneAll(c.cut(found))
	for i := range found {
		e := &found[i]
		if len(e.FileEncSHA256) == 0 {
			e.FileEncSHA256 = nil
		}
		for _, path := range [...]*string{&e.DirectPath, &e.CameWith} {
			if *path != "" && checkDirectPath(*path) != nil {
				*path = ""
			}
		}
		if e.Asked.At.IsZero() || time.Until(e.Asked.At) > maxSkew {
			e.Asked = Asked{}
		}
	}
	return found
}

// isSound reports whether the sizes of an entry are those that it must have.
func isSound(e *Entry) bool {
	return e.MessageID != "" && len(e.MessageID) <= maxMessageID && len(e.MediaKey) == mediaKeySize &&
		(len(e.FileEncSHA256) == 0 || len(e.FileEncSHA256) == fileHashSize) &&
		sizeOf(e.Chat) <= maxJID && sizeOf(e.Participant) <= maxJID
}

// cut leaves as many entries, the newest first, as a crowd has places. Of very many it looks only
// at the first ones and the oldest.
func (c crowd) cut(entries []Entry) (cut []Entry) {
	most := 2 * c.places()
	if len(entries) <= c.places() {
		return entries
	}
	all := make([]member, 0, most+1)
	numbers := newNumbering[types.JID](nil)
	for i := range entries {
		e := &entries[i]
		source := e.Chat
		if !c.forFile {
			source = senderOf(e)
		}
		all = append(all, member{uint64(numbers.use(source)), e.Timestamp.Unix()})
	}
	if oldest := oldestOf(all); len(all) > most && oldest >= most {
		all, entries = append(all[:most], all[oldest]), append(entries[:most], entries[oldest])
	} else if len(all) > most {
		all, entries = all[:most], entries[:most]
	}
	if c.forFile { // of those without a time the first ones count as the last that were put in
		slices.Reverse(all)
		slices.Reverse(entries)
		defer func() { slices.Reverse(cut) }()
	}
	for len(all) > c.places() {
		i := c.leaves(all)
		all, entries = slices.Delete(all, i, i+1), slices.Delete(entries, i, i+1)
	}
	return entries
}

// An outside runs the bot's own code, which may take any time, ignore its context, or never return.
type outside struct {
	slots   chan struct{} // one for each call that runs
	overdue atomic.Int32  // how many of these have had their time
}

// callsAtOnce is how many calls run at once. Further ones wait for them, and fail at once if none
// of them has returned in its time: so one that hangs for ever costs four goroutines, and not one
// for each download.
const callsAtOnce = 4

// callGrace is how much longer than its context's time a call has, so that it can say why it
// failed.
const callGrace = 100 * time.Millisecond

func newOutside() *outside { return &outside{slots: make(chan struct{}, callsAtOnce)} }

// errHangs is the error while all calls that run are overdue.
var errHangs = errors.New("hangs: no call returns any more")

// A panicError is a panic of the bot's own code.
type panicError struct {
	what  string
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("%s has panicked: %v", e.what, e.value) }

// call returns what f returns, and keeps its time whatever f does: after that, or when the context
// has ended, f runs on in the background, and what it returns is dropped. A panic of f becomes a
// *panicError. what is the name of f in the errors.
func call[T any](o *outside, ctx context.Context, timeout time.Duration, what string, f func(context.Context) (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if o.overdue.Load() >= callsAtOnce {
		return none, fmt.Errorf("%s %w", what, errHangs)
	}
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case o.slots <- struct{}{}:
	case <-limited.Done():
		if err := ctx.Err(); err != nil {
			return none, err
		}
		return none, fmt.Errorf("%s has not answered %d other calls in %s: %w", what, callsAtOnce, timeout, limited.Err())
	}
	type returned struct {
		value T
		err   error
	}
	done := make(chan returned, 1)
	late := o.watch(timeout + callGrace)
	go func() {
		r := returned{err: fmt.Errorf("%s has ended its goroutine", what)} // unless it returns
		defer func() {
			if p := recover(); p != nil {
				r.err = &panicError{what, p, debug.Stack()}
			}
			late()
			<-o.slots
			done <- r
		}()
		r.value, r.err = f(limited)
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-limited.Done():
	}
	grace := time.NewTimer(callGrace)
	defer grace.Stop()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	case <-grace.C:
		return none, fmt.Errorf("%s has not answered in %s: %w", what, timeout, limited.Err())
	}
}

// watch counts a call as overdue after some time, until the function that it returns is called.
func (o *outside) watch(after time.Duration) (returned func()) {
	var state atomic.Int32 // 1 is overdue, 2 has returned
	timer := time.AfterFunc(after, func() {
		o.overdue.Add(1)
		if !state.CompareAndSwap(0, 1) {
			o.overdue.Add(-1)
		}
	})
	return func() {
		timer.Stop()
		if state.Swap(2) == 1 {
			o.overdue.Add(-1)
		}
	}
}
