package indextest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
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

// statusComesWithTheTime has it found out together with the time of a message whether it is a
// status.
func statusComesWithTheTime(c *checker) {
	sent := func(t time.Time, isStatus bool) func(*reupload.Entry) {
		return func(e *reupload.Entry) { e.Timestamp, e.IsStatus = t, isStatus }
	}
	never, later := time.Time{}, start.Add(time.Hour)
	status, other, quote := sent(start, true), sent(start, false), sent(never, false)
	for n, sendings := range [][3]func(*reupload.Entry){
		{status, status, status},
		{status, other, status},
		{other, status, other},
		{status, sent(later, false), status},
		{other, sent(later, true), other},
		{status, quote, status},
		{quote, status, status},
		{quote, other, other},
	} {
		c.merged(n, sendings[0], sendings[1], sendings[2])
	}
	// It stays when the phone is asked.
	e := entry(1e5)
	status(&e)
	c.put(e)
	e.DirectPath, e.Asked = "/new", asked(1, 1, 0)
	c.put(e)
	c.wantEverywhere(e)
}

// longestCameWith is up to which size a CameWith must be kept.
const longestCameWith = 512

// cameWithIsTheFirst has the same message come with other paths, which change nothing.
func cameWithIsTheFirst(c *checker) {
	with := func(path string) func(*reupload.Entry) { return func(e *reupload.Entry) { e.CameWith = path } }
	for n, paths := range [][3]string{
		{"", "", ""}, {"", "/late", "/late"}, {"/first", "", "/first"}, {"/first", "/second", "/first"}, {"/first", "/longer?with=query", "/first"},
	} {
		c.merged(n, with(paths[0]), with(paths[1]), with(paths[2]))
	}
	// It has nothing to do with the path that the phone has told.
	e := entry(1e5)
	e.CameWith = "/first"
	c.put(e)
	again := entry(1e5)
	again.DirectPath = "/new"
	c.put(again)
	e.DirectPath = "/new"
	c.wantEverywhere(e)
	for n, path := range []string{
		"/" + strings.Repeat("p", longestCameWith-1), "/ü😀", "/\x00\xff", `/'"\{},%00`, "/3EB0", "/" + strings.Repeat("p", longestCameWith), "/" + strings.Repeat("p", 2047),
	} {
		e := entry(1e5 + 10 + n)
		e.CameWith = path
		c.put(e)
		if found := c.byMessage(e.MessageID); len(path) > longestCameWith && len(found) == 1 && found[0].CameWith == "" {
			e.CameWith = "" // whole or not at all
		}
		c.wantEverywhere(e)
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
		never := time.Time{} // one quote after the other
		c.merged(10*n+4, with(paths[0], never), with(paths[1], never), with(paths[2], never))
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
	first := asked(10, 6, 3)
	never, epoch := reupload.Asked{}, reupload.Asked{At: time.Unix(0, 0), Outcome: 2, Failures: 1}
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
		{Outcome: 1, Failures: 7}, // without a time it says nothing
		asked(9, 2, 9),
	} {
		check(first, a, first)
	}
	check(reupload.Asked{Outcome: 1, Failures: 7}, never, never)
	same := asked(10, 0, 0)
	check(first, same, same)
	for outcome := range reupload.Outcome(13) { // and one that there may be some day
		later := asked(11, outcome, 0)
		check(first, later, later)
	}
	often := asked(11, 6, 1_000_000)
	check(first, often, often)
	// It has nothing to do with the time of the message, the path, or other entries.
	one, other := entry(1e5), entry(1e5)
	other.Participant.User += "0"
	other.Timestamp = one.Timestamp.Add(-time.Hour)
	one.Asked = first
	c.put(other, one)
	again := one
	again.Timestamp, again.DirectPath, again.Asked = time.Time{}, "/path", asked(-1e6, 1, 0)
	c.put(again)
	one.DirectPath = "/path"
	c.want("ByFile", c.byFile(one.FileEncSHA256), one, other)
	c.want("ByMessage", c.byMessage(one.MessageID), one, other)
}

// futureIsNothing puts in what a wrong clock has noted, which must not outlast what is right.
func futureIsNothing(c *checker) {
	now := time.Now().Truncate(time.Second)
	in := func(ahead time.Duration, failures int) func(*reupload.Entry) {
		return func(e *reupload.Entry) { e.Asked = reupload.Asked{At: now.Add(ahead), Outcome: 6, Failures: failures} }
	}
	never := func(*reupload.Entry) {}
	for n, asked := range [][3]func(*reupload.Entry){
		{in(2*time.Hour, 1), never, never},
		{in(1000*time.Hour, 1), in(0, 2), in(0, 2)},
		{in(2*time.Hour, 1), in(-time.Hour, 2), in(-time.Hour, 2)},
		{in(0, 1), in(2*time.Hour, 2), in(0, 1)},
		{in(0, 1), in(50*time.Minute, 2), in(50*time.Minute, 2)}, // clocks differ a little
	} {
		c.merged(n, asked[0], asked[1], asked[2])
	}
	// The path that comes with it counts all the same, and so does the message's own time.
	e := entry(1e5)
	e.DirectPath, e.Timestamp = "/path", now.Add(1000*time.Hour)
	put := e
	in(2*time.Hour, 1)(&put)
	c.put(put)
	c.wantEverywhere(e)
}

// wholeSeconds puts in fractions, which neither come back nor count.
func wholeSeconds(c *checker) {
	const much, little = 900 * time.Millisecond, 100 * time.Millisecond
	e := entry(1)
	e.Asked = asked(1, 6, 1)
	put := clone(e)
	put.Timestamp, put.Asked.At = e.Timestamp.Add(much), e.Asked.At.Add(much)
	c.put(put)
	c.wantEverywhere(e)
	e.Asked = asked(1, 5, 2) // in the same second
	put.Asked = e.Asked
	put.Asked.At = put.Asked.At.Add(little)
	c.put(put)
	c.wantEverywhere(e)
	e.Asked.Outcome = 8
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
			e.IsStatus = !e.Timestamp.IsZero() && random.IntN(2) == 0
			e.CameWith = []string{"", "", "/a", "/b"}[random.IntN(4)]
			e.DirectPath = []string{"", "/a", "/b"}[random.IntN(3)]
			if at := minutes(); !at.IsZero() {
				e.Asked = reupload.Asked{At: at, Outcome: reupload.Outcome(random.IntN(4)), Failures: random.IntN(4)}
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
			old.Timestamp, old.IsStatus = e.Timestamp, e.IsStatus
		}
		if old.CameWith == "" {
			old.CameWith = e.CameWith
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
	again.Asked = asked(1, 1, 0)
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
