package reupload

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// strangers are identities that differ from the one of file(1) in one field each.
func strangers() (own identity, others map[string]identity) {
	e := file(1)
	own = identityOf(stageOwn, &e)
	others = make(map[string]identity)
	for name, change := range map[string]func(k *identity){
		"account":     func(k *identity) { k.account.User = "x" },
		"chat":        func(k *identity) { k.chat.Server = types.HiddenUserServer },
		"participant": func(k *identity) { k.participant = stageChat },
		"id":          func(k *identity) { k.id += "x" },
		"direction":   func(k *identity) { k.fromMe = true },
		"media key":   func(k *identity) { k.mediaKey[mediaKeySize-1]++ },
		"file":        func(k *identity) { k.file[fileHashSize-1]++ },
	} {
		k := own
		change(&k)
		others[name] = k
	}
	return own, others
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	e := file(1)
	e.Participant, e.IsFromMe = stageLID, true
	want := identity{account: stageOwn, chat: e.Chat, participant: stageLID, id: e.MessageID, fromMe: true,
		mediaKey: [mediaKeySize]byte(e.MediaKey), file: [fileHashSize]byte(e.FileEncSHA256)}
	if key := identityOf(stageOwn, &e); key != want {
		t.Errorf("the identity is %v, want %v", key, want)
	}
	e.FileEncSHA256 = nil
	if key := identityOf(stageOwn, &e); key != want.withoutFile() || key == want {
		t.Errorf("without its file it is %v", key)
	}
}

var found = reading{result: Result{Status: StatusSuccess, DirectPath: "/new"}}

// What is known of one file is never taken for what is known of another.
func TestLedgerTellsFilesApart(t *testing.T) {
	t.Parallel()
	own, others := strangers()
	for name, stranger := range others {
		l := newLedger()
		past := time.Now().Add(-time.Second)
		l.sent(stranger, Asked{})
		l.settle(stranger, Entry{}, found, false)
		var e Entry
		l.recall(own, &e)
		if e.DirectPath != "" || e.Asked != (Asked{}) {
			t.Errorf("another %s: its path is known, too: %+v", name, e)
		}
		if _, ended := l.since(own, past); ended {
			t.Errorf("another %s: it has ended, too", name)
		}
		if _, ended := l.since(stranger, past); !ended {
			t.Errorf("another %s: it has not ended itself", name)
		}
	}
}

func TestRecall(t *testing.T) {
	t.Parallel()
	e := file(1)
	key := identityOf(stageOwn, &e)
	now := time.Now().Truncate(time.Second)
	earlier, later := Asked{At: now.Add(-time.Hour), Outcome: OutcomeGeneral, Vain: 7}, Asked{At: now.Add(time.Hour), Outcome: OutcomeGeneral, Vain: 7}

	l := newLedger()
	l.recall(key, &e)
	if e.DirectPath != "" || e.Asked != (Asked{}) {
		t.Errorf("an empty ledger recalls %+v", e)
	}
	asked, _, _ := l.settle(key, Entry{}, found, false)
	for name, test := range map[string]struct {
		path      string
		asked     Asked
		wantPath  string
		wantAsked Asked
	}{
		"nothing in the index":   {"", Asked{}, "/new", asked},
		"something older":        {"", earlier, "/new", asked},
		"as old":                 {"", Asked{At: asked.At}, "/new", asked},
		"something newer":        {"", later, "/new", later},
		"a path is in the index": {"/index", later, "/index", later},
		"a wrong clock's":        {"", Asked{At: now.Add(2 * time.Hour), Outcome: OutcomeSilence}, "/new", asked},
	} {
		e := file(1)
		e.DirectPath, e.Asked = test.path, test.asked
		l.recall(key, &e)
		if e.DirectPath != test.wantPath || e.Asked != test.wantAsked {
			t.Errorf("%s: %q and %+v, want %q and %+v", name, e.DirectPath, e.Asked, test.wantPath, test.wantAsked)
		}
	}

	// What was asked without knowing the file brings a path, but does not say that the file
	// was asked for.
	l = newLedger()
	l.settle(key.withoutFile(), Entry{}, found, false)
	e = file(1)
	l.recall(key, &e)
	if e.DirectPath != "/new" || e.Asked != (Asked{}) {
		t.Errorf("of a request without the file it recalls %q and %+v", e.DirectPath, e.Asked)
	}
}

