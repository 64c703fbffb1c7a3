package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// joined joins the processes of a database, with beats that do not matter to a test.
func joined(t *testing.T, dsn, url string) (*leases, *sql.DB) {
	t.Helper()
	return joinedBeating(t, dsn, url, time.Hour)
}

func joinedBeating(t *testing.T, dsn, url string, beat time.Duration) (*leases, *sql.DB) {
	t.Helper()
	cfg := defaults()
	cfg.dsn, cfg.peerURL, cfg.log = dsn, url, slog.New(slog.DiscardHandler)
	cfg.leases.beat = beat
	l, db, err := join(t.Context(), &cfg, func(db *sql.DB) error {
		_, err := db.ExecContext(t.Context(), "CREATE TABLE IF NOT EXISTS written (what text)")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.leave()
		_ = db.Close()
	})
	return l, db
}

// whoHas returns the processes of accounts.
func whoHas(t *testing.T, l *leases, accounts ...string) (processes []int64) {
	t.Helper()
	b, err := l.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, account := range accounts {
		found, ok := b.of(account)
		if !ok {
			found.process = -1
		}
		processes = append(processes, found.process)
	}
	return processes
}

// TestLeases has each statement, with two processes.
func TestLeases(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), newDatabase(t)
	l1, _ := joined(t, dsn, "http://1")
	l2, _ := joined(t, dsn, "http://2")
	one, two := l1.process, l2.process
	check := func(what string, err error, want ...int64) {
		t.Helper()
		if got := whoHas(t, l1, "a", "b", "c", "d"); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", what, got, err, want)
		}
	}
	check("known", l1.know(ctx, []string{"a", "b", "c"}), 0, 0, 0, -1)
	taken, err := l1.take(ctx, []string{"a", "b"})
	check("taken", err, one, one, 0, -1)
	if !maps.Equal(taken, map[string]int64{"a": 1, "b": 1}) {
		t.Errorf("took %v", taken)
	}
	if taken, err = l1.take(ctx, []string{"a"}); !maps.Equal(taken, map[string]int64{"a": 1}) || err != nil {
		t.Errorf("it has the lease, and took %v, %v", taken, err)
	}
	if taken, err = l2.take(ctx, []string{"b", "c"}); !maps.Equal(taken, map[string]int64{"c": 1}) {
		t.Errorf("took %v", taken)
	}
	check("taken by another one", err, one, one, two, -1)
	check("known again", l2.know(ctx, []string{"a"}), one, one, two, -1)
	check("told", l1.tell(ctx, []accountState{{Account: "a", Linked: false, Connected: true}, {Account: "c", Connected: true}}), one, one, two, -1)
	present := l1.present()
	if a, _ := present.of("a"); a.linked || !a.connected {
		t.Errorf("got %+v", a)
	}
	if c, _ := present.of("c"); !c.linked || c.connected {
		t.Errorf("it speaks for another one: %+v", c)
	}
	if present.urls[two] != "http://2" || len(present.processes) != 0 {
		t.Errorf("got %+v", present)
	}
	if err = l2.ready(ctx); err != nil {
		t.Error(err)
	}
	if present, err = l1.read(ctx); err != nil || !slices.Equal(present.processes, []int64{two}) {
		t.Errorf("one takes accounts, and it is %v, %v", present.processes, err)
	}
	for _, c := range []struct {
		l       *leases
		account string
		want    int64
	}{{l2, "a", 0}, {l1, "a", 1}, {l2, "d", 1}, {l1, "d", 0}} {
		if got, ok, err := c.l.claim(ctx, c.account); got.term != c.want || ok != (c.want > 0) || err != nil {
			t.Errorf("%d claims %s: got %+v, %v, %v", c.l.process, c.account, got, ok, err)
		}
	}
	check("claimed", nil, one, one, two, two)
	check("given by another one", l1.give(ctx, "d", 1), one, one, two, two)
	check("given", l2.give(ctx, "d", 1), one, one, two, 0)
	check("forgotten by another one", l2.forget(ctx, "a", 1), one, one, two, 0)
	check("forgotten", l1.forget(ctx, "a", 1), -1, one, two, 0)
	if got, ok, err := l1.claim(ctx, "d"); !ok || got.term != 2 || got.linked || err != nil {
		t.Errorf("it claims a free one: got %+v, %v, %v", got, ok, err)
	}
	// What was sent in an earlier lease, and comes only now.
	check("given late", l1.give(ctx, "d", 1), -1, one, two, one)
	check("forgotten late", l1.forget(ctx, "d", 1), -1, one, two, one)
	check("told", l2.tell(ctx, []accountState{{Account: "c", Linked: true, Connected: true}}), -1, one, two, one)
	l2.leave()
	check("left", nil, -1, one, 0, one)
	if c, _ := l1.present().of("c"); c.connected {
		t.Error("no process has it, and it is connected")
	}
	if got, ok, err := l1.claim(ctx, "c"); ok || err != nil {
		t.Errorf("it claims one that is linked, and that a process is about to take: %+v, %v", got, err)
	}
}

