package reupload

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A desk hands out tickets of one queue and notes who was called, in which order.
type desk struct {
	*testing.T
	queue   *queue
	mu      sync.Mutex // guards called: a timer can call
	called  []string
	tickets map[string]*ticket
}

func newDesk(t *testing.T, places int, pace time.Duration) *desk {
	return &desk{T: t, queue: &queue{places: places, pace: pace}, tickets: make(map[string]*ticket)}
}

// enter lines tickets up, whose names begin with L for live and B for backfill.
func (d *desk) enter(names ...string) {
	for _, name := range names {
		t := &ticket{lane: live}
		if name[0] == 'B' {
			t.lane = backfill
		}
		t.call = func(err error) {
			if err != nil {
				if err != ErrPhoneSilent {
					d.Errorf("%s is called with %v", name, err)
				}
				name = "!" + name
			}
			d.mu.Lock()
			defer d.mu.Unlock()
			d.called = append(d.called, name)
		}
		d.tickets[name] = t
		d.queue.enter(t)
	}
}

func (d *desk) leave(names ...string) {
	for _, name := range names {
		d.queue.leave(d.tickets[name])
	}
}

// calls checks who was called since the last time. A name after an exclamation mark is one
// who was refused.
func (d *desk) calls(names ...string) {
	d.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.called, names) {
		d.Errorf("called are %v, want %v", d.called, names)
	}
	d.called = nil
}

func (d *desk) silence() {
	for range silentAfter {
		d.queue.timedOut()
	}
}

// isEmpty checks that all who have left have left nothing.
func (d *desk) isEmpty() {
	d.Helper()
	d.queue.mu.Lock()
	defer d.queue.mu.Unlock()
	if q := d.queue; q.taken != 0 || q.filling != 0 || len(q.tickets[live]) != 0 || len(q.tickets[backfill]) != 0 {
		d.Errorf("there are %d places taken, %d of them by backfill, and %d + %d waiting; want none",
			q.taken, q.filling, len(q.tickets[live]), len(q.tickets[backfill]))
	}
}

// inBubble runs a test in a bubble, where time passes only when everybody waits.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// pass lets time pass, and everything happen that is due then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestQueueHasSoManyPlaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 2, 0)
		d.enter("L1", "L2", "L3", "L4")
		d.calls("L1", "L2")
		d.leave("L1")
		d.calls("L3")
		d.leave("L1", "L1") // once more is not one more
		d.calls()
		d.leave("L4") // who waits
		d.leave("L2", "L3")
		d.calls()
		d.isEmpty()
	})
}

func TestLiveGoesBeforeBackfill(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 2, 0)
		d.enter("L1", "L2", "B1", "B2", "L3")
		d.calls("L1", "L2")
		d.leave("L1")
		d.calls("L3")
		d.leave("L2")
		d.calls("B1")
		d.enter("L4")
		d.leave("L3")
		d.calls("L4")
	})
}

func TestBackfillLeavesOnePlaceFree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for places, want := range map[int][]string{1: {"B1"}, 2: {"B1"}, 3: {"B1", "B2"}, 5: {"B1", "B2", "B3", "B4"}} {
			d := newDesk(t, places, 0)
			d.enter("B1", "B2", "B3", "B4", "B5")
			d.calls(want...)
			if places > 1 {
				d.enter("L1")
				d.calls("L1")
				d.leave("L1")
				d.calls() // its place stays free for the next one
			}
			d.leave("B1")
			d.calls(fmt.Sprintf("B%d", len(want)+1))
			d.leave("B1", "B2", "B3", "B4", "B5")
			d.called = nil
			d.isEmpty()
		}
	})
}

func TestBackfillKeepsItsPace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 4, time.Second)
		d.enter("B1", "B2", "B3", "B4")
		d.calls("B1")
		pass(999 * time.Millisecond)
		d.enter("L1") // has no pace
		d.calls("L1")
		d.leave("B1") // and a place that is free does not hurry the others
		d.calls()
		pass(time.Millisecond)
		d.calls("B2")
		pass(time.Second)
		d.calls("B3")
		pass(time.Hour) // three places are for backfill; L1 has the fourth
		d.calls("B4")
		d.leave("B2", "B3", "B4")
		pass(time.Hour)
		d.enter("B5") // at once: the last one is long ago
		d.calls("B5")
	})
}

func TestBackfillThatHurries(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 2, time.Second)
		d.enter("B1", "B2", "B3")
		d.calls("B1")
		d.queue.hurry(d.tickets["B3"])
		d.calls("B3")
		d.queue.hurry(d.tickets["B1"]) // has its place already
		d.leave("B1")
		pass(time.Second)
		d.calls("B2")
		d.leave("B3", "B2")
		d.isEmpty()
	})
}

