// Package indextest checks whether an implementation of reupload.Index does what the interface
// says.
//
//	func TestMyIndex(t *testing.T) {
//		indextest.Run(t, func(t *testing.T) reupload.Index { return mystore.New(t.TempDir()) })
//	}
package indextest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// Run checks an index. It calls open for each test, in parallel; each call returns an index that is
// empty, or holds nothing of the accounts that Run uses, and has room for ten thousand entries.
// What has to be closed is up to open and t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) reupload.Index) {
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(&checker{TB: t, index: open(t), account: testAccount, timeout: 30 * time.Second})
		})
	}
}

// A test checks one part of the contract.
type test struct {
	name string
	run  func(*checker)
}

// tests are in order of what they cost, so that a wrong index is soon found out.
var tests = []test{
	{"PutAndGet", putAndGet},
	{"Unknown", unknown},
	{"Identity", identity},
	{"WithoutFile", withoutFile},
	{"Accounts", accounts},
	{"TimeIsFoundOut", timeIsFoundOut},
	{"StatusComesWithTheTime", statusComesWithTheTime},
	{"CameWithIsTheFirst", cameWithIsTheFirst},
	{"PathIsTheLast", pathIsTheLast},
	{"AskedIsTheLatest", askedIsTheLatest},
	{"FutureIsNothing", futureIsNothing},
	{"WholeSeconds", wholeSeconds},
	{"JIDs", jids},
	{"MessageIDs", messageIDs},
	{"Paths", paths},
	{"AnswersAreTheCallers", answersAreTheCallers},
	{"EntriesAreCopied", entriesAreCopied},
	{"CancelledContext", cancelledContext},
	{"OneAfterTheOther", oneAfterTheOther},
	{"NewestFirst", newestFirst},
	{"OldestStays", oldestStays},
	{"TimelessPushNothingOut", timelessPushNothingOut},
	{"NothingPushesQuotesOut", nothingPushesQuotesOut},
	{"ChatsShareAFile", chatsShareAFile},
	{"ManyOfOneMessage", manyOfOneMessage},
	{"SendersShareAMessageID", sendersShareAMessageID},
	{"QuotesShareAMessageID", quotesShareAMessageID},
	{"NoUpdateIsLost", noUpdateIsLost},
	{"Concurrency", concurrency},
	{"LargeBatch", largeBatch},
}

var testAccount = types.NewJID("491700000001", types.DefaultUserServer)

// start is the time of the first message.
var start = time.Unix(1_700_000_000, 0)

// A checker calls one index for one account.
type checker struct {
	testing.TB
	index   reupload.Index
	account types.JID
	timeout time.Duration // of each call, so that an index that hangs fails
}

// as returns a checker for another account of the same index.
func (c *checker) as(account types.JID) *checker {
	other := *c
	other.account = account
	return &other
}

func (c *checker) put(entries ...reupload.Entry) {
	c.Helper()
	if err := c.tryPut(entries...); err != nil {
		c.Fatalf("Put: %v", err)
	}
}

func (c *checker) tryPut(entries ...reupload.Entry) error {
	given := make([]reupload.Entry, len(entries)) // the index keeps its bytes, the test compares with its own
	for i, e := range entries {
		given[i] = clone(e)
	}
	_, err := within(c, c.Context(), func(ctx context.Context) ([]reupload.Entry, error) {
		return nil, c.index.Put(ctx, c.account, given)
	})
	return err
}

func (c *checker) byFile(fileEncSHA256 []byte) []reupload.Entry {
	c.Helper()
	found, err := within(c, c.Context(), func(ctx context.Context) ([]reupload.Entry, error) {
		return c.index.ByFile(ctx, c.account, fileEncSHA256)
	})
	if err != nil {
		c.Fatalf("ByFile: %v", err)
	}
	return found
}

func (c *checker) byMessage(id types.MessageID) []reupload.Entry {
	c.Helper()
	found, err := within(c, c.Context(), func(ctx context.Context) ([]reupload.Entry, error) {
		return c.index.ByMessage(ctx, c.account, id)
	})
	if err != nil {
		c.Fatalf("ByMessage: %v", err)
	}
	return found
}

