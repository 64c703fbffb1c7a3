package main

import (
	"context"
	"database/sql"
	sqldriver "database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// leases are those of one process, from when it joins the others on a database until it leaves or
// its heartbeat is late. See lease.go for what they promise.
//
// An account is free if its row names no process. The row of a process that is dead is deleted,
// which frees its accounts: either that finds the row before the process's next beat, or the beat
// finds no row. All of it are single statements, so that a process that is stopped holds no lock.
type leases struct {
	db      *sql.DB // of its own, so that accounts do not delay rounds
	heart   *sql.DB // and of its own again: requests use db, too, and must not delay a beat
	process int64
	url     string
	times   leaseTimes
	log     *slog.Logger
	fence   fence
	lost    chan struct{} // closed when the leases cannot be relied on any more
	lose    func()

	looking chan struct{} // has one while a request reads the tables

	mu     sync.Mutex
	board  board
	asked  time.Time       // when the board was asked for
	pulses map[int64]pulse // of all processes
}

// A board is what the tables said last.
type board struct {
	processes []int64          // that are alive and take accounts, the oldest first
	urls      map[int64]string // where other processes reach them, and those that only start
	leases    []lease
}

const leaseTables = `
CREATE TABLE IF NOT EXISTS gateway_process (
	id    bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	url   text        NOT NULL, -- where the other processes reach it
	ready boolean     NOT NULL DEFAULT false, -- it takes accounts
	until timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS gateway_lease (
	account   text    PRIMARY KEY, -- phone number
	process   bigint  REFERENCES gateway_process ON DELETE SET NULL,
	term      bigint  NOT NULL DEFAULT 0, -- counts the leases, so that what comes late ends no later one
	linked    boolean NOT NULL DEFAULT true,
	connected boolean NOT NULL DEFAULT false
);
CREATE INDEX IF NOT EXISTS gateway_lease_process ON gateway_lease (process)`

// setupLock is the number of the advisory lock for the creation of tables, which fails if two do it
// at once.
const setupLock = 0x67617465776179

// statementTime bounds each statement of a beat: one that hangs is tried again while there is time.
const statementTime = 3 * time.Second

// errNoLease means that this process cannot rely on its leases any more.
var errNoLease = errors.New("this process has lost its lease of the account")

// applicationName names the connections of a process to the database, so that they can be ended.
func applicationName(process int64) string { return fmt.Sprint("gateway ", process) }

// join makes this process one of those that share the accounts. setup creates the other tables; it
// gets a database that works only while the process can rely on its leases.
func join(ctx context.Context, cfg *config, setup func(fenced *sql.DB) error) (_ *leases, fenced *sql.DB, err error) {
	settings, err := pgx.ParseConfig(cfg.dsn)
	if err != nil {
		return nil, nil, fmt.Errorf("check -dsn: %w", err)
	}
	l := &leases{
		db: stdlib.OpenDB(*settings), heart: stdlib.OpenDB(*settings),
		url: cfg.peerURL, times: cfg.leases, log: cfg.log, lost: make(chan struct{}), looking: make(chan struct{}, 1),
	}
	l.fence.trust = l.times.trust
	l.lose = sync.OnceFunc(func() { l.fence.drop(); close(l.lost) })
	l.db.SetMaxOpenConns(2)
	l.heart.SetMaxOpenConns(1)
	defer func() {
		if err != nil {
			l.leave()
		}
	}()
	conn, err := l.db.Conn(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("the database cannot be reached; check -dsn: %w", err)
	}
	defer conn.Close()
	if _, err = conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", setupLock); err != nil {
		return nil, nil, err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "SELECT pg_advisory_unlock($1)", setupLock)
	if _, err = conn.ExecContext(ctx, leaseTables); err != nil {
		return nil, nil, fmt.Errorf("the tables of leases could not be created; check the rights of the database's user: %w", err)
	}
	sent := now()
	err = conn.QueryRowContext(ctx, `
INSERT INTO gateway_process (url, until) VALUES ($1, clock_timestamp() + make_interval(secs => $2)) RETURNING id`,
		cfg.peerURL, l.times.life.Seconds()).Scan(&l.process)
	if err != nil {
		return nil, nil, err
	}
	if !l.fence.renew(sent) {
		return nil, nil, errNoLease
	}
	go l.watch()
	go l.beatRegularly()
	// The lock goes with the connection if this process is stopped now, and found dead.
	if _, err = conn.ExecContext(ctx, "SELECT set_config('application_name', $1, false)", applicationName(l.process)); err != nil {
		return nil, nil, err
	}
	fenced = l.open(settings)
	if err = setup(fenced); err != nil {
		_ = fenced.Close()
		return nil, nil, err
	}
	return l, fenced, nil
}

