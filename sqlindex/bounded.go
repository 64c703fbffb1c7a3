package sqlindex

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// driverGrace is how long a driver has to notice that the context has ended, and to say more
// precisely why it failed.
const driverGrace = 50 * time.Millisecond

// bounded returns what call returns, or the context's error if the call does not end soon after the
// context. Not every driver ends with it: one waits for SQLite's busy_timeout first, another one
// for a server that is gone. Such a call ends in the background when its driver lets it, and what
// it returns is dropped. A call has the context too, and starts nothing new.
func bounded[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type outcome struct {
		value    T
		err      error
		panicked any
	}
	if err := ctx.Err(); err != nil {
		return *new(T), err
	}
	if ctx.Done() == nil {
		return call()
	}
	done := make(chan outcome, 1)
	go func() {
		growStack()
		var o outcome
		defer func() {
			o.panicked = recover() // it is the caller's, who may have a way to contain it
			done <- o
		}()
		o.value, o.err = call()
	}()
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		select {
		case o = <-done:
		case <-time.After(driverGrace):
			return *new(T), ctx.Err()
		}
	}
	if o.panicked != nil {
		panic(o.panicked)
	}
	if ended := ctx.Err(); o.err != nil && ended != nil && !errors.Is(o.err, ended) {
		o.err = fmt.Errorf("%w: %w", ended, o.err) // drivers have errors of their own for this
	}
	return o.value, o.err
}

// growStack makes room on the stack of a new goroutine. A driver needs some 10 kB of it, and a
// stack that doubles again and again down there takes a quarter of the time of a look-up.
//
//go:noinline
func growStack() {
	var room [12 << 10]byte
	keepStack(&room)
}

//go:noinline
func keepStack(*[12 << 10]byte) {}

const (
	retryPause   = 5 * time.Millisecond
	retryTimeout = 5 * time.Second // for a context without a deadline
)

// retry calls f again while its error may go away by itself.
func retry(ctx context.Context, temporary func(error) bool, f func() error) error {
	for start := time.Now(); ; {
		err := f()
		if err == nil || !temporary(err) || time.Since(start) > retryTimeout {
			return err
		}
		select {
		case <-time.After(retryPause/2 + rand.N(retryPause)): // not all at the same time again
		case <-ctx.Done():
			return err
		}
	}
}
