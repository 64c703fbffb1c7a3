package indextest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// lookalikes returns entries that differ from entry(1) in a part of their identity, and in that
// alone. Their times tell which is the newest: they descend.
func lookalikes() []reupload.Entry {
	var all []reupload.Entry
	add := func(change func(*reupload.Entry)) {
		e := clone(entry(1))
		e.Timestamp = start.Add(-time.Duration(len(all)) * time.Minute)
		change(&e)
		all = append(all, e)
	}
	add(func(*reupload.Entry) {})
	add(func(e *reupload.Entry) { e.MessageID += "0" })
	add(func(e *reupload.Entry) { e.Chat.User += "0" })
	add(func(e *reupload.Entry) { e.Chat.Server = types.BroadcastServer })
	add(func(e *reupload.Entry) { e.Participant.User += "0" })
	add(func(e *reupload.Entry) { e.Participant.Server = types.HiddenUserServer })
	add(func(e *reupload.Entry) { e.Participant = types.EmptyJID })
	add(func(e *reupload.Entry) { e.Chat, e.Participant = e.Participant, e.Chat })
	add(func(e *reupload.Entry) { e.IsFromMe = true })
	add(func(e *reupload.Entry) { e.MediaKey[0]++ })
	add(func(e *reupload.Entry) { e.MediaKey[31]++ })
	add(func(e *reupload.Entry) { e.FileEncSHA256[0]++ })
	add(func(e *reupload.Entry) { e.FileEncSHA256[31]++ })
	// What is alike once it is written one after the other.
	add(func(e *reupload.Entry) { e.Chat.User, e.Participant.User = "12", "3" })
	add(func(e *reupload.Entry) { e.Chat.User, e.Participant.User = "1", "23" })
	add(func(e *reupload.Entry) { e.MessageID, e.Chat.User = "A1", "2" })
	add(func(e *reupload.Entry) { e.MessageID, e.Chat.User = "A", "12" })
	return all
}

// identity puts in entries that differ in one thing only, each with a path and an Asked of its own.
func identity(c *checker) {
	all := lookalikes()
	c.put(all[8:]...)
	for _, e := range all[:8] {
		c.put(e)
	}
	for i := range all {
		e := &all[i]
		e.DirectPath, e.Asked = fmt.Sprintf("/%d", i), asked(i, 1, i)
		renewed := clone(*e)
		renewed.Timestamp = time.Time{}
		c.put(renewed)
	}
	where := func(matches func(reupload.Entry) bool) []reupload.Entry {
		return slices.DeleteFunc(slices.Clone(all), func(e reupload.Entry) bool { return !matches(e) })
	}
	for _, e := range all {
		c.want("ByMessage", c.byMessage(e.MessageID), where(func(other reupload.Entry) bool { return other.MessageID == e.MessageID })...)
		c.want("ByFile", c.byFile(e.FileEncSHA256),
			where(func(other reupload.Entry) bool { return string(other.FileEncSHA256) == string(e.FileEncSHA256) })...)
	}
}

func withoutFile(c *checker) {
	e := entry(1)
	e.FileEncSHA256 = nil
	c.put(e)
	c.want("ByMessage", c.byMessage(e.MessageID), e)
	c.want("ByFile without a file", c.byFile(nil))
	// It is the same when it comes again, and not the one with a file.
	e.DirectPath, e.Asked = "/path", asked(1, 5, 1)
	c.put(e)
	c.want("ByMessage", c.byMessage(e.MessageID), e)
	withFile := entry(1)
	withFile.Timestamp = withFile.Timestamp.Add(time.Second)
	zeros := entry(1)
	zeros.FileEncSHA256, zeros.Timestamp = make([]byte, 32), withFile.Timestamp.Add(time.Second)
	c.put(withFile, zeros)
	c.want("ByFile", c.byFile(withFile.FileEncSHA256), withFile)
	c.want("ByFile", c.byFile(zeros.FileEncSHA256), zeros)
	c.want("ByMessage", c.byMessage(e.MessageID), zeros, withFile, e)
	c.want("ByFile without a file", c.byFile(nil))
}

func accounts(c *checker) {
	c.put(entry(1), entry(2))
	hidden := testAccount
	hidden.Server = types.HiddenUserServer
	others := []*checker{c.as(hidden)}
	for n := range 40 {
		others = append(others, c.as(types.NewJID(fmt.Sprintf("4917000001%02d", n), types.DefaultUserServer)))
	}
	for n, other := range others {
		other.want("ByFile", other.byFile(entry(1).FileEncSHA256))
		other.want("ByMessage", other.byMessage(entry(1).MessageID))
		theirs := entry(1)
		theirs.DirectPath, theirs.Asked = fmt.Sprintf("/theirs/%d", n), asked(n, 2, n)
		other.put(theirs)
		// A file that is popular in one account pushes nothing out of another one.
		other.put(sameFile(entry(1).FileEncSHA256, 100, 3)...)
		other.put(sameFile(entry(1).FileEncSHA256, -100, 3)...)
	}
	c.wantEverywhere(entry(1))
	c.wantEverywhere(entry(2))
	for n, other := range others {
		found := other.byMessage(entry(1).MessageID)
		if len(found) != 1 || found[0].DirectPath != fmt.Sprintf("/theirs/%d", n) {
			c.Fatalf("ByMessage of another account returned %v", found)
		}
		other.want("ByFile", other.byFile(entry(2).FileEncSHA256))
	}
}

// maxText is the most bytes that a message id or a JID has.
const maxText = 128

func jids(c *checker) {
	longServer := "@" + types.GroupServer
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
		types.NewJID(strings.Repeat("%", maxText-len(longServer)), types.GroupServer),
		types.NewJID(strings.Repeat("%", maxText-len(longServer)-1)+"&", types.GroupServer),
		types.NewJID("abc", types.GroupServer),
		types.NewJID("ABC", types.GroupServer),
	} {
		e := entry(n)
		e.Chat, e.Participant = jid, types.EmptyJID
		c.put(e)
		c.wantEverywhere(e)
		e = entry(100 + n)
		e.Participant = jid
		c.put(e)
		c.wantEverywhere(e)
		of := c.as(jid)
		of.put(entry(200 + n))
		of.wantEverywhere(entry(200 + n))
	}
}

func messageIDs(c *checker) {
	ids := []string{
		"3EB0C767D097B7C0C1F3", "3A5F6B1C2D3E4F506172", "AC" + strings.Repeat("0F", 15), "false_491700000003@c.us_3EB0",
		"3eb0c767d097b7c0c1f3", "0", "00", " ", "  ", "😀👩‍👩‍👧", strings.Repeat("x", maxText), strings.Repeat("x", maxText-1), "O'Brien", `"quoted"`,
		`back\slash`, "%", "_", "NULL", "{a,b}", "$1", "?1", "a\nb", "a\x00b", "a\x00c", "a", "\xff\xfe", "\xff\xfd", "é", "e\u0301",
		"; DROP TABLE reupload_media; --",
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

func paths(c *checker) {
	for n, path := range []string{
		"/v/t62.7118-24/1_n.enc?ccb=11-4&oh=01_Q5Aa&oe=66A", "/" + strings.Repeat("p", 2047), "/" + strings.Repeat("\xff", 2047),
		`/'"\{},%00`, "/ü😀", "/\x00\xff", "/ ",
	} {
		e := entry(n)
		e.DirectPath = path
		c.put(e)
		c.wantEverywhere(e)
	}
}