func TestSettle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := file(1)
		key := identityOf(stageOwn, &e)
		silence, lost := reading{err: ErrTimeout}, reading{result: Result{Status: StatusNotFound}}
		elsewhere := reading{result: Result{Status: StatusSuccess, DirectPath: "/elsewhere"}}
		pass(time.Millisecond) // the time of an outcome is in whole seconds
		at := time.Now().Truncate(time.Second)
		for name, test := range map[string]struct {
			earlier       []reading
			path          string // in the index
			vain          int
			now           reading
			late          bool
			want          Asked
			keeps, isNews bool
		}{
			"a path":                          {now: found, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true, isNews: true},
			"a path, late":                    {now: found, late: true, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true, isNews: true},
			"a path after silence":            {earlier: []reading{silence}, vain: 3, now: found, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true, isNews: true},
			"the same path again":             {earlier: []reading{found}, now: found, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true},
			"another path":                    {earlier: []reading{found}, now: elsewhere, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true, isNews: true},
			"the path of the index":           {path: "/new", now: found, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true},
			"another one than in the index":   {path: "/old", now: found, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true, isNews: true},
			"one that the process knows":      {path: "/old", earlier: []reading{found}, now: found, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true},
			"lost":                            {vain: 3, now: lost, want: Asked{At: at, Outcome: OutcomeNotFound}, keeps: true},
			"silence":                         {now: silence, want: Asked{At: at, Outcome: OutcomeSilence, Vain: 1}, keeps: true},
			"silence again":                   {vain: 3, now: silence, want: Asked{At: at, Outcome: OutcomeSilence, Vain: 4}, keeps: true},
			"lost after a path":               {earlier: []reading{found}, now: lost, want: Asked{At: at, Outcome: OutcomeNotFound}, keeps: true},
			"lost after a path, late":         {earlier: []reading{found}, now: lost, late: true, want: Asked{At: at, Outcome: OutcomeFound}},
			"lost after silence, late":        {earlier: []reading{silence}, now: lost, late: true, want: Asked{At: at, Outcome: OutcomeNotFound}, keeps: true},
			"another path after a path, late": {earlier: []reading{found}, now: elsewhere, late: true, want: Asked{At: at, Outcome: OutcomeFound}, keeps: true, isNews: true},
			"nothing about the file":          {vain: 3, now: reading{err: ErrClosed}, want: Asked{Vain: 3}},
		} {
			l := newLedger()
			before := file(1)
			before.DirectPath, before.Asked.Vain = test.path, test.vain
			for _, r := range test.earlier {
				l.settle(key, Entry{}, r, false)
			}
			asked, keeps, isNews := l.settle(key, before, test.now, test.late)
			if asked != test.want || keeps != test.keeps || isNews != test.isNews {
				t.Errorf("%s: %+v, worth keeping: %t, news: %t; want %+v, %t, %t", name, asked, keeps, isNews, test.want, test.keeps, test.isNews)
			}
		}
	})
}

