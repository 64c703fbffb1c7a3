// Package upgrades holds the versions of the tables of sqlindex. A version that has been released
// is never changed; the next one gets files of its own, and a dump of the version before it joins
// the upgrade tests.
package upgrades

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

// A Step leads to a version of the tables from the one before it.
type Step struct {
	SQLite, Postgres string // statements
	// Compat is the oldest version whose code can work with the tables all the same.
	Compat int
}

//go:embed v1.sqlite.sql
var v1SQLite string

//go:embed v1.postgres.sql
var v1Postgres string

//go:embed v2.sqlite.sql
var v2SQLite string

//go:embed v2.postgres.sql
var v2Postgres string

//go:embed v3.sqlite.sql
var v3SQLite string

//go:embed v3.postgres.sql
var v3Postgres string

// Steps lead from nothing to the latest version; the first one leads to version 1.
var Steps = []Step{{v1SQLite, v1Postgres, 1}, {v2SQLite, v2Postgres, 2}, {v3SQLite, v3Postgres, 2}}

// ErrNewer is the error of Upgrade for tables that newer code has changed too much.
var ErrNewer = errors.New("the tables are those of a newer version of reupload, which this one cannot work with: " +
	"update it, or give it a database of its own")

// attempts is how often an upgrade is tried where another process may be doing the same.
const attempts = 10

// Upgrade brings the tables in db to the latest version, in one transaction: it is all done, or
// nothing is.
func Upgrade(ctx context.Context, db *sql.DB, dialect dbutil.Dialect, steps []Step) error {
	for n := 1; ; n++ {
		err := upgrade(ctx, db, dialect, steps)
		if err == nil || n == attempts || errors.Is(err, ErrNewer) {
			return err
		}
		// SQLite refuses to write in a transaction that has read what another process has changed
		// since, as when two of them upgrade the tables. The next try finds the other one's
		// work.
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(time.Duration(n) * 20 * time.Millisecond):
		}
	}
}

func upgrade(ctx context.Context, db *sql.DB, dialect dbutil.Dialect, steps []Step) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	var tables, version, compat int
	if dialect == dbutil.Postgres {
		// One process at a time. The number is no other than this one's.
		if _, err = tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(7382104958213374)"); err != nil {
			return fmt.Errorf("failed to lock the tables: %w", err)
		}
		if err = tx.QueryRowContext(ctx, "SELECT count(to_regclass('reupload_version'))").Scan(&tables); err != nil {
			return err
		}
	}
	if tables == 0 {
		// SQLite waits for the lock here, where nothing has been read, and does nothing if there
		// is the table.
		_, err = tx.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS reupload_version (version INTEGER NOT NULL, compat INTEGER NOT NULL)")
		if err != nil {
			return err
		}
	}
	err = tx.QueryRowContext(ctx, "SELECT version, compat FROM reupload_version").Scan(&version, &compat)
	switch {
	case err != nil && !errors.Is(err, sql.ErrNoRows):
		return err
	case compat > len(steps):
		return fmt.Errorf("%w (they have version %d, and it knows %d)", ErrNewer, version, len(steps))
	case version >= len(steps):
		return nil
	}
	for n, step := range steps[version:] {
		statements := step.SQLite
		if dialect == dbutil.Postgres {
			statements = step.Postgres
		}
		if _, err = tx.ExecContext(ctx, statements); err != nil {
			return fmt.Errorf("version %d: %w", version+n+1, err)
		}
	}
	latest := len(steps)
	_, err = tx.ExecContext(ctx, fmt.Sprintf("DELETE FROM reupload_version; INSERT INTO reupload_version VALUES (%d, %d)",
		latest, steps[latest-1].Compat))
	if err != nil {
		return err
	}
	return tx.Commit()
}
