package reupload

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// All that come have 60 at once, and the rest comes in turns at the pace. None fails.
func TestLiveBudget(t *testing.T) {
	atDesk(t, 1000, time.Second, func(d *desk) {
		d.enter(many("La", 100)...)
		d.callsSo(map[string]int{"La": 60})
		d.enter(many("Lb", 2)...)
		pass(999 * time.Millisecond)
		d.calls()
		pass(time.Millisecond)
		d.calls("La61")
		pass(4 * time.Second)
		d.calls("Lb1", "La62", "Lb2", "La63")
		pass(time.Hour)
		d.callsSo(map[string]int{"La": 37})
		d.enter(many("Lc", 61)...)
		d.callsSo(map[string]int{"Lc": 60}) // it is whole again, and no more than that
	})
}

// The busiest minute that the queue allows.
func TestBusiestMinute(t *testing.T) {
	atDesk(t, 1000, time.Second, func(d *desk) {
		d.enter(many("La", 500)...)
		d.enter(many("Bb", 500)...)
		pass(time.Minute - time.Nanosecond)
		if n := len(d.takeCalls()); n != burst+59 {
			d.Errorf("%d went out in the first minute", n)
		}
		pass(time.Minute)
		d.callsSo(map[string]int{"La": 60})
	})
}

func TestPaceThatIsNone(t *testing.T) {
	for _, pace := range []time.Duration{0, -1, math.MinInt64} {
		atDesk2(t, fmt.Sprint(pace), 1000, pace, func(d *desk) {
			d.enter(many("La", 500)...)
			d.enter(many("Bb", 100)...)
			d.callsSo(map[string]int{"La": 500, "Bb": 100})
		})
	}
}

func atDesk2(t *testing.T, name string, places int, pace time.Duration, test func(d *desk)) {
	t.Run(name, func(t *testing.T) { atDesk(t, places, pace, test) })
}

// No pace starves a backfill, or makes live requests wait that have a budget.
func TestAnyPace(t *testing.T) {
	for _, pace := range []time.Duration{1, time.Millisecond, 30 * time.Second, 25 * time.Hour} {
		atDesk2(t, pace.String(), 100, pace, func(d *desk) {
			d.enter("La1")
			d.calls("La1")
			d.enter(many("Bb", 20)...)
			pass(22 * pace) // the first one waits for two, as the budget is not whole
			d.callsSo(map[string]int{"Bb": 20})
			d.enter(many("Lc", 50)...)
			d.callsSo(map[string]int{"Lc": 50})
		})
	}
	for _, pace := range []time.Duration{math.MaxInt64, math.MaxInt64 / burst, math.MaxInt64/2 + 1} {
		atDesk2(t, pace.String(), 100, pace, func(d *desk) {
			d.enter("Bb1", "Bb2", "Bb3")
			d.calls("Bb1")
			d.enter(many("La", 70)...)
			d.callsSo(map[string]int{"La": 59})
			for range 500 {
				d.queue.sent()
			}
			pass(240 * time.Hour)
			d.calls()
			pass((burst + 2) * maxPace)
			d.callsSo(map[string]int{"La": 2})
		})
	}
}

func TestBackfillKeepsItsPace(t *testing.T) {
	atDesk(t, 4, time.Second, func(d *desk) {
		d.enter("Ba1", "Ba2", "Ba3", "Ba4")
		d.calls("Ba1")
		pass(999 * time.Millisecond)
		d.leave("Ba1") // a place that is free does not hurry the others
		d.calls()
		pass(time.Millisecond)
		d.calls("Ba2")
		pass(time.Second)
		d.calls("Ba3")
		pass(time.Second)
		d.calls("Ba4")
		d.leave("Ba2", "Ba3", "Ba4")
		pass(time.Hour)
		d.enter("Ba5") // at once: the last one is long ago
		d.calls("Ba5")
	})
}

// Backfill takes what live requests leave, and lets the budget become whole again.
func TestBackfillAfterABurst(t *testing.T) {
	atDesk(t, 1000, time.Second, func(d *desk) {
		d.enter(many("La", 70)...)
		d.callsSo(map[string]int{"La": 60})
		d.enter(many("Bb", 500)...)
		pass(10 * time.Second)
		d.callsSo(map[string]int{"La": 10}) // live goes first
		pass(time.Second)
		d.calls("Bb1") // the first one waits for nothing but the budget
		pass(time.Minute)
		d.callsSo(map[string]int{"Bb": 30})
		d.enter(many("Lc", 31)...) // what has come back meanwhile
		d.callsSo(map[string]int{"Lc": 30})
		pass(5 * time.Minute) // the budget is whole after two
		d.takeCalls()
		pass(time.Minute)
		d.callsSo(map[string]int{"Bb": 60})
		d.enter(many("Ld", 60)...)
		d.callsSo(map[string]int{"Ld": 59}) // the last one of the backfill has just gone
	})
}

// Second forms and repeats are taken off the budget. The first receipt of a ticket is paid for.
func TestReceiptsWithoutATicket(t *testing.T) {
	atDesk(t, 1000, time.Second, func(d *desk) {
		d.enter(many("La", 30)...)
		for range 30 {
			d.queue.sent() // what the tickets have paid for
		}
		for range 20 {
			d.queue.sent()
		}
		d.takeCalls()
		d.enter(many("Lb", 20)...)
		d.callsSo(map[string]int{"Lb": 10})
		pass(10 * time.Second)
		d.callsSo(map[string]int{"Lb": 10})
		d.leave(many("La", 30)...)
		d.leave(many("Lb", 20)...) // nothing of theirs was sent, nor will be
		d.isEmpty()
		for range 1000 { // overdraws
			d.queue.sent()
		}
		d.enter("Lc1")
		pass(60 * time.Second)
		d.calls()
		pass(time.Second)
		d.calls("Lc1") // and no more than a burst
	})
}
