package indextest_test

import (
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// limits are those of an index that returns as little as the rules allow. It remembers all, and so
// can choose without regard to the order in which entries came.
type limits struct {
	timed, untimed int
	places         int                             // timed and untimed together
	perSender      int                             // 0 for no limit
	source         func(e *reupload.Entry) any     // whose places they are
	keepsOldest    bool                            // the very oldest of those with a time
	better         func(a, b *reupload.Entry) bool // of two of one source with a time; nil for the one put in last
	lastQuotes     bool                            // of quotes, the last ones are better
}

func ofFile() limits {
	return limits{
		timed: 12, untimed: 4, places: 16, keepsOldest: true, lastQuotes: true,
		source: func(e *reupload.Entry) any { return e.Chat },
		better: func(a, b *reupload.Entry) bool { return a.Timestamp.After(b.Timestamp) },
	}
}

func ofMessage() limits {
	return limits{
		timed: 192, untimed: 64, places: 256, perSender: 64,
		source: func(e *reupload.Entry) any {
			switch {
			case e.IsFromMe:
				return types.EmptyJID
			case e.Participant == types.EmptyJID:
				return e.Chat
			}
			return e.Participant
		},
		better: func(a, b *reupload.Entry) bool { return a.Timestamp.Before(b.Timestamp) },
	}
}

// cut leaves of all entries, which are the newest first, as few as there must be.
func (l limits) cut(all []reupload.Entry) []reupload.Entry {
	var timed, untimed []*reupload.Entry
	for i := range all {
		if e := &all[i]; e.Timestamp.IsZero() {
			untimed = append(untimed, e)
		} else {
			timed = append(timed, e)
		}
	}
	slices.SortStableFunc(timed, func(a, b *reupload.Entry) int {
		if l.better(a, b) {
			return -1
		}
		return 1
	})
	if l.lastQuotes {
		slices.Reverse(untimed)
	}
	if l.perSender > 0 {
		counts := make(map[any]int)
		tooMany := func(e *reupload.Entry) bool {
			counts[l.source(e)]++
			return counts[l.source(e)] > l.perSender
		}
		timed, untimed = slices.DeleteFunc(timed, tooMany), slices.DeleteFunc(untimed, tooMany)
	}
	places := min(len(timed), max(l.timed, l.places-len(untimed)))
	var kept []*reupload.Entry
	if len(timed) > places && l.keepsOldest {
		oldest := slices.MinFunc(timed, func(a, b *reupload.Entry) int { return a.Timestamp.Compare(b.Timestamp) })
		timed = slices.DeleteFunc(timed, func(e *reupload.Entry) bool { return e == oldest })
		kept = append(kept, oldest)
	}
	kept = append(kept, l.share(timed, places-len(kept))...)
	kept = append(kept, l.share(untimed, max(l.untimed, l.places-places))...)
	return slices.DeleteFunc(all, func(e reupload.Entry) bool {
		return !slices.ContainsFunc(kept, func(k *reupload.Entry) bool { return cmpEntries(k, &e) })
	})
}

// cmpEntries reports whether two entries are the same, both of one index.
func cmpEntries(a, b *reupload.Entry) bool {
	return a.MessageID == b.MessageID && a.Chat == b.Chat && a.Participant == b.Participant && a.IsFromMe == b.IsFromMe &&
		string(a.MediaKey) == string(b.MediaKey) && string(a.FileEncSHA256) == string(b.FileEncSHA256)
}

// share takes one of each source in turn, the best ones first.
func (l limits) share(all []*reupload.Entry, places int) (kept []*reupload.Entry) {
	turns := make(map[any]int)
	turn := make(map[*reupload.Entry]int)
	for _, e := range all {
		turns[l.source(e)]++
		turn[e] = turns[l.source(e)]
	}
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b *reupload.Entry) int { return turn[a] - turn[b] })
	return all[:max(0, min(places, len(all)))]
}

