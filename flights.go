package reupload

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// flights are the requests that are on their way, and what is known of those that have ended. All
// callers that wait for the same file of the same message share one flight. Which request an ack or
// an answer belongs to is decided here and nowhere else: an ack has only a message id, and an
// answer that is not sealed is taken only if exactly one request can match.
type flights struct {
	line    line
	queue   *queue
	report  *reporter
	timeout time.Duration
	root    context.Context
	spawn   func(func())
	// store keeps what is known of a file. It must take bounded time.
	store func(Entry)
	// underID returns what the index knows under a message id.
	underID func(ctx context.Context, id types.MessageID) []candidate

	landing     sync.WaitGroup // flights that have not landed
	lateAnswers chan struct{}  // has one place: they are used in order, so that the last one stands

	mu      sync.Mutex
	closed  bool
	count   int
	records map[types.MessageID]*idRecord // of ids with flights
	past    *bounded[types.MessageID, *idRecord]
	endings *bounded[identity, ending]
	taken   *bounded[string, bool] // sealed answers that were opened, by id and nonce
	named   types.JID              // the account, if the phone has answered to the likeliest of its names
	asksOwn bool                   // the bot asks the phone by itself for media,
	asksFor bool                   // and for parts of the history
	learns  time.Time              // the time from which asksOwn can be learned
}

// A line is what a flight needs of the connection. See [sender].
type line interface {
	own() (pn, lid types.JID)
	addresses(ctx context.Context, req Request) naming
	send(ctx context.Context, req Request, addr address, c retryCipher) (wire, error)
	watch() wire
	nextAck(id types.MessageID) <-chan *waBinary.Node
	reconnecting() bool
	isOnline() bool
}

// An idRecord is what was asked under one message id.
type idRecord struct {
	drivers []*driver // not ended, in the order in which they came
	// unacked are those whose receipt the server has not acknowledged, in the order in which they
	// were sent, also of flights that have ended: a late ack is not taken for another request's.
	unacked []receipt
	open    []identity // asked for, and without an answer, past the end of the flight
	last    identity   // the request that has accepted the last unsealed answer
	stamp   string     // the stamp of that answer
	byBot   time.Time  // when the bot asked by itself; zero once there is an answer
}

// A receipt is one that the server has not acknowledged.
type receipt struct {
	driver *driver   // nil once its flight has ended,
	ended  time.Time // and when that was
}

// isLost reports whether no ack of a receipt is to be expected any more. If one comes all the same,
// it does no harm.
func (r receipt) isLost() bool { return r.driver == nil && time.Since(r.ended) > ackPatience }

// ackPatience is for how long after the end of a flight the ack of its receipt can come. A file is
// not asked for again in this time, as a rule.
const ackPatience = shortPause / 2

// An ending is how the last request for a file ended, as far as this process knows.
type ending struct {
	reading
	asked Asked
	at    time.Time // when, with the monotonic clock; zero while it has not ended
	tried bool      // the path that it has brought was given its time, or has led to the file
}

// Limits of what is kept. An item has some hundred bytes, and a path at most 2 KiB.
const (
	maxEndings = 8192
	maxRecords = 4096
	maxTaken   = 1024
	maxOpen    = 8  // under one message id
	maxUnacked = 16 // likewise
)

func newFlights() *flights {
	return &flights{
		records: make(map[types.MessageID]*idRecord),
		past:    newBounded[types.MessageID, *idRecord](maxRecords),
		endings: newBounded[identity, ending](maxEndings),
		taken:   newBounded[string, bool](maxTaken),

		lateAnswers: make(chan struct{}, 1),
	}
}

// A question is what a caller asks the phone.
type question struct {
	entry   Entry
	key     identity
	lane    lane
	source  source        // the source whose share it takes
	byBot   bool          // the bot has named the message
	insists bool          // it is sent even if the phone is silent
	ended   func(reading) // called once, when the flight has ended
	quiet   func()        // called if the server has the request and no answer comes; can be nil
}

