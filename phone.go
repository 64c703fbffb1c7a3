package reupload

import (
	"container/list"
	"fmt"
	"slices"
	"time"
)

const (
	// silentAfter is how many requests without an answer make a source silent, and how many silent
	// sources make the phone silent.
	silentAfter = 3
	// probePause is how often a silent phone or source is asked all the same, to see whether it is
	// back.
	probePause = time.Minute
	// seldom is the pause between two requests after which a source does not ask "all the time".
	seldom = 2 * probePause
	// maxSilences is how many sources without an answer to a request are remembered, each with some
	// 200 bytes. The one that has not been asked for the longest time is forgotten first.
	maxSilences = 1024
	// maxWatches is for how many sources handlers can be told of silence while they wait. Handlers
	// for other sources wait for the whole HandlerTimeout.
	maxWatches = 256
)

// errSourceSilent is the error of requests about a source that is silent.
var errSourceSilent = fmt.Errorf("reupload: the phone has not answered the last requests about this chat, so that it was not asked for more of it: %w", ErrPhoneSilent)

// A phone is what is known of its silence and of that of sources. It has no clock and no lock: the
// queue has both.
//
// A source is silent when three requests about it in a row have timed out. Then one a minute
// tries, and its other live requests fail at once. The phone is silent when requests of three
// different sources have timed out and nothing has come from it since they were sent; messages that
// the bot has named count as one source. Then one request a minute is the probe, whatever its
// source.
//
// A phone that was heard while it had a request is on: it has no answer to that one.
//
// A phone that is off is no fault of a source. A time-out while the phone is silent does not count
// against its source. If the phone has sent nothing between a source's time-outs, the source has
// another chance as soon as something comes, until its next time-out.
//
// Probes go round. If the last one went to backfill, or to a source that had asked within the two
// minutes before, then the next one is a live request whose source had none for two minutes.
// It goes at once, and the pause after it is longer by as much as it came early. So beside one
// source that asks all the time, any other that asks once a minute or less gets a probe at the
// second try at the latest. Several sources that ask all the time share the probes between them.
type phone struct {
	heard     time.Time                  // when it has sent anything last; zero if it has not, to this process
	hearings  int                        // how often it has sent anything
	missed    bool                       // a request that was sent since has timed out
	witnesses []voice                    // those of whose requests this is true, each once
	since     time.Time                  // when it became silent; zero if it is not
	probeDue  time.Time                  // when the next probe may go
	greedy    bool                       // the last one went to backfill, or to a source that asks all the time
	asked     *bounded[voice, time.Time] // when live requests were last refused as probes

	patience patience // of event handlers

	memory  map[voice]*list.Element
	order   list.List // of *silences, the one that was asked last the longest ago first
	watches *bounded[source, chan struct{}]
}

// A voice is a source, split by whether the bot has named the message: such requests can be about
// anything, and say nothing of those for messages that the plugin has seen.
type voice struct {
	source source
	byBot  bool
}

// silences is what is remembered of a voice.
type silences struct {
	voice voice
	inRow int       // time-outs
	first int       // phone.hearings when the first of them was noted,
	last  int       // and the last one
	tried time.Time // when it was asked last although it or the phone was silent, or became silent
}

func newPhone() phone {
	return phone{
		patience: newPatience(),

		asked:   newBounded[voice, time.Time](maxSilences),
		memory:  make(map[voice]*list.Element),
		watches: newBounded[source, chan struct{}](maxWatches),
	}
}

func (t *ticket) voice() voice { return voice{t.source, t.byBot} }

// witness returns the voice that a time-out counts for in the silence of the whole phone.
func (t *ticket) witness() voice {
	if t.byBot {
		return voice{byBot: true}
	}
	return voice{source: t.source}
}

func (p *phone) isSilent() bool { return !p.since.IsZero() }

func (p *phone) isSourceSilent(v voice) bool {
	s := p.recall(v)
	hasAnotherChance := s.first == s.last && p.hearings > s.last
	return s.inRow >= silentAfter && !hasAnotherChance
}

// lets reports whether a live request may go although the phone or its source is silent. It notes
// when a source was refused.
func (p *phone) lets(t *ticket, now time.Time) bool {
	if !p.letsSource(t.voice(), now) {
		return false
	}
	if p.letsProbe(t, now) {
		return true
	}
	p.asked.set(t.witness(), now)
	return false
}

func (p *phone) letsSource(v voice, now time.Time) bool {
	return !p.isSourceSilent(v) || !now.Before(p.tryOf(v))
}

// tryOf returns when a source that is silent may be tried again.
func (p *phone) tryOf(v voice) time.Time { return p.recall(v).tried.Add(probePause) }

func (p *phone) letsProbe(t *ticket, now time.Time) bool {
	if !p.isSilent() || !now.Before(p.probeDue) {
		return true
	}
	overtakes := p.greedy && now.Sub(p.recall(t.witness()).tried) >= seldom
	return overtakes && !now.Before(p.probeDue.Add(-probePause))
}