// limitedIndex cuts what a right index returns.
func limitedIndex(change func(file, message *limits)) func() reupload.Index {
	return wrong(func(x *naive) {
		file, message := ofFile(), ofMessage()
		change(&file, &message)
		// The limits do not change what is asked for, and the index copies what it returns.
		x.byFile = func(found []reupload.Entry) []reupload.Entry { return file.cut(slices.Clone(found)) }
		x.byID = func(found []reupload.Entry) []reupload.Entry { return message.cut(slices.Clone(found)) }
	})
}

// wrongLimits are indexes that break one of the rules of fairness.
var wrongLimits = map[string]func() reupload.Index{
	"has no places for quotes of a file":      limitedIndex(func(f, _ *limits) { f.timed, f.untimed = 16, 0 }),
	"has three places for quotes of a file":   limitedIndex(func(f, _ *limits) { f.timed, f.untimed = 13, 3 }),
	"has few places for what was delivered":   limitedIndex(func(f, _ *limits) { f.timed, f.untimed = 11, 5 }),
	"does not lend places of a file":          limitedIndex(func(f, _ *limits) { f.places = 0 }),
	"forgets the very oldest of a file":       limitedIndex(func(f, _ *limits) { f.keepsOldest = false }),
	"keeps the first quotes of a file":        limitedIndex(func(f, _ *limits) { f.lastQuotes = false }),
	"keeps the oldest of a file":              limitedIndex(func(f, m *limits) { f.better = m.better }),
	"lets one chat take a file's places":      limitedIndex(func(f, _ *limits) { f.source = func(*reupload.Entry) any { return 0 } }),
	"takes the chat's server for the chat":    limitedIndex(func(f, _ *limits) { f.source = func(e *reupload.Entry) any { return e.Chat.Server } }),
	"takes the sender for the chat":           limitedIndex(func(f, m *limits) { f.source = m.source }),
	"has no places for quotes of an id":       limitedIndex(func(_, m *limits) { m.timed, m.untimed = 256, 0 }),
	"has few places for delivered of an id":   limitedIndex(func(_, m *limits) { m.timed, m.untimed = 150, 106 }),
	"does not lend places of an id":           limitedIndex(func(_, m *limits) { m.places = 0 }),
	"has too few places for a sender":         limitedIndex(func(_, m *limits) { m.perSender = 63 }),
	"lets one sender take an id's places":     limitedIndex(func(_, m *limits) { m.source, m.perSender = func(*reupload.Entry) any { return 0 }, 0 }),
	"limits all senders together":             limitedIndex(func(_, m *limits) { m.source = func(*reupload.Entry) any { return 0 } }),
	"takes the chat for the sender":           limitedIndex(func(f, m *limits) { m.source = f.source }),
	"takes the participant for the sender":    limitedIndex(func(_, m *limits) { m.source = func(e *reupload.Entry) any { return e.Participant } }),
	"takes own messages for the other's":      limitedIndex(func(_, m *limits) { m.source = func(e *reupload.Entry) any { return e.Participant.User + e.Chat.User } }),
	"keeps the newest of an id":               limitedIndex(func(f, m *limits) { m.better = f.better }),
	"lets quotes take the places of a sender": limitedIndex(func(_, m *limits) { m.perSender = 0; m.timed, m.untimed = 40, 216 }),
}

