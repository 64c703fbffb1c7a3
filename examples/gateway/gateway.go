package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// dialect is PostgreSQL's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "postgres"
	driver  = "pgx"
)

// connectsAtOnce is how many accounts connect at the same time when the gateway starts.
const connectsAtOnce = 8

// closeTime is how long the handling of what has come already may take when the gateway ends.
const closeTime = 5 * time.Second

// A gateway has the accounts of one process. All methods can be called concurrently.
type gateway struct {
	cfg       config
	log       *slog.Logger
	db        *sql.DB
	sessions  *sqlstore.Container
	index     reupload.Index // of all accounts: it keeps them apart
	messages  *messages
	store     storeFunc
	intake    intake
	started   time.Time
	responses *prometheus.CounterVec
	cache     *cache
	requests  chan struct{} // has one for each request for media that runs

	draining   atomic.Bool     // requests are not wanted any more
	background sync.WaitGroup  // pairings, the first connects, and the deletion of what is old
	root       context.Context // of connections and of what is written to the database
	cancel     context.CancelFunc
	running    context.Context // of what begins something new. It ends first
	stop       context.CancelFunc

	mu       sync.Mutex
	closed   bool
	accounts map[string]*account // by phone number
}

// open connects to the database, and starts to connect all accounts in it.
func open(ctx context.Context, cfg config) (_ *gateway, err error) {
	if cfg.dsn == "" {
		return nil, errors.New("name the PostgreSQL database with -dsn, such as postgres://user:password@host/gateway; or try -demo")
	}
	g := &gateway{cfg: cfg, log: cfg.log, accounts: make(map[string]*account), started: time.Now(), responses: newResponses()}
	g.requests = make(chan struct{}, cfg.requests)
	g.root, g.cancel = context.WithCancel(context.WithoutCancel(ctx))
	g.running, g.stop = context.WithCancel(g.root)
	defer func() {
		if err != nil {
			g.close()
		}
	}()
	cfg.cache.patience = cfg.patience()
	if g.cache, err = newCache(g.root, cfg.cache); err != nil {
		return nil, err
	}
	if g.db, err = sql.Open(driver, cfg.dsn); err != nil {
		return nil, fmt.Errorf("check -dsn: %w", err)
	}
	g.db.SetMaxOpenConns(20) // fewer than PostgreSQL's default of 100, for all accounts together
	g.db.SetMaxIdleConns(10)
	if err = g.db.PingContext(ctx); err != nil {
		return nil, fmt.Errorf("the database cannot be reached; check -dsn: %w", err)
	}
	g.sessions = sqlstore.NewWithDB(g.db, dialect, waLogger{g.log, "Store"})
	if err = g.sessions.Upgrade(ctx); err != nil {
		return nil, fmt.Errorf("whatsmeow's tables could not be created; check the rights of the database's user: %w", err)
	}
	if g.index, err = sqlindex.New(ctx, g.db, dialect); err != nil {
		return nil, err
	}
	if g.messages, err = newMessages(ctx, g.db); err != nil {
		return nil, fmt.Errorf("the gateway's table could not be created; check the rights of the database's user: %w", err)
	}
	g.store = g.messages.put
	if cfg.wrapStore != nil {
		g.store = cfg.wrapStore(g.store)
	}
	if cfg.keep > 0 {
		g.background.Go(g.sweepRegularly)
	}
	devices, err := g.sessions.GetAllDevices(ctx)
	if err != nil {
		return nil, err
	}
	return g, g.connectAll(devices)
}

// connectAll makes the accounts of all devices known, and begins to connect them. One that WhatsApp
// is slow to answer does not keep the others waiting.
func (g *gateway) connectAll(devices []*store.Device) error {
	slots := make(chan struct{}, connectsAtOnce)
	for _, device := range devices {
		a, err := g.newAccount(device)
		if err != nil {
			return err
		}
		g.add(a.phone(), a)
		a.client.InitialAutoReconnect = true
		g.background.Go(func() {
			select {
			case slots <- struct{}{}:
			case <-g.running.Done():
				return
			}
			defer func() { <-slots }()
			err := a.client.Connect()
			if g.running.Err() != nil {
				a.client.Disconnect()
			} else if err != nil { // not for want of a network, as that is tried again
				g.log.Error("An account does not connect", "account", a.phone(), "error", err)
			}
		})
	}
	return nil
}

// close ends everything, in the order in which the parts need each other: first nothing new begins,
// then what has come is handled to its end, then the plugins go, and the database is the last.
// Requests that still wait for a phone fail.
func (g *gateway) close() {
	g.stop()
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	if g.cache != nil {
		g.cache.close()
	}
	impatient := time.AfterFunc(closeTime, g.cancel)
	defer impatient.Stop()
	var closing sync.WaitGroup
	for _, a := range g.accounts {
		closing.Go(a.close)
	}
	closing.Wait()
	g.cancel()
	g.background.Wait()
	if g.db != nil {
		if err := g.db.Close(); err != nil {
			g.log.Error("The database was not closed", "error", err)
		}
	}
}

// add makes an account known, and returns the one with the same phone number that it replaces. If
// the gateway is closed it closes the account.
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
	Linked    bool   `json:"linked"`
	Connected bool   `json:"connected"`
}

func (g *gateway) list() []accountState {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]accountState, 0, len(g.accounts))
	for phone, a := range g.accounts {
		list = append(list, accountState{phone, !a.unlinked.Load(), a.connected()})
	}
	slices.SortFunc(list, func(a, b accountState) int { return cmp.Compare(a.Account, b.Account) })
	return list
}
