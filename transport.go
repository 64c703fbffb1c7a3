package reupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// A transport repairs downloads whose file has expired. It stands where the media HTTP
// client's own transport stood, which does all the work: every request, the repeated one too,
// goes out through that of the bot's HTTP client.
type transport struct {
	bot *http.Client
	*healer
}

// base returns the bot's own transport.
func (t *transport) base() http.RoundTripper {
	if t.bot.Transport != nil {
		return t.bot.Transport
	}
	return http.DefaultTransport
}

// A healer is what the transports of a client share.
type healer struct {
	cases   *cases
	parts   *parts
	paths   *paths
	flights *flights
	report  *reporter
	closed  *atomic.Bool
	// inHandler is Options.HandlerTimeout, and hears reports whether an answer can come while an
	// event handler waits.
	inHandler time.Duration
	hears     func() bool
}

// RoundTrip implements [http.RoundTripper]. An expired file that cannot be healed is never an
// error: whatsmeow would repeat the download five times. The caller gets the response that it would
// have got without us, and [Cause] tells why.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	origin, began := originOf(req), time.Now()
	file, ok := parseDownload(origin)
	if !ok || t.closed.Load() {
		return t.exchange(req)
	}
	if file.isPart {
		return t.part(req, file)
	}
	if req == origin {
		if resp := t.fromMove(req, file); resp != nil {
			t.report.counts.healthy.Add(1)
			return resp, nil
		}
	}
	point := pointerOf(req.Context())
	asked := req
	if point != nil {
		asked = firstByteOf(req)
	}
	resp, err := t.first(asked, file)
	if err != nil {
		return nil, err
	}
	var quiet error // why the phone must not be asked
	switch {
	case isThere(asked, resp):
		t.report.counts.healthy.Add(1)
		if point != nil {
			discard(resp)
			return point.to(file.path.String(), req), nil
		}
		return resp, nil
	case file.isExpired(req.URL.RawQuery, resp), isEmpty(asked, resp):
		t.report.counts.expired.Add(1)
	case resp.StatusCode == http.StatusForbidden:
		quiet = ErrForbidden // a path that is known may be better, and costs no request
	default:
		return resp, nil
	}
	peek(resp) // to its end, as a rule, which gives the connection back while the phone is asked
	healed, cause := t.heal(origin, file, quiet, began)
	if cause != nil {
		t.report.notHealed(cause)
		return withCause(resp, req, cause), nil
	}
	resp.Body.Close() // only now: until the repeated download has succeeded, this is what the caller gets
	return healed, nil
}

// part downloads a part of the history. If it has expired, the phone is asked for it and sends it
// as a history sync of its own, so that this download fails in any case.
func (t *transport) part(req *http.Request, file download) (*http.Response, error) {
	resp, err := t.first(req, file)
	if err != nil || !file.isExpired(req.URL.RawQuery, resp) {
		return resp, err
	}
	t.report.counts.expired.Add(1)
	peek(resp)
	cause := t.parts.expired(req.Context(), file.fileEncSHA256(), sayingsOf(req.Context()))
	t.report.notHealed(cause)
	return withCause(resp, req, cause), nil
}

