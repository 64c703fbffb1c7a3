// Package sqlindex keeps the index of reupload in SQLite or PostgreSQL, so that media heals after a restart too, and so that
// several processes share what they know.
//
//	db, err := sql.Open("sqlite", "file:bot.db?_pragma=foreign_keys(1)&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)")
//	index, err := sqlindex.New(ctx, db, "sqlite")
//	plugin, err := reupload.Register(client, &reupload.Options{Index: index})
//
// The tables are its own, all with the prefix reupload_, and can be in the database of whatsmeow's sqlstore or in another
// one. No driver is imported: any that sqlstore works with will do. Any number of accounts and processes can share the tables.
// Nothing is cached but the numbers of accounts, so that a path that one process was told serves all others at once.
//
// # Secrets
//
// Media keys lie in reupload_media as they are, as whatsmeow's own keys lie in whatsmeow's tables: who can read the database
// can decrypt the media that it knows of. Keep it as safe as whatsmeow's. Rows that were deleted can stay readable in the
// file until they are overwritten; SQLite's PRAGMA secure_delete is for that.
//
// # Retention
//
// An entry is forgotten two years after it was first put in, and the oldest ones are when there are more than two million of
// all accounts together (some 500 MB in SQLite, 700 MB in PostgreSQL). [Index.SetRetention] changes both. This happens a
// little at a time while entries are put in, and needs nothing else; [Index.Prune] does what is left to do at once.
//
// # SQLite
//
// Whatever pragmas the connection has are left as they are. A busy_timeout is required: without one a connection does not wait for
// another one's transaction but fails at once, and if that is whatsmeow's, it loses the message that it was about to decrypt.
// Recommended are journal_mode=WAL, with which readers and the writer do not wait for each other, and synchronous=NORMAL, with which a
// transaction costs no fsync and a power cut can lose the last ones but damages nothing. The index itself never holds the write lock
// for more than some milliseconds. Everything works with one connection (SetMaxOpenConns(1)) too, but then a call waits while the
// bot has a transaction open, and must not be made from within one.
//
// # PostgreSQL
//
// Version 12 or later. Both github.com/jackc/pgx/v5/stdlib and github.com/lib/pq work, and need nothing to be set up.
package sqlindex

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex/internal/upgrades"
)

// What a look-up returns at most. More than a few are never asked for, and anyone can send a popular file, or a message
// with an id that was there before.
const (
	maxByFile    = 16
	maxByMessage = 256
)

// An Index is a [reupload.Index] in a database. It needs no closing: it has no goroutines, and its prepared statements go
// when the database is closed.
type Index struct {
	tables    tables
	retention retention

	mu       sync.RWMutex
	accounts map[types.JID]int64 // the numbers of accounts, which never change
}

var _ reupload.Index = (*Index)(nil)

// tables is what SQLite and PostgreSQL do differently.
type tables interface {
	// put stores rows, whose keys differ and ascend, in one transaction.
	put(ctx context.Context, account, now int64, rows []row) error
	// deleteUpTo deletes some of the rows with an id up to last, at most pruneBatch if there are no more.
	deleteUpTo(ctx context.Context, last int64) (int64, error)
	exec(ctx context.Context, query string, args ...any) (sql.Result, error)
	// query gives scan the rows, perhaps again from the start if that fails.
	query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
}

// New returns the index in a database. It creates and upgrades its tables, in one transaction. The dialect is the name that
// whatsmeow's sqlstore takes: sqlite3, sqlite, postgres, pgx and the like.
//
// The error wraps ErrNewer if a newer version of this package has changed the tables in a way that this one cannot read. A SQLite
// database without a busy_timeout is refused, with the DSN to use.
func New(ctx context.Context, db *sql.DB, dialect string) (*Index, error) {
	if db == nil {
		return nil, errors.New("sqlindex: there is no database: db is nil")
	}
	kind, err := dbutil.ParseDialect(dialect)
	if err != nil {
		return nil, fmt.Errorf("sqlindex: unknown dialect %q; use sqlite3 or sqlite, or postgres or pgx", dialect)
	}
	if kind == dbutil.SQLite {
		if err = checkBusyTimeout(ctx, db); err != nil {
			return nil, fmt.Errorf("sqlindex: %w", err)
		}
	}
	if err = upgrades.Upgrade(ctx, db, kind, upgrades.All); err != nil {
		return nil, fmt.Errorf("sqlindex: failed to create or upgrade the tables: %w", err)
	}
	x := &Index{accounts: make(map[types.JID]int64)}
	x.SetRetention(DefaultMaxAge, DefaultMaxEntries)
	x.retention.due.Store(pruneEvery - 1) // the first Put prunes, so that a process that puts in little prunes too
	if kind == dbutil.SQLite {
		x.tables = newSQLite(db)
	} else {
		x.tables = postgres{db}
	}
	return x, nil
}

