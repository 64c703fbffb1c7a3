// Package indextest checks whether an implementation of reupload.Index does what the interface says.
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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// Run checks an index. It calls open for each test, in parallel; each call returns an index that is empty, or holds nothing of the
// accounts that Run uses, and has room for some thousand entries. What has to be closed is up to open and t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) reupload.Index) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *checker)
	}{
		{"PutAndGet", putAndGet},
		{"Unknown", unknown},
		{"NewerReplaces", newerReplaces},
		{"OlderStaysOut", olderStaysOut},
		{"SameTimeReplaces", sameTimeReplaces},
		{"StrangersStayOut", strangersStayOut},
		{"QuotedAfterReal", quotedAfterReal},
		{"QuotedBeforeReal", quotedBeforeReal},
		{"PathIsKept", pathIsKept},
		{"PathIsRenewed", pathIsRenewed},
		{"BatchWithRepeats", batchWithRepeats},
		{"LargeBatch", largeBatch},
		{"ByFileNewestFirst", byFileNewestFirst},
		{"FileInManyMessages", fileInManyMessages},
		{"SeveralFilesInOneMessage", severalFilesInOneMessage},
		{"WithoutFile", withoutFile},
		{"AccountsAreIsolated", accountsAreIsolated},
		{"JIDs", jids},
		{"MessageIDs", messageIDs},
		{"Paths", paths},
		{"AnswersAreTheCallers", answersAreTheCallers},
		{"EntriesAreCopied", entriesAreCopied},
		{"Concurrency", concurrency},
		{"CancelledContext", cancelledContext},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, &checker{T: t, index: open(t), account: types.NewJID("491700000001", types.DefaultUserServer)})
		})
	}
}

// callTimeout bounds each call, so that an index that hangs fails instead.
const callTimeout = 30 * time.Second

// start is the time of the first message. It has no fraction of a second, since the protocol has none.
var start = time.Unix(1_700_000_000, 0)

// A checker calls one index for one account.
type checker struct {
	*testing.T
	index   reupload.Index
	account types.JID
}

func (c *checker) put(entries ...reupload.Entry) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
	defer cancel()
	given := make([]reupload.Entry, len(entries)) // what the index keeps must not be what is compared
	for i, e := range entries {
		given[i] = clone(e)
	}
	if err := c.index.Put(ctx, c.account, given); err != nil {
		c.Fatalf("Put: %v", err)
	}
}

func (c *checker) byFile(fileEncSHA256 []byte) []reupload.Entry {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
	defer cancel()
	found, err := c.index.ByFile(ctx, c.account, fileEncSHA256)
	if err != nil {
		c.Fatalf("ByFile: %v", err)
	}
	return found
}

func (c *checker) byMessage(id types.MessageID) []reupload.Entry {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
	defer cancel()
	found, err := c.index.ByMessage(ctx, c.account, id)
	if err != nil {
		c.Fatalf("ByMessage: %v", err)
	}
	return found
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
	case !got.Timestamp.Equal(want.Timestamp):
		return fmt.Sprintf("Timestamp is %v, want %v", got.Timestamp, want.Timestamp)
	case got.Timestamp.IsZero() != want.Timestamp.IsZero():
		return fmt.Sprintf("Timestamp is %v, want %v", got.Timestamp, want.Timestamp)
	case got.DirectPath != want.DirectPath:
		return fmt.Sprintf("DirectPath is %q, want %q", got.DirectPath, want.DirectPath)
	}
	return ""
}

func clone(e reupload.Entry) reupload.Entry {
	e.MediaKey, e.FileEncSHA256 = bytes.Clone(e.MediaKey), bytes.Clone(e.FileEncSHA256)
	return e
}

func digest(parts ...any) []byte {
	sum := sha256.Sum256([]byte(fmt.Sprintln(parts...)))
	return sum[:]
}

