package reupload

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestQueueModel does whatever can be done to a queue, in many orders, beside a model that looks
// at everything each time, and checks what must hold at any time.
func TestQueueModel(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		did := make(map[string]int)
		for seed := range fewer(200) {
			random := rand.New(rand.NewPCG(20, seed))
			m := newQueueModel(t, 1+random.IntN(12), []time.Duration{0, time.Second, 10 * time.Second}[random.IntN(3)])
			for range 150 {
				m.act(random)
				synctest.Wait()
				m.check()
			}
			for _, g := range m.guests {
				m.leave(g)
			}
			synctest.Wait()
			(&desk{T: t, queue: m.queue}).isEmpty()
			if t.Failed() {
				t.Fatalf("with seed %d, %d places and pace %s, after %v", seed, m.queue.places, m.queue.budget.pace, m.did)
			}
			for _, step := range m.did {
				did[step]++
			}
			for what, n := range m.seen {
				did[what] += n
			}
		}
		for _, what := range append([]string{"refused: phone", "refused: source", "placed: live", "placed: backfill", "probe", "try", "above a quarter", "heard meanwhile"}, queueSteps...) {
			if did[what] < 10 {
				t.Errorf("%q has happened %d times", what, did[what])
			}
		}
	})
}

var queueSteps = []string{
	"live", "live", "live", "live", "insist", "backfill", "backfill", "burst", "leave", "leave", "leave", "leave", "hurry", "insist later", "sent",
	"time-out", "time-out", "time-out", "give up", "answered", "heard", "half a second", "half a second", "minute",
}

type queueModel struct {
	*testing.T
	queue *queue
	did   []string
	seen  map[string]int

	mu     sync.Mutex // a timer can call
	guests []*guest   // in the order in which they have come
	debt   time.Duration
	since  time.Time // when debt was that
	unsent int
	paced  time.Time // the last of the backfill

	witnesses map[voice]bool
	hearings  int
	silences  map[voice]*modelSilence
	silentAt  time.Time
	probeDue  time.Time
	served    map[laneSource]int // when the source was served last, in admissions
	clock     int
}

type laneSource struct {
	lane   lane
	source source
}

type modelSilence struct {
	hearings []int // at its time-outs
	tried    time.Time
}

type guest struct {
	ticket *ticket
	waits  bool
	calls  int
	in     bool // it has a place
	gone   bool // it has left or was refused
	isTry  bool // it is the one that a silent source lets in
	came   int  // in admissions
}

func newQueueModel(t *testing.T, places int, pace time.Duration) *queueModel {
	return &queueModel{
		T: t, queue: newQueue(places, pace), seen: make(map[string]int), since: time.Now(),
		witnesses: make(map[voice]bool), silences: make(map[voice]*modelSilence), served: make(map[laneSource]int),
	}
}

func (m *queueModel) act(random *rand.Rand) {
	step := queueSteps[random.IntN(len(queueSteps))]
	m.did = append(m.did, step)
	source := sourceNamed(string(rune('a' + random.IntN(4))))
	byBot := random.IntN(4) == 0
	switch step {
	case "live", "insist", "backfill":
		m.invite(&ticket{lane: map[string]lane{"backfill": backfill}[step], source: source, byBot: byBot, insists: step == "insist"})
	case "burst":
		for range 20 {
			m.invite(&ticket{source: source, byBot: byBot})
		}
	case "leave":
		if g := m.one(random, func(g *guest) bool { return !g.gone }); g != nil {
			m.leave(g)
		}
	case "hurry":
		if g := m.one(random, func(g *guest) bool { return g.waits && g.ticket.lane == backfill }); g != nil {
			m.do(func() {
				m.guests = slices.DeleteFunc(m.guests, func(other *guest) bool { return other == g })
				g.ticket.lane = live
				m.lineUp(g)
				g.ticket.lane = backfill
			}, func() { m.queue.hurry(g.ticket) })
		}
	case "insist later":
		if g := m.one(random, func(g *guest) bool { return g.waits && !g.ticket.insists }); g != nil {
			m.queue.insist(g.ticket)
		}
	case "sent":
		m.do(func() {
			if m.unsent > 0 {
				m.unsent--
			} else {
				m.pay()
			}
		}, m.queue.sent)
	case "time-out":
		t := &ticket{source: source, byBot: byBot, hearings: max(0, m.hearings-random.IntN(2))}
		m.do(func() { m.timeOut(t) }, func() { m.queue.timedOut(t) })
	case "give up":
		m.queue.handlerGaveUp(&ticket{source: source})
	case "answered":
		m.do(func() {
			delete(m.silences, voice{source, false})
			delete(m.silences, voice{source, true})
			m.hear()
		}, func() { m.queue.answered(source) })
	case "heard":
		m.do(m.hear, m.queue.heard)
	case "half a second":
		pass(time.Second / 2)
	case "minute":
		pass(time.Minute)
	}
}

