package reupload

import (
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
)

// A flight is the life of one request, and nothing else: it has no clock, lock, channel or client.
// Its driver tells it what happens, one event at a time, and does what it says. The message can
// have several forms, which are ways to name it on the wire (see address); "next" is to send the
// next one if there is any.
//
//	what happens   | queued    | sent                        | acked              | offline     | held
//	---------------+-----------+-----------------------------+--------------------+-------------+----------
//	placed         | send      |                             |                    |             |
//	askedElsewhere | → acked   |                             |                    |             |
//	named          | note      | note                        | note               | note        | note
//	sendFailed     |           | → offline                   |                    |             |
//	written        |           | note, –                     |                    |             |
//	acknowledged   |           | → acked                     |                    |             |
//	refused        |           | next, → acked, end          | next, note, end    |             |
//	answered       | end       | next, note, –, end          | next, note, –, end | –, end      | –, end
//	gone           |           | → offline                   | → held             | note, –     |
//	down           |           | end                         | → held             | end         |
//	loggedIn       |           |                             |                    | grace, –    | → acked
//	graceOver      |           |                             |                    | send, –     |
//	formDue        |           |                             | next, –, end       |             |
//	deadline       | end: busy | end: no ack/no names/no net | end: silence       | end: no net | end: away
//	abandoned      | end       |                             |                    |             |
//	aborted        | end       | end                         | end                | end         | end
//
// Each cell lists what can come of an event, depending on what was before; –, that nothing does.
// "send" is of the same form again, and "next" of the next one; "note" is to remember something,
// and "grace" to begin the time that the server has after a login. A test writes the table.
//
// An answer ends the flight if it brings a path, or says something that another form would not
// change. Any other, and a refusal, settles one form: the next one goes out, and the flight ends
// when all forms that were sent are settled, or with formDue or the deadline. The first of several
// answers stands, and is what the flight then ends with: the likeliest form goes first.
//
// At the deadline, "no ack" means that the server has not acknowledged the form that was sent last,
// "no net" that this was not even written to the socket, and "no names" that there was no form yet.
// "away" means that the server has the request, and the bot was not there for the answer. Silence
// while the connection is up is the phone's; while it is down, it is not. (A form that was not
// acknowledged says nothing of whether it is the right one, so that formDue counts from the ack.)
type flight struct {
	phase phase
	forms int  // how many there are; 0 until the first is sent
	alike bool // they differ only in how they name the account itself, so one answer is enough
	form  int  // the one that was sent last, from 0

	settled  int      // how many forms have an answer or a refusal
	standing *reading // the first answer or refusal
	stamps   []string // of the answers so far
	grace    bool     // offline: a login was seen, and the grace time runs
	written  bool     // the form that was sent last has gone to the socket
}

type phase int

const (
	queued  phase = iota // for its turn and for a place; nothing was sent
	sent                 // the last form is on its way to the server
	acked                // the server has it
	offline              // the connection went before the server had it
	held                 // the connection went after that: the server holds the answer
	ended
)

type happening int

const (
	placed         happening = iota // it may send now
	askedElsewhere                  // the bot itself, or an earlier process, has sent a request for this message
	named                           // there are event.forms forms
	sendFailed                      // the connection is down, and comes back
	written                         // the form has gone to the socket
	acknowledged
	refused   // by the server, with event.err
	answered  // with event.reading
	gone      // the connection has ended, and comes back
	down      // there is no connection, and none will come: event.err
	loggedIn  // there is one again
	graceOver // resendPause after that
	formDue   // formPause after the last form was acknowledged
	deadline
	abandoned // no caller waits any more
	aborted   // with event.err
)

// An event is what happens to a flight.
type event struct {
	what    happening
	forms   int
	alike   bool
	reading reading
	err     error
	offline bool // there is no connection at the deadline
}

// Actions are what a driver has to do after an event. All of them can come together.
type actions struct {
	send       bool // the form flight.form
	startForm  bool // the timer for formDue, from its beginning
	startGrace bool // the timer for graceOver
	end        *reading
}

const (
	// resendPause is how long after a login the server has time to deliver an answer that it held,
	// before the receipt is sent again, which would make the phone upload the file a second time.
	resendPause = 500 * time.Millisecond
	// formPause is how long a form that was acknowledged has to be answered before the next one
	// is tried. A phone that cannot match a request stays silent; one that can answers in a
	// second or two.
	formPause = 8 * time.Second
)

// Errors that a flight ends with. Each says who was silent.
var (
	errNobodyWaits = errors.New("nobody waits for the answer any more")
	errNotNamed    = fmt.Errorf("%w (the names for the request were not known in time; nothing was sent)", ErrTimeout)
	errNoNetwork   = fmt.Errorf("%w: %w", ErrTimeout, whatsmeow.ErrNotConnected)
	errAway        = fmt.Errorf("%w (the server has the request, and the bot was away)", errNoNetwork)
)