// begin sends a request, or joins one that is on its way. It does not wait. The error is ErrClosed,
// or wraps ErrInvalidRequest.
func (f *flights) begin(q question) error {
	d, known, err := f.join(q)
	if err != nil {
		return err
	}
	if d == nil {
		q.ended(known)
		return nil
	}
	if q.insists {
		f.queue.insist(d.ticket)
	}
	if q.lane == live {
		d.hurry()
	}
	f.mu.Lock()
	isQuiet := d.isQuiet
	f.mu.Unlock()
	if isQuiet && q.quiet != nil {
		q.quiet()
	}
	f.beginNext(q.key.id)
	return nil
}

// hurry moves a request that waits as backfill to the live ones.
func (f *flights) hurry(key identity) {
	f.mu.Lock()
	d := f.find(key)
	f.mu.Unlock()
	if d != nil {
		d.hurry()
	}
}

// ask sends a request, or joins one that is on its way, and waits for the answer. A request that
// was sent stays until its deadline, so that a caller who gives up leaves it to the next one.
func (f *flights) ask(ctx context.Context, q question) (Result, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Result{}, context.Cause(ctx)
		}
		ended := make(chan reading, 1)
		q.ended = func(r reading) { ended <- r }
		if err := f.begin(q); err != nil {
			return Result{}, err
		}
		select {
		case r := <-ended:
			if asksAgain(q, r.err) {
				continue
			}
			return r.result, r.err
		case <-ctx.Done():
			f.abandon(q.key)
			return Result{}, context.Cause(ctx)
		}
	}
}

// asksAgain reports whether a flight has ended before anything was sent, for a reason that concerns
// only another caller: the last one left just as this one came, or was in a hurry.
func asksAgain(q question, err error) bool {
	return err == errNobodyWaits || err == ErrBusy && q.lane == backfill ||
		errors.Is(err, ErrPhoneSilent) && (q.lane == backfill || q.insists)
}

// join finds the flight of a file, or makes it. It returns none if the last one has ended since the
// caller has looked at what is known of the file, but how that ended.
func (f *flights) join(q question) (d *driver, known reading, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, known, ErrClosed
	}
	r := f.record(q.key.id)
	for _, d := range r.drivers {
		if d.key == q.key {
			d.callers++
			d.listeners = append(d.listeners, q)
			return d, known, nil
		}
	}
	last, seen := f.endings.get(q.key), q.entry.Asked
	if !q.insists && !last.at.IsZero() && last.asked != seen && !last.asked.At.Before(seen.At) {
		f.retire(q.key.id)
		known = last.reading
		known.again = true
		return nil, known, nil
	}
	c, err := newRetryCipher(q.entry.MediaKey)
	if err != nil {
		f.retire(q.key.id)
		return nil, known, err
	}
	d = newDriver(f, q, c)
	r.drivers = append(r.drivers, d)
	f.count++
	f.landing.Add(1)
	return d, known, nil
}

// record returns what was asked under a message id. It needs f.mu.
func (f *flights) record(id types.MessageID) *idRecord {
	r := f.records[id]
	if r == nil {
		if r = f.past.get(id); r == nil {
			r = new(idRecord)
		}
		f.past.remove(id)
		f.records[strings.Clone(id)] = r
	}
	return r
}

// retire puts aside a record that has no flights any more. It needs f.mu.
func (f *flights) retire(id types.MessageID) {
	r := f.records[id]
	if r == nil || len(r.drivers) > 0 {
		return
	}
	delete(f.records, id)
	if len(r.unacked) > 0 || len(r.open) > 0 || r.stamp != "" || !r.byBot.IsZero() {
		f.past.set(strings.Clone(id), r)
	}
}

// has reports whether a request for a file is on its way.
func (f *flights) has(key identity) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.find(key) != nil
}

