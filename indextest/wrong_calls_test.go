package indextest_test

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// wrongCalls are indexes that do something wrong with a batch, an answer or a caller.
var wrongCalls = map[string]func() reupload.Index{
	// Batches.
	"refuses large batches": limited(func(n int) error {
		if n > 5000 {
			return errors.New("too many")
		}
		return nil
	}),
	"cuts large batches":           batching(func(b []reupload.Entry) []reupload.Entry { return b[:min(len(b), 5000)] }),
	"keeps the end of a batch":     batching(func(b []reupload.Entry) []reupload.Entry { return b[max(0, len(b)-5000):] }),
	"loses one between two pieces": batching(func(b []reupload.Entry) []reupload.Entry { return without(b, 1000) }),
	"puts in the first alone":      batching(func(b []reupload.Entry) []reupload.Entry { return b[:min(len(b), 1)] }),
	"puts batches in backwards": batching(func(b []reupload.Entry) []reupload.Entry {
		b = slices.Clone(b)
		slices.Reverse(b)
		return b
	}),
	"sorts batches by time": batching(func(b []reupload.Entry) []reupload.Entry {
		b = slices.Clone(b)
		slices.SortStableFunc(b, newestFirst)
		return b
	}),
	"keeps the last of those alike in a batch":  func() reupload.Index { return distinct(true) },
	"keeps the first of those alike in a batch": func() reupload.Index { return distinct(false) },
	"loses the original before a stranger's": batching(func(b []reupload.Entry) []reupload.Entry {
		return slices.CompactFunc(slices.Clone(b), func(a, b reupload.Entry) bool {
			return a.MessageID == b.MessageID && string(a.FileEncSHA256) == string(b.FileEncSHA256)
		})
	}),
	"fails with an empty batch": limited(func(n int) error {
		if n == 0 {
			return errors.New("nothing to do")
		}
		return nil
	}),
	"panics with an empty batch": batching(func(b []reupload.Entry) []reupload.Entry { _ = b[0]; return b }),
	"forgets after a thousand": wrong(func(x *naive) {
		x.batch = func(b []reupload.Entry) []reupload.Entry {
			for _, t := range x.accounts {
				if len(t.same) > 1000 {
					clear(x.accounts)
				}
			}
			return b
		}
	}),

	// Orders and limits.
	"returns the oldest first":       wrong(func(x *naive) { x.order = func(a, b reupload.Entry) int { return newestFirst(b, a) } }),
	"returns the last put first":     wrong(func(x *naive) { x.order = func(a, b reupload.Entry) int { return -1 } }),
	"returns the first put first":    wrong(func(x *naive) { x.order = func(a, b reupload.Entry) int { return 0 } }),
	"returns what has no time first": wrong(func(x *naive) { x.order = nullsFirst }),
	"returns the last asked first": wrong(func(x *naive) {
		x.order = func(a, b reupload.Entry) int { return cmp.Or(b.Asked.At.Compare(a.Asked.At), newestFirst(a, b)) }
	}),
	"returns those with a path first": wrong(func(x *naive) {
		x.order = func(a, b reupload.Entry) int {
			return cmp.Or(strings.Compare(b.DirectPath, a.DirectPath), newestFirst(a, b))
		}
	}),
	"returns one of a file":           answeringByFile(func(found []reupload.Entry) []reupload.Entry { return found[:min(len(found), 1)] }),
	"returns 15 of a file":            answeringByFile(newestAndOldest(15)),
	"returns the newest 16 of a file": answeringByFile(func(found []reupload.Entry) []reupload.Entry { return found[:min(len(found), 16)] }),
	"returns the newest 39 of a file": answeringByFile(func(found []reupload.Entry) []reupload.Entry { return found[:min(len(found), 39)] }),
	"returns the oldest 16 of a file": answeringByFile(func(found []reupload.Entry) []reupload.Entry { return found[max(0, len(found)-16):] }),
	"returns the oldest out of order": answeringByFile(func(found []reupload.Entry) []reupload.Entry {
		if found = newestAndOldest(16)(found); len(found) == 16 {
			found = append(found[15:], found[:15]...)
		}
		return found
	}),
	"takes what has no time for the oldest": answeringByFile(func(found []reupload.Entry) []reupload.Entry {
		if len(found) > 16 {
			found = append(found[:15], found[len(found)-1])
		}
		return found
	}),
	"returns a file of a message once": answeringByFile(func(found []reupload.Entry) []reupload.Entry {
		return once(found, func(e reupload.Entry) string { return e.MessageID })
	}),
	"returns a file of a chat once": answeringByFile(func(found []reupload.Entry) []reupload.Entry {
		return once(found, func(e reupload.Entry) string { return e.Chat.String() })
	}),
	"forgets the first of a file":        func() reupload.Index { return forgetful(func(of []*reupload.Entry) int { return 0 }) },
	"forgets the oldest of a file":       func() reupload.Index { return forgetful(oldest) },
	"returns the first quotes of a file": answeringByFile(newestAndOldest(16)),
	"has no room for more quotes": wrong(func(x *naive) {
		x.batch = func(b []reupload.Entry) []reupload.Entry {
			return slices.DeleteFunc(slices.Clone(b), func(e reupload.Entry) bool {
				return e.Timestamp.IsZero() && slices.ContainsFunc(slices.Collect(maps.Values(x.accounts)), func(t *tables) bool {
					return len(t.files[string(e.FileEncSHA256)]) >= 16
				})
			})
		}
	}),
	"forgets a known time for none":          func() reupload.Index { return forgetful(func(of []*reupload.Entry) int { return min(5, len(of)-1) }) },
	"returns 5 of a message":                 answeringByID(func(found []reupload.Entry) []reupload.Entry { return found[:min(len(found), 5)] }),
	"returns 255 of a message":               answeringByID(func(found []reupload.Entry) []reupload.Entry { return found[:min(len(found), 255)] }),
	"returns the newest 256 of a message":    answeringByID(func(found []reupload.Entry) []reupload.Entry { return found[:min(len(found), 256)] }),
	"returns the oldest 255 of a message":    answeringByID(func(found []reupload.Entry) []reupload.Entry { return found[max(0, len(found)-255):] }),
	"returns the first 256 put of a message": func() reupload.Index { return full{newNaive()} },
	"returns a message's file once": answeringByID(func(found []reupload.Entry) []reupload.Entry {
		return once(found, func(e reupload.Entry) string { return string(e.FileEncSHA256) })
	}),
	"returns a message's chat once": answeringByID(func(found []reupload.Entry) []reupload.Entry {
		return once(found, func(e reupload.Entry) string { return e.Chat.String() })
	}),
	"returns messages with files": answeringByID(func(found []reupload.Entry) []reupload.Entry {
		return slices.DeleteFunc(found, func(e reupload.Entry) bool { return e.FileEncSHA256 == nil })
	}),
	"returns messages unordered":   answeringByID(func(found []reupload.Entry) []reupload.Entry { slices.Reverse(found); return found }),
	"returns entries twice":        answeringByID(func(found []reupload.Entry) []reupload.Entry { return append(found, found...) }),
	"shares limits among accounts": func() reupload.Index { return crowded{newNaive()} },
	"remembers few accounts": wrong(func(x *naive) {
		x.account = func(jid types.JID) types.JID {
			if x.accounts[jid] == nil && len(x.accounts) >= 16 {
				clear(x.accounts)
			}
			return jid
		}
	}),

	// Whose memory it is.
	"answers with its own keys": answering(func(e *reupload.Entry) reupload.Entry {
		copied := cloned(e)
		copied.MediaKey = e.MediaKey
		return copied
	}),
	"answers with its own hashes": answering(func(e *reupload.Entry) reupload.Entry {
		copied := cloned(e)
		copied.FileEncSHA256 = e.FileEncSHA256
		return copied
	}),
	"answers with one array for both": answering(func(e *reupload.Entry) reupload.Entry {
		both, copied := slices.Concat(e.MediaKey, e.FileEncSHA256), cloned(e)
		copied.MediaKey = both[:32]
		if e.FileEncSHA256 != nil {
			copied.FileEncSHA256 = both[32:]
		}
		return copied
	}),
	"answers with what it has answered": func() reupload.Index { return &cached{Index: newNaive(), answers: make(map[string][]reupload.Entry)} },
	"answers with an empty hash": answering(func(e *reupload.Entry) reupload.Entry {
		copied := cloned(e)
		if copied.FileEncSHA256 == nil {
			copied.FileEncSHA256 = []byte{}
		}
		return copied
	}),
	"keeps the batch":     func() reupload.Index { return &lazy{Index: newNaive()} },
	"sorts what it takes": batching(func(b []reupload.Entry) []reupload.Entry { slices.SortFunc(b, newestFirst); return b }),
	"wipes what it takes": func() reupload.Index { return wiping{newNaive()} },

	// At the same time, and with a context.
	"reads, then writes": func() reupload.Index { return newReadThenWrite() },
	"writes when it can": func() reupload.Index { return &dropping{Index: newNaive()} },
	"hangs without a context": func() reupload.Index {
		return checking{newNaive(), func(ctx context.Context) error {
			if ctx.Err() != nil {
				select {}
			}
			return nil
		}}
	},
	"waits in spite of a context": func() reupload.Index {
		return checking{newNaive(), func(ctx context.Context) error {
			if ctx.Err() != nil {
				time.Sleep(400 * time.Millisecond)
			}
			return nil
		}}
	},
	"is broken by a context": func() reupload.Index {
		var broken atomic.Bool
		return checking{newNaive(), func(ctx context.Context) error {
			if ctx.Err() != nil {
				broken.Store(true)
			}
			if broken.Load() {
				return errors.New("broken")
			}
			return nil
		}}
	},
	"fails where it knows nothing": func() reupload.Index { return noRows{newNaive()} },
	"panics without a file":        wrong(func(x *naive) { x.fileKey = func(file []byte) string { return string(file[:32]) } }),
	"remembers nothing":            batching(func([]reupload.Entry) []reupload.Entry { return nil }),
}