// ErrNewer means that a newer version of this package has changed the tables in a way that this one cannot read.
var ErrNewer = upgrades.ErrNewer

// Put implements [reupload.Index]. A large batch goes into SQLite in several transactions, with pauses in which others can write.
func (x *Index) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if len(entries) == 0 {
		return nil
	}
	if err := x.put(ctx, account, entries); err != nil {
		return fmt.Errorf("sqlindex: failed to put %d entries: %w", len(entries), err)
	}
	return nil
}

func (x *Index) put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	number, err := x.account(ctx, account, true)
	if err != nil {
		return err
	}
	rows, err := makeRows(number, entries)
	if err != nil {
		return err
	}
	_, err = bounded(ctx, func() (struct{}, error) {
		err := x.tables.put(ctx, number, time.Now().Unix(), rows)
		if err == nil {
			x.pruneSome(ctx, len(rows))
		}
		return struct{}{}, err
	})
	return err
}

// What both dialects have in common, with PostgreSQL's names for parameters.
const (
	// rowColumns are the columns of a row in the order in which they are passed.
	rowColumns = "message, identity, file, seconds, asked, outcome, vain, from_me, message_id, chat, participant, media_key, file_hash, path"

	// onConflict is what [reupload.Index] says of an entry that is there already. The columns id and stored stay what they were
	// when the row was first put in. Go's zero time, as which an unknown one is stored, is written out.
	onConflict = `
ON CONFLICT (message, identity) DO UPDATE SET
	seconds = CASE WHEN m.seconds = -62135596800 THEN excluded.seconds ELSE m.seconds END,
	path    = CASE WHEN length(excluded.path) > 0 THEN excluded.path ELSE m.path END,
	asked   = CASE WHEN ` + isLater + ` THEN excluded.asked   ELSE m.asked   END,
	outcome = CASE WHEN ` + isLater + ` THEN excluded.outcome ELSE m.outcome END,
	vain    = CASE WHEN ` + isLater + ` THEN excluded.vain    ELSE m.vain    END
WHERE ` + isLater + ` OR length(excluded.path) > 0 OR m.seconds = -62135596800 AND excluded.seconds <> -62135596800`

	isLater = `(excluded.asked > -62135596800 AND excluded.asked >= m.asked)`

	selectMedia = `
SELECT message_id, chat, participant, from_me, media_key, file_hash, seconds, path, asked, outcome, vain FROM reupload_media `

	byFileQuery = selectMedia + `
WHERE file = $1 AND account = $2 AND file_hash = $3 ORDER BY seconds DESC, id DESC LIMIT $4`

	oldestQuery = selectMedia + `
WHERE file = $1 AND account = $2 AND file_hash = $3 AND seconds > -62135596800 ORDER BY seconds, id LIMIT $4`

	byMessageQuery = selectMedia + `
WHERE message = $1 AND account = $2 AND message_id = $3 ORDER BY seconds DESC, id DESC LIMIT $4`

	accountQuery    = "SELECT id FROM reupload_account WHERE jid = $1"
	newAccountQuery = "INSERT INTO reupload_account (jid) VALUES ($1) ON CONFLICT (jid) DO NOTHING"
)

// ByFile implements [reupload.Index]. It returns at most 16 entries.
func (x *Index) ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]reupload.Entry, error) {
	found, err := x.look(ctx, byFileQuery, account, fileEncSHA256, maxByFile)
	if err != nil || len(found) < maxByFile {
		return found, err
	}
	oldest, err := x.look(ctx, oldestQuery, account, fileEncSHA256, 1)
	if last := &found[maxByFile-1]; err == nil && len(oldest) > 0 && oldest[0].Timestamp.Before(last.Timestamp) {
		*last = oldest[0] // the original, whatever others have sent since
	}
	return found, err
}

// ByMessage implements [reupload.Index]. It returns at most 256 entries.
func (x *Index) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	return x.look(ctx, byMessageQuery, account, []byte(id), maxByMessage)
}

