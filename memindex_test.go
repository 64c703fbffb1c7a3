package reupload

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// An entry that had to go for others of its file is not forgotten twice when its slot is taken.
func TestMemoryIndexForgetsOnce(t *testing.T) {
	t.Parallel()
	const capacity = 50
	x := NewMemoryIndex(capacity)
	for i := range 4 * capacity {
		e := file(byte(i))
		if i%2 == 0 {
			e = file(1) // the file that everybody sends on
		}
		e.MessageID = fmt.Sprint(i)
		e.Chat = types.NewJID(fmt.Sprint(1000+i), types.DefaultUserServer)
		e.Timestamp = time.Unix(int64(i+1), 0)
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
		var found, uses int
		for n := range i + 1 {
			entries, _ := x.ByMessage(t.Context(), stageOwn, fmt.Sprint(n))
			found += len(entries)
			if len(entries) > 0 && entries[0].Chat.User != fmt.Sprint(1000+n) {
				t.Fatalf("after %d the message %d is in chat %v", i, n, entries[0].Chat)
			}
		}
		for _, n := range x.jids.uses {
			uses += int(n)
		}
		if found != x.Len() || uses != 3*found { // account, chat, participant
			t.Fatalf("after %d it has %d entries with %d JIDs, and says %d", i, found, uses, x.Len())
		}
	}
	if n := len(x.jids.values); n > 2*capacity {
		t.Errorf("the table of JIDs has grown to %d", n)
	}
}

