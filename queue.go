package reupload

import (
	"sync"
	"time"
)

// shares is the divisor of a source's share of the places while others wait: a quarter.
const shares = 4

// A queue decides who may send now, so that no source takes more than its share from others.
//
// Places: at most so many requests wait for the phone at once. Live requests go before backfill,
// which leaves one place free for them. Within a lane sources take turns. While others wait in its
// lane, a source has a quarter of the places and no more. Alone, it may have more, but its
// downloads leave a quarter free, so that one greedy source never keeps a newcomer waiting.
// Requests that insist may take all places. As places above a source's quarter become free, they
// go to other sources.
//
// Budget: the phone's owner may see each receipt. Live requests may send 60 at once, and one more
// with each pace; beyond that they wait. Backfill keeps the pace, and takes what live requests
// leave. See [budget].
//
// Silence: live requests that the phone would not answer fail at once, see [phone].
type queue struct {
	places int

	mu      sync.Mutex
	phone   phone
	budget  budget
	turns   turns
	taken   int
	filling int       // places that backfill has
	calls   []verdict // verdicts to deliver when q.mu is free again
	wake    *time.Timer
	wakeAt  time.Time // zero if it is not set
}

// A verdict tells a ticket that it may send, or why it never will.
type verdict struct {
	ticket *ticket
	err    error
}

// newQueue returns a queue with so many places. A pace that is not positive is none.
func newQueue(places int, pace time.Duration) *queue {
	return &queue{places: places, budget: newBudget(pace), turns: newTurns(), phone: newPhone()}
}

// enter lines a ticket up. It can be called before enter returns.
func (q *queue) enter(t *ticket) {
	q.change(func(now time.Time) { q.lineUp(t, now) })
}

// hurry moves a ticket that waits, or is about to, from backfill to the live ones.
func (q *queue) hurry(t *ticket) {
	q.change(func(now time.Time) {
		if t.lane == live || t.taken {
			return
		}
		waits := t.place != nil
		if waits {
			q.turns.drop(t)
		}
		t.lane = live
		if waits {
			q.lineUp(t, now)
		}
	})
}

// insist makes a ticket that waits, or is about to, one that is sent even if the phone is silent.
// It keeps its turn.
func (q *queue) insist(t *ticket) {
	q.change(func(time.Time) {
		t.insists = t.insists || !t.taken
	})
}

// leave gives a place up, wherever in the queue it is.
func (q *queue) leave(t *ticket) {
	q.change(func(time.Time) { q.remove(t) })
}

// sentElsewhere lets a ticket go whose request another has sent: it waits for the phone without a
// place.
func (q *queue) sentElsewhere(t *ticket) {
	q.change(func(time.Time) {
		t.hearings = q.phone.hearings
		q.remove(t)
	})
}

// sent notes that a receipt went out. The first receipt of a ticket is already paid.
func (q *queue) sent() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.budget.sent(time.Now())
}

// answered notes that the phone has answered a request about a source.
func (q *queue) answered(s source) {
	q.change(func(now time.Time) {
		if q.phone.missed {
			q.turns.unparkAll()
		} else if p := q.turns.parties[s]; p != nil && p.parked != nil {
			q.turns.unpark(p)
		}
		q.phone.answered(s, now)
	})
}

// heard notes a stanza that only our own phone can have sent. A silent source stays silent, unless
// its silence may only have been the phone's.
func (q *queue) heard() {
	q.change(func(now time.Time) {
		if q.phone.missed {
			q.turns.unparkAll() // sources may have another chance
		}
		q.phone.hear(now)
	})
}

// timedOut notes that the server had a request, and that no answer came in Options.Timeout.
func (q *queue) timedOut(t *ticket) {
	q.change(func(now time.Time) {
		phoneFell, sourceFell := q.phone.timedOut(t, now)
		switch {
		case phoneFell:
			for turn := q.turns.rings[live].Front(); turn != nil; {
				p := turn.Value.(*party)
				turn = turn.Next() // before its line can end
				q.refuseLine(p, ErrPhoneSilent, func(*ticket) bool { return true })
			}
		case sourceFell:
			if p := q.turns.parties[t.source]; p != nil {
				q.refuseLine(p, errSourceSilent, func(other *ticket) bool { return other.byBot == t.byBot })
			}
		}
	})
}