// look finds rows by a value that they have in full, and through an index by its hash.
func (x *Index) look(ctx context.Context, query string, account types.JID, value []byte, limit int) ([]reupload.Entry, error) {
	if len(value) == 0 {
		return nil, nil
	}
	number, err := x.account(ctx, account, false)
	var found []reupload.Entry
	if err == nil && number != 0 {
		found, err = bounded(ctx, func() ([]reupload.Entry, error) {
			var found []reupload.Entry
			err := x.tables.query(ctx, func(rows *sql.Rows) (err error) {
				found, err = scan(rows)
				return err
			}, query, hash(number, value), number, value, limit)
			return found, err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("sqlindex: failed to look up entries: %w", err)
	}
	return found, nil
}

func scan(rows *sql.Rows) (found []reupload.Entry, err error) {
	for rows.Next() {
		var r row
		err = rows.Scan(&r.messageID, &r.chat, &r.participant, &r.fromMe, &r.mediaKey, &r.fileHash, &r.seconds, &r.path, &r.asked, &r.outcome, &r.vain)
		if err != nil {
			return nil, err
		}
		entry, err := r.entry()
		if err != nil {
			return nil, err
		}
		found = append(found, entry)
	}
	return found, rows.Err()
}

// maxAccounts bounds how many accounts' numbers are remembered.
const maxAccounts = 10_000

// account returns the number of an account, which is 0 if it has none and should not get one.
func (x *Index) account(ctx context.Context, jid types.JID, create bool) (int64, error) {
	x.mu.RLock()
	number := x.accounts[jid]
	x.mu.RUnlock()
	if number != 0 {
		return number, nil
	}
	number, err := bounded(ctx, func() (int64, error) { return x.findAccount(ctx, formatJID(jid), create) })
	if err != nil {
		return 0, fmt.Errorf("failed to look up the account: %w", err)
	}
	if number != 0 {
		x.mu.Lock()
		if len(x.accounts) >= maxAccounts {
			clear(x.accounts)
		}
		x.accounts[jid] = number
		x.mu.Unlock()
	}
	return number, nil
}

func (x *Index) findAccount(ctx context.Context, jid string, create bool) (number int64, err error) {
	err = queryRow(ctx, x.tables, &number, accountQuery, jid)
	if err != nil || number != 0 || !create {
		return number, err
	}
	if _, err = x.tables.exec(ctx, newAccountQuery, jid); err != nil {
		return 0, err
	}
	err = queryRow(ctx, x.tables, &number, accountQuery, jid) // whoever has created it
	return number, err
}

// queryRow scans the only row of an answer. It leaves dest alone if there is none.
func queryRow(ctx context.Context, t tables, dest any, query string, args ...any) error {
	return t.query(ctx, func(rows *sql.Rows) error {
		if rows.Next() {
			if err := rows.Scan(dest); err != nil {
				return err
			}
		}
		return rows.Err()
	}, query, args...)
}

// scanAll closes rows after scan.
func scanAll(rows *sql.Rows, scan func(*sql.Rows) error) error {
	defer rows.Close()
	return scan(rows)
}

// inTransaction calls f in a transaction, and commits it unless f fails.
func inTransaction(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() // does nothing after a commit
	if err = f(tx); err != nil {
		return err
	}
	return tx.Commit()
}

// driverGrace is how long a driver has to notice that the context has ended, and to say more precisely why it failed.
const driverGrace = 50 * time.Millisecond

// bounded returns what call returns, or the context's error if the call does not end soon after the context. Not every
// driver ends with it: one waits for SQLite's busy_timeout first, another one for a server that is gone. Such a call ends in
// the background when its driver lets it, and nobody sees what it returns. A call has the context too, and starts nothing new.
func bounded[T any](ctx context.Context, call func() (T, error)) (T, error) {
	type outcome struct {
		value    T
		err      error
		panicked any
	}
	if err := ctx.Err(); err != nil {
		return *new(T), err
	}
	if ctx.Done() == nil {
		return call()
	}
	done := make(chan outcome, 1)
	go func() {
		growStack()
		var o outcome
		defer func() {
			o.panicked = recover() // it is the caller's, who may have a way to contain it
			done <- o
		}()
		o.value, o.err = call()
	}()
	var o outcome
	select {
	case o = <-done:
	case <-ctx.Done():
		select {
		case o = <-done:
		case <-time.After(driverGrace):
			return *new(T), ctx.Err()
		}
	}
	if o.panicked != nil {
		panic(o.panicked)
	}
	if ended := ctx.Err(); o.err != nil && ended != nil && !errors.Is(o.err, ended) {
		o.err = fmt.Errorf("%w: %w", ended, o.err) // drivers have errors of their own for this
	}
	return o.value, o.err
}

// growStack makes room on the stack of a new goroutine. A driver needs some 10 kB of it, and a stack that doubles again and
// again down there takes a quarter of the time of a look-up.
//
//go:noinline
func growStack() {
	var room [12 << 10]byte
	keepStack(&room)
}

//go:noinline
func keepStack(*[12 << 10]byte) {}
