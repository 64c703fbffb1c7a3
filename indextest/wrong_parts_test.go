package indextest_test

import (
	"slices"
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
			mergeCameWith(old, e)
			for _, part := range parts {
				part(old, e)
			}
		}
	})
}

func timeIf(replaces func(old, e time.Time) bool) func(*reupload.Entry, reupload.Entry) {
	return func(old *reupload.Entry, e reupload.Entry) {
		if replaces(old.Timestamp, e.Timestamp) {
			old.Timestamp, old.IsStatus = e.Timestamp, e.IsStatus
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

// newestAndOldest limits an answer as it should be limited, but to the first quotes, not the last.
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
