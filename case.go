package reupload

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// A fileCase decides how to get one expired file. It has no clock, lock, channel or client: it is
// told what happens, and next says what to do:
//
//	what is so                                       | what to do next
//	-------------------------------------------------+------------------------------------------
//	a path has given the file                        | the callers download from it
//	a path is being tried, or rests before it is     | wait
//	tried again                                      |
//	a path is known and was not tried                | try it
//	a candidate may be asked (*)                     | ask for it
//	nothing else is left, and Lookup was not asked   | ask Lookup
//	a request is on its way, or Lookup is asked      | wait
//	none of these                                    | the end: the cause
//
// (*) At most two requests of the case are on their way, all of them silent, and at most four were
// made in all. Lookup is asked before the second one.
//
// Paths that cost nothing come first, then the candidates by rank. What the bot has named and what
// the index knows take turns, and one message of each sender comes before a second of any: a
// stranger can send a file in any number of messages, and the bot may name each of them. A request
// that was acknowledged and is silent for a while no longer holds up the next one. That has another
// key, sender or chat, unless the phone was heard meanwhile: of two that agree in all three, a
// phone that was off would answer both. A path that the phone has just told can be late on the CDN,
// and is tried several times before it counts as bad.
//
// The end is final (ErrNotFound, ErrDecryption) only if the phone said so about every candidate.
type fileCase struct {
	tries      []*try
	contenders []*contender
	lookup     lookupState
	lookupErr  error
	asked      int               // requests in the life of the case
	last       *contender        // that was asked for last
	isBad      func(string) bool // whether a path is known not to lead to the file; nil for no
	broken     error             // the file is there again, and the CDN does not give it out
}

const (
	maxAsked  = 4 // requests in the life of a case
	maxFlying = 2 // requests that are on their way at once
	maxTries  = 24
)

// freshPauses are the pauses after which a path is tried again. A path that the phone has just told
// is tried again after any failure, others only after a fault of the network or the CDN.
var freshPauses = [...]time.Duration{300 * time.Millisecond, time.Second, 3 * time.Second}

type lookupState int

const (
	lookupIdle lookupState = iota
	lookupAsked
	lookupDone
)

// A contender is a candidate in a case.
type contender struct {
	candidate
	state  contenderState
	cause  error     // why it has brought nothing
	final  bool      // the cause is the phone's final word
	counts bool      // its request is one of the case's
	paid   time.Time // when its request was counted in what a file may have in an hour; zero if it was not
	path   *try      // the path in its answer
	said   error     // the error that its answer had besides a path
}

type contenderState int

const (
	idle   contenderState = iota
	flying                // its request is on its way
	quiet                 // and the server has it, and the phone is silent so far
	over
)

// A try is a path that may lead to the file.
type try struct {
	path    string
	fresh   bool // the phone has just told it
	vouched bool // the bot or its phone says that it leads to the file, and not only a message
	likely  bool // it is proven by the beginning of a large file alone
	state   tryState
	failed  int       // how often in a row
	due     time.Time // when it is tried next, if it rests
	cause   error     // why it has not led to the file
	from    *contender
}

type tryState int

const (
	untried tryState = iota
	trying
	resting
	proven // it has led to the file, as far as was read
	spent
)

// A finding is the outcome of a try.
type finding int

const (
	pathGood   finding = iota
	pathLikely         // a large file is there, of which only the beginning was read
	pathGone           // there is no file under the path, or none any more
	pathDenied         // the CDN does not give it out, for another reason
	pathWrong          // it is another file, or an empty one
	pathBroken         // a fault of the network or the CDN, which may pass
	pathUnseen         // the caller has left meanwhile, so that nothing is known
)

// What next tells the callers to do.
type todo int

const (
	toWait   todo = iota // for something to happen, or until a moment if that is not zero
	toTry                // step.try
	toAsk                // step.contender
	toLookUp             // Options.Lookup
	toFetch              // step.try has led to the file
	toEnd                // step.cause
)

