package sqlindex

import (
	"context"
	"database/sql"
	"regexp"
	"strings"
	"sync"
	"time"
)

// sqlite has its statements prepared, since SQLite itself takes longer to compile one than to run
// it.
type sqlite struct {
	db       *sql.DB
	writing  chan struct{} // holds a value while this index writes: others need not poll SQLite
	turn     chan struct{} // holds a value while this index writes much, and in the pause after that
	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

func newSQLite(db *sql.DB) *sqlite {
	return &sqlite{db: db, writing: make(chan struct{}, 1), turn: make(chan struct{}, 1), prepared: make(map[string]*sql.Stmt)}
}

// sqliteRows is how many rows one statement puts in. SQLite took at most 999 parameters until
// version 3.32.
const sqliteRows = 55

// maxHold is after how long a transaction that puts in many rows is committed, which takes about as
// long again. Until then no other connection can write, and whatsmeow writes for each message that
// it receives.
const maxHold = 10 * time.Millisecond

var (
	putOne  = putQuery(1)
	putMany = putQuery(sqliteRows)
)

// putQuery returns the statement for n rows.
func putQuery(n int) string {
	const row = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
	return "INSERT INTO reupload_media AS m (account, stored, " + rowColumns + ") VALUES " + row +
		strings.Repeat(", "+row, n-1) + onConflict
}

func putArgs(account, now int64, rows []row) []any {
	args := make([]any, 0, 18*len(rows))
	for i := range rows {
		r := &rows[i]
		args = append(args, account, now, r.message, r.identity, r.file, r.seconds, r.fromMe, r.messageID, r.chat, r.participant,
			r.mediaKey, r.fileHash, r.cameWith, r.path, r.asked, r.outcome, r.failures, r.isStatus)
	}
	return args
}

func (s *sqlite) putSome(ctx context.Context, account, now int64, rows []row) (n int, err error) {
	if len(rows) == 1 {
		_, err = s.exec(ctx, putOne, putArgs(account, now, rows)...)
		return 1, err
	}
	query, each, write := putMany, sqliteRows, s.writeInTurn
	if len(rows) < each { // a message, or the end of a batch
		query, each, write = putOne, 1, s.write
	}
	err = write(ctx, func() error {
		stmt, err := s.prepare(ctx, query)
		if err != nil {
			return err
		}
		return inTransaction(ctx, s.db, func(tx *sql.Tx) error {
			// The first statement writes, so that it can wait for the lock: after a read SQLite
			// would refuse at once.
			stmt := tx.StmtContext(ctx, stmt)
			var locked time.Time
			for n = 0; n+each <= len(rows) && (n == 0 || time.Since(locked) < maxHold); n += each {
				if _, err := stmt.ExecContext(ctx, putArgs(account, now, rows[n:n+each])...); err != nil {
					return err
				}
				if n == 0 {
					locked = time.Now()
				}
			}
			return nil
		})
	})
	return n, err
}

func (s *sqlite) deleteUpTo(ctx context.Context, last int64) (int64, error) {
	return s.delete(ctx, "DELETE FROM reupload_media WHERE id <= $1", last)
}

func (s *sqlite) deleteOldest(ctx context.Context, account, count int64) (int64, error) {
	return s.delete(ctx, `
DELETE FROM reupload_media WHERE id IN (SELECT id FROM reupload_media WHERE account = $1 ORDER BY id LIMIT $2)`, account, count)
}

func (s *sqlite) delete(ctx context.Context, query string, args ...any) (deleted int64, err error) {
	err = s.writeInTurn(ctx, func() error {
		result, err := s.run(ctx, query, args...)
		if err == nil {
			deleted, err = result.RowsAffected()
		}
		return err
	})
	return deleted, err
}

func (s *sqlite) exec(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	err = s.write(ctx, func() error {
		result, err = s.run(ctx, query, args...)
		return err
	})
	return result, err
}

func (s *sqlite) run(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := s.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

func (s *sqlite) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return retry(ctx, isBusy, func() error {
		stmt, err := s.prepare(ctx, query)
		if err != nil {
			return err
		}
		rows, err := stmt.QueryContext(ctx, args...)
		if err != nil {
			return err
		}
		return scanAll(rows, scan)
	})
}

// parameterName is one of PostgreSQL's names for parameters, which all queries use in order and
// once. SQLite could have names too, but some drivers look each of them up for each value.
var parameterName = regexp.MustCompile(`\$[0-9]+`)

// prepare returns the statement for one of the few queries that there are.
func (s *sqlite) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.Lock()
	stmt := s.prepared[query]
	s.mu.Unlock()
	if stmt != nil {
		return stmt, nil
	}
	// Not under the lock, which cannot be given up when the context ends.
	stmt, err := s.db.PrepareContext(ctx, parameterName.ReplaceAllLiteralString(query, "?"))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if other := s.prepared[query]; other != nil {
		_ = stmt.Close() // another goroutine was faster
		return other, nil
	}
	s.prepared[query] = stmt
	return stmt, nil
}

// write calls f, which writes, while no other one of this index does.
func (s *sqlite) write(ctx context.Context, f func() error) error {
	select {
	case s.writing <- struct{}{}:
		defer func() { <-s.writing }()
		return retry(ctx, isBusy, f)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeInTurn calls f, which writes much, and then leaves the database to others for as long as
// that took: a connection that waits for SQLite's lock tries it only now and then, and must find it
// free about half the time.
func (s *sqlite) writeInTurn(ctx context.Context, f func() error) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var took time.Duration
	err := s.write(ctx, func() error {
		start := time.Now()
		defer func() { took = time.Since(start) }()
		return f()
	})
	select {
	case <-time.After(min(took, maxRest)):
	case <-ctx.Done():
	}
	return err
}

// maxRest bounds the pauses: the time may have gone into waiting for other writers, or into a
// checkpoint, during which they can write.
const maxRest = 2 * maxHold

// isBusy tells whether an error is SQLITE_BUSY or SQLITE_LOCKED. Each driver has its own type for
// them, but the text is SQLite's.
func isBusy(err error) bool {
	return strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "database table is locked")
}
