package drivertest

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/util/dbutil"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
	"github.com/whatsmeow-plugins/reupload/sqlindex/internal/upgrades"
)

// A dump in testdata is a database as a released version has left it, with media(0) to media(9) of
// account in it. The even ones have been asked for, and have new paths. From version 2 on, all have
// the path that they came with, and from version 3 on every third is a status.

func TestUpgradeFromEveryVersion(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		fresh, dialect := k.open(t)
		newIndex(t, fresh, dialect)
		want := schema(t, fresh, dialect)
		dumps, err := filepath.Glob(fmt.Sprintf("testdata/v*.%s.sql", strings.ToLower(k.name)))
		if err != nil || len(dumps) != len(upgrades.Steps) {
			t.Fatalf("there are %d versions and %d dumps, %v", len(upgrades.Steps), len(dumps), err)
		}
		for _, dump := range dumps {
			t.Run(filepath.Base(dump), func(t *testing.T) {
				t.Parallel()
				db, dialect := k.open(t)
				statements, err := os.ReadFile(dump)
				if err != nil {
					t.Fatal(err)
				}
				if _, err = db.Exec(string(statements)); err != nil {
					t.Fatal(err)
				}
				index := newIndex(t, db, dialect)
				checkAll(t, index, 0, 10)
				for n := range 10 {
					found, err := index.ByMessage(t.Context(), account, media(n).MessageID)
					if err != nil || len(found) != 1 {
						t.Fatalf("ByMessage: %v, %v", found, err)
					}
					want := media(n)
					if !strings.Contains(dump, "v1.") {
						want.CameWith = fmt.Sprintf("/came/%d", n)
					}
					want.IsStatus = strings.Contains(dump, "v3.") && n%3 == 0
					if n%2 == 0 {
						want.DirectPath = fmt.Sprintf("/renewed/%d", n)
						want.Asked = reupload.Asked{At: want.Timestamp, Outcome: 1, Failures: n}
					}
					if !reflect.DeepEqual(found[0], want) {
						t.Errorf("entry %d is %v, want %v", n, found[0], want)
					}
				}
				fill(t, index, 20)
				if got := countRows(t, db); got != 20 {
					t.Errorf("%d rows, want 20: an entry that was there is not known again", got)
				}
				wantCounted(t, db)
				if got := schema(t, db, dialect); !slices.Equal(got, want) {
					t.Errorf("the tables differ from new ones:\n%s\n\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
				}
			})
		}
	})
}

// schema describes the tables and indexes of the index and their version.
func schema(t *testing.T, db *sql.DB, dialect string) (lines []string) {
	t.Helper()
	query := "SELECT sql FROM sqlite_master WHERE tbl_name LIKE 'reupload_%' AND sql IS NOT NULL"
	if dialect != "sqlite" {
		query = `SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable || coalesce(column_default, '')
			FROM information_schema.columns WHERE table_name LIKE 'reupload_%'
			UNION ALL SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'reupload_%'
			UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgname LIKE 'reupload_%'
			UNION ALL SELECT prosrc FROM pg_proc WHERE proname LIKE 'reupload_%'
			UNION ALL SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint WHERE conname LIKE 'reupload_%'`
	}
	rows, err := db.Query(query + " UNION ALL SELECT 'version ' || version || ' compatible with ' || compat FROM reupload_version")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var line string
		if err = rows.Scan(&line); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	if err = rows.Err(); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func TestFailingUpgradeChangesNothing(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		index := newIndex(t, db, dialect)
		put(t, index, media(1))
		before := schema(t, db, dialect)
		statements := "ALTER TABLE reupload_media ADD COLUMN more INTEGER; DROP INDEX reupload_media_file; SELECT * FROM reupload_nothing"
		steps := append(slices.Clone(upgrades.Steps), upgrades.Step{SQLite: statements, Postgres: statements, Compat: 1})
		kind, err := dbutil.ParseDialect(dialect)
		if err != nil {
			t.Fatal(err)
		}
		if err = upgrades.Upgrade(t.Context(), db, kind, steps); err == nil || !strings.Contains(err.Error(), "reupload_nothing") {
			t.Fatalf("Upgrade: %v", err)
		}
		if got := schema(t, db, dialect); !slices.Equal(got, before) {
			t.Errorf("the tables have changed:\n%s", strings.Join(got, "\n"))
		}
		put(t, newIndex(t, db, dialect), media(2))
		checkAll(t, index, 1, 3)
	})
}

// The first version fails half way, since something is in its way.
func TestFailingCreationLeavesNothing(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		if _, err := db.Exec("CREATE TABLE reupload_media_file (x INTEGER)"); err != nil { // the name of an index
			t.Fatal(err)
		}
		if _, err := sqlindex.New(t.Context(), db, dialect); err == nil {
			t.Fatal("New succeeded")
		}
		var tables int
		query := "SELECT count(*) FROM sqlite_master WHERE name LIKE 'reupload_%'"
		if dialect != "sqlite" {
			query = "SELECT count(*) FROM pg_class WHERE relname LIKE 'reupload_%'"
		}
		if err := db.QueryRow(query).Scan(&tables); err != nil || tables != 1 {
			t.Errorf("there are %d tables, want the one that was there: %v", tables, err)
		}
		if _, err := db.Exec("DROP TABLE reupload_media_file"); err != nil {
			t.Fatal(err)
		}
		put(t, newIndex(t, db, dialect), media(1))
	})
}

func TestNewerVersion(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		put(t, newIndex(t, db, dialect), media(1))
		latest := len(upgrades.Steps)
		set := func(version, compat int) {
			t.Helper()
			if _, err := db.Exec(fmt.Sprintf("UPDATE reupload_version SET version = %d, compat = %d", version, compat)); err != nil {
				t.Fatal(err)
			}
		}
		set(latest+2, latest)
		checkAll(t, newIndex(t, db, dialect), 1, 2)
		set(latest+2, latest+1)
		if _, err := sqlindex.New(t.Context(), db, dialect); !errors.Is(err, sqlindex.ErrNewer) {
			t.Errorf("New with tables that are too new: %v", err)
		}
	})
}
