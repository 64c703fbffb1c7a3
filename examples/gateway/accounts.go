package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// dialect is PostgreSQL's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "postgres"
	driver  = "pgx"
)

// A gateway has the accounts of one process. All methods can be called concurrently.
type gateway struct {
	cfg      config
	log      waLog.Logger
	db       *sql.DB
	sessions *sqlstore.Container
	index    reupload.Index // of all accounts: it keeps them apart
	messages *messages

	pairings sync.WaitGroup
	cancel   context.CancelFunc
	root     context.Context // ends with close

	mu       sync.Mutex
	closed   bool
	accounts map[string]*account // by phone number
}

// An account is a WhatsApp account that is linked, or about to be.
type account struct {
	client *whatsmeow.Client
	plugin *reupload.Plugin
}

// newAccount makes a client with reupload. All clients share the index.
func (g *gateway) newAccount(device *store.Device) (*account, error) {
	log := g.log.Sub("Client")
	var client *whatsmeow.Client
	if g.cfg.newClient == nil {
		client = whatsmeow.NewClient(device, log)
	} else {
		client = g.cfg.newClient(device, log)
	}
	plugin, err := reupload.Register(client, &reupload.Options{Index: g.index, Timeout: g.cfg.timeout})
	if err != nil {
		return nil, err
	}
	// A message whose row could not be stored is not acknowledged, so that WhatsApp sends it again.
	client.SynchronousAck, client.EnableDecryptedEventBuffer = true, true
	client.AddEventHandlerWithSuccessStatus(func(evt any) bool { return g.handle(client, evt) })
	return &account{client, plugin}, nil
}

// download gets the media of a message out of the table. It heals whether or not the index knows the message.
func (a *account) download(ctx context.Context, m *message, file whatsmeow.File) error {
	return a.plugin.DownloadToFile(ctx, &m.info, m.media, file)
}

func (a *account) close() {
	_ = a.plugin.Close()
	a.client.Disconnect()
}

// open connects to the database, and starts to connect all accounts in it.
func open(ctx context.Context, cfg config) (_ *gateway, err error) {
	if cfg.dsn == "" {
		return nil, errors.New("name the PostgreSQL database with -dsn, such as postgres://user:password@host/gateway; or try -demo")
	}
	g := &gateway{cfg: cfg, log: cfg.log, accounts: make(map[string]*account)}
	g.root, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	if g.db, err = sql.Open(driver, cfg.dsn); err != nil {
		return nil, fmt.Errorf("check -dsn: %w", err)
	}
	g.db.SetMaxOpenConns(20) // fewer than PostgreSQL's default of 100, for all accounts together
	g.db.SetMaxIdleConns(10)
	if err = g.db.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("the database cannot be reached; check -dsn: %w", err)
	}
	g.sessions = sqlstore.NewWithDB(g.db, dialect, g.log.Sub("Store"))
	if err = g.sessions.Upgrade(ctx); err != nil {
		return nil, fmt.Errorf("whatsmeow's tables could not be created; check the rights of the database's user: %w", err)
	}
	if g.index, err = sqlindex.New(ctx, g.db, dialect); err != nil {
		return nil, err
	}
	if g.messages, err = newMessages(ctx, g.db); err != nil {
		return nil, fmt.Errorf("the gateway's table could not be created; check the rights of the database's user: %w", err)
	}
	devices, err := g.sessions.GetAllDevices(ctx)
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		a, err := g.newAccount(device)
		if err != nil {
			return nil, err
		}
		g.add(device.ID.User, a)
		a.client.InitialAutoReconnect = true
		if err = a.client.Connect(); err != nil { // not for want of a network, as that is tried again
			g.log.Errorf("%s does not connect: %v", device.ID.User, err)
		}
	}
	return g, nil
}

// close ends everything. Requests that still wait for a phone fail.
func (g *gateway) close() {
	g.cancel()
	g.pairings.Wait()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	for _, a := range g.accounts {
		a.close()
	}
	if g.db != nil {
		if err := g.db.Close(); err != nil {
			g.log.Errorf("Closing the database: %v", err)
		}
	}
}

// add makes an account known, and returns the one with the same phone number that it replaces. If the gateway is closed it closes
// the account.
func (g *gateway) add(phone string, a *account) (replaced *account) {
	g.mu.Lock()
	closed := g.closed
	if !closed {
		replaced = g.accounts[phone]
		g.accounts[phone] = a
	}
	g.mu.Unlock()
	if closed {
		a.close()
	}
	if replaced != nil {
		replaced.close()
	}
	return replaced
}

