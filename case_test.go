package reupload

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// A chooser makes a test live through every sequence of choices: see explore.
type chooser struct {
	made, of []int
	next     int
}

func (c *chooser) choose(n int) int {
	if c.next == len(c.made) {
		c.made, c.of = append(c.made, 0), append(c.of, n)
	}
	chosen := c.made[c.next]
	c.next++
	return chosen
}

// explore calls run for every sequence of choices, and returns how many there are.
func explore(run func(*chooser)) (sequences int) {
	c := new(chooser)
	for {
		c.next = 0
		run(c)
		sequences++
		for len(c.made) > 0 && c.made[len(c.made)-1] == c.of[len(c.of)-1]-1 {
			c.made, c.of = c.made[:len(c.made)-1], c.of[:len(c.of)-1]
		}
		if len(c.made) == 0 {
			return sequences
		}
		c.made[len(c.made)-1]++
	}
}

// contestant returns a candidate. Letters tell senders, and digits keys.
func contestant(name string, r rank, paths ...string) candidate {
	e := Entry{Request: Request{MessageID: name, Chat: types.NewJID(name[:1], types.GroupServer), Paths: paths}}
	key := identity{id: name, chat: e.Chat}
	key.mediaKey[0] = name[1]
	return candidate{entry: e, key: key, rank: r, quoted: r == byQuote}
}

// meant is a message that was quoted, and that the caller may mean.
func meant(name string) candidate {
	c := contestant(name, byCaller)
	c.quoted = true
	return c
}

// What can come of a request.
var endings = []struct {
	name    string
	reading reading
}{
	{"path", reading{result: Result{Status: StatusSuccess, DirectPath: "/new?x"}, sealed: true}},
	{"not found", reading{result: Result{Status: StatusNotFound}, sealed: true}},
	{"silence", reading{err: ErrTimeout}},
	{"not sent", reading{err: ErrPhoneSilent}},
	{"general", reading{result: Result{Status: StatusGeneralError}}},
}

// findings are the errors of what was found under a path.
var findings = map[finding]error{pathGone: errNoFileYet, pathBroken: &passingError{"x"}}

// A caseWorld lives through one case.
type caseWorld struct {
	*chooser
	t     *testing.T
	m     fileCase
	now   time.Time
	story []func() string // is told only if something is wrong
	found []candidate     // what Lookup returns
	tries map[string]int
	isOn  bool
}

func (w *caseWorld) say(format string, args ...any) {
	w.story = append(w.story, func() string { return fmt.Sprintf(format, args...) })
}

func (w *caseWorld) fail(format string, args ...any) {
	w.t.Helper()
	var told []string
	for _, part := range w.story {
		told = append(told, part())
	}
	w.t.Fatalf("%s\nafter: %s", fmt.Sprintf(format, args...), strings.Join(told, "; "))
}

// live does what the case says until its end, with something else happening at each choice.
func (w *caseWorld) live() {
	for steps := 0; ; steps++ {
		if steps > 200 {
			w.fail("the case does not end")
		}
		w.holds()
		next := w.m.next(w.now, w.isOn, func(*contender) error { return nil })
		switch next.what {
		case toTry:
			w.m.begins(next.try)
			v := []finding{pathGood, pathGone, pathBroken}[w.choose(3)]
			w.tries[next.try.path]++
			w.say("%s is %d", next.try.path, v)
			w.m.tried(next.try, v, findings[v], w.now)
			if n := w.tries[next.try.path]; n > maxAsked*(1+len(freshPauses)) {
				w.fail("%s was tried %d times", next.try.path, n)
			}
		case toFetch:
			if next.try.state != proven {
				w.fail("%s is fetched, and has not led to the file", next.try.path)
			}
			return
		case toAsk:
			for _, other := range w.m.tries {
				if other.state == untried {
					w.fail("the phone is asked before %s was tried", other.path)
				}
			}
			w.say("asks for %s", next.contender.entry.MessageID)
			w.m.asks(next.contender)
		case toLookUp:
			w.m.looksUp()
			w.say("looks up")
			if w.choose(2) == 0 {
				w.m.lookedUp(w.found, nil)
			} else {
				w.m.lookedUp(nil, errors.New("locked"))
			}
		case toWait:
			w.happen(next)
		case toEnd:
			w.ends(next.cause)
			return
		}
	}
}