// find returns the flight of a file, or nil. It needs f.mu.
func (f *flights) find(key identity) *driver {
	if r := f.records[key.id]; r != nil {
		for _, d := range r.drivers {
			if d.key == key {
				return d
			}
		}
	}
	return nil
}

// beginNext begins the next flight under a message id. It may go once the server has acknowledged
// what was sent before: from then on, sealed answers tell the files apart.
func (f *flights) beginNext(id types.MessageID) {
	f.mu.Lock()
	var next *driver
	if r := f.records[id]; r != nil {
		for _, d := range r.drivers {
			if !d.begun {
				d.begun, next = true, d
				break
			}
			if d.onWire && !d.acked {
				break
			}
		}
	}
	f.mu.Unlock()
	if next != nil {
		next.begin()
	}
}

// abandon removes a caller that waits no longer.
func (f *flights) abandon(key identity) {
	f.mu.Lock()
	d := f.find(key)
	abandons := false
	if d != nil {
		d.callers--
		abandons = d.callers <= 0
	}
	f.mu.Unlock()
	if abandons {
		d.happen(event{what: abandoned})
	}
}

// gaveUp notes that an event handler has waited for some requests as long as it can. Whatever kept
// the answers, a silent server or a line of others before them, the handler held up the bot.
func (f *flights) gaveUp(about source, waitedFor []candidate) {
	for _, who := range waitedFor {
		f.mu.Lock()
		d := f.find(who.key)
		f.mu.Unlock()
		if d != nil {
			f.queue.handlerGaveUp(d.ticket)
			return // one handler counts once
		}
	}
	f.queue.handlerWaited(about, 1) // the phone has answered, and not with the file
}

// waitedForNothing notes that an event handler has waited for a source without a file, for a share
// of the time that it may. The source is empty if it has not come to that.
func (f *flights) waitedForNothing(about source, share float64) { f.queue.handlerWaited(about, share) }

// mayWait reports whether an event handler that is about to wait for a source may do so.
func (f *flights) mayWait(s source) bool { return f.queue.mayWait(s) }

// silence returns a channel that is closed when the phone becomes silent about a source, or nil if
// it is already.
func (f *flights) silence(s source) <-chan struct{} { return f.queue.silence(s) }

// lastHeard returns when the phone was heard last; zero if it was not, by this process.
func (f *flights) lastHeard() time.Time { return f.queue.lastHeard() }

// mayBeOff reports whether the phone has left a request without an answer, and was not heard since,
// nor in the time that it has for one.
func (f *flights) mayBeOff() bool { return f.queue.mayBeOff(f.timeout) }

// atOnce returns how many requests can wait for the phone at once.
func (f *flights) atOnce() int { return f.queue.places }

// takeOff notes that a flight's request is about to be written.
func (f *flights) takeOff(d *driver) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d.onWire, d.acked = true, false
	if r := f.records[d.key.id]; r != nil {
		r.unacked = append(r.unacked[max(0, len(r.unacked)-maxUnacked+1):], receipt{driver: d})
	}
}

// acked notes that the server has acknowledged a flight's last receipt, as its wire has told.
func (f *flights) acked(d *driver) {
	f.notSent(d)
	f.mu.Lock()
	d.acked = true
	f.mu.Unlock()
	f.beginNext(d.key.id)
}

// notSent undoes takeOff: nothing was written, or no ack can come any more.
func (f *flights) notSent(d *driver) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.records[d.key.id]; r != nil {
		if i := slices.IndexFunc(r.unacked, func(u receipt) bool { return u.driver == d }); i >= 0 {
			r.unacked = slices.Delete(r.unacked, i, i+1)
		}
	}
}

// wentDown forgets the acks that are outstanding: they belong to the connection that has ended.
func (f *flights) wentDown() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.records {
		r.unacked = nil
	}
	for _, r := range f.past.all {
		r.unacked = nil
	}
}

