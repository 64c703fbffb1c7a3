package drivertest

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// tryPut puts in one entry within a time, and fails the test if that takes much longer.
func tryPut(t *testing.T, index *sqlindex.Index, timeout time.Duration) error {
	t.Helper()
	return inTime(t, timeout, func(ctx context.Context) error {
		return index.Put(ctx, account, []reupload.Entry{media(1)})
	})
}

func inTime(t *testing.T, timeout time.Duration, call func(context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	start := time.Now()
	err := call(ctx)
	if took := time.Since(start); took > timeout+time.Second {
		t.Errorf("it took %v with a context of %v", took, timeout)
	}
	return err
}

func wantDeadline(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v, want one that is context.DeadlineExceeded", err)
	}
}

func TestLockedDatabase(t *testing.T) {
	t.Parallel()
	sqliteLock := []string{"BEGIN EXCLUSIVE"}
	for name, c := range map[string]struct {
		open        func(testing.TB) (db *sql.DB, dialect string)
		lock        []string
		readsLocked bool
	}{
		"SQLite": {backends[0].open, sqliteLock, false},
		"SQLite/LongBusyTimeout": {func(t testing.TB) (*sql.DB, string) {
			return openSQLite(t, dbFile(t), "journal_mode(WAL)", "busy_timeout(20000)"), "sqlite"
		}, sqliteLock, false},
		"SQLite/RollbackJournal": {func(t testing.TB) (*sql.DB, string) {
			return openSQLite(t, dbFile(t), "busy_timeout(20000)"), "sqlite"
		}, sqliteLock, true},
		"SQLite/ShortBusyTimeout": {func(t testing.TB) (*sql.DB, string) {
			return openSQLite(t, dbFile(t), "busy_timeout(1)"), "sqlite"
		}, sqliteLock, true},
		"Postgres": {backends[1].open, []string{"BEGIN", "LOCK TABLE reupload_media IN ACCESS EXCLUSIVE MODE"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, dialect := c.open(t)
			index := newIndex(t, db, dialect)
			put(t, index, media(0))
			locker, err := db.Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer locker.Close()
			for _, statement := range c.lock {
				if _, err = locker.ExecContext(t.Context(), statement); err != nil {
					t.Fatal(err)
				}
			}
			wantDeadline(t, tryPut(t, index, 300*time.Millisecond))
			wantDeadline(t, inTime(t, 300*time.Millisecond, func(ctx context.Context) error {
				return index.Put(ctx, account, mediaBatch(10, 100))
			}))
			err = inTime(t, 300*time.Millisecond, func(ctx context.Context) error {
				_, err := index.ByFile(ctx, account, media(0).FileEncSHA256)
				return err
			})
			if c.readsLocked {
				wantDeadline(t, err)
			} else if err != nil {
				t.Errorf("ByFile while another one writes: %v", err)
			}
			err = inTime(t, 300*time.Millisecond, func(ctx context.Context) error {
				_, err := index.Prune(ctx)
				return err
			})
			if c.readsLocked {
				wantDeadline(t, err)
			}
			if _, err = locker.ExecContext(t.Context(), "ROLLBACK"); err != nil {
				t.Fatal(err)
			}
			put(t, index, media(1))
			checkAll(t, index, 0, 2)
		})
	}
}

// A Put that starts while the database is locked for a moment waits for it.
func TestBrieflyLockedDatabase(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, dbFile(t), "busy_timeout(1)")
	index := newIndex(t, db, "sqlite")
	locker, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close()
	if _, err = locker.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(200*time.Millisecond, func() { _, _ = locker.ExecContext(context.Background(), "ROLLBACK") })
	if err = tryPut(t, index, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	checkAll(t, index, 1, 2)
}

// The bot has the only connection.
func TestConnectionInUse(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		db.SetMaxOpenConns(1)
		index := newIndex(t, db, dialect)
		put(t, index, media(0))
		tx, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		wantDeadline(t, tryPut(t, index, 200*time.Millisecond))
		if err = tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		put(t, index, media(1))
		checkAll(t, index, 0, 2)
	})
}

