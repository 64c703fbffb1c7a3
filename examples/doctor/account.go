package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	_ "modernc.org/sqlite"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// dialect is SQLite's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "sqlite3"
	driver  = "sqlite"
)

// An account is the linked device: a client, and the bot's database.
//
// The plugin is registered with the bot's index, so that no answer is lost on the bot that comes
// while the doctor is connected. It has nothing to heal, as the doctor downloads nothing with the
// client, and sends its requests by itself, in the form that it wants to know about.
type account struct {
	client   *whatsmeow.Client
	plugin   *reupload.Plugin
	db       *sql.DB
	index    *sqlindex.Index
	ended    chan error    // gets the reason when WhatsApp has ended the connection for good
	loggedIn chan struct{} // closed
	caughtUp chan struct{} // closed when all that has waited at WhatsApp has come

	logIn, catchUp func()
}

// openAccount prepares everything but the connection. The hearer hears each node and message.
func openAccount(ctx context.Context, cfg config, log logger, h hearer) (_ *account, err error) {
	a := &account{ended: make(chan error, 1), loggedIn: make(chan struct{}), caughtUp: make(chan struct{})}
	a.logIn = sync.OnceFunc(func() { close(a.loggedIn) })
	a.catchUp = sync.OnceFunc(func() { close(a.caughtUp) })
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.db, err = openDB(cfg.db); err != nil {
		return nil, fmt.Errorf("the database cannot be used; name another file with -db: %w", err)
	}
	sessions := sqlstore.NewWithDB(a.db, dialect, log)
	if err = sessions.Upgrade(ctx); err != nil {
		return nil, fmt.Errorf("the database cannot be used; name another file with -db: %w", err)
	}
	device, err := sessions.GetFirstDevice(ctx)
	if err != nil {
		return nil, fmt.Errorf("the session cannot be read; restore the file, or link again with another -db: %w", err)
	}
	clientLog := tap{log, h.node}
	if cfg.newClient == nil {
		a.client = whatsmeow.NewClient(device, clientLog)
	} else if a.client, err = cfg.newClient(device, clientLog); err != nil {
		return nil, err
	}
	// What the handler turns down comes again to the bot, and can be decrypted again thanks to this
	// buffer.
	a.client.EnableDecryptedEventBuffer = true
	// The bot reads its history itself. whatsmeow would do that here, in the background, delete
	// what it has read, and tell the phone that the bot has it.
	isBots := device.ID != nil
	a.client.ManualHistorySyncDownload, a.client.DisableManualHistorySyncReceipt = isBots, isBots
	if a.index, err = sqlindex.New(ctx, a.db, dialect); err != nil {
		return nil, err
	}
	if a.plugin, err = reupload.Register(a.client, &reupload.Options{Index: a.index, Log: log}); err != nil {
		return nil, err
	}
	a.client.AddEventHandlerWithSuccessStatus(func(evt any) bool {
		a.watch(evt)
		return h.event(evt)
	})
	return a, nil
}

// openDB opens the SQLite file, and creates it for the user alone: it has the keys of the account
// and of its media.
func openDB(path string) (*sql.DB, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = file.Close(); err != nil {
		return nil, err
	}
	escaped := (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	return sql.Open(driver, "file:"+escaped+"?"+
		"_pragma=foreign_keys(1)&"+ // whatsmeow's tables rely on it
		"_pragma=busy_timeout(5000)&"+ // wait for a lock, and lose no message
		"_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&"+
		"_txlock=immediate") // a transaction that begins by reading would fail, and not wait, if another one writes
}

// watch follows the connection.
func (a *account) watch(rawEvt any) {
	switch evt := rawEvt.(type) {
	case *events.Connected:
		a.logIn()
	case *events.OfflineSyncCompleted:
		a.catchUp()
	case *events.LoggedOut:
		a.end(errors.New("the phone has unlinked the bot; run again to link it"))
	case *events.StreamReplaced:
		a.end(errors.New("another process is connected as this device; stop the bot, and run again"))
	case events.PermanentDisconnect:
		a.end(fmt.Errorf("WhatsApp has ended the connection for good: %s", evt.PermanentDisconnectDescription()))
	}
}

func (a *account) end(reason error) {
	select {
	case a.ended <- reason:
	default: // there was a first reason
	}
}

// How long the login, and what has waited at WhatsApp, are waited for. WhatsApp says when that was
// all, but it need not.
const (
	loginPatience   = time.Minute
	offlinePatience = 20 * time.Second
)

// connect returns when the client is logged in and what has waited at WhatsApp has come.
func (a *account) connect(ctx context.Context, out io.Writer, phone string) error {
	var err error
	if a.client.Store.ID == nil {
		err = a.link(ctx, out, phone)
	} else {
		err = a.client.Connect()
	}
	if err != nil {
		return err
	}
	if err = a.await(ctx, a.loggedIn, loginPatience); err != nil {
		return err
	}
	select {
	case <-a.loggedIn:
	default:
		return errors.New("WhatsApp cannot be reached; check the network, and run again")
	}
	return a.await(ctx, a.caughtUp, offlinePatience)
}

// await waits until a channel is closed or a time is over. The error is why it makes no sense to
// wait longer.
func (a *account) await(ctx context.Context, done <-chan struct{}, patience time.Duration) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case err := <-a.ended:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// lastNodes is how long nodes on their way have to arrive before the client hangs up: one that
// arrives at that moment is lost on whatsmeow.
const lastNodes = 200 * time.Millisecond

// close can be called on an account that was opened in part.
func (a *account) close() {
	if a.client != nil {
		if a.client.IsConnected() {
			time.Sleep(lastNodes)
		}
		a.client.Disconnect() // first, so that the index misses nothing that comes
	}
	if a.plugin != nil {
		_ = a.plugin.Close()
	}
	if a.db != nil {
		_ = a.db.Close()
	}
}

// own returns the account's phone number and LID. Either can be empty.
func (a *account) own() (pn, lid types.JID) {
	return a.client.Store.GetJID().ToNonAD(), a.client.Store.GetLID().ToNonAD()
}

// otherName returns the LID of a phone number or the phone number of a LID, or an empty JID if the
// client does not know it.
func (a *account) otherName(ctx context.Context, jid types.JID) types.JID {
	pn, lid := a.own()
	var other types.JID
	var err error
	switch {
	case jid == pn:
		return lid
	case jid == lid:
		return pn
	case jid.Server == types.DefaultUserServer:
		other, err = a.client.Store.LIDs.GetLIDForPN(ctx, jid)
	case jid.Server == types.HiddenUserServer:
		other, err = a.client.Store.LIDs.GetPNForLID(ctx, jid)
	}
	if err != nil {
		return types.EmptyJID
	}
	return other.ToNonAD()
}
