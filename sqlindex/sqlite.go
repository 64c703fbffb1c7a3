package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

// sqlite has its statements prepared, since SQLite itself takes longer to compile one than to run it.
type sqlite struct {
	db       *sql.DB
	writing  chan struct{} // holds a value while this index writes: SQLite has one writer, and those who wait only poll
	mu       sync.Mutex
	prepared map[string]*sql.Stmt
}

// checkBusyTimeout refuses a database whose connections do not wait for each other: then it is whatsmeow that fails with "database is
// locked" while the index writes, and messages are lost. One that is in memory has one connection.
func checkBusyTimeout(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var timeout int
	if err = conn.QueryRowContext(ctx, "PRAGMA busy_timeout").Scan(&timeout); err != nil {
		return fmt.Errorf("failed to read PRAGMA busy_timeout (is this a SQLite database?): %w", err)
	}
	var seq int
	var name, file sql.NullString
	if err = conn.QueryRowContext(ctx, "PRAGMA database_list").Scan(&seq, &name, &file); err != nil {
		return fmt.Errorf("failed to read PRAGMA database_list: %w", err)
	}
	if timeout == 0 && file.String != "" {
		return errNoBusyTimeout
	}
	return nil
}

var errNoBusyTimeout = errors.New(`the database has no busy_timeout, so that whatsmeow loses messages while something else writes; open it with
	file:bot.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)
for modernc.org/sqlite, or for github.com/mattn/go-sqlite3 with
	file:bot.db?_foreign_keys=on&_busy_timeout=5000&_journal_mode=WAL&_synchronous=NORMAL`)

func newSQLite(db *sql.DB) *sqlite {
	return &sqlite{db: db, writing: make(chan struct{}, 1), prepared: make(map[string]*sql.Stmt)}
}

// sqliteRows is how many rows one statement puts in. SQLite took at most 999 parameters until version 3.32.
const sqliteRows = 60

var (
	putOne  = putQuery(1)
	putMany = putQuery(sqliteRows)
)

// putQuery returns the statement for n rows.
func putQuery(n int) string {
	row := "(?" + strings.Repeat(", ?", putColumns-1) + ")"
	return "INSERT INTO reupload_media AS m (account, stored, " + rowColumns + ") VALUES " + row +
		strings.Repeat(", "+row, n-1) + onConflict
}

// putColumns is how many values a row has.
const putColumns = 16

func putArgs(account, now int64, rows []row) []any {
	args := make([]any, 0, putColumns*len(rows))
	for i := range rows {
		r := &rows[i]
		args = append(args, account, now, r.message, r.identity, r.file, r.seconds, r.asked, r.outcome, r.vain, r.fromMe,
			r.messageID, r.chat, r.participant, r.mediaKey, r.fileHash, r.path)
	}
	return args
}

// transactionRows is how many rows one transaction puts in: some ten milliseconds' worth. Others write to the same database, and
// WhatsApp's messages are lost to a bot whose whatsmeow cannot.
const transactionRows = 240

func (s *sqlite) put(ctx context.Context, account, now int64, rows []row) error {
	if len(rows) == 1 {
		_, err := s.exec(ctx, putOne, putArgs(account, now, rows)...)
		return err
	}
	for len(rows) > 0 {
		n := min(transactionRows, len(rows))
		start := time.Now()
		if err := s.putTransaction(ctx, account, now, rows[:n]); err != nil {
			return err
		}
		if rows = rows[n:]; len(rows) > 0 {
			// Who waits for SQLite's lock looks for it now and then only, and must find it free about as often as not.
			select {
			case <-time.After(time.Since(start)):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// putTransaction puts in rows while nobody else can write.
func (s *sqlite) putTransaction(ctx context.Context, account, now int64, rows []row) error {
	return s.write(ctx, func() error {
		one, err := s.prepare(ctx, putOne)
		if err != nil {
			return err
		}
		many, err := s.prepare(ctx, putMany)
		if err != nil {
			return err
		}
		return inTransaction(ctx, s.db, func(tx *sql.Tx) error {
			// The first statement writes, so that it can wait for the lock: after a read SQLite would refuse at once.
			one, many := tx.StmtContext(ctx, one), tx.StmtContext(ctx, many)
			for rows := rows; len(rows) > 0; {
				stmt, n := many, sqliteRows
				if len(rows) < n {
					stmt, n = one, 1
				}
				if _, err := stmt.ExecContext(ctx, putArgs(account, now, rows[:n])...); err != nil {
					return err
				}
				rows = rows[n:]
			}
			return nil
		})
	})
}

func (s *sqlite) deleteUpTo(ctx context.Context, last int64) (int64, error) {
	result, err := s.exec(ctx, "DELETE FROM reupload_media WHERE id <= $1", last)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (s *sqlite) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	var result sql.Result
	err := s.write(ctx, func() error {
		stmt, err := s.prepare(ctx, query)
		if err == nil {
			result, err = stmt.ExecContext(ctx, args...)
		}
		return err
	})
	return result, err
}

func (s *sqlite) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return retry(ctx, func() error {
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

// parameterName is one of PostgreSQL's names for parameters, which all queries use in order and once. SQLite could have names too,
// but some drivers look each of them up for each value.
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
		_ = stmt.Close() // somebody was faster
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
		return retry(ctx, f)
	case <-ctx.Done():
		return ctx.Err()
	}
}

const (
	busyPause   = 5 * time.Millisecond
	busyTimeout = 5 * time.Second // for a context without a deadline
)

// retry calls f again while the database is locked, so that an index works where busy_timeout is short or not set too.
func retry(ctx context.Context, f func() error) error {
	for start := time.Now(); ; {
		err := f()
		if err == nil || !isBusy(err) || time.Since(start) > busyTimeout {
			return err
		}
		select {
		case <-time.After(busyPause):
		case <-ctx.Done():
			return err
		}
	}
}

// isBusy reports whether an error is SQLITE_BUSY or SQLITE_LOCKED. Each driver has its own type for them, but the text is SQLite's.
func isBusy(err error) bool {
	return strings.Contains(err.Error(), "database is locked") || strings.Contains(err.Error(), "database table is locked")
}