// noteSent remembers that the phone was asked, so that the next process knows if this one ends
// before there is an answer. An answer can come before the send has returned: then there is nothing
// left to remember.
func (f *flights) noteSent(d *driver) {
	f.noteAsked(d, Asked{At: time.Now().Truncate(time.Second), Outcome: outcomeUnknown, Failures: d.entry.Asked.Failures})
}

func (f *flights) noteAsked(d *driver, asked Asked) {
	f.mu.Lock()
	if d.settled {
		f.mu.Unlock()
		return
	}
	o := f.endings.get(d.key)
	o.asked, o.at = asked, time.Time{}
	f.endings.set(d.key, o)
	if r := f.records[d.key.id]; r != nil && !slices.Contains(r.open, d.key) && len(r.open) < maxOpen {
		r.open = append(r.open, d.key)
	}
	f.mu.Unlock()
	e := d.entry
	e.Asked = asked
	f.store(e)
}

// land ends a flight: it notes what was found out, which saves another request, tells the callers,
// and stores it.
func (f *flights) land(d *driver, what reading) {
	f.mu.Lock()
	what.old = !d.onWire && f.isOld(d.key) // it is the answer to an earlier request
	asked, keep, isNews := f.settle(d.key, d.entry, what, false, d.naming.err != nil)
	_, tells := outcomeOf(what)
	d.settled = tells || isOutage(what.err)
	r := f.records[d.key.id]
	r.drivers = slices.DeleteFunc(r.drivers, func(other *driver) bool { return other == d })
	for i, u := range r.unacked {
		if u.driver == d {
			r.unacked[i] = receipt{ended: time.Now()}
		}
	}
	f.count--
	f.retire(d.key.id)
	listeners := d.listeners
	f.mu.Unlock()
	for _, q := range listeners {
		q.ended(what)
	}
	f.queue.leave(d.ticket)
	f.beginNext(d.key.id)
	go func() {
		defer f.landing.Done()
		defer f.report.contain("a request's end")
		d.busy.Wait() // so that "sent" is stored before the ending
		if keep {
			f.store(d.entry.after(what, asked))
		}
		f.report.ended(d.entry, what, false, isNews)
	}()
}

// settle notes how a request ended. It returns what is known of the file from then on, and reports
// whether that is worth keeping and whether it has a new path. A late answer does not undo a path.
// If the name of the message was not certain, silence and unsealed errors do not count. It needs
// f.mu.
func (f *flights) settle(key identity, before Entry, what reading, late, uncertain bool) (asked Asked, keep, isNews bool) {
	kind, tells := outcomeOf(what)
	if uncertain && (what.err == ErrTimeout || what.err == nil && !what.bringsPath() && !what.sealed) {
		kind, tells = outcomeOutage, false
	}
	last := f.endings.get(key)
	if !tells { // it is not about the file: a context, the connection, Close
		isAway := what.err == errAway // and the answer may be waiting
		if !isAway && !isOutage(what.err) && kind != outcomeOutage || last.asked.At.IsZero() || !last.at.IsZero() {
			return before.Asked, false, false
		}
		last.asked = Asked{At: time.Now().Truncate(time.Second), Outcome: outcomeOutage, Failures: before.Asked.Failures}
		if isAway {
			last.asked.Outcome = outcomePartial
			last.asked.Failures++
		} else {
			f.close(key)
		}
		f.endings.set(key, last) // instead of what noteSent has noted
		return last.asked, true, false
	}
	if late && !what.bringsPath() && last.bringsPath() {
		return last.asked, false, false
	}
	asked = Asked{At: time.Now().Truncate(time.Second), Outcome: kind}
	if !kind.isFinal() {
		asked.Failures = before.Asked.Failures + 1
	}
	known := before.DirectPath
	if last.bringsPath() {
		known = last.result.DirectPath
	}
	f.endings.set(key, ending{reading: what, asked: asked, at: time.Now()})
	if !kind.isSilence() {
		f.close(key)
	}
	return asked, true, what.bringsPath() && what.result.DirectPath != known
}

