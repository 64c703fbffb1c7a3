package reupload

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// Options configures a [Plugin]. The zero value works, and so does nil.
type Options struct {
	// Index remembers which message a file belongs to. It can be shared by many plugins.
	// Defaults to NewMemoryIndex(DefaultMemoryCapacity), which forgets with the process.
	Index Index
	// Lookup is asked when what the index knows has not healed a file: which messages does it
	// belong to? It is for a bot that has messages in a database of its own, and is a SELECT by the
	// SHA-256 of the encrypted file (32 bytes) there, on a column with an index. It returns the
	// likeliest message first, of which 16 are looked at, and nil if it knows none. It has two
	// seconds, and at most four calls run at once. Defaults to none.
	Lookup func(ctx context.Context, fileEncSHA256 []byte) ([]Request, error)
	// Timeout is how long one request waits for the phone, from when it is sent, and before that
	// for its turn. Defaults to 30 seconds.
	Timeout time.Duration
	// HandlerTimeout is how long a download inside an event handler waits for its file when it has
	// expired: the bot's next message waits behind it. The request goes on, and the next download
	// finds its answer. Defaults to 5 seconds.
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
	// After silence, a file is not asked for again for up to three days while nothing has come from
	// the phone since. Defaults to an hour; negative for none.
	SilencePause time.Duration
	// Pace is how far apart requests to the phone are, which its owner may see. A backfill always
	// keeps to it, other requests after the first 60. Defaults to a second; negative for none.
	Pace time.Duration
	// FillMissingPaths gives media that comes without a direct path, as in history syncs, a
	// stand-in for one, so that a bare client.Download of it can heal, and not only
	// [Plugin.Download]. The bot's handlers see the stand-in in the message. It never leaves the
	// machine while the plugin is registered; a bot that stores it must keep the plugin to
	// download with it.
	FillMissingPaths bool
	// OnReupload is told of every new path, late ones too, on a goroutine of its own.
	// Defaults to none.
	OnReupload func(Reupload)
	// HTTPClient is what media requests go out with. It is not changed, and what the bot changes in
	// it later is used. Defaults to the media client that the whatsmeow client has, with its proxy.
	HTTPClient *http.Client
	// Log defaults to client.Log.Sub("Reupload").
	Log waLog.Logger
}

