//go:build cgo

package drivertest

import (
	"testing"
	"time"

	_ "github.com/mattn/go-sqlite3"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
)

func init() {
	documented["sqlite3"] = func(path string) string { return "file:" + path + "?" + mattnOptions }
}

// The driver in whatsmeow's examples.
func TestSQLiteWithCgo(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(t *testing.T) reupload.Index {
		return newIndex(t, openDB(t, "sqlite3", "file:"+dbFile(t)+"?_foreign_keys=on"), "sqlite3")
	})
}

// This driver goes on waiting for SQLite's busy_timeout when the context has ended. The index does
// not wait for the driver.
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

// Its busy_timeout is 5 s unless somebody has set another one.
func TestNoBusyTimeoutWithCgo(t *testing.T) {
	t.Parallel()
	newIndex(t, openDB(t, "sqlite3", "file:"+dbFile(t)+"?_foreign_keys=on"), "sqlite3")
	db := openDB(t, "sqlite3", "file:"+dbFile(t)+"?_foreign_keys=on&_busy_timeout=0")
	wantRefused(t, db, "sqlite3", mattnOptions)
}

func TestMattnInMemory(t *testing.T) { testInMemory(t, "sqlite3") }

func TestMattnWithoutDirectory(t *testing.T) { testNoDirectory(t, "sqlite3") }