// entry returns the n-th entry: a file of its own in a message of its own, each a minute after the last one.
func entry(n int) reupload.Entry {
	return reupload.Entry{
		Request: reupload.Request{
			MessageID:   fmt.Sprintf("3EB0%018X", n),
			Chat:        types.NewJID("120363000000000001", types.GroupServer),
			MediaKey:    digest("key", n),
			Participant: types.NewJID("491700000002", types.DefaultUserServer),
		},
		FileEncSHA256: digest("file", n),
		Timestamp:     start.Add(time.Duration(n) * time.Minute),
	}
}

func (c *checker) otherAccount() *checker {
	return &checker{T: c.T, index: c.index, account: types.NewJID("491700000009", types.DefaultUserServer)}
}

func putAndGet(_ *testing.T, c *checker) {
	group := entry(1)
	direct := entry(2)
	direct.Chat, direct.Participant = types.NewJID("491700000003", types.DefaultUserServer), types.EmptyJID
	own := entry(3)
	own.IsFromMe, own.DirectPath = true, "/v/t62.7118-24/1?ccb=11-4&oh=01_Q5Aa&oe=66&_nc_sid=5e03e0"
	c.put(group, direct)
	c.put(own)
	for _, e := range []reupload.Entry{group, direct, own} {
		c.wantEverywhere(e)
	}
}

func unknown(_ *testing.T, c *checker) {
	c.want("ByFile", c.byFile(digest("file", 1)))
	c.want("ByMessage", c.byMessage("3EB0"))
	c.put()
	c.put(entry(1))
	c.want("ByFile", c.byFile(digest("file", 2)))
	c.want("ByFile", c.byFile(nil))
	c.want("ByMessage", c.byMessage("3EB0"))
	c.want("ByMessage", c.byMessage(strings.ToLower(entry(1).MessageID)))
}

// changed returns an entry for the same message, in which all else differs.
func changed(e reupload.Entry, later time.Duration) reupload.Entry {
	e.MediaKey = digest("another key")
	e.IsFromMe = !e.IsFromMe
	e.Timestamp = e.Timestamp.Add(later)
	return e
}

// elsewhere returns an entry with the same id and file, as somebody else can send it.
func elsewhere(e reupload.Entry, later time.Duration) reupload.Entry {
	e = changed(e, later)
	e.Chat = types.NewJID("120363000000000099", types.GroupServer)
	e.Participant = types.NewJID("99", types.HiddenUserServer)
	return e
}

func newerReplaces(_ *testing.T, c *checker) {
	newer := changed(entry(1), time.Second)
	c.put(entry(1), entry(2))
	c.put(newer)
	c.wantEverywhere(newer)
	c.wantEverywhere(entry(2))
}

func olderStaysOut(_ *testing.T, c *checker) {
	c.put(entry(1))
	c.put(changed(entry(1), -time.Second))
	c.wantEverywhere(entry(1))
	// What it knows of the path is news all the same: somebody has renewed it meanwhile.
	older := changed(entry(1), -time.Second)
	older.DirectPath = "/path"
	c.put(older)
	want := entry(1)
	want.DirectPath = "/path"
	c.wantEverywhere(want)
}

func sameTimeReplaces(_ *testing.T, c *checker) {
	c.put(entry(1))
	c.put(changed(entry(1), 0))
	c.wantEverywhere(changed(entry(1), 0))
}

func strangersStayOut(_ *testing.T, c *checker) {
	otherChat, otherSender := elsewhere(entry(1), time.Hour), elsewhere(entry(2), time.Hour)
	otherChat.Participant = entry(1).Participant
	otherSender.Chat = entry(2).Chat
	c.put(entry(1), entry(2))
	c.put(otherChat)
	c.put(otherSender, elsewhere(entry(1), 0))
	c.wantEverywhere(entry(1))
	c.wantEverywhere(entry(2))
	// A path is the file's, whoever's message it was asked for under.
	otherChat.DirectPath = "/path"
	c.put(otherChat)
	want := entry(1)
	want.DirectPath = "/path"
	c.wantEverywhere(want)
}

func quotedAfterReal(_ *testing.T, c *checker) {
	quoted := elsewhere(entry(1), 0)
	quoted.Timestamp = time.Time{}
	c.put(entry(1))
	c.put(quoted)
	c.wantEverywhere(entry(1))
}

