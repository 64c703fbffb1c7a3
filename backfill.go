package reupload

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// An Answer is what came of one of the requests of [Plugin.RequestAll].
type Answer struct {
	Request Request
	Result  Result
	Err     error // why there is no Result, as of RequestReupload
}

// LogValue implements [slog.LogValuer]: media key and path are secrets.
func (a Answer) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("%v: %v, %v", a.Request, a.Result, a.Err))
}

// RequestAll asks the phone for many files, as a backfill: it gives way to all other requests,
// keeps Options.Pace, and has at most Options.MaxInFlight in the air. At the default pace of one a
// second, 10,000 files take 2.8 hours. A silent phone makes it wait, and not fail.
//
// What is known already is not asked for, and costs nothing: a path that the phone has told and
// that has not expired, which is a Result; and a refusal or a silence that is not old enough to ask
// again, which is a Result or an Err that says so. So a second run over the same files asks only
// for those whose pause is over: see [PausedError] and Options.RefusalPause.
//
// The results come in no order, each request once, and memory does not grow with their number.
// Leaving the loop or ending ctx stops it; what is in the air then is still used when it comes. It
// takes its time, so that it is not for event handlers.
func (p *Plugin) RequestAll(ctx context.Context, requests iter.Seq[Request]) iter.Seq[Answer] {
	return func(yield func(Answer) bool) {
		if requests == nil {
			return
		}
		ctx, cancel := context.WithCancel(WithBackfill(ctx))
		next, stop := iter.Pull(requests)
		answers, left := make(chan Answer), make(chan struct{})
		var asking sync.WaitGroup
		defer asking.Wait()
		defer stop()
		defer cancel()
		defer close(left)
		more := true
		for inAir := 0; ; inAir-- {
			for more && inAir < p.flights.atOnce() && ctx.Err() == nil {
				var req Request
				if req, more = next(); !more {
					break
				}
				inAir++
				asking.Go(func() {
					answer := p.answerFor(ctx, req)
					select {
					case answers <- answer:
					case <-left:
					}
				})
			}
			if inAir == 0 || !yield(<-answers) {
				return
			}
		}
	}
}

// answerFor is what RequestAll does for one request.
func (p *Plugin) answerFor(ctx context.Context, req Request) Answer {
	named, err := p.catalog.named(ctx, Entry{Request: req})
	if err != nil {
		return Answer{Request: req, Err: err}
	}
	who := named[0]
	if answer, known := p.alreadyKnown(&who.entry, time.Now()); known {
		answer.Request = req
		return answer
	}
	result, err := p.flights.ask(ctx, question{entry: who.entry, key: who.key, source: who.source(), lane: backfill, byBot: true})
	return Answer{req, result, err}
}

// alreadyKnown returns what is known of a file, if that leaves nothing to ask.
func (p *Plugin) alreadyKnown(e *Entry, now time.Time) (Answer, bool) {
	if e.Asked.Outcome == outcomeFound && e.DirectPath != "" {
		_, query, _ := strings.Cut(e.DirectPath, "?")
		lives := now.Sub(e.Asked.At) < pathLife && !pastExpiry(query, now)
		return Answer{Result: Result{Status: StatusSuccess, DirectPath: e.DirectPath}}, lives
	}
	err := p.policy.refusal(e, now, p.flights.lastHeard())
	if err == nil || p.flights.isAwaited(e) {
		return Answer{}, false
	}
	switch e.Asked.Outcome {
	case outcomeNotFound:
		return Answer{Result: Result{Status: StatusNotFound}}, true
	case outcomeDecryption:
		return Answer{Result: Result{Status: StatusDecryptionError, cause: err}}, true
	}
	return Answer{Err: err}, true
}
