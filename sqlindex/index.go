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

// What a look-up returns at most, by the rules of [reupload.Index]. More than a few are never asked
// for, and anyone can send a popular file, or a message with an id that was there before.
const (
	maxByFile      = 16
	timedByFile    = 12 // and the other ones for entries without a time
	maxByMessage   = 256
	timedByMessage = 192
	maxBySender    = 64   // under a message id
	lookedAtOfFile = 1000 // newest entries of a kind, so that a popular file takes no longer than that
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
	// deleteOldest deletes so many of the oldest rows of an account.
	deleteOldest(ctx context.Context, account, count int64) (int64, error)
	exec(ctx context.Context, query string, args ...any) (sql.Result, error)
	// query gives scan the rows, perhaps again from the start if that fails.
	query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error
}

// New returns the index in a database. It creates and upgrades its tables, in one transaction. The
// dialect is the name that whatsmeow's sqlstore takes: sqlite3, sqlite, postgres, pgx and the like.
//
// It refuses a SQLite database without a busy_timeout, since whatsmeow would lose messages in it,
// and one in memory that each connection of the pool has for itself. The error wraps ErrNewer if a
// newer version of this package has changed the tables in a way that this one cannot work with.
func New(ctx context.Context, db *sql.DB, dialect string) (*Index, error) {
	kind, err := checkDatabase(ctx, db, dialect)
	if err != nil {
		return nil, fmt.Errorf("sqlindex: %w", withFile(err, db))
	}
	if err = upgrades.Upgrade(ctx, db, kind, upgrades.Steps); err != nil {
		return nil, fmt.Errorf("sqlindex: failed to create or upgrade the tables: %w", withFile(err, db))
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
// transaction, and in SQLite with pauses that are as long, so that other writers need not wait.
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
	rows, err := makeRows(number, time.Now().Unix(), entries)
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

// Statements that both dialects share, with PostgreSQL's names for parameters.
const (
	// rowColumns are the columns of a row in the order in which they are passed.
	rowColumns = "message, identity, file, seconds, from_me, message_id, chat, participant, media_key, file_hash, " +
		"came_with, path, asked, outcome, failures, is_status"

	// onConflict is what [reupload.Index] says of an entry that is there already. The columns id
	// and stored stay what they were when the row was first put in.
	onConflict = `
ON CONFLICT (message, identity) DO UPDATE SET
	seconds   = CASE WHEN m.seconds = ` + unknown + `   THEN excluded.seconds   ELSE m.seconds   END,
	is_status = CASE WHEN m.seconds = ` + unknown + `   THEN excluded.is_status ELSE m.is_status END,
	came_with = CASE WHEN length(m.came_with) = 0   THEN excluded.came_with ELSE m.came_with END,
	path      = CASE WHEN length(excluded.path) > 0 THEN excluded.path      ELSE m.path      END,
	asked     = CASE WHEN ` + asksLater + ` THEN excluded.asked    ELSE m.asked    END,
	outcome   = CASE WHEN ` + asksLater + ` THEN excluded.outcome  ELSE m.outcome  END,
	failures  = CASE WHEN ` + asksLater + ` THEN excluded.failures ELSE m.failures END
WHERE m.seconds = ` + unknown + ` AND excluded.seconds <> ` + unknown + ` OR length(excluded.path) > 0 OR ` + asksLater + `
	OR length(m.came_with) = 0 AND length(excluded.came_with) > 0`

	// unknown is unknownTime.
	unknown = "-62135596800"
	// asksLater is not true if the new Asked has no time, which is NULL. A time in the row that is
	// more than maxSkew ahead is no later than any other.
	asksLater = "(excluded.asked >= COALESCE(m.asked, excluded.asked) OR " +
		"excluded.asked IS NOT NULL AND m.asked > excluded.stored + 3600)"

	columns = "message_id, chat, participant, from_me, media_key, file_hash, seconds, came_with, path, asked, outcome, failures, " +
		"is_status"

	selectMedia = "SELECT " + columns + " FROM reupload_media "

	// The plus in these keeps SQLite from the index by account, which it can take for as good as
	// the one by message: it would read all rows of the account.
	fileIs = "WHERE file = $1 AND +account = $2 AND file_hash = $3 "

	byFileQuery = selectMedia + fileIs + "ORDER BY seconds DESC, id DESC LIMIT $4"

	oldestQuery = selectMedia + fileIs + "AND seconds > " + unknown + " ORDER BY seconds, id LIMIT $4"

	// sharedFile takes one entry of each chat in turn.
	sharedFile = `
SELECT ` + columns + ` FROM (
	SELECT *, row_number() OVER (PARTITION BY chat ORDER BY seconds DESC, id DESC) AS turn
	FROM (SELECT * FROM reupload_media ` + fileIs

	sharedByTurn = `) AS latest) AS shared ORDER BY turn, seconds DESC, id DESC LIMIT $5`

	timedOfFileQuery   = sharedFile + "AND seconds > " + unknown + " ORDER BY seconds DESC, id DESC LIMIT $4" + sharedByTurn
	untimedOfFileQuery = sharedFile + "AND seconds = " + unknown + " ORDER BY id DESC LIMIT $4" + sharedByTurn

	messageIs = "WHERE message = $1 AND +account = $2 AND message_id = $3 "

	byMessageQuery = selectMedia + messageIs + "ORDER BY seconds = " + unknown + ", seconds, id LIMIT $4"

	// sharedMessageQuery leaves out what a sender has too much of, and then takes one entry of each
	// sender in turn, of those with a time and of those without one.
	sharedMessageQuery = `
SELECT ` + columns + ` FROM (
	SELECT *, row_number() OVER (PARTITION BY untimed ORDER BY turn, seconds, id) AS place FROM (
		SELECT *, row_number() OVER (PARTITION BY sender ORDER BY untimed, seconds, id) AS of_sender,
			row_number() OVER (PARTITION BY sender, untimed ORDER BY seconds, id) AS turn
		FROM (SELECT *, seconds = ` + unknown + ` AS untimed,
			CASE WHEN from_me THEN '' WHEN participant = '' THEN chat ELSE participant END AS sender
			FROM reupload_media ` + messageIs + `) AS named
	) AS ranked WHERE of_sender <= $4
) AS shared WHERE place <= $5 ORDER BY place`

	accountQuery    = "SELECT id FROM reupload_account WHERE jid = $1"
	newAccountQuery = "INSERT INTO reupload_account (jid) VALUES ($1) ON CONFLICT (jid) DO NOTHING"
)

// ByFile implements [reupload.Index]. It returns at most 16 entries. Of a file that came with more,
// it shares the places among the chats of the newest thousand, with the very oldest.
func (x *Index) ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]reupload.Entry, error) {
	found, err := x.look(ctx, byFileQuery, account, fileEncSHA256, maxByFile)
	if err != nil || len(found) < maxByFile {
		return found, err
	}
	untimed, err := x.look(ctx, untimedOfFileQuery, account, fileEncSHA256, lookedAtOfFile, maxByFile)
	if err != nil {
		return nil, err
	}
	places := max(timedByFile, maxByFile-len(untimed))
	timed, err := x.look(ctx, timedOfFileQuery, account, fileEncSHA256, lookedAtOfFile, places)
	if err != nil {
		return nil, err
	}
	if len(timed) == places {
		oldest, err := x.look(ctx, oldestQuery, account, fileEncSHA256, 1)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(timed, func(e reupload.Entry) bool { return e.Timestamp.Equal(oldest[0].Timestamp) }) {
			timed[places-1] = oldest[0]
		}
	}
	return newestFirst(append(timed, untimed[:min(len(untimed), maxByFile-len(timed))]...)), nil
}

