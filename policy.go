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
//	sealed: lost; an answer that does not open | refusalPause
//	silence, and since then nothing has come   | heldLife: the server still holds the request
//	from the phone                             |
//	silence about one of two names, or while   | shortPause, twice that after the next one in
//	the bot was away; no ack                   | a row, and so on, up to refusalPause
//	silence, an unsealed answer, a general     | silencePause, and so on likewise
//	error, a refused receipt, nonsense         |
type policy struct {
	refusalPause, silencePause time.Duration // 0 for none
}

// statusLife is how long a status lives, on the phone too.
const statusLife = 24 * time.Hour

// heldLife is for how long the server is taken to hold a request for a phone that is off. After
// that it is asked again, since the phone may as well have dropped the request.
const heldLife = 3 * 24 * time.Hour

// pathLife is for how long a path is taken to live. Files vanish from the CDN after two to
// three weeks.
const pathLife = 14 * 24 * time.Hour

var errHeld = fmt.Errorf("%w (it was asked before, and has answered nothing since)", ErrPhoneSilent)

// longestSilence bounds the doubling where there is no pause after refusals.
const longestSilence = 24 * time.Hour

var errStatusGone = fmt.Errorf("%w (a status is gone after 24 hours)", ErrNotFound)

// refusal returns why a file should not be asked for now, or nil. heard is when the phone was last
// heard. For a status that has ended the error wraps ErrNotFound. Any other is a PausedError, which
// wraps ErrPhoneSilent if the phone may still answer the last request, and otherwise the error
// that the last request ended with.
func (p policy) refusal(e *Entry, now, heard time.Time) error {
	if (e.Chat == types.StatusBroadcastJID || e.IsStatus) && now.Sub(e.Timestamp) > statusLife { // or of unknown age: its path outlives it by weeks
		return errStatusGone
	}
	if e.Asked.At.IsZero() || e.Asked.At.Sub(now) > maxSkew {
		return nil
	}
	ago := now.Sub(e.Asked.At).Abs() // clocks differ: it can have been asked in the future
	if p.silencePause > 0 && e.Asked.isOpen() && !heard.After(e.Asked.At) && ago < heldLife {
		return &PausedError{Until: e.Asked.At.Add(heldLife), cause: errHeld}
	}
	pause := min(p.pause(e.Asked), longestPause)
	if ago >= pause {
		return nil
	}
	return &PausedError{Until: e.Asked.At.Add(pause), cause: e.Asked.Outcome.cause()}
}

// shortPause is the first pause where it is likely that the phone did not see the request, or did
// not recognise it.
const shortPause = time.Minute

// longestPause is practically for ever, and keeps sums of times from overflowing.
const longestPause = 100 * 365 * 24 * time.Hour

// pause returns for how long a file is not asked for again.
func (p policy) pause(asked Asked) time.Duration {
	doublings := asked.Failures - 1
	switch {
	case asked.Outcome == outcomeFound, asked.Outcome == outcomeOutage:
		return 0
	case asked.Outcome.isFinal():
		return p.refusalPause
	case asked.Outcome == outcomeUnknown: // it was not counted yet
		doublings++
	}
	longest := p.refusalPause
	if longest == 0 {
		longest = longestSilence
	}
	pause := min(p.silencePause, longest)
	if asked.Outcome == outcomePartial || asked.Outcome == outcomeUnacked {
		pause = min(pause, shortPause)
	}
	for ; doublings > 0 && pause < longest; doublings-- {
		pause += min(pause, longest-pause)
	}
	return pause
}

// isOpen reports whether the last request may still be answered.
func (a Asked) isOpen() bool {
	return !a.At.IsZero() && (a.Outcome.isSilence() || a.Outcome == outcomeUnknown)
}

// isSilence reports whether the phone has not answered a request that the server had.
func (o Outcome) isSilence() bool { return o == outcomeSilence || o == outcomePartial }

// isFinal reports whether a request has ended with something that the next one will
// not change soon.
func (o Outcome) isFinal() bool {
	return o == outcomeFound || o == outcomeNotFound || o == outcomeDecryption
}

// cause returns the error of an outcome that is remembered.
func (o Outcome) cause() error {
	switch o {
	case outcomeNotFound:
		return ErrNotFound
	case outcomeDecryption, outcomeUnreadable:
		return ErrDecryption
	case outcomeGeneral:
		return ErrGeneral
	case outcomeRejected:
		return ErrRejected
	case outcomeInvalid:
		return ErrInvalidAnswer
	case outcomeUnacked:
		return ErrServerSilent
	}
	return ErrTimeout
}

// wasNotSent reports whether a request has ended before it was sent.
func wasNotSent(err error) bool {
	return errors.Is(err, ErrPhoneSilent) || errors.Is(err, ErrBusy) || errors.Is(err, errNotNamed)
}

// outcomeOf returns the outcome of a request for its file, and reports whether it says anything
// about the file: an outage of the bot's own connection does not.
func outcomeOf(r reading) (o Outcome, tells bool) {
	switch {
	case r.bringsPath():
		return outcomeFound, true
	case r.err == nil:
		switch {
		case r.result.Status == StatusDecryptionError && r.result.unsealed:
			return outcomeUnreadable, true
		case r.result.Status == StatusDecryptionError:
			return outcomeDecryption, true
		case r.result.Status == StatusNotFound && !r.result.unsealed:
			return outcomeNotFound, true
		}
		return outcomeGeneral, true
	case errors.Is(r.err, whatsmeow.ErrNotConnected):
		return 0, false
	case wasNotSent(r.err):
		return 0, false
	case errors.Is(r.err, ErrServerSilent): // which does not keep it for the phone
		return outcomeUnacked, true
	case errors.Is(r.err, ErrTimeout) && r.partial:
		return outcomePartial, true
	case errors.Is(r.err, ErrTimeout):
		return outcomeSilence, true
	case errors.Is(r.err, ErrRejected):
		return outcomeRejected, true
	case errors.Is(r.err, ErrInvalidAnswer):
		return outcomeInvalid, true
	}
	return 0, false
}