// asks notes that a request goes out. It counts as the probe of a silent phone and source.
func (p *phone) asks(t *ticket, now time.Time) {
	if p.isSilent() {
		w := p.remember(t.witness())
		before := latest(w.tried, p.asked.get(w.voice))
		p.greedy = t.lane == backfill || now.Sub(before) < seldom
		w.tried = now
		if t.insists { // it goes whether or not a probe is due
			p.probeDue = latest(p.probeDue, now.Add(probePause))
		} else {
			p.probeDue = latest(p.probeDue, now).Add(probePause)
		}
	}
	if p.isSourceSilent(t.voice()) {
		p.remember(t.voice()).tried = now
	}
}

// timedOut notes a request without an answer, and reports whether the phone and the source have
// become silent.
func (p *phone) timedOut(t *ticket, now time.Time) (phoneFell, sourceFell bool) {
	wasHeard := p.hearings > t.hearings
	p.missed = p.missed || !wasHeard
	if p.isSilent() {
		return false, false
	}
	wasSilent := p.isSourceSilent(t.voice())
	s := p.remember(t.voice())
	if s.last = p.hearings; s.inRow == 0 {
		s.first = s.last
	}
	s.inRow++
	if !wasSilent && p.isSourceSilent(t.voice()) {
		s.tried, sourceFell = now, true
		if !t.byBot {
			p.tell(t.source)
		}
	}
	if w := t.witness(); !wasHeard && !slices.Contains(p.witnesses, w) {
		p.witnesses = append(p.witnesses, w)
	}
	if len(p.witnesses) < silentAfter {
		return false, sourceFell
	}
	p.since, p.probeDue, p.greedy = now, now.Add(probePause), false
	for _, w := range p.witnesses {
		p.remember(w).tried = now
	}
	p.patience.runOut(now)
	p.tellAll()
	return true, sourceFell
}

// answered notes an answer to a request about a source.
func (p *phone) answered(s source, now time.Time) {
	for _, byBot := range [...]bool{false, true} {
		p.unlearn(voice{s, byBot})
	}
	p.hear(now)
}

// hear notes that something has come from the phone.
func (p *phone) hear(now time.Time) {
	p.heard, p.missed, p.witnesses, p.since = now, false, nil, time.Time{}
	p.hearings++
	p.patience.heard()
}

// gaveUp notes that an event handler has waited for a source for as long as it can. Each handler
// counts, also those that wait for the same request.
func (p *phone) gaveUp(s source, now time.Time) {
	if p.patience.gaveUp(s, now); !p.patience.lasts(now) {
		p.tellAll()
	}
}

// waited notes that an event handler has waited for a source without a file, for a share of the
// time that it may.
func (p *phone) waited(s source, share float64, now time.Time) {
	if p.patience.waited(s, share, now); !p.patience.lasts(now) {
		p.tellAll()
	}
}

// isInDoubt reports whether an event handler should not wait for a source.
func (p *phone) isInDoubt(s source, now time.Time) bool {
	return p.isSilent() || p.isSourceSilent(voice{source: s}) || !p.patience.lasts(now) && !p.patience.trusts(s)
}

// mayWait reports whether an event handler may begin to wait for a source. Some may although the
// phone is silent, to see whether it is back.
func (p *phone) mayWait(s source, now time.Time) bool {
	return !p.isInDoubt(s, now) || !p.isSourceSilent(voice{source: s}) && p.patience.lasts(now)
}

func (p *phone) silence(s source, now time.Time) <-chan struct{} {
	if p.isInDoubt(s, now) {
		return nil
	}
	watch := p.watches.get(s)
	if watch == nil {
		watch = make(chan struct{})
		p.watches.set(s, watch)
	}
	return watch
}

// tell tells those that wait for a source.
func (p *phone) tell(s source) {
	if watch := p.watches.get(s); watch != nil {
		close(watch)
		p.watches.remove(s)
	}
}

// tellAll tells all that wait, unless the phone is not silent and their source is trusted.
func (p *phone) tellAll() {
	for s := range p.watches.all {
		if p.isSilent() || !p.patience.trusts(s) {
			p.tell(s)
		}
	}
}

// recall returns what is remembered of a voice.
func (p *phone) recall(v voice) silences {
	if e := p.memory[v]; e != nil {
		return *e.Value.(*silences)
	}
	return silences{voice: v}
}

// remember is recall for a voice that is asked or does not answer: it makes a record if there is
// none.
func (p *phone) remember(v voice) *silences {
	if e := p.memory[v]; e != nil {
		p.order.MoveToBack(e)
		return e.Value.(*silences)
	}
	if p.order.Len() >= maxSilences {
		p.unlearn(p.order.Front().Value.(*silences).voice)
	}
	s := &silences{voice: v}
	p.memory[v] = p.order.PushBack(s)
	return s
}

func (p *phone) unlearn(v voice) {
	if e := p.memory[v]; e != nil {
		p.order.Remove(e)
		delete(p.memory, v)
	}
}
