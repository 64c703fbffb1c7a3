// Package upgrades holds the versions of the tables of sqlindex. A version that has been released is never changed; the next
// one gets a file of its own, and a dump of the version before it joins the upgrade tests.
package upgrades

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"go.mau.fi/util/dbutil"
)

//go:embed *.sql
var files embed.FS

// A Version is what brings the tables from the version before it to this one.
type Version struct {
	Compat int // the lowest version of the code that can work with the tables then
	SQL    map[dbutil.Dialect]string
}

// All leads from no tables to the latest version. (dbutil has upgrade tables as well, but in incompatible ways in the oldest and the
// newest version that whatsmeow comes with.)
var All = []Version{{Compat: 1, SQL: load("01-media")}}

func load(name string) map[dbutil.Dialect]string {
	texts := make(map[dbutil.Dialect]string)
	for dialect, suffix := range map[dbutil.Dialect]string{dbutil.SQLite: ".sqlite.sql", dbutil.Postgres: ".postgres.sql"} {
		text, err := fs.ReadFile(files, name+suffix)
		if err != nil {
			panic(err) // it is embedded
		}
		texts[dialect] = string(text)
	}
	return texts
}

// ErrNewer means that a newer version of the code has changed the tables in a way that this one cannot read.
var ErrNewer = errors.New("a newer version of this package has changed the tables in a way that this one cannot read; update it")

// attempts is how often an upgrade is tried where another process may be doing the same.
const attempts = 5

// Upgrade brings the tables in db to the latest of versions, in one transaction: it is all done, or nothing is.
func Upgrade(ctx context.Context, db *sql.DB, dialect dbutil.Dialect, versions []Version) error {
	for n := 1; ; n++ {
		err := upgrade(ctx, db, dialect, versions)
		if err == nil || n == attempts || errors.Is(err, ErrNewer) {
			return err
		}
		// SQLite refuses to write in a transaction that has read what another process has changed since, as it does
		// when two of them create the tables. The next try finds the other one's work.
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(time.Duration(n) * 20 * time.Millisecond):
		}
	}
}

func upgrade(ctx context.Context, db *sql.DB, dialect dbutil.Dialect, versions []Version) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	if dialect == dbutil.Postgres {
		// One process at a time: CREATE TABLE IF NOT EXISTS is not safe against itself. The number is no other than this one's.
		if _, err = tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(7382104958213374)"); err != nil {
			if strings.Contains(err.Error(), "no such function") {
				return errors.New("this is a SQLite database, and the dialect says PostgreSQL; pass \"sqlite3\"")
			}
			return fmt.Errorf("failed to lock the tables: %w", err)
		}
	}
	if _, err = tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS reupload_version (version INTEGER, compat INTEGER)"); err != nil {
		return err
	}
	var version, compat int
	err = tx.QueryRowContext(ctx, "SELECT version, compat FROM reupload_version LIMIT 1").Scan(&version, &compat)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	if compat > len(versions) {
		return fmt.Errorf("%w (the tables have version %d, this package knows %d)", ErrNewer, version, len(versions))
	}
	if version >= len(versions) {
		return tx.Commit()
	}
	for _, next := range versions[version:] {
		if _, err = tx.ExecContext(ctx, next.SQL[dialect]); err != nil {
			return err
		}
		compat = next.Compat
	}
	if _, err = tx.ExecContext(ctx, "DELETE FROM reupload_version"); err != nil {
		return err
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO reupload_version (version, compat) VALUES ($1, $2)", len(versions), compat); err != nil {
		return err
	}
	return tx.Commit()
}
