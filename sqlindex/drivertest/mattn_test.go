//go:build cgo

package drivertest

import (
	"database/sql"
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
)

func init() {
	sqliteFiles["mattn"] = func(t testing.TB) *sql.DB {
		return openDB(t, "sqlite3", "file:"+dbFile(t)+"?_foreign_keys=on&_busy_timeout=5000&_journal_mode=WAL&_synchronous=NORMAL")
	}
}

// The driver in whatsmeow's examples.
func TestSQLiteWithCgo(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(t *testing.T) reupload.Index {
		return newIndex(t, openDB(t, "sqlite3", "file:"+dbFile(t)+"?_foreign_keys=on"), "sqlite3")
	})
}

// This driver goes on waiting for SQLite's busy_timeout when the context has ended. The index does not wait for the driver.
func TestLockedDatabaseWithCgo(t *testing.T) {
	t.Parallel()
	db := openDB(t, "sqlite3", "file:"+dbFile(t)+"?_foreign_keys=on&_busy_timeout=5000")
	index := newIndex(t, db, "sqlite3")
	put(t, index, media(0))
	locker, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer locker.Close()
	if _, err = locker.ExecContext(t.Context(), "BEGIN EXCLUSIVE"); err != nil {
		t.Fatal(err)
	}
	wantDeadline(t, tryPut(t, index, 300*time.Millisecond))
	wantDeadline(t, tryPut(t, index, 100*time.Millisecond)) // and not for the call before either
	if _, err = locker.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	put(t, index, media(1))
	checkAll(t, index, 0, 2)
}