// ByMessage implements [reupload.Index]. It returns at most 256 entries, and 64 of one sender.
func (x *Index) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	found, err := x.look(ctx, byMessageQuery, account, []byte(id), maxBySender+1)
	if err != nil || len(found) <= maxBySender {
		return newestFirst(found), err
	}
	found, err = x.look(ctx, sharedMessageQuery, account, []byte(id), maxBySender, maxByMessage)
	if err != nil {
		return nil, err
	}
	var timed, untimed []reupload.Entry
	for _, e := range found {
		if e.Timestamp.IsZero() {
			untimed = append(untimed, e)
		} else {
			timed = append(timed, e)
		}
	}
	timed = timed[:min(len(timed), max(timedByMessage, maxByMessage-len(untimed)))]
	return newestFirst(append(timed, untimed[:min(len(untimed), maxByMessage-len(timed))]...)), nil
}

func newestFirst(entries []reupload.Entry) []reupload.Entry {
	slices.SortStableFunc(entries, func(a, b reupload.Entry) int { return b.Timestamp.Compare(a.Timestamp) })
	return entries
}

// look finds rows by a value that they have in full, and through an index by its hash.
func (x *Index) look(ctx context.Context, query string, account types.JID, value []byte, limits ...any) ([]reupload.Entry, error) {
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
			}, query, append([]any{hash(number, value), number, value}, limits...)...)
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
		err = rows.Scan(&r.messageID, &r.chat, &r.participant, &r.fromMe, &r.mediaKey, &r.fileHash, &r.seconds, &r.cameWith, &r.path,
			&r.asked, &r.outcome, &r.failures, &r.isStatus)
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
	err = queryRow(ctx, x.tables, accountQuery, []any{jid}, &number)
	if err != nil || number != 0 || !create {
		return number, err
	}
	if _, err = x.tables.exec(ctx, newAccountQuery, jid); err != nil {
		return 0, err
	}
	err = queryRow(ctx, x.tables, accountQuery, []any{jid}, &number) // made here or by another process
	return number, err
}

// queryRow scans the first row of an answer. It leaves dest alone if there is none.
func queryRow(ctx context.Context, t tables, query string, args []any, dest ...any) error {
	return t.query(ctx, func(rows *sql.Rows) error {
		if rows.Next() {
			if err := rows.Scan(dest...); err != nil {
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