func quotedBeforeReal(_ *testing.T, c *checker) {
	quoted := elsewhere(entry(1), 0)
	quoted.Timestamp = time.Time{}
	c.put(quoted)
	c.wantEverywhere(quoted)
	c.put(entry(1))
	c.wantEverywhere(entry(1))
}

func pathIsKept(_ *testing.T, c *checker) {
	renewed := entry(1)
	renewed.DirectPath = "/renewed"
	c.put(renewed)
	c.put(entry(1))
	c.wantEverywhere(renewed)
	newer := changed(entry(1), time.Hour)
	c.put(newer)
	newer.DirectPath = "/renewed"
	c.wantEverywhere(newer)
}

func pathIsRenewed(_ *testing.T, c *checker) {
	e := entry(1)
	for _, path := range []string{"/first", "/second", "/third?with=query"} {
		e.DirectPath = path
		c.put(e)
		c.wantEverywhere(e)
	}
}

func batchWithRepeats(_ *testing.T, c *checker) {
	withPath := entry(1)
	withPath.DirectPath = "/path"
	older := changed(entry(1), -time.Hour)
	older.DirectPath = "/later path"
	// The second in the batch is the newest, and the last path is the one that stands.
	c.put(withPath, changed(entry(1), time.Hour), entry(2), older, entry(2))
	want := changed(entry(1), time.Hour)
	want.DirectPath = "/later path"
	c.wantEverywhere(want)
	c.wantEverywhere(entry(2))
}

// largeBatch puts as much as a piece of a history sync, of which every other one is there already.
func largeBatch(_ *testing.T, c *checker) {
	const size = 2500
	var batch, known []reupload.Entry
	for n := range size {
		batch = append(batch, entry(n))
		if n%2 == 0 {
			e := entry(n)
			e.DirectPath = fmt.Sprintf("/path/%d", n)
			known = append(known, e)
		}
	}
	slices.Reverse(known)
	c.put(known...)
	c.put(append(batch, entry(1), entry(2))...)
	for n := 0; n < size; n += 7 {
		want := entry(n)
		if n%2 == 0 {
			want.DirectPath = fmt.Sprintf("/path/%d", n)
		}
		c.wantEverywhere(want)
	}
}

// sameFile returns entries of one file in several messages, the newest first.
func sameFile(count int) []reupload.Entry {
	entries := make([]reupload.Entry, count)
	for n := range entries {
		entries[n] = entry(count - n)
		entries[n].FileEncSHA256 = digest("one file")
	}
	return entries
}

func byFileNewestFirst(_ *testing.T, c *checker) {
	newestFirst := sameFile(5)
	newestFirst[4].Timestamp = time.Time{} // the time of a quoted message is not known
	for _, n := range []int{1, 4, 0, 3, 2} {
		c.put(newestFirst[n])
	}
	c.want("ByFile", c.byFile(digest("one file")), newestFirst...)
	// A message that turns out to be newer comes first.
	quoted := newestFirst[4]
	quoted.Timestamp = start.Add(time.Hour)
	c.put(quoted)
	c.want("ByFile", c.byFile(digest("one file")), append([]reupload.Entry{quoted}, newestFirst[:4]...)...)
}

func fileInManyMessages(_ *testing.T, c *checker) {
	newestFirst := sameFile(30)
	for _, n := range []int{3, 29, 0} { // in any order
		c.put(newestFirst[n])
	}
	c.put(newestFirst[10:20]...)
	c.put(newestFirst[20:]...)
	c.put(newestFirst[:10]...)
	found := c.byFile(digest("one file"))
	if len(found) < 16 || len(found) > 30 {
		c.Fatalf("ByFile returned %d entries, want 16 to 30", len(found))
	}
	c.want("ByFile", found, newestFirst[:len(found)]...)
	c.want("ByMessage", c.byMessage(newestFirst[0].MessageID), newestFirst[0])
}

