package reupload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// Options configures a [Plugin]. The zero value works, and so does nil.
type Options struct {
	// Index remembers which message a file belongs to. It can be shared by many plugins.
	// Defaults to NewMemoryIndex(DefaultMemoryCapacity), which forgets with the process.
	Index Index
	// Timeout is how long one request waits for the phone, from when it is sent. Defaults to 30 seconds.
	Timeout time.Duration
	// MaxInFlight is how many requests wait for the phone at once. Further ones queue. Defaults to 32.
	MaxInFlight int
	// RefusalPause is how long a message is not asked for again by itself after the phone has said that it lost the file or
	// after an answer that cannot be decrypted. RequestReupload asks all the same. Defaults to an hour; negative for none.
	RefusalPause time.Duration
	// SilencePause is the same after a time-out, a general error, a refused receipt or an answer that makes no sense.
	// Defaults to a minute; negative for none.
	SilencePause time.Duration
	// OnReupload is told of every new path, late ones too, on a goroutine of its own. Defaults to nobody.
	OnReupload func(Reupload)
	// HTTPClient is what media requests go out with. It is copied, not changed.
	// Defaults to the media client that the whatsmeow client has, with its proxy.
	HTTPClient *http.Client
	// Log defaults to client.Log.Sub("Reupload").
	Log waLog.Logger
}

// A Plugin heals the downloads of one whatsmeow client. All methods can be called concurrently.
type Plugin struct {
	client *whatsmeow.Client
	log    waLog.Logger
	notify func(Reupload)

	index   *guardedIndex
	memory  *memory
	sender  *sender
	pending *pending
	stats   counters

	handlerID uint32

	wrapping sync.Mutex   // guards what the media client is replaced with
	wrapped  *http.Client // ours
	original *http.Client // put back by Close

	lateAnswers sync.Mutex

	root    context.Context // ends with Close
	cancel  context.CancelCauseFunc
	closing sync.Once
	mu      sync.Mutex // guards closed and the start of goroutines
	closed  atomic.Bool
	spawned sync.WaitGroup
}

// Register makes the downloads of a client heal. Call it right after whatsmeow.NewClient: before Connect, so that downloads
// inside event handlers heal too, and before other event handlers are added, so that they find each message remembered.
// Options may be nil.
//
// The media HTTP client that the client has is wrapped with its proxy, time-out and cookie jar, and not changed. A proxy or
// media client that is set later is found when the client connects.
//
// The error is ErrAlreadyRegistered or whatsmeow.ErrClientIsNil, or says what is wrong: with the options, with the client's media
// HTTP client, or that Register was called inside an event handler, where it would deadlock.
func Register(client *whatsmeow.Client, opts *Options) (*Plugin, error) {
	if client == nil {
		return nil, whatsmeow.ErrClientIsNil
	}
	if opts == nil {
		opts = new(Options)
	}
	if opts.Timeout < 0 || opts.MaxInFlight < 0 {
		return nil, errors.New("reupload: Options.Timeout and Options.MaxInFlight must not be negative")
	}
	if calledFrom(stackDispatch) {
		return nil, errors.New("reupload: Register would deadlock inside an event handler; call it right after NewClient")
	}
	p := &Plugin{
		client: client,
		log:    opts.Log,
		notify: opts.OnReupload,
		memory: newMemory(defaultTo(opts.RefusalPause, time.Hour), defaultTo(opts.SilencePause, time.Minute)),
		sender: &sender{client: client},
	}
	if p.log == nil {
		p.log = client.Log.Sub("Reupload")
	}
	handlers, registered := handlersOf(client, p.handle)
	if registered {
		return nil, ErrAlreadyRegistered
	}
	original, readable := mediaClient(client)
	if readable {
		if _, registered = original.Transport.(*transport); registered {
			return nil, ErrAlreadyRegistered
		}
	} else if original = opts.HTTPClient; original == nil {
		return nil, errNoMediaClient
	}
	p.index = &guardedIndex{index: opts.Index, account: p.sender.ownID, log: p.log}
	if p.index.index == nil {
		p.index.index = NewMemoryIndex(DefaultMemoryCapacity)
	}
	p.root, p.cancel = context.WithCancelCause(context.Background())
	p.pending = &pending{
		sender:  p.sender,
		timeout: defaultTo(opts.Timeout, 30*time.Second),
		slots:   make(chan struct{}, defaultTo(opts.MaxInFlight, 32)),
		root:    p.root,
		keep:    func(e Entry) { p.index.put(context.Background(), []Entry{e}) }, // Close does not undo what the phone has done
		record:  p.record,
		report:  p.report,
		flights: make(map[types.MessageID][]*flight),
	}

	var reason string
	if p.sender.tap, reason = installTap(client, p.tapped); p.sender.tap == nil {
		p.log.Warnf("Downloads inside event handlers will not heal at once, but fail and heal the next time: %s", reason)
	}
	if handlers > 0 {
		p.log.Warnf("%d event handlers were added before Register: what they download is not remembered yet; call Register first", handlers)
	}
	p.sender.identify()
	p.sender.wasOnline.Store(client.IsLoggedIn())
	p.handlerID = client.AddEventHandlerWithSuccessStatus(p.handle)
	p.wrapping.Lock()
	defer p.wrapping.Unlock()
	p.original = original
	p.wrap(original, opts.HTTPClient)
	return p, nil
}