// Backfill that waits for a place as well as for its pace is not forgotten.
func TestBackfillGoesOnWhenThereIsAPlace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 1, time.Second)
		d.enter("B1", "B2", "L1")
		d.calls("B1")
		pass(500 * time.Millisecond)
		d.leave("B1")
		d.calls("L1")
		pass(time.Minute)
		d.calls()
		d.leave("L1")
		d.calls("B2")
		d.leave("B2")
		d.isEmpty()
	})
}

func TestPhoneIsSilentAfterThreeTimeOutsInARow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 10, 0)
		d.queue.timedOut()
		d.queue.timedOut()
		d.enter("L1")
		d.calls("L1")
		d.queue.answered() // between
		d.queue.timedOut()
		d.queue.timedOut()
		d.enter("L2")
		d.calls("L2")
		d.queue.timedOut()
		d.enter("L3", "L4")
		d.calls("!L3", "!L4")
		d.leave("L1", "L2", "L3", "L4")
		d.isEmpty()
	})
}

func TestWhoWaitsIsToldThatThePhoneIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 1, 0)
		d.enter("L1", "L2", "B1", "L3")
		d.calls("L1")
		silent := d.queue.becomesSilent()
		d.silence()
		d.calls("!L2", "!L3")
		select {
		case <-silent:
		default:
			t.Error("who asks whether the phone becomes silent is not told")
		}
		if d.queue.becomesSilent() != nil {
			t.Error("a phone that is silent becomes silent")
		}
		d.leave("L1") // no place, but the silence is in the way now
		d.calls()
		d.queue.answered()
		d.calls("B1")
		again := d.queue.becomesSilent()
		d.silence()
		select {
		case <-again:
		default:
			t.Error("it is not told the second time")
		}
	})
}

func TestSilentPhoneIsAskedOnceAMinute(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 10, time.Second)
		d.silence()
		pass(probePause - time.Millisecond)
		d.enter("L1", "B1") // B1 waits from now on
		d.calls("!L1")
		pass(time.Millisecond)
		d.calls("B1") // as nobody live is there
		d.enter("L2", "B2")
		d.calls("!L2")
		pass(probePause / 2)
		d.queue.timedOut() // the probe; its minute goes on
		d.leave("B1")
		pass(probePause/2 - time.Millisecond)
		d.enter("L3")
		d.calls("!L3")
		pass(time.Millisecond)
		d.calls("B2")
		pass(2 * probePause)
		d.enter("L4", "L5")
		d.calls("L4", "!L5") // the first one is the probe
		d.enter("B3")
		pass(probePause - time.Millisecond)
		d.calls()
		pass(time.Millisecond)
		d.calls("B3")
		d.leave("B2", "L4", "B3")
		d.isEmpty()
	})
}

func TestAnyAnswerEndsTheSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 10, time.Second)
		d.silence()
		d.enter("B1", "B2")
		d.calls()
		d.queue.answered()
		d.calls("B1")
		d.enter("L1")
		d.calls("L1")
		pass(time.Second)
		d.calls("B2")
		d.queue.timedOut() // the count begins anew
		d.queue.timedOut()
		d.enter("L2")
		d.calls("L2")
	})
}

// A silent phone has no place left for a probe either, while those that it was asked before wait.
func TestProbeNeedsAPlace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 1, 0)
		d.enter("L1", "B1")
		d.calls("L1")
		d.silence()
		pass(2 * probePause)
		d.enter("L2")
		d.calls("!L2")
		d.leave("L1")
		d.calls("B1")
	})
}

// A probe of the backfill leaves one place free, too.
func TestProbeOfBackfillLeavesOnePlaceFree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 2, 0)
		d.enter("B1", "B2")
		d.calls("B1")
		d.silence()
		pass(2 * probePause)
		d.calls()
		d.queue.answered()
		d.enter("L1")
		d.calls("L1")
	})
}

// Twenty old pictures cost a bot whose phone is off a minute and a half, and not ten minutes.
func TestSilentPhoneCostsLittle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := newDesk(t, 32, time.Second)
		const timeout = 30 * time.Second
		n, sent := 0, 0
		twenty := func() {
			for range 20 {
				n++
				name := fmt.Sprintf("L%d", n)
				d.enter(name)
				if d.called[len(d.called)-1] == name {
					sent++
					pass(timeout)
					d.queue.timedOut()
					d.leave(name)
				}
			}
		}
		began := time.Now()
		twenty()
		if took := time.Since(began); took > 100*time.Second || sent != silentAfter {
			t.Errorf("twenty requests take %s and send %d, want at most 100s and %d", took, sent, silentAfter)
		}
		pass(10 * time.Minute)
		began = time.Now()
		twenty()
		if took := time.Since(began); took != timeout || sent != silentAfter+1 {
			t.Errorf("the next twenty take %s and send %d, want %s and one probe", took, sent-silentAfter, timeout)
		}
		d.isEmpty()
	})
}
