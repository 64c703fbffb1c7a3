package sqlindex

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.mau.fi/util/dbutil"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex/internal/upgrades"
)

// What a look-up returns at most. More than a few are never asked for, and anyone can send a
// popular file, or a message with an id that was there before.
const (
	maxByFile    = 16
	maxByMessage = 256
)

// An Index is a [reupload.Index] in a database. It needs no closing: it has no goroutines, and its
// prepared statements go when the database is closed.
type Index struct {
	tables    tables
	retention retention

	mu       sync.RWMutex
	accounts map[types.JID]int64 // the numbers of accounts, which never change
}

var _ reupload.Index = (*Index)(nil)

// tables is what SQLite and PostgreSQL do differently.
type tables interface {
	// putSome stores the first of rows, whose keys differ and ascend, in one short transaction, and
	// returns how many.
	putSome(ctx context.Context, account, now int64, rows []row) (int, error)
	// deleteUpTo deletes some of the rows with an id up to last, at most pruneBatch if there are no
	// more.
	deleteUpTo(ctx context.Context, last int64) (int64, error)
	exec(ctx context.Context, query string, args ...any) (sql.Result, error)
	// query gives scan the rows, perhaps again from the start if that fails.
	query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
}

// New returns the index in a database. It creates and upgrades its tables, in one transaction. The
// dialect is the name that whatsmeow's sqlstore takes: sqlite3, sqlite, postgres, pgx and the like.
//
// A SQLite database without a busy_timeout is refused, since whatsmeow would lose messages in it.
// The error wraps ErrNewer if a newer version of this package has changed the tables in a way
// that this one cannot work with.
func New(ctx context.Context, db *sql.DB, dialect string) (*Index, error) {
	kind, err := checkDatabase(ctx, db, dialect)
	if err != nil {
		return nil, fmt.Errorf("sqlindex: %w", err)
	}
	if err = upgrades.Upgrade(ctx, db, kind, upgrades.Steps); err != nil {
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

// Put implements [reupload.Index]. Many entries go in a thousand or so at a time, each in a short
// transaction, and in SQLite with pauses that are as long: others who write are not kept waiting.
// If it returns an error, some of the entries may be in.
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
		for len(rows) > 0 {
			n, err := x.tables.putSome(ctx, number, time.Now().Unix(), rows)
			if err != nil {
				return struct{}{}, err
			}
			rows = rows[n:]
			x.pruneSome(ctx, n)
		}
		return struct{}{}, nil
	})
	return err
}

// What both dialects have in common, with PostgreSQL's names for parameters.
const (
	// rowColumns are the columns of a row in the order in which they are passed.
	rowColumns = "message, identity, file, seconds, from_me, message_id, chat, participant, media_key, file_hash, path, " +
		"asked, outcome, vain"

	// onConflict is what [reupload.Index] says of an entry that is there already. The columns id
	// and stored stay what they were when the row was first put in.
	onConflict = `
ON CONFLICT (message, identity) DO UPDATE SET
	seconds = CASE WHEN m.seconds = ` + unknown + `  THEN excluded.seconds ELSE m.seconds END,
	path    = CASE WHEN length(excluded.path) > 0 THEN excluded.path    ELSE m.path    END,
	asked   = CASE WHEN ` + asksLater + ` THEN excluded.asked   ELSE m.asked   END,
	outcome = CASE WHEN ` + asksLater + ` THEN excluded.outcome ELSE m.outcome END,
	vain    = CASE WHEN ` + asksLater + ` THEN excluded.vain    ELSE m.vain    END
WHERE m.seconds = ` + unknown + ` AND excluded.seconds <> ` + unknown + ` OR length(excluded.path) > 0 OR ` + asksLater

	// unknown is unknownTime.
	unknown = "-62135596800"
	// asksLater is not true where what is new was never asked, which is NULL.
	asksLater = "excluded.asked >= COALESCE(m.asked, excluded.asked)"

	selectMedia = `
SELECT message_id, chat, participant, from_me, media_key, file_hash, seconds, path, asked, outcome, vain FROM reupload_media `

	fileIs = "WHERE file = $1 AND account = $2 AND file_hash = $3 "

	byFileQuery = selectMedia + fileIs + "ORDER BY seconds DESC, id DESC LIMIT $4"

	oldestQuery = selectMedia + fileIs + "AND seconds > " + unknown + " ORDER BY seconds, id LIMIT $4"

	// byMessageQuery leaves out what [reupload.Index] says: those without a time, then the newest.
	byMessageQuery = selectMedia + `
WHERE message = $1 AND account = $2 AND message_id = $3 ORDER BY seconds = ` + unknown + `, seconds, id LIMIT $4`

	accountQuery    = "SELECT id FROM reupload_account WHERE jid = $1"
	newAccountQuery = "INSERT INTO reupload_account (jid) VALUES ($1) ON CONFLICT (jid) DO NOTHING"
)

// ByFile implements [reupload.Index]. It returns at most 16 entries.
func (x *Index) ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]reupload.Entry, error) {
	found, err := x.look(ctx, byFileQuery, account, fileEncSHA256, maxByFile)
	if err != nil || len(found) < maxByFile || found[maxByFile-1].Timestamp.IsZero() {
		return found, err
	}
	// There may be more, and the oldest of all must be among what is returned.
	oldest, err := x.look(ctx, oldestQuery, account, fileEncSHA256, 1)
	return append(found[:maxByFile-1], oldest...), err
}

// ByMessage implements [reupload.Index]. It returns at most 256 entries.
func (x *Index) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	found, err := x.look(ctx, byMessageQuery, account, []byte(id), maxByMessage)
	slices.SortStableFunc(found, func(a, b reupload.Entry) int { return b.Timestamp.Compare(a.Timestamp) })
	return found, err
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
		err = rows.Scan(&r.messageID, &r.chat, &r.participant, &r.fromMe, &r.mediaKey, &r.fileHash, &r.seconds, &r.path,
			&r.asked, &r.outcome, &r.vain)
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
