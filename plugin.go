package reupload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// Options configures a [Plugin]. The zero value works, and so does nil.
type Options struct {
	// Index remembers which message a file belongs to. It can be shared by many plugins.
	// Defaults to NewMemoryIndex(DefaultMemoryCapacity), which forgets with the process.
	Index Index
	// Lookup is asked when the index does not know a file: which messages does it belong to? It is
	// for a bot that has messages in a database of its own, and is a SELECT by the SHA-256 of the
	// encrypted file (32 bytes) there. It returns the likeliest message first, and nil if it knows
	// none. Its context ends after two seconds. Defaults to none.
	Lookup func(ctx context.Context, fileEncSHA256 []byte) ([]Request, error)
	// Timeout is how long one request waits for the phone, from when it is sent, and before that
	// for its turn. Defaults to 30 seconds.
	Timeout time.Duration
	// HandlerTimeout is how long a download inside an event handler waits for the phone: the bot's
	// next message waits behind it. The request goes on, and the next download finds its answer.
	// Defaults to 10 seconds.
	HandlerTimeout time.Duration
	// MaxInFlight is how many requests wait for the phone at once. Further ones queue.
	// Defaults to 32.
	MaxInFlight int
	// RefusalPause is how long a file is not asked for again by itself after the phone has said,
	// sealed, that it lost it, or after an answer that cannot be decrypted. RequestReupload asks
	// all the same. Defaults to 24 hours; negative for none.
	RefusalPause time.Duration
	// SilencePause is the same after a time-out, an unsealed or general error, a refused receipt or
	// an answer that makes no sense. It doubles with each further one in a row, up to RefusalPause.
	// After silence, a file is not asked for again for up to three days while the phone has
	// answered nothing to anybody since. Defaults to an hour; negative for none.
	SilencePause time.Duration
	// BackfillPace is the least time between two requests of a backfill. Defaults to a second;
	// negative for none.
	BackfillPace time.Duration
	// FillMissingPaths gives media that comes without a direct path, as in history syncs, a
	// stand-in for one, so that a bare client.Download of it can heal, and not only
	// [Plugin.Download]. The bot's handlers see the stand-in in the message. It never leaves the
	// machine while the plugin is registered; a bot that stores it must keep the plugin to
	// download with it.
	FillMissingPaths bool
	// OnReupload is told of every new path, late ones too, on a goroutine of its own.
	// Defaults to nobody.
	OnReupload func(Reupload)
	// HTTPClient is what media requests go out with. It is copied, not changed.
	// Defaults to the media client that the whatsmeow client has, with its proxy.
	HTTPClient *http.Client
	// Log defaults to client.Log.Sub("Reupload").
	Log waLog.Logger
}

// A Plugin heals the downloads of one whatsmeow client. All methods can be called concurrently.
type Plugin struct {
	client    *whatsmeow.Client
	log       waLog.Logger
	notify    func(Reupload)
	lookup    func(ctx context.Context, fileEncSHA256 []byte) ([]Request, error)
	inHandler time.Duration // Options.HandlerTimeout
	walker    walker        // copied for each message

	index   *guardedIndex
	ledger  *ledger
	policy  policy
	queue   *queue
	sender  *sender
	pending *pending
	media   *mediaWrap
	stats   counters

	handlerID uint32
	degraded  error

	saidHealed, saidStripped, saidLookup atomic.Bool // once at Info, then at Debug

	lateAnswers sync.Mutex

	root    context.Context // ends with Close
	cancel  context.CancelCauseFunc
	closing sync.Once
	mu      sync.Mutex // guards closed and the start of goroutines
	closed  atomic.Bool
	spawned sync.WaitGroup
}

