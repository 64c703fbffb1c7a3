package reupload

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// pending is who waits for the phone. All who wait for the same file of the same message share one
// flight. Of the flights under one message id, only the first is on the wire: nothing but the id
// says which request an ack or an error is for.
type pending struct {
	sender  line
	queue   *queue
	ledger  *ledger
	timeout time.Duration
	root    context.Context

	// store keeps what is known of a file. It must take bounded time.
	store func(Entry)
	// report tells the log and the bot how a flight ended. Late means that its callers had been
	// told otherwise before.
	report func(e Entry, r reading, late, isNews bool)

	flying  sync.WaitGroup // flights that have not landed
	mu      sync.Mutex
	closed  bool
	drivers map[types.MessageID][]*driver // the first is on the wire, or about to be
}

// A line is what a flight needs of the connection, see [sender].
type line interface {
	ownID() types.JID
	addresses(ctx context.Context, req Request) []address
	send(ctx context.Context, req Request, addr address, c retryCipher) (wire, error)
	watch() wire
	nextAck(id types.MessageID) <-chan *waBinary.Node
	reconnecting() bool
	isOnline() bool
}

// A question is what a caller asks the phone.
type question struct {
	entry Entry
	key   identity
	lane  lane
	since time.Time // how a flight has ended since then is an answer to this, too
	// patience returns how long the caller can wait, and with which error it then leaves the
	// request to the next one: errInHandler or ErrHandlerBlocked. nil for as long as it takes.
	patience func() (time.Duration, error)
}

// asksAgain reports whether a flight has ended for a reason that is another caller's,
// before anything was sent: its last caller had left in the moment in which this one came,
// or was in a hurry.
func (q question) asksAgain(err error) bool {
	return err == errNobodyWaits || q.lane == backfill && (err == ErrPhoneSilent || err == ErrBusy)
}

// promptAnswer is how long a caller waits for the phone before it sees whether it can wait at all,
// which takes longer than some answers.
const promptAnswer = 50 * time.Millisecond

// errInHandler means that an event handler has waited long enough.
var errInHandler = fmt.Errorf("%w (an event handler waits no longer than Options.HandlerTimeout; the request goes on)", ErrTimeout)

// ask waits for the phone's answer, sending a request if none is on its way. A request that was
// sent stays until its deadline, so that a caller who gives up leaves it to the next one.
//
// The error is the context's, ErrTimeout, ErrPhoneSilent, ErrBusy, ErrRejected, ErrInvalidAnswer,
// ErrHandlerBlocked, ErrClosed, whatsmeow.ErrNotLoggedIn or whatsmeow.ErrNotConnected.
func (p *pending) ask(ctx context.Context, q question) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	d, done, err := p.join(q)
	if err != nil {
		return Result{}, err
	}
	if d == nil {
		return done.result, done.err
	}
	if q.lane == live {
		d.hurry()
		if first := p.first(q.key.id); first != d && first != nil { // which d waits for
			p.queue.hurry(first.ticket)
		}
	}
	p.beginNext(q.key.id)
	return p.await(ctx, d, q)
}

// await waits for a flight to end, for as long as the caller can.
func (p *pending) await(ctx context.Context, d *driver, q question) (Result, error) {
	timer := time.NewTimer(promptAnswer)
	defer timer.Stop()
	silence := p.queue.becomesSilent()
	var silent <-chan struct{}
	var impatient error
	for {
		select {
		case <-d.done:
			if q.asksAgain(d.ending.err) {
				return p.ask(ctx, q)
			}
			return d.ending.result, d.ending.err
		case <-ctx.Done():
			p.leave(d)
			return Result{}, ctx.Err()
		case <-timer.C:
			if impatient != nil { // the next one finds the answer
				return Result{}, impatient
			}
			if q.patience != nil {
				var limit time.Duration
				if limit, impatient = q.patience(); impatient != nil {
					timer.Reset(limit)
					silent = silence
				}
			}
		case <-silent: // who holds up a queue does not wait for what others wait for in vain
			return Result{}, errInHandler
		}
	}
}

// join finds the flight of a file or starts it, unless one has just ended.
func (p *pending) join(q question) (*driver, reading, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, reading{}, ErrClosed
	}
	for _, d := range p.drivers[q.key.id] {
		if d.key == q.key {
			d.callers++
			return d, reading{}, nil
		}
	}
	if r, ended := p.ledger.since(q.key, q.since); ended {
		return nil, r, nil
	}
	c, err := newRetryCipher(q.entry.MediaKey)
	if err != nil {
		return nil, reading{}, err
	}
	d := newDriver(p, q, c)
	p.drivers[q.key.id] = append(p.drivers[q.key.id], d)
	p.flying.Add(1)
	return d, reading{}, nil
}

// knows reports whether a request for a file is on its way, or has ended since a moment.
func (p *pending) knows(key identity, since time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ended := p.ledger.since(key, since)
	return ended || slices.ContainsFunc(p.drivers[key.id], func(d *driver) bool { return d.key == key })
}

