package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

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
		err = checkBusyTimeout(ctx, db)
	}
	return kind, err
}

// checkBusyTimeout asks two connections, since the first may be the only one that a statement has
// set it for. A database in memory has nobody to wait for.
func checkBusyTimeout(ctx context.Context, db *sql.DB) error {
	connections := 2
	if db.Stats().MaxOpenConnections == 1 {
		connections = 1
	}
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
		if timeout == 0 && file.String != "" {
			return errNoBusyTimeout
		}
	}
	return nil
}
