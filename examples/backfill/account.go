package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCompanionReg"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
	_ "modernc.org/sqlite"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// dialect is SQLite's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "sqlite3"
	driver  = "sqlite"
)

// askForHistory makes WhatsApp send as much of the past as it gives to a device that is being
// linked. The phone decides at that moment, once and for all: a device that is linked already does
// not get more by this, and has to ask for older messages chat by chat, see older.go.
var askForHistory = sync.OnceFunc(func() {
	store.SetOSInfo("reupload backfill", [3]uint32{1, 0, 0}) // the name in the phone's list of linked devices
	props := store.DeviceProps
	props.RequireFullSync = proto.Bool(true)                            // and not the last three months or so
	props.PlatformType = waCompanionReg.DeviceProps_DESKTOP.Enum()      // browsers get less
	props.HistorySyncConfig.FullSyncDaysLimit = proto.Uint32(100 * 365) // no limit of ours:
	props.HistorySyncConfig.FullSyncSizeMbLimit = proto.Uint32(100_000) // a phone that has
	props.HistorySyncConfig.StorageQuotaMb = proto.Uint32(100_000)      // less sends less
	props.HistorySyncConfig.OnDemandReady = proto.Bool(true)            // we ask for older messages
	props.HistorySyncConfig.CompleteOnDemandReady = proto.Bool(true)    // until there are none
	props.HistorySyncConfig.ThumbnailSyncDaysLimit = proto.Uint32(0)    // we have no use for thumbnails
})

// An account is the linked device: a client that heals, and its database.
type account struct {
	client   *whatsmeow.Client
	plugin   *reupload.Plugin
	db       *sql.DB
	sessions *sqlstore.Container
	log      waLog.Logger
	ended    chan error    // gets the reason when WhatsApp has ended the connection for good
	caughtUp chan struct{} // closed when all that has waited at WhatsApp has come

	catchUp func() // closes it
}

// offlinePatience is how long what has waited at WhatsApp is waited for. It says when that was all,
// but it need not.
const offlinePatience = time.Minute

// openAccount prepares everything but the connection. OnReupload is told of each path that the
// phone tells.
func openAccount(ctx context.Context, cfg config, log waLog.Logger, onReupload func(reupload.Reupload)) (_ *account, err error) {
	a := &account{log: log, ended: make(chan error, 1), caughtUp: make(chan struct{})}
	a.catchUp = sync.OnceFunc(func() { close(a.caughtUp) })
	defer func() {
		if err != nil {
			a.close()
		}
	}()
	if a.db, err = openDB(cfg.db); err == nil {
		a.sessions = sqlstore.NewWithDB(a.db, dialect, log.Sub("Store"))
		err = a.sessions.Upgrade(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("the database %s cannot be used; name another file with -db: %w", cfg.db, err)
	}
	device, err := a.sessions.GetFirstDevice(ctx)
	if err != nil {
		return nil, fmt.Errorf("the session in %s cannot be read; restore the file, or link again with another -db: %w", cfg.db, err)
	}
	if cfg.newClient == nil {
		a.client = whatsmeow.NewClient(device, log.Sub("Client"))
	} else if a.client, err = cfg.newClient(device, log.Sub("Client")); err != nil {
		return nil, err
	}
	// What the handler turns down comes again, and can be decrypted again thanks to this buffer.
	a.client.EnableDecryptedEventBuffer = true
	// A part of the history is acknowledged when it is in the catalog, and not before: see
	// history.go.
	a.client.ManualHistorySyncDownload, a.client.DisableManualHistorySyncReceipt = true, true

	index, err := sqlindex.New(ctx, a.db, dialect)
	if err != nil {
		return nil, err
	}
	pace := cfg.plan.pace
	if pace == 0 {
		pace = -1 // none
	}
	a.plugin, err = reupload.Register(a.client, &reupload.Options{
		Index: index, Pace: pace, Timeout: cfg.timeout, MaxInFlight: cfg.workers + 1, // of which backfills leave one free
		FillMissingPaths: true, // histories have files without a path, which only the phone can tell
		OnReupload:       onReupload,
	})
	return a, err
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
		"_pragma=busy_timeout(20000)&"+ // wait for a lock, and lose no message
		"_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&"+
		"_txlock=immediate") // a transaction that begins by reading would fail, and not wait, if another one writes
}

// watch tells the run what becomes of the connection.
func (a *account) watch(ctx context.Context, rawEvt any) {
	switch evt := rawEvt.(type) {
	case *events.Connected:
		time.AfterFunc(offlinePatience, a.catchUp)
	case *events.OfflineSyncCompleted:
		a.catchUp()
	case *events.LoggedOut:
		a.forgetSession(ctx)
		a.end(errors.New("the phone has unlinked the backfill; run it again to link it"))
	case events.PermanentDisconnect:
		a.end(fmt.Errorf("WhatsApp has ended the connection for good: %s; fix that, and run the backfill again", evt.PermanentDisconnectDescription()))
	}
}

// waitConnected waits until the client is logged in.
func (a *account) waitConnected(ctx context.Context) error {
	for !a.client.IsLoggedIn() {
		select {
		case <-time.After(reconnectPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// reconnectPause is how often it is looked whether the connection is there again.
const reconnectPause = 100 * time.Millisecond

// forgetSession deletes the session, so that the next run links again. whatsmeow deletes it too,
// but may not have finished when the run ends.
func (a *account) forgetSession(ctx context.Context) {
	devices, err := a.sessions.GetAllDevices(ctx)
	for _, device := range devices {
		err = errors.Join(err, a.sessions.DeleteDevice(ctx, device))
	}
	if err != nil {
		a.log.Errorf("The session could not be deleted: %v", err)
	}
}

func (a *account) end(reason error) {
	select {
	case a.ended <- reason:
	default: // there was a first reason
	}
}

// close can be called on an account that was opened in part.
func (a *account) close() {
	if a.client != nil {
		a.client.Disconnect() // first, so that the index misses nothing that comes
	}
	if a.plugin != nil {
		_ = a.plugin.Close()
	}
	if a.db != nil {
		if err := a.db.Close(); err != nil {
			a.log.Errorf("Closing the database: %v", err)
		}
	}
}

// query is that of a URL, which is a key to the file and stays out of the log. A direct path that
// lost its question mark has one too.
var query = regexp.MustCompile(`[?&][^\s"'<>]*=[^\s"'<>]*`)

func redact(line string) string { return query.ReplaceAllString(line, "?…") }