// open returns the database for everything that belongs to accounts. It refuses to do anything once
// the leases are lost, so that what was interrupted by a pause cannot undo what the next process
// has written; what was under way is ended by bury.
func (l *leases) open(settings *pgx.ConnConfig) *sql.DB {
	settings = settings.Copy()
	settings.RuntimeParams["application_name"] = applicationName(l.process)
	return stdlib.OpenDB(*settings,
		stdlib.OptionBeforeConnect(func(context.Context, *pgx.ConnConfig) error { return l.check() }),
		// Now bury can see the connection, which it could not while that was being made.
		stdlib.OptionAfterConnect(func(context.Context, *pgx.Conn) error { return l.check() }),
		stdlib.OptionResetSession(func(context.Context, *pgx.Conn) error {
			if !l.fence.holds() {
				return sqldriver.ErrBadConn // the only error that database/sql heeds; then comes the one above
			}
			return nil
		}))
}

func (l *leases) check() error {
	if !l.fence.holds() {
		return errNoLease
	}
	return nil
}

// watch says that the leases are lost as soon as they are, whatever a beat waits for.
func (l *leases) watch() {
	for {
		left := l.fence.left()
		if left <= 0 {
			l.lose()
			return
		}
		select {
		case <-time.After(min(left, l.times.beat)): // the clocks can jump
		case <-l.lost:
			return
		}
	}
}

// beatRegularly sends the heartbeats, until the leases are lost or given up.
func (l *leases) beatRegularly() {
	ticker := time.NewTicker(l.times.beat)
	defer ticker.Stop()
	for l.fence.holds() {
		if err := l.beat(); errors.Is(err, errNoLease) {
			break
		} else if err != nil {
			l.log.Warn("The leases could not be renewed; it is tried again", "error", err)
		}
		select {
		case <-ticker.C:
		case <-l.lost:
			return
		}
	}
	l.lose()
}

// beat renews the leases of this process.
func (l *leases) beat() error {
	ctx, cancel := context.WithTimeout(context.Background(), statementTime)
	defer cancel()
	sent := now()
	result, err := l.heart.ExecContext(ctx, `
UPDATE gateway_process SET until = clock_timestamp() + make_interval(secs => $2) WHERE id = $1 AND url = $3`,
		l.process, l.times.life.Seconds(), l.url)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil {
		return err
	} else if n == 0 || !l.fence.renew(sent) {
		return errNoLease
	}
	return nil
}

// ready lets this process have its share of the accounts.
func (l *leases) ready(ctx context.Context) error {
	_, err := l.db.ExecContext(ctx, "UPDATE gateway_process SET ready = true WHERE id = $1", l.process)
	return err
}

// dead returns the processes whose heartbeat is late, and until when they said that they live.
func (l *leases) dead() (processes []int64, untils []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := now().mono
	for process, pulse := range l.pulses {
		if process != l.process && pulse.isDead(at, l.times) {
			processes, untils = append(processes, process), append(untils, pulse.until)
		}
	}
	return processes, untils
}

// bury frees the accounts of dead processes, unless their hearts have beaten since. Before, it ends
// their connections to the database with what they had begun there.
func (l *leases) bury(ctx context.Context, processes []int64, untils []string) error {
	rows, err := l.db.QueryContext(ctx, `
WITH dead AS (
	DELETE FROM gateway_process AS process USING unnest($1::bigint[], $2::text[]) AS seen (id, until)
	WHERE process.id = seen.id AND process.until = seen.until::timestamptz RETURNING process.id, process.url
)
SELECT dead.id, dead.url, count(pg_terminate_backend(pid, 1000)) FROM dead
LEFT JOIN pg_stat_activity ON datname = current_database() AND application_name = 'gateway ' || dead.id
GROUP BY dead.id, dead.url`, processes, untils)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var process, ended int64
		var url string
		if err = rows.Scan(&process, &url, &ended); err != nil {
			return err
		}
		l.log.Warn("A gateway has not been heard of, and loses its accounts", "process", process, "url", url)
	}
	return rows.Err()
}

// read reads the tables. The new board is what the other methods go by.
func (l *leases) read(ctx context.Context) (board, error) {
	asked, b := time.Now(), board{urls: make(map[int64]string)}
	pulses := make(map[int64]pulse)
	err := each(ctx, l.db, "SELECT id, url, ready, until::text, until < clock_timestamp() FROM gateway_process ORDER BY id", func(rows *sql.Rows) error {
		var process int64
		var url, until string
		var ready, late bool
		err := rows.Scan(&process, &url, &ready, &until, &late)
		if ready {
			b.processes = append(b.processes, process)
		}
		b.urls[process] = url
		pulses[process] = pulse{until: until, late: late}
		return err
	})
	if err != nil {
		return b, err
	}
	err = each(ctx, l.db, "SELECT account, coalesce(process, 0), term, linked, connected AND process IS NOT NULL FROM gateway_lease ORDER BY account COLLATE \"C\"", func(rows *sql.Rows) error {
		var row lease
		err := rows.Scan(&row.account, &row.process, &row.term, &row.linked, &row.connected)
		b.leases = append(b.leases, row)
		return err
	})
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		for process, p := range pulses {
			if last, known := l.pulses[process]; known {
				pulses[process] = last.feel(p.until, p.late, now().mono)
			} else {
				pulses[process] = pulse{p.until, p.late, now().mono}
			}
		}
		l.board, l.asked, l.pulses = b, asked, pulses
	}
	return b, err
}

