package indextest

import (
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

// timelessPushNothingOut quotes a file over and over.
func timelessPushNothingOut(c *checker) {
	const known = 12
	file := digest("one file")
	all := sameFile(file, 0, known)
	c.put(all[3:]...)
	for n := range 50 {
		e := entry(100 + n)
		e.FileEncSHA256, e.Timestamp = file, time.Time{}
		c.put(e)
	}
	c.put(all[:3]...)
	found := c.byFile(file)
	if len(found) < leastByFile || len(found) > known+50 {
		c.Fatalf("ByFile returned %d entries, want %d or more", len(found), leastByFile)
	}
	c.want("ByFile", found[:known], all...)
	for _, e := range found[known:] {
		if !e.Timestamp.IsZero() || string(e.FileEncSHA256) != string(file) {
			c.Fatalf("ByFile returned %v", e)
		}
	}
}

// manyOfOneMessage puts in as many entries of a message id as there have to be, and then more.
func manyOfOneMessage(c *checker) {
	var all []reupload.Entry
	for n := range leastByMessage {
		e := entry(leastByMessage - n)
		e.MessageID = "one message"
		all = append(all, e)
	}
	c.put(all[:5]...)
	c.put(all[5:]...)
	c.want("ByMessage", c.byMessage("one message"), all...)
	for _, e := range all {
		c.want("ByFile", c.byFile(e.FileEncSHA256), e)
	}
	// A path and what was asked belong to one of them.
	all[7].DirectPath, all[7].Asked = "/path", asked(1, reupload.OutcomeFound, 0)
	c.put(all[7])
	c.want("ByMessage", c.byMessage("one message"), all...)

	var more []reupload.Entry
	for n := range 100 {
		e := entry(1000 + n)
		e.MessageID = "one message"
		more = append(more, e)
	}
	c.put(more...)
	all = append(all, more...)
	found := c.byMessage("one message")
	if len(found) < leastByMessage {
		c.Fatalf("ByMessage returned %d entries, want %d or more", len(found), leastByMessage)
	}
	for i, e := range found {
		if i > 0 && !found[i-1].Timestamp.After(e.Timestamp) {
			c.Fatalf("ByMessage returned %v after %v", e, found[i-1])
		}
		if !slices.ContainsFunc(all, func(put reupload.Entry) bool { return compare(e, put) == "" }) {
			c.Fatalf("ByMessage returned %v", e)
		}
	}
}
