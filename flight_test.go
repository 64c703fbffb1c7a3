package reupload

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
)

// This file and the other tests of pure or timed parts are inside the package: they run without a
// client, in microseconds.

var errAborted = errors.New("aborted")

// everything that can happen to a flight.
func everything() []event {
	path := Result{Status: StatusSuccess, DirectPath: "/new"}
	return []event{
		{what: placed}, {what: askedElsewhere}, {what: named, forms: 2}, {what: sendFailed}, {what: written},
		{what: acknowledged}, {what: refused, err: ErrRejected},
		{what: answered, reading: reading{result: path, stamp: "path"}},
		{what: answered, reading: reading{result: Result{Status: StatusNotFound}, stamp: "lost"}},
		{what: answered, reading: reading{result: Result{Status: StatusNotFound}, stamp: "lost too"}},
		{what: answered, reading: reading{result: Result{Status: StatusGeneralError}, stamp: "general"}},
		{what: gone}, {what: down, err: whatsmeow.ErrNotConnected}, {what: loggedIn}, {what: graceOver}, {what: formDue},
		{what: deadline}, {what: abandoned}, {what: aborted, err: errAborted},
	}
}

func (p phase) String() string {
	return [...]string{"queued", "sent", "acked", "offline", "held", "ended"}[p]
}

func (h happening) String() string {
	return [...]string{"placed", "askedElsewhere", "named", "sendFailed", "written", "acknowledged", "refused", "answered",
		"gone", "down", "loggedIn", "graceOver", "formDue", "deadline", "abandoned", "aborted"}[h]
}

func describeEvents(events []event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, " %v", e.what)
		if e.what == answered {
			fmt.Fprintf(&b, "(%s)", e.reading.stamp)
		}
	}
	return b.String()
}

// TestFlightOverAllSequences flies every sequence of events up to a length, and checks what must
// hold for each.
func TestFlightOverAllSequences(t *testing.T) {
	t.Parallel()
	length := 6
	if testing.Short() || raceDetector { // which takes thirty times as long
		length = 5
	}
	all := everything()
	sequence := make([]event, 0, length)
	n := 0
	var fly func(f flight, seen history)
	fly = func(f flight, seen history) {
		for _, e := range all {
			sequence = append(sequence, e)
			next, now := f, seen
			next.stamps = append([]string(nil), f.stamps...)
			a := next.step(e)
			n++
			if err := now.check(&f, &next, e, a); err != nil {
				t.Fatalf("after%s: %v", describeEvents(sequence), err)
			}
			if len(sequence) < length && !seen.ended { // one event after the end is enough: it changes nothing
				fly(next, now)
			}
			sequence = sequence[:len(sequence)-1]
		}
	}
	fly(flight{}, history{})
	t.Logf("%d events", n)
}

// A history is what an observer knows of a flight.
type history struct {
	ended     bool
	onTheWire [2]bool // a receipt of the form was sent, and no loss has come since
}

func (h *history) check(before, after *flight, e event, a actions) error {
	form := after.form
	switch {
	case h.ended && (a.send || a.startForm || a.startGrace || a.end != nil):
		return errors.New("something is done after the end")
	case (after.phase == ended) != (h.ended || a.end != nil):
		return fmt.Errorf("the phase is %v, and it has ended: %t", after.phase, h.ended || a.end != nil)
	case a.send && a.end != nil:
		return errors.New("it sends and ends")
	case a.send && form > 0 && form >= before.forms:
		return fmt.Errorf("form %d of %d is sent", form, before.forms)
	case a.send && h.onTheWire[form]:
		return fmt.Errorf("form %d is sent twice without a loss between", form)
	case a.send && after.phase != sent:
		return fmt.Errorf("it sends and is %v", after.phase)
	}
	if e.what == gone || e.what == sendFailed {
		if before.phase == sent { // what was acknowledged before is not lost
			h.onTheWire[before.form] = false
		}
	}
	if a.send {
		h.onTheWire[form] = true
	}
	if h.ended {
		return nil
	}
	switch e.what {
	case deadline, aborted:
		if a.end == nil {
			return errors.New("it does not end")
		}
	case answered:
		if e.reading.bringsPath() && (a.end == nil || !a.end.bringsPath()) {
			return errors.New("a path does not end it, or is lost")
		}
	case abandoned:
		if a.end != nil && before.phase != queued {
			return errors.New("what was sent is given up")
		}
	}
	if a.end != nil {
		if err := h.checkEnd(before, e, *a.end); err != nil {
			return err
		}
	}
	h.ended = h.ended || a.end != nil
	return nil
}