// happen lets something happen for which the case waits.
func (w *caseWorld) happen(next step) {
	var inAir []*contender
	for _, who := range w.m.contenders {
		if who.state == flying || who.state == quiet {
			inAir = append(inAir, who)
		}
	}
	if len(inAir) == 0 {
		if next.until.IsZero() {
			w.fail("the case waits for nothing")
		}
		w.now = next.until
		now := w.now
		w.story = append(w.story, func() string { return now.Format("05.0") })
		return
	}
	who := inAir[w.choose(len(inAir))]
	options := len(endings)
	if who.state == flying {
		options++
	}
	if n := w.choose(options); n == len(endings) {
		w.say("%s is silent so far", who.entry.MessageID)
		w.m.hushes(who)
	} else {
		w.say("%s: %s", who.entry.MessageID, endings[n].name)
		w.m.lands(who, endings[n].reading)
	}
}

// holds checks what holds at each step.
func (w *caseWorld) holds() {
	inAir, _ := w.m.flying()
	if inAir > maxFlying || w.m.asked > maxAsked {
		w.fail("%d requests are on their way, and %d were made", inAir, w.m.asked)
	}
}

// ends checks the end.
func (w *caseWorld) ends(cause error) {
	if cause == nil {
		w.fail("there is no cause")
	}
	inAir, _ := w.m.flying()
	if inAir > 0 {
		w.fail("the case ends with %v while a request is on its way", cause)
	}
	if w.m.broken == nil && w.m.lookup != lookupDone {
		w.fail("the case ends with %v and has not asked Lookup", cause)
	}
	allSaidSo := true
	for _, who := range w.m.contenders {
		allSaidSo = allSaidSo && who.state == over && who.final
		if who.state == idle && w.m.asked < maxAsked && w.m.broken == nil {
			w.fail("the case ends with %v, and %s was not asked for", cause, who.entry.MessageID)
		}
	}
	if isFinal(cause) && !allSaidSo {
		w.fail("the end is final, and not everybody has said so: %v", cause)
	}
	if allSaidSo && len(w.m.contenders) > 0 && w.m.lookupErr == nil && w.m.broken == nil && !isFinal(cause) {
		w.fail("everybody has said so, and the end is %v", cause)
	}
}

// TestCaseOverAllSequences lives through all that can happen in a case of up to three messages.
func TestCaseOverAllSequences(t *testing.T) {
	t.Parallel()
	for name, known := range map[string][]candidate{
		"nothing known": nil,
		"one message":   {contestant("A1", byDelivery, "/old?x")},
		"one named":     {contestant("A1", byCaller)},
		"two messages":  {contestant("A1", byPath), contestant("B2", byDelivery)},
		"two of a kind": {contestant("A1", byDelivery), contestant("A1'", byDelivery)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := explore(func(c *chooser) {
				w := &caseWorld{chooser: c, t: t, isOn: c.choose(2) == 1, now: time.Unix(0, 0).UTC(), found: []candidate{contestant("L9", byLookup)}, tries: map[string]int{}}
				w.m.exclude("/dead?x")
				w.m.know(known)
				w.live()
			})
			t.Logf("%d sequences", n)
			if n < 10 {
				t.Error("nothing was explored")
			}
		})
	}
}

// begin returns a case that knows some candidates, with a function that takes the next step.
func startCase(t *testing.T, known ...candidate) (*fileCase, func(todo) step) {
	m := new(fileCase)
	m.know(known)
	return m, func(want todo) step {
		t.Helper()
		s := m.next(time.Time{}, false, func(*contender) error { return nil })
		if s.what != want {
			t.Fatalf("next is %d, want %d", s.what, want)
		}
		if s.what == toAsk {
			m.asks(s.contender)
		}
		return s
	}
}

func (c *fileCase) land(t *testing.T, id string, r reading) {
	t.Helper()
	for _, who := range c.contenders {
		if who.entry.MessageID == id {
			c.lands(who, r)
			return
		}
	}
	t.Fatalf("no %s", id)
}

var lostReading = reading{result: Result{Status: StatusNotFound}, sealed: true}

func TestCaseAsksSomebodyElseWhileOneIsSilent(t *testing.T) {
	t.Parallel()
	m, next := startCase(t, contestant("A1", byPath), contestant("A1'", byPath), contestant("B2", byDelivery))
	m.lookedUp(nil, nil)
	first := next(toAsk)
	next(toWait)
	m.hushes(first.contender)
	if second := next(toAsk); second.contender.entry.MessageID != "B2" {
		t.Errorf("the next is %s, of the same stranger", second.contender.entry.MessageID)
	}
	next(toWait)
}