// TestBury lets the leases of a process run out that does not know it: it was paused, say, while it
// wrote to the database.
func TestBury(t *testing.T) {
	t.Parallel()
	ctx, dsn := t.Context(), newDatabase(t)
	l1, db1 := joined(t, dsn, "")
	l2, db2 := joinedBeating(t, dsn, "", 50*time.Millisecond)
	if _, ok, err := l1.claim(ctx, "a"); !ok || err != nil {
		t.Fatal(err)
	}
	tx, err := db1.BeginTx(context.WithoutCancel(ctx), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tx.Exec("INSERT INTO written VALUES ('by the first one')"); err != nil {
		t.Fatal(err)
	}
	bury := func() (dead []int64) {
		t.Helper()
		whoHas(t, l2)
		dead, untils := l2.dead()
		if len(dead) == 0 {
			return nil
		}
		if err := l2.bury(ctx, dead, untils); err != nil {
			t.Fatal(err)
		}
		return dead
	}
	late := func() {
		t.Helper()
		if _, err = db2.ExecContext(ctx, "UPDATE gateway_process SET until = now() - interval '1 ms' WHERE id = $1", l1.process); err != nil {
			t.Fatal(err)
		}
	}
	late()
	if dead := bury(); dead != nil {
		t.Errorf("it is buried as soon as it is late: %v", dead)
	}
	time.Sleep(l2.times.doubt())
	if err = l1.beat(); err != nil { // it was the database's clock
		t.Fatal(err)
	}
	if bury(); whoHas(t, l2, "a")[0] != l1.process {
		t.Fatal("it is buried alive")
	}
	late()
	whoHas(t, l2)
	time.Sleep(l2.times.doubt())
	dead, untils := l2.dead()
	if !slices.Equal(dead, []int64{l1.process}) {
		t.Fatalf("%v are dead", dead)
	}
	untils[0] = "infinity" // it has beaten since
	if err = l2.bury(ctx, dead, untils); err != nil || whoHas(t, l2, "a")[0] != l1.process {
		t.Fatalf("it is buried alive: %v", err)
	}
	bury()
	if got := whoHas(t, l2, "a"); got[0] != 0 {
		t.Errorf("the account is with %v", got)
	}
	if err = tx.Commit(); err == nil {
		t.Error("what was under way got through")
	}
	if err = l1.beat(); !errors.Is(err, errNoLease) {
		t.Errorf("its heart beats: %v", err)
	}
	var n int
	if err = db2.QueryRowContext(ctx, "SELECT count(*) FROM written").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d rows, %v", n, err)
	}
	// It knows now.
	l1.lose()
	if _, err = db1.ExecContext(ctx, "INSERT INTO written VALUES ('late')"); !errors.Is(err, errNoLease) {
		t.Errorf("got %v", err)
	}
	select {
	case <-l1.lost:
	default:
		t.Error("it does not say so")
	}
}

// TestFencedDatabase has a connection that there was when the leases could be relied on.
func TestFencedDatabase(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	l, db := joined(t, dsn, "")
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "INSERT INTO written VALUES ('a')"); err != nil {
		t.Fatal(err)
	}
	// While a connection is being made, which bury does not see yet.
	settings, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	dial := settings.DialFunc
	settings.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		l.fence.drop()
		return dial(ctx, network, address)
	}
	late := l.open(settings)
	defer late.Close()
	if _, err := late.ExecContext(t.Context(), "INSERT INTO written VALUES ('b')"); !errors.Is(err, errNoLease) {
		t.Errorf("got %v", err)
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO written VALUES ('c')"); !errors.Is(err, errNoLease) {
		t.Errorf("got %v", err)
	}
}

