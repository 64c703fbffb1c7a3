package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
)

// cases has one case for each expired file that is being downloaded: see [fileCase]. The callers of
// a case do what it says next. Each downloads for itself, in its own goroutine, and waits no longer
// than it can.
type cases struct {
	catalog *catalog
	paths   *paths
	flights *flights
	policy  policy
	report  *reporter
	root    context.Context
	spawn   func(func())

	mu    sync.Mutex
	open  map[caseKey]*openCase
	spent *bounded[caseKey, spending] // what was asked for files lately, past the end of their cases
}

// A spending is when the last requests for a file were made, for messages that the bot has not
// named: anybody can send, or invent in a quote, any number of messages with one file. It has the
// time in Unix seconds, the latest last, and 0 where there was none.
type spending [askedInAnHour]int64

const (
	askedInAnHour = 8 // at most, for one file
	maxSpendings  = 4096
)

// mayAskMore reports whether there is a request left for a file in this hour.
func (cs *cases) mayAskMore(key caseKey, now time.Time) bool {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	s := cs.spent.get(key)
	ago := now.Unix() - s[0]                             // in whole seconds, which are less than the time was
	return ago > int64(time.Hour/time.Second) || ago < 0 // by a clock that was wrong
}

// spend notes one request more for a file.
func (cs *cases) spend(key caseKey, now time.Time) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	s := cs.spent.get(key)
	copy(s[:], s[1:])
	s[len(s)-1] = now.Unix()
	cs.spent.set(key, s)
}

// refund notes that a request for a file was not sent, or has not reached the server.
func (cs *cases) refund(key caseKey, at time.Time) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	s := cs.spent.get(key)
	if i := slices.Index(s[:], at.Unix()); i >= 0 {
		copy(s[1:i+1], s[:i])
		s[0] = 0
		cs.spent.set(key, s)
	}
}

// heals notes that the phone has given a file back: when the new path has expired, it is asked as
// if for the first time.
func (cs *cases) heals(key caseKey) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	cs.spent.remove(key)
}

// errEnough is the cause where so many messages with a file were asked for that others have to
// wait.
var errEnough = fmt.Errorf("%w (too many messages with the file were asked for within an hour)", ErrGeneral)

// A caseKey is an account and a file: its hash, or where the caller expects it if that is not
// known.
type caseKey struct{ account, file string }

// An openCase is a case and the callers that wait for it.
type openCase struct {
	key   caseKey
	slots chan struct{} // one for each download from a path that has led to the file

	mu      sync.Mutex
	machine fileCase
	callers int           // guarded by cases.mu
	live    int           // how many of them are, see want.isLive
	changed chan struct{} // closed, and replaced, when something has happened
}

// slotsPerCase is how many callers of a case download at once, which is about as many connections
// as transports keep. The others begin as those end.
const slotsPerCase = 16

// A want is what one caller wants.
type want struct {
	file     download
	named    *Entry // the message that the caller names; nil for none
	lane     lane
	quiet    error         // why the phone must not be asked for this caller; nil if it may be
	patience time.Duration // how long the caller can wait; 0 for as long as its context lasts
	hurry    error         // the cause if that is over
	waits    bool          // it is an event handler, and may wait for the phone
	about    source        // the source that it has waited for last
	pathOnly bool          // the caller does not want the file, but to know where it is
	// get downloads from a path. The response is there if the finding is good, and the cause says
	// what is wrong if it is not. What the response holds is given back by release.
	get func(ctx context.Context, l lead, release func()) (*http.Response, finding, error)
}

// isLive reports whether a caller may have the phone asked, and waits for it.
func (w *want) isLive() bool { return w.lane == live && w.quiet == nil }

// A lead is a path that may lead to a file.
type lead struct {
	path    string
	vouched bool   // the bot or its phone says that it does, and not only a message
	proven  bool   // it has led there a moment ago
	checked bool   // a large file is read to its end first, because neither the phone nor the bot has told the path
	useless func() // notes that a large file has turned out to be another one; can be nil
}