type step struct {
	what      todo
	try       *try
	contender *contender
	until     time.Time
	cause     error
}

// know adds candidates, the likeliest first, and the paths of all of them. Candidates that are
// known already are left as they are.
func (c *fileCase) know(found []candidate) {
	for _, f := range found {
		who := &contender{candidate: f}
		if i := slices.IndexFunc(c.contenders, func(other *contender) bool { return other.key == f.key }); i < 0 {
			c.contenders = append(c.contenders, who)
		} else {
			who = c.contenders[i]
			who.rank, who.quoted = min(who.rank, f.rank), who.quoted && f.quoted
		}
		for _, path := range f.paths() {
			isNew := c.pathOf(path) == nil
			t := c.addPath(path, nil)
			if t == nil {
				continue
			}
			if isNew && f.fresh && path == f.entry.DirectPath {
				t.fresh, t.from = true, who
			}
			t.vouched = t.vouched || f.vouches(path)
		}
	}
	slices.SortStableFunc(c.contenders, func(a, b *contender) int { return int(a.rank - b.rank) })
}

// exclude notes that a path need not be tried, because it has failed already.
func (c *fileCase) exclude(path string) {
	if t := c.pathOf(path); t == nil {
		c.tries = append(c.tries, &try{path: path, state: spent})
	}
}

func (c *fileCase) pathOf(path string) *try {
	for _, t := range c.tries {
		if t.path == path {
			return t
		}
	}
	return nil
}

// toldBy returns the contender for which the phone has told a path, just now or before; or nil.
func (c *fileCase) toldBy(t *try) *contender {
	if t.from != nil {
		return t.from
	}
	for _, who := range c.contenders {
		if who.entry.DirectPath == t.path {
			return who
		}
	}
	return nil
}

// addPath adds a path to try, unless it is known. A path that the phone has just told for a
// contender is tried in any case.
func (c *fileCase) addPath(path string, from *contender) *try {
	t := c.pathOf(path)
	switch {
	case from == nil && t == nil && (path == "" || len(c.tries) >= maxTries || checkDirectPath(path) != nil || c.isBad != nil && c.isBad(path)):
		return nil
	case t == nil:
		t = &try{path: path}
		c.tries = append(c.tries, t)
	case from == nil:
		return t
	}
	if from != nil {
		t.fresh, t.from = true, from
		t.vouched = t.vouched || from.isNamed()
		if t.state == spent {
			t.state, t.failed = untried, 0
		}
	}
	return t
}

// looksUp notes that Options.Lookup is being asked.
func (c *fileCase) looksUp() { c.lookup = lookupAsked }

// lookedUp adds what Options.Lookup has returned.
func (c *fileCase) lookedUp(found []candidate, err error) {
	c.lookup, c.lookupErr = lookupDone, err
	c.know(found)
}

// asks notes that a contender's request is on its way.
func (c *fileCase) asks(who *contender) {
	who.state, who.counts = flying, true
	c.last = who
	c.asked++
}

// joins notes that a contender's request is on its way already, of which another case has the cost.
func (c *fileCase) joins(who *contender) {
	who.state = flying
	c.last = who
}

// refuse notes that a contender is not asked for, and why.
func (c *fileCase) refuse(who *contender, cause error) {
	who.state, who.cause = over, cause
	who.final = isFinal(cause) && who.entry.Asked.Outcome != outcomeUnreadable
}

// hushes notes that a contender's request was acknowledged and has no answer so far.
func (c *fileCase) hushes(who *contender) {
	if who.state == flying {
		who.state = quiet
	}
}

// lands notes how a contender's request has ended.
func (c *fileCase) lands(who *contender, r reading) {
	who.state = over
	if who.counts && (wasNotSent(r.err) || r.again || r.old) {
		c.asked--
	}
	switch {
	case wasNotSent(r.err):
		who.cause = r.err
	case r.err != nil:
		who.cause = r.err
	case r.result.DirectPath != "" && r.old: // it is one path more that is known
		who.state = idle
		c.addPath(r.result.DirectPath, nil)
	case r.result.DirectPath != "":
		who.cause, who.said = errNoFileYet, r.result.Err()
		who.path = c.addPath(r.result.DirectPath, who)
		return
	default:
		who.cause = r.result.Err()
		kind, _ := outcomeOf(r)
		who.final = kind == outcomeNotFound || kind == outcomeDecryption
	}
}