// A phone that was heard since the last request was sent is not off: it has nothing to say to that
// one message.
func TestCaseAsksForOneAlikeIfThePhoneIsOn(t *testing.T) {
	t.Parallel()
	for _, isOn := range []bool{false, true} {
		m, next := startCase(t, contestant("A1", byCaller), contestant("A1'", byDelivery))
		m.lookedUp(nil, nil)
		m.hushes(next(toAsk).contender)
		s := m.next(time.Time{}, isOn, func(*contender) error { return nil })
		if asks := s.what == toAsk; asks != isOn {
			t.Errorf("that the phone is on is %t, and that the next one is asked for is %t", isOn, asks)
		}
	}
}

// What the bot has named and what the index knows take turns, and one message of each sender comes
// before a second of any.
func TestCaseTakesTurns(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		known []candidate
		want  string
	}{
		"one of each sender": {
			[]candidate{contestant("A1", byPath), contestant("A2", byPath), contestant("A3", byPath), contestant("C4", byQuote)}, "A1 C4 A2 A3",
		},
		"the bot's own": {
			[]candidate{contestant("A1", byLookup), contestant("A2", byLookup), contestant("A3", byLookup), contestant("C4", byQuote)}, "A1 C4 A2 A3",
		},
		"turns": {
			[]candidate{contestant("A1", byCaller), contestant("B2", byCaller), contestant("C3", byCaller), contestant("D4", byDelivery), contestant("E5", byQuote)}, "A1 D4 B2 E5",
		},
		"turns with Lookup's": {
			[]candidate{contestant("A1", byCaller), contestant("B2", byLookup), contestant("C3", byPath), contestant("D4", byDelivery)}, "A1 C3 B2 D4",
		},
		"the likeliest first": {
			[]candidate{contestant("A1", byPath), contestant("B2", byDelivery), contestant("C3", byQuote)}, "A1 B2 C3",
		},
		"quotes as of one sender": {
			[]candidate{contestant("A1", byDelivery), contestant("A2", byDelivery), contestant("B3", byQuote), contestant("C4", byQuote)}, "A1 B3 A2 C4",
		},
		"a quote in the name of another": {
			[]candidate{meant("A1"), contestant("A2", byCaller), contestant("B3", byCaller)}, "A1 A2 B3",
		},
	} {
		m, next := startCase(t, test.known...)
		m.lookedUp(nil, nil)
		var order []string
		for range min(len(test.known), maxAsked) {
			id := next(toAsk).contender.entry.MessageID
			order = append(order, id)
			m.land(t, id, lostReading)
		}
		if got := strings.Join(order, " "); got != test.want {
			t.Errorf("%s: the order is %s, want %s", name, got, test.want)
		}
	}
}

func TestCaseAsksLookupBeforeTheSecondMessage(t *testing.T) {
	t.Parallel()
	for _, r := range []rank{byCaller, byPath, byDelivery} {
		m, next := startCase(t, contestant("A1", r), contestant("B2", byDelivery), contestant("C3", byDelivery))
		next(toAsk)
		m.land(t, "A1", lostReading)
		next(toLookUp)
		m.looksUp()
		next(toWait)
		m.lookedUp([]candidate{contestant("L9", byLookup)}, nil)
		order := next(toAsk).contender.entry.MessageID
		m.land(t, order, lostReading)
		order += next(toAsk).contender.entry.MessageID
		if want := map[rank]string{byCaller: "B2L9", byPath: "L9B2", byDelivery: "L9B2"}[r]; order != want {
			t.Errorf("with rank %d the next are %s, want %s", r, order, want)
		}
	}
}

func TestCaseIsNotFinalWithOthersLeft(t *testing.T) {
	t.Parallel()
	var known []candidate
	for _, name := range []string{"A1", "B2", "C3", "D4", "E5"} {
		known = append(known, contestant(name, byCaller))
	}
	m, next := startCase(t, known...)
	m.lookedUp(nil, nil)
	for range maxAsked {
		m.land(t, next(toAsk).contender.entry.MessageID, lostReading)
	}
	if end := next(toEnd); isFinal(end.cause) || !errors.Is(end.cause, ErrGeneral) {
		t.Errorf("the cause is %v", end.cause)
	}
}

