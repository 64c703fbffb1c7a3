package reupload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// A transport repairs downloads whose file has expired. It stands where the media HTTP
// client's own transport stood, which does all the work: every request, the repeated one too,
// goes out through base.
type transport struct {
	base   http.RoundTripper
	client *http.Client // the bot's, with base: for the requests that the bot has not made itself
	plugin *Plugin
}

// RoundTrip implements [http.RoundTripper]. An expired file that cannot be healed is never an
// error: whatsmeow would repeat the download five times. The caller gets the response that it would
// have got without us, and [Cause] tells why.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	file, ok := parseDownload(req)
	if !ok || t.plugin.isClosed() {
		return t.exchange(req)
	}
	if resp := t.fromMove(req, file); resp != nil {
		t.plugin.stats.healthy.Add(1)
		return resp, nil
	}
	resp, err := t.first(req, file)
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode == http.StatusOK:
		t.plugin.stats.healthy.Add(1)
		return resp, nil
	case !file.isExpired(req.URL.RawQuery, resp):
		if resp.StatusCode == http.StatusForbidden {
			t.fail(resp, req, ErrForbidden)
		}
		return resp, nil
	}
	t.plugin.stats.expired.Add(1)
	peek(resp) // to its end, as a rule, which gives the connection back while the phone is asked
	healed, cause := t.heal(req, file)
	if cause != nil {
		t.fail(resp, req, cause)
		return resp, nil
	}
	t.plugin.stats.healed.Add(1)
	resp.Body.Close() // only now: until the repeated download has succeeded, this is what the caller gets
	return healed, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport that
// has the connections.
func (t *transport) CloseIdleConnections() {
	if closer, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// fromMove downloads a file from where it has moved to. Whatever comes of that but a success, the
// path that the caller has is then tried as it would be without us.
func (t *transport) fromMove(req *http.Request, file download) *http.Response {
	path := t.plugin.ledger.movedTo(file.location())
	if path == "" {
		return nil
	}
	resp, err := t.get(req, file, path, func() {})
	if err != nil && req.Context().Err() == nil {
		t.plugin.ledger.unmove(file.location())
	}
	return resp
}

// first makes the request that the caller has made. One for a stand-in path does not
// leave the machine.
func (t *transport) first(req *http.Request, file download) (*http.Response, error) {
	if file.isStandIn() {
		return &http.Response{
			Status: "410 Gone", StatusCode: http.StatusGone, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: http.Header{}, Body: http.NoBody, Request: req,
		}, nil
	}
	return t.exchange(req)
}

// exchange makes one request. The time-out of the bot's HTTP client holds for it, until the end
// of its body.
func (t *transport) exchange(req *http.Request) (*http.Response, error) {
	if t.client.Timeout <= 0 {
		return t.base.RoundTrip(req)
	}
	ctx, cancel := context.WithTimeout(req.Context(), t.client.Timeout)
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Request = req
	resp.Body = &timedBody{resp.Body, cancel}
	return resp, nil
}

// The key under which the request of a response that was not healed holds the cause. whatsmeow's
// error holds the response.
type causeKey struct{}

// fail notes why a download was not healed, in the response that the caller would have
// got without us.
func (t *transport) fail(resp *http.Response, req *http.Request, cause error) {
	t.plugin.notHealed(cause)
	resp.Request = req.WithContext(context.WithValue(req.Context(), causeKey{}, cause))
}

// replayPauses are the pauses after which a repeated download that fails for a passing reason
// is tried again.
var replayPauses = [...]time.Duration{200 * time.Millisecond, time.Second}

// fetch downloads the file from a new path. It returns a response only if that is a success. If
// other bytes come in the end, they are the caller's all the same, and wrong is called.
func (t *transport) fetch(req *http.Request, file download, path string, wrong func()) (*http.Response, error) {
	for try := 0; ; try++ {
		resp, err := t.get(req, file, path, wrong)
		var passing *passingError
		if err == nil || !errors.As(err, &passing) || try == len(replayPauses) {
			return resp, err
		}
		select {
		case <-time.After(replayPauses[try]):
		case <-req.Context().Done():
			return nil, req.Context().Err()
		}
	}
}

// get downloads the file from a new path once, as the bot's HTTP client would: with its
// time-out, and following redirects. The error wraps ErrInvalidAnswer if there is nothing under
// the path, and else ErrReplayFailed.
func (t *transport) get(req *http.Request, file download, path string, wrong func()) (*http.Response, error) {
	replay, err := file.requestAt(req, path)
	if err != nil {
		return nil, err
	}
	resp, err := t.client.Do(replay)
	if err != nil {
		return nil, &passingError{text: describe(err), err: err}
	}
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		resp.Body = verified(resp.Body, file.fileEncSHA256(), func() {
			t.plugin.ledger.setWrong(file.at(path))
			t.plugin.ledger.unmove(file.location())
			wrong()
			t.plugin.log.Warnf("The phone's new upload is not the file that the message is about; it will be asked for again")
		})
		return resp, nil
	case download{path: directPathOf(path)}.isExpired(replay.URL.RawQuery, resp):
		discard(resp)
		return nil, fmt.Errorf("%w: there is nothing under the new path (HTTP status %d)", ErrInvalidAnswer, status)
	case status >= 500, status == http.StatusTooManyRequests:
		discard(resp)
		return nil, &passingError{text: fmt.Sprintf("HTTP status %d", status)}
	default:
		discard(resp)
		return nil, fmt.Errorf("%w: HTTP status %d", ErrReplayFailed, status)
	}
}

// A passingError is why a download from a new path failed that may succeed when it is tried again.
// Its text holds nothing of the URL, which errors of transports can quote.
type passingError struct {
	text string
	err  error
}

func (e *passingError) Error() string   { return ErrReplayFailed.Error() + ": " + e.text }
func (e *passingError) Unwrap() []error { return []error{ErrReplayFailed, e.err} }

// describe says what went wrong with a request, and nothing about what was requested.
func describe(err error) string {
	var withURL *url.Error
	for errors.As(err, &withURL) {
		err = withURL.Err
	}
	var network *net.OpError
	var number syscall.Errno
	switch {
	case errors.As(err, &network):
		return network.Error()
	case errors.As(err, &number):
		return number.Error()
	case errors.Is(err, context.DeadlineExceeded), isTimeout(err):
		return "it took too long"
	}
	return fmt.Sprintf("an error of type %T", err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
