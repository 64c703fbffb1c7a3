package reupload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// pending is who is waiting for the phone. All who wait for the same file of the same message share one flight.
type pending struct {
	sender  *sender
	timeout time.Duration
	slots   chan struct{} // a place for each flight that waits for the phone; the runtime queues senders in order
	root    context.Context

	// keep stores a new path before anyone is told of it. It must take bounded time.
	keep func(Entry)
	// record notes how a flight ended, and tells whether that is news. It must not block. Late means that its callers had
	// been told otherwise before.
	record func(e Entry, r Result, err error, late bool) (isNews bool)
	// report tells the bot and the log.
	report func(e Entry, r Result, err error, late, isNews bool)

	flying  sync.WaitGroup
	mu      sync.Mutex
	closed  bool
	flights map[types.MessageID][]*flight
}

// A flight is one request on its way: a goroutine that queues for a slot, sends, and waits for the answer.
type flight struct {
	entry   Entry
	cipher  retryCipher
	answers chan reading
	acks    chan *waBinary.Node // from the tap
	cancel  context.CancelCauseFunc

	unsent atomic.Bool // no receipt is on its way that the server may have

	callers  int // guarded by pending.mu, as are the next two
	ended    bool
	standing *reading // the best of the attempts so far, if there were any

	done    chan struct{} // closed when the outcome is set
	outcome reading
}

// A reading is an answer as one flight understands it.
type reading struct {
	result Result
	err    error
	stamp  string // see answer
}

var errNobodyWaits = errors.New("nobody waits for the answer any more")

// ask waits for the phone's answer about a message, sending a request if none is on its way. Without wait it returns
// ErrHandlerBlocked at once, and the request lives on until it is answered or times out.
//
// The error is the context's, ErrTimeout, ErrRejected, ErrInvalidAnswer, ErrClosed, whatsmeow.ErrNotLoggedIn or
// whatsmeow.ErrNotConnected.
func (p *pending) ask(ctx context.Context, e Entry, wait bool) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	f, err := p.join(e)
	if err != nil {
		return Result{}, err
	}
	if !wait {
		return Result{}, ErrHandlerBlocked
	}
	select {
	case <-f.done:
		return f.outcome.result, f.outcome.err
	case <-ctx.Done():
		p.leave(f)
		return Result{}, ctx.Err()
	}
}

// join finds the flight of a message or starts it. It is registered before its request is sent.
func (p *pending) join(e Entry) (*flight, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	for _, f := range p.flights[e.MessageID] {
		if sameMessage(f.entry.Request, e.Request) {
			f.callers++
			return f, nil
		}
	}
	c, err := newRetryCipher(e.MediaKey)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(p.root)
	f := &flight{
		entry:   e,
		cipher:  c,
		answers: make(chan reading, 4), // more than this at once say nothing new
		acks:    make(chan *waBinary.Node, 4),
		cancel:  cancel,
		callers: 1,
		done:    make(chan struct{}),
	}
	f.unsent.Store(true)
	p.flights[e.MessageID] = append(p.flights[e.MessageID], f)
	p.flying.Go(func() { p.fly(ctx, f) })
	return f, nil
}

// leave gives a caller's place up. The last to leave cancels the flight; an answer that still comes is a late one.
func (p *pending) leave(f *flight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.callers--; f.callers == 0 && !f.ended {
		p.end(f, reading{err: errNobodyWaits})
		f.cancel(errNobodyWaits)
	}
}

// end takes a flight off the list and tells its callers. Only the first end of a flight counts. It needs p.mu.
func (p *pending) end(f *flight, r reading) {
	if f.ended {
		return
	}
	f.ended, f.outcome = true, r
	id := f.entry.MessageID
	p.flights[id] = slices.DeleteFunc(p.flights[id], func(other *flight) bool { return other == f })
	if len(p.flights[id]) == 0 {
		delete(p.flights, id)
	}
	close(f.done)
}

// finish ends a flight, or notes what came after its end. What it has found out is recorded before its callers go on.
func (p *pending) finish(f *flight, r reading) {
	p.mu.Lock()
	late := f.ended
	if late && r.err != nil {
		p.mu.Unlock()
		return
	}
	isNews := p.record(f.entry, r.result, r.err, late)
	p.end(f, r)
	p.mu.Unlock()
	p.report(f.entry, r.result, r.err, late, isNews)
}