// A Plugin heals the downloads of one whatsmeow client. All methods can be called concurrently.
type Plugin struct {
	client  *whatsmeow.Client
	report  *reporter
	catalog *catalog
	memory  *memory
	policy  policy
	flights *flights
	sender  *sender
	media   *mediaWrap
	healer  *healer
	handler *handler

	handlerID uint32
	degraded  error

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
// Like AddEventHandler, which it calls, Register waits for an event handler that is running to
// return. An event that this handler itself brings about, as by FetchAppState, waits for Register
// meanwhile, and then both wait for ever. Before Connect no handler runs.
//
// The error is ErrAlreadyRegistered or whatsmeow.ErrClientIsNil, or says what is wrong: with the
// options, with the client's media HTTP client, or that Register was called inside an event handler
// of this client, where it would deadlock.
func Register(client *whatsmeow.Client, opts *Options) (*Plugin, error) {
	if client == nil {
		return nil, fmt.Errorf("reupload: Register needs the client that whatsmeow.NewClient returns: %w", whatsmeow.ErrClientIsNil)
	}
	if opts == nil {
		opts = new(Options)
	}
	if err := opts.check(); err != nil {
		return nil, err
	}
	list, listed := host.HandlersOf(client)
	if host.InDispatch() && (!listed || !list.IsFree(registerPatience)) {
		return nil, errors.New("reupload: Register would deadlock inside an event handler; call it right after NewClient")
	}
	if _, another := registering.LoadOrStore(client, true); another { // whatsmeow's fields have no lock
		return nil, ErrAlreadyRegistered
	}
	defer registering.Delete(client)
	if current := host.MediaClient(client); current != nil && isOurs(current) {
		return nil, ErrAlreadyRegistered
	}
	p := assemble(client, opts)
	var errTap error
	if p.sender.tap, errTap = host.InstallTap(client, p.handler.tapped); errors.Is(errTap, host.ErrTapped) {
		return nil, ErrAlreadyRegistered
	}
	if err := p.media.install(opts.HTTPClient); err != nil {
		p.sender.tap.Mute()
		return nil, err
	}
	p.sender.identify()
	p.sender.wasOnline.Store(client.IsLoggedIn())
	p.handlerID = client.AddEventHandlerWithSuccessStatus(p.handler.handle)
	var errOrder error
	if !listed || !list.MoveToFront(p.handlerID, registerPatience) {
		errOrder = errors.New("other event handlers come first, so that what they download is not remembered yet; call Register before adding them")
	}
	if errors.Is(errTap, host.ErrConnected) {
		errTap = fmt.Errorf("%w; call Register before Connect", errTap)
	}
	if errTap != nil {
		errTap = errNotAtOnce(errTap)
	}
	var errMedia error
	if host.MediaClient(client) == nil { // though it has just been set
		errMedia = errors.New("a media HTTP client that the bot sets later is not noticed, so that its downloads do not heal: this version of whatsmeow hides it")
	}
	p.degraded = errors.Join(errTap, errOrder, errMedia)
	p.report.announce(p.degraded, opts.Index, p.flights.timeout, p.healer.inHandler, p.flights.atOnce())
	return p, nil
}

var registering sync.Map // of clients for which Register runs

// registerPatience is how long Register waits for event handlers that are running.
const registerPatience = 100 * time.Millisecond

// check returns what is wrong with options.
func (o *Options) check() error {
	switch {
	case o.Timeout < 0 || o.HandlerTimeout < 0 || o.MaxInFlight < 0:
		return errors.New("reupload: Options.Timeout, HandlerTimeout and MaxInFlight must not be negative; 0 is the default")
	case o.Timeout > 0 && o.Timeout < shortest, o.HandlerTimeout > 0 && o.HandlerTimeout < shortest:
		return fmt.Errorf("reupload: Options.Timeout and HandlerTimeout are durations such as 30*time.Second, and at least %s", shortest)
	case o.Index != nil && isNil(o.Index):
		return fmt.Errorf("reupload: Options.Index is a nil %T; leave it out for an index in memory", o.Index)
	}
	return nil
}

// shortest is the shortest time-out that makes sense: a plain 30 is thirty nanoseconds.
const shortest = time.Millisecond

// assemble puts the parts of a plugin together.
func assemble(client *whatsmeow.Client, opts *Options) *Plugin {
	log := opts.Log
	if log == nil {
		log = client.Log.Sub("Reupload")
	}
	p := &Plugin{
		client: client,
		report: &reporter{log: log, notify: opts.OnReupload},
		sender: &sender{client: client},
		policy: policy{
			refusalPause: max(0, cmp.Or(opts.RefusalPause, 24*time.Hour)),
			silencePause: max(0, cmp.Or(opts.SilencePause, time.Hour)),
		},
	}
	p.root, p.cancel = context.WithCancelCause(context.Background())
	store := opts.Index
	if store == nil {
		store = NewMemoryIndex(DefaultMemoryCapacity)
	}
	index := newGuardedIndex(store, p.sender.ownID, log)

	p.flights = newFlights()
	p.flights.line = p.sender
	p.flights.queue = newQueue(cmp.Or(opts.MaxInFlight, 32), cmp.Or(opts.Pace, time.Second))
	p.flights.report = p.report
	p.flights.timeout = cmp.Or(opts.Timeout, 30*time.Second)
	p.flights.root, p.flights.spawn = p.root, p.spawn
	p.flights.store = func(e Entry) { index.put(context.Background(), []Entry{e}) } // Close does not undo what the phone has done
	if client.IsLoggedIn() {
		p.flights.learns = time.Now().Add(p.flights.timeout) // acks of what an earlier plugin has sent
	}

	p.catalog = &catalog{index: index, names: p.sender, recall: p.flights.recall, report: p.report}
	if opts.Lookup != nil {
		p.catalog.lookup, p.catalog.asking, p.catalog.turn = opts.Lookup, newOutside(), make(chan struct{}, callsAtOnce)
	}
	p.flights.underID = p.catalog.underID
	p.memory = &memory{
		index: index, walker: walker{isOwn: p.sender.isOwn, fill: opts.FillMissingPaths},
		meet: p.sender.groups.meet, doubt: p.sender.groups.doubt, parse: client.ParseWebMessage, report: p.report, closed: &p.closed,
	}
	parts := newParts()
	parts.index, parts.names, parts.flights, parts.policy, parts.root = index, p.sender, p.flights, p.policy, p.root
	known := newPaths()
	p.healer = &healer{
		cases: &cases{
			catalog: p.catalog, paths: known, flights: p.flights, policy: p.policy, report: p.report,
			root: p.root, spawn: p.spawn, open: make(map[caseKey]*openCase), spent: newBounded[caseKey, spending](maxSpendings),
		},
		parts: parts, paths: known, flights: p.flights, report: p.report, closed: &p.closed,
		inHandler: cmp.Or(opts.HandlerTimeout, 5*time.Second), hears: p.sender.tapped,
	}
	p.media = &mediaWrap{client: client, healer: p.healer, log: log}
	p.handler = &handler{
		flights: p.flights, memory: p.memory, parts: parts, sender: p.sender, media: p.media, report: p.report,
		closed: &p.closed, root: p.root,
	}
	return p
}

// spawn runs a function on a goroutine that Close waits for.
func (p *Plugin) spawn(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.closed.Load() {
		p.spawned.Go(func() {
			defer p.report.contain("a goroutine")
			f()
		})
	}
}

// Close ends all waiting with ErrClosed and leaves the client as it was before Register, with one
// exception: a wrapper stays in the place of its receive logger and passes everything on, since the
// field has no lock and cannot be put back safely. Close can be called from anywhere, even from an
// event handler, and more than once. It waits for the plugin's goroutines, but at most a second
// for those that whatsmeow holds up while it dials. The plugin's event handler stays on the
// client's list until a handler that is running has returned. Close does not wait for an OnReupload
// that is running. It always returns nil.
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
	p.flights.shut()
	p.sender.tap.Mute()
	p.media.remove()
	quiet := make(chan struct{})
	go func() {
		p.flights.landing.Wait()
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
	list, ok := host.HandlersOf(p.client)
	if ok && !list.Remove(p.handlerID, 0) {
		time.AfterFunc(removePause, p.removeHandler)
	}
}

const removePause = 20 * time.Millisecond
