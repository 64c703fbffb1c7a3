package reupload

import (
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

func TestPhoneIsSilentAfterTimeOutsOfThreeSources(t *testing.T) {
	atDesk(t, 10, 0, func(d *desk) {
		d.timesOut("La0", "La0", "Lb0", "La0", "La0") // of two
		d.enter("Lc1")
		d.calls("Lc1")
		d.queue.heard() // between
		d.timesOut("Lc1", "Ld0")
		d.enter("Le1")
		d.calls("Le1")
		d.timesOut("Lb0")
		d.enter("Lg1") // Lc1 does not count: the phone was on while it had that request
		d.calls("Lg1")
		d.timesOut("Lc0")
		d.enter("Le2", "Lf1")
		d.calls("!Le2", "!Lf1")
		d.queue.answered(sourceNamed("q"))
		d.timesOut("LA0", "LB0", "LC0", "LD0", "Ld0") // those that the bot has named are one
		d.enter("Le3")
		d.calls("Le3")
		d.timesOut("Le0")
		d.enter("Le4")
		d.calls("!Le4")
		d.leave("Lc1", "Le1", "Lg1", "Le3")
		d.isEmpty()
	})
}

func TestLiveRequestsThatWaitAreTold(t *testing.T) {
	atDesk(t, 1, 0, func(d *desk) {
		d.enter("La1", "La2", "Ba1", "Ib1", "Lb2", "Lb3")
		d.calls("La1")
		silencePhone(d.queue)
		d.calls("!La2", "!Lb2", "!Lb3")
		d.leave("La1")
		d.calls("Ib1")
		d.leave("Ib1") // there is a place, and the silence is in the way
		d.calls()
		d.queue.heard()
		d.calls("Ba1")
		d.leave("Ba1")
		d.isEmpty()
	})
}

func TestSilentPhoneIsAskedOnceAMinute(t *testing.T) {
	atDesk(t, 10, time.Second, func(d *desk) {
		silencePhone(d.queue)
		pass(probePause - 1)
		d.enter("Lc1")
		d.calls("!Lc1")
		pass(1)
		d.enter("La2", "La3", "Lb1", "Lx1")
		d.calls("La2", "!La3", "!Lb1", "!Lx1") // the first one is the probe
		pass(probePause / 2)
		d.timesOut("La2") // its minute goes on
		d.enter("Ba1")    // waits from now on
		pass(probePause/2 - 1)
		d.calls()
		pass(1)
		d.calls("Ba1") // as no live one is there
		d.enter("Bb1", "Bb2")
		pass(probePause - 1)
		d.calls()
		pass(1)
		d.calls("Bb1")
		d.queue.answered(sourceNamed("b"))
		pass(time.Second)
		d.calls("Bb2")
		d.leave("La2", "Ba1", "Bb1", "Bb2")
		d.isEmpty()
	})
}

// A silent phone has no place left for a probe either, while those that it was asked before wait.
func TestProbeNeedsAPlace(t *testing.T) {
	atDesk(t, 1, 0, func(d *desk) {
		d.enter("La1", "Bb1")
		d.calls("La1")
		silencePhone(d.queue)
		pass(2 * probePause)
		d.enter("La2")
		d.calls("!La2")
		d.leave("La1")
		d.calls("Bb1")
		d.leave("Bb1")
		d.isEmpty()
	})
}

// A probe of the backfill leaves one place free, too.
func TestProbeOfBackfillLeavesOnePlaceFree(t *testing.T) {
	atDesk(t, 2, 0, func(d *desk) {
		d.enter("Ba1", "Ba2")
		d.calls("Ba1")
		silencePhone(d.queue)
		pass(2 * probePause)
		d.calls()
		d.queue.heard()
		d.enter("Lb1")
		d.calls("Lb1")
	})
}

// A source that asks all the time does not take every probe: a stranger with one message each five
// seconds leaves one to a victim with its first or second try, whenever that begins and however
// seldom it asks.
func TestProbesGoRound(t *testing.T) {
	for _, greedy := range []string{"live", "live, and made the phone silent", "backfill", "insists"} {
		t.Run(greedy, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				for offset := time.Duration(0); offset < 2*probePause; offset += 7 * time.Second {
					for _, every := range []time.Duration{probePause, 61 * time.Second, 90 * time.Second, 10 * time.Minute} {
						probesGoRound(t, greedy, offset, every)
					}
				}
			})
		})
	}
}

