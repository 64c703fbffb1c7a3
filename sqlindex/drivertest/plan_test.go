package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"
	"testing"
)

// SQLite looks a file or a message up in the index that is made for it, and reads no more rows than
// that has. It knows nothing of the data unless somebody calls ANALYZE, and can choose wrongly.
func TestLookUpsUseTheirIndex(t *testing.T) {
	t.Parallel()
	path := dbFile(t)
	index := newIndex(t, openSQLite(t, path, recommended...), "sqlite")
	put(t, index, mediaBatch(0, 100)...)

	db := openSQLite(t, path, recommended...)
	seen := &witness{driver: db.Driver(), dsn: sqliteDSN(path, recommended...)}
	watched := sql.OpenDB(seen)
	t.Cleanup(func() { watched.Close() })
	index = newIndex(t, watched, "sqlite")
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

// A witnessedConn has only what each connection must have, so that all goes through Prepare.
type witnessedConn struct {
	driver.Conn
	*witness
}

func (c witnessedConn) Prepare(query string) (driver.Stmt, error) {
	c.mu.Lock()
	c.queries = append(c.queries, query)
	c.mu.Unlock()
	return c.Conn.Prepare(query)
}
