package reupload

import (
	"testing"
	"time"
)

// No hour has more than eight requests for one file, whenever it begins, and what was not sent does
// not count, also when that turns out after the next request.
func TestRequestsInAnyHour(t *testing.T) {
	t.Parallel()
	cs := &cases{spent: newBounded[caseKey, spending](10)}
	key, now := caseKey{"1", "a file"}, time.Unix(1e9, 0).Add(900*time.Millisecond)
	var sent, unsent []time.Time
	for i := range 3000 {
		if cs.mayAskMore(key, now) {
			if cs.spend(key, now); i%5 == 0 {
				unsent = append(unsent, now)
			} else {
				sent = append(sent, now)
				for _, at := range unsent {
					cs.refund(key, at)
				}
				unsent = nil
			}
		}
		now = now.Add(time.Duration(i%7) * 17300 * time.Millisecond)
	}
	if len(sent) < 150 {
		t.Errorf("%d were sent in %s", len(sent), now.Sub(time.Unix(1e9, 0)))
	}
	for i := askedInAnHour; i < len(sent); i++ {
		if d := sent[i].Sub(sent[i-askedInAnHour]); d < time.Hour {
			t.Errorf("%d within %s", askedInAnHour+1, d)
		}
	}
	if !cs.mayAskMore(key, time.Unix(9e8, 0)) {
		t.Error("a clock that was set back keeps the file from being asked for")
	}
	cs.heals(key)
	if !cs.mayAskMore(key, now) {
		t.Error("a file that has healed is not asked for as if for the first time")
	}
	for range askedInAnHour {
		cs.spend(key, now)
	}
	if cs.refund(key, now.Add(-time.Minute)); cs.mayAskMore(key, now) {
		t.Error("a request from before the file healed is taken back from those after it")
	}
}

// A backfill asks as a live caller of its case would, and what a live caller was refused it asks
// for again only when that one has seen the end.
func TestBackfillBesideALiveCaller(t *testing.T) {
	onStage(t, func(s *stage) {
		cs, e := &cases{flights: s.flights}, file(1)
		begin := func() (*openCase, *contender) {
			c := &openCase{changed: make(chan struct{}), live: 1}
			c.machine.know([]candidate{{entry: e, key: identityOf(stageOwn, &e)}})
			c.machine.lookup = lookupDone
			return c, c.machine.contenders[0]
		}
		w := &want{lane: backfill}
		c, who := begin()
		c.machine.lands(who, reading{err: ErrBusy})
		next, changed := cs.next(c, w)
		if next.what != toWait {
			t.Errorf("beside a live caller it does %v", next.what)
		}
		c.leaveLive()
		select {
		case <-changed:
		default:
			t.Error("it is not told that the live caller has left")
		}
		if next, _ = cs.next(c, w); next.what != toAsk {
			t.Errorf("without one it does %v", next.what)
		}

		c, who = begin()
		cs.ask(c, w, who)
		if lane := s.find(who.key).ticket.lane; lane != live {
			t.Errorf("it asks in lane %v", lane)
		}
		pass(time.Millisecond) // it is sent
		s.finds(e, "/new")
	})
}