func severalFilesInOneMessage(_ *testing.T, c *checker) {
	var entries []reupload.Entry
	for n := range 4 {
		e := entry(n)
		e.MessageID = "ALBUM"
		entries = append(entries, e)
	}
	c.put(entries...)
	for _, e := range entries {
		c.want("ByFile", c.byFile(e.FileEncSHA256), e)
	}
	slices.Reverse(entries) // the newest first
	c.want("ByMessage", c.byMessage("ALBUM"), entries...)
	// A path belongs to one of them.
	entries[1].DirectPath = "/path"
	c.put(entries[1])
	c.want("ByMessage", c.byMessage("ALBUM"), entries...)
}

func withoutFile(_ *testing.T, c *checker) {
	e := entry(1)
	e.FileEncSHA256 = nil
	c.put(e)
	c.want("ByMessage", c.byMessage(e.MessageID), e)
	c.want("ByFile", c.byFile(nil))
	// It is replaced like any other, and is not the one with a file.
	e.DirectPath = "/path"
	c.put(e)
	c.want("ByMessage", c.byMessage(e.MessageID), e)
	withFile := entry(1)
	withFile.Timestamp = withFile.Timestamp.Add(time.Second)
	c.put(withFile)
	c.want("ByFile", c.byFile(withFile.FileEncSHA256), withFile)
	c.want("ByMessage", c.byMessage(e.MessageID), withFile, e)
}

func accountsAreIsolated(_ *testing.T, c *checker) {
	other := c.otherAccount()
	c.put(entry(1), entry(2))
	other.want("ByFile", other.byFile(entry(1).FileEncSHA256))
	other.want("ByMessage", other.byMessage(entry(1).MessageID))
	theirs := changed(entry(1), time.Hour)
	theirs.DirectPath = "/theirs"
	other.put(theirs)
	c.wantEverywhere(entry(1))
	other.wantEverywhere(theirs)
	other.want("ByFile", other.byFile(entry(2).FileEncSHA256))
}

func jids(_ *testing.T, c *checker) {
	for n, jid := range []types.JID{
		types.NewJID("491700000003", types.DefaultUserServer),
		types.NewJID("123456789012345", types.HiddenUserServer),
		types.NewJID("120363000000000001", types.GroupServer),
		types.NewJID("491700000003-1600000000", types.GroupServer),
		types.NewJID("1600000000", types.BroadcastServer),
		types.StatusBroadcastJID,
		types.NewJID("867051314767696", types.BotServer),
		types.NewJID("491700000003", types.HostedServer),
		{User: "1-22", Server: types.InteropServer, Integrator: 7},
		types.NewJID("100000000000001", types.MessengerServer),
		types.NewJID("", types.DefaultUserServer),
		types.NewJID("O'Brien \"%&\\/ \x00 ü 😀", types.GroupServer),
	} {
		e := entry(n)
		e.Chat, e.Participant = jid, types.EmptyJID
		c.put(e)
		c.wantEverywhere(e)
		e = entry(100 + n)
		e.Participant = jid
		c.put(e)
		c.wantEverywhere(e)
	}
}

func messageIDs(_ *testing.T, c *checker) {
	ids := []string{
		"3EB0C767D097B7C0C1F3", "3A5F6B1C2D3E4F506172", "AC" + strings.Repeat("0F", 15), "false_491700000003@c.us_3EB0",
		"3eb0c767d097b7c0c1f3", "0", " ", "😀👩‍👩‍👧", strings.Repeat("x", 256), strings.Repeat("x", 255), "O'Brien", `"quoted"`, `back\slash`,
		"%", "_", "NULL", "{a,b}", "$1", "?1", "a\nb", "a\x00b", "a\x00c", "\xff\xfe", "é", "e\u0301", "; DROP TABLE reupload_media; --",
	}
	var batch []reupload.Entry
	for n, id := range ids {
		e := entry(n)
		e.MessageID = id
		batch = append(batch, e)
	}
	c.put(batch...)
	for _, e := range batch {
		c.wantEverywhere(e)
		e.DirectPath = "/path"
		c.put(e)
		c.wantEverywhere(e)
	}
}