func TestFullDatabase(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, dbFile(t), append([]string{"max_page_count(100)"}, recommended...)...)
	index := newIndex(t, db, "sqlite")
	for n := 0; ; n += 100 {
		err := index.Put(t.Context(), account, mediaBatch(n, 100))
		if err == nil && n < 100_000 {
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "full") {
			t.Fatalf("with a full database: %v", err)
		}
		wantNoSecrets(t, err)
		checkAll(t, index, 0, n)
		break
	}
	// Pruning makes room.
	index.SetRetention(0, 10)
	if _, err := index.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, index, mediaBatch(200_000, 100)...)
}

// An entry that cannot be a row is an error, and not one that is left out.
func TestEntryThatIsNone(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, _ := k.index(t)
		e := media(1)
		e.MediaKey = nil
		if err := index.Put(t.Context(), account, []reupload.Entry{media(0), e}); err == nil {
			t.Error("it was put in")
		}
	})
}

// What cannot be deleted is an error of Prune, and not nothing to delete.
func TestPruneOfADatabaseThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	db := openSQLite(t, dbFile(t), recommended...)
	db.SetMaxOpenConns(1)
	index := newIndex(t, db, "sqlite")
	put(t, index, mediaBatch(0, 100)...)
	index.SetRetention(0, 10)
	for _, only := range []string{"ON", "OFF"} {
		if _, err := db.Exec("PRAGMA query_only = " + only); err != nil {
			t.Fatal(err)
		}
		if n, err := index.Prune(t.Context()); (err != nil) != (only == "ON") || only == "OFF" && n != 90 {
			t.Errorf("with query_only %s it has deleted %d, %v", only, n, err)
		}
	}
}

func TestClosedDatabase(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		put(t, index, media(0))
		_ = db.Close()
		wantErrors(t, index)
	})
}

func TestDatabaseThatIsGone(t *testing.T) {
	t.Parallel()
	t.Run("Postgres", func(t *testing.T) {
		t.Parallel()
		dsn := newPostgres(t)
		index := newIndex(t, openDB(t, "pgx", dsn), "pgx")
		put(t, index, media(0))
		name := dsn[strings.Index(dsn, "dbname=")+len("dbname="):]
		name, _, _ = strings.Cut(name, " ")
		if _, err := openDB(t, "pgx", server.dsn("postgres")).Exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Fatal(err)
		}
		wantErrors(t, index)
	})
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		db := openSQLite(t, dbFile(t), recommended...)
		index := newIndex(t, db, "sqlite")
		put(t, index, media(0))
		if _, err := db.Exec("DROP TABLE reupload_media"); err != nil {
			t.Fatal(err)
		}
		wantErrors(t, index)
	})
}

// wantErrors makes every call there is, all of which must fail in time and without a panic.
func wantErrors(t *testing.T, index *sqlindex.Index) {
	t.Helper()
	for name, call := range map[string]func(context.Context) error{
		"Put":       func(ctx context.Context) error { return index.Put(ctx, account, mediaBatch(1, 1)) },
		"Put batch": func(ctx context.Context) error { return index.Put(ctx, account, mediaBatch(1, 100)) },
		"ByFile": func(ctx context.Context) error {
			_, err := index.ByFile(ctx, account, media(0).FileEncSHA256)
			return err
		},
		"ByMessage": func(ctx context.Context) error {
			_, err := index.ByMessage(ctx, account, media(0).MessageID)
			return err
		},
		"Prune": func(ctx context.Context) error {
			_, err := index.Prune(ctx)
			return err
		},
	} {
		err := inTime(t, 2*time.Second, call)
		if err == nil {
			t.Errorf("%s succeeded without a database", name)
			continue
		}
		wantNoSecrets(t, err)
	}
}

func wantNoSecrets(t *testing.T, err error) {
	t.Helper()
	if len(err.Error()) > 500 || strings.Contains(err.Error(), "/v/") {
		t.Errorf("the error says too much: %v", err)
	}
}
