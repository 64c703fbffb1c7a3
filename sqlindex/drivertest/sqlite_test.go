package drivertest

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// recommended are the pragmas that the package documentation recommends.
var recommended = []string{"foreign_keys(1)", "journal_mode(WAL)", "synchronous(NORMAL)", "busy_timeout(5000)"}

func sqliteDSN(path string, pragmas ...string) string {
	return "file:" + path + "?" + url.Values{"_pragma": pragmas}.Encode()
}

func openSQLite(t testing.TB, path string, pragmas ...string) *sql.DB {
	t.Helper()
	return openDB(t, "sqlite", sqliteDSN(path, pragmas...))
}

func openDB(t testing.TB, driver, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func newIndex(t testing.TB, db *sql.DB, dialect string) *sqlindex.Index {
	t.Helper()
	index, err := sqlindex.New(t.Context(), db, dialect)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func dbFile(t testing.TB) string { return filepath.Join(t.TempDir(), "bot.db") }

func TestSQLite(t *testing.T) {
	t.Parallel()
	for name, pragmas := range map[string][]string{
		"Recommended":     recommended,
		"RollbackJournal": {"busy_timeout(5000)"},
		"Exclusive":       {"locking_mode(EXCLUSIVE)", "journal_mode(WAL)", "busy_timeout(5000)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			indextest.Run(t, func(t *testing.T) reupload.Index {
				db := openSQLite(t, dbFile(t), pragmas...)
				if name == "Exclusive" {
					db.SetMaxOpenConns(1)
				}
				return newIndex(t, db, "sqlite")
			})
		})
	}
	t.Run("OneConnection", func(t *testing.T) {
		t.Parallel()
		indextest.Run(t, func(t *testing.T) reupload.Index {
			db := openSQLite(t, dbFile(t), recommended...)
			db.SetMaxOpenConns(1)
			return newIndex(t, db, "sqlite3")
		})
	})
	t.Run("InMemory", func(t *testing.T) {
		t.Parallel()
		indextest.Run(t, func(t *testing.T) reupload.Index {
			db := openDB(t, "sqlite", ":memory:")
			db.SetMaxOpenConns(1)
			return newIndex(t, db, "sqlite")
		})
	})
	t.Run("ConnectionsThatComeAndGo", func(t *testing.T) {
		t.Parallel()
		indextest.Run(t, func(t *testing.T) reupload.Index {
			db := openSQLite(t, dbFile(t), recommended...)
			db.SetConnMaxLifetime(time.Millisecond)
			return newIndex(t, db, "sqlite")
		})
	})
}

// A database whose connections do not wait for each other makes whatsmeow lose messages.
func TestNoBusyTimeout(t *testing.T) {
	t.Parallel()
	_, err := sqlindex.New(t.Context(), openSQLite(t, dbFile(t), "foreign_keys(1)"), "sqlite")
	if err == nil || !strings.Contains(err.Error(), "_pragma=busy_timeout(5000)") {
		t.Errorf("New says %v", err)
	}
}

func TestWrongDatabase(t *testing.T) {
	t.Parallel()
	for want, open := range map[string]func() error{
		"db is nil": func() error { _, err := sqlindex.New(t.Context(), nil, "sqlite"); return err },
		"use sqlite3 or sqlite, or postgres or pgx": func() error {
			_, err := sqlindex.New(t.Context(), openSQLite(t, dbFile(t), recommended...), "oracle")
			return err
		},
		`pass "sqlite3"`: func() error {
			_, err := sqlindex.New(t.Context(), openSQLite(t, dbFile(t), recommended...), "postgres")
			return err
		},
		"is this a SQLite database?": func() error {
			db, _ := backends[1].open(t)
			_, err := sqlindex.New(t.Context(), db, "sqlite3")
			return err
		},
	} {
		if err := open(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New says %v, want %q", err, want)
		}
	}
}
