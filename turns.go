package reupload

import (
	"container/list"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// A lane tells which requests give way to others.
type lane int

const (
	live     lane = iota // a caller waits for it
	backfill             // gives way to live ones, and is paced
	lanes
)

// A source is the chat that a request is about, or in one-to-one chats the person, by canonical
// name. Each has its fair share.
type source = types.JID

// A ticket waits in the queue until its request may go out, and then holds a place until there is
// an answer.
type ticket struct {
	lane    lane
	source  source
	byBot   bool // the bot has named the message, and the plugin has not seen it
	insists bool // it asks a silent phone, too; only live tickets do
	// call is called once, without a lock: with nil when it may send, or with ErrPhoneSilent or
	// errSourceSilent if it never will.
	call  func(error)
	taken bool // it has a place

	hearings int           // phone.hearings when its request went out
	party    *party        // while it waits or has a place
	place    *list.Element // in its party's line, while it waits
}

// Turns are the tickets that wait, by source, and whose turn it is in each lane. No operation takes
// longer when more of them wait.
type turns struct {
	parties map[source]*party
	rings   [lanes]list.List // of the parties that wait, by whose turn it is
	parked  list.List        // of the parties whose backfill waits for a time, by when that is
	waiting int              // tickets
}

// A party is a source that waits or has places.
type party struct {
	source source
	lines  [lanes]list.List // of its tickets
	turns  [lanes]*list.Element
	taken  [lanes]int
	parked *list.Element
	due    time.Time // when it is parked: until then
}

func newTurns() turns { return turns{parties: make(map[source]*party)} }

// of returns the party of a source.
func (w *turns) of(s source) *party {
	p := w.parties[s]
	if p == nil {
		p = &party{source: s}
		w.parties[s] = p
	}
	return p
}

// join puts a ticket at the end of its party's line.
func (w *turns) join(t *ticket) {
	p := t.party
	t.place = p.lines[t.lane].PushBack(t)
	w.waiting++
	if p.turns[t.lane] == nil && (t.lane == live || p.parked == nil) {
		p.turns[t.lane] = w.rings[t.lane].PushBack(p)
	}
}

// drop takes a ticket that waits out of the queue.
func (w *turns) drop(t *ticket) {
	w.step(t)
	w.forget(t.party)
	t.party = nil
}

// step takes a ticket out of its party's line.
func (w *turns) step(t *ticket) {
	p := t.party
	wasFirst := p.lines[t.lane].Front() == t.place
	p.lines[t.lane].Remove(t.place)
	t.place = nil
	w.waiting--
	if p.lines[t.lane].Len() > 0 {
		if wasFirst && t.lane == backfill && p.parked != nil {
			w.unpark(p) // the next one need not wait for what this one waits for
		}
		return
	}
	if turn := p.turns[t.lane]; turn != nil {
		w.rings[t.lane].Remove(turn)
		p.turns[t.lane] = nil
	}
	if t.lane == backfill && p.parked != nil {
		w.parked.Remove(p.parked)
		p.parked = nil
	}
}

// forget forgets a party without tickets.
func (w *turns) forget(p *party) {
	if p.taken[live]+p.taken[backfill]+p.lines[live].Len()+p.lines[backfill].Len() == 0 {
		delete(w.parties, p.source)
	}
}

// park lets the backfill of a silent source wait for the next try.
func (w *turns) park(p *party, due time.Time) {
	w.rings[backfill].Remove(p.turns[backfill])
	p.turns[backfill], p.due = nil, due
	e := w.parked.Back()
	for e != nil && e.Value.(*party).due.After(due) { // few are: tries are noted in order
		e = e.Prev()
	}
	if e == nil {
		p.parked = w.parked.PushFront(p)
	} else {
		p.parked = w.parked.InsertAfter(p, e)
	}
}

func (w *turns) unpark(p *party) {
	w.parked.Remove(p.parked)
	p.parked = nil
	p.turns[backfill] = w.rings[backfill].PushBack(p)
}

// unparkAll lets all backfill go on when the phone was heard: it may be back.
func (w *turns) unparkAll() {
	for w.parked.Len() > 0 {
		w.unpark(w.parked.Front().Value.(*party))
	}
}