// originOf returns the request that a client has made, of which a request can be a later hop. The
// new path belongs to the host that whatsmeow has chosen, and not to the one that a redirect names.
func originOf(req *http.Request) *http.Request {
	for req.Response != nil && req.Response.Request != nil {
		req = req.Response.Request
	}
	return req
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the transport that
// has the connections.
func (t *transport) CloseIdleConnections() {
	if closer, ok := t.base().(interface{ CloseIdleConnections() }); ok {
		closer.CloseIdleConnections()
	}
}

// fromMove downloads a file from where it has moved to. If that fails, the caller's own path is
// tried as it would be without us.
func (t *transport) fromMove(req *http.Request, file download) *http.Response {
	path := t.paths.movedTo(file.location())
	if path == "" {
		return nil
	}
	ctx, cancel := context.WithCancel(req.Context())
	if limit, hurry := t.patience(time.Now()); hurry != nil {
		defer time.AfterFunc(limit, cancel).Stop()
	}
	resp, v, _ := t.follow(ctx, req, file, lead{path: path, vouched: true}, func() {})
	if v == pathGood {
		resp.Body = &timedBody{resp.Body, cancel}
		return resp
	}
	cancel()
	if req.Context().Err() == nil {
		t.paths.unmove(file.location())
	}
	return nil
}

// heal gets an expired file. The error is the cause that [Cause] reports.
func (t *transport) heal(req *http.Request, file download, quiet error, began time.Time) (*http.Response, error) {
	says := sayingsOf(req.Context())
	w := &want{file: file, named: says.named, lane: says.lane, quiet: quiet, pathOnly: pointerOf(req.Context()) != nil}
	if w.quiet == nil {
		w.quiet = says.quiet
	}
	if w.quiet == nil && says.named == nil && t.flights.botAsks() {
		w.quiet = errBotAsks
	}
	w.patience, w.hurry = t.patience(began)
	w.get = func(ctx context.Context, l lead, release func()) (*http.Response, finding, error) {
		return t.follow(ctx, req, file, l, release)
	}
	resp, cause := t.cases.heal(req.Context(), w)
	switch {
	case cause == nil:
		t.report.healed(time.Since(began))
	case file.isStripped():
		t.report.stripped()
		cause = fmt.Errorf("%w: %w", ErrStrippedPath, cause)
	}
	return resp, cause
}

// patience returns for how long, from a moment on, the goroutine that calls it can wait, and with
// which cause it then leaves the request to the next download: an event handler holds up
// whatsmeow's queue, and perhaps the answer too. For other goroutines it returns 0 and nil.
func (h *healer) patience(since time.Time) (time.Duration, error) {
	switch {
	case !host.InHandlerQueue():
		return 0, nil
	case !h.hears():
		return promptAnswer, ErrHandlerBlocked
	}
	return max(0, h.inHandler-time.Since(since)), errInHandler
}

// promptAnswer is how long an event handler waits that keeps the answer from coming: long enough
// for the request to go out.
const promptAnswer = 50 * time.Millisecond

var (
	// errInHandler means that an event handler has waited long enough.
	errInHandler = fmt.Errorf("%w (an event handler waits no longer than Options.HandlerTimeout; the request goes on)", ErrTimeout)
)

// first makes the request that the caller has made. One for a stand-in path does not leave the
// machine.
func (t *transport) first(req *http.Request, file download) (*http.Response, error) {
	if file.isStandIn() {
		return noLonger(req), nil
	}
	return t.exchange(req)
}

// exchange makes one request. The time-out of the bot's HTTP client holds for it, until the end
// of its body.
func (t *transport) exchange(req *http.Request) (*http.Response, error) {
	if t.bot.Timeout <= 0 {
		return t.base().RoundTrip(req)
	}
	ctx, cancel := context.WithTimeout(req.Context(), t.bot.Timeout)
	resp, err := t.base().RoundTrip(req.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Request = req
	resp.Body = &timedBody{resp.Body, cancel}
	return resp, nil
}

// follow gets the file from another path, or for a caller that only wants a path, finds out whether
// it is there. That takes one request for the first byte if the bot or its phone vouches for the
// path, or if it is the caller's own with another query. Otherwise a stranger may have named it,
// and the file is compared with its hash.
func (t *transport) follow(ctx context.Context, req *http.Request, file download, l lead, release func()) (*http.Response, finding, error) {
	point := pointerOf(ctx)
	if point == nil {
		return t.get(ctx, req, file, l, release)
	}
	defer release()
	var resp *http.Response
	var v finding
	var err error
	switch {
	case l.proven:
		return point.to(l.path, req), pathGood, nil
	case l.vouched || directPathOf(l.path).path == file.path.path:
		if resp, v, err = t.ask(firstByteOf(req.WithContext(ctx)), file, l.path); v == pathGood {
			discard(resp)
		}
	default:
		l.checked = false // it is read to its end here
		if resp, v, err = t.get(ctx, req, file, l, func() {}); v == pathGood || v == pathLikely {
			v, err = readThrough(resp)
		}
	}
	if v != pathGood {
		return nil, v, err
	}
	return point.to(l.path, req), pathGood, nil
}

// readThrough reads a file that is compared with its hash on the way, and says what it is.
func readThrough(resp *http.Response) (finding, error) {
	_, err := io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	switch {
	case err == nil:
		return pathGood, nil
	case errors.Is(err, errWasOtherFile):
		return pathWrong, errOtherFile
	}
	return pathBroken, &passingError{text: describe(err)}
}

// get downloads the file from another path, as the bot's HTTP client would: with its time-out, and
// following redirects. The body is compared with the hash of the file before the caller gets it. A
// large one is handed on while it comes, unless it is to be checked first; if it turns out to be
// another file, it ends in an error for which whatsmeow repeats the download, and until then the
// finding is pathLikely, unless the path is vouched for. The cause wraps ErrInvalidAnswer if the
// file is not under the path, and otherwise ErrReplayFailed.
func (t *transport) get(ctx context.Context, req *http.Request, file download, l lead, release func()) (*http.Response, finding, error) {
	resp, v, err := t.ask(req.WithContext(ctx), file, l.path)
	if v != pathGood {
		return nil, v, err
	}
	body, isWhole, err := compared(resp.Body, resp.ContentLength, file.fileEncSHA256(), func(found comparison) {
		release()
		switch {
		case found == same && !l.vouched:
			t.paths.move(file.location(), l.path)
		case found == different:
			t.paths.unmove(file.location())
			if t.paths.doubt(file.at(l.path)) && l.useless != nil {
				l.useless()
			}
		}
	})
	switch {
	case err == nil:
		resp.Body = body
		switch {
		case isWhole || l.vouched:
			return resp, pathGood, nil
		case !l.checked:
			return resp, pathLikely, nil
		}
		if v, err := readThrough(resp); v != pathGood {
			return nil, v, err
		}
		return t.get(ctx, req, file, lead{path: l.path, vouched: true}, func() {})
	case errors.Is(err, errOtherFile):
		return nil, pathWrong, err
	}
	return nil, pathBroken, &passingError{text: describe(err)}
}

// ask makes the request for a file under another path. Only a good response is returned.
func (t *transport) ask(req *http.Request, file download, path string) (*http.Response, finding, error) {
	replay, err := file.requestAt(req, path)
	if err != nil {
		return nil, pathDenied, err
	}
	resp, err := t.bot.Do(replay)
	if err != nil {
		return nil, pathBroken, &passingError{text: describe(err)}
	}
	switch status := resp.StatusCode; {
	case isThere(replay, resp):
		return resp, pathGood, nil
	case isEmpty(replay, resp):
		discard(resp)
		return nil, pathWrong, errOtherFile
	case download{path: directPathOf(path)}.isExpired(replay.URL.RawQuery, resp):
		discard(resp)
		return nil, pathGone, fmt.Errorf("%w: there is nothing under the new path (HTTP status %d)", ErrInvalidAnswer, status)
	case status >= 500, status == http.StatusTooManyRequests:
		discard(resp)
		return nil, pathBroken, &passingError{text: fmt.Sprintf("HTTP status %d", status)}
	default:
		discard(resp)
		return nil, pathDenied, fmt.Errorf("%w: HTTP status %d", ErrReplayFailed, status)
	}
}
