package reupload

import (
	"testing"
	"time"
)

func TestSourceIsSilentAfterThreeTimeOutsInARow(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		d.timesOut("La0", "La0")
		d.enter("La1")
		d.calls("La1")
		d.queue.answered(sourceNamed("a")) // between
		d.timesOut("La0", "La0")
		d.queue.heard() // which does not say that this source is answered
		d.queue.answered(sourceNamed("b"))
		d.enter("La2")
		d.calls("La2")
		d.timesOut("La0")
		d.enter("La3", "La4", "Lb1")
		d.calls("?La3", "?La4", "Lb1") // the phone is not silent
		d.queue.heard()
		d.enter("La5")
		d.calls("?La5")
		d.queue.answered(sourceNamed("a"))
		d.enter("La6")
		d.calls("La6")
		d.leave("La1", "La2", "La3", "La4", "La5", "La6", "Lb1")
		d.isEmpty()
	})
}

func TestSilentSourceIsTriedOnceAMinute(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		d.timesOut("La0", "La0", "La0")
		pass(probePause - 1)
		d.enter("La1")
		d.calls("?La1")
		pass(1)
		d.enter("La2", "La3")
		d.calls("La2", "?La3")
		pass(probePause / 2)
		d.timesOut("La2") // its minute goes on
		pass(probePause/2 - 1)
		d.enter("La4")
		d.calls("?La4")
		pass(1)
		d.enter("La5")
		d.calls("La5")
	})
}

// Time-outs with nothing from the phone in between can be the phone's. When it is back, all of the
// source's requests go at once, and one more time-out makes it silent for good.
func TestSourceHasAnotherChance(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		for range 2 {
			d.timesOut("La0", "La0", "La0", "La0")
			d.enter("La1", "Ba1")
			d.calls("?La1")
			told := d.queue.silence(sourceNamed("b"))
			d.queue.heard()
			d.calls("Ba1")
			d.enter("La2", "La3")
			d.calls("La2", "La3")
			if d.queue.isSilent(sourceNamed("a")) || d.queue.isSilent(sourceNamed("b")) || isClosed(told) {
				d.Error("handlers do not wait for it")
			}
			told = d.queue.silence(sourceNamed("a"))
			d.timesOut("La0")
			d.enter("La4")
			d.calls("?La4")
			d.queue.heard()
			pass(probePause - 1)
			d.enter("La5")
			d.calls("?La5")
			if !d.queue.isSilent(sourceNamed("a")) || !isClosed(told) {
				d.Error("handlers wait for it")
			}
			d.queue.answered(sourceNamed("a"))
			d.leave("Ba1", "La2", "La3")
		}
		d.isEmpty()
	})
}

// A try that has to wait for its place is the only one.
func TestTryThatWaits(t *testing.T) {
	atDesk(t, 1, 0, func(d *desk) {
		d.enter("Lb1", "La1", "Lb2")
		d.timesOut("La0", "La0", "La0")
		d.calls("Lb1", "?La1") // it waits no more
		pass(probePause)
		d.enter("La2", "La3")
		d.timesOut("La0") // the phone has not answered a fourth one, either
		d.calls("?La3")
		d.leave("Lb1", "Lb2")
		d.calls("Lb2", "La2")
		d.leave("La2")
		d.isEmpty()
	})
}

// The backfill of a silent source waits, and the others' goes on.
func TestBackfillOfASilentSource(t *testing.T) {
	atDesk(t, 10, time.Second, func(d *desk) {
		d.timesOut("La0", "Lb0")
		d.queue.heard()
		d.timesOut("La0", "La0")
		pass(time.Second)
		d.timesOut("Lb0", "Lb0")
		d.enter("Bb1", "Ba1", "Ba2", "Bc1", "Bb2", "Bc2")
		d.calls("Bc1")
		pass(time.Second)
		d.calls("Bc2")
		pass(probePause - 2*time.Second)
		d.calls("Ba1") // a minute after it became silent
		pass(time.Second)
		d.calls("Bb1")
		d.leave("Bb2")
		d.queue.heard()
		pass(time.Second)
		d.calls()
		d.queue.answered(sourceNamed("a"))
		pass(time.Second)
		d.calls("Ba2")
		d.leave("Ba1", "Ba2", "Bb1", "Bc1", "Bc2")
		d.isEmpty()
	})
}

// A backfill that waits for its source leaves nothing behind.
func TestBackfillOfASilentSourceLeaves(t *testing.T) {
	atDesk(t, 10, time.Second, func(d *desk) {
		d.timesOut("La0", "La0", "La0")
		d.enter("Ba1", "Ba2", "Ba3")
		d.queue.hurry(d.tickets["Ba3"])
		d.leave("Ba1", "Ba2")
		d.calls("?Ba3")
		d.isEmpty()
	})
}

// What times out while the phone is silent says nothing of its source.
func TestSourcesOfASilentPhoneAreNotSilent(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		silencePhone(d.queue)
		d.timesOut("La0", "La0", "La0")
		d.queue.heard()
		d.enter("La1", "Lx1")
		d.calls("La1", "Lx1")
	})
}

// Rows of the bot's own table that are wrong say nothing of the chat that they name.
func TestSourceAsTheBotNamesIt(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		d.timesOut("LA0", "LA0", "LA0")
		d.enter("LA1", "La1")
		d.calls("?LA1", "La1")
		d.queue.heard()
		if d.queue.isSilent(sourceNamed("a")) {
			d.Error("the chat is silent")
		}
		d.queue.answered(sourceNamed("a"))
		d.enter("LA2")
		d.calls("LA2")
	})
}