// first returns the flight that may be on the wire under a message id, or nil.
func (p *pending) first(id types.MessageID) *driver {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.drivers[id]) == 0 {
		return nil
	}
	return p.drivers[id][0]
}

// beginNext begins the flight that may now be on the wire under a message id, if there is one and
// it has not begun.
func (p *pending) beginNext(id types.MessageID) {
	p.mu.Lock()
	drivers := p.drivers[id]
	if len(drivers) == 0 || drivers[0].begun {
		p.mu.Unlock()
		return
	}
	drivers[0].begun = true
	p.mu.Unlock()
	drivers[0].begin()
}

// leave is for a caller who waits no more.
func (p *pending) leave(d *driver) {
	p.mu.Lock()
	d.callers--
	abandons := d.callers == 0
	p.mu.Unlock()
	if abandons {
		d.happen(event{what: abandoned})
	}
}

// end takes a driver off the list and tells its callers. What it has found out is noted before, so
// that nobody asks again.
func (p *pending) end(d *driver, r reading) (asked Asked, keep, isNews bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	asked, keep, isNews = p.ledger.settle(d.key, d.entry, r, false)
	d.settled = keep
	id := d.key.id
	p.drivers[id] = slices.DeleteFunc(p.drivers[id], func(other *driver) bool { return other == d })
	if len(p.drivers[id]) == 0 {
		delete(p.drivers, id)
	}
	d.ending = r
	close(d.done)
	return asked, keep, isNews
}

// deliver hands a sealed answer to the flight whose media key opens it, and reports whether there
// is one. Else the flight that is on the wire under its message id is returned, if there is one:
// only who knows better can tell what the answer is about. It never blocks.
func (p *pending) deliver(a answer) (taken bool, waiting *driver) {
	p.mu.Lock()
	drivers := slices.Clone(p.drivers[a.id])
	p.mu.Unlock()
	for _, d := range drivers {
		if r, opened := a.read(d.cipher); opened && d.happen(event{what: answered, reading: r}) {
			p.ledger.take(a)
			return true, nil
		}
	}
	if len(drivers) > 0 {
		waiting = drivers[0]
	}
	return false, waiting
}

// offer hands an answer that is not sealed, or that nobody can open, to the flight that waits for
// one, if it must be the answer to its request: anybody can provoke one. It never blocks.
func (p *pending) offer(d *driver, a answer) bool {
	p.mu.Lock()
	names := d.onWire && slices.Contains(d.chats, a.chat)
	p.mu.Unlock()
	if !names || !p.ledger.claim(d.key, a.stamp) {
		return false
	}
	return d.happen(event{what: answered, reading: a.unsealed()})
}

// deliverAck hands an ack for a server-error receipt to the flight that waits for it. If none does,
// the bot has asked for the message by itself. It never blocks.
func (p *pending) deliverAck(ack *waBinary.Node) {
	id, _ := ack.Attrs["id"].(string)
	err := ackError(ack)
	p.mu.Lock()
	var d *driver
	if drivers := p.drivers[id]; len(drivers) > 0 {
		d = drivers[0]
	}
	own := d != nil && d.onWire
	p.mu.Unlock()
	switch {
	case own:
		d.happen(ackEvent(err))
	case err != nil || len(id) > maxMessageID || p.ledger.isOwn(id):
	default:
		p.ledger.askedByBot(id, true)
		if d != nil {
			d.happen(event{what: askedElsewhere})
		}
	}
}

func ackEvent(err error) event {
	if err != nil {
		return event{what: refused, err: err}
	}
	return event{what: acknowledged}
}

// tell lets every flight know that something has happened to all of them.
func (p *pending) tell(e event) {
	for _, d := range p.all() {
		d.happen(e)
	}
}

func (p *pending) all() (all []*driver) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, drivers := range p.drivers {
		all = append(all, drivers...)
	}
	return all
}

// waiting returns how many flights there are, queued ones too.
func (p *pending) waiting() int { return len(p.all()) }

// close ends every flight with ErrClosed, and starts no more.
func (p *pending) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.tell(event{what: aborted, err: ErrClosed})
}

// late keeps an answer that comes when nobody waits any more.
func (p *pending) late(e Entry, key identity, r reading) {
	asked, keep, isNews := p.ledger.settle(key, e, r, true)
	if keep {
		p.store(e.after(r, asked))
	}
	p.report(e, r, true, isNews)
}

// settle keeps what came out of an answer after its flight had ended.
func (p *pending) settle(e Entry, key identity, r reading) {
	if asked, keep, _ := p.ledger.settle(key, e, r, false); keep {
		p.store(e.after(r, asked))
	}
}

// after returns what is known of a file after a request for it.
func (e Entry) after(r reading, asked Asked) Entry {
	e.Asked = asked
	if r.bringsPath() {
		e.DirectPath = r.result.DirectPath
	}
	return e
}
