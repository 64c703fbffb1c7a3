package sqlindex

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"slices"
	"strconv"
	"time"
)

// postgres leaves it to the driver what it prepares: pgx does that by itself, unless it was told not to because of a
// pooler that forgets prepared statements.
type postgres struct{ db *sql.DB }

// postgresRows is how many rows one statement puts in, some 300 kB.
const postgresRows = 1000

// fewRows is up to how many rows are put in without a transaction around the statement.
const fewRows = 8

// putArrays takes a batch of any size as one array for each column, so that one text, prepared once, does for all. Arrays are
// passed as PostgreSQL writes them, since database/sql has none and each driver has its own way.
//
// A new row takes the next id, and a row that is there already passes its own on: an id that is used up leaves a gap, which
// pruning counts as a row.
const putArrays = `
INSERT INTO reupload_media AS m (id, account, stored, ` + rowColumns + `)
SELECT COALESCE((SELECT o.id FROM reupload_media AS o WHERE o.message = i.message AND o.identity = i.identity), nextval('reupload_media_ids')),
	$1::bigint, $2::bigint, ` + rowColumns + `
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::integer[], $9::integer[], $10::boolean[],
	$11::bytea[], $12::text[], $13::text[], $14::bytea[], $15::bytea[], $16::bytea[]) AS i (` + rowColumns + `)` + onConflict

// putBatch is a text of its own, since drivers keep a plan for each text.
const putBatch = "/* batch */" + putArrays

func (p postgres) put(ctx context.Context, account, now int64, rows []row) error {
	return retryConflicts(ctx, func() error {
		if len(rows) <= fewRows {
			_, err := p.db.ExecContext(ctx, putArrays, arrayArgs(account, now, rows)...)
			return err
		}
		return inTransaction(ctx, p.db, func(tx *sql.Tx) error {
			// A plan that was made for a table of a few rows reads all of it to look for one, and stays in use for up to a
			// minute while a history sync makes the table grow.
			if _, err := tx.ExecContext(ctx, "SET LOCAL enable_seqscan = off"); err != nil {
				return err
			}
			for chunk := range slices.Chunk(rows, postgresRows) {
				if _, err := tx.ExecContext(ctx, putBatch, arrayArgs(account, now, chunk)...); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// conflictTries is how often a statement is tried that PostgreSQL has given up because of another transaction.
const conflictTries = 5

// retryConflicts calls f again after serialization failures, as in databases whose default isolation is stricter, and deadlocks.
func retryConflicts(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		var coded interface{ SQLState() string } // all drivers have it
		if !errors.As(err, &coded) || try == conflictTries || ctx.Err() != nil {
			return err
		}
		if state := coded.SQLState(); state != "40001" && state != "40P01" {
			return err
		}
		time.Sleep(time.Duration(try) * 5 * time.Millisecond)
	}
}

// deleteUpTo leaves rows alone that somebody else has locked: two who prune would wait for each other, and with a Put, which
// locks in another order, in a circle.
func (p postgres) deleteUpTo(ctx context.Context, last int64) (int64, error) {
	result, err := p.exec(ctx, `
DELETE FROM reupload_media WHERE ctid = ANY (ARRAY(
	SELECT ctid FROM reupload_media WHERE id <= $1 ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))`, last, pruneBatch)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (p postgres) exec(ctx context.Context, query string, args ...any) (sql.Result, error) {
	var result sql.Result
	err := retryConflicts(ctx, func() (err error) {
		result, err = p.db.ExecContext(ctx, query, args...)
		return err
	})
	return result, err
}

func (p postgres) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	rows, err := p.db.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return scanAll(rows, scan)
}

func arrayArgs(account, now int64, rows []row) []any {
	return []any{
		account, now,
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.message, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.identity, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.file, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.seconds, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.asked, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, int64(r.outcome), 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, int64(r.vain), 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendBool(b, r.fromMe) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.messageID) }),
		array(rows, func(b []byte, r *row) []byte { return appendJID(b, r.chat) }),
		array(rows, func(b []byte, r *row) []byte { return appendJID(b, r.participant) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.mediaKey) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.fileHash) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.path) }),
	}
}

// array writes one column of rows as PostgreSQL writes an array: {1,2,3}.
func array(rows []row, appendElement func([]byte, *row) []byte) string {
	b := []byte{'{'}
	for i := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendElement(b, &rows[i])
	}
	return string(append(b, '}'))
}

// appendBytes writes bytes as \x and hexadecimal digits, where an array needs two backslashes for one.
func appendBytes(b, value []byte) []byte {
	if value == nil {
		return append(b, "NULL"...)
	}
	return append(hex.AppendEncode(append(b, `"\\x`...), value), '"')
}

// appendJID writes what formatJID has written, which has no quotes and no backslashes in it.
func appendJID(b []byte, jid string) []byte {
	return append(append(append(b, '"'), jid...), '"')
}
