// Package upgrades holds the versions of the tables of sqlindex. A version that has been released is never changed; the next
// one gets a file of its own, and a dump of the version before it joins the upgrade tests.
package upgrades

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/util/dbutil"
)

//go:embed *.sql
var files embed.FS

// Table leads from every version to the latest.
var Table = dbutil.BuildUpgradeTable().WithFS(files).Finish()

// attempts is how often an upgrade is tried where another process may be doing the same.
const attempts = 5

// Upgrade brings the tables in db to the latest version of table, in one transaction: it is all done, or nothing is.
func Upgrade(ctx context.Context, db *sql.DB, dialect string, table dbutil.UpgradeTable) error {
	wrapped, err := dbutil.NewWithDB(db, dialect)
	if err != nil {
		return err
	}
	wrapped.VersionTable = "reupload_version"
	wrapped.UpgradeTable = table
	for n := 1; ; n++ {
		err = upgrade(ctx, wrapped)
		if err == nil || n == attempts || errors.Is(err, dbutil.ErrUnsupportedDatabaseVersion) {
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

func upgrade(ctx context.Context, db *dbutil.Database) error {
	return db.DoTxn(ctx, nil, func(ctx context.Context) error {
		if db.Dialect == dbutil.Postgres {
			// One process at a time: dbutil reads the version and writes it later, and CREATE TABLE IF NOT EXISTS is
			// not safe against itself either. The number is no other than this one's.
			if _, err := db.Exec(ctx, "SELECT pg_advisory_xact_lock(7382104958213374)"); err != nil {
				return fmt.Errorf("failed to lock the tables: %w", err)
			}
		}
		return db.Upgrade(ctx) // within the transaction that ctx carries
	})
}