// heal gets an expired file for one caller. The error is the cause that [Cause] reports.
func (cs *cases) heal(ctx context.Context, w *want) (*http.Response, error) {
	began := time.Now()
	found, err := cs.gather(ctx, w)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c := cs.join(w.file)
	defer cs.leave(c)
	if w.isLive() {
		defer c.leaveLive()
	}
	c.change(func(m *fileCase) {
		c.live += btoi(w.isLive())
		m.isBad = func(path string) bool { return cs.paths.isBad(w.file.at(path)) }
		if !w.file.isStandIn() {
			m.exclude(w.file.path.String())
		}
		m.know(found)
	})
	cs.joinFlights(c, w)
	ctx, cancel := context.WithCancelCause(ctx)
	var timer *time.Timer
	if w.hurry != nil {
		timer = time.AfterFunc(w.patience, func() { cancel(w.hurry) })
	}
	resp, cause := cs.pursue(ctx, c, w)
	switch gaveUp := timer != nil && !timer.Stop(); {
	case resp != nil:
	case gaveUp:
		cs.flights.gaveUp(w.about, c.waitsFor())
	case w.patience > 0:
		cs.flights.waitedForNothing(w.about, min(1, time.Since(began).Seconds()/w.patience.Seconds()))
	}
	if resp == nil {
		cancel(nil)
		if err != nil && errors.Is(cause, ErrUnknownMessage) {
			cause = err
		}
		return nil, cause
	}
	resp.Body = &timedBody{resp.Body, func() { cancel(nil) }}
	return resp, nil
}

// joinFlights makes the requests that are on their way already those of the case: otherwise each
// caller with little patience would ask for another message. Those that were made as backfill do
// not keep a live caller waiting.
func (cs *cases) joinFlights(c *openCase, w *want) {
	var joined []*contender
	c.change(func(m *fileCase) {
		for _, who := range m.contenders {
			if who.state == idle && cs.flights.has(who.key) {
				m.joins(who)
				joined = append(joined, who)
			}
		}
	})
	for _, who := range joined {
		cs.ask(c, w, who)
	}
	if w.isLive() {
		for _, who := range c.waitsFor() {
			cs.flights.hurry(who.key)
		}
	}
}

// gather returns the messages that the caller and the index name. The error says what is wrong with
// the caller's message, or why the index could not be asked: it knows nothing of a client that is
// logged out.
func (cs *cases) gather(ctx context.Context, w *want) ([]candidate, error) {
	var named []candidate
	var wrong error
	if w.named != nil && bytes.Equal(w.named.FileEncSHA256, w.file.fileEncSHA256()) {
		named, wrong = cs.catalog.named(ctx, *w.named)
	}
	known, err := cs.catalog.ofFile(ctx, w.file.fileEncSHA256(), w.file.path.String())
	switch pn, _ := cs.catalog.names.own(); {
	case wrong != nil:
	case err != nil:
		wrong = fmt.Errorf("%w: %w", ErrIndexFailed, err)
	case pn.IsEmpty():
		wrong = whatsmeow.ErrNotLoggedIn
	}
	return append(named, known...), wrong
}

func (cs *cases) join(file download) *openCase {
	pn, _ := cs.catalog.names.own()
	key := caseKey{account: pn.User, file: file.hash}
	if file.fileEncSHA256() == nil {
		key.file = file.path.String()
	}
	cs.mu.Lock()
	defer cs.mu.Unlock()
	c := cs.open[key]
	if c == nil {
		c = &openCase{key: key, slots: make(chan struct{}, slotsPerCase), changed: make(chan struct{})}
		cs.open[key] = c
	}
	c.callers++
	return c
}

// leave removes a caller that waits no longer. A case without callers is over. Its requests stay on
// their way, and their answers go to the index.
func (cs *cases) leave(c *openCase) {
	cs.mu.Lock()
	c.callers--
	isOver := c.callers == 0
	if isOver {
		delete(cs.open, c.key)
	}
	cs.mu.Unlock()
	if isOver {
		for _, who := range c.waitsFor() {
			cs.flights.abandon(who.key)
		}
	}
}

