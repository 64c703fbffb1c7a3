package reupload

import (
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

func TestQueueHasSoManyPlaces(t *testing.T) {
	atDesk(t, 2, 0, func(d *desk) {
		d.enter("La1", "La2", "La3", "La4")
		d.calls("La1", "La2")
		d.leave("La1")
		d.calls("La3")
		d.leave("La1", "La1") // a second time changes nothing
		d.calls()
		d.leave("La4") // it waits
		d.leave("La2", "La3")
		d.calls()
		d.isEmpty()
	})
}

func TestLiveGoesBeforeBackfill(t *testing.T) {
	atDesk(t, 2, 0, func(d *desk) {
		d.enter("La1", "La2", "Bb1", "Bb2", "La3")
		d.calls("La1", "La2")
		d.leave("La1")
		d.calls("La3")
		d.leave("La2")
		d.calls("Bb1")
		d.enter("La4")
		d.leave("La3")
		d.calls("La4")
	})
}

func TestBackfillLeavesOnePlaceFree(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for places, want := range map[int]int{1: 1, 2: 1, 3: 2, 5: 4, 32: 31} {
			d := newDesk(t, places, 0)
			backfilled := many("Ba", 40)
			d.enter(backfilled...)
			d.calls(backfilled[:want]...)
			if places > 1 {
				d.enter("La1")
				d.calls("La1")
				d.leave("La1")
				d.calls() // its place stays free for the next one
			}
			d.leave("Ba1")
			d.calls(backfilled[want])
			d.leave(backfilled...)
			d.takeCalls()
			d.isEmpty()
		}
	})
}

func TestSourcesTakeTurns(t *testing.T) {
	for _, lane := range []string{"L", "B"} {
		t.Run(lane, func(t *testing.T) {
			atDesk(t, 1, 0, func(d *desk) {
				d.enter("Lz0")
				d.calls("Lz0")
				for _, name := range []string{"a1", "a2", "a3", "b1", "b2", "c1"} {
					d.enter(lane + name)
				}
				before := "Lz0"
				for i, name := range []string{"a1", "b1", "c1", "a2", "b2", "a3", "d1"} {
					if i == 4 {
						d.enter(lane + "d1") // comes last, and then is behind those that were there
					}
					d.leave(before)
					want := lane + name
					d.calls(want)
					before = want
				}
				d.leave(before)
				d.isEmpty()
			})
		})
	}
}

func TestSourceHasNoMoreThanAQuarter(t *testing.T) {
	t.Run("while others wait", func(t *testing.T) {
		atDesk(t, 32, 0, func(d *desk) {
			d.queue.places = 0
			d.enter(many("La", 50)...)
			d.enter(many("Lb", 50)...)
			d.queue.places = 32
			d.queue.change(func(time.Time) {})
			d.callsSo(map[string]int{"La": 8, "Lb": 8})
			d.enter(many("Lc", 50)...)
			d.enter(many("Ld", 50)...)
			d.callsSo(map[string]int{"Lc": 8, "Ld": 8})
			d.enter(many("Le", 2)...)
			d.calls() // there is no place
			d.leave("La1", "Lb1", "Lc1", "Ld1", "La2", "Lb2")
			d.calls("La9", "Lb9", "Lc9", "Ld9", "Le1", "La10") // it is in turn, as soon as there is one
		})
	})
	t.Run("of few places, but one", func(t *testing.T) {
		atDesk(t, 3, 0, func(d *desk) {
			d.enter("Lz1", "Lz2", "Lz3", "La1", "La2", "Lb1")
			d.leave("Lz1", "Lz2", "Lz3")
			d.calls("Lz1", "Lz2", "Lz3", "La1", "Lb1", "La2") // the last one alone
		})
	})
	t.Run("in backfill", func(t *testing.T) {
		atDesk(t, 8, 0, func(d *desk) {
			d.queue.places = 0
			d.enter(many("Ba", 9)...)
			d.enter(many("Bb", 9)...)
			d.queue.places = 8
			d.queue.change(func(time.Time) {})
			d.callsSo(map[string]int{"Ba": 2, "Bb": 2})
		})
	})
}

// Thirty-two silent requests of one source take nothing from others.
func TestNewcomerNeverWaitsForAGreedySource(t *testing.T) {
	atDesk(t, 32, 0, func(d *desk) {
		d.enter(many("La", 100)...)
		d.callsSo(map[string]int{"La": 24})
		d.enter(many("Lb", 10)...)
		d.callsSo(map[string]int{"Lb": 8}) // the quarter that is free
		for i := range 16 {
			d.leave(fmt.Sprint("La", i+1))
			if i < 2 {
				d.callsSo(map[string]int{}) // both have their quarter, and wait
			}
		}
		d.takeCalls()
		d.leave("Lb1")
		d.calls("Lb9")
		d.enter("Lc1")
		d.calls("Lc1")
	})
}

// What the bot asks for in so many words may take all places, of one source too.
func TestAllPlacesForWhatInsists(t *testing.T) {
	atDesk(t, 32, 0, func(d *desk) {
		d.enter(many("Ia", 40)...)
		d.callsSo(map[string]int{"Ia": 32})
	})
}

