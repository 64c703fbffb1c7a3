package reupload

import (
	"context"
	"errors"
	"runtime/debug"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// handle is the plugin's event handler.
func (p *Plugin) handle(rawEvt any) (goesOn bool) {
	goesOn = true // after a panic, too: false would keep the event from the bot's own handlers
	if p.isClosed() {
		return true
	}
	defer p.contain("an event handler")
	p.media.notice(false)
	switch evt := rawEvt.(type) {
	case *events.Message:
		p.remember(p.root, &evt.Info, messageOf(evt))
	case *events.HistorySync:
		_ = p.rememberHistory(p.root, evt.Data) // it is in the log
	case *events.MediaRetry:
		if a, ok := answerFromEvent(evt); ok && !p.sender.tapped() {
			p.answered(a)
		}
	case *events.Connected:
		p.online()
	case *events.LoggedOut:
		p.loggedOut()
	}
	return true
}

// tapped sees each node when the socket delivers it, on the goroutine that reads the socket.
// It never blocks.
func (p *Plugin) tapped(node *waBinary.Node) {
	defer p.contain("the tap")
	p.media.notice(false)
	switch node.Tag {
	case "notification":
		if a, ok := parseAnswer(node); ok {
			p.answered(a)
		}
	case "ack":
		if isRequestAck(node) {
			p.pending.deliverAck(node)
		}
	case "stream:error", "failure": // seen here before whatsmeow stops reconnecting and forgets the account
		if isLogout(node) {
			p.loggedOut()
		}
	case "success": // the first node after a login, before any message
		p.online()
	}
}

func (p *Plugin) online() {
	p.sender.identify()
	p.sender.wasOnline.Store(true)
	p.pending.tell(event{what: loggedIn})
}

func (p *Plugin) loggedOut() {
	p.sender.account.Store(nil)
	p.pending.tell(event{what: aborted, err: whatsmeow.ErrNotLoggedIn})
}

// isLogout reports whether a <stream:error> or <failure> unlinks the device, as
// whatsmeow decides it.
func isLogout(node *waBinary.Node) bool {
	if node.Tag == "failure" {
		return events.ConnectFailureReason(node.AttrGetter().OptionalInt("reason")).IsLoggedOut()
	}
	conflict := node.GetChildByTag("conflict")
	return node.Attrs["code"] == "401" && conflict.Attrs["type"] == "device_removed"
}

func (p *Plugin) contain(where string) {
	if err := recover(); err != nil {
		p.log.Errorf("Panic in %s, please report it: %v\n%s", where, err, debug.Stack())
	}
}

// answered takes an answer to whoever waits for it. One that nobody waits for is late, and is used
// all the same. One that comes twice, after a break, does no harm.
func (p *Plugin) answered(a answer) {
	if p.ledger.wasTaken(a) {
		p.log.Debugf("Ignoring an answer for %q that has come before", a.id)
		return
	}
	p.queue.answered()
	p.ledger.askedByBot(a.id, false)
	taken, waiting := p.pending.deliver(a)
	switch {
	case taken:
	case a.isError:
		if waiting == nil || !p.pending.offer(waiting, a) {
			p.log.Debugf("Ignoring an error for %q, which nothing vouches for", a.id)
		}
	default:
		p.spawn(func() { p.answeredLate(a, waiting) })
	}
}

// answeredLate opens an answer with what the index knows of its message. If that cannot open it
// either, it is for the flight that waited when it came.
func (p *Plugin) answeredLate(a answer, waiting *driver) {
	p.lateAnswers.Lock() // one after the other, so that the last one stands
	defer p.lateAnswers.Unlock()
	for _, c := range p.candidates(p.root, p.index.byMessage(p.root, a.id)) {
		cipher, err := newRetryCipher(c.entry.MediaKey)
		if err != nil {
			continue
		}
		r, opened := a.read(cipher)
		if !opened {
			continue // perhaps it is about another file of the message
		}
		p.ledger.take(a)
		if r.err != nil {
			p.log.Debugf("Ignoring a late answer for %q: %v", a.id, r.err)
			return
		}
		p.pending.late(c.entry, c.key, r)
		return
	}
	if waiting == nil || !p.pending.offer(waiting, a) {
		p.log.Debugf("Ignoring an answer for %q that nobody waits for", a.id)
	}
}

// messageOf returns the message of an event, with everything that it was wrapped in.
func messageOf(evt *events.Message) *waE2E.Message {
	if evt.RawMessage != nil {
		return evt.RawMessage
	}
	return evt.Message
}

// remember puts the media of a message into the index.
func (p *Plugin) remember(ctx context.Context, info *types.MessageInfo, msg *waE2E.Message) {
	if found := p.walker.mediaOf(info, msg); len(found) > 0 {
		p.index.put(ctx, found)
	}
}

// patientFailures is how many batches of a history sync may fail before the rest is given up: the
// bot's own handlers wait behind us.
const patientFailures = 2

// rememberHistory remembers the media of all conversations in a history sync. It runs on the
// goroutine that whatsmeow has for history syncs, not on its handler queue.
func (p *Plugin) rememberHistory(ctx context.Context, data *waHistorySync.HistorySync) error {
	var batch []Entry
	var failures int
	var failed error
	flush := func() {
		if err := p.index.putMany(ctx, batch); err != nil && !p.isClosed() {
			failures++
			failed = errors.Join(failed, err)
		}
		batch = nil
	}
	add := func(chat types.JID, msg *waWeb.WebMessageInfo) {
		if msg.GetMessage() == nil || p.isClosed() || failures >= patientFailures {
			return
		}
		parsed, err := p.client.ParseWebMessage(chat, msg)
		if err != nil {
			p.log.Debugf("Not remembering a message of the history sync: %v", err)
			return
		}
		batch = append(batch, p.walker.mediaOf(&parsed.Info, messageOf(parsed))...)
		if len(batch) >= historyBatch {
			flush()
		}
	}
	for _, conversation := range data.GetConversations() {
		chat, err := types.ParseJID(conversation.GetID())
		if err != nil {
			continue
		}
		for _, msg := range conversation.GetMessages() {
			add(chat, msg.GetMessage())
		}
	}
	for _, msg := range data.GetStatusV3Messages() {
		add(types.StatusBroadcastJID, msg)
	}
	flush()
	return failed
}