// Register makes the downloads of a client heal. Call it right after whatsmeow.NewClient, before
// Connect: later it works as well as it can, and [Plugin.Degraded] says what does not. Options
// may be nil.
//
// The media HTTP client that the client has is wrapped with its proxy, time-out and cookie jar, and
// not changed. A proxy or media client that is set later is noticed with the next events.
//
// The error is ErrAlreadyRegistered or whatsmeow.ErrClientIsNil, or says what is wrong: with the
// options, with the client's media HTTP client, or that Register was called inside an event handler
// of this client, where it would deadlock.
func Register(client *whatsmeow.Client, opts *Options) (*Plugin, error) {
	if client == nil {
		return nil, whatsmeow.ErrClientIsNil
	}
	if opts == nil {
		opts = new(Options)
	}
	if opts.Timeout < 0 || opts.HandlerTimeout < 0 || opts.MaxInFlight < 0 {
		return nil, errors.New("reupload: Options.Timeout, HandlerTimeout and MaxInFlight must not be negative; 0 is the default")
	}
	list, listed := handlersOf(client)
	if calledFrom(stackDispatch) && (!listed || !list.isFree(registerPatience)) {
		return nil, errors.New("reupload: Register would deadlock inside an event handler; call it right after NewClient")
	}
	if current, readable := mediaClient(client); readable && isOurs(current) {
		return nil, ErrAlreadyRegistered
	}
	p := newPlugin(client, opts)
	var errTap error
	if p.sender.tap, errTap = installTap(client, p.tapped); errors.Is(errTap, ErrAlreadyRegistered) {
		return nil, ErrAlreadyRegistered
	}
	if err := p.media.install(opts.HTTPClient); err != nil {
		if p.sender.tap != nil {
			p.sender.tap.mute()
		}
		return nil, err
	}
	p.sender.identify()
	p.sender.wasOnline.Store(client.IsLoggedIn())
	p.handlerID = client.AddEventHandlerWithSuccessStatus(p.handle)
	var errOrder error
	if !listed || !list.moveToFront(p.handlerID, registerPatience) {
		errOrder = errors.New("other event handlers come first, so that what they download is not remembered yet; call Register before adding them")
	}
	if errTap != nil {
		errTap = fmt.Errorf("downloads inside event handlers do not heal at once, but fail and heal the next time: %w", errTap)
	}
	p.degraded = errors.Join(errTap, errOrder)
	p.announce(opts)
	return p, nil
}

// registerPatience is how long Register waits for event handlers that are running.
const registerPatience = 100 * time.Millisecond

func newPlugin(client *whatsmeow.Client, opts *Options) *Plugin {
	p := &Plugin{
		client:    client,
		log:       opts.Log,
		notify:    opts.OnReupload,
		lookup:    opts.Lookup,
		inHandler: defaultTo(opts.HandlerTimeout, 10*time.Second),
		ledger:    newLedger(),
		policy: policy{
			refusalPause: max(0, defaultTo(opts.RefusalPause, 24*time.Hour)),
			silencePause: max(0, defaultTo(opts.SilencePause, time.Hour)),
		},
		queue: &queue{
			places: defaultTo(opts.MaxInFlight, 32),
			pace:   max(0, defaultTo(opts.BackfillPace, time.Second)),
		},
		sender: &sender{client: client},
	}
	if p.log == nil {
		p.log = client.Log.Sub("Reupload")
	}
	p.walker = walker{isOwn: p.sender.isOwn, fill: opts.FillMissingPaths}
	p.media = &mediaWrap{client: client, plugin: p, log: p.log}
	p.index = &guardedIndex{index: opts.Index, account: p.sender.ownID, log: p.log}
	if p.index.index == nil {
		p.index.index = NewMemoryIndex(DefaultMemoryCapacity)
	}
	p.root, p.cancel = context.WithCancelCause(context.Background())
	p.pending = &pending{
		sender:  p.sender,
		queue:   p.queue,
		ledger:  p.ledger,
		timeout: defaultTo(opts.Timeout, 30*time.Second),
		root:    p.root,
		store:   func(e Entry) { p.index.put(context.Background(), []Entry{e}) }, // Close does not undo what the phone has done
		report:  p.report,
		drivers: make(map[types.MessageID][]*driver),
	}
	return p
}

