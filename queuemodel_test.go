package reupload

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestQueueModel does whatever can be done to a queue, in many orders, and checks what must hold
// at any time.
func TestQueueModel(t *testing.T) {
	if raceDetector {
		t.Skip("between two steps the model reads what timers have written, in an order that the race detector does not see; it runs without")
	}
	inBubble(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(20, 25))
		for range 300 {
			m := newQueueModel(t, 1+random.IntN(4), []time.Duration{0, time.Second}[random.IntN(2)])
			for range 60 {
				m.act(random)
				synctest.Wait()
				m.check()
			}
			for _, guest := range m.guests {
				m.queue.leave(guest.ticket)
			}
			m.isEmpty()
			if t.Failed() {
				t.Fatalf("after %v", m.did)
			}
		}
	})
}

type queueModel struct {
	*desk
	guests   []*guest
	did      []string
	silences int
	probes   []time.Time // who was let in while the phone was silent, and when it became that
	paced    []time.Time // when backfill was let in
}

type guest struct {
	ticket *ticket
	calls  int
	in     bool // it has a place
	gone   bool // it has left or was refused
}

func newQueueModel(t *testing.T, places int, pace time.Duration) *queueModel {
	return &queueModel{desk: newDesk(t, places, pace)}
}

func (m *queueModel) act(random *rand.Rand) {
	step := []string{"live", "live", "backfill", "backfill", "leave", "leave", "leave", "timedOut", "timedOut", "answered", "second", "minute"}[random.IntN(12)]
	m.did = append(m.did, step)
	switch step {
	case "live":
		m.invite(live)
	case "backfill":
		m.invite(backfill)
	case "leave":
		if len(m.guests) > 0 {
			g := m.guests[random.IntN(len(m.guests))]
			g.in, g.gone = false, true
			m.queue.leave(g.ticket)
		}
	case "timedOut":
		if m.silences++; m.silences == silentAfter {
			m.probes = []time.Time{time.Now()}
		}
		m.queue.timedOut()
	case "answered":
		m.silences = 0
		m.queue.answered()
	case "second":
		pass(time.Second)
	case "minute":
		pass(time.Minute)
	}
}

func (m *queueModel) invite(l lane) {
	g := &guest{ticket: &ticket{lane: l}}
	g.ticket.call = func(err error) {
		if g.calls++; g.calls > 1 {
			m.Error("a ticket is called twice")
		}
		if g.gone {
			m.Error("who has left is called")
		}
		switch {
		case err != nil:
			g.gone = true
			if m.silences < silentAfter || l == backfill {
				m.Errorf("refused in lane %d after %d time-outs", l, m.silences)
			}
		case m.silences >= silentAfter:
			if time.Since(m.probes[len(m.probes)-1]) < probePause {
				m.Error("a silent phone is asked twice in a minute")
			}
			m.probes = append(m.probes, time.Now())
			fallthrough
		default:
			g.in = true
			if l == backfill {
				m.paced = append(m.paced, time.Now())
			}
		}
	}
	m.guests = append(m.guests, g)
	m.queue.enter(g.ticket)
}

func (m *queueModel) check() {
	var in, filling int
	var waits [lanes]int
	for _, g := range m.guests {
		switch {
		case g.in:
			in++
			if g.ticket.lane == backfill {
				filling++
			}
		case !g.gone:
			waits[g.ticket.lane]++
		}
	}
	q := m.queue
	free := in < q.places
	last := time.Time{}
	if len(m.paced) > 0 {
		last = m.paced[len(m.paced)-1]
	}
	for i := 1; i < len(m.paced); i++ {
		if m.paced[i].Sub(m.paced[i-1]) < q.pace {
			m.Error("backfill is faster than its pace")
		}
	}
	silent := m.silences >= silentAfter
	switch {
	case in > q.places:
		m.Errorf("%d have a place, there are %d", in, q.places)
	case filling > max(1, q.places-1):
		m.Errorf("%d of %d places go to backfill", filling, q.places)
	case in != q.taken || filling != q.filling:
		m.Errorf("it counts %d and %d places, want %d and %d", q.taken, q.filling, in, filling)
	case silent && waits[live] > 0:
		m.Error("somebody waits for a silent phone")
	case !silent && free && waits[live] > 0:
		m.Error("somebody waits, and there is a place")
	case !silent && free && waits[backfill] > 0 && filling < max(1, q.places-1) && time.Since(last) >= q.pace:
		m.Error("backfill waits, and could go")
	case silent && free && waits[backfill] > 0 && filling < max(1, q.places-1) && time.Since(m.probes[len(m.probes)-1]) >= probePause:
		m.Error("no probe goes out")
	}
}
