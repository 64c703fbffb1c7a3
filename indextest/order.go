package indextest

import (
	"fmt"
	"slices"
	"time"

	"github.com/whatsmeow-plugins/reupload"
)

// What an index returns at the least, if there is as much.
const (
	leastByFile    = 16
	leastByMessage = 256
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
	entries[3].DirectPath, entries[3].Asked = "/path", asked(1e6, reupload.OutcomeFound, 0)
	c.put(entries[3])
	c.want("ByFile", c.byFile(file), entries...)
	c.want("ByMessage", c.byMessage("one message"), entries...)
}

// wantNewest checks an answer that may leave entries out, but not the oldest of those with a time.
func (c *checker) wantNewest(found, all []reupload.Entry) {
	c.Helper()
	if len(found) < min(leastByFile, len(all)) || len(found) > len(all) {
		c.Fatalf("ByFile returned %d entries, want %d to %d", len(found), leastByFile, len(all))
	}
	want := slices.Clone(all[:len(found)])
	oldest := len(all) - 1
	for all[oldest].Timestamp.IsZero() {
		oldest--
	}
	if oldest >= len(found) {
		want[len(want)-1] = all[oldest]
	}
	c.want("ByFile", found, want...)
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
			original.DirectPath, original.Asked = "/path", asked(1, reupload.OutcomeFound, 0)
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

// manyOfOneMessage puts in as many entries of a message id as there have to be, and more that are
// newer or have no time, before and after them.
func manyOfOneMessage(c *checker) {
	for n, order := range []func(first, more []reupload.Entry){
		func(first, more []reupload.Entry) { c.put(first[:5]...); c.put(first[5:]...); c.put(more...) },
		func(first, more []reupload.Entry) { c.put(more...); c.put(first...) },
	} {
		id := fmt.Sprint("message ", n)
		var all []reupload.Entry
		for k := range leastByMessage + 40 {
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
		first[7].DirectPath, first[7].Asked = "/path", asked(1, reupload.OutcomeFound, 0)
		c.put(first[7])
		found := c.byMessage(id)
		newer := len(found) - len(first)
		for newer > 0 && found[newer+len(first)-1].Timestamp.IsZero() {
			newer--
		}
		if newer < 0 || newer > 40 {
			c.Fatalf("ByMessage returned %d entries, want %d or more", len(found), leastByMessage)
		}
		c.want("ByMessage", found[:newer+len(first)], all[40-newer:]...)
		for _, e := range first {
			c.want("ByFile", c.byFile(e.FileEncSHA256), e)
		}
	}
}
