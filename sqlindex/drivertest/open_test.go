package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// The options that are documented for the two drivers of SQLite.
const (
	moderncOptions = "_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"
	mattnOptions   = "_foreign_keys=on&_busy_timeout=5000&_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate"
)

func TestOneConnectionStringIsDocumented(t *testing.T) {
	t.Parallel()
	brokenLine := regexp.MustCompile(`"\s*\+\s*(//[^\n]*?\s*)*"`)
	for name, want := range map[string][]string{
		"../doc.go":                 {moderncOptions, mattnOptions},
		"../../docs/guide.md":       {moderncOptions, mattnOptions},
		"../../examples/bot/bot.go": {moderncOptions},
	} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, options := range want {
			if !strings.Contains(brokenLine.ReplaceAllString(string(text), ""), "?"+options) {
				t.Errorf("%s does not have %s", name, options)
			}
		}
	}
}

// wantRefused opens an index and checks that the error has all that the reader needs.
func wantRefused(t *testing.T, db *sql.DB, dialect string, parts ...string) {
	t.Helper()
	_, err := sqlindex.New(t.Context(), db, dialect)
	if err == nil {
		t.Errorf("New(%q) succeeded", dialect)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("New(%q): %v, which lacks %q", dialect, err, part)
		}
	}
}

func TestWrongCallsOfNew(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		wantRefused(t, nil, dialect, "nil")
		wantRefused(t, db, "mysql", `"mysql"`, "sqlite3", "sqlite", "postgres", "pgx")
		if dialect == "sqlite" {
			wantRefused(t, db, "postgres", `"postgres"`, "this is a SQLite database")
			wantRefused(t, db, "pgx", `"pgx"`, "this is a SQLite database")
		} else {
			wantRefused(t, db, "sqlite3", `"sqlite3"`, "this is a PostgreSQL database")
		}
		newIndex(t, db, dialect)
		_ = db.Close()
		wantRefused(t, db, dialect, "closed")
	})
}

// A database in which whatsmeow would lose messages is refused, and the error shows how to open it.
func TestNoBusyTimeout(t *testing.T) {
	t.Parallel()
	parts := []string{"busy_timeout is 0", "lost", "?" + moderncOptions + " ", "?" + mattnOptions + " "}
	wantRefused(t, openSQLite(t, dbFile(t), "foreign_keys(1)"), "sqlite", parts...)
	// As bots do it that set it with a statement, which is for one connection.
	db := openSQLite(t, dbFile(t), "foreign_keys(1)")
	if _, err := db.ExecContext(context.Background(), "PRAGMA busy_timeout = 5000"); err != nil {
		t.Fatal(err)
	}
	wantRefused(t, db, "sqlite", parts...)
	// That will do where there are no others.
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(context.Background(), "PRAGMA busy_timeout = 5000"); err != nil {
		t.Fatal(err)
	}
	newIndex(t, db, "sqlite")
}

// inMemory are connection strings of databases in memory, by whether all connections share them.
var inMemory = map[string]bool{
	":memory:":                         false,
	"file::memory:":                    false,
	"file:%s?mode=memory":              false,
	"":                                 false, // a file that is deleted when the connection is closed
	"file:%s?mode=memory&cache=shared": true,
}

// testInMemory checks which databases in memory a driver's connections share.
func testInMemory(t *testing.T, driver string) {
	for dsn, shared := range inMemory {
		t.Run(dsn, func(t *testing.T) {
			if strings.Contains(dsn, "%s") {
				dsn = fmt.Sprintf(dsn, "shared"+driver)
			}
			db := openDB(t, driver, dsn)
			if shared {
				newIndex(t, db, driver)
				return
			}
			wantRefused(t, db, driver, "in memory", "db.SetMaxOpenConns(1)", "mode=memory&cache=shared")
			db.SetMaxOpenConns(1)
			index := newIndex(t, db, driver)
			put(t, index, media(1))
			checkAll(t, index, 1, 2)
		})
	}
}

func TestModerncInMemory(t *testing.T) { testInMemory(t, "sqlite") }

// testNoDirectory checks that the error names the file and says what to do.
func testNoDirectory(t *testing.T, driver string) {
	path := filepath.Join(t.TempDir(), "missing", "bot.db")
	for _, dsn := range []string{"file:" + path + "?_auth_pass=secret", path} {
		db := openDB(t, driver, dsn)
		wantRefused(t, db, driver, "unable to open database file", " ("+path+": does its directory exist")
		if _, err := sqlindex.New(t.Context(), db, driver); strings.Contains(err.Error(), "secret") {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestModerncWithoutDirectory(t *testing.T) { testNoDirectory(t, "sqlite") }
