package main

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"go.mau.fi/whatsmeow/store/sqlstore"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// dialect is PostgreSQL's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "postgres"
	driver  = "pgx"
)

// connectsAtOnce is how many accounts connect at the same time when the gateway starts, and how
// many are handed over.
const connectsAtOnce = 8

// closeTime is how long the handling of what has come already may take when the gateway ends.
const closeTime = 5 * time.Second

// A gateway has those accounts of the database that are this process's share, for as long as it can
// rely on its leases of them. All methods can be called concurrently.
type gateway struct {
	cfg       config
	log       *slog.Logger
	db        *sql.DB // refuses to work once the leases are lost
	leases    *leases
	sessions  *sqlstore.Container
	index     reupload.Index // of all accounts: it keeps them apart
	messages  *messages
	store     storeFunc
	intake    intake
	started   time.Time
	responses *prometheus.CounterVec
	passed    prometheus.Counter // requests that another gateway has answered
	timings   timings
	cache     *cache
	requests  chan struct{} // has one for each request for media that runs
	connects  chan struct{} // has one for each account that connects for the first time

	draining   atomic.Bool     // requests are not wanted any more
	background sync.WaitGroup  // rounds, pairings, the first connects, and the deletion of what is old
	root       context.Context // of connections and of what is written to the database
	cancel     context.CancelFunc
	running    context.Context // of what begins something new. It ends first
	stop       context.CancelFunc

	known time.Time           // when the sessions were last looked through; for rounds alone, as is
	twins map[int64]time.Time // when a process was first seen that gives the same URL; zero if that was said

	mu       sync.Mutex
	closed   bool
	accounts map[string]*account // by phone number
	busy     map[string]activity // leased, and about to be here, or not to be here any more
}

// open connects to the database, and starts to connect those accounts in it that it has a lease of.
func open(ctx context.Context, cfg config) (_ *gateway, err error) {
	if cfg.dsn == "" {
		return nil, errors.New("name the PostgreSQL database with -dsn, such as postgres://user:password@host/gateway; or try -demo")
	}
	g := &gateway{cfg: cfg, log: cfg.log, accounts: make(map[string]*account), busy: make(map[string]activity), twins: make(map[int64]time.Time), started: time.Now(), responses: newResponses(), passed: newPassed(), timings: newTimings()}
	g.requests, g.connects = make(chan struct{}, cfg.requests), make(chan struct{}, connectsAtOnce)
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
	if g.leases, g.db, err = join(ctx, &cfg, func(db *sql.DB) error { return g.setUp(ctx, db) }); err != nil {
		return nil, err
	}
	if cfg.keep > 0 {
		g.background.Go(g.sweepRegularly)
	}
	g.background.Go(g.loseAll)
	if err = g.leases.ready(ctx); err != nil {
		return nil, err
	}
	if err = g.round(ctx); err != nil {
		return nil, err
	}
	g.background.Go(g.roundRegularly)
	return g, nil
}

// setUp makes the parts that are in the database.
func (g *gateway) setUp(ctx context.Context, db *sql.DB) (err error) {
	db.SetMaxOpenConns(20) // fewer than PostgreSQL's default of 100, for all accounts together
	db.SetMaxIdleConns(10)
	g.sessions = sqlstore.NewWithDB(db, dialect, waLogger{g.log, "Store"})
	if err = g.sessions.Upgrade(ctx); err != nil {
		return fmt.Errorf("whatsmeow's tables could not be created; check the rights of the database's user: %w", err)
	}
	if g.index, err = sqlindex.New(ctx, db, dialect); err != nil {
		return err
	}
	if g.messages, err = newMessages(ctx, db); err != nil {
		return fmt.Errorf("the gateway's table could not be created; check the rights of the database's user: %w", err)
	}
	g.store = g.messages.put
	if g.cfg.wrapStore != nil {
		g.store = g.cfg.wrapStore(g.store)
	}
	return nil
}

// close ends everything, in the order in which the parts need each other: first nothing new begins,
// then what has come is handled to its end, then the plugins go, then other processes may have the
// accounts, and the database is the last. Requests that still wait for a phone fail.
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
	g.closeAccounts()
	g.cancel()
	g.background.Wait()
	if g.leases != nil {
		g.leases.leave()
	}
	if g.db != nil {
		if err := g.db.Close(); err != nil {
			g.log.Error("The database was not closed", "error", err)
		}
	}
}

// closeAccounts closes all accounts. If the leases are lost there is no time for what has come.
func (g *gateway) closeAccounts() {
	var closing sync.WaitGroup
	for _, a := range g.here() {
		closing.Go(func() {
			if !g.leases.fence.holds() {
				a.gate.shut()
			}
			a.close()
		})
	}
	closing.Wait()
}

// spawn does something in the background, unless the gateway is closed.
func (g *gateway) spawn(what func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.background.Go(what)
	}
	return !g.closed
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
	Gateway   string `json:"gateway,omitempty"` // the URL of the one that has it
}

// list returns the state of all accounts: of those that are here as it is, and of the others as the
// process that has them said a moment ago.
func (g *gateway) list() []accountState {
	present := g.leases.present()
	all := make(map[string]accountState)
	for _, l := range present.leases {
		all[l.account] = accountState{l.account, l.linked, l.connected, present.urls[l.process]}
	}
	own := g.own()
	g.mu.Lock()
	maps.DeleteFunc(all, func(phone string, _ accountState) bool { return g.busy[phone] == linking })
	g.mu.Unlock()
	for _, state := range own {
		all[state.Account] = state
	}
	return slices.SortedFunc(maps.Values(all), func(a, b accountState) int { return cmp.Compare(a.Account, b.Account) })
}

// here returns the accounts that are here.
func (g *gateway) here() map[string]*account {
	g.mu.Lock()
	defer g.mu.Unlock()
	return maps.Clone(g.accounts)
}

// own returns the state of the accounts that are here. whatsmeow is asked without a lock, since it
// lets wait for a connection that is being made.
func (g *gateway) own() []accountState {
	here := g.here()
	list := make([]accountState, 0, len(here))
	for phone, a := range here {
		list = append(list, accountState{phone, !a.unlinked.Load(), a.connected(), g.cfg.peerURL})
	}
	return list
}