// step tells the flight what happens.
func (f *flight) step(e event) (a actions) {
	if f.phase != ended {
		f.take(e, &a)
	}
	if a.send {
		f.written = false
	}
	return a
}

func (f *flight) take(e event, a *actions) {
	switch e.what {
	case placed:
		if f.phase == queued {
			f.phase, a.send = sent, true
		}
	case askedElsewhere:
		if f.phase == queued {
			f.phase = acked // it has one form, which was sent
			f.forms = 1
		}
	case named:
		f.forms, f.alike = e.forms, e.alike
	case sendFailed:
		if f.phase == sent {
			f.phase = offline
		}
	case written:
		f.written = f.phase == sent
	case acknowledged:
		if f.phase == sent {
			f.phase, a.startForm = acked, true
		}
	case refused:
		if f.phase == sent || f.phase == acked {
			f.phase = acked // for the forms before this one
			f.settle(reading{err: e.err}, a)
		}
	case answered:
		f.answer(e.reading, a)
	case gone:
		switch f.phase {
		case sent:
			f.phase = offline
		case acked:
			f.phase = held
		}
		f.grace = false
	case down:
		switch f.phase {
		case sent, offline:
			f.end(reading{err: e.err}, a)
		case acked:
			f.phase = held
		}
	case loggedIn:
		switch {
		case f.phase == held:
			f.phase, a.startForm = acked, true
		case f.phase == offline && !f.grace:
			f.grace, a.startGrace = true, true
		}
	case graceOver:
		if f.phase == offline && f.grace {
			f.phase, f.grace, a.send = sent, false, true
		}
	case formDue:
		if f.phase == acked && !f.next(a) && f.settled > 0 {
			f.end(*f.standing, a)
		}
	case deadline:
		f.end(reading{err: f.silence(e.offline)}, a)
	case abandoned:
		if f.phase == queued {
			f.end(reading{err: errNobodyWaits}, a)
		}
	case aborted:
		f.phase, a.end = ended, &reading{err: e.err}
	}
}

// silence returns the error for a deadline without an answer.
func (f *flight) silence(offline bool) error {
	switch f.phase {
	case queued:
		return ErrBusy
	case sent:
		switch {
		case f.written:
			return ErrServerSilent
		case f.forms == 0 && !offline:
			return errNotNamed
		}
	case acked:
		return ErrTimeout
	case held:
		return errAway
	}
	return errNoNetwork
}

// answer takes an answer, which can well come before the ack that it overtakes.
func (f *flight) answer(r reading, a *actions) {
	for _, stamp := range f.stamps {
		if stamp == r.stamp {
			return // the same one again
		}
	}
	f.stamps = append(f.stamps, r.stamp)
	if f.alike || !r.dependsOnForm() {
		f.end(r, a)
		return
	}
	f.settle(r, a)
}

// settle notes that one form has had its answer or refusal, and goes on to the next.
func (f *flight) settle(r reading, a *actions) {
	f.settled++
	if f.standing == nil {
		f.standing = &r
	}
	switch f.phase {
	case sent, acked:
		if !f.alike && f.next(a) || f.settled <= f.form {
			return
		}
	}
	f.end(r, a)
}

// next sends the next form, and reports whether there is one.
func (f *flight) next(a *actions) bool {
	if f.form+1 >= f.forms {
		return false
	}
	f.form++
	f.phase, a.send = sent, true
	return true
}

// end ends the flight, with the answer that stands if there is one.
func (f *flight) end(r reading, a *actions) {
	if f.standing != nil && !r.bringsPath() && (r.err != nil || f.standing.err == nil) {
		r = *f.standing
	}
	f.phase, a.end = ended, &r
}

// A reading is an answer as one flight understands it, or the error that stands for one.
type reading struct {
	result Result
	err    error
	stamp  string // tells one answer about a message from another
	sealed bool   // the phone has sealed it with the message's key, and so knows the message
	// again means that it is that of an earlier request, and nothing was sent for this one.
	again bool
	// old means that its path can have died: nothing was sent for this one, and the answer is to an
	// earlier request, of long ago.
	old bool
	// partial means that the phone was silent about some names of the message, and others were not
	// tried.
	partial bool
}

func (r reading) bringsPath() bool { return r.err == nil && r.result.DirectPath != "" }

// dependsOnForm reports whether the phone may have answered so because it did not recognise the
// message by the form in which it was named. One that has sealed its answer has the message's key.
func (r reading) dependsOnForm() bool {
	return r.err == nil && !r.sealed && r.result.DirectPath == "" &&
		(r.result.Status == StatusNotFound || r.result.Status == StatusDecryptionError)
}
