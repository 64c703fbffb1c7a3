package reupload

import (
	"runtime/debug"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// historyBatch is how many entries of a history sync are given to the index at once. A database takes less for a row of a large
// batch.
const historyBatch = 10_000

// handle is the plugin's event handler.
func (p *Plugin) handle(rawEvt any) bool {
	if p.isClosed() {
		return true
	}
	// A panic would keep the event from the bot's own handlers.
	defer p.contain("an event handler")
	switch evt := rawEvt.(type) {
	case *events.Message:
		p.index.put(p.root, p.mediaOfEvent(evt))
	case *events.HistorySync:
		p.rememberHistory(evt)
	case *events.MediaRetry:
		p.answered(answerFromEvent(evt), false)
	case *events.Connected:
		p.online()
	case *events.LoggedOut:
		p.loggedOut()
	}
	return true
}

// tapped sees each node when the socket delivers it, on the goroutine that reads the socket. It never blocks.
func (p *Plugin) tapped(node *waBinary.Node) {
	defer p.contain("the tap")
	switch node.Tag {
	case "notification":
		if a, ok := parseAnswer(node); ok {
			p.answered(a, true)
		}
	case "ack":
		if isAckOf(node, "server-error") {
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
	p.wrapMediaClient()
}

func (p *Plugin) loggedOut() {
	p.sender.identity.Store(nil)
	p.pending.failAll(whatsmeow.ErrNotLoggedIn)
}

// isLogout tells whether a <stream:error> or <failure> unlinks the device, as whatsmeow decides it.
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

// answered takes an answer to whoever waits for it. One that nobody waits for is late, and is used all the same.
func (p *Plugin) answered(a answer, tapped bool) {
	if !p.memory.isNew(a, tapped) {
		return
	}
	if taken, unopened := p.pending.deliver(a); !taken {
		p.spawn(func() { p.answeredLate(a, unopened) })
	}
}

// answeredLate opens an answer with what the index knows of its message. If that cannot open it either, it is for the flights that
// waited when it came.
func (p *Plugin) answeredLate(a answer, waiting []*flight) {
	p.lateAnswers.Lock() // one after the other, so that the last one stands
	defer p.lateAnswers.Unlock()
	for _, e := range p.index.byMessage(p.root, a.id) {
		c, err := newRetryCipher(e.MediaKey)
		if err != nil {
			continue
		}
		result, err := a.read(c)
		if err != nil {
			p.log.Debugf("Ignoring a late answer for %s: %v", a.id, err)
			return
		}
		if result.cause != nil {
			continue // perhaps it is about another file of the message
		}
		if result.DirectPath != "" {
			e.DirectPath = result.DirectPath
			p.index.put(p.root, []Entry{e})
		}
		p.report(e, result, nil, true, p.record(e, result, nil, true))
		return
	}
	for _, f := range waiting {
		p.pending.offer(f, a.readFor(f))
	}
	if len(waiting) == 0 {
		p.log.Debugf("Ignoring an answer for %s that nobody waits for", a.id)
	}
}

// mediaOfEvent returns the files in a message event.
func (p *Plugin) mediaOfEvent(evt *events.Message) []Entry {
	msg := evt.RawMessage
	if msg == nil {
		msg = evt.Message
	}
	return p.mediaOf(&evt.Info, msg)
}

func (p *Plugin) mediaOf(info *types.MessageInfo, msg *waE2E.Message) []Entry {
	return mediaOf(carrier{&info.MessageSource, info.ID, info.Timestamp}, msg, p.sender.isOwn)
}

// rememberHistory remembers the media of all conversations in a history sync. It runs on the goroutine that whatsmeow has for
// history syncs, not on its handler queue.
func (p *Plugin) rememberHistory(evt *events.HistorySync) {
	var batch []Entry
	add := func(chat types.JID, msg *waWeb.WebMessageInfo) {
		if msg.GetMessage() == nil || p.isClosed() {
			return
		}
		parsed, err := p.client.ParseWebMessage(chat, msg)
		if err != nil {
			p.log.Debugf("Not remembering a message of the history sync: %v", err)
			return
		}
		batch = append(batch, p.mediaOfEvent(parsed)...)
		if len(batch) >= historyBatch {
			p.index.putMany(p.root, batch)
			batch = nil
		}
	}
	for _, conversation := range evt.Data.GetConversations() {
		chat, err := types.ParseJID(conversation.GetID())
		if err != nil {
			continue
		}
		for _, msg := range conversation.GetMessages() {
			add(chat, msg.GetMessage())
		}
	}
	for _, msg := range evt.Data.GetStatusV3Messages() {
		add(types.StatusBroadcastJID, msg)
	}
	p.index.putMany(p.root, batch)
}
