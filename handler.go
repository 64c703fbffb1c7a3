package reupload

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// A handler takes what comes in from whatsmeow, and hands it on. It decides nothing.
type handler struct {
	flights *flights
	memory  *memory
	parts   *parts
	sender  *sender
	media   *mediaWrap
	report  *reporter
	closed  *atomic.Bool
	root    context.Context

	found atomic.Bool           // the call stack of an event handler has had what is looked for there
	looks atomic.Int32          // how often that was looked at
	blind atomic.Pointer[error] // what it has lacked until now
}

// handle is the plugin's event handler.
func (h *handler) handle(rawEvt any) (goesOn bool) {
	goesOn = true // after a panic, too: false would keep the event from the bot's own handlers
	if h.closed.Load() {
		return true
	}
	defer h.report.contain("an event handler")
	h.media.notice(false)
	switch evt := rawEvt.(type) {
	case *events.Message:
		h.lookAround()
		_ = h.memory.remember(h.root, &evt.Info, messageOf(evt)) // it is in the log
		if evt.Info.IsFromMe && h.isPhone(evt.Info.Sender) {
			h.flights.queue.heard()
			h.parts.notice(h.root, &evt.Info, messageOf(evt))
		}
	case *events.HistorySync:
		_ = h.memory.rememberHistory(h.root, evt.Data) // likewise
	case *events.MediaRetry:
		if a, ok := answerFromEvent(evt); ok && !h.sender.tapped() {
			h.flights.answer(a)
		}
	case *events.Receipt:
		if h.isPhone(evt.Sender) {
			h.flights.queue.heard()
		}
	case *events.Connected:
		h.online()
		h.report.lacks(&h.report.saidDeaf, h.sender.deaf())
		h.parts.resume(h.root)
	case *events.LoggedOut:
		h.loggedOut()
	}
	return true
}

// tapped sees each node when the socket delivers it, on the goroutine that reads the socket.
// It never blocks.
func (h *handler) tapped(node *waBinary.Node) {
	defer h.report.contain("the tap")
	h.media.glance()
	switch node.Tag {
	case "notification":
		if a, ok := parseAnswer(node); ok {
			h.flights.answer(a)
		}
	case "ack":
		if isRequestAck(node) {
			h.flights.ack(node)
		}
	case "message", "receipt":
		if h.isFromPhone(node) {
			h.flights.queue.heard()
		}
	case "stream:error", "failure": // seen here before whatsmeow stops reconnecting and forgets the account
		if isLogout(node) {
			h.loggedOut()
		}
	case "success": // the first node after a login, before any message
		h.flights.wentDown() // what was outstanding belonged to the connection before
		h.online()
	}
}

// lookAround looks, when a message comes, whether the call stack tells an event handler. Once it
// does it always does, and costs no look any more; and it never will if it has not for many
// messages.
func (h *handler) lookAround() {
	const many = 100
	if h.found.Load() || h.looks.Load() == many {
		return
	}
	h.looks.Add(1)
	missing := host.Unseen()
	if len(missing) == 0 {
		h.found.Store(true)
		h.blind.Store(nil)
		return
	}
	lost := "Register inside one can wait for ever"
	if !host.InHandlerQueue() {
		lost = "downloads inside one wait for Options.Timeout, and not for HandlerTimeout"
	}
	err := fmt.Errorf("not every event handler is known as one, so that %s: this version of whatsmeow has no function %s",
		lost, strings.Join(missing, " or "))
	h.blind.Store(&err)
	h.report.lacks(&h.report.saidBlind, err)
}

// degraded says what has turned out not to work since Register.
func (h *handler) degraded() error {
	if blind := h.blind.Load(); blind != nil {
		return errors.Join(h.sender.deaf(), *blind)
	}
	return h.sender.deaf()
}

// online notes a login. It is told twice of each, and requests can go out in between: whatsmeow
// dispatches its event after some queries, of which its database and the server take their time.
func (h *handler) online() {
	h.sender.identify()
	h.sender.wasOnline.Store(true)
	h.flights.tell(event{what: loggedIn})
}

func (h *handler) loggedOut() {
	h.sender.account.Store(nil)
	h.flights.tell(event{what: aborted, err: errNotLoggedIn})
}

// isFromPhone reports whether only the account's own phone can have sent a message or a receipt. In
// groups and broadcasts the sender is the participant.
func (h *handler) isFromPhone(node *waBinary.Node) bool {
	from, ok := node.Attrs["participant"].(types.JID)
	if !ok {
		from, ok = node.Attrs["from"].(types.JID)
	}
	return ok && h.isPhone(from)
}

// isPhone reports whether a JID is the account's own phone, and not one of its linked devices.
func (h *handler) isPhone(jid types.JID) bool { return jid.Device == 0 && h.sender.isOwn(jid) }

// isLogout reports whether a <stream:error> or <failure> unlinks the device, as
// whatsmeow decides it.
func isLogout(node *waBinary.Node) bool {
	if node.Tag == "failure" {
		return events.ConnectFailureReason(node.AttrGetter().OptionalInt("reason")).IsLoggedOut()
	}
	conflict := node.GetChildByTag("conflict")
	return node.Attrs["code"] == "401" && conflict.Attrs["type"] == "device_removed"
}