// A newcomer that finds no place gets the next ones, before the sources that have their quarter.
func TestNewcomerGetsTheNextPlaces(t *testing.T) {
	atDesk(t, 4, 0, func(d *desk) {
		d.enter("La1", "La2", "La3", "La4", "Lb1", "Lb2")
		d.calls("La1", "La2", "La3", "Lb1")
		d.enter("Lc1", "Ld1")
		d.leave("La1")
		d.calls("Lc1")
		d.leave("La2")
		d.calls("Ld1")
		d.leave("La3") // a has none now
		d.calls("La4")
	})
}

// A chat whose backfill has many places still has its share of the live ones.
func TestBackfillIsNotInTheLiveShare(t *testing.T) {
	atDesk(t, 8, 0, func(d *desk) {
		d.enter(many("Ba", 7)...)
		d.callsSo(map[string]int{"Ba": 7})
		d.enter("La1", "Lb1")
		d.calls("La1")
		d.leave("La1", "Ba1")
		d.calls("Lb1")
		d.enter("La2")
		d.calls("La2")
	})
}

func TestBackfillThatHurries(t *testing.T) {
	atDesk(t, 2, time.Second, func(d *desk) {
		d.enter("Ba1", "Ba2", "Ba3")
		d.calls("Ba1")
		d.queue.hurry(d.tickets["Ba3"])
		d.calls("Ba3")
		d.queue.hurry(d.tickets["Ba1"]) // has its place already
		d.leave("Ba1")
		pass(2 * time.Second)
		d.calls("Ba2")
		d.leave("Ba3", "Ba2")
		d.isEmpty()
		d.enter("Lc1", "Lc2", "Ld1", "Ld2")
		d.calls("Lc1", "Lc2")
		d.queue.hurry(d.tickets["Ld1"]) // is live already, and keeps its turn
		d.leave("Lc1", "Lc2")
		d.calls("Ld1", "Ld2")
		later := ticketNamed("Bb1")
		d.queue.hurry(later) // before it enters
		if later.lane != live {
			d.Error("it does not hurry")
		}
	})
}

func TestBackfillThatHurriesWhileThePhoneIsSilent(t *testing.T) {
	atDesk(t, 2, 0, func(d *desk) {
		silencePhone(d.queue)
		d.enter("Ba1", "Ba2")
		d.queue.hurry(d.tickets["Ba1"])
		d.calls("!Ba1")
		d.leave("Ba1", "Ba2")
		d.isEmpty()
	})
}

// Backfill that waits for a place as well as for its pace is not forgotten.
func TestBackfillGoesOnWhenThereIsAPlace(t *testing.T) {
	atDesk(t, 1, time.Second, func(d *desk) {
		d.enter("Ba1", "Ba2", "La1")
		d.calls("Ba1")
		pass(500 * time.Millisecond)
		d.leave("Ba1")
		d.calls("La1")
		pass(time.Minute)
		d.calls()
		d.leave("La1")
		d.calls("Ba2")
		d.leave("Ba2")
		d.isEmpty()
	})
}

// A call can use the queue: it holds no lock.
func TestCallsAreOutsideTheLock(t *testing.T) {
	atDesk(t, 1, 0, func(d *desk) {
		n := 0
		var next func(error)
		next = func(err error) {
			if n++; n < 5 {
				d.queue.enter(&ticket{call: next})
			}
			if d.queue.waitingNow() != min(n, 4)-n+1 && n < 5 {
				d.Errorf("%d wait", d.queue.waitingNow())
			}
		}
		first := &ticket{call: next}
		d.queue.enter(first)
		d.queue.leave(first)
		if n != 2 {
			d.Errorf("%d were called", n)
		}
	})
}

// Each receipt costs the same, however many went out in the last minute.
func TestReceiptsCostTheSame(t *testing.T) { // not in a bubble: it measures time
	t.Parallel()
	q := newQueue(32, time.Second)
	const receipts = 200_000 // a scan of those before would take a minute
	start := time.Now()
	for range receipts {
		q.sent()
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("%d receipts took %s", receipts, took)
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, lane := range []lane{live, backfill} {
		for _, waiting := range []int{10, 10_000} {
			for _, sources := range []int{1, 10, 10_000} {
				if sources > waiting {
					continue
				}
				b.Run(fmt.Sprintf("lane=%d/waiting=%d/sources=%d", lane, waiting, sources), func(b *testing.B) {
					benchmarkQueue(b, lane, waiting, sources)
				})
			}
		}
	}
}

// benchmarkQueue measures what one ticket costs: it enters behind those that wait, one of them gets
// a place, sends and leaves, and every fourth one leaves while it waits.
func benchmarkQueue(b *testing.B, l lane, waiting, sources int) {
	q := newQueue(32, -1)
	var placed []*ticket
	enter := func(n int) *ticket {
		t := &ticket{lane: l, source: types.NewJID(fmt.Sprint(n%sources), types.DefaultUserServer)}
		t.call = func(error) { placed = append(placed, t) }
		q.enter(t)
		return t
	}
	for n := range waiting {
		enter(n)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if t := enter(n); n%4 == 0 && !t.taken {
			q.leave(t)
			continue
		}
		q.sent()
		next := placed[0]
		placed = placed[1:]
		q.leave(next)
	}
}
