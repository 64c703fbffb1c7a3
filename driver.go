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

// A driver flies one flight: it turns nodes, timers and changes of the connection into events, and
// does what the flight says. It has no goroutine of its own. The goroutine that brings an event
// takes the step under the driver's lock, and acts on it after unlocking. So an answer reaches its
// callers straight from the goroutine that has read it.
type driver struct {
	flights *flights
	entry   Entry
	key     identity
	cipher  retryCipher
	ticket  *ticket
	awaits  bool            // an earlier process has sent the request
	ctx     context.Context // ends with the flight
	cancel  context.CancelFunc

	// Guarded by flights.mu.
	callers   int
	listeners []question
	begun     bool   // it was lined up
	settled   bool   // it has ended so that a request which goes out late need not be remembered
	onWire    bool   // a request was sent, by us or by the bot
	acked     bool   // and the server has acknowledged the last one
	isQuiet   bool   // and the phone has been silent since, for a while
	naming    naming // empty until it was looked for
	names     []address

	mu                          sync.Mutex // guards the flight and the next two lines
	flight                      flight
	hurries                     bool // a live caller waits: the deadline holds before the send, too
	deadline, form, grace, look alarm

	written atomic.Bool    // the form that was sent last has gone to the socket
	busy    sync.WaitGroup // goroutines that send or watch
}

func newDriver(f *flights, q question, c retryCipher) *driver {
	d := &driver{flights: f, entry: q.entry, key: q.key, cipher: c, callers: 1, listeners: []question{q}}
	d.awaits = !q.insists && f.isAwaited(&q.entry)
	d.ctx, d.cancel = context.WithCancel(f.root)
	d.ticket = &ticket{lane: q.lane, source: q.source, byBot: q.byBot, insists: q.insists, call: d.placed}
	return d
}

// hurry sets a deadline for a live caller, since backfill waits for its turn without one.
func (d *driver) hurry() {
	d.mu.Lock()
	if d.flight.phase == queued && !d.hurries {
		d.hurries = true
		d.alarm(&d.deadline, d.flights.timeout, deadline)
	}
	d.mu.Unlock()
	d.flights.queue.hurry(d.ticket)
}

// begin lines the flight up, once.
func (d *driver) begin() {
	if !d.ticket.insists && (d.awaits || d.flights.botWaits(d.key.id)) {
		d.happen(event{what: askedElsewhere})
		return
	}
	d.flights.queue.enter(d.ticket)
}

func (d *driver) placed(err error) {
	if err != nil {
		d.happen(event{what: aborted, err: err})
	} else if !d.happen(event{what: placed}) {
		d.flights.queue.leave(d.ticket) // it has ended meanwhile
	}
}

// isOnWire reports whether a request was sent, by us or by the bot.
func (d *driver) isOnWire() bool {
	d.flights.mu.Lock()
	defer d.flights.mu.Unlock()
	return d.onWire
}

// isNamed reports whether the names for the request are known.
func (d *driver) isNamed() bool {
	d.flights.mu.Lock()
	defer d.flights.mu.Unlock()
	return len(d.names) > 0
}

// hasChat reports whether a request was sent that uses this name for its chat.
func (d *driver) hasChat(chat types.JID) bool {
	d.flights.mu.Lock()
	defer d.flights.mu.Unlock()
	for _, name := range d.names {
		if name.chat == chat {
			return d.onWire
		}
	}
	return false
}

// happen tells the flight what has happened, and does what it says. It reports whether the flight
// was still going on before. It never blocks.
func (d *driver) happen(e event) bool {
	d.mu.Lock()
	return d.step(e)
}

// step takes one step. It needs d.mu, and unlocks it.
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

	if before == queued && after == acked {
		d.flights.queue.sentElsewhere(d.ticket)
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

// watchPause is how often we look whether whatsmeow still means to reconnect: there is no event
// for a bot that disconnects by itself.
const watchPause = 250 * time.Millisecond

// setAlarms starts and stops the timers. It needs d.mu.
func (d *driver) setAlarms(a actions, before, after phase, takesOff bool) {
	if takesOff { // the phone's time begins now
		d.alarm(&d.deadline, d.flights.timeout, deadline)
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
		e := event{what: what}
		if what == deadline && !d.isNamed() {
			e.offline = !d.flights.line.isOnline()
		}
		if d.mu.Lock(); a.n != n { // it was set again in this moment
			d.mu.Unlock()
			return
		}
		if what == formDue {
			d.mu.Unlock()
			d.fallQuiet()
			return
		}
		d.step(e)
	})
}

// fallQuiet tells the callers that the server has the request and the phone is silent so far, and
// tries the next form. The server would keep both forms for a phone that is off, which would later
// answer both. So if the phone may be off, the next form is tried only if the first name may be
// wrong; and one that is spare is not tried after silence at all.
func (d *driver) fallQuiet() {
	d.flights.mu.Lock()
	d.isQuiet = true
	listeners := d.listeners
	d.flights.mu.Unlock()
	for _, q := range listeners {
		if q.quiet != nil {
			q.quiet()
		}
	}
	mayBeOff := d.flights.queue.mayBeOff(formPause) // since the server has had this request
	n := d.named()
	if n.differs() {
		mayBeOff = d.flights.queue.isSilent(d.ticket.source)
	}
	if !mayBeOff && !n.spare {
		d.happen(event{what: formDue})
	}
}

