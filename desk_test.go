package reupload

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// A desk hands out tickets of one queue and notes who was called, in which order.
//
// A ticket's name is its lane (L for live, B for backfill, I for a live one that insists), a letter
// for its source, in upper case if the bot has named the message, and a number.
type desk struct {
	*testing.T
	queue   *queue
	mu      sync.Mutex // guards called: a timer can call
	called  []string
	tickets map[string]*ticket
}

func newDesk(t *testing.T, places int, pace time.Duration) *desk {
	return &desk{T: t, queue: newQueue(places, pace), tickets: make(map[string]*ticket)}
}

func sourceNamed(name string) source {
	return types.NewJID(strings.ToLower(name), types.DefaultUserServer)
}

func ticketNamed(name string) *ticket {
	letter := name[1:2]
	t := &ticket{source: sourceNamed(letter), byBot: letter != strings.ToLower(letter)}
	switch name[0] {
	case 'B':
		t.lane = backfill
	case 'I':
		t.insists = true
	}
	return t
}

func (d *desk) enter(names ...string) {
	for _, name := range names {
		t := ticketNamed(name)
		t.call = func(err error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			switch err {
			case nil:
			case ErrPhoneSilent:
				name = "!" + name
			case errSourceSilent:
				name = "?" + name
			default:
				d.Errorf("%s is called with %v", name, err)
			}
			d.called = append(d.called, name)
		}
		d.tickets[name] = t
		d.queue.enter(t)
	}
}

// firstOf enters a name, and returns what is called first then.
func (d *desk) firstOf(name string) string {
	d.mu.Lock()
	d.called = nil
	d.mu.Unlock()
	d.enter(name)
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.called[0]
}

// many returns names that begin alike, from number 1 on.
func many(name string, n int) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprint(name, i+1))
	}
	return names
}

func (d *desk) leave(names ...string) {
	for _, name := range names {
		d.queue.leave(d.tickets[name])
	}
}

// timesOut lets requests time out that have come and gone, or those that are named.
func (d *desk) timesOut(names ...string) {
	for _, name := range names {
		t := d.tickets[name]
		if t == nil {
			t = ticketNamed(name)
			d.queue.sentElsewhere(t)
		}
		d.queue.timedOut(t)
	}
}

// calls checks who was called since the last time. A name after an exclamation mark is one that was
// refused because the phone is silent, after a question mark because its source is.
func (d *desk) calls(names ...string) {
	d.Helper()
	if got := d.takeCalls(); !slices.Equal(got, names) {
		d.Errorf("called are %v, want %v", got, names)
	}
}

func (d *desk) takeCalls() (called []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	called, d.called = d.called, nil
	return called
}

// callsSo checks how many were called since the last time of those whose names begin so.
func (d *desk) callsSo(want map[string]int) {
	d.Helper()
	got := make(map[string]int)
	for _, name := range d.takeCalls() {
		got[name[:2]]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		d.Errorf("called are %v, want %v", got, want)
	}
}

// silencePhone lets requests of three sources time out, which are of no test's.
func silencePhone(q *queue) {
	for _, name := range []string{"Lx0", "Ly0", "Lz0"} {
		t := ticketNamed(name)
		q.sentElsewhere(t)
		q.timedOut(t)
	}
}

// isEmpty checks that all who have left have left nothing.
func (d *desk) isEmpty() {
	d.Helper()
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	q := d.queue
	rings := q.turns.rings[live].Len() + q.turns.rings[backfill].Len() + q.turns.parked.Len()
	if q.taken != 0 || q.filling != 0 || q.turns.waiting != 0 || rings != 0 || len(q.turns.parties) != 0 || q.budget.unsent != 0 {
		d.Errorf("there are %d places taken, %d of them by backfill, %d waiting in %d lines, %d parties, and %d unsent; want none",
			q.taken, q.filling, q.turns.waiting, rings, len(q.turns.parties), q.budget.unsent)
	}
}

func atDesk(t *testing.T, places int, pace time.Duration, test func(d *desk)) {
	t.Helper()
	inBubble(t, func(t *testing.T) { test(newDesk(t, places, pace)) })
}
