package drivertest

import (
	"database/sql"
	"net/url"
	"path/filepath"
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
		"Least":           {"busy_timeout(1)"}, // a rollback journal, and hardly any waiting for locks
		"RollbackJournal": {"busy_timeout(5000)"},
		"Exclusive":       {"locking_mode(EXCLUSIVE)", "journal_mode(WAL)", "busy_timeout(1)"},
	} {
		if raceDetector && name != "Recommended" {
			continue
		}
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
			db.SetConnMaxLifetime(10 * time.Millisecond)
			return newIndex(t, db, "sqlite")
		})
	})
}
