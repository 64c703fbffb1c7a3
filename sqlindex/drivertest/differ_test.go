package drivertest

import (
	"cmp"
	"crypto/sha256"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// A model is what [reupload.Index] says of an index without limits, with nothing to make it fast.
type model map[types.JID][]reupload.Entry

func (m model) put(account types.JID, entries []reupload.Entry) {
	late := time.Now().Add(time.Hour)
	for _, e := range entries {
		if e.Asked.At.IsZero() || e.Asked.At.After(late) {
			e.Asked = reupload.Asked{}
		}
		known := m[account]
		i := slices.IndexFunc(known, func(o reupload.Entry) bool { return identity(o) == identity(e) })
		if i < 0 {
			m[account] = append(known, e)
			continue
		}
		old := &known[i]
		if old.Timestamp.IsZero() && !e.Timestamp.IsZero() {
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
	}
}

func (m model) find(account types.JID, fits func(reupload.Entry) bool) []reupload.Entry {
	var found []reupload.Entry
	for _, e := range m[account] {
		if fits(e) {
			found = append(found, e)
		}
	}
	return found
}

// identity names an entry by all that makes two the same.
func identity(e reupload.Entry) string {
	return fmt.Sprintf("%s %s %x %t %s %x", e.MessageID, e.Chat, e.MediaKey, e.IsFromMe, e.Participant, e.FileEncSHA256)
}

func describe(e reupload.Entry) string {
	return fmt.Sprintf("%s at %d (%t), came with %q, now at %q, asked %d %d %d", identity(e), unix(e.Timestamp), e.IsStatus, e.CameWith,
		e.DirectPath, unix(e.Asked.At), e.Asked.Outcome, e.Asked.Failures)
}

// unix is 0 for a time that is not known.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// ordered describes entries, the newest first and those without a time last. Entries of one time
// can be in any order.
func ordered(entries []reupload.Entry) []string {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b reupload.Entry) int {
		return cmp.Or(cmp.Compare(unix(b.Timestamp), unix(a.Timestamp)), strings.Compare(describe(a), describe(b)))
	})
	var all []string
	for _, e := range entries {
		all = append(all, describe(e))
	}
	return all
}

// A duel drives indexes and their model by bytes, each of which is a choice.
type duel struct {
	testing.TB
	choices  []byte
	model    model
	indexes  map[string]reupload.Index
	accounts [2]types.JID
	done     map[string]int // how often each operation, and each answer of interest, has occurred
}

// pick returns one of n choices: the first when there are no bytes left.
func (d *duel) pick(n int) int {
	if len(d.choices) == 0 {
		return 0
	}
	choice := int(d.choices[0]) % n
	d.choices = d.choices[1:]
	return choice
}

func pickOf[T any](d *duel, from ...T) T { return from[d.pick(len(from))] }

var (
	duelChats   = []types.JID{types.NewJID("4917000001", types.DefaultUserServer), types.NewJID("120363001", types.GroupServer), types.StatusBroadcastJID}
	duelSenders = []types.JID{{}, types.NewJID("4917000002", types.DefaultUserServer), types.NewJID("100200300", types.HiddenUserServer)}
	duelIDs     = []types.MessageID{"3EB0A", "3EB0B", "3eb0a"}
	duelEpoch   = time.Now().Add(-24 * time.Hour).Truncate(time.Second)
)

func duelBytes(kind string, n int) []byte {
	sum := sha256.Sum256(fmt.Append(nil, kind, n))
	return sum[:]
}

// entry chooses one of those whose number is so small that no limit of an index is met.
func (d *duel) entry() reupload.Entry {
	n := d.pick(12)
	e := reupload.Entry{
		Request: reupload.Request{
			MessageID: duelIDs[n%3], Chat: duelChats[n/2%3], IsFromMe: n%5 == 0, MediaKey: duelBytes("key", n%2), Participant: duelSenders[n/4],
		},
		FileEncSHA256: duelBytes("file", n/6),
	}
	if n == 7 {
		e.FileEncSHA256 = nil
	}
	if d.pick(3) > 0 {
		e.Timestamp, e.IsStatus = duelEpoch.Add(time.Duration(d.pick(4))*time.Second), d.pick(2) == 1
	}
	e.CameWith = pickOf(d, "", "/v/t62/came?oh=1", "/v/t62/other?oh=2")
	e.DirectPath = pickOf(d, "", "/v/t62/new?oh=3", "/v/t62/newer?oh=4")
	if d.pick(3) == 1 {
		at := pickOf(d, duelEpoch, duelEpoch.Add(time.Minute), duelEpoch.Add(2*time.Minute), time.Now().Add(48*time.Hour).Truncate(time.Second))
		e.Asked = reupload.Asked{At: at, Outcome: reupload.Outcome(d.pick(11)), Failures: d.pick(4)}
	}
	return e
}