// What was not asked for may help soon, whatever came of the others.
func TestCauseIsWhatWasNotAsked(t *testing.T) {
	t.Parallel()
	for _, r := range []reading{lostReading, {err: ErrTimeout}, {result: Result{Status: StatusGeneralError}}} {
		m, next := startCase(t, contestant("A1", byCaller), contestant("B2", byDelivery))
		m.lookedUp(nil, nil)
		m.land(t, next(toAsk).contender.entry.MessageID, r)
		m.land(t, next(toAsk).contender.entry.MessageID, reading{err: errSourceSilent})
		if end := next(toEnd); end.cause != errSourceSilent {
			t.Errorf("after %v the cause is %v", r, end.cause)
		}
	}
}

// What the server still holds for the phone does not help soon.
func TestCauseIsNotALongPause(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := policy{24 * time.Hour, time.Hour}
	m, next := startCase(t, contestant("A1", byDelivery), contestant("B2", byQuote))
	m.lookedUp(nil, nil)
	for i, outcome := range []Outcome{outcomeGeneral, outcomeSilence} {
		who := m.contenders[i]
		who.entry.Asked = Asked{At: now, Outcome: outcome, Failures: 1}
		m.refuse(who, p.refusal(&who.entry, now, now.Add(-time.Hour)))
	}
	var paused *PausedError
	if end := next(toEnd); !errors.As(end.cause, &paused) || paused.Until.Sub(now) > time.Hour {
		t.Errorf("the cause is %v", end.cause)
	}
}

// A request that was sent for another case, or not at all, leaves the case as many as before.
func TestCaseCountsItsOwnRequests(t *testing.T) {
	t.Parallel()
	m, next := startCase(t, contestant("A1", byCaller), contestant("B2", byCaller), contestant("C3", byCaller))
	m.lookedUp(nil, nil)
	m.joins(m.contenders[0])
	m.land(t, "A1", reading{err: ErrTimeout, again: true})
	m.land(t, next(toAsk).contender.entry.MessageID, reading{err: ErrTimeout, again: true})
	if m.asked != 0 {
		t.Errorf("it counts %d requests", m.asked)
	}
	m.land(t, next(toAsk).contender.entry.MessageID, reading{err: ErrTimeout})
	if m.asked != 1 {
		t.Errorf("then it counts %d requests", m.asked)
	}
}

func TestCaseTriesAFreshPathAgain(t *testing.T) {
	t.Parallel()
	m := new(fileCase)
	m.know([]candidate{contestant("A1", byCaller)})
	now := time.Unix(1000, 0)
	step := func() step { return m.next(now, false, func(*contender) error { return nil }) }
	m.asks(step().contender)
	m.land(t, "A1", endings[0].reading)
	began := now
	for _, want := range []time.Duration{0, 300 * time.Millisecond, 1300 * time.Millisecond, 4300 * time.Millisecond} {
		s := step()
		if s.what == toWait {
			now = s.until
			s = step()
		}
		if s.what != toTry || now.Sub(began) != want {
			t.Fatalf("after %s next is %d, want a try after %s", now.Sub(began), s.what, want)
		}
		m.begins(s.try)
		if isBad := m.tried(s.try, pathWrong, errOtherFile, now); isBad != (want > 4*time.Second) {
			t.Errorf("after %s the path is bad: %t", want, isBad)
		}
	}
	if s := step(); s.what != toLookUp {
		t.Errorf("next is %d", s.what)
	}
	m.lookedUp(nil, nil)
	if s := step(); s.what != toEnd || !errors.Is(s.cause, ErrInvalidAnswer) {
		t.Errorf("next is %d with %v", s.what, s.cause)
	}
}

// A large file of which only the beginning was read proves its path only so far. Once all of one
// was read, the beginning of another changes nothing.
func TestCaseTrustsABeginningOnlySoFar(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, table := range []struct {
		found  []finding
		likely bool
	}{
		{[]finding{pathGood}, false},
		{[]finding{pathLikely}, true},
		{[]finding{pathLikely, pathLikely}, true},
		{[]finding{pathLikely, pathGood}, false},
		{[]finding{pathGood, pathLikely}, false},
		{[]finding{pathBroken, pathLikely}, true},
	} {
		m, _ := startCase(t, contestant("a1", byDelivery, "/v/t62/a"))
		for _, v := range table.found {
			m.tried(m.tries[0], v, nil, start)
		}
		if got := m.tries[0]; got.state != proven || got.likely != table.likely {
			t.Errorf("%v: state %d, likely %t", table.found, got.state, got.likely)
		}
	}
}
