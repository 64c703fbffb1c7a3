package reupload

import (
	"slices"
	"sync"
	"time"
)

// A lane is who gives way to whom.
type lane int

const (
	live     lane = iota // somebody waits for it
	backfill             // gives way to everything else, and is paced
	lanes
)

const (
	// silentAfter is after how many time-outs in a row the phone is silent: the server had all of
	// them, and nothing came.
	silentAfter = 3
	// probePause is how often a silent phone is asked all the same, to see whether it is back.
	probePause = time.Minute
)

// A queue decides who may send now. At most so many requests wait for the phone at once; live ones
// go before backfill, which leaves one place free for them and keeps its pace. A phone that is
// silent is sent one probe a minute, live or else backfill: every other live request is told so at
// once, and backfill waits.
type queue struct {
	places int
	pace   time.Duration

	mu       sync.Mutex
	taken    int
	filling  int // places that backfill has
	tickets  [lanes][]*ticket
	paced    time.Time     // when backfill has sent last
	lately   []time.Time   // when the receipts of the last minute went out
	heard    time.Time     // when the phone has answered last; zero if it has not, to this process
	silences int           // time-outs since then
	silence  chan struct{} // closed when the phone becomes silent
	probed   time.Time     // when the silent phone was asked last, or became silent
	wake     *time.Timer
}

// A ticket is a place in the queue, and then one among those who wait for the phone.
type ticket struct {
	lane  lane
	call  func(error) // called once, when it may send (nil), or never will (ErrPhoneSilent)
	taken bool        // it has a place
}

// enter lines a ticket up. It can be called before enter returns.
func (q *queue) enter(t *ticket) {
	q.change(func() { q.tickets[t.lane] = append(q.tickets[t.lane], t) })
}

// hurry moves a ticket that waits, or is about to, from backfill to the live ones.
func (q *queue) hurry(t *ticket) {
	q.change(func() {
		if t.lane == live || t.taken {
			return
		}
		t.lane = live
		if i := slices.Index(q.tickets[backfill], t); i >= 0 {
			q.tickets[backfill] = slices.Delete(q.tickets[backfill], i, i+1)
			q.tickets[live] = append(q.tickets[live], t)
		}
	})
}

// leave gives a place up, wherever in the queue it is.
func (q *queue) leave(t *ticket) {
	q.change(func() {
		if !t.taken {
			q.tickets[t.lane] = slices.DeleteFunc(q.tickets[t.lane], func(other *ticket) bool { return other == t })
			return
		}
		t.taken = false
		q.taken--
		if t.lane == backfill {
			q.filling--
		}
	})
}

// becomesSilent returns a channel that is closed when the phone becomes silent, or nil if
// it is already.
func (q *queue) becomesSilent() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.silences >= silentAfter {
		return nil
	}
	if q.silence == nil {
		q.silence = make(chan struct{})
	}
	return q.silence
}

// answered notes that the phone has answered something.
func (q *queue) answered() {
	q.mu.Lock()
	wasSilent := q.silences >= silentAfter
	q.silences, q.heard = 0, time.Now()
	q.mu.Unlock()
	if wasSilent {
		q.change(func() {})
	}
}

// lastHeard returns when the phone has answered last; zero if it has not, to this process.
func (q *queue) lastHeard() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.heard
}

// mayBeOff reports whether the phone has left a request without an answer, and has not answered
// another one since.
func (q *queue) mayBeOff() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.silences > 0
}

// sent notes that a receipt went out.
func (q *queue) sent() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lately = append(recent(q.lately), time.Now())
}

// timedOut notes that the phone has not answered a request that the server had.
func (q *queue) timedOut() {
	q.change(func() {
		if q.silences++; q.silences == silentAfter {
			q.probed = time.Now()
			if q.silence != nil {
				close(q.silence)
				q.silence = nil
			}
		}
	})
}

// change changes the queue, and then calls those who may go, or who never will.
func (q *queue) change(how func()) {
	q.mu.Lock()
	how()
	admitted, refused := q.admit(time.Now())
	q.mu.Unlock()
	for _, t := range admitted {
		t.call(nil)
	}
	for _, t := range refused {
		t.call(ErrPhoneSilent)
	}
}

// admit returns those who may go now, and those who never will. It needs q.mu.
func (q *queue) admit(now time.Time) (admitted, refused []*ticket) {
	take := func(l lane) bool {
		if len(q.tickets[l]) == 0 || q.taken >= q.places || l == backfill && q.filling >= max(1, q.places-1) {
			return false
		}
		t := q.tickets[l][0]
		q.tickets[l] = q.tickets[l][1:]
		q.taken++
		if l == backfill {
			q.filling++
			q.paced = now
		}
		t.taken = true
		admitted = append(admitted, t)
		return true
	}
	if q.silences >= silentAfter {
		wait := probePause - now.Sub(q.probed)
		if wait <= 0 && (take(live) || take(backfill)) {
			q.probed, wait = now, probePause
		}
		q.lookAgainAfter(wait)
		refused, q.tickets[live] = q.tickets[live], nil
		return admitted, refused
	}
	for take(live) {
	}
	for len(q.tickets[backfill]) > 0 {
		if wait := max(q.pace-now.Sub(q.paced), q.crowded(now)); wait > 0 {
			q.lookAgainAfter(wait)
			break
		}
		if !take(backfill) {
			break
		}
	}
	return admitted, refused
}

// crowded returns for how long backfill waits because of everything that went out in the last
// minute: of what its pace allows in a minute, it leaves an eighth to others. It needs q.mu.
func (q *queue) crowded(now time.Time) time.Duration {
	if q.pace <= 0 {
		return 0
	}
	room := max(1, int(time.Minute/q.pace)*7/8)
	if len(q.lately) < room {
		return 0
	}
	return time.Minute - now.Sub(q.lately[len(q.lately)-room])
}

// recent returns what is left of some times without those that are more than a minute ago.
func recent(times []time.Time) []time.Time {
	return slices.DeleteFunc(times, func(at time.Time) bool { return time.Since(at) >= time.Minute })
}

// lookAgainAfter sees to it that backfill goes on after a while, if it waits for that. A live
// request looks for itself.
func (q *queue) lookAgainAfter(wait time.Duration) {
	if len(q.tickets[backfill]) == 0 || wait <= 0 {
		return
	}
	if q.wake != nil {
		q.wake.Stop()
	}
	q.wake = time.AfterFunc(wait, func() { q.change(func() {}) })
}