func defaultTo[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// wrap gives the client a copy of an HTTP client, by default of the original, with our transport around its own.
// It needs p.wrapping.
func (p *Plugin) wrap(original, instead *http.Client) {
	if instead == nil {
		instead = original
	}
	wrapped := *instead
	if wrapped.Transport == nil {
		wrapped.Transport = http.DefaultTransport
	}
	wrapped.Transport = &transport{base: wrapped.Transport, plugin: p}
	p.original, p.wrapped = original, &wrapped
	p.client.SetMediaHTTPClient(&wrapped)
}

// wrapMediaClient wraps what the bot has set since: SetProxy replaces the transport of our copy, and SetMediaHTTPClient the
// copy. It runs at each login.
func (p *Plugin) wrapMediaClient() {
	p.wrapping.Lock()
	defer p.wrapping.Unlock()
	current, ok := mediaClient(p.client)
	if !ok || p.isClosed() {
		return
	}
	if t, ours := current.Transport.(*transport); ours && t.plugin == p {
		return
	}
	p.log.Infof("The media HTTP client or its proxy was changed; wrapping the new one")
	p.wrap(current, nil)
}

// RequestReupload asks the phone to upload the media of a message again and waits for its answer. Calls for the same message
// share one request. It asks even if the phone has refused a while ago.
//
// A Result is any answer of the phone, good or bad: see [Result.Err]. An error means that there is no answer: the context's
// error, ErrTimeout, ErrRejected, ErrInvalidAnswer, ErrHandlerBlocked, ErrClosed, whatsmeow.ErrNotLoggedIn or
// whatsmeow.ErrNotConnected; or, with nothing sent, ErrInvalidRequest or ErrNewsletter.
func (p *Plugin) RequestReupload(ctx context.Context, req Request) (Result, error) {
	req, err := req.normalize()
	if err != nil {
		return Result{}, err
	}
	e := Entry{Request: req}
	for _, known := range p.index.byMessage(ctx, req.MessageID) {
		if sameMessage(known.Request, req) {
			e = known
			e.Request = req
			break
		}
	}
	if e.FileEncSHA256 == nil { // so that a late answer can be opened
		p.index.put(ctx, []Entry{e})
	}
	return p.pending.ask(ctx, e, p.canWait())
}

// canWait tells whether the phone's answer can get through while the caller waits for it.
func (p *Plugin) canWait() bool {
	return p.sender.tapped() || !calledFrom(stackQueue)
}

// Download downloads the media of a message, and is client.Download for callers that hold the message: it heals even if the
// index has never seen it. Its errors are whatsmeow's; see [Cause].
func (p *Plugin) Download(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage) ([]byte, error) {
	return p.client.Download(WithMessage(ctx, info, media), media)
}

// DownloadToFile is Download into a file, which is written from its beginning. After an error the file is empty. The error can
// also be that of the file's Seek or Truncate, perhaps joined to whatsmeow's.
func (p *Plugin) DownloadToFile(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage, file whatsmeow.File) error {
	// whatsmeow writes where the file stands, so the rest of an earlier try would stay in front of the media.
	if err := rewind(file); err != nil {
		return err
	}
	err := p.client.DownloadToFile(WithMessage(ctx, info, media), media, file)
	if err != nil {
		err = errors.Join(err, rewind(file))
	}
	return err
}

func rewind(file whatsmeow.File) error {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("reupload: going to the beginning of the file: %w", err)
	}
	if err := file.Truncate(0); err != nil {
		return fmt.Errorf("reupload: emptying the file: %w", err)
	}
	return nil
}