// isOld reports whether the path in a late answer can have died since it was told: the answer has
// waited for long, or was to an earlier process. It needs f.mu.
func (f *flights) isOld(key identity) bool {
	return time.Since(f.endings.get(key).asked.At) > time.Hour
}

// isOutage reports whether a request has ended because the bot's own connection went before the
// server had it.
func isOutage(err error) bool {
	return errors.Is(err, whatsmeow.ErrNotConnected) && err != errAway
}

// close notes that a request has its answer. It needs f.mu.
func (f *flights) close(key identity) {
	r := f.records[key.id]
	if r == nil {
		r = f.past.get(key.id)
	}
	if r != nil {
		r.open = slices.DeleteFunc(r.open, func(other identity) bool { return other == key })
	}
}

// recall completes what an index knows of a file with what this process knows. An index can fail,
// or be slow. It reports whether the phone has told the path a moment ago and it was not given its
// time so far: the callers that got it may have left before they could know.
func (f *flights) recall(key identity, e *Entry) (isFresh bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range [...]identity{key, key.withoutFile()} {
		o := f.endings.get(k)
		if o.bringsPath() && (e.DirectPath == "" || !o.asked.At.Before(e.Asked.At)) {
			e.DirectPath = o.result.DirectPath
		}
		if k == key && !o.asked.At.IsZero() && (!o.asked.At.Before(e.Asked.At) || time.Until(e.Asked.At) > maxSkew) {
			e.Asked = o.asked
		}
	}
	o := f.endings.get(key)
	return o.bringsPath() && o.result.DirectPath == e.DirectPath && !o.tried && !o.old && time.Since(o.at) < shortPause
}

// tried notes that the path which an answer has brought was given its time, and whether it leads to
// the file.
func (f *flights) tried(who candidate, path string, leads bool) {
	f.mu.Lock()
	if o := f.endings.get(who.key); o.bringsPath() && o.result.DirectPath == path {
		o.tried = true
		f.endings.set(who.key, o)
	}
	f.mu.Unlock()
	if leads {
		f.queue.found(who.source())
	}
}

// useless notes that the path which an answer has brought does not lead to the file. Another answer
// may have brought a better one meanwhile.
func (f *flights) useless(e Entry, key identity, path string, cause error) {
	if !errors.Is(cause, ErrInvalidAnswer) {
		return
	}
	what := reading{err: cause}
	f.mu.Lock()
	if o := f.endings.get(key); !o.bringsPath() || o.result.DirectPath != path {
		f.mu.Unlock()
		return
	}
	asked, keep, _ := f.settle(key, e, what, false, false)
	f.mu.Unlock()
	if keep {
		f.spawn(func() { f.store(e.after(what, asked)) })
	}
}

// answer is the one way in for answers, from the goroutine that reads the socket: it never blocks.
// A sealed answer is for the flight whose key opens it, and if there is none, for a message that
// the index knows. One that comes again, after a break, does no harm.
func (f *flights) answer(a answer) {
	f.mu.Lock()
	if f.taken.get(a.tag()) {
		f.mu.Unlock()
		return
	}
	var drivers []*driver
	byBot := false
	if r := f.records[a.id]; r != nil {
		drivers = slices.Clone(r.drivers)
	}
	for _, r := range [...]*idRecord{f.records[a.id], f.past.get(a.id)} {
		if r != nil {
			byBot = byBot || !r.byBot.IsZero()
			r.byBot = time.Time{}
		}
	}
	f.mu.Unlock()
	f.queue.heard()
	if f.deliver(a, drivers) {
		return
	}
	var waiting *driver
	for _, d := range drivers {
		if d.isOnWire() && (waiting == nil || a.isFor(d)) {
			waiting = d
		}
	}
	if a.isError && !byBot {
		f.offer(waiting, a)
		return
	}
	f.spawn(func() { f.late(a, waiting, byBot) })
}