// wasHurried reports whether a request was not sent because it was in a hurry, which backfill is
// not.
func (c *fileCase) wasHurried() bool {
	return slices.ContainsFunc(c.contenders, (*contender).wasHurried)
}

func (who *contender) wasHurried() bool {
	return who.state == over && (errors.Is(who.cause, ErrBusy) || errors.Is(who.cause, ErrPhoneSilent) && !errors.Is(who.cause, errHeld))
}

// takeBack lets what was not sent because of a hurry be asked for again.
func (c *fileCase) takeBack() {
	for _, who := range c.contenders {
		if who.wasHurried() {
			who.state, who.cause = idle, nil
		}
	}
}

// errNoFileYet is the cause until the path that the phone has told was tried.
var errNoFileYet = fmt.Errorf("%w: there is no file under the new path", ErrInvalidAnswer)

// begins notes that a path is being tried.
func (c *fileCase) begins(t *try) { t.state = trying }

// tried notes the outcome of a path, and reports whether the path is bad from now on, beyond this
// case.
func (c *fileCase) tried(t *try, v finding, cause error, now time.Time) (isBad bool) {
	wasProven := t.state == proven
	switch v {
	case pathGood, pathLikely:
		t.likely = v == pathLikely && (t.likely || !wasProven)
		t.state, t.failed = proven, 0
		return false
	case pathUnseen:
		if !wasProven {
			t.state = untried
		}
		return false
	}
	if t.state == resting || t.state == spent { // callers that download at once count as one
		return false
	}
	t.cause = cause
	if (t.fresh || v == pathBroken) && t.failed < len(freshPauses) {
		t.state, t.due = resting, now.Add(freshPauses[t.failed])
		t.failed++
		return false
	}
	t.state = spent
	if who := t.from; who != nil && who.path == t {
		who.cause = cause
		if who.said != nil { // the answer was an error all the same
			who.cause, who.final = who.said, isFinal(who.said)
		}
	}
	if v == pathBroken && t.fresh {
		c.broken = cause // another request would not help
	}
	return v != pathBroken
}

// next says what to do next. isOn means that the phone was heard while the requests of the case
// were silent. It asks mayAsk whether a contender may be asked for.
func (c *fileCase) next(now time.Time, isOn bool, mayAsk func(*contender) error) step {
	wait := step{what: toWait}
	busy := false
	for _, t := range c.tries {
		switch {
		case t.state == proven:
			return step{what: toFetch, try: t}
		case t.state == trying:
			busy = true
		case t.state == resting && !now.Before(t.due):
			return step{what: toTry, try: t}
		case t.state == resting:
			busy = true
			if wait.until.IsZero() || t.due.Before(wait.until) {
				wait.until = t.due
			}
		}
	}
	// Other paths do not wait for one that rests; requests do.
	for _, t := range c.tries {
		if t.state == untried {
			return step{what: toTry, try: t}
		}
	}
	if busy {
		return wait
	}
	if c.lookup == lookupAsked {
		return wait
	}
	if c.broken != nil {
		return step{what: toEnd, cause: c.broken}
	}
	inAir, isLoud := c.flying()
	if isLoud || inAir >= maxFlying {
		return wait
	}
	if c.asked < maxAsked {
		for {
			who := c.pick(inAir > 0 && !isOn)
			if who == nil {
				break
			}
			if c.lookup == lookupIdle && c.last != nil {
				return step{what: toLookUp}
			}
			if err := mayAsk(who); err != nil {
				c.refuse(who, err)
				continue
			}
			return step{what: toAsk, contender: who}
		}
	}
	if c.lookup == lookupIdle {
		return step{what: toLookUp}
	}
	if inAir > 0 {
		return wait
	}
	return step{what: toEnd, cause: c.cause()}
}

