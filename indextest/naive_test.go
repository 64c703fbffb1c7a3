package indextest_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// A naive index is right. Each of the wrong ones differs from it in one of its functions.
type naive struct {
	mu       sync.Mutex
	accounts map[types.JID]*tables

	account  func(types.JID) types.JID
	batch    func([]reupload.Entry) []reupload.Entry // what of a batch is put in
	identity func(*reupload.Entry) any
	fileKey  func(fileEncSHA256 []byte) string // "" is none
	idKey    func(types.MessageID) string
	time     func(time.Time) time.Time
	accept   func(reupload.Entry) reupload.Entry // what is kept of a new entry
	merge    func(old *reupload.Entry, e reupload.Entry)
	order    func(a, b reupload.Entry) int
	byFile   func([]reupload.Entry) []reupload.Entry // what is left of an answer
	byID     func([]reupload.Entry) []reupload.Entry
	answer   func(*reupload.Entry) reupload.Entry
}

// tables holds the entries of an account.
type tables struct {
	same  map[any]*reupload.Entry
	files map[string][]*reupload.Entry
	ids   map[string][]*reupload.Entry
}

func newNaive() *naive {
	all := func(entries []reupload.Entry) []reupload.Entry { return entries }
	return &naive{
		accounts: make(map[types.JID]*tables),
		account:  func(jid types.JID) types.JID { return jid },
		batch:    all,
		identity: func(e *reupload.Entry) any {
			return wholeIdentity{e.MessageID, e.Chat, e.Participant, e.IsFromMe, string(e.MediaKey), string(e.FileEncSHA256)}
		},
		fileKey: func(file []byte) string { return string(file) },
		idKey:   func(id types.MessageID) string { return id },
		time:    wholeSeconds,
		accept: func(e reupload.Entry) reupload.Entry {
			if isNothing(e.Asked) {
				e.Asked = reupload.Asked{}
			}
			return e
		},
		merge: func(old *reupload.Entry, e reupload.Entry) {
			mergeTime(old, e)
			mergeCameWith(old, e)
			mergePath(old, e)
			mergeAsked(old, e)
		},
		order:  newestFirst,
		byFile: all,
		byID:   all,
		answer: cloned,
	}
}

type wholeIdentity struct {
	id                types.MessageID
	chat, participant types.JID
	fromMe            bool
	mediaKey, file    string
}

func newestFirst(a, b reupload.Entry) int { return b.Timestamp.Compare(a.Timestamp) }

func cloned(e *reupload.Entry) reupload.Entry {
	copied := *e
	copied.MediaKey, copied.FileEncSHA256 = bytes.Clone(e.MediaKey), bytes.Clone(e.FileEncSHA256)
	return copied
}

func wholeSeconds(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return time.Unix(t.Unix(), 0)
}

func mergeTime(old *reupload.Entry, e reupload.Entry) {
	if old.Timestamp.IsZero() {
		old.Timestamp, old.IsStatus = e.Timestamp, e.IsStatus
	}
}

func mergeCameWith(old *reupload.Entry, e reupload.Entry) {
	if old.CameWith == "" {
		old.CameWith = e.CameWith
	}
}

func mergePath(old *reupload.Entry, e reupload.Entry) {
	if e.DirectPath != "" {
		old.DirectPath = e.DirectPath
	}
}

func mergeAsked(old *reupload.Entry, e reupload.Entry) {
	if !isNothing(e.Asked) && !e.Asked.At.Before(old.Asked.At) {
		old.Asked = e.Asked
	}
}

// isNothing reports whether an Asked has no time, or one that only a wrong clock can have noted.
func isNothing(asked reupload.Asked) bool {
	return asked.At.IsZero() || time.Until(asked.At) > time.Hour
}

func (x *naive) Put(_ context.Context, account types.JID, entries []reupload.Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.batch(entries) {
		x.put(x.account(account), e)
	}
	return nil
}

func (x *naive) put(account types.JID, e reupload.Entry) {
	t := x.accounts[account]
	if t == nil {
		t = &tables{make(map[any]*reupload.Entry), make(map[string][]*reupload.Entry), make(map[string][]*reupload.Entry)}
		x.accounts[account] = t
	}
	e.Timestamp, e.Asked.At = x.time(e.Timestamp), x.time(e.Asked.At)
	identity := x.identity(&e)
	if old := t.same[identity]; old != nil {
		x.merge(old, e)
		return
	}
	e = x.accept(e)
	t.same[identity] = &e
	id, file := x.idKey(e.MessageID), x.fileKey(e.FileEncSHA256)
	t.ids[id] = append(t.ids[id], &e)
	t.files[file] = append(t.files[file], &e)
}

func (x *naive) ByFile(_ context.Context, account types.JID, file []byte) ([]reupload.Entry, error) {
	key := x.fileKey(file)
	if key == "" {
		return nil, nil
	}
	return x.byFile(x.look(account, func(t *tables) []*reupload.Entry { return t.files[key] })), nil
}

func (x *naive) ByMessage(_ context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	return x.byID(x.look(account, func(t *tables) []*reupload.Entry { return t.ids[x.idKey(id)] })), nil
}

func (x *naive) look(account types.JID, in func(*tables) []*reupload.Entry) (found []reupload.Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if t := x.accounts[x.account(account)]; t != nil {
		entries := slices.Clone(in(t))
		slices.SortStableFunc(entries, func(a, b *reupload.Entry) int { return x.order(*a, *b) })
		found = make([]reupload.Entry, 0, len(entries))
		for _, e := range entries {
			found = append(found, x.answer(e))
		}
	}
	return found
}
