package reupload

import (
	"context"
	"errors"
	"time"
)

// RequestReupload asks the phone to upload the media of a message again and waits for its answer.
// Calls for the same file share one request. It asks even if the phone has refused a while ago, and
// even if it is silent.
//
// A Result is any answer of the phone, good or bad: see [Result.Err]. An error means that there is
// no answer: the context's error, ErrTimeout, ErrBusy, ErrRejected, ErrInvalidAnswer,
// ErrHandlerBlocked, ErrClosed, whatsmeow.ErrNotLoggedIn or whatsmeow.ErrNotConnected; or, with
// nothing sent, ErrInvalidRequest or ErrNewsletter.
func (p *Plugin) RequestReupload(ctx context.Context, req Request) (Result, error) {
	p.media.notice(true)
	named, err := p.catalog.named(ctx, Entry{Request: req})
	if err != nil {
		return Result{}, err
	}
	who := named[0]
	if limit, hurry := p.healer.patience(time.Now()); hurry != nil {
		limited, cancel := context.WithTimeoutCause(ctx, limit, hurry)
		defer cancel()
		ctx = limited
	}
	return p.flights.ask(ctx, question{entry: who.entry, key: who.key, source: who.source(), lane: laneOf(ctx), byBot: true, insists: true})
}

// Degraded says what does not work as it should on this client, and why; nil if all does. Register
// has logged it. What shows only when nodes or messages come is added then, and logged too: a
// whatsmeow that has changed can hide nodes from the plugin, or the functions that call it.
func (p *Plugin) Degraded() error { return errors.Join(p.degraded, p.handler.degraded()) }

// Stats returns the counts so far.
func (p *Plugin) Stats() Stats {
	s := p.report.counts.snapshot()
	s.Asked, s.Waiting = p.sender.asked.Load(), p.flights.waiting()
	return s
}