// do notes in the model what is about to be done, and does it.
func (m *queueModel) do(note, act func()) {
	m.mu.Lock()
	note()
	m.mu.Unlock()
	act()
}

func (m *queueModel) all(which func(*guest) bool) (all []*guest) {
	for _, g := range m.guests {
		if which(g) {
			all = append(all, g)
		}
	}
	return all
}

func (m *queueModel) one(random *rand.Rand, which func(*guest) bool) *guest {
	m.mu.Lock()
	defer m.mu.Unlock()
	if all := m.all(which); len(all) > 0 {
		return all[random.IntN(len(all))]
	}
	return nil
}

func (m *queueModel) leave(g *guest) {
	m.do(func() {
		m.drop(g)
		m.unsent = min(m.unsent, len(m.all(func(g *guest) bool { return g.in })))
	}, func() { m.queue.leave(g.ticket) })
}

func (m *queueModel) drop(g *guest) { g.in, g.waits, g.gone = false, false, true }

func (m *queueModel) invite(t *ticket) {
	g := &guest{ticket: t, waits: true}
	t.call = func(err error) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if g.calls++; g.calls > 1 || g.gone {
			m.Error("a ticket is called twice, or has left")
		}
		if err != nil {
			m.refused(g, err)
		} else {
			m.placed(g)
		}
	}
	m.do(func() { m.lineUp(g) }, func() { m.queue.enter(t) })
}

func (m *queueModel) lineUp(g *guest) {
	g.came = m.clock
	m.guests = append(m.guests, g)
	t := g.ticket
	if t.lane == live && !t.insists && m.silentAt.IsZero() && m.isSilent(t.voice()) && m.mayTry(t.voice()) {
		g.isTry = true
		m.silences[t.voice()].tried = time.Now()
	}
}

func (m *queueModel) refused(g *guest, err error) {
	t := g.ticket
	phoneSilent, sourceSilent := !m.silentAt.IsZero(), m.isSilent(t.voice())
	switch {
	case t.lane == backfill || t.insists:
		m.Error("one is refused that waits or insists")
	case err == ErrPhoneSilent && phoneSilent:
		m.seen["refused: phone"]++
		if !time.Now().Before(m.probeDue) && m.obstacle(g) == "" {
			m.Error("one is refused that could be the probe")
		}
	case err == errSourceSilent && sourceSilent && !phoneSilent && !g.isTry:
		m.seen["refused: source"]++
	default:
		m.Errorf("refused with %v; the phone is silent: %t, its source: %t", err, phoneSilent, sourceSilent)
	}
	m.drop(g)
}

// placed checks that a guest may go.
func (m *queueModel) placed(g *guest) {
	t := g.ticket
	key := laneSource{t.lane, t.source}
	bypasses := !m.silentAt.IsZero() && t.lane == live && !t.insists
	if obstacle := m.obstacle(g); obstacle != "" {
		m.Errorf("%v goes, and %s", key, obstacle)
	}
	for _, other := range m.heads() {
		since := max(other.came, m.served[laneSource{live, other.ticket.source}])
		switch {
		case bypasses || other.ticket.lane != t.lane:
		case other.ticket.source == t.source:
			if other != g {
				m.Errorf("%v goes before another one of it", key)
			}
		case t.lane == live && since < m.served[key] && m.obstacle(other) == "":
			m.Errorf("%v goes a second time before %v", key, other.ticket.source)
		}
	}
	if m.places(t.lane, t.source) >= m.quarter() {
		m.seen["above a quarter"]++
	}
	m.clock++
	m.served[key] = m.clock
	now := time.Now()
	if !m.silentAt.IsZero() {
		m.seen["probe"]++
		if t.insists {
			m.probeDue = latest(m.probeDue, now.Add(probePause))
		} else {
			m.probeDue = latest(m.probeDue, now).Add(probePause)
		}
	}
	if m.isSilent(t.voice()) {
		m.seen["try"]++
		m.silences[t.voice()].tried = now
	}
	m.seen["placed: "+[...]string{"live", "backfill"}[t.lane]]++
	g.waits, g.in = false, true
	m.unsent++
	m.pay()
	if t.lane == backfill {
		m.paced = now
	}
}