// checkEnd checks that a flight ends with what it should.
func (h *history) checkEnd(before *flight, e event, end reading) error {
	if end.err == nil && end.stamp == "" {
		return errors.New("it ends with neither an answer nor an error")
	}
	switch {
	case e.what == aborted && end.err != errAborted:
		return fmt.Errorf("aborted, it ends with %v", end.err)
	case e.what == deadline && before.standing == nil:
		want := map[phase]error{queued: ErrBusy, sent: errNoNetwork, acked: ErrTimeout, offline: errNoNetwork, held: errAway}[before.phase]
		switch {
		case before.phase != sent:
		case before.written:
			want = ErrServerSilent
		case before.forms == 0:
			want = errNotNamed
		}
		if end.err != want {
			return fmt.Errorf("%v at the deadline, it ends with %v, want %v", before.phase, end.err, want)
		}
	case (e.what == deadline || e.what == formDue || e.what == down) && before.standing != nil && end.stamp != before.standing.stamp:
		return errors.New("the answer that stood is lost")
	}
	return nil
}

// TestFlightTable walks the cells of the table above the type, one by one.
func TestFlightTable(t *testing.T) {
	t.Parallel()
	lost := event{what: answered, reading: reading{result: Result{Status: StatusNotFound}, stamp: "lost"}}
	lostToo := event{what: answered, reading: reading{result: Result{Status: StatusNotFound}, stamp: "lost too"}}
	path := event{what: answered, reading: reading{result: Result{Status: StatusSuccess, DirectPath: "/new"}, stamp: "path"}}
	one, two, alike := event{what: named, forms: 1}, event{what: named, forms: 2}, event{what: named, forms: 2, alike: true}
	do := func(what ...happening) (events []event) {
		for _, w := range what {
			events = append(events, event{what: w, err: ErrRejected})
		}
		return events
	}
	tests := []struct {
		name   string
		events []event
		phase  phase
		sends  int
		forms  int   // how often the form timer is started
		graces int   // and the grace timer
		err    error // of the end
		status Status
	}{
		{name: "heals", events: append(do(placed, named), path), phase: ended, sends: 1, status: StatusSuccess},
		{name: "waits for the phone", events: do(placed, acknowledged), phase: acked, sends: 1, forms: 1},
		{name: "silent phone", events: do(placed, acknowledged, deadline), phase: ended, sends: 1, forms: 1, err: ErrTimeout},
		{name: "silent server", events: do(placed, written, deadline), phase: ended, sends: 1, err: ErrServerSilent},
		{name: "never named", events: do(placed, deadline), phase: ended, sends: 1, err: errNotNamed},
		{name: "never written", events: append(do(placed), one, do(deadline)[0]), phase: ended, sends: 1, err: errNoNetwork},
		{name: "no place", events: do(deadline), phase: ended, err: ErrBusy},
		{name: "refused", events: append(do(placed), one, do(refused)[0]), phase: ended, sends: 1, err: ErrRejected},
		{name: "refused, and the next form", events: append(do(placed), two, do(refused)[0]), phase: sent, sends: 2},
		{name: "both refused", events: append(do(placed), two, do(refused)[0], do(refused)[0]), phase: ended, sends: 2, err: ErrRejected},
		{name: "second refused, first in the air", events: append(append(do(placed), two), do(acknowledged, formDue, refused)...), phase: acked, sends: 2, forms: 1},
		{name: "that one is answered", events: append(append(append(do(placed), two), do(acknowledged, formDue, refused)...), lost), phase: ended, sends: 2, forms: 1, status: StatusNotFound},
		{name: "lost, and the next form", events: append(do(placed), two, lost), phase: sent, sends: 2},
		{name: "the same answer again", events: append(do(placed), two, lost, lost), phase: sent, sends: 2},
		{name: "lost, and only the own name differs", events: append(do(placed), alike, lost), phase: ended, sends: 1, status: StatusNotFound},
		{name: "refused, and only the own name differs", events: append(do(placed), alike, do(refused)[0]), phase: ended, sends: 1, err: ErrRejected},
		{name: "silence, and only the own name differs", events: append(append(do(placed), alike), do(acknowledged, formDue)...), phase: sent, sends: 2, forms: 1},
		{name: "lost under both", events: append(do(placed), two, lost, lostToo), phase: ended, sends: 2, status: StatusNotFound},
		{name: "lost, and silence", events: append(append(do(placed), two, lost), do(acknowledged, formDue)...), phase: ended, sends: 2, forms: 1, status: StatusNotFound},
		{name: "lost under the second, the first may come", events: append(append(append(do(placed), two), do(acknowledged, formDue)...), lost), phase: sent, sends: 2, forms: 1},
		{name: "silent form", events: append(append(do(placed), two), do(acknowledged, formDue)...), phase: sent, sends: 2, forms: 1},
		{name: "both silent", events: append(append(do(placed), two), do(acknowledged, formDue, acknowledged, formDue)...), phase: acked, sends: 2, forms: 2},
		{name: "no form left", events: append(append(do(placed), one), do(acknowledged, formDue)...), phase: acked, sends: 1, forms: 1},
		{name: "break before the ack", events: do(placed, gone), phase: offline, sends: 1},
		{name: "sending fails", events: do(placed, sendFailed), phase: offline, sends: 1},
		{name: "back online", events: do(placed, gone, loggedIn), phase: offline, sends: 1, graces: 1},
		{name: "sent again", events: do(placed, gone, loggedIn, graceOver), phase: sent, sends: 2, graces: 1},
		{name: "gone again in the grace time", events: do(placed, gone, loggedIn, gone, graceOver), phase: offline, sends: 1, graces: 1},
		{name: "answered in the grace time", events: append(do(placed, gone, loggedIn), path), phase: ended, sends: 1, graces: 1, status: StatusSuccess},
		{name: "break after the ack", events: do(placed, acknowledged, gone), phase: held, sends: 1, forms: 1},
		{name: "held, and back online", events: do(placed, acknowledged, gone, loggedIn), phase: acked, sends: 1, forms: 2},
		{name: "held for too long", events: do(placed, acknowledged, gone, deadline), phase: ended, sends: 1, forms: 1, err: errAway},
		{name: "held, and disconnected", events: do(placed, acknowledged, gone, down), phase: held, sends: 1, forms: 1},
		{name: "disconnected by the bot", events: do(placed, down), phase: ended, sends: 1, err: ErrRejected},
		{name: "disconnected while offline", events: do(placed, gone, down), phase: ended, sends: 1, err: ErrRejected},
		{name: "nobody waits in the queue", events: do(abandoned), phase: ended, err: errNobodyWaits},
		{name: "nobody waits for what was sent", events: do(placed, abandoned), phase: sent, sends: 1},
		{name: "the bot has asked", events: do(askedElsewhere), phase: acked},
		{name: "the bot has asked, silence", events: do(askedElsewhere, formDue, deadline), phase: ended, err: ErrTimeout},
		{name: "an earlier answer, in the queue", events: []event{path}, phase: ended, status: StatusSuccess},
		{name: "an earlier refusal, in the queue", events: []event{lost}, phase: ended, status: StatusNotFound},
	}
	for _, test := range tests {
		var f flight
		var sends, forms, graces int
		var end *reading
		for _, e := range test.events {
			a := f.step(e)
			sends += count(a.send)
			forms += count(a.startForm)
			graces += count(a.startGrace)
			if a.end != nil {
				end = a.end
			}
		}
		if f.phase != test.phase || sends != test.sends || forms != test.forms || graces != test.graces {
			t.Errorf("%s: %v after %d sends, %d form and %d grace timers, want %v, %d, %d, %d",
				test.name, f.phase, sends, forms, graces, test.phase, test.sends, test.forms, test.graces)
		}
		if (end != nil) != (test.phase == ended) || end != nil && (end.err != test.err || end.result.Status != test.status) {
			t.Errorf("%s: ends with %+v", test.name, end)
		}
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}
