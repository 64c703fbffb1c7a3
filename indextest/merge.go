package indextest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/whatsmeow-plugins/reupload"
)

// merged puts a first and then a second entry into an index in all ways that there are, each time
// under another name, and checks what has become of them.
func (c *checker) merged(n int, first, second, want func(*reupload.Entry)) {
	c.Helper()
	for way, put := range []func(first, second reupload.Entry){
		func(first, second reupload.Entry) { c.put(first); c.put(second) },
		func(first, second reupload.Entry) { c.put(first, second) },
		func(first, second reupload.Entry) { c.put(entry(1e6), first, entry(1e6+1), second, entry(1e6)) },
		func(first, second reupload.Entry) { c.put(first); c.put(first, second) },
		func(first, second reupload.Entry) { c.put(first); c.put(second, second) },
	} {
		one, two, both := entry(10*n+way), entry(10*n+way), entry(10*n+way)
		first(&one)
		second(&two)
		want(&both)
		put(one, two)
		c.wantEverywhere(both)
	}
}

func timeIsFoundOut(c *checker) {
	at := func(t time.Time) func(*reupload.Entry) { return func(e *reupload.Entry) { e.Timestamp = t } }
	never, epoch := time.Time{}, time.Unix(0, 0) // a message of the history without a time has the epoch
	for n, times := range [][3]time.Time{
		{never, start, start},
		{start, never, start},
		{start, start.Add(time.Hour), start},
		{start, start.Add(-time.Hour), start},
		{never, never, never},
		{never, epoch, epoch},
		{epoch, start, epoch},
		{start, epoch, start},
	} {
		c.merged(n, at(times[0]), at(times[1]), at(times[2]))
	}
}

func pathIsTheLast(c *checker) {
	with := func(path string, at time.Time) func(*reupload.Entry) {
		return func(e *reupload.Entry) { e.DirectPath, e.Timestamp = path, at }
	}
	for n, paths := range [][3]string{
		{"", "", ""}, {"", "/new", "/new"}, {"/old", "", "/old"}, {"/old", "/new", "/new"}, {"/new", "/long?with=query", "/long?with=query"},
	} {
		for k, at := range []time.Time{start, start.Add(-time.Hour), start.Add(time.Hour), {}} { // whatever the time
			c.merged(10*n+k, with(paths[0], start), with(paths[1], at), with(paths[2], start))
		}
	}
	// The others of the file and of the message keep theirs.
	one, other := entry(1e5), entry(1e5)
	other.Chat.User += "0"
	other.Timestamp = one.Timestamp.Add(time.Second)
	one.DirectPath = "/one"
	c.put(other, one)
	c.want("ByFile", c.byFile(one.FileEncSHA256), other, one)
	c.want("ByMessage", c.byMessage(one.MessageID), other, one)
}

func askedIsTheLatest(c *checker) {
	with := func(a reupload.Asked) func(*reupload.Entry) { return func(e *reupload.Entry) { e.Asked = a } }
	first := asked(10, reupload.OutcomeSilence, 3)
	never, epoch := reupload.Asked{}, reupload.Asked{At: time.Unix(0, 0), Outcome: reupload.OutcomeNotFound, Vain: 1}
	n := 0
	check := func(one, two, want reupload.Asked) {
		c.Helper()
		c.merged(n, with(one), with(two), with(want))
		n++
	}
	check(never, never, never)
	check(never, first, first)
	check(first, never, first)
	check(never, epoch, epoch)
	check(epoch, first, first)
	check(first, epoch, first)
	for _, a := range []reupload.Asked{
		{Outcome: reupload.OutcomeFound, Vain: 7}, // without a time it says nothing
		asked(9, reupload.OutcomeNotFound, 9),
	} {
		check(first, a, first)
	}
	check(reupload.Asked{Outcome: reupload.OutcomeFound, Vain: 7}, never, never)
	same := asked(10, reupload.OutcomeUnknown, 0)
	check(first, same, same)
	for outcome := range reupload.OutcomeOutage + 2 { // and one that there may be some day
		later := asked(11, outcome, 0)
		check(first, later, later)
	}
	often := asked(11, reupload.OutcomeSilence, 1_000_000)
	check(first, often, often)
	// It has nothing to do with the time of the message, the path, or other entries.
	one, other := entry(1e5), entry(1e5)
	other.Participant.User += "0"
	other.Timestamp = one.Timestamp.Add(-time.Hour)
	one.Asked = first
	c.put(other, one)
	again := one
	again.Timestamp, again.DirectPath, again.Asked = time.Time{}, "/path", asked(-1e6, reupload.OutcomeFound, 0)
	c.put(again)
	one.DirectPath = "/path"
	c.want("ByFile", c.byFile(one.FileEncSHA256), one, other)
	c.want("ByMessage", c.byMessage(one.MessageID), one, other)
}

