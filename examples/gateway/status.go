package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
)

// A failure is what a caller is told of an error: a status, and a body without the error's own
// words, since those of a network error have the URL in them.
type failure struct {
	status int
	after  time.Duration // when to ask again, if that is known
	Error  string        `json:"error"`
	Cause  string        `json:"cause,omitempty"` // the label of why the file was not healed
	Retry  bool          `json:"retry"`           // whether the same request can succeed later by itself
}

// Why there is no file, apart from reupload's reasons.
var (
	errNotLinked = errors.New("the account is not linked")
	errAway      = errors.New("no gateway has the account at the moment; one will within half a minute")
	errDatabase  = errors.New("the database failed")
)

// How long it makes sense to wait. The phone can answer late, and reupload tries once a minute
// whether one that is silent is back.
const (
	aMoment = 5 * time.Second
	aMinute = time.Minute
)

// The pauses of reupload, in which asking again brings nothing new: see its Options.
const (
	silencePause = time.Hour
	refusalPause = 24 * time.Hour
)

// failureOf says what the error of a look-up or a download means.
func failureOf(err error) failure {
	// The download itself has failed with 404 or 410 as it would without reupload. What counts is
	// why it was not healed: a 410 of the CDN is final only if the phone has said so.
	cause := reupload.Cause(err)
	if cause != nil {
		err = cause
	}
	what := meaningOf(err)
	what.Cause = reupload.Label(cause)
	var paused *reupload.PausedError
	if errors.As(cause, &paused) && what.Retry && !errors.Is(cause, reupload.ErrPhoneSilent) { // of which a late answer is used
		what.after = time.Until(paused.Until)
	}
	return what
}

// meaningOf tries what is most certain first, as an error can wrap another one.
func meaningOf(err error) failure {
	is := func(target error) bool { return errors.Is(err, target) }
	final := func(status int, what string) failure { return failure{status: status, Error: what} }
	later := func(status int, after time.Duration, what string) failure {
		return failure{status: status, after: after, Error: what, Retry: true}
	}
	switch {
	case is(errUnknown):
		return final(http.StatusNotFound, errUnknown.Error())
	case is(reupload.ErrNotFound):
		return final(http.StatusGone, "the phone no longer has the file")
	case is(reupload.ErrDecryption):
		return final(http.StatusGone, "the phone no longer has the key of the file")
	case is(reupload.ErrNewsletter):
		return final(http.StatusGone, "the file of a newsletter has expired, and no phone has it")
	case is(whatsmeow.ErrNotLoggedIn), is(errNotLinked):
		return final(http.StatusServiceUnavailable, "the account is not linked; link it with POST /accounts")
	// Before ErrTimeout, which wraps it if the connection did not come back in time.
	case is(whatsmeow.ErrNotConnected), is(whatsmeow.ErrIQDisconnected), is(reupload.ErrClosed):
		return later(http.StatusServiceUnavailable, aMinute, "the account is not connected to WhatsApp")
	case is(reupload.ErrPhoneSilent): // which wraps ErrTimeout too
		return later(http.StatusServiceUnavailable, aMinute, "the phone has not answered for a while, so that it was not asked; it is probably offline")
	case is(reupload.ErrBusy):
		return later(http.StatusServiceUnavailable, aMoment, "too many files wait for this phone; ask again in a few seconds")
	case is(errBusy):
		return later(http.StatusServiceUnavailable, aMoment, errBusy.Error())
	case is(errAway), is(errNoLease):
		return later(http.StatusServiceUnavailable, aMoment, errAway.Error())
	case is(errDatabase):
		return later(http.StatusServiceUnavailable, aMoment, errDatabase.Error()+"; the gateway's log says why")
	case is(errDisk):
		return later(http.StatusServiceUnavailable, aMinute, errDisk.Error()+"; its log says more")
	case is(reupload.ErrReplayFailed):
		return later(http.StatusServiceUnavailable, aMoment, "the file is there again, but its download failed; ask again")
	case is(reupload.ErrTimeout), is(context.DeadlineExceeded):
		return later(http.StatusGatewayTimeout, aMinute, "the phone does not answer; it is probably offline")
	case is(context.Canceled):
		return later(http.StatusServiceUnavailable, aMoment, "the gateway is shutting down")
	case is(errTooLarge):
		return final(http.StatusBadGateway, errTooLarge.Error())
	case is(reupload.ErrInvalidRequest), is(whatsmeow.ErrNoURLPresent):
		return final(http.StatusBadGateway, "the file has expired, and the message lacks what it takes to ask the phone for it")
	case is(reupload.ErrStrippedPath):
		return final(http.StatusBadGateway, "the path of the file was stored without its query, and the phone could not help")
	case is(reupload.ErrRejected):
		return later(http.StatusBadGateway, silencePause, "WhatsApp refused to pass the request on to the phone")
	case is(reupload.ErrGeneral), is(reupload.ErrInvalidAnswer):
		return later(http.StatusBadGateway, silencePause, "the phone could not upload the file again")
	case is(reupload.ErrForbidden):
		return later(http.StatusBadGateway, aMinute, "WhatsApp's servers refuse to give the file out, although it has not expired")
	}
	return later(http.StatusBadGateway, 0, "the file could not be downloaded; the gateway's log says why")
}