func probesGoRound(t *testing.T, greedy string, offset, every time.Duration) {
	d := newDesk(t, 100, 0)
	silencePhone(d.queue)
	began := time.Now()
	stranger := map[string]string{"live": "La", "live, and made the phone silent": "Lx", "backfill": "Ba", "insists": "Ia"}[greedy]
	tries, refused, probes := 0, 0, 0
	for n := 0; tries < 8; n++ {
		if n%5 == 0 {
			d.enter(fmt.Sprint(stranger, n))
			if n >= 30 {
				d.leave(fmt.Sprint(stranger, n-30)) // it has timed out
			}
		}
		if at := time.Since(began) - offset; at >= 0 && at%every == 0 {
			tries++
			name := fmt.Sprint("Lv", tries)
			if d.firstOf(name) == name {
				refused = 0
				probes++
			} else if refused++; refused == 2 {
				t.Errorf("with %s, every %s from %s on: two tries in a row are refused, the second of them number %d", greedy, every, offset, tries)
			}
		}
		pass(time.Second)
	}
	if probes == 0 {
		t.Errorf("with %s, every %s from %s on: no try of eight is a probe", greedy, every, offset)
	}
	d.queue.heard() // and stop
}

// A probe that overtakes makes the next one later: there is one a minute, however many ask.
func TestProbesAreOneAMinute(t *testing.T) {
	atDesk(t, 1000, 0, func(d *desk) {
		silencePhone(d.queue)
		const minutes = 60
		for n := range minutes * 60 {
			d.enter(fmt.Sprint("Lx", n))
			for i := range 7 {
				d.enter(fmt.Sprintf("L%c%d", 'a'+i, n))
			}
			pass(time.Second)
		}
		probes := 0
		for _, name := range d.takeCalls() {
			if name[0] != '!' {
				probes++
			}
		}
		if probes < minutes-1 || probes > minutes+1 {
			d.Errorf("%d probes in %d minutes", probes, minutes)
		}
	})
}

// Some callers want the phone to be asked whatever is known of it. That is a probe.
func TestTicketThatInsists(t *testing.T) {
	t.Run("on a silent phone", func(t *testing.T) {
		atDesk(t, 3, 0, func(d *desk) {
			silencePhone(d.queue)
			pass(probePause / 2)
			d.enter("Ia1", "Ia2")
			d.calls("Ia1", "Ia2")
			pass(probePause - 1)
			d.enter("Lx1")
			d.calls("!Lx1")
			pass(1)
			d.enter("Lx2")
			d.calls("Lx2")
			d.enter("Ia3")
			d.calls() // there is no place
			d.leave("Ia1")
			d.calls("Ia3")
		})
	})
	t.Run("on a silent source", func(t *testing.T) {
		atDesk(t, 10, 0, func(d *desk) {
			d.timesOut("La0", "La0", "La0")
			pass(probePause)
			d.enter("Ia1", "La1", "Ia2")
			d.calls("Ia1", "?La1", "Ia2")
		})
	})
	t.Run("within the budget", func(t *testing.T) {
		atDesk(t, 100, time.Second, func(d *desk) {
			d.enter(many("La", 60)...)
			silencePhone(d.queue)
			d.takeCalls()
			d.enter("Ia1")
			d.calls()
			pass(time.Second)
			d.calls("Ia1")
		})
	})
}