// obstacle says why a guest may not go now, or nothing.
func (m *queueModel) obstacle(g *guest) string {
	t, now := g.ticket, time.Now()
	taken, pace := len(m.all(func(g *guest) bool { return g.in })), m.queue.budget.pace
	filling := len(m.all(func(g *guest) bool { return g.in && g.ticket.lane == backfill }))
	insists, phoneSilent := t.lane == live && t.insists, !m.silentAt.IsZero()
	switch {
	case taken >= m.queue.places:
		return "there is no place"
	case m.owed() > (burst-1)*pace:
		return "there is no budget"
	case phoneSilent && t.lane == live && !insists && now.Before(m.probeDue.Add(-probePause)),
		phoneSilent && t.lane == backfill && now.Before(m.probeDue):
		return "the phone is silent"
	case !insists && !g.isTry && !m.mayTry(t.voice()):
		return "its source is silent"
	}
	if t.lane == backfill {
		switch {
		case filling >= max(1, m.queue.places-1):
			return "the last place is not for backfill"
		case now.Before(m.paced.Add(pace)), now.Before(m.paced.Add(2*pace)) && m.owed() > 0:
			return "it has a pace"
		}
	}
	if m.places(t.lane, t.source) < m.quarter() {
		return ""
	}
	for _, other := range m.heads() {
		if o := other.ticket; o.lane == t.lane && o.source != t.source && (o.lane == live || m.mayTry(o.voice())) {
			return "it has its quarter, and others wait"
		}
	}
	if t.lane == live && !t.insists && m.queue.places-taken <= m.queue.places/4 {
		return "a quarter is left to others"
	}
	return ""
}

func (m *queueModel) quarter() int { return max(1, m.queue.places/4) }

func (m *queueModel) places(l lane, s source) int {
	return len(m.all(func(g *guest) bool { return g.in && g.ticket.lane == l && g.ticket.source == s }))
}

// heads returns who is first of each source in each lane.
func (m *queueModel) heads() []*guest {
	first := make(map[laneSource]*guest)
	for _, g := range m.all(func(g *guest) bool { return g.waits }) {
		if key := (laneSource{g.ticket.lane, g.ticket.source}); first[key] == nil {
			first[key] = g
		}
	}
	return slices.Collect(maps.Values(first))
}

// owed returns how long it takes for the budget to be whole.
func (m *queueModel) owed() time.Duration { return max(0, m.debt-time.Since(m.since)) }

func (m *queueModel) pay() {
	m.debt, m.since = min(m.owed()+m.queue.budget.pace, 2*burst*m.queue.budget.pace), time.Now()
}

func (m *queueModel) isSilent(v voice) bool {
	s := m.silences[v]
	if s == nil || len(s.hearings) < silentAfter {
		return false
	}
	first, last := s.hearings[0], s.hearings[len(s.hearings)-1]
	return first != last || m.hearings == last
}

func (m *queueModel) mayTry(v voice) bool {
	return !m.isSilent(v) || time.Since(m.silences[v].tried) >= probePause
}

func (m *queueModel) timeOut(t *ticket) {
	if !m.silentAt.IsZero() {
		return
	}
	v := t.voice()
	if m.silences[v] == nil {
		m.silences[v] = new(modelSilence)
	}
	before := m.isSilent(v)
	m.silences[v].hearings = append(m.silences[v].hearings, m.hearings)
	if !before && m.isSilent(v) {
		m.silences[v].tried = time.Now()
		for _, g := range m.guests {
			g.isTry = g.isTry && g.ticket.voice() != v
		}
	}
	if t.byBot {
		v.source = source{}
	}
	if t.hearings < m.hearings {
		m.seen["heard meanwhile"]++
		return
	}
	if m.witnesses[v] = true; len(m.witnesses) == silentAfter {
		m.silentAt, m.probeDue = time.Now(), time.Now().Add(probePause)
		for v := range m.witnesses {
			if s := m.silences[v]; s != nil {
				s.tried = time.Now()
			}
		}
	}
}

func (m *queueModel) hear() {
	m.hearings++
	m.witnesses, m.silentAt = make(map[voice]bool), time.Time{}
}

// check checks that everybody has what there is for them.
func (m *queueModel) check() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var taken, filling, waiting int
	for _, g := range m.guests {
		t := g.ticket
		switch {
		case g.in:
			taken++
			if t.lane == backfill {
				filling++
			}
		case g.waits:
			waiting++
			if t.lane == live && !t.insists && (!m.silentAt.IsZero() || m.isSilent(t.voice()) && !g.isTry) {
				m.Error("one waits that will not be answered")
			}
		}
	}
	if q := m.queue; taken != q.taken || filling != q.filling || waiting != q.waitingNow() {
		m.Errorf("it counts %d and %d places and %d waiting, want %d, %d and %d", q.taken, q.filling, q.turns.waiting, taken, filling, waiting)
	}
	for _, g := range m.heads() {
		if m.obstacle(g) == "" {
			m.Errorf("one of lane %d waits, and could go", g.ticket.lane)
		}
	}
}
