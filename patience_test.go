package reupload

import (
	"testing"
	"time"
)

// waits checks for which sources event handlers may wait, in that order.
func (d *desk) waits(want bool, names string) {
	d.Helper()
	for _, name := range names {
		if got := d.queue.mayWait(sourceNamed(string(name))); got != want {
			d.Errorf("that a handler may wait for %c is %t", name, got)
		}
	}
}

func (d *desk) givesUp(names ...string) {
	for _, name := range names {
		t := d.tickets[name]
		if t == nil {
			t = ticketNamed(name)
		}
		d.queue.handlerGaveUp(t)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Three wait for nothing, and one more each minute, whatever comes from the phone in between.
func TestHandlersPatience(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		d.waits(true, "abcabcabc") // beginning to wait costs nothing
		d.givesUp("La1", "Lb1")
		d.waits(true, "ab")
		d.queue.heard()
		d.queue.answered(sourceNamed("x"))
		d.givesUp("Lc1")
		d.waits(false, "abcd")
		d.queue.heard()
		d.waits(false, "abcd")
		d.enter("Ld1") // it is for handlers alone
		d.calls("Ld1")
		pass(vainPause - 1)
		d.waits(false, "a")
		pass(1)
		d.waits(true, "a")
		pass(vainPause / 2)
		d.givesUp("La2")
		pass(vainPause/2 - 1)
		d.waits(false, "a")
		pass(1) // the minute counts from the first
		d.waits(true, "a")
		pass(time.Hour)
		d.givesUp("La3", "La4")
		d.waits(true, "a")
		d.givesUp("La5")
		d.waits(false, "a") // no more than three are saved up
		pass(vainPause - 1)
		d.waits(false, "a") // and the minute counts from when the first was used
		pass(1)
		d.waits(true, "a")
	})
}

// Each handler counts, also those that wait for the same request. A request that times out without
// a handler does not count.
func TestWhatCountsAsWaitingForNothing(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		d.timesOut("La1")
		d.timesOut("Lb1")
		d.queue.heard()
		d.enter("Lc1")
		d.givesUp("Lc1", "Lc1")
		d.waits(true, "d")
		d.givesUp("Lc1")
		d.waits(false, "d")
	})
}

// A wait that ends before its time without a file counts in proportion.
func TestPartsOfWaitsForNothing(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		told := d.queue.silence(sourceNamed("a"))
		for range 100 {
			d.queue.handlerWaited(sourceNamed("b"), 0.01) // an instant
		}
		for range 8 {
			d.queue.handlerWaited(sourceNamed("b"), 0.25)
		}
		d.waits(true, "a")
		if isClosed(told) {
			d.Error("those that wait are told before")
		}
		d.queue.handlerWaited(sourceNamed("b"), 0.25) // there is no time left for a whole one
		d.waits(false, "a")
		if !isClosed(told) {
			d.Error("those that wait are not told")
		}
		pass(vainPause)
		d.waits(true, "a")
		d.queue.found(sourceNamed("a"))
		d.givesUp("Lb1")
		d.waits(true, "a")
		d.queue.handlerWaited(sourceNamed("a"), 0.01)
		d.waits(false, "a") // it is trusted no longer
	})
}

// Handlers wait for a source of which the phone has given back a file, until one waits for nothing.
func TestHandlersWaitForTrustedSources(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		a, b := sourceNamed("a"), sourceNamed("b")
		d.queue.found(a)
		toldA, toldB := d.queue.silence(a), d.queue.silence(b)
		d.givesUp("Lx1", "Lx2")
		d.queue.heard()
		d.givesUp("Lx3")
		d.waits(true, "aa")
		d.waits(false, "b")
		if isClosed(toldA) || !isClosed(toldB) || d.queue.silence(a) != toldA || d.queue.silence(b) != nil {
			d.Error("the wrong ones are told to wait no longer")
		}
		d.givesUp("La1")
		d.waits(false, "a")
		if !isClosed(toldA) || d.queue.silence(a) != nil {
			d.Error("those that wait for a source that is trusted no longer are not told")
		}
		d.queue.answered(a)
		d.waits(false, "a") // an answer alone is no file
		d.queue.found(a)
		d.waits(true, "a")
		toldA = d.queue.silence(a)
		d.givesUp("Lx4", "Lx5")
		d.waits(true, "a")
		d.givesUp("Lx6") // three in a row, with nothing from the phone
		d.waits(false, "a")
		if !isClosed(toldA) {
			d.Error("those that wait for a phone that may be off are not told")
		}
		d.queue.heard()
		d.waits(true, "a")
		d.timesOut("Lx1", "Ly1", "Lz1")
		d.waits(false, "a") // the whole phone is silent
		pass(vainPause)
		d.waits(true, "ab")
		d.givesUp("Lb1")
		d.waits(false, "a")
		d.queue.heard()
		d.waits(true, "a")
	})
}

// No handler waits for a source that is silent, and one a minute while the phone is.
func TestHandlersDoNotWaitForSilence(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(d *desk)
		others bool // those that wait for other sources are told, too
		later  bool // a minute later one may wait
		ends   func(d *desk)
	}{
		{"the source", func(d *desk) { d.timesOut("La1"); d.queue.heard(); d.timesOut("La2", "La3") }, false, false, func(d *desk) { d.queue.answered(sourceNamed("a")) }},
		{"the phone", func(d *desk) { d.timesOut("Lx1", "Ly2"); d.timesOut("Lz3") }, true, true, func(d *desk) { d.queue.heard(); pass(vainPause) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			atDesk(t, 1, 0, func(d *desk) {
				a, b := sourceNamed("a"), sourceNamed("b")
				for range 2 { // it can come again
					toldA, toldB := d.queue.silence(a), d.queue.silence(b)
					d.waits(true, "a")
					if d.queue.isSilent(a) || isClosed(toldA) || d.queue.silence(a) != toldA {
						d.Error("it is silent before")
					}
					c.happen(d)
					if !d.queue.isSilent(a) || !isClosed(toldA) || d.queue.silence(a) != nil {
						d.Error("it is not told")
					}
					if d.queue.isSilent(b) != c.others || isClosed(toldB) != c.others {
						d.Error("the others are told the wrong")
					}
					d.waits(false, "a")
					d.waits(!c.others, "b")
					pass(vainPause)
					d.waits(c.later, "a")
					c.ends(d)
				}
				d.waits(true, "a")
				if d.queue.isSilent(a) {
					d.Error("it does not end")
				}
			})
		})
	}
}
