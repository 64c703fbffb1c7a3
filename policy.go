package reupload

import (
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// A policy says whether a download may ask the phone. Requests can be visible to the phone's owner,
// so it is asked no more often than may help. It is a pure function of what is known of the file;
// whether the phone answers at all is the queue's matter.
//
//	what is known                              | not asked again for
//	-------------------------------------------+---------------------------------------------
//	nothing, or a path that has died since     | –
//	a status that is older than 24 hours       | ever
//	sealed: lost; an answer that nobody can open| refusalPause
//	silence, and since then the phone has       | heldLife: the server still holds the request
//	answered nothing to anybody                 |
//	silence, an unsealed answer, a general      | silencePause, twice that after the next one
//	error, a refused receipt, nonsense          | in a row, and so on, up to refusalPause
type policy struct {
	refusalPause, silencePause time.Duration // 0 for none
}

// statusLife is how long a status lives, on the phone too.
const statusLife = 24 * time.Hour

// heldLife is for how long the server is taken to hold a request for a phone that is off. After
// that it is asked again, since the phone may as well have dropped the request.
const heldLife = 3 * 24 * time.Hour

var errHeld = fmt.Errorf("%w (it was asked before, and has answered nothing since)", ErrPhoneSilent)

// longestSilence bounds the doubling where there is no pause after refusals.
const longestSilence = 24 * time.Hour

var errStatusGone = fmt.Errorf("%w (a status is gone after 24 hours)", ErrNotFound)

// refusal returns why a file should not be asked for now, or nil. heard is when the phone
// has answered anything last. The error is ErrPhoneSilent if the phone may still answer
// the last request.
func (p policy) refusal(e *Entry, now, heard time.Time) error {
	if e.Chat == types.StatusBroadcastJID && now.Sub(e.Timestamp) > statusLife { // or of unknown age: its path outlives it by weeks
		return errStatusGone
	}
	if e.Asked.At.IsZero() {
		return nil
	}
	ago := now.Sub(e.Asked.At).Abs() // clocks differ: it can have been asked in the future
	if p.silencePause > 0 && e.Asked.isOpen() && !heard.After(e.Asked.At) && ago < heldLife {
		return errHeld
	}
	pause := p.pause(e.Asked)
	if ago >= pause {
		return nil
	}
	until := e.Asked.At.Add(pause)
	return fmt.Errorf("%w (remembered; not asked again by itself until %s)", e.Asked.Outcome.cause(), until.Format(time.RFC3339))
}

// pause returns for how long a file is not asked for again.
func (p policy) pause(asked Asked) time.Duration {
	doublings := asked.Vain - 1
	switch {
	case asked.Outcome == OutcomeFound, asked.Outcome == OutcomeOutage:
		return 0
	case asked.Outcome.isFinal():
		return p.refusalPause
	case asked.Outcome == OutcomeUnknown: // it was not counted yet
		doublings++
	}
	longest := p.refusalPause
	if longest == 0 {
		longest = longestSilence
	}
	pause := min(p.silencePause, longest)
	for ; doublings > 0 && pause < longest; doublings-- {
		pause = min(2*pause, longest)
	}
	return pause
}

// isOpen reports whether the last request may still be answered.
func (a Asked) isOpen() bool {
	return !a.At.IsZero() && (a.Outcome == OutcomeSilence || a.Outcome == OutcomeUnknown)
}

// isFinal reports whether a request has ended with something that the next one will
// not change soon.
func (o Outcome) isFinal() bool {
	return o == OutcomeFound || o == OutcomeNotFound || o == OutcomeDecryption
}

// cause returns the error of an outcome that is remembered.
func (o Outcome) cause() error {
	switch o {
	case OutcomeNotFound:
		return ErrNotFound
	case OutcomeDecryption, OutcomeUnreadable:
		return ErrDecryption
	case OutcomeGeneral:
		return ErrGeneral
	case OutcomeRejected:
		return ErrRejected
	case OutcomeInvalid:
		return ErrInvalidAnswer
	}
	return ErrTimeout
}

// outcomeOf returns what the end of a request tells of the file, if it tells anything: the bot's
// own outage does not.
func outcomeOf(r reading) (o Outcome, tells bool) {
	switch {
	case r.bringsPath():
		return OutcomeFound, true
	case r.err == nil:
		switch {
		case r.result.Status == StatusDecryptionError && r.result.unsealed:
			return OutcomeUnreadable, true
		case r.result.Status == StatusDecryptionError:
			return OutcomeDecryption, true
		case r.result.Status == StatusNotFound && !r.result.unsealed:
			return OutcomeNotFound, true
		}
		return OutcomeGeneral, true
	case errors.Is(r.err, whatsmeow.ErrNotConnected):
		return 0, false
	case errors.Is(r.err, ErrPhoneSilent), errors.Is(r.err, ErrBusy): // nothing was sent
		return 0, false
	case errors.Is(r.err, ErrTimeout):
		return OutcomeSilence, true
	case errors.Is(r.err, ErrRejected):
		return OutcomeRejected, true
	case errors.Is(r.err, ErrInvalidAnswer):
		return OutcomeInvalid, true
	}
	return 0, false
}