// step does one operation on all indexes, and compares what they answer.
func (d *duel) step() {
	account := pickOf(d, d.accounts[:]...)
	switch d.pick(4) {
	case 0, 1:
		batch := make([]reupload.Entry, d.pick(3)+1)
		for i := range batch {
			batch[i] = d.entry()
			if n := len(d.model.find(account, func(o reupload.Entry) bool { return identity(o) == identity(batch[i]) })); n > 0 {
				d.done["put one that was there"]++
			}
		}
		d.done["put"]++
		d.model.put(account, batch)
		for name, index := range d.indexes {
			if err := index.Put(d.Context(), account, cloneOf(batch)); err != nil {
				d.Fatalf("%s: put: %v", name, err)
			}
		}
	case 2:
		file := duelBytes("file", d.pick(3))
		want := d.model.find(account, func(e reupload.Entry) bool { return string(e.FileEncSHA256) == string(file) })
		d.compare("by file", want, func(index reupload.Index) ([]reupload.Entry, error) { return index.ByFile(d.Context(), account, file) })
	case 3:
		id := pickOf(d, append(duelIDs, "3EB0")...)
		want := d.model.find(account, func(e reupload.Entry) bool { return e.MessageID == id })
		d.compare("by message", want, func(index reupload.Index) ([]reupload.Entry, error) { return index.ByMessage(d.Context(), account, id) })
	}
}

func (d *duel) compare(what string, want []reupload.Entry, ask func(reupload.Index) ([]reupload.Entry, error)) {
	d.done[what]++
	switch {
	case len(want) == 0:
		d.done[what+": none"]++
	case len(want) > 1:
		d.done[what+": several"]++
	}
	for name, index := range d.indexes {
		got, err := ask(index)
		if err != nil {
			d.Fatalf("%s, %s: %v", name, what, err)
		}
		if !slices.Equal(ordered(got), ordered(want)) {
			d.Fatalf("%s, %s: got\n%s\nwant\n%s", name, what, strings.Join(ordered(got), "\n"), strings.Join(ordered(want), "\n"))
		}
		if !slices.IsSortedFunc(got, func(a, b reupload.Entry) int { return cmp.Compare(unix(b.Timestamp), unix(a.Timestamp)) }) {
			d.Fatalf("%s, %s: not in order:\n%v", name, what, got)
		}
	}
}

// cloneOf returns entries that an index can keep.
func cloneOf(entries []reupload.Entry) []reupload.Entry {
	entries = slices.Clone(entries)
	for i := range entries {
		entries[i].MediaKey, entries[i].FileEncSHA256 = slices.Clone(entries[i].MediaKey), slices.Clone(entries[i].FileEncSHA256)
	}
	return entries
}

// An arena has the databases that duels are fought in, each between accounts of its own.
type arena struct {
	dbs   map[string]*sql.DB
	duels int
	done  map[string]int
}

func newArena(t testing.TB) *arena {
	a := &arena{dbs: make(map[string]*sql.DB), done: make(map[string]int)}
	for _, k := range backends {
		a.dbs[k.name], _ = k.open(t)
	}
	return a
}

// fight does as many operations as there are choices for.
func (a *arena) fight(t testing.TB, choices []byte) {
	a.duels++
	d := &duel{TB: t, choices: choices, model: make(model), indexes: make(map[string]reupload.Index), done: a.done}
	for i := range d.accounts {
		d.accounts[i] = types.NewJID(fmt.Sprint(4_930_000_000+2*a.duels+i), types.DefaultUserServer)
	}
	d.indexes["memory"] = reupload.NewMemoryIndex(0)
	a.open(d)
	for len(d.choices) > 0 {
		if d.pick(64) == 63 {
			d.done["open again"]++
			a.open(d)
		}
		d.step()
	}
}

// open opens the indexes that are in databases, as a process does that starts.
func (a *arena) open(d *duel) {
	for _, k := range backends {
		dialect := map[string]string{"SQLite": "sqlite", "Postgres": "pgx"}[k.name]
		index, err := sqlindex.New(d.Context(), a.dbs[k.name], dialect)
		if err != nil {
			d.Fatal(err)
		}
		d.indexes[k.name] = index
	}
}

// TestIndexesAgree compares the three indexes and a model of what they have to be, over operations
// drawn by chance.
func TestIndexesAgree(t *testing.T) {
	t.Parallel()
	a := newArena(t)
	for seed := range lots(60) {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		choices := make([]byte, 300)
		for i := range choices {
			choices[i] = byte(random.Uint32())
		}
		a.fight(t, choices)
	}
	for _, what := range []string{
		"put", "put one that was there", "open again",
		"by file", "by file: none", "by file: several", "by message", "by message: none", "by message: several",
	} {
		if a.done[what] == 0 {
			t.Errorf("this did not occur: %s", what)
		}
	}
}

// FuzzIndexes does the same with operations that a fuzzer chooses.
func FuzzIndexes(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 3, 1, 1, 0, 1, 1, 0, 0, 0, 2, 0})
	a := newArena(f)
	f.Fuzz(func(t *testing.T, choices []byte) {
		if len(choices) > 1000 {
			t.Skip("longer than anything that a shorter one does not find")
		}
		a.fight(t, choices)
	})
}
