package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	_ "modernc.org/sqlite"

	"github.com/whatsmeow-plugins/reupload"
)

// dialect is SQLite's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "sqlite3"
	driver  = "sqlite"
)

const (
	// parallel is how many files are downloaded at once: so many that come, and so many that
	// somebody asks for. These are two, so that old files that wait for a silent phone do not hold
	// up new ones.
	parallel = 4
	// waiting is how many messages wait for that, and are in memory.
	waiting = 1000
	// patience is how long downloads have when the bot ends. Docker kills ten seconds
	// after its SIGTERM.
	patience = 8 * time.Second
)

// A bot is one run of the bot.
type bot struct {
	client   *whatsmeow.Client
	plugin   *reupload.Plugin
	db       *sql.DB
	sessions *sqlstore.Container // in db
	media    *os.Root            // where media is saved; nothing that a message says leads out of it
	log      waLog.Logger

	// send sends a message. It is sendMessage, except in the demo, which has no one to send to.
	send func(ctx context.Context, to types.JID, msg *waE2E.Message) error
	// create makes a new file in media, and sync is (*os.File).Sync; tests of a disk that
	// fails replace both.
	create func(name string) (*os.File, error)
	sync   func(*os.File) error

	ended    chan error // gets the reason when WhatsApp has ended the connection for good
	news     *pool      // saves what comes
	requests *pool      // saves what somebody asks for
	cancel   context.CancelFunc
	patience time.Duration

	mu     sync.Mutex
	warned time.Time // when the owner was last told that the disk is full
}

// openBot prepares everything but the connection. The bot works until close is called.
func openBot(ctx context.Context, cfg config) (_ *bot, err error) {
	cfg.log = redactor{cfg.log}
	b := &bot{
		log: cfg.log, sync: (*os.File).Sync, patience: patience, ended: make(chan error, 1),
		news: newPool(parallel, waiting), requests: newPool(parallel, waiting),
	}
	b.send, b.create = b.sendMessage, b.createFile
	// A signal ends ctx. Downloads go on then, until close has waited for them.
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b.cancel = cancel
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if err = os.MkdirAll(cfg.dir, 0o700); err == nil {
		b.media, err = os.OpenRoot(cfg.dir)
	}
	if err == nil {
		err = b.removeLeftovers()
	}
	if err != nil {
		return nil, fmt.Errorf("the directory for media cannot be used; name another one with -dir: %w", err)
	}
	if b.db, err = openDB(cfg.db); err != nil {
		return nil, fmt.Errorf("the database cannot be used; name another file with -db: %w", err)
	}
	b.sessions = sqlstore.NewWithDB(b.db, dialect, cfg.log.Sub("Store"))
	if err = b.sessions.Upgrade(ctx); err != nil {
		return nil, fmt.Errorf("the database %s cannot be used; name another file with -db: %w", cfg.db, err)
	}
	device, err := b.sessions.GetFirstDevice(ctx)
	if err != nil {
		return nil, fmt.Errorf("the session in %s cannot be read; restore the file, or link again with another -db: %w", cfg.db, err)
	}
	if cfg.newClient == nil {
		b.client = whatsmeow.NewClient(device, cfg.log.Sub("Client"))
	} else if b.client, err = cfg.newClient(device, cfg.log.Sub("Client")); err != nil {
		return nil, err
	}
	// What the handler turns down comes again, and can be decrypted again thanks to this buffer.
	b.client.EnableDecryptedEventBuffer = true
	if b.plugin, err = install(ctx, b.client, b.db); err != nil {
		return nil, err
	}
	b.client.AddEventHandlerWithSuccessStatus(func(evt any) bool { return b.handle(work, evt) })
	return b, nil
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

// close ends what runs, in the order in which one thing needs another: downloads need the
// connection, for it brings the phone's answers, and everything needs the database. It can be
// called on a bot that was opened in part.
func (b *bot) close() {
	b.news.close() // from here on, messages are turned down
	b.requests.close()
	done := make(chan struct{})
	go func() {
		b.news.wait()
		b.requests.wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(b.patience):
		b.log.Warnf("Not all downloads were through after %v", b.patience)
	}
	b.cancel()
	<-done
	if b.client != nil {
		b.client.Disconnect() // first, so that the index misses nothing that comes
	}
	if b.plugin != nil {
		_ = b.plugin.Close()
	}
	if b.db != nil {
		if err := b.db.Close(); err != nil {
			b.log.Errorf("Closing the database: %v", err)
		}
	}
	if b.media != nil {
		_ = b.media.Close()
	}
}

// handle starts what is to do about an event, and never waits for it: whatsmeow handles one event
// at a time, so that a download that waits for a silent phone would hold up all messages after it.
// It returns false for a message that the bot should get again when it is back: whatsmeow then does
// not acknowledge it.
func (b *bot) handle(ctx context.Context, rawEvt any) bool {
	switch evt := rawEvt.(type) {
	case *events.Message:
		return b.take(ctx, evt)
	case *events.Connected:
		b.log.Infof("Connected")
	case *events.LoggedOut:
		b.forgetSession(ctx)
		b.end(errors.New("the phone has unlinked the bot; run it again to link it"))
	case events.PermanentDisconnect:
		b.end(fmt.Errorf("WhatsApp has ended the connection for good: %s; fix that, and run the bot again", evt.PermanentDisconnectDescription()))
	}
	return true
}

// take hands a message to the workers, and reports whether it need not come again.
func (b *bot) take(ctx context.Context, evt *events.Message) bool {
	var err error
	if file := attachmentOf(evt.Message); file != nil {
		err = b.news.offer(func() { b.keep(ctx, evt, file) })
	}
	if quote, ok := command(evt.Message); ok {
		err = errors.Join(err, b.requests.offer(func() { b.get(ctx, evt, quote) }))
	}
	if errors.Is(err, errEnding) {
		b.log.Infof("Left for the next run: message %q from %s", evt.Info.ID, evt.Info.SourceString())
		return false
	}
	if err != nil {
		b.log.Warnf("Not handled: message %q from %s: %v; reply !get later", evt.Info.ID, evt.Info.SourceString(), err)
	}
	return true
}

// forgetSession deletes the session, so that the next run links the bot again. whatsmeow deletes
// it too, but may not have finished when the bot ends.
func (b *bot) forgetSession(ctx context.Context) {
	devices, err := b.sessions.GetAllDevices(ctx)
	for _, device := range devices {
		err = errors.Join(err, b.sessions.DeleteDevice(ctx, device))
	}
	if err != nil {
		b.log.Errorf("The session could not be deleted: %v", err)
	}
}

func (b *bot) end(reason error) {
	select {
	case b.ended <- reason:
	default: // there was a first reason
	}
}
