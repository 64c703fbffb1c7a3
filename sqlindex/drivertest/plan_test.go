package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"
	"testing"

	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// SQLite looks a file or a message up in the index that is made for it, and reads no more rows than
// that has. It knows nothing of the data unless somebody calls ANALYZE, and can choose wrongly.
func TestLookUpsUseTheirIndex(t *testing.T) {
	t.Parallel()
	path := dbFile(t)
	index := newIndex(t, openSQLite(t, path, recommended...), "sqlite")
	put(t, index, mediaBatch(0, 100)...)

	db := openSQLite(t, path, recommended...)
	index, seen := watched(t, path)
	e := media(7)
	for what, c := range map[string]struct {
		look  func() (found int, err error)
		index string
	}{
		"ByFile": {func() (int, error) {
			found, err := index.ByFile(t.Context(), account, e.FileEncSHA256)
			return len(found), err
		}, "reupload_media_file"},
		"ByMessage": {func() (int, error) {
			found, err := index.ByMessage(t.Context(), account, e.MessageID)
			return len(found), err
		}, "reupload_media_identity"},
	} {
		seen.take()
		if found, err := c.look(); found != 1 || err != nil {
			t.Fatalf("%s: %d are found, %v", what, found, err)
		}
		var looks int
		for _, query := range seen.take() {
			if !strings.Contains(query, "FROM reupload_media") {
				continue
			}
			looks++
			if plan := planOf(t, db, query); !strings.Contains(plan, "USING INDEX "+c.index) {
				t.Errorf("%s: SQLite does %q, which does not use %s", what, plan, c.index)
			}
		}
		if looks == 0 {
			t.Errorf("%s: no query was seen", what)
		}
	}
}

// The number that stands for an account in the table is looked up once.
func TestAccountIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	path := dbFile(t)
	put(t, newIndex(t, openSQLite(t, path, recommended...), "sqlite"), mediaBatch(0, 1)...)
	index, seen := watched(t, path)
	for _, want := range []int{1, 0, 0} {
		seen.take()
		if found, err := index.ByFile(t.Context(), account, media(0).FileEncSHA256); len(found) != 1 || err != nil {
			t.Fatalf("%d are found, %v", len(found), err)
		}
		asked := 0
		for _, query := range seen.take() {
			if strings.Contains(query, "reupload_account") {
				asked++
			}
		}
		if asked != want {
			t.Errorf("it was looked up %d times, not %d", asked, want)
		}
	}
}

// watched returns an index in an SQLite database, and what sees its queries.
func watched(t *testing.T, path string) (*sqlindex.Index, *witness) {
	t.Helper()
	seen := &witness{driver: openSQLite(t, path, recommended...).Driver(), dsn: sqliteDSN(path, recommended...)}
	db := sql.OpenDB(seen)
	t.Cleanup(func() { db.Close() })
	return newIndex(t, db, "sqlite"), seen
}

// planOf returns what SQLite says that it does for a query.
func planOf(t *testing.T, db *sql.DB, query string) string {
	t.Helper()
	args := make([]any, strings.Count(query, "?"))
	rows, err := db.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	var plan []string
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		plan = append(plan, detail)
	}
	return strings.Join(plan, "; ")
}

// A witness opens connections that remember what they are asked.
type witness struct {
	driver driver.Driver
	dsn    string

	mu      sync.Mutex
	queries []string
}

func (r *witness) Driver() driver.Driver { return r.driver }

func (r *witness) Connect(context.Context) (driver.Conn, error) {
	conn, err := r.driver.Open(r.dsn)
	return witnessedConn{conn, r}, err
}

// take returns the queries since the last call.
func (r *witness) take() (queries []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	queries, r.queries = r.queries, nil
	return queries
}

// A witnessedConn has only what each connection must have, so that all goes through Prepare, and so
// do its statements.
type witnessedConn struct {
	driver.Conn
	*witness
}

func (c witnessedConn) Prepare(query string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(query)
	return witnessedStmt{stmt, query, c.witness}, err
}

type witnessedStmt struct {
	driver.Stmt
	query string
	*witness
}

func (s witnessedStmt) Query(args []driver.Value) (driver.Rows, error) {
	s.mu.Lock()
	s.queries = append(s.queries, s.query)
	s.mu.Unlock()
	//lint:ignore SA1019 it is what each driver has
	return s.Stmt.Query(args)
}