// handlerGaveUp notes that an event handler has waited for HandlerTimeout for the answer to a
// request.
func (q *queue) handlerGaveUp(t *ticket) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.phone.gaveUp(t.source, time.Now())
}

// handlerWaited notes that an event handler has waited for a source without a file, for a share of
// the time that it may.
func (q *queue) handlerWaited(s source, share float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.phone.waited(s, share, time.Now())
}

// found notes that the phone has given back a file of a source.
func (q *queue) found(s source) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.phone.patience.found(s)
}

// lastHeard returns when the phone has sent anything last; zero if it has not, to this process.
func (q *queue) lastHeard() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.phone.heard
}

// mayBeOff reports whether the phone has left a request without an answer, and has sent nothing
// since, nor in a while before now.
func (q *queue) mayBeOff(while time.Duration) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.phone.missed && time.Since(q.phone.heard) >= while
}

// isSilent reports whether the phone, or a source of downloads, is silent.
func (q *queue) isSilent(s source) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.phone.isSilent() || q.phone.isSourceSilent(voice{source: s})
}

// mayWait reports whether an event handler may begin to wait for a source.
func (q *queue) mayWait(s source) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.phone.mayWait(s, time.Now())
}

// silence returns a channel that is closed when event handlers should no longer wait for a source,
// or nil if that is so already.
func (q *queue) silence(s source) <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.phone.silence(s, time.Now())
}

// waitingNow returns how many tickets wait for a place.
func (q *queue) waitingNow() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.turns.waiting
}

// change changes the queue, and then tells tickets that they may go, or never will.
func (q *queue) change(how func(now time.Time)) {
	q.mu.Lock()
	now := time.Now()
	how(now)
	q.admit(now)
	calls := q.calls
	q.calls = nil
	q.mu.Unlock()
	for _, c := range calls {
		c.ticket.call(c.err)
	}
}

// The rest needs q.mu.

// lineUp lets a ticket wait, unless it is live and the phone would not answer it. A probe of a
// silent phone does not wait: it goes at once or not at all.
func (q *queue) lineUp(t *ticket, now time.Time) {
	p := q.turns.of(t.source)
	t.party = p
	phoneSilent, sourceSilent := q.phone.isSilent(), q.phone.isSourceSilent(t.voice())
	switch {
	case t.lane == backfill || t.insists || !phoneSilent && !sourceSilent:
		q.turns.join(t)
	case phoneSilent && q.phone.lets(t, now) && q.hasRoom(live, now) && q.fits(t):
		q.take(t, now)
	case phoneSilent:
		q.refuse(t, ErrPhoneSilent)
	case q.phone.lets(t, now):
		q.phone.asks(t, now) // or the next one would think that it is the one
		q.turns.join(t)
	default:
		q.refuse(t, errSourceSilent)
	}
}

// remove takes a ticket out, wherever it is.
func (q *queue) remove(t *ticket) {
	switch {
	case t.place != nil:
		q.turns.drop(t)
	case t.taken:
		t.taken = false
		q.taken--
		if t.lane == backfill {
			q.filling--
		}
		t.party.taken[t.lane]--
		q.budget.leave(q.taken)
		q.turns.forget(t.party)
		t.party = nil
	}
}

// take gives a ticket a place.
func (q *queue) take(t *ticket, now time.Time) {
	q.phone.asks(t, now)
	q.budget.take(t.lane, now)
	q.taken++
	if t.lane == backfill {
		q.filling++
	}
	t.party.taken[t.lane]++
	t.taken, t.hearings = true, q.phone.hearings
	q.calls = append(q.calls, verdict{t, nil})
}