// TestBeatNeedsItsOwnRow has a database that was set back, and in which another process has got the
// same number.
// What the database does not say is an error, and not nothing.
func TestLeasesWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	l, _ := joined(t, newDatabase(t), "http://1")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, ask := range map[string]func() error{
		"know":   func() error { return l.know(ctx, []string{"a"}) },
		"take":   func() error { _, err := l.take(ctx, []string{"a"}); return err },
		"claim":  func() error { _, _, err := l.claim(ctx, "a"); return err },
		"read":   func() error { _, err := l.read(ctx); return err },
		"give":   func() error { return l.give(ctx, "a", 1) },
		"forget": func() error { return l.forget(ctx, "a", 1) },
		"tell":   func() error { return l.tell(ctx, []accountState{{}}) },
	} {
		if err := ask(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBeatNeedsItsOwnRow(t *testing.T) {
	t.Parallel()
	l, db := joined(t, newDatabase(t), "http://1")
	if err := l.beat(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), "UPDATE gateway_process SET url = 'http://2'"); err != nil {
		t.Fatal(err)
	}
	if err := l.beat(); !errors.Is(err, errNoLease) {
		t.Errorf("got %v", err)
	}
}

// TestSetupCanBeBuried looks at the lock of a process that creates tables. If the process is
// stopped then, the lock must end with its leases.
func TestSetupCanBeBuried(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.dsn, cfg.log = newDatabase(t), slog.New(slog.DiscardHandler)
	var named bool
	l, db, err := join(t.Context(), &cfg, func(db *sql.DB) error {
		return db.QueryRowContext(t.Context(), `
SELECT application_name = current_setting('application_name') FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND datname = current_database()`).Scan(&named)
	})
	if err != nil || !named {
		t.Fatalf("the lock is not found by the name of the process: %v", err)
	}
	l.leave()
	_ = db.Close()
}

// TestBeatIsMissed lets a process find that its beats do not get through.
func TestBeatIsMissed(t *testing.T) {
	t.Parallel()
	cfg := defaults()
	cfg.dsn, cfg.log = newDatabase(t), slog.New(slog.DiscardHandler)
	cfg.leases = leaseTimes{life: time.Minute, trust: time.Second, beat: 20 * time.Millisecond}
	l, db, err := join(t.Context(), &cfg, func(*sql.DB) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	defer l.leave()
	time.Sleep(2 * time.Second) // longer than it relies on one beat
	if !l.fence.holds() {
		t.Fatal("it has lost its leases, and its heart beats")
	}
	if _, err = db.ExecContext(t.Context(), "ALTER TABLE gateway_process RENAME TO away"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.lost:
	case <-time.After(time.Minute):
		t.Error("it does not notice")
	}
	if _, err = l.db.ExecContext(t.Context(), "ALTER TABLE away RENAME TO gateway_process"); err != nil {
		t.Error(err)
	}
}

// lockTable keeps everybody else from a table until the function is called that it returns.
func lockTable(t *testing.T, dsn, table string) (unlock func()) {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = tx.ExecContext(t.Context(), "LOCK TABLE "+table); err != nil {
		t.Fatal(err)
	}
	return func() { _ = tx.Rollback() }
}

// TestBeatWaitsForNobody has requests that want to know where accounts are from a table that
// somebody has locked, with all connections that there are for that.
func TestBeatWaitsForNobody(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	l, _ := joined(t, dsn, "")
	unlock := lockTable(t, dsn, "gateway_lease")
	var requests sync.WaitGroup
	for range 10 {
		requests.Go(func() { _, _ = l.read(t.Context()) })
	}
	for stats := l.db.Stats(); stats.InUse < stats.MaxOpenConnections || stats.WaitCount == 0; stats = l.db.Stats() {
		time.Sleep(time.Millisecond)
	}
	if err := l.beat(); err != nil {
		t.Error(err)
	}
	unlock()
	requests.Wait()
}

// TestLook has requests for an account that is not known yet. They need one connection, and all
// see what is in the table after they came.
func TestLook(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	l, _ := joined(t, dsn, "")
	unlock := lockTable(t, dsn, "gateway_lease")
	first, rest := make(chan board, 1), make(chan board)
	go func() { first <- l.look(t.Context()) }()
	for l.db.Stats().InUse == 0 {
		time.Sleep(time.Millisecond)
	}
	for range 10 {
		go func() { rest <- l.look(t.Context()) }()
	}
	if _, err := l.db.ExecContext(t.Context(), "SELECT 1"); err != nil || l.db.Stats().WaitCount > 0 {
		t.Errorf("nothing is left for a round: %v", err)
	}
	unlock()
	<-first
	if err := l.know(t.Context(), []string{"a"}); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		<-rest
	}
	if _, ok := l.look(t.Context()).of("a"); !ok {
		t.Error("a new account is not seen")
	}
	unlock = lockTable(t, dsn, "gateway_lease")
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, ok := l.look(ctx).of("a"); !ok {
		t.Error("what was known is forgotten")
	}
	l.mu.Lock()
	l.asked = time.Now().Add(time.Hour)
	l.mu.Unlock()
	start := time.Now()
	if l.look(t.Context()); time.Since(start) > statementTime {
		t.Error("it reads what was read since it was asked")
	}
}

// TestJoinTogether has processes that start at once on an empty database.
func TestJoinTogether(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.dsn = newDatabase(t)
	errs := make(chan error)
	for i := range 4 {
		go func() {
			cfg := s.cfg
			cfg.peerURL = fmt.Sprint("http://", i)
			g, err := open(context.WithoutCancel(t.Context()), cfg)
			if err == nil {
				g.close()
			}
			errs <- err
		}()
	}
	for range 4 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
