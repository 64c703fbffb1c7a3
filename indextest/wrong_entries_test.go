package indextest_test

import (
	"cmp"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// wrongEntries are indexes that do something wrong with an entry.
var wrongEntries = map[string]func() reupload.Index{
	// Identity.
	"ignores the message id":       ignoring(func(e *reupload.Entry) { e.MessageID = "" }),
	"ignores the chat":             ignoring(func(e *reupload.Entry) { e.Chat = types.EmptyJID }),
	"ignores the chat's server":    ignoring(func(e *reupload.Entry) { e.Chat.Server = "" }),
	"ignores the participant":      ignoring(func(e *reupload.Entry) { e.Participant = types.EmptyJID }),
	"ignores the sender's server":  ignoring(func(e *reupload.Entry) { e.Participant.Server = "" }),
	"ignores the integrator":       throughJID(func(jid types.JID) types.JID { jid.Integrator = 0; return jid }),
	"ignores the direction":        ignoring(func(e *reupload.Entry) { e.IsFromMe = false }),
	"ignores the media key":        ignoring(func(e *reupload.Entry) { e.MediaKey = nil }),
	"ignores half of the key":      ignoring(func(e *reupload.Entry) { e.MediaKey = e.MediaKey[:16] }),
	"ignores half of the key, too": ignoring(func(e *reupload.Entry) { e.MediaKey = e.MediaKey[16:] }),
	"ignores the file":             ignoring(func(e *reupload.Entry) { e.FileEncSHA256 = nil }),
	"ignores half of the file": wrong(func(x *naive) {
		x.fileKey = func(file []byte) string { return string(file[:min(8, len(file))]) }
	}),
	"ignores the account": wrong(func(x *naive) { x.account = func(types.JID) types.JID { return types.EmptyJID } }),
	"ignores the account's server": wrong(func(x *naive) {
		x.account = func(jid types.JID) types.JID { jid.Server = ""; return jid }
	}),
	"takes the time for identity": identifying(func(e *reupload.Entry) any { return e.Timestamp }),
	"takes the path for identity": identifying(func(e *reupload.Entry) any { return e.DirectPath }),
	"takes the file alone for identity": wrong(func(x *naive) {
		x.identity = func(e *reupload.Entry) any { return string(e.FileEncSHA256) + fmt.Sprint(e.FileEncSHA256 == nil) }
	}),
	"takes message and file for identity": wrong(func(x *naive) {
		x.identity = func(e *reupload.Entry) any { return e.MessageID + string(e.FileEncSHA256) }
	}),
	"writes identities without separators": wrong(func(x *naive) {
		x.identity = func(e *reupload.Entry) any {
			return e.MessageID + e.Chat.String() + e.Participant.User + e.Participant.Server + fmt.Sprint(e.IsFromMe, e.MediaKey, e.FileEncSHA256)
		}
	}),
	"writes users without separators": wrong(func(x *naive) {
		x.identity = func(e *reupload.Entry) any {
			return e.Chat.User + e.Participant.User + fmt.Sprintf("%q %q %q", e.MessageID, e.Chat.Server, e.Participant.Server) +
				fmt.Sprint(e.IsFromMe, e.MediaKey, e.FileEncSHA256)
		}
	}),
	"sorts chat and participant": ignoring(func(e *reupload.Entry) {
		if e.Chat.String() > e.Participant.String() {
			e.Chat, e.Participant = e.Participant, e.Chat
		}
	}),
	"takes no file for zeros": wrong(func(x *naive) {
		x.fileKey = func(file []byte) string {
			return string(append(file[:len(file):len(file)], make([]byte, 32-len(file))...))
		}
	}),
	"returns all without a file": wrong(func(x *naive) { x.fileKey = func(file []byte) string { return "file " + string(file) } }),

	// Times.
	"never finds out a time":      merging(mergePath, mergeAsked),
	"replaces any time":           merging(mergePath, mergeAsked, timeIf(func(_, _ time.Time) bool { return true })),
	"replaces a time by a newer":  merging(mergePath, mergeAsked, timeIf(func(old, e time.Time) bool { return e.After(old) })),
	"replaces a time by an older": merging(mergePath, mergeAsked, timeIf(func(old, e time.Time) bool { return old.IsZero() || !e.IsZero() && e.Before(old) })),
	"replaces a time by a known":  merging(mergePath, mergeAsked, timeIf(func(_, e time.Time) bool { return !e.IsZero() })),
	"takes the epoch for no time": wrong(func(x *naive) { x.time = throughUnix }),
	"keeps fractions":             wrong(func(x *naive) { x.time = func(t time.Time) time.Time { return t } }),
	"keeps milliseconds":          wrong(func(x *naive) { x.time = func(t time.Time) time.Time { return t.Truncate(time.Millisecond) } }),
	"rounds up":                   wrong(func(x *naive) { x.time = func(t time.Time) time.Time { return t.Round(time.Second) } }),
	"compares fractions of seconds": wrong(func(x *naive) {
		x.time = func(t time.Time) time.Time { return t }
		x.answer = func(e *reupload.Entry) reupload.Entry {
			copied := cloned(e)
			copied.Timestamp, copied.Asked.At = wholeSeconds(e.Timestamp), wholeSeconds(e.Asked.At)
			return copied
		}
	}),
	"makes up a time": wrong(func(x *naive) {
		x.time = func(t time.Time) time.Time {
			if t.IsZero() {
				return time.Now()
			}
			return wholeSeconds(t)
		}
	}),
	"replaces what has no time": wrong(func(x *naive) {
		right := x.merge
		x.merge = func(old *reupload.Entry, e reupload.Entry) {
			if old.Timestamp.IsZero() && !e.Timestamp.IsZero() {
				*old = e
				return
			}
			right(old, e)
		}
	}),
	"takes nothing from a quote": merging(func(old *reupload.Entry, e reupload.Entry) {
		if !e.Timestamp.IsZero() {
			mergeTime(old, e)
			mergePath(old, e)
			mergeAsked(old, e)
		}
	}),
	"takes nothing from one quote for another": merging(func(old *reupload.Entry, e reupload.Entry) {
		if !old.Timestamp.IsZero() || !e.Timestamp.IsZero() {
			mergeTime(old, e)
			mergePath(old, e)
			mergeAsked(old, e)
		}
	}),
	"replaces all by what is newer": wrong(func(x *naive) {
		x.merge = func(old *reupload.Entry, e reupload.Entry) {
			if !e.Timestamp.Before(old.Timestamp) {
				*old = e
			}
		}
	}),
	"replaces all":    wrong(func(x *naive) { x.merge = func(old *reupload.Entry, e reupload.Entry) { *old = e } }),
	"keeps the first": wrong(func(x *naive) { x.merge = func(*reupload.Entry, reupload.Entry) {} }),

	// Status.
	"loses that it is a status": storing(func(e *reupload.Entry) { e.IsStatus = false }),
	"takes all for a status":    storing(func(e *reupload.Entry) { e.IsStatus = true }),
	"never finds out that it is a status": merging(mergePath, mergeAsked, func(old *reupload.Entry, e reupload.Entry) {
		if old.Timestamp.IsZero() {
			old.Timestamp = e.Timestamp
		}
	}),
	"takes the last word on a status": merging(mergeTime, mergePath, mergeAsked, func(old *reupload.Entry, e reupload.Entry) { old.IsStatus = e.IsStatus }),
	"keeps what was once a status":    merging(mergeTime, mergePath, mergeAsked, func(old *reupload.Entry, e reupload.Entry) { old.IsStatus = old.IsStatus || e.IsStatus }),
	"forgets a status with a new path": merging(mergeTime, mergeAsked, func(old *reupload.Entry, e reupload.Entry) {
		if mergePath(old, e); e.DirectPath != "" {
			old.IsStatus = false
		}
	}),

	// Paths.
	"never replaces a path": merging(mergeTime, mergeAsked, func(old *reupload.Entry, e reupload.Entry) { old.DirectPath = cmp.Or(old.DirectPath, e.DirectPath) }),
	"loses a path":          merging(mergeTime, mergeAsked, func(old *reupload.Entry, e reupload.Entry) { old.DirectPath = e.DirectPath }),
	"ignores paths":         merging(mergeTime, mergeAsked),
	"keeps the longest path": merging(mergeTime, mergeAsked, func(old *reupload.Entry, e reupload.Entry) {
		if len(e.DirectPath) > len(old.DirectPath) {
			old.DirectPath = e.DirectPath
		}
	}),
	"wants a path of a newer message": merging(func(old *reupload.Entry, e reupload.Entry) {
		if !e.Timestamp.Before(old.Timestamp) {
			mergePath(old, e)
		}
		mergeTime(old, e)
		mergeAsked(old, e)
	}),
	"ignores the path of a new entry": accepting(func(e *reupload.Entry) { e.DirectPath = "" }),
	"cuts paths":                      accepting(func(e *reupload.Entry) { e.DirectPath = e.DirectPath[:min(len(e.DirectPath), 1024)] }),
	"cuts the longest paths":          accepting(func(e *reupload.Entry) { e.DirectPath = e.DirectPath[:min(len(e.DirectPath), 2047)] }),
	"cuts queries off":                accepting(func(e *reupload.Entry) { e.DirectPath, _, _ = strings.Cut(e.DirectPath, "?") }),
	"cuts paths at NUL":               accepting(func(e *reupload.Entry) { e.DirectPath, _, _ = strings.Cut(e.DirectPath, "\x00") }),
	"repairs paths":                   accepting(func(e *reupload.Entry) { e.DirectPath = strings.ToValidUTF8(e.DirectPath, "?") }),
	"trims paths":                     accepting(func(e *reupload.Entry) { e.DirectPath = strings.TrimSpace(e.DirectPath) }),
	"shares paths among the messages of a file": sharing(func(t *tables, e *reupload.Entry) []*reupload.Entry { return t.files[string(e.FileEncSHA256)] },
		func(to *reupload.Entry, e reupload.Entry) { mergePath(to, e) }),
	"shares paths among the files of a message": sharing(func(t *tables, e *reupload.Entry) []*reupload.Entry { return t.ids[e.MessageID] },
		func(to *reupload.Entry, e reupload.Entry) { mergePath(to, e) }),

	// Asked.
	"ignores what was asked":            merging(mergeTime, mergePath),
	"ignores what a new entry asked":    accepting(func(e *reupload.Entry) { e.Asked = reupload.Asked{} }),
	"forgets what was asked":            merging(mergeTime, mergePath, func(old *reupload.Entry, e reupload.Entry) { old.Asked = e.Asked }),
	"takes what was asked before":       merging(mergeTime, mergePath, askedIf(func(_, e time.Time) bool { return !e.IsZero() })),
	"keeps what was asked at that time": merging(mergeTime, mergePath, askedIf(func(old, e time.Time) bool { return e.After(old) })),
	"keeps the first that was asked":    merging(mergeTime, mergePath, askedIf(func(old, _ time.Time) bool { return old.IsZero() })),
	"wants Asked of a newer message": merging(mergePath, func(old *reupload.Entry, e reupload.Entry) {
		if !e.Timestamp.Before(old.Timestamp) {
			mergeAsked(old, e)
		}
		mergeTime(old, e)
	}),
	"keeps an outcome that there was": merging(mergeTime, mergePath, func(old *reupload.Entry, e reupload.Entry) {
		outcome := old.Asked.Outcome
		mergeAsked(old, e)
		old.Asked.Outcome = cmp.Or(old.Asked.Outcome, outcome)
	}),
	"keeps the largest Failures": merging(mergeTime, mergePath, func(old *reupload.Entry, e reupload.Entry) {
		failures := old.Asked.Failures
		mergeAsked(old, e)
		old.Asked.Failures = max(old.Asked.Failures, failures)
	}),
	"adds Failures up": merging(mergeTime, mergePath, func(old *reupload.Entry, e reupload.Entry) {
		failures := old.Asked.Failures
		if mergeAsked(old, e); !e.Asked.At.IsZero() {
			old.Asked.Failures += failures
		}
	}),
	"takes an outcome without a time": merging(mergeTime, mergePath, func(old *reupload.Entry, e reupload.Entry) {
		if mergeAsked(old, e); e.Asked.At.IsZero() && e.Asked.Outcome != 0 {
			old.Asked.Outcome = e.Asked.Outcome
		}
	}),
	"takes a new outcome without a time": wrong(func(x *naive) { x.accept = func(e reupload.Entry) reupload.Entry { return e } }),
	"takes known outcomes alone": storing(func(e *reupload.Entry) {
		if e.Asked.Outcome > 9 {
			e.Asked.Outcome = 0
		}
	}),
	"has two bits for an outcome": storing(func(e *reupload.Entry) { e.Asked.Outcome &= 3 }),
	"has a byte for Failures":     storing(func(e *reupload.Entry) { e.Asked.Failures = int(uint8(e.Asked.Failures)) }),
	"has 16 bits for Failures":    storing(func(e *reupload.Entry) { e.Asked.Failures = min(e.Asked.Failures, math.MaxInt16) }),
	"shares Asked among the messages of a file": sharing(func(t *tables, e *reupload.Entry) []*reupload.Entry { return t.files[string(e.FileEncSHA256)] },
		func(to *reupload.Entry, e reupload.Entry) { mergeAsked(to, e) }),

	// Text.
	"cuts ids":                 storing(func(e *reupload.Entry) { e.MessageID = e.MessageID[:min(len(e.MessageID), 64)] }),
	"cuts the longest ids":     storing(func(e *reupload.Entry) { e.MessageID = e.MessageID[:min(len(e.MessageID), 127)] }),
	"cuts ids at NUL":          storing(func(e *reupload.Entry) { e.MessageID, _, _ = strings.Cut(e.MessageID, "\x00") }),
	"trims ids":                storing(func(e *reupload.Entry) { e.MessageID = strings.TrimSpace(e.MessageID) }),
	"repairs ids":              storing(func(e *reupload.Entry) { e.MessageID = strings.ToValidUTF8(e.MessageID, "?") }),
	"ignores the case of ids":  wrong(func(x *naive) { x.idKey = strings.ToLower }),
	"matches ids as patterns":  wrong(func(x *naive) { x.idKey = func(id types.MessageID) string { return strings.ReplaceAll(id, "_", "%") } }),
	"cuts JIDs":                throughJID(func(jid types.JID) types.JID { jid.User = jid.User[:min(len(jid.User), 122)]; return jid }),
	"ignores the case of JIDs": throughJID(func(jid types.JID) types.JID { jid.User = strings.ToLower(jid.User); return jid }),
	"cuts JIDs at NUL":         throughJID(func(jid types.JID) types.JID { jid.User, _, _ = strings.Cut(jid.User, "\x00"); return jid }),
	"escapes JIDs":             throughJID(func(jid types.JID) types.JID { jid.User = url.QueryEscape(jid.User); return jid }),
	"stores JIDs as text": throughJID(func(jid types.JID) types.JID {
		parsed, _ := types.ParseJID(jid.String())
		return parsed
	}),
	"ignores empty users": throughJID(func(jid types.JID) types.JID {
		if jid.User == "" {
			return types.EmptyJID
		}
		return jid
	}),
	"drops the participant": storing(func(e *reupload.Entry) { e.Participant = types.EmptyJID }),
	"drops the direction":   storing(func(e *reupload.Entry) { e.IsFromMe = false }),
}
