package main

import (
	"context"
	"errors"
	"net/http"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
)

// A failure is what a caller is told of an error: a status, and a body without the error's own words, since those of a network
// error have the URL in them.
type failure struct {
	status int
	Error  string `json:"error"`
	Retry  bool   `json:"retry"` // whether the same request can succeed later by itself
}

// failureOf says what the error of a look-up or a download means.
func failureOf(err error) failure {
	// The download itself has failed with 404 or 410 as it would without reupload. What counts is why it was not healed.
	if cause := reupload.Cause(err); cause != nil {
		err = cause
	}
	switch {
	case errors.Is(err, errUnknown):
		return failure{http.StatusNotFound, "this account has no media message with this id in this chat", false}
	case errors.Is(err, reupload.ErrNotFound):
		return failure{http.StatusGone, "the phone no longer has the file", false}
	case errors.Is(err, reupload.ErrDecryption):
		return failure{http.StatusGone, "the phone no longer has the key of the file", false}
	case errors.Is(err, reupload.ErrNewsletter):
		return failure{http.StatusGone, "the file of a newsletter has expired, and no phone has it", false}
	case errors.Is(err, whatsmeow.ErrNotLoggedIn), errors.Is(err, errNotLinked):
		return failure{http.StatusServiceUnavailable, "the account is not linked; link it with POST /accounts", false}
	// Before ErrTimeout, which wraps it if the connection did not come back in time.
	case errors.Is(err, whatsmeow.ErrNotConnected), errors.Is(err, whatsmeow.ErrIQDisconnected), errors.Is(err, reupload.ErrClosed):
		return failure{http.StatusServiceUnavailable, "the account is not connected to WhatsApp", true}
	case errors.Is(err, reupload.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return failure{http.StatusGatewayTimeout, "the phone does not answer; it is probably offline", true}
	case errors.Is(err, context.Canceled):
		return failure{http.StatusServiceUnavailable, "the gateway is shutting down", true}
	case errors.Is(err, reupload.ErrInvalidRequest):
		return failure{http.StatusBadGateway, "the file has expired, and the message lacks what it takes to ask the phone for it", false}
	}
	return failure{http.StatusBadGateway, "the file could not be downloaded; the gateway's log says why", true}
}

var errNotLinked = errors.New("the account is not linked")