func defaultTo[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// announce says once what there is, and what does not work.
func (p *Plugin) announce(opts *Options) {
	state := "everything works"
	if p.degraded != nil {
		state = "degraded"
		p.log.Warnf("Not everything works on this client: %v", p.degraded)
	}
	index := "in memory, which forgets with the process"
	if opts.Index != nil {
		index = fmt.Sprintf("%T", opts.Index)
	}
	p.log.Infof("Expired media will be asked for: index %s; %s for an answer, %s in event handlers; %d requests at once; %s",
		index, p.pending.timeout, p.inHandler, p.queue.places, state)
}

// Degraded says what does not work as it should on this client, and why; nil if all does. Register
// has logged it.
func (p *Plugin) Degraded() error { return p.degraded }

// RequestReupload asks the phone to upload the media of a message again and waits for its answer.
// Calls for the same file share one request. It asks even if the phone has refused a while ago.
//
// A Result is any answer of the phone, good or bad: see [Result.Err]. An error means that there is
// no answer: the context's error, ErrTimeout, ErrPhoneSilent, ErrBusy, ErrRejected,
// ErrInvalidAnswer, ErrHandlerBlocked, ErrClosed, whatsmeow.ErrNotLoggedIn or
// whatsmeow.ErrNotConnected; or, with nothing sent, ErrInvalidRequest or ErrNewsletter.
func (p *Plugin) RequestReupload(ctx context.Context, req Request) (Result, error) {
	began := time.Now()
	p.media.notice(true)
	c, err := p.candidateOf(ctx, req)
	if err != nil {
		return Result{}, err
	}
	return p.pending.ask(ctx, question{entry: c.entry, key: c.key, lane: laneOf(ctx), since: began, patience: p.patience(began)})
}

// candidateOf returns what is known of a request. One whose file is not known is remembered, so
// that a late answer can be opened.
func (p *Plugin) candidateOf(ctx context.Context, req Request) (candidate, error) {
	req, err := req.normalize()
	if err != nil {
		return candidate{}, err
	}
	e := Entry{Request: p.complete(ctx, req)}
	asked := p.candidates(ctx, []Entry{e})[0]
	for _, known := range p.candidates(ctx, p.index.byMessage(ctx, req.MessageID)) {
		if known.key.withoutFile() == asked.key {
			known.entry.Request = e.Request
			return known, nil
		}
	}
	p.index.put(ctx, []Entry{e})
	return asked, nil
}

// patience returns for how long the goroutine that calls the result can wait, and reports whether
// it is limited: an event handler holds up whatsmeow's queue, and perhaps the answer too.
func (p *Plugin) patience(since time.Time) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		switch {
		case !calledFrom(stackQueue):
			return 0, nil
		case !p.sender.tapped():
			return 0, ErrHandlerBlocked
		}
		return max(0, p.inHandler-time.Since(since)), errInHandler
	}
}

// Remember puts the media of a message into the index by hand. Messages and history syncs
// that arrive while the plugin is registered are remembered without. A message without media,
// or with media that cannot be requested, is no error. With Options.FillMissingPaths it fills
// them in the message.
//
// The error wraps ErrInvalidRequest, or is ErrClosed, whatsmeow.ErrNotLoggedIn, the context's or
// the index's own.
func (p *Plugin) Remember(ctx context.Context, info *types.MessageInfo, msg *waE2E.Message) error {
	if info == nil || info.ID == "" || info.Chat.IsEmpty() {
		return fmt.Errorf("%w: Remember needs the message's id and chat", ErrInvalidRequest)
	}
	if err := p.canRemember(); err != nil {
		return err
	}
	return p.index.putFor(ctx, p.index.timeout(), p.walker.mediaOf(info, msg))
}

// RememberHistory puts the media of a history sync into the index, for bots that set
// client.ManualHistorySyncDownload, where no event comes: call it with what
// client.DownloadHistorySync returns. Messages without media are no error.
//
// The error is as of [Plugin.Remember].
func (p *Plugin) RememberHistory(ctx context.Context, data *waHistorySync.HistorySync) error {
	if err := p.canRemember(); err != nil {
		return err
	}
	return p.rememberHistory(ctx, data)
}

func (p *Plugin) canRemember() error {
	switch {
	case p.isClosed():
		return ErrClosed
	case p.sender.ownID().IsEmpty():
		return whatsmeow.ErrNotLoggedIn
	}
	return nil
}