// deliver hands a sealed answer to the flight whose media key opens it, and reports whether there
// is one. Members of a group can make several flights have one key: then it is the flight that the
// answer names.
func (f *flights) deliver(a answer, drivers []*driver) bool {
	slices.SortStableFunc(drivers, func(x, y *driver) int { return btoi(a.isFor(y)) - btoi(a.isFor(x)) })
	for _, d := range drivers {
		r, opened := a.read(d.cipher)
		if opened && (len(drivers) == 1 || r.bringsPath() || a.isFor(d) || a.chat.IsEmpty()) && d.happen(event{what: answered, reading: r}) {
			f.take(a)
			f.queue.answered(d.ticket.source)
			return true
		}
	}
	return false
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (f *flights) take(a answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.taken.set(a.tag(), true)
}

// offer hands an answer that is not sealed, or that no key opens, to the flight that waits for one,
// but only if no other request can match: anybody can provoke such an answer.
func (f *flights) offer(d *driver, a answer) {
	if d != nil && d.hasChat(a.chat) && f.claim(d.key, a.stamp) && d.happen(event{what: answered, reading: a.unsealed()}) {
		f.queue.answered(d.ticket.source)
		return
	}
	f.spawn(func() { f.report.log.Debugf("Ignoring an answer for %q, which nothing vouches for", a.id) })
}

// claim reports whether an unsealed answer under a message id must belong to a request: no other
// request under the id waits for an answer, and it is not a repeat of an answer that another
// request has accepted.
func (f *flights) claim(key identity, stamp string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.records[key.id]
	if r == nil {
		return false
	}
	again := r.stamp == stamp && r.last != key
	if again || len(r.open) > 1 || len(r.open) == 1 && r.open[0] != key {
		return false
	}
	r.last, r.stamp = key, stamp
	return true
}

// late uses an answer with what the index knows of its message. If no entry opens it either, it is
// for the flight that waited when it came. An error is used if the bot itself has asked and the
// index knows exactly one file under the id.
func (f *flights) late(a answer, waiting *driver, byBot bool) {
	select { // not a mutex, as the index may take its time
	case f.lateAnswers <- struct{}{}:
		defer func() { <-f.lateAnswers }()
	case <-f.root.Done():
		return
	}
	known := f.underID(f.root, a.id)
	if a.isError {
		if waiting == nil && byBot && len(known) == 1 {
			f.keep(known[0], a.unsealed())
			return
		}
		f.offer(waiting, a)
		return
	}
	var opened []candidate
	var what reading
	for _, c := range known {
		cipher, err := newRetryCipher(c.entry.MediaKey)
		if err != nil {
			continue
		}
		if r, ok := a.read(cipher); ok {
			what = r
			opened = append(opened, c)
		}
	}
	if len(opened) == 0 {
		f.offer(waiting, a)
		return
	}
	f.take(a)
	if what.err != nil {
		f.report.log.Debugf("Ignoring a late answer for %q: %v", a.id, what.err)
		return
	}
	// A path is checked against the hash of the file before it counts, so a wrong one does no harm.
	// A refusal belongs to the message that the answer names.
	for _, c := range opened {
		if what.bringsPath() || len(opened) == 1 || a.names(c.entry.Chat, c.entry.Participant) || a.names(c.key.chat, c.key.participant) {
			f.keep(c, what)
		}
	}
	f.queue.answered(opened[0].source())
}

// keep keeps an answer that comes when no caller waits any more.
func (f *flights) keep(c candidate, what reading) {
	f.mu.Lock()
	what.old = f.isOld(c.key)
	asked, keep, isNews := f.settle(c.key, c.entry, what, true, false)
	f.mu.Unlock()
	if keep {
		f.store(c.entry.after(what, asked))
	}
	f.report.ended(c.entry, what, true, isNews)
}

// ack takes the server's ack of a request, from the goroutine that reads the socket: it never
// blocks. If none of our requests waits for an ack, the bot has asked for the message by itself.
func (f *flights) ack(node *waBinary.Node) {
	id, _ := node.Attrs["id"].(string)
	if id == "" || len(id) > maxMessageID {
		return
	}
	err := ackError(node)
	f.mu.Lock()
	r := f.records[id]
	if r == nil {
		r = f.past.get(id)
	}
	if r != nil && len(r.unacked) > 0 {
		i := max(0, slices.IndexFunc(r.unacked, func(u receipt) bool { return !u.isLost() }))
		d := r.unacked[i].driver
		r.unacked = slices.Delete(r.unacked, i, i+1)
		if d != nil {
			d.acked = true
		}
		f.mu.Unlock()
		if d != nil {
			d.happen(ackEvent(err))
			f.beginNext(id)
		}
		return
	}
	f.mu.Unlock()
	if err == nil {
		f.spawn(func() { f.foreign(id) })
	}
}

func ackEvent(err error) event {
	if err != nil {
		return event{what: refused, err: err}
	}
	return event{what: acknowledged}
}

// foreign notes that the bot itself has asked for a message.
func (f *flights) foreign(id types.MessageID) {
	known := f.underID(f.root, id)
	isPart := slices.ContainsFunc(known, func(c candidate) bool { return c.entry.isPart() })
	isMedia := len(known) > 0 && !isPart
	f.mu.Lock()
	r := f.record(id)
	r.byBot = time.Now()
	var first *driver
	if len(r.drivers) > 0 {
		first = r.drivers[0]
	}
	f.retire(id)
	learned := isMedia && !f.asksOwn && time.Now().After(f.learns)
	f.asksOwn = f.asksOwn || learned
	f.asksFor = f.asksFor || isPart && time.Now().After(f.learns)
	f.mu.Unlock()
	if first != nil && !first.isOnWire() {
		first.happen(event{what: askedElsewhere})
	}
	if learned {
		f.report.asksItself()
	}
}

// botAsks reports whether the bot asks the phone for media by itself.
func (f *flights) botAsks() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asksOwn
}

