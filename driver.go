package reupload

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// A driver flies one flight: it turns nodes, timers and what whatsmeow does into events, and does
// what the flight says. It has no goroutine of its own. Whoever brings an event takes the step,
// under the driver's lock, and does what follows from it without; an answer reaches its callers
// straight from the goroutine that has read it.
type driver struct {
	pending *pending
	entry   Entry
	key     identity
	cipher  retryCipher
	ticket  *ticket
	ctx     context.Context // ends with the flight
	cancel  context.CancelFunc

	callers int         // guarded by pending.mu, as are the next four
	begun   bool        // it was lined up
	settled bool        // the ledger knows how it has ended
	onWire  bool        // a request was sent, by us or by the bot
	chats   []types.JID // the ways in which an answer can name the chat

	mu                          sync.Mutex // guards the flight and the next two lines
	flight                      flight
	hurries                     bool // a live caller waits, and there is a deadline before it is sent
	deadline, form, grace, look alarm

	forms   []address      // set before the first form is sent
	written atomic.Bool    // the form that was sent last has gone to the socket
	busy    sync.WaitGroup // goroutines that send or watch

	done   chan struct{} // closed when the ending is set
	ending reading
}

func newDriver(p *pending, q question, c retryCipher) *driver {
	d := &driver{pending: p, entry: q.entry, key: q.key, cipher: c, callers: 1, done: make(chan struct{})}
	d.ctx, d.cancel = context.WithCancel(p.root)
	d.ticket = &ticket{lane: q.lane, call: d.placed}
	return d
}

// hurry makes sure that a live caller does not wait as backfill does, which has all the
// time there is.
func (d *driver) hurry() {
	d.mu.Lock()
	if d.flight.phase == queued && !d.hurries {
		d.hurries = true
		d.alarm(&d.deadline, d.pending.timeout, deadline)
	}
	d.mu.Unlock()
	d.pending.queue.hurry(d.ticket)
}

// begin lines the flight up, once: no other one under its message id is on the wire.
func (d *driver) begin() {
	p := d.pending
	if at := p.ledger.botAsked(d.key.id); !at.IsZero() && time.Since(at) < p.timeout {
		d.happen(event{what: askedElsewhere})
		return
	}
	p.queue.enter(d.ticket)
}

func (d *driver) placed(err error) {
	if err != nil {
		d.happen(event{what: aborted, err: err})
	} else if !d.happen(event{what: placed}) {
		d.pending.queue.leave(d.ticket) // it has ended meanwhile
	}
}

// happen tells the flight what has happened, and does what it says. It reports whether the flight
// had not ended before. It never blocks.
func (d *driver) happen(e event) bool {
	d.mu.Lock()
	return d.step(e)
}

// step takes one step. It needs d.mu, and gives it back.
func (d *driver) step(e event) bool {
	before := d.flight.phase
	if e.what == deadline && d.written.Load() {
		d.flight.step(event{what: written})
	}
	a := d.flight.step(e)
	after, form := d.flight.phase, d.flight.form
	takesOff := before == queued && (after == sent || after == acked)
	watches := after == acked && (before == held || before == queued) // on a wire that the request did not go out on
	d.setAlarms(a, before, after, takesOff)
	if a.send || watches {
		d.busy.Add(1)
	}
	d.mu.Unlock()

	if takesOff {
		d.takeOff()
	}
	if before == queued && after == acked { // the bot's own request waits for the phone, and ours needs no place
		d.pending.queue.leave(d.ticket)
	}
	if a.send {
		go d.send(form)
	} else if watches {
		go d.watchAgain(before == queued)
	}
	if a.end != nil {
		d.land(*a.end)
	}
	return before != ended
}

// watchPause is how often it is seen whether whatsmeow still means to reconnect: nobody is told
// when the bot disconnects.
const watchPause = 250 * time.Millisecond

// setAlarms starts and stops the timers. It needs d.mu.
func (d *driver) setAlarms(a actions, before, after phase, takesOff bool) {
	if takesOff { // the phone has its time from now on
		d.alarm(&d.deadline, d.pending.timeout, deadline)
	}
	if a.startForm {
		d.alarm(&d.form, formPause, formDue)
	}
	if a.startGrace {
		d.alarm(&d.grace, resendPause, graceOver)
	}
	switch {
	case after == ended:
		for _, a := range [...]*alarm{&d.deadline, &d.form, &d.grace, &d.look} {
			a.stop()
		}
	case after == offline && before != offline:
		d.look.set(watchPause, d.lookAround)
	case after != offline:
		d.look.stop()
	}
}

// alarm makes something happen after a while. It needs d.mu.
func (d *driver) alarm(a *alarm, after time.Duration, what happening) {
	n := a.n + 1
	a.set(after, func() {
		if d.mu.Lock(); a.n != n { // it was set anew in this moment
			d.mu.Unlock()
			return
		}
		if what == formDue && d.pending.queue.mayBeOff() { // it would keep both, and answer both
			d.mu.Unlock()
			return
		}
		d.step(event{what: what})
	})
}

