package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"go.mau.fi/util/dbutil"

	"github.com/whatsmeow-plugins/reupload/sqlindex/internal/upgrades"
)

// ErrNewer is the error of New if a newer version of this package has changed the tables in a way
// that this one cannot work with.
var ErrNewer = upgrades.ErrNewer

// errNoBusyTimeout is about all writes of the bot, not only those of the index: whatsmeow does not
// try again when one of its own fails.
var errNoBusyTimeout = errors.New("PRAGMA busy_timeout is 0, so that whatsmeow's own writes fail while the index writes, " +
	"and messages are lost. Open the database with file:bot.db?" +
	"_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate " +
	"where the driver is modernc.org/sqlite, or with file:bot.db?" +
	"_foreign_keys=on&_busy_timeout=5000&_journal_mode=WAL&_synchronous=NORMAL&_txlock=immediate " +
	"where it is github.com/mattn/go-sqlite3; a statement would set it for one connection only")

// errPrivate is about a database that each connection of the pool has for itself: rows that one
// puts in are not there for another.
var errPrivate = errors.New("each connection of the pool has a database of its own, in memory, so that most of what is put in " +
	"is not found again: call db.SetMaxOpenConns(1) before New, or open it with file:bot?mode=memory&cache=shared, or in a file")

// kinds are the databases that there are, with a query that none but them can answer.
var kinds = map[dbutil.Dialect]struct{ name, query string }{
	dbutil.SQLite:   {"SQLite", "SELECT sqlite_version()"},
	dbutil.Postgres: {"PostgreSQL", "SELECT current_setting('server_version')"},
}

// checkDatabase returns what kind of database it is, if it is that of the dialect and can be used.
func checkDatabase(ctx context.Context, db *sql.DB, dialect string) (dbutil.Dialect, error) {
	if db == nil {
		return 0, errors.New("the database is nil")
	}
	kind, err := dbutil.ParseDialect(dialect)
	if err != nil {
		return 0, fmt.Errorf("unknown dialect %q: it is sqlite3 or sqlite for SQLite, postgres or pgx for PostgreSQL", dialect)
	}
	var version string
	if err = db.QueryRowContext(ctx, kinds[kind].query).Scan(&version); err != nil {
		for other := range kinds {
			if db.QueryRowContext(ctx, kinds[other].query).Scan(&version) == nil {
				return 0, fmt.Errorf("the dialect is %q, but this is a %s database", dialect, kinds[other].name)
			}
		}
		return 0, err
	}
	if kind == dbutil.SQLite {
		err = checkConnections(ctx, db)
	}
	return kind, err
}

// checkConnections asks two connections for their busy_timeout, since the first may be the only one
// that a statement has set it for, and whether they have the same database. One in memory waits for
// no other process.
func checkConnections(ctx context.Context, db *sql.DB) error {
	connections := 2
	if db.Stats().MaxOpenConnections == 1 {
		connections = 1
	}
	var inMemory []*sql.Conn
	for range connections {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		var timeout int
		if err = conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&timeout); err != nil {
			return fmt.Errorf("failed to read PRAGMA busy_timeout: %w", err)
		}
		// (A table-valued function would have the connection read the schema, before
		// there are tables.)
		var number int
		var name, file sql.NullString
		if err = conn.QueryRowContext(ctx, "PRAGMA database_list").Scan(&number, &name, &file); err != nil {
			return fmt.Errorf("failed to read PRAGMA database_list: %w", err)
		}
		switch {
		case file.String == "":
			inMemory = append(inMemory, conn)
		case timeout == 0:
			return errNoBusyTimeout
		}
	}
	if len(inMemory) < 2 {
		return nil
	}
	return checkShared(ctx, inMemory[0], inMemory[1])
}

// checkShared checks that two connections have the same database in memory: that a table which one
// creates is there for the other.
func checkShared(ctx context.Context, one, other *sql.Conn) (err error) {
	if _, err = one.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS reupload_probe (x INTEGER)"); err != nil {
		return fmt.Errorf("failed to create a table: %w", err)
	}
	defer func() {
		if _, errDrop := one.ExecContext(ctx, "DROP TABLE reupload_probe"); err == nil && errDrop != nil {
			err = fmt.Errorf("failed to drop a table: %w", errDrop)
		}
	}()
	var tables int
	err = other.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE name = 'reupload_probe'").Scan(&tables)
	if err != nil {
		return fmt.Errorf("failed to read the tables: %w", err)
	}
	if tables == 0 {
		return errPrivate
	}
	return nil
}

// withFile adds to SQLite's "unable to open database file" which file that is and what to do.
func withFile(err error, db *sql.DB) error {
	if err == nil || !strings.Contains(err.Error(), "unable to open database file") {
		return err
	}
	return fmt.Errorf("%w (%s: does its directory exist, and may this process write there? SQLite creates the file, but no directory)",
		err, fileOf(db))
}

// fileOf returns the file in a database's connection string, which database/sql keeps to itself. It
// is for an error's text only.
func fileOf(db *sql.DB) string {
	dsn := reflect.Indirect(reflect.ValueOf(db)).FieldByName("connector")
	if dsn.IsValid() && dsn.Kind() == reflect.Interface {
		dsn = reflect.Indirect(dsn.Elem())
	}
	if dsn.IsValid() && dsn.Kind() == reflect.Struct {
		dsn = dsn.FieldByName("dsn")
	}
	if !dsn.IsValid() || dsn.Kind() != reflect.String {
		return "the file in the connection string"
	}
	path, _, _ := strings.Cut(strings.TrimPrefix(dsn.String(), "file:"), "?") // what follows can be secret
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return path
}
