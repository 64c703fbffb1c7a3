package reupload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"
)

// How much of a failed response is read at most, and for how long.
const (
	peekSize     = 8 << 10
	peekPatience = time.Second
)

// peek returns the first bytes of a failed response's body and puts them back in front. A body that
// does not come is closed.
func peek(resp *http.Response) []byte {
	if resp.Body == http.NoBody {
		return nil
	}
	body := &onceBody{ReadCloser: resp.Body}
	timer := time.AfterFunc(peekPatience, func() { body.Close() })
	head, err := io.ReadAll(io.LimitReader(body, peekSize))
	timer.Stop()
	rest := io.Reader(body)
	if err != nil {
		rest = failingReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), body}
	return head
}

// discard closes a failed response, and keeps its connection if the body is short.
func discard(resp *http.Response) {
	peek(resp)
	resp.Body.Close()
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// A onceBody closes its body once, however often Close is called.
type onceBody struct {
	io.ReadCloser
	once sync.Once
	err  error
}

func (b *onceBody) Close() error {
	b.once.Do(func() { b.err = b.ReadCloser.Close() })
	return b.err
}

// A timedBody ends the time-out of its exchange.
type timedBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *timedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.cancel()
	}
	return n, err
}

func (b *timedBody) Close() error {
	b.cancel()
	return b.ReadCloser.Close()
}

// comparedAtOnce is the size up to which a file from another path is compared with its hash before
// the caller gets it. Pictures and most videos are smaller.
const comparedAtOnce = 8 << 20

// A comparison is what was found about a body that was to have a hash.
type comparison int

const (
	unfinished comparison = iota // it was not read to its end, or there is no hash
	same
	different
)

var errOtherFile = fmt.Errorf("%w: another file is under the new path", ErrInvalidAnswer)

// compared returns a body that gives the file with a hash, or any file if that is nil. The error is
// errOtherFile, or why the body has broken off; the body is closed then. A body that is too large
// for that, which is not whole, gives an error in place of its end. ended is called when the body
// has ended or was closed, with what was found.
func compared(body io.ReadCloser, length int64, want []byte, ended func(comparison)) (c io.ReadCloser, isWhole bool, err error) {
	if want == nil {
		return &comparedBody{Reader: body, Closer: body, ended: ended}, true, nil
	}
	var head bytes.Buffer
	if length > 0 && length <= comparedAtOnce {
		head.Grow(int(length) + bytes.MinRead)
	}
	if _, err := head.ReadFrom(io.LimitReader(body, comparedAtOnce+1)); err != nil {
		body.Close()
		return nil, false, err
	}
	if head.Len() <= comparedAtOnce {
		body.Close()
		if sum := sha256.Sum256(head.Bytes()); !bytes.Equal(sum[:], want) {
			return nil, false, errOtherFile
		}
		ended(same)
		return io.NopCloser(&head), true, nil
	}
	return &comparedBody{Reader: io.MultiReader(&head, body), Closer: body, hash: sha256.New(), want: want, ended: ended}, false, nil
}

// errWasOtherFile ends the body of a large file that has turned out to be another one.
var errWasOtherFile = &passingError{"another file was under a path"}

// A comparedBody compares a file with its hash while the caller gets it.
type comparedBody struct {
	io.Reader
	io.Closer
	hash  hash.Hash // nil to compare nothing
	want  []byte
	ended func(comparison)
	once  sync.Once
}

func (b *comparedBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if b.hash != nil {
		b.hash.Write(p[:n])
	}
	switch {
	case err == nil:
	case err == io.EOF && b.hash != nil && !bytes.Equal(b.hash.Sum(nil), b.want):
		b.once.Do(func() { b.ended(different) })
		return n, errWasOtherFile
	case err == io.EOF && b.hash != nil:
		b.once.Do(func() { b.ended(same) })
	default:
		b.once.Do(func() { b.ended(unfinished) })
		if err != io.EOF && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
			err = &passingError{describe(err)}
		}
	}
	return n, err
}

func (b *comparedBody) Close() error {
	b.once.Do(func() { b.ended(unfinished) })
	return b.Closer.Close()
}

// A passingError is why a download from a new path failed that may succeed when it is tried again.
// Its text holds nothing of the URL, which errors of transports can quote.
type passingError struct{ text string }

func (e *passingError) Error() string { return ErrReplayFailed.Error() + ": " + e.text }
func (e *passingError) Unwrap() error { return ErrReplayFailed }

// Timeout and Temporary make it a [net.Error], for which whatsmeow repeats a download.
func (e *passingError) Timeout() bool   { return false }
func (e *passingError) Temporary() bool { return true }

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