// manyOfFile puts in messages with one file, by chat and number; those of "quotes" have no time.
func manyOfFile(t *testing.T, x *MemoryIndex, chat string, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := file(1)
		e.MessageID, e.Chat = fmt.Sprint(chat, i), types.NewJID(chat, types.GroupServer)
		e.Participant = stageOwn
		if chat != "quotes" {
			e.Timestamp = time.Unix(int64(i), 0)
		}
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// wantOfFile checks which messages with the file there are, as names and numbers.
func wantOfFile(t *testing.T, x *MemoryIndex, want ...string) {
	t.Helper()
	entries, _ := x.ByFile(t.Context(), stageOwn, file(1).FileEncSHA256)
	var got []string
	for _, e := range entries {
		got = append(got, e.MessageID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("it keeps %v, want %v", got, want)
	}
}

func numbered(chat string, from, to int) (names []string) {
	for i := from; i < to; i++ {
		names = append(names, fmt.Sprint(chat, i))
	}
	return names
}

// The places of a file are shared by what was delivered and what was quoted, and by the chats.
func TestMemoryIndexSharesThePlacesOfAFile(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(100)
	manyOfFile(t, x, "a", 100, 140)
	wantOfFile(t, x, slices.Concat([]string{"a100"}, numbered("a", 125, 140))...) // the newest, and the very oldest
	manyOfFile(t, x, "quotes", 0, 40)
	wantOfFile(t, x, slices.Concat([]string{"a100"}, numbered("a", 129, 140), numbered("quotes", 36, 40))...)
	manyOfFile(t, x, "a", 140, 150)
	wantOfFile(t, x, slices.Concat([]string{"a100"}, numbered("a", 139, 150), numbered("quotes", 36, 40))...)
	manyOfFile(t, x, "b", 101, 103)
	wantOfFile(t, x, slices.Concat([]string{"a100"}, numbered("a", 141, 150), numbered("b", 101, 103), numbered("quotes", 36, 40))...)
	manyOfFile(t, x, "a", 150, 190) // costs b nothing
	wantOfFile(t, x, slices.Concat([]string{"a100"}, numbered("a", 181, 190), numbered("b", 101, 103), numbered("quotes", 36, 40))...)
	manyOfFile(t, x, "b", 200, 240)
	entries, _ := x.ByFile(t.Context(), stageOwn, file(1).FileEncSHA256)
	counts := make(map[string]int)
	for _, e := range entries {
		counts[e.Chat.User]++
	}
	if counts["a"] < 6 || counts["b"] < 5 || counts["quotes"] != 4 {
		t.Errorf("the places are shared as %v", counts)
	}
}

// What was only quoted can have all places, as long as nothing was delivered.
func TestMemoryIndexKeepsQuotes(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(100)
	manyOfFile(t, x, "quotes", 0, 40)
	wantOfFile(t, x, numbered("quotes", 24, 40)...)
	manyOfFile(t, x, "a", 1, 6)
	wantOfFile(t, x, slices.Concat(numbered("quotes", 29, 40), numbered("a", 1, 6))...)
	manyOfFile(t, x, "a", 6, 40)
	wantOfFile(t, x, slices.Concat(numbered("quotes", 36, 40), numbered("a", 29, 40), []string{"a1"})...)
}

// sameID puts in files of a message id, by sender and number; without a time those of quotes.
func sameID(t *testing.T, x *MemoryIndex, sender string, quoted bool, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		e := file(byte(i))
		e.MessageID, e.Chat = "3EB0", types.NewJID("120363000000000001", types.GroupServer)
		e.Participant = types.NewJID(sender, types.DefaultUserServer)
		e.MediaKey = append(e.MediaKey[:30:30], byte(i>>8), byte(i))
		if !quoted {
			e.Timestamp = time.Unix(int64(1000+i), 0)
		}
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
}

// Under a message id no sender has more than its places, and none takes those of others.
func TestMemoryIndexSharesThePlacesOfAnID(t *testing.T) {
	t.Parallel()
	count := func(x *MemoryIndex) map[string]int {
		counts := make(map[string]int)
		found, _ := x.ByMessage(t.Context(), stageOwn, "3EB0")
		for _, e := range found {
			name := e.Participant.User
			if e.Timestamp.IsZero() {
				name += " quoted"
			}
			counts[name]++
		}
		return counts
	}
	x := NewMemoryIndex(1000)
	sameID(t, x, "a", false, 0, 100)
	if got := count(x); !maps.Equal(got, map[string]int{"a": 64}) {
		t.Errorf("of one sender there are %v", got)
	}
	sameID(t, x, "a", true, 100, 200) // anyone can quote what a sender has never sent
	if got := count(x); !maps.Equal(got, map[string]int{"a": 64}) {
		t.Errorf("after quotes there are %v", got)
	}
	for _, sender := range []string{"b", "c", "d"} {
		sameID(t, x, sender, false, 0, 100)
	}
	if got := count(x); !maps.Equal(got, map[string]int{"a": 64, "b": 64, "c": 64, "d": 64}) {
		t.Errorf("of four senders there are %v", got)
	}
	sameID(t, x, "e", true, 0, 1)
	if got := count(x); got["e quoted"] != 1 || x.Len() != 256 {
		t.Errorf("what was quoted is kept out: %v", got)
	}
	sameID(t, x, "f", false, 0, 20)
	if got := count(x); got["f"] != 20 || got["e quoted"] != 1 || x.Len() != 256 || max(got["a"], got["b"], got["c"], got["d"]) > 59 {
		t.Errorf("of the sixth sender there are %v", got)
	}
	for i := range 300 {
		sameID(t, x, fmt.Sprint("invented", i), true, 1000+i, 1001+i)
	}
	if got := count(x); got["f"] != 20 || x.Len() != 256 || got["a"]+got["b"]+got["c"]+got["d"] < 172 {
		t.Errorf("quotes of invented senders have left %v", got)
	}
}

// The entry that goes for its message id is not counted among those of its file.
func TestMemoryIndexForgetsOneForBoth(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(1000)
	put := func(n int, id string) {
		t.Helper()
		e := file(255)
		e.MessageID, e.Chat = id, types.NewJID("120363000000000001", types.GroupServer)
		e.Participant = types.NewJID("a", types.DefaultUserServer)
		e.MediaKey = append(e.MediaKey[:30:30], byte(n>>8), byte(n))
		e.Timestamp = time.Unix(int64(n), 0)
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	sameID(t, x, "a", false, 0, 63)
	put(5000, "3EB0") // the newest of its sender
	for n := range 15 {
		put(3000+n, fmt.Sprint(n))
	}
	before := x.Len()
	put(1, "3EB0")
	if x.Len() != before {
		t.Errorf("there are %d entries, want %d", x.Len(), before)
	}
}

// A source is forgotten with its last record, and its numbers are used again.
func TestMemoryIndexCountsSources(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(20)
	for i := range 500 {
		e := file(byte(i))
		e.MessageID, e.Chat.User = fmt.Sprint(i), fmt.Sprint(100+i%30)
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	total := 0
	for n, uses := range x.origins.uses {
		total += int(uses)
		if s := x.origins.values[n]; uses > 0 && x.origins.numbers[s] != uint32(n) {
			t.Errorf("source %d is %v, whose number is %d", n, s, x.origins.numbers[s])
		}
	}
	if total != x.Len() || len(x.origins.values) > 21 {
		t.Errorf("%d numbers of sources have %d uses, with %d records", len(x.origins.values), total, x.Len())
	}
}

func TestMemoryIndexReturnsTheNewestFirst(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(0)
	var put []Entry
	for i, at := range []int64{2000, 1000, 3000} {
		e := file(1)
		e.MessageID, e.Timestamp = fmt.Sprint(i), time.Unix(at, 0)
		put = append(put, e)
	}
	for n, want := range []string{"0", "0 1", "2 0 1"} {
		if err := x.Put(t.Context(), stageOwn, put[:n+1]); err != nil {
			t.Fatal(err)
		}
		found, err := x.ByFile(t.Context(), stageOwn, put[0].FileEncSHA256)
		var ids []string
		for _, e := range found {
			ids = append(ids, e.MessageID)
		}
		if got := strings.Join(ids, " "); got != want || err != nil {
			t.Errorf("of %d it returns %s, %v", n+1, got, err)
		}
	}
}

// What the phone has told of a file goes with its entry, and not to the one that has its slot next.
func TestMemoryIndexForgetsPathsToo(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(1)
	for i := range 3 {
		e := file(byte(i))
		e.MessageID = fmt.Sprint(i)
		told := e
		told.DirectPath, told.Asked = fmt.Sprint("/new", i), Asked{At: time.Unix(int64(i+1), 0), Outcome: outcomeFound}
		for _, put := range []Entry{e, told} {
			if err := x.Put(t.Context(), stageOwn, []Entry{put}); err != nil {
				t.Fatal(err)
			}
			found, err := x.ByFile(t.Context(), stageOwn, e.FileEncSHA256)
			if err != nil || len(found) != 1 || found[0].DirectPath != put.DirectPath || !found[0].Asked.At.Equal(put.Asked.At) {
				t.Errorf("%d: it returns %+v, %v", i, found, err)
			}
		}
		if len(x.renewed) != 1 {
			t.Errorf("it keeps %d paths of one file", len(x.renewed))
		}
	}
}

// What a wrong clock has noted gives way to what comes next.
func TestMemoryIndexForgetsTheFuture(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(10)
	put := func(at time.Time, failures int) Asked {
		t.Helper()
		e := file(1)
		e.Asked = Asked{At: at, Outcome: outcomeSilence, Failures: failures}
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
		found, _ := x.ByMessage(t.Context(), stageOwn, e.MessageID)
		return found[0].Asked
	}
	now := time.Now()
	if got := put(now.Add(2*time.Hour), 1); got != (Asked{}) {
		t.Errorf("it has taken %v", got)
	}
	if got := put(now, 2); got.Failures != 2 {
		t.Errorf("it has not taken %v", got)
	}
	if got := put(now.Add(24*time.Hour), 3); got.Failures != 2 {
		t.Errorf("it has taken %v", got)
	}
	if got := put(now.Add(50*time.Minute), 4); got.Failures != 4 {
		t.Errorf("it has not taken %v, by a clock that is a little ahead", got)
	}
	a := Asked{At: now.Add(3 * time.Hour), Failures: 5} // from before the clock was set back
	if a.replace(Asked{At: now, Failures: 6}); a.Failures != 6 {
		t.Errorf("%v has kept its place", a)
	}
}

func TestMemoryIndexUsesNumbersOfJIDsAgain(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(1)
	for i := range 10 {
		e := file(byte(i))
		e.Chat.User = fmt.Sprint(i)
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(x.jids.values); n != 3 { // account, chat, and no participant
		t.Errorf("the table of JIDs has %d numbers, want 3", n)
	}
}