// flying returns how many requests are on their way, and whether one of them is not silent yet.
func (c *fileCase) flying() (n int, isLoud bool) {
	for _, who := range c.contenders {
		switch who.state {
		case flying:
			return n + 1, true
		case quiet:
			n++
		}
	}
	return n, false
}

// pick returns the contender to ask for next, or nil: the likeliest one whose turn it is, and that
// differs in key, sender or chat from those whose requests are silent. One that does not differ
// comes last, and not at all if only others are wanted.
func (c *fileCase) pick(others bool) *contender {
	var best, alike *contender
	for _, who := range c.contenders {
		switch {
		case who.state != idle:
		case c.resemblesSilent(who):
			if alike == nil && !others {
				alike = who
			}
		case best == nil || c.handicap(who) < c.handicap(best):
			best = who
		}
	}
	if best == nil {
		return alike
	}
	return best
}

// handicap tells how far a contender has to stand back: most if another message of its sender was
// tried, and some if the last one that was asked for is of its kind: named by the bot, or not.
func (c *fileCase) handicap(who *contender) int {
	had := c.last != nil && c.last.isNamed() == who.isNamed()
	return 2*btoi(c.hasTriedSenderOf(who)) + btoi(had)
}

// hasTriedSenderOf reports whether another message of the same sender in the same chat was asked
// for, or refused. All that was only quoted counts as one sender's, and does not count for others:
// anybody can quote any number of senders.
func (c *fileCase) hasTriedSenderOf(who *contender) bool {
	return slices.ContainsFunc(c.contenders, func(other *contender) bool {
		switch {
		case other.state == idle:
			return false
		case other.quoted:
			return who.quoted
		}
		return other.key.participant == who.key.participant && other.key.chat == who.key.chat
	})
}

// resemblesSilent reports whether a contender has the key, sender and chat of another one for which
// the phone was asked in this case without an answer. What was only quoted resembles nothing else:
// the quote can have an invented id, about which a phone is silent.
func (c *fileCase) resemblesSilent(who *contender) bool {
	return slices.ContainsFunc(c.contenders, func(other *contender) bool {
		isSilent := other.state == quiet || other.state == over && other.cause == ErrTimeout
		return isSilent && other.quoted == who.quoted && other.key.mediaKey == who.key.mediaKey && other.key.participant == who.key.participant && other.key.chat == who.key.chat
	})
}

// errMore is the cause if a download has asked for as many messages as it may, and more are left.
var errMore = fmt.Errorf("%w (%d messages with the file were asked for, and others were not)", ErrGeneral, maxAsked)

// cause returns why the file did not come.
func (c *fileCase) cause() error {
	var final, other error
	left := false
	for _, who := range c.contenders {
		switch {
		case who.state != over:
			left = true
		case wasNotSent(who.cause) && !errors.Is(who.cause, errHeld): // it may help soon
			return who.cause
		case who.final && final == nil:
			final = who.cause
		case !who.final && other == nil:
			other = who.cause
		}
	}
	switch {
	case other != nil:
		return other
	case left:
		return errMore
	case final != nil:
		if c.lookupErr == nil { // otherwise it may know of a message that the phone has
			return final
		}
	}
	if c.lookupErr != nil {
		return fmt.Errorf("%w: %w", ErrLookupFailed, c.lookupErr)
	}
	return c.lost()
}

// lost returns the cause where no message is known: why the paths have failed, or that there is no
// path.
func (c *fileCase) lost() error {
	for _, t := range c.tries {
		if t.cause != nil && errors.Is(t.cause, ErrReplayFailed) {
			return t.cause
		}
	}
	return ErrUnknownMessage
}

// isFinal reports whether a cause says that the file is lost.
func isFinal(cause error) bool {
	return errors.Is(cause, ErrNotFound) || errors.Is(cause, ErrDecryption)
}