func TestSentHasNotEnded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		e := file(1)
		key := identityOf(stageOwn, &e)
		l := newLedger()
		began := time.Now()
		pass(1500 * time.Millisecond)
		l.settle(key, Entry{}, found, false)
		if r, ended := l.since(key, began); !ended || r.result.DirectPath != "/new" {
			t.Errorf("it has ended since: %t, with %v", ended, r)
		}
		if _, ended := l.since(key, time.Now()); ended {
			t.Error("it has ended since now")
		}
		asked := l.sent(key, Asked{Vain: 2})
		if want := (Asked{At: began.Add(time.Second), Vain: 2}); asked != want {
			t.Errorf("from then on %+v is known, want %+v", asked, want)
		}
		if _, ended := l.since(key, began); ended {
			t.Error("what was sent has ended")
		}
		l.recall(key, &e)
		if e.Asked != asked || e.DirectPath != "/new" { // which may still do
			t.Errorf("recalled are %+v and %q", e.Asked, e.DirectPath)
		}
	})
}

func TestClaim(t *testing.T) {
	t.Parallel()
	first, others := strangers()
	second := others["file"]
	t.Run("one that was asked", func(t *testing.T) {
		l := newLedger()
		l.sent(first, Asked{})
		if l.claim(second, "a") {
			t.Error("an answer is claimed for another file than the one that was asked for")
		}
		for range 2 { // it can come twice, after a break
			if !l.claim(first, "a") {
				t.Error("its answer is not claimed")
			}
		}
	})
	t.Run("none that was asked", func(t *testing.T) {
		if !newLedger().claim(first, "a") { // the bot has asked
			t.Error("it is not claimed")
		}
	})
	t.Run("two that were asked", func(t *testing.T) {
		l := newLedger()
		l.sent(first, Asked{})
		l.sent(first, Asked{}) // once more is not one more
		if !l.claim(first, "a") {
			t.Error("the first one's answer is not claimed")
		}
		l.sent(second, Asked{})
		if l.claim(first, "b") || l.claim(second, "b") {
			t.Error("an answer that can be for either is claimed")
		}
		l.settle(first, Entry{}, reading{err: ErrTimeout}, false)
		if l.claim(second, "b") {
			t.Error("silence is taken for an answer: it may come late")
		}
		l.settle(first, Entry{}, found, false)
		if l.claim(second, "a") {
			t.Error("the first one's answer comes again, and is claimed for the second")
		}
		if !l.claim(second, "b") || l.isOwn("other") || !l.isOwn(first.id) {
			t.Error("the second one's is not claimed")
		}
		l.settle(second, Entry{}, found, false)
		if l.isOwn(first.id) {
			t.Error("all have their answers, and one is waited for")
		}
	})
	t.Run("under other ids", func(t *testing.T) {
		l := newLedger()
		l.sent(others["id"], Asked{})
		l.settle(others["media key"], Entry{}, found, false)
		if !l.claim(first, "a") {
			t.Error("it is not claimed")
		}
	})
}

func TestMoves(t *testing.T) {
	t.Parallel()
	dead := location{directPathOf("/dead?oe=1"), "hash"}
	l := newLedger()
	l.move(dead, "/new?oe=2")
	for name, other := range map[string]location{
		"path": {directPathOf("/other?oe=1"), "hash"}, "query": {directPathOf("/dead?oe=2"), "hash"}, "hash": {dead.path, "other"},
	} {
		if path := l.movedTo(other); path != "" {
			t.Errorf("another %s: it has moved to %q, too", name, path)
		}
		l.unmove(other)
	}
	if path := l.movedTo(dead); path != "/new?oe=2" {
		t.Errorf("it has moved to %q", path)
	}
	l.move(dead, "/newer")
	if path := l.movedTo(dead); path != "/newer" {
		t.Errorf("it has moved again, to %q", path)
	}
	l.unmove(dead)
	l.move(dead, "/dead?oe=1") // where it was
	if path := l.movedTo(dead); path != "" {
		t.Errorf("it has not moved, and is at %q", path)
	}
	for size, keeps := range map[int]bool{maxDirectPath: true, maxDirectPath + 1: false} {
		long := location{directPath{"/" + strings.Repeat("a", size-4), "oe"}, "hash"}
		if l.move(long, "/new"); (l.movedTo(long) != "") != keeps {
			t.Errorf("a path of %d bytes is remembered: %t", long.path.size(), !keeps)
		}
	}
}