// Remember puts the media of a message into the index by hand. Messages and history syncs that arrive while the plugin is
// registered are remembered without. A message without media, or with media that cannot be requested, is no error.
//
// The error wraps ErrInvalidRequest, or is ErrClosed, whatsmeow.ErrNotLoggedIn, the context's or the index's own.
func (p *Plugin) Remember(ctx context.Context, info *types.MessageInfo, msg *waE2E.Message) error {
	if p.isClosed() {
		return ErrClosed
	}
	if info == nil || info.ID == "" || info.Chat.IsEmpty() {
		return fmt.Errorf("%w: Remember needs the message's id and chat", ErrInvalidRequest)
	}
	if p.sender.ownID().IsEmpty() {
		return whatsmeow.ErrNotLoggedIn
	}
	return p.index.putNow(ctx, p.mediaOf(info, msg))
}

type messageKey struct{}

// WithMessage tells a client.Download under the returned context which message the media belongs to, when the index cannot
// know: the message came before the plugin, or the bot has it from a database of its own. Media can be of any type.
func WithMessage(ctx context.Context, info *types.MessageInfo, media whatsmeow.DownloadableMessage) context.Context {
	if info == nil || media == nil {
		return ctx
	}
	return context.WithValue(ctx, messageKey{}, &Entry{
		Request:       NewRequest(info, media),
		FileEncSHA256: media.GetFileEncSHA256(),
		Timestamp:     info.Timestamp,
	})
}

// Cause tells why a failed download was not healed: one of this package's errors, the context's error, one of whatsmeow's
// connection errors, or nil if reupload had no part in it. The error itself stays whatsmeow's, so that
// errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) holds as before.
func Cause(err error) error {
	var failed whatsmeow.DownloadHTTPError
	if !errors.As(err, &failed) || failed.Response == nil || failed.Request == nil {
		return nil
	}
	cause, _ := failed.Request.Context().Value(causeKey{}).(error)
	return cause
}

// record remembers how a request ended, and tells whether that is news.
func (p *Plugin) record(e Entry, r Result, err error, late bool) (isNews bool) {
	isNews = p.memory.settle(e.Request, r, err, late)
	if isNews && late {
		p.stats.late.Add(1)
	}
	return isNews
}

// report tells the log how a request ended, and the bot of a new path.
func (p *Plugin) report(e Entry, r Result, err error, late, isNews bool) {
	switch {
	case err != nil:
		p.log.Debugf("No re-upload of %s in %s: %v", e.MessageID, e.Chat, err)
	case r.DirectPath == "":
		p.log.Debugf("No re-upload of %s in %s: the phone answered %v", e.MessageID, e.Chat, r.Status)
	case late && isNews:
		p.log.Infof("A late answer has brought %s in %s back", e.MessageID, e.Chat)
	}
	if isNews && p.notify != nil {
		told := Reupload{Request: e.Request, Result: r, FileEncSHA256: e.FileEncSHA256, Late: late, At: time.Now()}
		go func() {
			defer p.contain("Options.OnReupload")
			p.notify(told)
		}()
	}
}

func (p *Plugin) isClosed() bool { return p.closed.Load() }

// spawn runs a function on a goroutine that Close waits for.
func (p *Plugin) spawn(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.isClosed() {
		p.spawned.Go(f)
	}
}

// Close ends all waiting with ErrClosed and leaves the client as it was before Register. It can be called from anywhere, an
// event handler too, and more than once. It waits for the plugin's goroutines, but for no more than a second where whatsmeow
// holds them up: while it dials, or while an event handler runs, which the plugin's own is then removed after. It does not wait
// for an OnReupload that is running. It always returns nil.
func (p *Plugin) Close() error {
	p.closing.Do(p.close)
	return nil
}

// closePatience is how long Close waits for whatsmeow, which holds a lock while it dials, and another one on its handlers while
// one of them runs.
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
	p.wrapping.Lock()
	if current, ok := mediaClient(p.client); !ok || current == p.wrapped && isOurs(current) {
		p.client.SetMediaHTTPClient(p.original)
	}
	p.wrapping.Unlock()

	quiet, removed := make(chan struct{}), make(chan struct{})
	go func() {
		p.pending.flying.Wait()
		p.spawned.Wait()
		if p.sender.tap != nil {
			p.sender.tap.remove(p.client)
		}
		close(quiet)
		p.client.RemoveEventHandler(p.handlerID)
		close(removed)
	}()
	patience := time.After(closePatience)
	last := removed
	if calledFrom(stackDispatch) {
		last = quiet // the handler that calls would wait for itself
	}
	select {
	case <-last:
	case <-patience: // what is left does nothing any more, and ends when whatsmeow lets it
	}
}

func isOurs(client *http.Client) bool {
	_, ours := client.Transport.(*transport)
	return ours
}
