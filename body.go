package reupload

import (
	"bytes"
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"net/http"
	"sync"
	"time"
)

// What is read of a failed response at the most, and for how long.
const (
	peekSize     = 8 << 10
	peekPatience = time.Second
)

// peek returns the first bytes of a failed response's body and puts them back in front. A body that
// does not come is closed.
func peek(resp *http.Response) []byte {
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

// A onceBody can be closed by two.
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

// A verifiedBody watches what comes from a new path. whatsmeow refuses a file with another hash,
// but would be led to the same path the next time.
type verifiedBody struct {
	io.ReadCloser
	hash  hash.Hash
	want  []byte
	wrong func()
}

func verified(body io.ReadCloser, want []byte, wrong func()) io.ReadCloser {
	if want == nil {
		return body
	}
	return &verifiedBody{ReadCloser: body, hash: sha256.New(), want: want, wrong: wrong}
}

func (b *verifiedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.hash.Write(p[:n])
	if err == io.EOF && b.want != nil && !bytes.Equal(b.hash.Sum(nil), b.want) {
		b.wrong()
		b.want = nil // once
	}
	return n, err
}