func TestWrongPaths(t *testing.T) {
	t.Parallel()
	p := location{directPathOf("/new?oe=1"), "hash"}
	l := newLedger()
	l.setWrong(p)
	if !l.isWrong(p) || l.isWrong(location{p.path, "other"}) || l.isWrong(location{directPathOf("/new?oe=2"), "hash"}) {
		t.Error("the wrong path is wrong")
	}
	l.clearWrong(location{p.path, "other"})
	if !l.isWrong(p) {
		t.Error("another file stands, and so does this one")
	}
	if l.clearWrong(p); l.isWrong(p) {
		t.Error("the phone has named it again, and it is wrong")
	}
}

func TestBotAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := newLedger()
		began := time.Now()
		l.askedByBot("id", true)
		pass(time.Second)
		if !l.botAsked("id").Equal(began) || !l.botAsked("other").IsZero() {
			t.Errorf("it has asked at %s", l.botAsked("id"))
		}
		l.askedByBot("id", false)
		if !l.botAsked("id").IsZero() {
			t.Error("it has its answer, and waits")
		}
	})
}

// A flood of whatever strangers can choose leaves the newest, and no more than there is room for.
func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	l := newLedger()
	key, _ := strangers()
	const flood = maxEndings + 100
	for i := range flood {
		p := location{directPathOf(fmt.Sprintf("/%d", i)), "hash"}
		l.move(p, "/new")
		l.setWrong(p)
		key.id = fmt.Sprint(i)
		l.sent(key, Asked{})
		l.claim(key, "a")
		l.settle(key, Entry{}, found, false)
		l.askedByBot(key.id, true)
	}
	if n := len(l.moves.values); n != maxMoves {
		t.Errorf("%d moves", n)
	}
	if n := len(l.wrong.values); n != maxWrong {
		t.Errorf("%d wrong paths", n)
	}
	if n := len(l.endings.values); n != maxEndings {
		t.Errorf("%d outcomes", n)
	}
	if n := len(l.wires.values); n != maxWires {
		t.Errorf("%d message ids", n)
	}
	if n := len(l.foreign.values); n != maxForeign {
		t.Errorf("%d requests of the bot's own", n)
	}
	if l.botAsked(fmt.Sprint(flood-1)).IsZero() || l.movedTo(location{directPathOf(fmt.Sprintf("/%d", flood-1)), "hash"}) == "" {
		t.Error("the newest is forgotten")
	}
	for i := range 3 * maxOpen {
		key.file = [fileHashSize]byte(bytes.Repeat([]byte{byte(i)}, fileHashSize))
		l.sent(key, Asked{})
	}
	if n := len(l.wires.get(key.id).open); n != maxOpen {
		t.Errorf("%d open requests under one id", n)
	}
}

func TestBoundedMap(t *testing.T) {
	t.Parallel()
	b := newBounded[int, int](3)
	for i := range 10 {
		b.set(i, i)
		b.set(i, 10*i) // is not one more
		if len(b.values) > 3 || b.get(i) != 10*i {
			t.Fatalf("it holds %v after %d", b.values, i)
		}
	}
	if len(b.values) != 3 || b.get(7) != 70 {
		t.Errorf("it holds %v, want the last three", b.values)
	}
	b.remove(8)
	b.set(10, 100) // takes the place of 7, the oldest
	if _, there := b.values[7]; there || len(b.values) != 2 || len(b.order) != 3 {
		t.Errorf("it holds %v in the order %v", b.values, b.order)
	}
	b.remove(9)
	b.set(9, 99)   // is the newest now, though its old place comes next but one
	b.set(11, 110) // takes the place of 9's first
	if b.get(9) != 99 || b.get(10) != 100 || b.get(11) != 110 || len(b.values) != 3 {
		t.Errorf("it holds %v in the order %v", b.values, b.order)
	}
}
