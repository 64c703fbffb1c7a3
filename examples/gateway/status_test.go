package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
)

// TestMeaningOf has each reason that there can be.
func TestMeaningOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		status int
		after  time.Duration
		retry  bool
	}{
		{errUnknown, http.StatusNotFound, 0, false},
		{reupload.ErrNotFound, http.StatusGone, 0, false},
		{reupload.ErrDecryption, http.StatusGone, 0, false},
		{reupload.ErrNewsletter, http.StatusGone, 0, false},
		{reupload.ErrTimeout, http.StatusGatewayTimeout, aMinute, true},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, aMinute, true},
		{reupload.ErrPhoneSilent, http.StatusServiceUnavailable, aMinute, true},
		{reupload.ErrBusy, http.StatusServiceUnavailable, aMoment, true},
		{errBusy, http.StatusServiceUnavailable, aMoment, true},
		{errDatabase, http.StatusServiceUnavailable, aMoment, true},
		{diskError(syscall.ENOSPC), http.StatusServiceUnavailable, aMinute, true},
		{whatsmeow.ErrNotConnected, http.StatusServiceUnavailable, aMinute, true},
		{fmt.Errorf("%w: %w", reupload.ErrTimeout, whatsmeow.ErrNotConnected), http.StatusServiceUnavailable, aMinute, true},
		{&whatsmeow.DisconnectedError{Action: "info query"}, http.StatusServiceUnavailable, aMinute, true},
		{reupload.ErrClosed, http.StatusServiceUnavailable, aMinute, true},
		{whatsmeow.ErrNotLoggedIn, http.StatusServiceUnavailable, 0, false},
		{errNotLinked, http.StatusServiceUnavailable, 0, false},
		{context.Canceled, http.StatusServiceUnavailable, aMoment, true},
		{reupload.ErrReplayFailed, http.StatusServiceUnavailable, aMoment, true},
		{reupload.ErrGeneral, http.StatusBadGateway, silencePause, true},
		{reupload.ErrInvalidAnswer, http.StatusBadGateway, silencePause, true},
		{reupload.ErrRejected, http.StatusBadGateway, silencePause, true},
		{reupload.ErrForbidden, http.StatusBadGateway, aMinute, true},
		{reupload.ErrStrippedPath, http.StatusBadGateway, 0, false},
		{fmt.Errorf("%w: %w", reupload.ErrStrippedPath, reupload.ErrTimeout), http.StatusGatewayTimeout, aMinute, true},
		{reupload.ErrInvalidRequest, http.StatusBadGateway, 0, false},
		{whatsmeow.ErrNoURLPresent, http.StatusBadGateway, 0, false},
		{errTooLarge, http.StatusBadGateway, 0, false},
		// The CDN's own word is not final.
		{whatsmeow.ErrMediaDownloadFailedWith410, http.StatusBadGateway, 0, true},
		{reupload.ErrUnknownMessage, http.StatusBadGateway, 0, true},
		{errors.New(`Get "https://mmg.whatsapp.net/v/x.enc?oh=1": EOF`), http.StatusBadGateway, 0, true},
	} {
		got := failureOf(fmt.Errorf("wrapped: %w", c.err))
		if got.status != c.status || got.Retry != c.retry || got.after != c.after {
			t.Errorf("%v: got %d, retry %v after %v, want %d, %v, %v", c.err, got.status, got.Retry, got.after, c.status, c.retry, c.after)
		}
		if strings.Contains(got.Error, "wrapped") || strings.Contains(got.Error, "mmg") || strings.Contains(got.Error, "reupload") {
			t.Errorf("%v: the error's own words came through: %s", c.err, got.Error)
		}
	}
}
