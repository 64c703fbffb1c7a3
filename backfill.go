package reupload

import (
	"context"
	"iter"
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

// RequestAll asks the phone for many files, as a backfill: it gives way to all other requests,
// keeps Options.BackfillPace, and has at most Options.MaxInFlight in the air. A silent phone makes
// it wait, and not fail. What is known already is not asked for: a path that the phone has told and
// that has not expired, or a refusal that is not old enough to ask again.
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
			for more && inAir < p.queue.places && ctx.Err() == nil {
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
	c, err := p.candidateOf(ctx, req)
	if err != nil {
		return Answer{Request: req, Err: err}
	}
	if answer, known := p.alreadyKnown(c.entry, time.Now()); known {
		answer.Request = req
		return answer
	}
	result, err := p.pending.ask(ctx, question{entry: c.entry, key: c.key, lane: backfill, since: time.Now()})
	return Answer{req, result, err}
}

// pathLife is for how long a path is taken to live. Files vanish from the CDN after two
// to three weeks.
const pathLife = 14 * 24 * time.Hour

// alreadyKnown returns what is known of a file, if that leaves nothing to ask.
func (p *Plugin) alreadyKnown(e Entry, now time.Time) (Answer, bool) {
	if e.Asked.Outcome == OutcomeFound && e.DirectPath != "" {
		_, query, _ := strings.Cut(e.DirectPath, "?")
		lives := now.Sub(e.Asked.At) < pathLife && !pastExpiry(query, now)
		return Answer{Result: Result{Status: StatusSuccess, DirectPath: e.DirectPath}}, lives
	}
	err := p.policy.refusal(&e, now, p.queue.lastHeard())
	if err == nil {
		return Answer{}, false
	}
	switch e.Asked.Outcome {
	case OutcomeNotFound:
		return Answer{Result: Result{Status: StatusNotFound}}, true
	case OutcomeDecryption:
		return Answer{Result: Result{Status: StatusDecryptionError, cause: err}}, true
	}
	return Answer{Err: err}, true
}
