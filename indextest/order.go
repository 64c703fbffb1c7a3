package indextest

import (
	"fmt"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// What an index returns at the least, if there is as much.
const (
	leastByFile      = 16
	leastTimed       = 12 // of those of a file, with a time
	leastUntimed     = 4
	leastByMessage   = 256
	leastBySender    = 64
	leastTimedByID   = 192
	leastUntimedByID = 64
)

// sameFile returns entries of one file in several messages, the newest first.
func sameFile(fileEncSHA256 []byte, from, count int) []reupload.Entry {
	entries := make([]reupload.Entry, count)
	for n := range entries {
		entries[n] = entry(from + count - n)
		entries[n].FileEncSHA256 = fileEncSHA256
	}
	return entries
}

func newestFirst(c *checker) {
	file := digest("one file")
	entries := sameFile(file, 0, 6)
	for i := range entries {
		entries[i].MessageID = "one message"
	}
	entries[5].Timestamp = time.Time{} // the time of a quoted message is not known
	for _, n := range []int{1, 5, 4, 0, 3, 2} {
		c.put(entries[n])
	}
	c.want("ByFile", c.byFile(file), entries...)
	c.want("ByMessage", c.byMessage("one message"), entries...)
	// It turns out to be the newest.
	quoted := entries[5]
	quoted.Timestamp = start.Add(time.Hour)
	c.put(quoted)
	entries = append([]reupload.Entry{quoted}, entries[:5]...)
	c.want("ByFile", c.byFile(file), entries...)
	c.want("ByMessage", c.byMessage("one message"), entries...)
	// What came last is not the newest because of that, nor what has been asked for.
	entries[3].DirectPath, entries[3].Asked = "/path", asked(1e6, 1, 0)
	c.put(entries[3])
	c.want("ByFile", c.byFile(file), entries...)
	c.want("ByMessage", c.byMessage("one message"), entries...)
}

// wantNewest checks the answer for a file of one chat, which may leave entries out, but not the
// oldest of those with a time. All are the newest first, with some without a time last.
func (c *checker) wantNewest(found, all []reupload.Entry) {
	c.Helper()
	isTimed := func(e reupload.Entry) bool { return !e.Timestamp.IsZero() }
	timed, untimed := slices.DeleteFunc(slices.Clone(all), func(e reupload.Entry) bool { return !isTimed(e) }), 0
	for _, e := range all {
		if !isTimed(e) {
			untimed++
		}
	}
	if len(found) < min(leastByFile, len(all)) || len(found) > len(all) {
		c.Fatalf("ByFile returned %d entries, want %d to %d", len(found), leastByFile, len(all))
	}
	first := len(found) // of those without a time
	for first > 0 && !isTimed(found[first-1]) {
		first--
	}
	if first < min(leastTimed, len(timed)) || len(found)-first < min(leastUntimed, untimed) {
		c.Fatalf("ByFile returned %d entries with a time and %d without, want %d and %d", first, len(found)-first, leastTimed, leastUntimed)
	}
	want := slices.Clone(timed[:first])
	if first < len(timed) {
		want[first-1] = timed[len(timed)-1]
	}
	c.want("ByFile", found[:first], want...)
}

// oldestStays puts in an original and what others make of its file afterwards, which comes in any
// order, and a quoted one, which is not the oldest.
func oldestStays(c *checker) {
	const count = 40
	for n, order := range []func(all []reupload.Entry){
		func([]reupload.Entry) {},
		slices.Reverse[[]reupload.Entry],
		func(all []reupload.Entry) { slices.Reverse(all[:count-1]) },
		func(all []reupload.Entry) { all[3], all[count-1] = all[count-1], all[3] },
		func(all []reupload.Entry) { slices.Reverse(all[5:12]); slices.Reverse(all[20:]) },
	} {
		for batched := range 2 {
			if n >= 2 && batched == 0 {
				continue // one at a time takes long in a database
			}
			file := digest("one file", n, batched)
			from := 1000*n + 100*batched
			all := sameFile(file, from, count)
			original := &all[count-1]
			original.DirectPath, original.Asked = "/path", asked(1, 1, 0)
			quoted := entry(from + 99)
			quoted.FileEncSHA256, quoted.Timestamp = file, time.Time{}
			all = append(all, quoted)
			arriving := slices.Clone(all)
			order(arriving)
			if batched == 1 {
				c.put(arriving...)
			} else {
				for _, e := range arriving {
					c.put(e)
				}
			}
			c.wantNewest(c.byFile(file), all)
			c.want("ByMessage", c.byMessage(all[count-1].MessageID), all[count-1])
			// The oldest is the one with the least time, whatever comes when.
			older := entry(from)
			older.FileEncSHA256 = file
			c.put(older)
			c.wantNewest(c.byFile(file), slices.Insert(all, count, older))
		}
	}
}

// timelessPushNothingOut quotes a file over and over. The last quotes stay.
func timelessPushNothingOut(c *checker) {
	const known = 12
	file := digest("one file")
	all := sameFile(file, 0, known)
	c.put(all[3:]...)
	var quotes []reupload.Entry
	for n := range 50 {
		e := entry(100 + n)
		e.FileEncSHA256, e.Timestamp = file, time.Time{}
		c.put(e)
		quotes = append(quotes, e)
	}
	c.put(all[:3]...)
	found := c.byFile(file)
	if len(found) < leastByFile || len(found) > known+50 {
		c.Fatalf("ByFile returned %d entries, want %d or more", len(found), leastByFile)
	}
	c.want("ByFile", found[:known], all...)
	found = found[known:]
	for _, e := range quotes[len(quotes)-len(found):] {
		if !slices.ContainsFunc(found, func(f reupload.Entry) bool { return compare(f, e) == "" }) {
			c.Fatalf("ByFile has not returned the latest of those without a time, %v", e)
		}
	}
}

// nothingPushesQuotesOut sends a file over and over that was only quoted before, or is quoted
// afterwards.
func nothingPushesQuotesOut(c *checker) {
	for n, quotedFirst := range []bool{true, false} {
		file := digest("one file", n)
		var quotes []reupload.Entry
		for k := range leastUntimed {
			e := entry(1000*n + 500 + k)
			e.FileEncSHA256, e.Timestamp = file, time.Time{}
			quotes = append(quotes, e)
		}
		if quotedFirst {
			c.put(quotes...)
		}
		c.put(sameFile(file, 1000*n, 40)...)
		if !quotedFirst {
			c.put(quotes...)
			c.put(sameFile(file, 1000*n+100, 40)...)
		}
		found := c.byFile(file)
		for _, e := range quotes {
			c.wantAmong("ByFile", found, e)
			c.want("ByMessage", c.byMessage(e.MessageID), e)
		}
	}
}

func (c *checker) wantAmong(what string, found []reupload.Entry, e reupload.Entry) {
	c.Helper()
	if !slices.ContainsFunc(found, func(f reupload.Entry) bool { return isSame(&f, &e) && compare(f, e) == "" }) {
		c.Fatalf("%s has not returned %v, sent %v, of %d entries", what, e, e.Timestamp, len(found))
	}
}

// chatsShareAFile has one chat send a file over and over, and quote it, before and after others
// do: it takes no places from them.
func chatsShareAFile(c *checker) {
	chat := func(n int) types.JID { return types.NewJID(fmt.Sprintf("12036300000000%04d", n), types.GroupServer) }
	for n, order := range []func(many, few []reupload.Entry){
		func(many, few []reupload.Entry) { c.put(many...); c.put(few...) },
		func(many, few []reupload.Entry) { c.put(few...); c.put(many...) },
		func(many, few []reupload.Entry) { c.put(many[:20]...); c.put(few...); c.put(many[20:]...) },
	} {
		for kind := range 2 {
			file := digest("one file", n, kind)
			make := func(k int, chat types.JID, at time.Duration) reupload.Entry {
				e := entry(10_000*(2*n+kind+1) + k)
				e.FileEncSHA256, e.Chat = file, chat
				e.Timestamp = start.Add(at)
				if kind == 1 {
					e.Timestamp = time.Time{}
				}
				return e
			}
			var many, few []reupload.Entry
			for k := range 60 {
				many = append(many, make(k, chat(0), time.Duration(k)*time.Minute))
			}
			for k := range 2 { // older than most, and newer
				few = append(few, make(100+k, chat(1), time.Minute/2+time.Duration(k)*time.Hour), make(200+k, chat(2), time.Minute/3))
			}
			few = few[:len(few)-1]
			if kind == 1 {
				few = few[:2]
			}
			order(many, few)
			found := c.byFile(file)
			for _, e := range few {
				c.wantAmong("ByFile", found, e)
			}
		}
	}
}

// manyOfOneMessage puts in as many entries of a message id and sender as there have to be, and more
// that are newer or have no time, before and after them.
func manyOfOneMessage(c *checker) {
	for n, order := range []func(first, more []reupload.Entry){
		func(first, more []reupload.Entry) { c.put(first[:5]...); c.put(first[5:]...); c.put(more...) },
		func(first, more []reupload.Entry) { c.put(more...); c.put(first...) },
	} {
		id := fmt.Sprint("message ", n)
		var all []reupload.Entry
		for k := range leastBySender + 40 {
			e := entry(1000*(n+1) - k)
			e.MessageID = id
			all = append(all, e)
		}
		more, first := all[:40], all[40:]
		for k := range 20 {
			e := entry(1000*(n+1) + 100 + k)
			e.MessageID, e.Timestamp = id, time.Time{}
			more = append(more[:len(more):len(more)], e)
		}
		order(first, more)
		// A path and what was asked belong to one of them.
		first[7].DirectPath, first[7].Asked = "/path", asked(1, 1, 0)
		c.put(first[7])
		found := c.byMessage(id)
		newer := len(found) - len(first)
		for newer > 0 && found[newer+len(first)-1].Timestamp.IsZero() {
			newer--
		}
		if newer < 0 || newer > 40 {
			c.Fatalf("ByMessage returned %d entries, want %d or more", len(found), leastBySender)
		}
		c.want("ByMessage", found[:newer+len(first)], all[40-newer:]...)
		for _, e := range first {
			c.want("ByFile", c.byFile(e.FileEncSHA256), e)
		}
	}
}

// sameMessage returns entries of one message id and sender, the oldest first, of which those of a
// quote have no time.
func sameMessage(id types.MessageID, from, count int, sender string, quoted bool) []reupload.Entry {
	entries := make([]reupload.Entry, count)
	for k := range entries {
		e := entry(from + k)
		e.MessageID, e.Participant.User = id, sender
		if quoted {
			e.Timestamp = time.Time{}
		}
		entries[k] = e
	}
	return entries
}

// sendersShareAMessageID has senders flood a message id, before and after others have sent or
// quoted it. Each keeps its places, as far as there have to be any.
func sendersShareAMessageID(c *checker) {
	const flood = 100
	for n, order := range []func(flood, few []reupload.Entry){
		func(flood, few []reupload.Entry) { c.put(flood...); c.put(few...) },
		func(flood, few []reupload.Entry) { c.put(few...); c.put(flood...) },
	} {
		id := fmt.Sprint("message ", n)
		from := 100_000 * (n + 1)
		var many, few []reupload.Entry
		for sender := range 5 {
			many = append(many, sameMessage(id, from+1000*sender, flood, fmt.Sprint("49170000100", sender), false)...)
		}
		late := sameMessage(id, from+50_000, 10, "491700002000", false) // the newest of all
		own := sameMessage(id, from+60_000, 5, "491700001000", false)
		for k := range own {
			own[k].IsFromMe = true
		}
		quoted := sameMessage(id, from+70_000, 10, "491700003000", true)
		direct := sameMessage(id, from+80_000, 3, "", false)
		for k := range direct {
			direct[k].Chat, direct[k].Participant = types.NewJID("491700004000", types.DefaultUserServer), types.EmptyJID
		}
		few = slices.Concat(late, own, quoted, direct)
		order(many, few)
		found := c.byMessage(id)
		if len(found) < leastByMessage {
			c.Fatalf("ByMessage returned %d entries, want %d", len(found), leastByMessage)
		}
		for _, e := range few {
			c.wantAmong("ByMessage", found, e)
		}
	}
	// In chats without participants, the chat is the sender.
	id := "direct"
	var many []reupload.Entry
	for k := range 300 {
		e := entry(400_000 + k)
		e.MessageID, e.Chat, e.Participant = id, types.NewJID("491700005000", types.DefaultUserServer), types.EmptyJID
		many = append(many, e)
	}
	few := entry(500_000)
	few.MessageID, few.Chat, few.Participant = id, types.NewJID("491700006000", types.DefaultUserServer), types.EmptyJID
	c.put(many...)
	c.put(few)
	c.wantAmong("ByMessage", c.byMessage(id), few)
}

// quotesShareAMessageID quotes a message id in the names of many senders: the quotes have places
// of their own, and push out nothing that was delivered.
func quotesShareAMessageID(c *checker) {
	const id = "message"
	delivered := sameMessage(id, 1000, leastBySender, "491700001000", false)
	c.put(delivered...)
	for sender := range 3 {
		delivered = append(delivered, sameMessage(id, 2000+100*sender, leastBySender/2, fmt.Sprint("49170000200", sender), false)...)
	}
	var quotes []reupload.Entry
	for n := range 300 {
		quotes = append(quotes, sameMessage(id, 10_000+n, 1, fmt.Sprint("49170001", n), true)...)
	}
	c.put(quotes...)
	c.put(delivered...)
	found := c.byMessage(id)
	for _, e := range delivered {
		c.wantAmong("ByMessage", found, e)
	}
	untimed := 0
	for _, e := range found {
		if e.Timestamp.IsZero() {
			untimed++
		}
	}
	if untimed < leastUntimedByID || len(delivered) > leastTimedByID {
		c.Fatalf("ByMessage returned %d entries without a time, want %d or more", untimed, leastUntimedByID)
	}
}
