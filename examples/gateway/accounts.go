package main

import (
	"context"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
)

// An account is a WhatsApp account that is linked, or about to be, or was.
type account struct {
	client    *whatsmeow.Client
	plugin    *reupload.Plugin
	handlerID uint32

	number   atomic.Pointer[string] // the phone number, which the client forgets when it is unlinked
	online   atomic.Bool            // since the last login. whatsmeow's IsLoggedIn stays true when a connection breaks
	unlinked atomic.Bool
}

// newAccount makes a client with reupload. All clients share the index.
func (g *gateway) newAccount(device *store.Device) (*account, error) {
	log := waLogger{g.log, "Client"}
	a := new(account)
	if g.cfg.newClient == nil {
		a.client = whatsmeow.NewClient(device, log)
	} else {
		a.client = g.cfg.newClient(device, log)
	}
	a.client.BackgroundEventCtx = g.root
	if device.ID != nil {
		a.number.Store(&device.ID.User)
	}
	var err error
	a.plugin, err = reupload.Register(a.client, &reupload.Options{
		Index: g.index, Timeout: g.cfg.timeout, SilencePause: silencePause, RefusalPause: refusalPause,
	})
	if err != nil {
		return nil, err
	}
	// A message whose row could not be stored is not acknowledged, so that WhatsApp sends it again.
	a.client.SynchronousAck, a.client.EnableDecryptedEventBuffer = true, true
	a.handlerID = a.client.AddEventHandlerWithSuccessStatus(func(evt any) bool { return g.handle(a, evt) })
	return a, nil
}

// phone returns the phone number, or "" while there is none.
func (a *account) phone() string {
	if number := a.number.Load(); number != nil {
		return *number
	}
	return ""
}

// connected reports whether the account is logged in over a connection that there is.
func (a *account) connected() bool {
	return a.online.Load() && !a.unlinked.Load() && a.client.IsConnected()
}

// download gets the media of a message out of the table. It heals whether or not the index
// knows the message.
func (a *account) download(ctx context.Context, m *message, file whatsmeow.File) error {
	return a.plugin.DownloadToFile(ctx, &m.info, m.media, file)
}

// close hangs up and waits until what has come is handled, before it closes the plugin. It must not
// be called by an event handler.
func (a *account) close() {
	a.client.Disconnect()
	a.client.RemoveEventHandler(a.handlerID) // waits for those that run
	_ = a.plugin.Close()
}

// handle follows the state of an account, and stores its media messages. It returns false for a
// message that should come again.
func (g *gateway) handle(a *account, rawEvt any) bool {
	switch evt := rawEvt.(type) {
	case *events.Message:
		return g.take(a, evt)
	case *events.HistorySync:
		g.storeHistory(a, evt)
	case *events.PairSuccess:
		a.number.Store(&evt.ID.User)
	case *events.Connected:
		a.online.Store(true)
	case *events.Disconnected:
		a.online.Store(false)
	case *events.LoggedOut:
		a.unlinked.Store(true)
		a.online.Store(false)
		g.log.Error("An account was unlinked on its phone; link it again with POST /accounts",
			"account", a.phone(), "reason", evt.PermanentDisconnectDescription())
	case events.PermanentDisconnect:
		a.online.Store(false)
		g.log.Error("WhatsApp has ended a connection for good", "account", a.phone(), "reason", evt.PermanentDisconnectDescription())
	}
	return true
}

// about returns what a log line says of a message.
func about(a *account, info *types.MessageInfo, more ...any) []any {
	return append([]any{"account", a.phone(), "chat", info.Chat.String(), "id", info.ID}, more...)
}

// storeHistory stores what was there before the account was linked. Most of that has expired.
func (g *gateway) storeHistory(a *account, evt *events.HistorySync) {
	failed := 0
	for _, conversation := range evt.Data.GetConversations() {
		chat, err := types.ParseJID(conversation.GetID())
		if err != nil {
			continue
		}
		for _, old := range conversation.GetMessages() {
			msg, err := a.client.ParseWebMessage(chat, old.GetMessage())
			if err != nil {
				continue
			}
			if err = g.contained(a, msg); err != nil {
				if failed++; failed == 1 { // the others probably fail for the same reason
					g.log.Error("A message of the history was not stored", about(a, &msg.Info, "error", err)...)
				}
				continue
			}
			g.intake.stored.Add(1)
		}
	}
	if failed > 1 {
		g.log.Error("Messages of the history were not stored", "account", a.phone(), "count", failed)
	}
}