// lookUp asks Options.Lookup for the messages of a file.
func (p *Plugin) lookUp(ctx context.Context, fileEncSHA256 []byte) (found []Entry) {
	if p.lookup == nil {
		return nil
	}
	requests, err := within(ctx, indexTimeout, func(ctx context.Context) (requests []Request, err error) {
		defer p.contain("Options.Lookup")
		return p.lookup(ctx, fileEncSHA256)
	})
	if err != nil {
		p.say(&p.saidLookup, "Options.Lookup failed: %v", err)
	}
	for _, req := range requests {
		if req, err = req.normalize(); err != nil {
			p.say(&p.saidLookup, "Options.Lookup returned a request that cannot be made: %v", err)
			continue
		}
		found = append(found, Entry{Request: p.complete(ctx, req), FileEncSHA256: fileEncSHA256})
	}
	p.index.put(ctx, found) // so that what comes of it is remembered
	return found
}

// report tells the log how a request ended, and the bot of a new path.
func (p *Plugin) report(e Entry, r reading, late, isNews bool) {
	switch {
	case r.err != nil:
		p.log.Debugf("No re-upload of %v: %v", e.Request, r.err)
	case r.result.DirectPath == "":
		p.log.Debugf("No re-upload of %v: the phone answered %v", e.Request, r.result.Status)
	case late && isNews:
		p.stats.late.Add(1)
		p.log.Debugf("A late answer has brought %v back", e.Request)
	}
	if isNews && p.notify != nil {
		told := Reupload{Request: e.Request, Result: r.result, FileEncSHA256: e.FileEncSHA256, Late: late, At: time.Now()}
		go func() {
			defer p.contain("Options.OnReupload")
			p.notify(told)
		}()
	}
}

// notHealed counts a download that was not healed. The first one with each cause is told at Info.
func (p *Plugin) notHealed(cause error) {
	if p.stats.fail(cause) {
		p.log.Infof("A download was not healed (further ones for the same reason at Debug): %v", cause)
	} else {
		p.log.Debugf("A download was not healed: %v", cause)
	}
}

func (p *Plugin) warnStripped() {
	if !p.saidStripped.Swap(true) {
		p.log.Warnf("The bot downloads from direct paths without their query, which the CDN never accepts: store direct paths whole")
	}
}

// say logs the first of its kind at Info and the rest at Debug.
func (p *Plugin) say(said *atomic.Bool, format string, args ...any) {
	if said.Swap(true) {
		p.log.Debugf(format, args...)
	} else {
		p.log.Infof(format, args...)
	}
}

func (p *Plugin) isClosed() bool { return p.closed.Load() }

// spawn runs a function on a goroutine that Close waits for.
func (p *Plugin) spawn(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isClosed() {
		p.spawned.Go(func() {
			defer p.contain("a goroutine")
			f()
		})
	}
}

// Close ends all waiting with ErrClosed and leaves the client as it was before Register, but for
// a mute logger in the place of its receive logger, which passes everything on: the field has no
// lock, so that it cannot be put back safely. It can be called from anywhere, an event handler
// too, and more than once. It waits for the plugin's goroutines, but for no more than a second
// where whatsmeow holds them up: while it dials. An event handler that is running keeps the
// plugin's own on the list until it returns. It does not wait for an OnReupload that is running.
// It always returns nil.
func (p *Plugin) Close() error {
	p.closing.Do(p.close)
	return nil
}

// closePatience is how long Close waits for whatsmeow, which holds a lock while it dials.
const closePatience = time.Second

func (p *Plugin) close() {
	p.mu.Lock()
	p.closed.Store(true)
	p.mu.Unlock()
	p.cancel(ErrClosed)
	p.pending.close()
	if p.sender.tap != nil {
		p.sender.tap.mute()
	}
	p.media.remove()
	quiet := make(chan struct{})
	go func() {
		p.pending.flying.Wait()
		p.spawned.Wait()
		close(quiet)
	}()
	select {
	case <-quiet:
	case <-time.After(closePatience): // what is left does nothing any more, and ends when whatsmeow lets it
	}
	p.removeHandler()
}

// removeHandler takes our event handler off the list, now or as soon as no event handler runs.
// Until then it does nothing.
func (p *Plugin) removeHandler() {
	list, ok := handlersOf(p.client)
	if ok && !list.remove(p.handlerID, 0) {
		time.AfterFunc(removePause, p.removeHandler)
	}
}

const removePause = 20 * time.Millisecond
