package indextest_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

func wrong(change func(*naive)) func() reupload.Index {
	return func() reupload.Index {
		x := newNaive()
		change(x)
		return x
	}
}

func ignoring(part func(*reupload.Entry)) func() reupload.Index {
	return wrong(func(x *naive) {
		right := x.identity
		x.identity = func(e *reupload.Entry) any {
			copied := *e
			part(&copied)
			return right(&copied)
		}
	})
}

func identifying(more func(*reupload.Entry) any) func() reupload.Index {
	return wrong(func(x *naive) {
		right := x.identity
		x.identity = func(e *reupload.Entry) any { return [2]any{right(e), more(e)} }
	})
}

func merging(parts ...func(*reupload.Entry, reupload.Entry)) func() reupload.Index {
	return wrong(func(x *naive) {
		x.merge = func(old *reupload.Entry, e reupload.Entry) {
			for _, part := range parts {
				part(old, e)
			}
		}
	})
}

func timeIf(replaces func(old, e time.Time) bool) func(*reupload.Entry, reupload.Entry) {
	return func(old *reupload.Entry, e reupload.Entry) {
		if replaces(old.Timestamp, e.Timestamp) {
			old.Timestamp = e.Timestamp
		}
	}
}

func askedIf(replaces func(old, e time.Time) bool) func(*reupload.Entry, reupload.Entry) {
	return func(old *reupload.Entry, e reupload.Entry) {
		if replaces(old.Asked.At, e.Asked.At) {
			old.Asked = e.Asked
		}
	}
}

// throughUnix is for a database in which 0 is no time.
func throughUnix(t time.Time) time.Time {
	if t.IsZero() || t.Unix() == 0 {
		return time.Time{}
	}
	return wholeSeconds(t)
}

func accepting(change func(*reupload.Entry)) func() reupload.Index {
	return wrong(func(x *naive) {
		right := x.accept
		x.accept = func(e reupload.Entry) reupload.Entry {
			change(&e)
			return right(e)
		}
	})
}

// storing changes entries on their way in.
func storing(change func(*reupload.Entry)) func() reupload.Index {
	return batching(func(batch []reupload.Entry) []reupload.Entry {
		batch = slices.Clone(batch)
		for i := range batch {
			change(&batch[i])
		}
		return batch
	})
}

func throughJID(change func(types.JID) types.JID) func() reupload.Index {
	return storing(func(e *reupload.Entry) { e.Chat, e.Participant = change(e.Chat), change(e.Participant) })
}

func batching(change func([]reupload.Entry) []reupload.Entry) func() reupload.Index {
	return wrong(func(x *naive) { x.batch = change })
}

func answering(change func(*reupload.Entry) reupload.Entry) func() reupload.Index {
	return wrong(func(x *naive) { x.answer = change })
}

func answeringByFile(change func([]reupload.Entry) []reupload.Entry) func() reupload.Index {
	return wrong(func(x *naive) { x.byFile = change })
}

func answeringByID(change func([]reupload.Entry) []reupload.Entry) func() reupload.Index {
	return wrong(func(x *naive) { x.byID = change })
}

func without(batch []reupload.Entry, i int) []reupload.Entry {
	if i >= len(batch) {
		return batch
	}
	return slices.Delete(slices.Clone(batch), i, i+1)
}

func nullsFirst(a, b reupload.Entry) int {
	if a.Timestamp.IsZero() != b.Timestamp.IsZero() {
		if a.Timestamp.IsZero() {
			return -1
		}
		return 1
	}
	return newestFirst(a, b)
}

// newestAndOldest limits an answer as it should be limited.
func newestAndOldest(limit int) func([]reupload.Entry) []reupload.Entry {
	return func(found []reupload.Entry) []reupload.Entry {
		if len(found) <= limit {
			return found
		}
		last := len(found) - 1
		for last >= limit && found[last].Timestamp.IsZero() {
			last--
		}
		return append(found[:limit-1], found[last])
	}
}

func once[K comparable](found []reupload.Entry, key func(reupload.Entry) K) []reupload.Entry {
	seen := make(map[K]bool)
	return slices.DeleteFunc(found, func(e reupload.Entry) bool {
		again := seen[key(e)]
		seen[key(e)] = true
		return again
	})
}

func oldest(of []*reupload.Entry) (found int) {
	for i := range of {
		if of[i].Timestamp.Before(of[found].Timestamp) {
			found = i
		}
	}
	return found
}

// forgetful has room for 16 messages of a file, and forgets one of them for the next.
func forgetful(victim func([]*reupload.Entry) int) *naive {
	x := newNaive()
	right := x.accept
	x.accept = func(e reupload.Entry) reupload.Entry {
		for _, t := range x.accounts {
			if of := t.files[string(e.FileEncSHA256)]; len(of) >= 16 {
				gone := of[victim(of)]
				t.files[string(e.FileEncSHA256)] = slices.DeleteFunc(of, func(e *reupload.Entry) bool { return e == gone })
				t.ids[gone.MessageID] = slices.DeleteFunc(t.ids[gone.MessageID], func(e *reupload.Entry) bool { return e == gone })
				delete(t.same, x.identity(gone))
			}
		}
		return right(e)
	}
	return x
}

// sharing gives a part of what is put in to others.
func sharing(among func(*tables, *reupload.Entry) []*reupload.Entry, merge func(*reupload.Entry, reupload.Entry)) func() reupload.Index {
	return wrong(func(x *naive) {
		x.batch = func(batch []reupload.Entry) []reupload.Entry {
			for _, e := range batch {
				for _, t := range x.accounts {
					for _, other := range among(t, &e) {
						merge(other, e)
					}
				}
			}
			return batch
		}
	})
}

// distinct drops those of a batch that have the same identity as another one.
func distinct(keepLast bool) *naive {
	x := newNaive()
	x.batch = func(batch []reupload.Entry) []reupload.Entry {
		batch = slices.Clone(batch)
		if keepLast {
			slices.Reverse(batch)
			defer slices.Reverse(batch)
		}
		return once(batch, func(e reupload.Entry) any { return x.identity(&e) })
	}
	return x
}

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

// crowded has room for 16 messages of a file, whoever has it.
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

// readThenWrite merges what it has read before with what is new, and does not lock what lies between.
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