// fly is the life of a flight.
func (p *pending) fly(ctx context.Context, f *flight) {
	defer f.cancel(nil)
	defer p.sweep(f)
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case r := <-f.answers: // to an earlier request for the same message
		p.land(f, r)
		return
	case <-ctx.Done():
		p.finish(f, reading{err: context.Cause(ctx)})
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, p.timeout, ErrTimeout)
	defer cancel()
	// While whatsmeow dials it holds a lock that a send waits for, whatever the context says. Callers do not wait with it.
	stop := context.AfterFunc(ctx, func() {
		select {
		case <-f.done:
		case <-time.After(stuckPause):
			p.finish(f, p.standing(f, f.cause(ctx)))
		}
	})
	defer stop()
	p.land(f, p.request(ctx, f))
}

// land keeps a new path, so that whoever is told of it can rely on its being there, and ends the flight.
func (p *pending) land(f *flight, r reading) {
	if r.err == nil && r.result.DirectPath != "" {
		found := f.entry
		found.DirectPath = r.result.DirectPath
		p.keep(found)
	}
	p.finish(f, r)
}

// sweep sees to the answers that came when the flight had just ended. Only a path is news then.
func (p *pending) sweep(f *flight) {
	for {
		select {
		case r := <-f.answers:
			if r.err == nil && r.result.DirectPath != "" {
				p.land(f, r)
			}
		default:
			return
		}
	}
}

// request asks under each address of the message in turn, until an answer leaves nothing to hope for from the next.
// If none brings the file back, the first answer stands, or for want of one the first error.
func (p *pending) request(ctx context.Context, f *flight) reading {
	for _, addr := range p.sender.addresses(ctx, f.entry.Request) {
		r := p.attempt(ctx, f, addr)
		if r.err == nil && (r.result.Status == StatusSuccess || r.result.DirectPath != "") {
			return r
		}
		p.mu.Lock()
		if f.standing == nil || f.standing.err != nil && r.err == nil {
			f.standing = &r
		}
		p.mu.Unlock()
		if misaddressed := errors.Is(r.err, ErrRejected) ||
			r.err == nil && (r.result.Status == StatusNotFound || r.result.Status == StatusDecryptionError); !misaddressed {
			break
		}
	}
	return p.standing(f, nil)
}

// cause returns why a flight's context has ended.
func (f *flight) cause(ctx context.Context) error {
	err := context.Cause(ctx)
	if err == ErrTimeout && f.unsent.Load() {
		err = fmt.Errorf("%w: %w", err, whatsmeow.ErrNotConnected)
	}
	return err
}

// standing returns what the attempts of a flight have brought so far, or an error if none has ended.
func (p *pending) standing(f *flight, otherwise error) reading {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.standing == nil {
		return reading{err: otherwise}
	}
	return *f.standing
}

// attempt sends one receipt and waits for its answer. If the connection goes before the server has acknowledged the
// receipt, it is sent again after the next login; after that the server holds the answer until the client is back.
func (p *pending) attempt(ctx context.Context, f *flight, addr address) reading {
	for len(f.acks) > 0 {
		<-f.acks // of an earlier attempt
	}
	for {
		f.unsent.Store(true)
		d, err := p.sender.send(ctx, f.entry.Request, addr, f.cipher)
		f.unsent.Store(err != nil)
		r := reading{err: err}
		if err == nil || err == errInterrupted {
			r = p.await(ctx, f, d, err == errInterrupted)
		}
		d.release()
		if r.err != errInterrupted {
			return r
		}
	}
}

const (
	// resendPause is how long after a login the server has time to deliver an answer that it held, before the receipt is sent
	// again: the phone would upload the file once more.
	resendPause = 500 * time.Millisecond
	// repeatPause is how long an answer that may be a mere repetition has to wait for a better one.
	repeatPause = 2 * time.Second
	// watchPause is how often it is seen whether whatsmeow still means to reconnect: nobody is told when the bot disconnects.
	watchPause = 250 * time.Millisecond
	// stuckPause is how long after its time-out a flight that cannot end by itself is ended.
	stuckPause = 250 * time.Millisecond
)

