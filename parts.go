package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// parts are the parts of the account's history. The phone puts each part on the CDN and sends a
// notification about it. If the part has expired when the client downloads it, the phone is asked
// for it with a receipt of its own kind, and sends another notification with another upload, which
// is downloaded as any. So a download that has failed is not repeated, and nothing waits for the
// phone.
//
// Only notifications of the account's own phone count. They are in the index as entries of a chat
// that no message can be in. So what a stranger sends is never taken for one, and a restart knows
// what was asked for.
type parts struct {
	index   *guardedIndex
	names   *sender
	flights *flights
	policy  policy
	root    context.Context

	mu      sync.Mutex
	known   *bounded[fileHash, Entry]     // by the hash of the encrypted part
	wanted  *bounded[fileHash, time.Time] // when a download has failed whose notification is not known
	changed chan struct{}                 // closed when known has grown; nil while nothing waits for that
	later   []Entry                       // to be asked for after the next login
}

type fileHash = [fileHashSize]byte

const (
	// noticePatience is how long a download waits for the event of its notification, which
	// whatsmeow dispatches an instant after it has begun the download.
	noticePatience = 2 * time.Second
	// wantedLife is how long the event may take when the download does not wait for it any more.
	wantedLife = time.Minute
	maxParts   = 1024 // that are kept in this process, and that wait for a login
	maxWanted  = 64
)

func newParts() *parts {
	return &parts{
		known:  newBounded[fileHash, Entry](maxParts),
		wanted: newBounded[fileHash, time.Time](maxWanted),
	}
}

// arrivedPath stands for the path of a part that the phone has sent again, since that has another
// key and comes in a message of its own.
const arrivedPath = "/reupload/sent-again"

// notice takes a notification of the account's own phone, before the bot's handlers get it. If it
// answers a request, that is over.
func (p *parts) notice(ctx context.Context, info *types.MessageInfo, msg *waE2E.Message) {
	if sent := msg.GetDeviceSentMessage().GetMessage(); sent != nil {
		msg = sent
	}
	n := msg.GetProtocolMessage().GetHistorySyncNotification()
	e, ok := partOf(info.ID, n.GetMediaKey(), n.GetFileEncSHA256(), info.Timestamp)
	if n == nil || !ok && n.GetOriginalMessageID() == "" {
		return
	}
	if original := n.GetOriginalMessageID(); original != "" && original != info.ID {
		e.Asked = p.arrived(ctx, original)
	}
	if !ok { // the part is in the message itself
		return
	}
	p.mu.Lock()
	p.known.set(fileHash(e.FileEncSHA256), e)
	isWanted := time.Since(p.wanted.get(fileHash(e.FileEncSHA256))) < wantedLife
	p.wanted.remove(fileHash(e.FileEncSHA256))
	if p.changed != nil {
		close(p.changed)
		p.changed = nil
	}
	p.mu.Unlock()
	p.index.put(ctx, []Entry{e})
	if isWanted {
		_ = p.request(ctx, e) // its download has failed without a cause
	}
}

// partOf returns the entry of a part. It is not ok if the part is not on the CDN, or cannot be
// asked for.
func partOf(id types.MessageID, mediaKey, fileEncSHA256 []byte, sent time.Time) (e Entry, ok bool) {
	e = Entry{
		Request:       Request{MessageID: id, Chat: partChat, IsFromMe: true, MediaKey: bytes.Clone(mediaKey)},
		FileEncSHA256: bytes.Clone(fileEncSHA256),
		Timestamp:     sent,
	}
	return e, hasFile(&e) && isSound(&e)
}

// arrived notes that the phone has sent a part again. It returns what counts as asked for the part
// that has come: if it has expired as well, it is asked for again only after a pause.
func (p *parts) arrived(ctx context.Context, original types.MessageID) Asked {
	if len(original) > maxMessageID {
		return Asked{}
	}
	known, _ := p.index.byMessage(ctx, original)
	i := slices.IndexFunc(known, func(e Entry) bool { return e.isPart() })
	if i < 0 {
		return Asked{}
	}
	who := p.candidateOf(ctx, known[i])
	if who.entry.Asked.At.IsZero() && !p.flights.has(who.key) {
		return Asked{} // the phone sends it again by itself
	}
	asked := who.entry.Asked
	if asked.At.IsZero() {
		asked.At = time.Now().Truncate(time.Second)
	}
	p.flights.arrived(who, reading{result: Result{Status: StatusSuccess, DirectPath: arrivedPath}, sealed: true})
	return Asked{At: asked.At, Outcome: outcomeInvalid, Failures: asked.Failures + 1}
}

// expired asks the phone for a part that has expired, and returns the cause of the download's
// failure.
func (p *parts) expired(ctx context.Context, fileEncSHA256 []byte, says sayings) error {
	switch {
	case says.quiet != nil:
		return says.quiet
	case p.flights.botAsksForParts():
		return errBotAsksForParts
	case len(fileEncSHA256) != fileHashSize:
		return ErrUnknownMessage
	}
	e, err := p.find(ctx, fileEncSHA256, says.named)
	if err != nil {
		return err
	}
	return p.request(ctx, e)
}