// look returns a board that is no older than the call, for a request, or the last one if none can
// be had. Requests look one after the other, and all that have waited need the tables only once:
// they are read by a round, too, which must not wait for many.
func (l *leases) look(ctx context.Context) board {
	called := time.Now()
	ctx, cancel := context.WithTimeout(ctx, statementTime)
	defer cancel()
	select {
	case l.looking <- struct{}{}:
		defer func() { <-l.looking }()
	case <-ctx.Done():
		return l.present()
	}
	if l.isOlder(called) {
		_, _ = l.read(ctx)
	}
	return l.present()
}

// isOlder reports whether the board is from before a time.
func (l *leases) isOlder(than time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.asked.Before(than)
}

func each(ctx context.Context, db *sql.DB, query string, scan func(*sql.Rows) error, args ...any) error {
	rows, err := db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err = scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

// present returns the board. Without leases it is an empty one.
func (l *leases) present() board {
	if l == nil {
		return board{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.board
}

// of returns what the board says of an account.
func (b board) of(account string) (_ lease, ok bool) {
	i, ok := slices.BinarySearchFunc(b.leases, account, func(l lease, account string) int {
		return strings.Compare(l.account, account)
	})
	if !ok {
		return lease{}, false
	}
	return b.leases[i], true
}

// count returns how many accounts a process has.
func (b board) count(process int64) (n int) {
	for _, l := range b.leases {
		if l.process == process {
			n++
		}
	}
	return n
}

// know adds accounts that may be new, free to be taken.
func (l *leases) know(ctx context.Context, accounts []string) error {
	_, err := l.db.ExecContext(ctx, `
INSERT INTO gateway_lease (account) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING`, accounts)
	return err
}

// take takes those of the accounts that are free still, and returns them with those that this
// process has a lease of already, by the number of the lease.
func (l *leases) take(ctx context.Context, accounts []string) (taken map[string]int64, err error) {
	taken = make(map[string]int64)
	err = each(ctx, l.db, `
UPDATE gateway_lease SET process = $1, connected = false, term = term + (process IS NULL)::int
WHERE account = ANY($2) AND (process IS NULL OR process = $1) RETURNING account, term`, func(rows *sql.Rows) error {
		var account string
		var term int64
		err := rows.Scan(&account, &term)
		taken[account] = term
		return err
	}, l.process, accounts)
	return taken, err
}

// claim takes an account that is about to be linked. It returns no lease if another process has the
// account, or may: one that was linked before is to be connected first.
func (l *leases) claim(ctx context.Context, account string) (_ lease, ok bool, err error) {
	claimed := lease{account: account, process: l.process}
	err = l.db.QueryRowContext(ctx, `
INSERT INTO gateway_lease (account, process, term, linked) VALUES ($2, $1, 1, false)
ON CONFLICT (account) DO UPDATE SET process = $1, term = gateway_lease.term + (gateway_lease.process IS NULL)::int
WHERE gateway_lease.process IS NULL AND NOT gateway_lease.linked OR gateway_lease.process = $1
RETURNING term, linked`, l.process, account).Scan(&claimed.term, &claimed.linked)
	if errors.Is(err, sql.ErrNoRows) {
		return lease{}, false, nil
	}
	return claimed, err == nil, err
}

// give frees an account, whose client must have stopped. It does nothing when the lease has ended.
func (l *leases) give(ctx context.Context, account string, term int64) error {
	_, err := l.db.ExecContext(ctx, `
UPDATE gateway_lease SET process = NULL, connected = false WHERE account = $2 AND process = $1 AND term = $3`, l.process, account, term)
	return err
}

// forget deletes an account that has no session.
func (l *leases) forget(ctx context.Context, account string, term int64) error {
	_, err := l.db.ExecContext(ctx, "DELETE FROM gateway_lease WHERE account = $2 AND process = $1 AND term = $3", l.process, account, term)
	return err
}

// tell writes down the states of accounts that this process has.
func (l *leases) tell(ctx context.Context, states []accountState) error {
	var accounts []string
	var linked, connected []bool
	for _, state := range states {
		accounts, linked, connected = append(accounts, state.Account), append(linked, state.Linked), append(connected, state.Connected)
	}
	_, err := l.db.ExecContext(ctx, `
UPDATE gateway_lease SET linked = new.linked, connected = new.connected
FROM unnest($2::text[], $3::boolean[], $4::boolean[]) AS new (account, linked, connected)
WHERE gateway_lease.account = new.account AND process = $1`, l.process, accounts, linked, connected)
	return err
}

// leave frees all accounts, whose clients must have stopped, and closes the leases' connections.
func (l *leases) leave() {
	l.lose()
	ctx, cancel := context.WithTimeout(context.Background(), statementTime)
	defer cancel()
	if l.process != 0 {
		if _, err := l.db.ExecContext(ctx, "DELETE FROM gateway_process WHERE id = $1", l.process); err != nil {
			l.log.Warn("The accounts were not handed over; others have them when the leases run out", "error", err)
		}
	}
	_ = l.db.Close()
	_ = l.heart.Close()
}
