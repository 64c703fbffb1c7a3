package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
)

// An account is a WhatsApp account that is linked, or about to be, or was.
type account struct {
	client *whatsmeow.Client
	plugin *reupload.Plugin
	gate   *gate
	term   int64              // number of the lease
	cancel context.CancelFunc // of what whatsmeow does by itself, and writes to the database

	session  atomic.Pointer[types.JID] // whose name the client forgets when it is unlinked
	online   atomic.Bool               // the last connection has logged in, unlike IsLoggedIn
	unlinked atomic.Bool
	settled  context.Context // ends when what has waited at WhatsApp has come, or that takes long
	settle   context.CancelFunc

	mu      sync.Mutex
	using   int // requests
	retired bool

	ear  sync.RWMutex // held for reading while an event is handled
	deaf bool         // guarded by ear: what comes now is to come again
}

// newAccount makes a client with reupload. All clients share the index.
func (g *gateway) newAccount(device *store.Device) (*account, error) {
	log := waLogger{g.log, "Client"}
	a := new(account)
	a.client = whatsmeow.NewClient(device, log)
	a.gate = newGate(g.cfg.transport, g.leases.fence.holds)
	a.gate.opening = func() { a.online.Store(false) }
	a.client.SetWebsocketHTTPClient(&http.Client{Transport: a.gate})
	a.client.SetPreLoginHTTPClient(&http.Client{Transport: a.gate})
	a.client.SetMediaHTTPClient(&http.Client{Transport: timedTransport{g.cfg.transport, g.timings}})
	a.settled, a.settle = context.WithTimeout(a.client.BackgroundEventCtx, g.cfg.settle)
	a.client.BackgroundEventCtx, a.cancel = context.WithCancel(g.root)
	if device.ID != nil {
		a.session.Store(device.ID)
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
	a.client.AddEventHandlerWithSuccessStatus(func(evt any) bool { return a.hear(evt, g.handle) })
	return a, nil
}

// phone returns the phone number, or "" while there is none.
func (a *account) phone() string {
	if session := a.session.Load(); session != nil {
		return session.User
	}
	return ""
}

// connected reports whether the account is logged in over a connection that there is. whatsmeow
// lets wait for one that is being made: online is looked at before, so that this waits seldom, and
// again, as what was made meanwhile is not logged in yet.
func (a *account) connected() bool {
	return a.online.Load() && a.client.IsConnected() && a.online.Load() && !a.unlinked.Load()
}

// download gets the media of a message out of the table. It heals whether or not the index
// knows the message.
func (a *account) download(ctx context.Context, m *message, file whatsmeow.File) error {
	if !a.begin() {
		return errAway
	}
	defer a.end()
	// The phone may have answered already what another process has asked.
	select {
	case <-a.settled.Done():
	case <-ctx.Done():
		return ctx.Err()
	}
	return a.plugin.DownloadToFile(ctx, &m.info, m.media, file)
}

// begin keeps the account here until end, unless it is about to go.
func (a *account) begin() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.retired {
		return false
	}
	a.using++
	return true
}

func (a *account) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.using--
}

// retire makes begin say no, unless the account is being used.
func (a *account) retire() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.retired = a.retired || a.using == 0
	return a.retired
}

// close hangs up and waits until what has come is handled, before it closes the plugin. The handler
// stays: whatsmeow can be about to hand on a message, and takes one that has no handler for
// handled, so that it would never come again. close must not be called by an event handler.
func (a *account) close() {
	if a.gate.isOpen() { // if the connection is just breaking, whatsmeow has a data race in Disconnect
		a.client.Disconnect()
	}
	a.gate.shut() // as whatsmeow may have been about to connect again
	a.settle()
	a.ear.Lock()
	a.deaf = true
	a.ear.Unlock()
	a.cancel()
	_ = a.plugin.Close()
}

// hear handles an event, unless the account is closed.
func (a *account) hear(evt any, handle func(*account, any) bool) bool {
	a.ear.RLock()
	defer a.ear.RUnlock()
	return !a.deaf && handle(a, evt)
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
		a.session.Store(&evt.ID)
	case *events.Connected:
		a.online.Store(true)
	case *events.OfflineSyncCompleted:
		a.settle()
	case *events.LoggedOut:
		a.settle()
		a.unlinked.Store(true)
		a.online.Store(false)
		g.log.Error("An account was unlinked on its phone; link it again with POST /accounts",
			"account", a.phone(), "reason", evt.PermanentDisconnectDescription())
	case *events.StreamReplaced:
		a.online.Store(false)
		g.log.Error("The session of an account was used elsewhere; it connects again in a minute", "account", a.phone())
		g.spawn(func() { g.connectAgain(a) })
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