// await returns the answer to a receipt, or errInterrupted once the client is back online and the receipt must be sent again.
func (p *pending) await(ctx context.Context, f *flight, d delivery, interrupted bool) reading {
	var acked bool
	var repeated reading
	var settle, resend <-chan time.Time
	for {
		var watch <-chan time.Time
		if f.unsent.Store(interrupted); interrupted {
			watch = time.After(watchPause)
		}
		var nextLogin <-chan struct{}
		if interrupted && resend == nil {
			nextLogin = d.nextLogin
		}
		var ack *waBinary.Node
		select {
		case r := <-f.answers:
			if f.isRepetition(r) {
				repeated, settle = r, time.After(repeatPause)
				continue
			}
			return r
		case <-settle:
			return repeated
		case ack = <-f.acks:
		case ack = <-d.acks:
			if d.acks = nil; isAckOf(ack, "") { // of another receipt for the message, such as that of its delivery
				d.acks = p.sender.nextAck(f.entry.MessageID)
			}
		case <-d.gone:
			if d.gone = nil; acked {
				continue // the server has the request, and holds the answer until we are back
			}
			if interrupted = p.sender.reconnecting(); !interrupted {
				return reading{err: whatsmeow.ErrNotConnected}
			}
		case <-nextLogin:
			resend = time.After(resendPause)
		case <-resend:
			return reading{err: errInterrupted}
		case <-ctx.Done():
			return reading{err: f.cause(ctx)}
		case <-watch:
			if !p.sender.reconnecting() {
				return reading{err: whatsmeow.ErrNotConnected}
			}
		}
		if isAckOf(ack, "server-error") {
			if err := ackError(ack); err != nil {
				return reading{err: err}
			}
			acked = true
		}
	}
}

// isRepetition tells whether an answer may be the one to an earlier attempt once more. Encrypted answers are known by their
// nonces, but an error has none. It is not taken for the answer to this attempt unless no other comes.
func (f *flight) isRepetition(r reading) bool {
	return r.stamp != "" && f.standing != nil && f.standing.stamp == r.stamp
}

// deliver hands an answer to the flights that wait for it, and tells whether there are any. It never blocks.
//
// Nothing but the message id says which request an answer belongs to. Where a message holds several files, the answer is
// for the one whose media key opens it. If none does, it may be for a file that nobody waits for any more, and only who knows
// better can tell: the flights that wait under the id are returned.
func (p *pending) deliver(a answer) (taken bool, unopened []*flight) {
	p.mu.Lock()
	flights := slices.Clone(p.flights[a.id])
	p.mu.Unlock()
	for _, f := range flights {
		if r := a.readFor(f); r.result.cause != nil {
			unopened = append(unopened, f)
		} else if p.offer(f, r) {
			taken = true
		}
	}
	return taken, unopened
}

// readFor reads an answer as one flight understands it.
func (a answer) readFor(f *flight) reading {
	result, err := a.read(f.cipher)
	return reading{result, err, a.stamp}
}

// offer gives a flight an answer, unless it has ended.
func (p *pending) offer(f *flight, r reading) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f.ended {
		return false
	}
	select {
	case f.answers <- r:
	default:
	}
	return true
}

// deliverAck hands an ack that the tap has seen to the flights for its message. It never blocks.
func (p *pending) deliverAck(ack *waBinary.Node) {
	id, _ := ack.Attrs["id"].(string)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.flights[id] {
		select {
		case f.acks <- ack:
		default:
		}
	}
}

// failAll ends every flight.
func (p *pending) failAll(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, flights := range p.flights {
		for _, f := range slices.Clone(flights) {
			p.end(f, reading{err: err})
			f.cancel(err)
		}
	}
}

// waiting returns how many flights there are, queued ones too.
func (p *pending) waiting() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, flights := range p.flights {
		n += len(flights)
	}
	return n
}

// close ends every flight with ErrClosed, and starts no more.
func (p *pending) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.failAll(ErrClosed)
}