// takeOff notes that a request is on the wire.
func (d *driver) takeOff() {
	d.pending.mu.Lock()
	defer d.pending.mu.Unlock()
	d.onWire = true
	d.chats = append(d.chats, d.entry.Chat)
}

// lost returns what it means that there is no connection.
func (d *driver) lost() event {
	switch s := d.pending.sender; {
	case s.ownID().IsEmpty():
		return event{what: aborted, err: whatsmeow.ErrNotLoggedIn}
	case s.reconnecting():
		return event{what: gone}
	}
	return event{what: down, err: whatsmeow.ErrNotConnected}
}

// lookAround sees while the flight is offline whether that may change. A login may have been
// missed, and nobody tells of an end.
func (d *driver) lookAround() {
	switch e := d.lost(); {
	case e.what != gone:
		d.happen(e)
	case d.pending.sender.isOnline():
		d.happen(event{what: loggedIn})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight.phase == offline {
		d.look.set(watchPause, d.lookAround)
	}
}

// send writes one form of the request to the socket, and watches what becomes of that. It has
// a goroutine of its own, because whatsmeow can hold it up: in a query for the group, and
// while it dials.
func (d *driver) send(form int) {
	defer d.busy.Done()
	p := d.pending
	d.written.Store(false)
	if d.forms == nil {
		d.nameForms()
	}
	d.happen(event{what: named, forms: len(d.forms), alike: areAlike(d.forms)})
	if d.ctx.Err() != nil {
		return
	}
	w, err := p.sender.send(d.ctx, d.entry.Request, d.forms[form], d.cipher)
	defer w.release()
	switch {
	case err == nil:
		d.written.Store(true)
		p.queue.sent()
		d.noteSent()
		d.watch(w)
	case d.ctx.Err() != nil:
	case errors.Is(err, errInterrupted):
		d.happen(event{what: sendFailed})
	case errors.Is(err, whatsmeow.ErrNotLoggedIn):
		d.happen(event{what: aborted, err: err})
	default:
		d.happen(event{what: down, err: err})
	}
}

// watchAgain watches a wire that the request did not go out on: the one of the next connection, or
// of the bot's own request.
func (d *driver) watchAgain(sentByBot bool) {
	defer d.busy.Done()
	w := d.pending.sender.watch()
	defer w.release()
	if sentByBot {
		d.noteSent()
		d.nameForms()
	}
	d.watch(w)
}

// watch tells the flight of acks, if the tap does not, and of the end of the connection.
func (d *driver) watch(w wire) {
	for {
		select {
		case ack := <-w.acks:
			if isRequestAck(ack) {
				w.acks = nil
				d.happen(ackEvent(ackError(ack)))
			} else { // of another receipt for the message, such as that of its delivery
				w.acks = d.pending.sender.nextAck(d.key.id)
			}
		case <-w.gone:
			d.happen(d.lost())
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// nameForms finds the ways to name the message.
func (d *driver) nameForms() {
	d.forms = d.pending.sender.addresses(d.ctx, d.entry.Request)
	if areAlike(d.forms) && d.pending.ledger.isNamed(d.key.account) {
		d.forms = d.forms[:1]
	}
	d.pending.mu.Lock()
	defer d.pending.mu.Unlock()
	for _, addr := range d.forms {
		d.chats = append(d.chats, addr.chat)
	}
}

// noteSent remembers that the phone was asked. If the process ends before there is an answer, the
// next one knows. An answer can come before the send has returned: then there is nothing to
// remember any more.
func (d *driver) noteSent() {
	p, e := d.pending, d.entry
	p.mu.Lock()
	if d.settled {
		p.mu.Unlock()
		return
	}
	e.Asked = p.ledger.sent(d.key, e.Asked)
	p.mu.Unlock()
	p.store(e)
}

// land ends the flight: it tells the callers and lets the next one go, and then keeps what
// was found out.
func (d *driver) land(r reading) {
	p := d.pending
	d.cancel()
	if r.err == ErrTimeout { // the phone's, and nobody else's
		p.queue.timedOut()
	}
	if r.bringsPath() && d.flight.form == 0 { // it has ended, and does not change any more
		p.ledger.answersTo(d.key.account)
	}
	asked, keep, isNews := p.end(d, r)
	p.queue.leave(d.ticket)
	p.beginNext(d.key.id)
	go func() {
		defer p.flying.Done()
		d.busy.Wait() // what was sent is stored before how it ended
		if keep {
			p.store(d.entry.after(r, asked))
		}
		p.report(d.entry, r, false, isNews)
	}()
}

// An alarm is a timer that can be set anew.
type alarm struct {
	timer *time.Timer
	n     int // how often it was set or stopped
}

func (a *alarm) set(after time.Duration, f func()) {
	a.stop()
	a.timer = time.AfterFunc(after, f)
}

func (a *alarm) stop() {
	a.n++
	if a.timer != nil {
		a.timer.Stop()
	}
}