// A ticket that comes to insist keeps its turn, takes the places that are left to others, and goes
// though the phone is silent.
func TestInsistingLater(t *testing.T) {
	atDesk(t, 4, 0, func(d *desk) {
		d.enter("La1", "La2", "La3", "La4", "La5")
		d.calls("La1", "La2", "La3") // and the fourth place is left to others
		d.queue.insist(d.tickets["La4"])
		d.calls("La4")
		d.queue.insist(d.tickets["La5"])
		d.queue.insist(d.tickets["La1"]) // which has its place
		d.enter("La6")
		silencePhone(d.queue)
		d.calls("!La6")
		d.leave("La1")
		d.calls("La5")
		d.leave("La2", "La3", "La4", "La5")
		d.isEmpty()
	})
}

func TestWhenThePhoneWasHeard(t *testing.T) {
	atDesk(t, 1, 0, func(d *desk) {
		if !d.queue.lastHeard().IsZero() || d.queue.mayBeOff(0) {
			d.Error("it was heard before")
		}
		pass(time.Second)
		d.queue.heard()
		if !d.queue.lastHeard().Equal(time.Now()) {
			d.Error("it was not heard")
		}
		pass(time.Second)
		d.timesOut("La0")
		if !d.queue.mayBeOff(0) {
			d.Error("it may be off")
		}
		d.enter("Lb0")
		d.queue.answered(sourceNamed("b"))
		d.timesOut("Lb0") // it was on while it had that one
		if !d.queue.lastHeard().Equal(time.Now()) || d.queue.mayBeOff(0) {
			d.Error("it has not answered")
		}
	})
}

// A stranger can invent sources without end. Only so many are remembered, and the first to go is
// the one that has not been asked for the longest time.
func TestMemoryOfSourcesIsBounded(t *testing.T) {
	atDesk(t, 1, 0, func(d *desk) {
		invented := func(n int) *ticket {
			return &ticket{source: types.NewJID(fmt.Sprint(n), types.GroupServer), call: func(error) {}}
		}
		d.timesOut("La0", "La0", "La0", "Lb0")
		silentOnes := func(from, to int) {
			for n := from; n < to; n++ {
				for range silentAfter {
					d.queue.timedOut(invented(n))
				}
				d.queue.heard()
				d.queue.silence(invented(n).source)
				d.queue.silence(types.NewJID(fmt.Sprint("other", n), types.GroupServer))
			}
		}
		silentOnes(0, maxSilences-2)
		d.timesOut("La0") // it was tried
		for range 10 * maxSilences {
			d.queue.timedOut(invented(0)) // one that is known pushes out none
		}
		d.queue.heard()
		silentOnes(maxSilences, 2*maxSilences-2)
		if !d.queue.isSilent(sourceNamed("a")) {
			d.Error("a source is forgotten before others that were asked longer ago")
		}
		silentOnes(2*maxSilences, 2*maxSilences+1)
		silentOnes(2*maxSilences+1, 2*maxSilences+2)
		if d.queue.isSilent(sourceNamed("a")) {
			d.Error("a source is remembered for ever")
		}
		p := &d.queue.phone
		watched := 0
		for range p.watches.all {
			watched++
		}
		if len(p.memory) != maxSilences || p.order.Len() != maxSilences || watched > maxWatches {
			d.Errorf("%d and %d sources are remembered, and %d watched", len(p.memory), p.order.Len(), watched)
		}
		d.isEmpty()
	})
}

// Twenty old pictures cost a bot whose phone is off a minute and a half, and not ten minutes.
func TestSilentPhoneCostsLittle(t *testing.T) {
	for _, chats := range []int{1, 20} {
		t.Run(fmt.Sprint(chats, " chats"), func(t *testing.T) {
			atDesk(t, 32, time.Second, func(d *desk) {
				const timeout = 30 * time.Second
				n, sent := 0, 0
				twenty := func() {
					for range 20 {
						n++
						name := fmt.Sprintf("L%c%d", 'a'+n%chats, n)
						d.enter(name)
						if d.called[len(d.called)-1] == name {
							sent++
							pass(timeout)
							d.timesOut(name)
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
		})
	}
}