// pursue does what the case says until the caller has its file, or there is a cause why not.
func (cs *cases) pursue(ctx context.Context, c *openCase, w *want) (*http.Response, error) {
	for {
		next, changed := cs.next(c, w)
		switch next.what {
		case toEnd:
			return nil, next.cause
		case toTry, toFetch:
			if resp, ok := cs.download(ctx, c, w, next); ok {
				return resp, nil
			}
		case toAsk:
			cs.ask(c, w, next.contender)
		case toLookUp:
			values := context.WithoutCancel(ctx)
			cs.spawn(func() { cs.lookUp(values, c, w.file) })
		case toWait:
			if err := cs.wait(ctx, next.until, changed, c, w); err != nil {
				return nil, err
			}
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
}

// next takes one step of the case.
func (cs *cases) next(c *openCase, w *want) (step, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now, heard := time.Now(), cs.flights.lastHeard()
	isOn := now.Sub(heard) < formPause
	mayAsk := func(who *contender) error {
		switch {
		case w.quiet != nil || cs.flights.has(who.key) || cs.flights.botWaits(who.key.id) || cs.flights.isAwaited(&who.entry):
			return nil
		case c.machine.resemblesSilent(who) && cs.flights.mayBeOff():
			return errSilentToOther // a phone that is off would answer for both
		}
		if err := cs.policy.refusal(&who.entry, now, heard); err != nil {
			return err
		}
		if !who.isNamed() && !cs.mayAskMore(c.key, now) {
			return errEnough
		}
		return nil
	}
	next := c.machine.next(now, isOn, mayAsk)
	if next.what == toEnd && w.lane == backfill && c.machine.wasHurried() {
		if c.live > 0 { // they are to see the end
			return step{what: toWait}, c.changed
		}
		c.machine.takeBack()
		next = c.machine.next(now, isOn, mayAsk)
	}
	switch next.what {
	case toTry:
		c.machine.begins(next.try)
	case toLookUp:
		c.machine.looksUp()
	case toAsk:
		if w.quiet != nil && !cs.isBots(w, next.contender) { // another caller may ask
			return step{what: toEnd, cause: w.quiet}, nil
		}
		c.machine.asks(next.contender)
		if who := next.contender; !who.isNamed() && !cs.flights.has(who.key) {
			who.paid = now
			cs.spend(c.key, now)
		}
	case toWait:
		waitsFor := slices.IndexFunc(c.machine.contenders, func(who *contender) bool { return who.state == flying && !cs.isBots(w, who) })
		if w.quiet != nil && waitsFor >= 0 && next.until.IsZero() {
			return step{what: toEnd, cause: w.quiet}, nil
		}
	}
	return next, c.changed
}

// errBotAsks means that a plain download does not ask, because the bot does so by itself.
var errBotAsks = fmt.Errorf("%w (the bot asks the phone by itself, so that a plain download does not; use Plugin.Download)", ErrNotAsked)

// isBots reports whether a contender's request is the bot's own, for a caller that does not ask
// because the bot asks by itself: such a caller can wait for the answer.
func (cs *cases) isBots(w *want, who *contender) bool {
	return w.quiet == errBotAsks && cs.flights.botWaits(who.key.id)
}

// errSilentToOther means that the phone was asked for another message with the file.
var errSilentToOther = fmt.Errorf("%w (it was asked for another message with the file)", ErrTimeout)

// leaveLive notes that a live caller has left. The others can ask again for what was not sent
// because it was in a hurry.
func (c *openCase) leaveLive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live--; c.live == 0 {
		c.wake()
	}
}

// wake wakes all callers. It needs c.mu.
func (c *openCase) wake() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// change tells the case of something, and wakes all of its callers.
func (c *openCase) change(how func(*fileCase)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	how(&c.machine)
	c.wake()
}

// waitsFor returns the messages for which requests are on their way.
func (c *openCase) waitsFor() (all []candidate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, who := range c.machine.contenders {
		if who.state == flying || who.state == quiet {
			all = append(all, who.candidate)
		}
	}
	return all
}

// waitsAbout returns the source about which callers wait: that of the last request that is on its
// way, or of a new path that rests. It is empty if there is neither.
func (c *openCase) waitsAbout() source {
	if all := c.waitsFor(); len(all) > 0 {
		return all[len(all)-1].source()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.machine.tries {
		if t.state == resting && t.from != nil {
			return t.from.source()
		}
	}
	return source{}
}

// wait waits for something to happen, for as long as the caller can.
func (cs *cases) wait(ctx context.Context, until time.Time, changed <-chan struct{}, c *openCase, w *want) error {
	var due <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		due = timer.C
	}
	var silence <-chan struct{}
	if about := c.waitsAbout(); w.hurry != nil && !about.IsEmpty() {
		w.about = about
		if !w.waits && !cs.flights.mayWait(about) {
			return w.hurry
		}
		w.waits = true
		silence = cs.flights.silence(about)
	}
	select {
	case <-changed:
	case <-due:
	case <-silence:
		return w.hurry
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-cs.root.Done():
		return ErrClosed
	}
	return nil
}

// ask sends the request of a contender, or joins the one that is on its way.
func (cs *cases) ask(c *openCase, w *want, who *contender) {
	c.mu.Lock()
	asked := who.candidate // which others may change
	lane := w.lane
	if c.live > 0 {
		lane = live
	}
	c.mu.Unlock()
	err := cs.flights.begin(question{
		entry: asked.entry, key: asked.key, source: asked.source(), lane: lane, byBot: asked.isNamed(),
		ended: func(r reading) {
			if !who.paid.IsZero() && (wasNotSent(r.err) || isOutage(r.err) || r.again || r.old) {
				cs.refund(c.key, who.paid)
			}
			c.change(func(m *fileCase) {
				if r.old { // so that it can be asked for after the path was tried
					cs.catalog.recall(who.key, &who.entry)
				}
				m.lands(who, r)
			})
		},
		quiet: func() { c.change(func(m *fileCase) { m.hushes(who) }) },
	})
	if err != nil {
		c.change(func(m *fileCase) { m.lands(who, reading{err: err}) })
	}
}

func (cs *cases) lookUp(ctx context.Context, c *openCase, file download) {
	found, err := cs.catalog.lookUp(ctx, file.fileEncSHA256())
	c.change(func(m *fileCase) { m.lookedUp(found, err) })
}

// download downloads the file from a path for one caller, and reports whether that has gone well.
func (cs *cases) download(ctx context.Context, c *openCase, w *want, next step) (*http.Response, bool) {
	release := func() {}
	c.mu.Lock()
	l := lead{path: next.try.path, vouched: next.try.vouched, proven: next.what == toFetch && !next.try.likely}
	if who := c.machine.toldBy(next.try); who != nil {
		told := who.candidate // which others may change
		l.useless = func() { cs.flights.useless(told.entry, told.key, l.path, errOtherFile) }
	}
	isFresh := next.try.fresh
	l.checked = l.useless == nil && !l.proven && w.hurry == nil
	c.mu.Unlock()
	if next.what == toFetch && !(w.pathOnly && l.proven) {
		select {
		case c.slots <- struct{}{}:
			release = sync.OnceFunc(func() { <-c.slots })
		case <-ctx.Done():
			return nil, false
		}
	}
	if isFresh {
		cs.paths.named(w.file.at(l.path))
	}
	resp, v, cause := w.get(ctx, l, release)
	if v != pathGood && v != pathLikely && ctx.Err() != nil {
		v = pathUnseen
	}
	var isBad, isSpent bool
	var from *candidate
	c.change(func(m *fileCase) {
		isBad = m.tried(next.try, v, cause, time.Now())
		isSpent = next.try.state == spent
		if who := next.try.from; who != nil {
			told := who.candidate // which others may change
			from = &told
		}
	})
	if v == pathGood || v == pathLikely {
		if v == pathGood { // otherwise it is noted at the end of the file
			cs.paths.move(w.file.location(), l.path)
		}
		if from != nil {
			cs.flights.tried(*from, l.path, v == pathGood)
		}
		if isFresh && v == pathGood {
			cs.heals(c.key)
		}
		return resp, true
	}
	release()
	if isSpent && from != nil {
		cs.flights.tried(*from, l.path, false)
	}
	if isBad {
		cs.paths.spoil(w.file.at(l.path))
		if from != nil {
			cs.flights.useless(from.entry, from.key, l.path, cause) // or each download would ask again
		}
		if v == pathWrong && from != nil {
			cs.report.wrongFile()
		}
	}
	return nil, false
}
