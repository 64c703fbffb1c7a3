package indextest_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

func limited(check func(n int) error) func() reupload.Index {
	return func() reupload.Index { return &refusing{newNaive(), check} }
}

type refusing struct {
	reupload.Index
	check func(n int) error
}

func (x *refusing) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if err := x.check(len(entries)); err != nil {
		return err
	}
	return x.Index.Put(ctx, account, entries)
}

// crowded has room for 16 messages of a file, over all accounts.
type crowded struct{ *naive }

func (x crowded) ByFile(ctx context.Context, account types.JID, file []byte) (mine []reupload.Entry, _ error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	type owned struct {
		account types.JID
		entry   *reupload.Entry
	}
	var all []owned
	for owner, t := range x.accounts {
		for _, e := range t.files[string(file)] {
			all = append(all, owned{owner, e})
		}
	}
	slices.SortFunc(all, func(a, b owned) int { return newestFirst(*a.entry, *b.entry) })
	for i, o := range all {
		if o.account == account && (i < 15 || i == len(all)-1) {
			mine = append(mine, cloned(o.entry))
		}
	}
	return mine, nil
}

// full has room for 256 of a message, and then takes no more.
type full struct{ *naive }

func (x full) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	for _, e := range entries {
		if found, _ := x.ByMessage(ctx, account, e.MessageID); len(found) >= 256 &&
			!slices.ContainsFunc(found, func(old reupload.Entry) bool { return x.identity(&old) == x.identity(&e) }) {
			continue
		}
		if err := x.naive.Put(ctx, account, []reupload.Entry{e}); err != nil {
			return err
		}
	}
	return nil
}

// cached answers again with what it has answered before, as long as nothing is put in.
type cached struct {
	reupload.Index
	mu      sync.Mutex
	answers map[string][]reupload.Entry
}

func (x *cached) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	clear(x.answers)
	return x.Index.Put(ctx, account, entries)
}

func (x *cached) ByFile(ctx context.Context, account types.JID, file []byte) ([]reupload.Entry, error) {
	return x.once(fmt.Sprintf("%v %x", account, file), func() ([]reupload.Entry, error) { return x.Index.ByFile(ctx, account, file) })
}

func (x *cached) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	return x.once(fmt.Sprintf("%v %q", account, id), func() ([]reupload.Entry, error) { return x.Index.ByMessage(ctx, account, id) })
}

func (x *cached) once(key string, look func() ([]reupload.Entry, error)) ([]reupload.Entry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.answers[key] == nil {
		x.answers[key], _ = look()
	}
	return x.answers[key], nil
}

// lazy puts a batch in when the next call needs it.
type lazy struct {
	reupload.Index
	mu      sync.Mutex
	account types.JID
	waiting []reupload.Entry
}

func (x *lazy) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.flush(ctx)
	x.account, x.waiting = account, entries
	return nil
}

func (x *lazy) flush(ctx context.Context) {
	_ = x.Index.Put(ctx, x.account, x.waiting)
	x.waiting = nil
}

func (x *lazy) ByFile(ctx context.Context, account types.JID, file []byte) ([]reupload.Entry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.flush(ctx)
	return x.Index.ByFile(ctx, account, file)
}

func (x *lazy) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.flush(ctx)
	return x.Index.ByMessage(ctx, account, id)
}

// wiping leaves no keys in what it was given.
type wiping struct{ reupload.Index }

func (x wiping) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	kept := make([]reupload.Entry, len(entries))
	for i := range entries {
		kept[i] = cloned(&entries[i])
		clear(entries[i].MediaKey)
	}
	return x.Index.Put(ctx, account, kept)
}

// readThenWrite merges what it has read before with what is new, and does not lock what lies
// between.
type readThenWrite struct{ *naive }

func newReadThenWrite() readThenWrite {
	x := newNaive()
	x.merge = func(old *reupload.Entry, e reupload.Entry) { *old = e }
	return readThenWrite{x}
}

func (x readThenWrite) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	right := newNaive()
	for _, e := range entries {
		found, _ := x.ByMessage(ctx, account, e.MessageID)
		for _, old := range found {
			if x.identity(&old) == x.identity(&e) {
				e.Timestamp, e.Asked.At = wholeSeconds(e.Timestamp), wholeSeconds(e.Asked.At)
				right.merge(&old, e)
				e = old
			}
		}
		runtime.Gosched()
		if err := x.naive.Put(ctx, account, []reupload.Entry{e}); err != nil {
			return err
		}
	}
	return nil
}

// dropping writes unless somebody else does.
type dropping struct {
	reupload.Index
	mu sync.Mutex
}

func (x *dropping) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if !x.mu.TryLock() {
		return nil
	}
	defer x.mu.Unlock()
	runtime.Gosched() // so that somebody else comes
	return x.Index.Put(ctx, account, entries)
}

// checking fails where a check does.
type checking struct {
	reupload.Index
	check func(context.Context) error
}

func (x checking) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if err := x.check(ctx); err != nil {
		return err
	}
	return x.Index.Put(ctx, account, entries)
}

func (x checking) ByFile(ctx context.Context, account types.JID, file []byte) ([]reupload.Entry, error) {
	if err := x.check(ctx); err != nil {
		return nil, err
	}
	return x.Index.ByFile(ctx, account, file)
}

func (x checking) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	if err := x.check(ctx); err != nil {
		return nil, err
	}
	return x.Index.ByMessage(ctx, account, id)
}

// noRows fails as a database does.
type noRows struct{ reupload.Index }

func (x noRows) ByFile(ctx context.Context, account types.JID, file []byte) ([]reupload.Entry, error) {
	found, err := x.Index.ByFile(ctx, account, file)
	if len(found) == 0 && err == nil {
		err = sql.ErrNoRows
	}
	return found, err
}