// isAwaited reports whether an earlier process has asked for a file so lately that the answer may
// be about to come.
func (f *flights) isAwaited(e *Entry) bool {
	return e.Asked.Outcome == outcomeUnknown && !e.Asked.At.IsZero() && time.Since(e.Asked.At).Abs() < f.timeout
}

// botAsksForParts is botAsks for parts of the history.
func (f *flights) botAsksForParts() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asksFor
}

// arrived notes that what was asked for has come in another way than an answer.
func (f *flights) arrived(c candidate, what reading) {
	f.mu.Lock()
	d := f.find(c.key)
	f.mu.Unlock()
	if d == nil || !d.happen(event{what: answered, reading: what}) {
		f.keep(c, what)
	}
}

// botWaits reports whether the bot has just asked for a message by itself, and has no answer yet.
func (f *flights) botWaits(id types.MessageID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range [...]*idRecord{f.records[id], f.past.get(id)} {
		if r != nil && !r.byBot.IsZero() && time.Since(r.byBot) < f.timeout {
			return true
		}
	}
	return false
}

// answersTo notes that the phone has answered to the likeliest name of an account, so that the
// other name need not be tried.
func (f *flights) answersTo(account types.JID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.named = account
}

func (f *flights) isNamed(account types.JID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.named == account
}

// tell passes an event to every flight.
func (f *flights) tell(e event) {
	f.mu.Lock()
	var all []*driver
	for _, r := range f.records {
		all = append(all, r.drivers...)
	}
	f.mu.Unlock()
	for _, d := range all {
		d.happen(e)
	}
}

// waiting returns how many flights there are, queued ones too.
func (f *flights) waiting() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count
}

// shut ends every flight with ErrClosed, and starts no more.
func (f *flights) shut() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.tell(event{what: aborted, err: ErrClosed})
}

// after returns what is known of a file after a request for it.
func (e Entry) after(r reading, asked Asked) Entry {
	e.Asked = asked
	if r.bringsPath() {
		e.DirectPath = r.result.DirectPath
	}
	return e
}