// wholeSeconds puts in fractions, which neither come back nor count.
func wholeSeconds(c *checker) {
	const much, little = 900 * time.Millisecond, 100 * time.Millisecond
	e := entry(1)
	e.Asked = asked(1, reupload.OutcomeSilence, 1)
	put := clone(e)
	put.Timestamp, put.Asked.At = e.Timestamp.Add(much), e.Asked.At.Add(much)
	c.put(put)
	c.wantEverywhere(e)
	e.Asked = asked(1, reupload.OutcomeGeneral, 2) // in the same second
	put.Asked = e.Asked
	put.Asked.At = put.Asked.At.Add(little)
	c.put(put)
	c.wantEverywhere(e)
	e.Asked.Outcome = reupload.OutcomeInvalid
	c.put(e)
	c.wantEverywhere(e)
}

// oneAfterTheOther puts in batches of a few entries over and over, and compares what comes of it
// with a model.
func oneAfterTheOther(c *checker) {
	known := lookalikes()
	random := rand.New(rand.NewPCG(1, 2))
	minutes := func() time.Time {
		if random.IntN(3) == 0 {
			return time.Time{}
		}
		return start.Add(time.Duration(random.IntN(4)) * time.Minute)
	}
	var m model
	for range 120 {
		batch := make([]reupload.Entry, 1+random.IntN(5))
		for i := range batch {
			e := clone(known[random.IntN(len(known))])
			e.Timestamp = minutes()
			e.DirectPath = []string{"", "/a", "/b"}[random.IntN(3)]
			if at := minutes(); !at.IsZero() {
				e.Asked = reupload.Asked{At: at, Outcome: reupload.Outcome(random.IntN(4)), Vain: random.IntN(4)}
			}
			batch[i] = e
			m.put(e)
		}
		c.put(batch...)
		c.wantModel(m)
	}
}

// A model is what an index should be, of a few entries.
type model []reupload.Entry

func (m *model) put(e reupload.Entry) {
	for i := range *m {
		old := &(*m)[i]
		if !isSame(old, &e) {
			continue
		}
		if old.Timestamp.IsZero() {
			old.Timestamp = e.Timestamp
		}
		if e.DirectPath != "" {
			old.DirectPath = e.DirectPath
		}
		if !e.Asked.At.IsZero() && !e.Asked.At.Before(old.Asked.At) {
			old.Asked = e.Asked
		}
		return
	}
	*m = append(*m, clone(e))
}

func isSame(a, b *reupload.Entry) bool {
	return a.MessageID == b.MessageID && a.Chat == b.Chat && a.Participant == b.Participant && a.IsFromMe == b.IsFromMe &&
		string(a.MediaKey) == string(b.MediaKey) && string(a.FileEncSHA256) == string(b.FileEncSHA256)
}

// wantModel compares all look-ups with a model. Entries of the same time come in any order.
func (c *checker) wantModel(m model) {
	c.Helper()
	check := func(what string, found []reupload.Entry, matches func(*reupload.Entry) bool) {
		c.Helper()
		count := 0
		for i := range m {
			if !matches(&m[i]) {
				continue
			}
			count++
			k := slices.IndexFunc(found, func(e reupload.Entry) bool { return isSame(&m[i], &e) })
			if k < 0 {
				c.Fatalf("%s has not returned %v", what, m[i])
			}
			if difference := compare(found[k], m[i]); difference != "" {
				c.Fatalf("%s: %s", what, difference)
			}
		}
		if len(found) != count {
			c.Fatalf("%s returned %d entries, want %d", what, len(found), count)
		}
		if !slices.IsSortedFunc(found, func(a, b reupload.Entry) int { return b.Timestamp.Compare(a.Timestamp) }) {
			c.Fatalf("%s has not returned the newest first: %v", what, found)
		}
	}
	seen := make(map[string]bool)
	for _, e := range m {
		if what := e.MessageID + string(e.FileEncSHA256); seen[what] {
			continue
		} else {
			seen[what] = true
		}
		check("ByFile", c.byFile(e.FileEncSHA256), func(other *reupload.Entry) bool {
			return string(other.FileEncSHA256) == string(e.FileEncSHA256)
		})
		check("ByMessage", c.byMessage(e.MessageID), func(other *reupload.Entry) bool { return other.MessageID == e.MessageID })
	}
}

// largeBatch puts in more than a piece of a history sync has, of which every other one is there
// already.
func largeBatch(c *checker) {
	const size = 6100
	path := func(n int) string { return fmt.Sprintf("/path/%d", n) }
	var batch, known []reupload.Entry
	for n := range size {
		batch = append(batch, entry(n))
		if n%2 == 0 {
			e := entry(n)
			e.DirectPath = path(n)
			known = append(known, e)
		}
	}
	slices.Reverse(known)
	c.put(known...)
	// What comes twice comes far apart.
	again := entry(0)
	again.Asked = asked(1, reupload.OutcomeFound, 0)
	c.put(append(batch, again, entry(1))...)
	for n := range size {
		want := entry(n)
		if n%2 == 0 {
			want.DirectPath = path(n)
		}
		if n == 0 {
			want.Asked = again.Asked
		}
		c.want("ByFile", c.byFile(want.FileEncSHA256), want)
		if n%7 == 0 {
			c.want("ByMessage", c.byMessage(want.MessageID), want)
		}
	}
}