// lost returns the event for a connection that is not there.
func (d *driver) lost() event {
	pn, _ := d.flights.line.own()
	switch {
	case pn.IsEmpty():
		return event{what: aborted, err: errNotLoggedIn}
	case d.flights.line.reconnecting():
		return event{what: gone}
	}
	return event{what: down, err: whatsmeow.ErrNotConnected}
}

// lookAround checks, while the flight is offline, whether the connection is back or given up: a
// login may have been missed, and no event tells that whatsmeow no longer reconnects.
func (d *driver) lookAround() {
	switch e := d.lost(); {
	case e.what != gone:
		d.happen(e)
	case d.flights.line.isOnline():
		d.happen(event{what: loggedIn})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.flight.phase == offline {
		d.look.set(watchPause, d.lookAround)
	}
}

// send writes one form of the request to the socket, and watches for its ack. It has a goroutine
// of its own, because whatsmeow can hold it up: in a query for the group, and while it dials.
func (d *driver) send(form int) {
	defer d.busy.Done()
	f := d.flights
	d.written.Store(false)
	n := d.named()
	if n.forms == nil || form == 0 && n.err != nil { // there was no connection, perhaps
		n = d.nameForms()
	}
	forms := n.forms
	d.happen(event{what: named, forms: len(forms), alike: areAlike(forms)})
	if d.ctx.Err() != nil {
		return
	}
	f.takeOff(d)
	w, err := f.line.send(d.ctx, d.entry.Request, forms[form], d.cipher)
	defer w.release()
	if err == nil {
		d.written.Store(true)
		f.queue.sent()
		f.noteSent(d)
		d.watch(w)
		return
	}
	if d.ctx.Err() != nil { // whatsmeow may write it all the same
		return
	}
	f.notSent(d)
	switch {
	case errors.Is(err, errInterrupted):
		d.happen(event{what: sendFailed})
	case errors.Is(err, whatsmeow.ErrNotLoggedIn):
		d.happen(event{what: aborted, err: err})
	default:
		d.happen(event{what: down, err: err})
	}
}

// watchAgain watches a wire on which we did not send the request: that of the next connection, or
// of the bot's or an earlier process's request.
func (d *driver) watchAgain(sentElsewhere bool) {
	defer d.busy.Done()
	w := d.flights.line.watch()
	defer w.release()
	if sentElsewhere {
		d.flights.mu.Lock()
		d.onWire, d.acked = true, true
		d.flights.mu.Unlock()
		if d.awaits {
			d.flights.noteAsked(d, d.entry.Asked)
		} else {
			d.flights.noteSent(d)
		}
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
				d.flights.acked(d)
				d.happen(ackEvent(ackError(ack)))
			} else { // it is for another receipt about the message, such as that of its delivery
				w.acks = d.flights.line.nextAck(d.key.id)
			}
		case <-w.gone:
			d.happen(d.lost())
			return
		case <-d.ctx.Done():
			return
		}
	}
}

// named returns the ways to name the message that are known.
func (d *driver) named() naming {
	d.flights.mu.Lock()
	defer d.flights.mu.Unlock()
	return d.naming
}

// nameForms finds the ways to name the message.
func (d *driver) nameForms() naming {
	ctx, cancel := context.WithTimeout(d.ctx, d.flights.timeout/2) // the phone has the rest
	defer cancel()
	n := d.flights.line.addresses(ctx, d.entry.Request)
	if areAlike(n.forms) && d.flights.isNamed(d.key.account) {
		n.forms = n.forms[:1]
	}
	d.flights.mu.Lock()
	defer d.flights.mu.Unlock()
	d.naming = n
	d.names = append(append(d.names, address{chat: d.entry.Chat, participant: d.entry.Participant}), n.forms...)
	return n
}

// land ends the flight.
func (d *driver) land(r reading) {
	d.cancel()
	f := d.flights
	r.partial = d.flight.form+1 < d.flight.forms && !d.named().spare                   // it has ended, and does not change any more
	if r.err == ErrTimeout && d.named().err == nil && !d.awaits && !d.entry.isPart() { // the phone's silence, about a message that was named rightly
		f.queue.timedOut(d.ticket)
	}
	if r.bringsPath() && d.flight.form == 0 && !d.awaits {
		f.answersTo(d.key.account)
	}
	f.land(d, r)
}

// An alarm is a timer that can be set again.
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

// isFor reports whether an answer names a flight's message as one of its requests does.
func (a answer) isFor(d *driver) bool {
	d.flights.mu.Lock()
	defer d.flights.mu.Unlock()
	for _, name := range d.names {
		if a.names(name.chat, name.participant) {
			return true
		}
	}
	return false
}