// wrongCameWith are indexes that do something wrong with the path that a message came with.
var wrongCameWith = map[string]func() reupload.Index{
	"forgets what it came with": storing(func(e *reupload.Entry) { e.CameWith = "" }),
	"replaces what it came with": wrong(func(x *naive) {
		x.merge = func(old *reupload.Entry, e reupload.Entry) { replaceCameWith(old, e); mergeRest(old, e) }
	}),
	"loses what it came with": wrong(func(x *naive) {
		x.merge = func(old *reupload.Entry, e reupload.Entry) { old.CameWith = e.CameWith; mergeRest(old, e) }
	}),
	"never learns the path": wrong(func(x *naive) { x.merge = mergeRest }),
	"keeps the longest it had": wrong(func(x *naive) {
		x.merge = func(old *reupload.Entry, e reupload.Entry) { longestCameWith(old, e); mergeRest(old, e) }
	}),
	"has the new path replace it": wrong(func(x *naive) {
		x.merge = func(old *reupload.Entry, e reupload.Entry) { x.mergeAll(old, e); old.CameWith = newPath(old) }
	}),
	"takes it for the phone's":     storing(func(e *reupload.Entry) { e.DirectPath += e.CameWith }),
	"drops its query":              storing(func(e *reupload.Entry) { e.CameWith, _, _ = strings.Cut(e.CameWith, "?") }),
	"keeps 511 bytes of it":        storing(func(e *reupload.Entry) { e.CameWith = e.CameWith[:min(511, len(e.CameWith))] }),
	"keeps 512 bytes of it":        storing(func(e *reupload.Entry) { e.CameWith = e.CameWith[:min(512, len(e.CameWith))] }),
	"keeps none of 512 bytes":      storing(func(e *reupload.Entry) { e.CameWith = ifShort(e.CameWith, 511) }),
	"repairs it":                   storing(func(e *reupload.Entry) { e.CameWith = strings.ToValidUTF8(e.CameWith, "?") }),
	"cuts it at NUL":               storing(func(e *reupload.Entry) { e.CameWith, _, _ = strings.Cut(e.CameWith, "\x00") }),
	"identifies by it":             identifying(func(e *reupload.Entry) any { return e.CameWith }),
	"shares it among those of one": sharing(func(t *tables, e *reupload.Entry) []*reupload.Entry { return t.ids[e.MessageID] }, mergeCameWith),
}

func (x *naive) mergeAll(old *reupload.Entry, e reupload.Entry) {
	mergeCameWith(old, e)
	mergeRest(old, e)
}

func mergeRest(old *reupload.Entry, e reupload.Entry) {
	mergeTime(old, e)
	mergePath(old, e)
	mergeAsked(old, e)
}

func replaceCameWith(old *reupload.Entry, e reupload.Entry) {
	if e.CameWith != "" {
		old.CameWith = e.CameWith
	}
}

func longestCameWith(old *reupload.Entry, e reupload.Entry) {
	if len(e.CameWith) > len(old.CameWith) {
		old.CameWith = e.CameWith
	}
}

func newPath(e *reupload.Entry) string {
	if e.DirectPath != "" {
		return e.DirectPath
	}
	return e.CameWith
}

func ifShort(path string, most int) string {
	if len(path) > most {
		return ""
	}
	return path
}

// wrongFuture are indexes that believe a wrong clock.
var wrongFuture = map[string]func() reupload.Index{
	"takes what is from the future": wrong(func(x *naive) {
		x.accept = func(e reupload.Entry) reupload.Entry { return e }
		x.merge = func(old *reupload.Entry, e reupload.Entry) {
			mergeCameWith(old, e)
			mergeTime(old, e)
			mergePath(old, e)
			if !e.Asked.At.IsZero() && !e.Asked.At.Before(old.Asked.At) {
				old.Asked = e.Asked
			}
		}
	}),
	"takes the future of a new entry": wrong(func(x *naive) { x.accept = func(e reupload.Entry) reupload.Entry { return e } }),
	"takes no clock that is ahead": storing(func(e *reupload.Entry) {
		if timeUntil(e.Asked.At) > 0 {
			e.Asked = reupload.Asked{}
		}
	}),
	"drops an entry from the future": batching(func(b []reupload.Entry) []reupload.Entry {
		return slices.DeleteFunc(slices.Clone(b), func(e reupload.Entry) bool { return timeUntil(e.Asked.At) > 3600 })
	}),
	"takes no message from the future": storing(func(e *reupload.Entry) {
		if timeUntil(e.Timestamp) > 3600 {
			e.Timestamp = time.Time{}
		}
	}),
}

func timeUntil(t time.Time) (seconds float64) { return time.Until(t).Seconds() }