func (q *queue) refuse(t *ticket, err error) {
	q.turns.forget(t.party)
	t.party = nil
	q.calls = append(q.calls, verdict{t, err})
}

// refuseLine refuses the live tickets of a party that do not insist.
func (q *queue) refuseLine(p *party, err error, which func(*ticket) bool) {
	for e := p.lines[live].Front(); e != nil; {
		t := e.Value.(*ticket)
		e = e.Next()
		if !t.insists && which(t) {
			q.turns.step(t)
			q.refuse(t, err)
		}
	}
}

// admit lets all tickets go that may.
func (q *queue) admit(now time.Time) {
	for e := q.turns.parked.Front(); e != nil && !e.Value.(*party).due.After(now); e = q.turns.parked.Front() {
		q.turns.unpark(e.Value.(*party))
	}
	for l := range lanes {
		for q.hasRoom(l, now) {
			t := q.next(l, now)
			if t == nil {
				break
			}
			p := t.party
			q.turns.step(t)
			if p.turns[l] != nil {
				q.turns.rings[l].MoveToBack(p.turns[l])
			}
			q.take(t, now)
		}
	}
	q.lookAgain(now)
}

// next returns the ticket whose turn it is, or nil. It looks at few parties, since each that it
// passes over has a quarter of the places or is parked.
func (q *queue) next(l lane, now time.Time) *ticket {
	for turn := q.turns.rings[l].Front(); turn != nil; {
		p := turn.Value.(*party)
		turn = turn.Next()
		t := p.lines[l].Front().Value.(*ticket)
		switch {
		case l == backfill && !q.phone.letsSource(t.voice(), now):
			q.turns.park(p, q.phone.tryOf(t.voice()))
			turn = q.turns.rings[l].Front() // those passed over may be alone now
		case q.fits(t):
			return t
		}
	}
	return nil
}

// hasRoom reports whether there is a place for a lane, and whether its time has come.
func (q *queue) hasRoom(l lane, now time.Time) bool {
	return q.hasPlace(l) && !q.readyAt(l).After(now)
}

func (q *queue) hasPlace(l lane) bool {
	return q.taken < q.places && (l == live || q.filling < max(1, q.places-1))
}

// fits reports whether one more place is in the share of a ticket's source.
func (q *queue) fits(t *ticket) bool {
	l, p := t.lane, t.party
	alone := q.turns.rings[l].Len() == 0 || q.turns.rings[l].Len() == 1 && p.turns[l] != nil
	switch {
	case p.taken[l] < max(1, q.places/shares):
		return true
	case !alone:
		return false
	}
	return l == backfill || t.insists || q.places-q.taken > q.places/shares
}

// readyAt returns from when on a lane may send, if there is a place.
func (q *queue) readyAt(l lane) time.Time {
	ready := q.budget.readyAt(l)
	if l == backfill && q.phone.isSilent() {
		return latest(ready, q.phone.probeDue)
	}
	return ready
}

// lookAgain sets the timer for tickets that wait for their time. Tickets that wait for a place go
// on when one becomes free.
func (q *queue) lookAgain(now time.Time) {
	var at time.Time
	for l := range lanes {
		ready := q.readyAt(l)
		if q.turns.rings[l].Len() > 0 && q.hasPlace(l) && ready.After(now) && (at.IsZero() || ready.Before(at)) {
			at = ready
		}
	}
	if e := q.turns.parked.Front(); e != nil {
		if due := e.Value.(*party).due; at.IsZero() || due.Before(at) {
			at = due
		}
	}
	switch {
	case at.Equal(q.wakeAt):
		return
	case at.IsZero():
		q.wake.Stop()
	case q.wake == nil:
		q.wake = time.AfterFunc(at.Sub(now), q.lookNow)
	default:
		q.wake.Reset(at.Sub(now))
	}
	q.wakeAt = at
}

func (q *queue) lookNow() {
	q.change(func(time.Time) { q.wakeAt = time.Time{} })
}