// account returns the account with a phone number, or nil.
func (g *gateway) account(phone string) *account {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.accounts[phone]
}

// An accountState is what the list of accounts says of each.
type accountState struct {
	Account   string `json:"account"`
	Connected bool   `json:"connected"`
}

func (g *gateway) list() []accountState {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]accountState, 0, len(g.accounts))
	for phone, a := range g.accounts {
		list = append(list, accountState{phone, a.client.IsLoggedIn()})
	}
	slices.SortFunc(list, func(a, b accountState) int { return cmp.Compare(a.Account, b.Account) })
	return list
}

func phoneOf(client *whatsmeow.Client) string { return client.Store.GetJID().User }

// handle stores the media messages of an account. It returns false for a message that should come again.
func (g *gateway) handle(client *whatsmeow.Client, rawEvt any) bool {
	switch evt := rawEvt.(type) {
	case *events.Message:
		if err := g.messages.put(g.root, phoneOf(client), evt); err != nil {
			g.log.Errorf("Message %s was not stored, and will come again: %v", evt.Info.ID, err)
			return false
		}
	case *events.HistorySync:
		g.storeHistory(client, evt)
	case *events.LoggedOut:
		g.log.Errorf("An account was unlinked on its phone: %s; link it again with POST /accounts", evt.PermanentDisconnectDescription())
	case events.PermanentDisconnect:
		g.log.Errorf("WhatsApp has ended a connection for good: %s", evt.PermanentDisconnectDescription())
	}
	return true
}

// storeHistory stores what was there before the account was linked. Most of that has expired.
func (g *gateway) storeHistory(client *whatsmeow.Client, evt *events.HistorySync) {
	for _, conversation := range evt.Data.GetConversations() {
		chat, err := types.ParseJID(conversation.GetID())
		if err != nil {
			continue
		}
		for _, old := range conversation.GetMessages() {
			msg, err := client.ParseWebMessage(chat, old.GetMessage())
			if err != nil {
				continue
			}
			if err = g.messages.put(g.root, phoneOf(client), msg); err != nil {
				g.log.Errorf("Message %s of the history was not stored: %v", msg.Info.ID, err)
			}
		}
	}
}

// Why an account cannot be linked.
var (
	errLinked = errors.New("the account is linked already")
	errNoCode = errors.New("WhatsApp gave no code; check the number, and wait some minutes after several tries")
)

// pairingTime is how long a code is good for.
const pairingTime = 160 * time.Second

// pair begins to link an account, and returns the code that is to be typed on its phone. The error is errLinked, wraps
// errNoCode, or is the context's.
func (g *gateway) pair(ctx context.Context, phone string) (code string, err error) {
	if a := g.account(phone); a != nil && a.client.IsLoggedIn() {
		return "", errLinked
	}
	a, err := g.newAccount(g.sessions.NewDevice())
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	pairing, cancel := context.WithTimeout(g.root, pairingTime)
	defer func() {
		if err != nil {
			cancel()
		}
	}()
	steps, err := a.client.GetQRChannel(pairing)
	if err != nil {
		return "", err
	}
	if err = a.client.Connect(); err != nil {
		return "", fmt.Errorf("%w: %w", errNoCode, err)
	}
	select {
	case step := <-steps: // the first QR code, which shows that the connection is ready
		if step.Event != whatsmeow.QRChannelEventCode {
			return "", errNoCode
		}
	case <-ctx.Done():
		return "", ctx.Err()
	}
	code, err = a.client.PairPhone(ctx, phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoCode, err)
	}
	g.pairings.Go(func() {
		defer cancel()
		g.finish(a, steps)
	})
	return code, nil
}

// finish waits for the code to be typed.
func (g *gateway) finish(a *account, steps <-chan whatsmeow.QRChannelItem) {
	for step := range steps {
		switch step.Event {
		case whatsmeow.QRChannelEventCode:
		case whatsmeow.QRChannelSuccess.Event:
			phone := phoneOf(a.client)
			g.log.Infof("Linked %s", phone)
			if replaced := g.add(phone, a); replaced != nil {
				// Or the next start would find two sessions of the account, and not know which one is good.
				if err := replaced.client.Store.Delete(g.root); err != nil {
					g.log.Errorf("The former session of %s was not deleted: %v", phone, err)
				}
			}
			return
		default:
			g.log.Warnf("An account was not linked: %s", step.Event)
		}
	}
	a.close()
}