func paths(_ *testing.T, c *checker) {
	for n, path := range []string{"/v/t62.7118-24/1_n.enc?ccb=11-4&oh=01_Q5Aa&oe=66A", "/" + strings.Repeat("p", 2000), `/'"\{},%00`, "/ü😀", "/\x00\xff"} {
		e := entry(n)
		e.DirectPath = path
		c.put(e)
		c.wantEverywhere(e)
	}
}

// answersAreTheCallers writes into an answer, which must not change the index.
func answersAreTheCallers(_ *testing.T, c *checker) {
	c.put(entry(1))
	for _, get := range []func() []reupload.Entry{
		func() []reupload.Entry { return c.byFile(entry(1).FileEncSHA256) },
		func() []reupload.Entry { return c.byMessage(entry(1).MessageID) },
	} {
		found := get()
		c.want("the index", found, entry(1))
		clear(found[0].MediaKey)
		clear(found[0].FileEncSHA256)
		_ = append(found[0].MediaKey, 1) // must not reach the hash behind it
		found[0].DirectPath = "/mine"
		c.want("the index", get(), entry(1))
	}
}

// entriesAreCopied writes into the slice that was put in. The media keys in it belong to the index.
func entriesAreCopied(_ *testing.T, c *checker) {
	ctx, cancel := context.WithTimeout(c.Context(), callTimeout)
	defer cancel()
	batch := []reupload.Entry{clone(entry(1)), clone(entry(2))}
	if err := c.index.Put(ctx, c.account, batch); err != nil {
		c.Fatalf("Put: %v", err)
	}
	clear(batch)
	c.wantEverywhere(entry(1))
	c.wantEverywhere(entry(2))
}

// concurrency has readers and writers of two accounts at work on the same entries.
func concurrency(t *testing.T, c *checker) {
	const workers, rounds, shared = 8, 20, 10
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
			defer cancel()
			account := c.account
			if worker%2 == 1 {
				account = c.otherAccount().account
			}
			for round := range rounds {
				own := entry(1000 + worker*rounds + round)
				batch := []reupload.Entry{own}
				for n := range shared { // each in an order of its own
					e := entry((n*7 + worker) % shared)
					e.DirectPath = fmt.Sprintf("/%d/%d", worker, round)
					batch = append(batch, clone(e))
				}
				if err := c.index.Put(ctx, account, batch); err != nil {
					t.Errorf("Put: %v", err)
					return
				}
				found, err := c.index.ByFile(ctx, account, own.FileEncSHA256)
				if err != nil || len(found) != 1 || compare(found[0], own) != "" {
					t.Errorf("ByFile of what this goroutine has put in: %v, %v", found, err)
					return
				}
				found, err = c.index.ByMessage(ctx, account, entry(round%shared).MessageID)
				if err != nil || len(found) != 1 || found[0].DirectPath == "" {
					t.Errorf("ByMessage of what all have put in: %v, %v", found, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for worker := range workers {
		mine := c
		if worker%2 == 1 {
			mine = c.otherAccount()
		}
		for round := range rounds {
			mine.wantEverywhere(entry(1000 + worker*rounds + round))
		}
	}
}

// cancelledContext accepts an answer as well as the context's error, but no waiting.
func cancelledContext(t *testing.T, c *checker) {
	c.put(entry(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan error, 3)
	go func() {
		done <- c.index.Put(ctx, c.account, []reupload.Entry{entry(2)})
		_, err := c.index.ByFile(ctx, c.account, entry(1).FileEncSHA256)
		done <- err
		_, err = c.index.ByMessage(ctx, c.account, entry(1).MessageID)
		done <- err
	}()
	timeout := time.After(callTimeout)
	for _, call := range []string{"Put", "ByFile", "ByMessage"} {
		select {
		case err := <-done: // either outcome will do
			t.Logf("%s: %v", call, err)
		case <-timeout:
			t.Fatalf("%s with a cancelled context did not return", call)
		}
	}
	c.wantEverywhere(entry(1)) // and the index works on
	c.put(entry(3))
	c.wantEverywhere(entry(3))
}