// within returns what a call returns. A panic and a call that hangs are errors.
func within(c *checker, ctx context.Context, call func(context.Context) ([]reupload.Entry, error)) ([]reupload.Entry, error) {
	type answer struct {
		entries []reupload.Entry
		err     error
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	done := make(chan answer, 1)
	go func() {
		var a answer
		defer func() {
			if p := recover(); p != nil {
				a.err = fmt.Errorf("it panicked: %v\n%s", p, debug.Stack())
			}
			done <- a
		}()
		a.entries, a.err = call(ctx)
	}()
	select {
	case a := <-done:
		return a.entries, a.err
	case <-time.After(2 * c.timeout):
		return nil, fmt.Errorf("it has not returned %v after its context ended", c.timeout)
	}
}

// wantEverywhere checks that an entry is the only one of its file and of its message.
func (c *checker) wantEverywhere(want reupload.Entry) {
	c.Helper()
	c.want("ByFile", c.byFile(want.FileEncSHA256), want)
	c.want("ByMessage", c.byMessage(want.MessageID), want)
}

func (c *checker) want(what string, got []reupload.Entry, want ...reupload.Entry) {
	c.Helper()
	if len(got) != len(want) {
		c.Fatalf("%s returned %d entries, want %d:\n%v", what, len(got), len(want), got)
	}
	for i := range want {
		if difference := compare(got[i], want[i]); difference != "" {
			c.Fatalf("%s, entry %d: %s", what, i, difference)
		}
	}
}

func compare(got, want reupload.Entry) string {
	switch {
	case got.MessageID != want.MessageID:
		return fmt.Sprintf("MessageID is %q, want %q", got.MessageID, want.MessageID)
	case got.Chat != want.Chat:
		return fmt.Sprintf("Chat is %#v, want %#v", got.Chat, want.Chat)
	case got.Participant != want.Participant:
		return fmt.Sprintf("Participant is %#v, want %#v", got.Participant, want.Participant)
	case got.IsFromMe != want.IsFromMe:
		return fmt.Sprintf("IsFromMe is %v, want %v", got.IsFromMe, want.IsFromMe)
	case !bytes.Equal(got.MediaKey, want.MediaKey):
		return "MediaKey is another one"
	case !bytes.Equal(got.FileEncSHA256, want.FileEncSHA256), (got.FileEncSHA256 == nil) != (want.FileEncSHA256 == nil):
		return fmt.Sprintf("FileEncSHA256 is %x, want %x", got.FileEncSHA256, want.FileEncSHA256)
	case !sameTime(got.Timestamp, want.Timestamp):
		return fmt.Sprintf("Timestamp is %v, want %v", got.Timestamp, want.Timestamp)
	case got.IsStatus != want.IsStatus:
		return fmt.Sprintf("IsStatus is %v, want %v", got.IsStatus, want.IsStatus)
	case got.CameWith != want.CameWith:
		return fmt.Sprintf("CameWith is %q, want %q", got.CameWith, want.CameWith)
	case got.DirectPath != want.DirectPath:
		return fmt.Sprintf("DirectPath is %q, want %q", got.DirectPath, want.DirectPath)
	case !sameTime(got.Asked.At, want.Asked.At):
		return fmt.Sprintf("Asked.At is %v, want %v", got.Asked.At, want.Asked.At)
	case got.Asked.Outcome != want.Asked.Outcome, got.Asked.Failures != want.Asked.Failures:
		return fmt.Sprintf("Asked is %v, want %v", got.Asked, want.Asked)
	}
	return ""
}

func sameTime(a, b time.Time) bool { return a.Equal(b) && a.IsZero() == b.IsZero() }

func clone(e reupload.Entry) reupload.Entry {
	e.MediaKey, e.FileEncSHA256 = bytes.Clone(e.MediaKey), bytes.Clone(e.FileEncSHA256)
	return e
}

func digest(parts ...any) []byte {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return sum[:]
}

// numbered is digest, which remembers what it has returned: most entries are made many times.
func numbered(what string, n int) []byte {
	type key struct {
		what string
		n    int
	}
	if known, ok := digests.Load(key{what, n}); ok {
		return bytes.Clone(known.([]byte))
	}
	made := digest(what, n)
	digests.Store(key{what, n}, made)
	return bytes.Clone(made)
}

var digests sync.Map

// entry returns the n-th entry: a file of its own in a message of its own, each a minute after the
// last one.
func entry(n int) reupload.Entry {
	return reupload.Entry{
		Request: reupload.Request{
			MessageID:   fmt.Sprintf("3EB0%018X", n),
			Chat:        types.NewJID("120363000000000001", types.GroupServer),
			MediaKey:    numbered("key", n),
			Participant: types.NewJID("491700000002", types.DefaultUserServer),
		},
		FileEncSHA256: numbered("file", n),
		Timestamp:     start.Add(time.Duration(n) * time.Minute),
	}
}

// asked returns an Asked of some minutes after start.
func asked(minutes int, outcome reupload.Outcome, failures int) reupload.Asked {
	return reupload.Asked{At: start.Add(time.Duration(minutes) * time.Minute), Outcome: outcome, Failures: failures}
}

func putAndGet(c *checker) {
	group := entry(1)
	direct := entry(2)
	direct.Chat, direct.Participant = types.NewJID("491700000003", types.DefaultUserServer), types.EmptyJID
	own := entry(3)
	own.IsFromMe, own.DirectPath = true, "/v/t62.7118-24/1?ccb=11-4&oh=01_Q5Aa&oe=66&_nc_sid=5e03e0"
	own.Asked = asked(5, 1, 0)
	own.CameWith = "/v/t62.7118-24/2?ccb=11-4&oh=01_Q5Ab&oe=65&_nc_sid=5e03e0"
	quoted := entry(4)
	quoted.CameWith = "/v/t62.7118-24/3"
	quoted.Timestamp, quoted.Asked = time.Time{}, asked(6, 6, 3)
	c.put(group, direct)
	c.put(own)
	c.put(quoted)
	for _, e := range []reupload.Entry{group, direct, own, quoted} {
		c.wantEverywhere(e)
	}
}

func unknown(c *checker) {
	nothing := func() {
		c.Helper()
		c.want("ByFile", c.byFile(digest("file", 2)))
		c.want("ByFile without a file", c.byFile(nil))
		c.want("ByFile without a file", c.byFile([]byte{}))
		c.want("ByMessage", c.byMessage("3EB0"))
		c.want("ByMessage", c.byMessage(entry(1).MessageID+" "))
	}
	nothing()
	c.put()
	c.put(entry(1))
	nothing()
}