var (
	errBotAsksForParts = fmt.Errorf("%w (the bot asks for parts of the history by itself)", ErrNotAsked)
	errNoNotice        = fmt.Errorf("%w (no notification of the own phone is known for this part of the history)", ErrUnknownMessage)
)

// find returns the entry of a part: from a notification that has come, from the message that the
// caller names, from the index, or from a notification that comes within a moment.
func (p *parts) find(ctx context.Context, fileEncSHA256 []byte, named *Entry) (Entry, error) {
	hash := fileHash(fileEncSHA256)
	if e, ok := p.noticed(hash); ok {
		return e, nil
	}
	if named != nil && named.IsFromMe && p.names.isOwn(named.Chat) && bytes.Equal(named.FileEncSHA256, fileEncSHA256) {
		if e, ok := partOf(named.MessageID, named.MediaKey, fileEncSHA256, named.Timestamp); ok {
			return e, nil
		}
	}
	entries, err := p.index.byFile(ctx, fileEncSHA256)
	if i := slices.IndexFunc(entries, func(e Entry) bool { return e.isPart() }); i >= 0 {
		return entries[i], nil
	}
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", ErrIndexFailed, err)
	} else {
		err = errNoNotice
	}
	if !host.InHandlerQueue() { // behind which the notification waits
		if e, ok := p.await(ctx, hash); ok {
			return e, nil
		}
	}
	switch {
	case ctx.Err() != nil:
		return Entry{}, context.Cause(ctx)
	case p.root.Err() != nil:
		return Entry{}, ErrClosed
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted.set(hash, time.Now())
	return Entry{}, err
}

func (p *parts) noticed(hash fileHash) (Entry, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.known.get(hash)
	return e, e.MessageID != ""
}

// await waits for a notification.
func (p *parts) await(ctx context.Context, hash fileHash) (Entry, bool) {
	timer := time.NewTimer(noticePatience)
	defer timer.Stop()
	for {
		p.mu.Lock()
		if p.changed == nil {
			p.changed = make(chan struct{})
		}
		e, changed := p.known.get(hash), p.changed
		p.mu.Unlock()
		if e.MessageID != "" {
			return e, true
		}
		select {
		case <-changed:
		case <-timer.C:
			return Entry{}, false
		case <-ctx.Done():
			return Entry{}, false
		case <-p.root.Done():
			return Entry{}, false
		}
	}
}

// request asks for a part, unless the phone was asked for it and may still send it. The error says
// what became of it. Nothing but the index is waited for.
func (p *parts) request(ctx context.Context, e Entry) error {
	who := p.candidateOf(ctx, e)
	if err := p.refusal(&who.entry, time.Now()); err != nil && !p.flights.has(who.key) {
		return err
	}
	q := question{entry: who.entry, key: who.key, source: partChat, lane: backfill, ended: func(r reading) { p.ended(e, r) }}
	if err := p.flights.begin(q); err != nil {
		return err
	}
	return ErrHistoryAsked
}

// ended notes how a request has ended. One that has not reached the server goes out again after the
// next login: whatsmeow downloads each part once.
func (p *parts) ended(e Entry, r reading) {
	if !isOutage(r.err) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.later) < maxParts {
		p.later = append(p.later, e)
	}
}

// resume asks for what could not be asked for because the connection was gone.
func (p *parts) resume(ctx context.Context) {
	p.mu.Lock()
	later := p.later
	p.later = nil
	p.mu.Unlock()
	for _, e := range later {
		_ = p.request(ctx, e)
	}
}

// refusal returns why the phone is not asked for a part now, or nil.
func (p *parts) refusal(e *Entry, now time.Time) error {
	if e.Asked.Outcome == outcomeFound && !e.Asked.At.IsZero() && now.Sub(e.Asked.At).Abs() < pathLife {
		return errSentAgain
	}
	rules := p.policy
	if e.Asked.Outcome == outcomeInvalid { // or a CDN that loses what the phone sends would keep it busy all night
		rules.silencePause = max(rules.silencePause, time.Hour)
	}
	err := rules.refusal(e, now, p.flights.lastHeard())
	if errors.Is(err, ErrTimeout) {
		return fmt.Errorf("%w: %w", ErrHistoryAsked, err)
	}
	return err
}

var errSentAgain = fmt.Errorf("%w (it has come)", ErrHistoryAsked)

// candidateOf returns what is known of a part: by the index, and by this process.
func (p *parts) candidateOf(ctx context.Context, e Entry) candidate {
	known, _ := p.index.byMessage(ctx, e.MessageID)
	for _, other := range known {
		if other.same(&e) && other.Asked.At.After(e.Asked.At) {
			e.Asked = other.Asked
		}
	}
	pn, _ := p.names.own()
	who := candidate{entry: e, key: identityOf(pn, &e), rank: byDelivery}
	p.flights.recall(who.key, &who.entry)
	return who
}
