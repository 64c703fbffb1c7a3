package sqlindex

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
)

// postgres leaves it to the driver what it prepares: pgx does that by itself, unless it was told
// not to because of a pooler that forgets prepared statements.
type postgres struct{ db *sql.DB }

// postgresRows is how many rows one transaction puts in, some 300 kB.
const postgresRows = 1000

// fewRows is how many rows, at most, are put in without a transaction around the statement.
const fewRows = 8

// putArrays takes a batch of any size as one array for each column, so that one text, prepared
// once, does for all. Arrays are passed as PostgreSQL writes them, since database/sql has none and
// each driver has its own way.
//
// A new row takes the next id, and a row that is there already passes its own on.
const putArrays = `
INSERT INTO reupload_media AS m (id, account, stored, ` + rowColumns + `)
SELECT COALESCE((SELECT o.id FROM reupload_media AS o WHERE o.message = i.message AND o.identity = i.identity), nextval('reupload_media_ids')),
	$1::bigint, $2::bigint, ` + rowColumns + `
FROM unnest($3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::boolean[], $8::bytea[], $9::text[], $10::text[],
	$11::bytea[], $12::bytea[], $13::bytea[], $14::bytea[], $15::bigint[], $16::integer[], $17::integer[], $18::boolean[]) AS i (` + rowColumns + `)` + onConflict

// putBatch is a text of its own, since drivers keep a plan for each text.
const putBatch = "/* batch */" + putArrays

func (p postgres) putSome(ctx context.Context, account, now int64, rows []row) (int, error) {
	if len(rows) <= fewRows {
		_, err := p.exec(ctx, putArrays, arrayArgs(account, now, rows)...)
		return len(rows), err
	}
	rows = rows[:min(len(rows), postgresRows)]
	args := arrayArgs(account, now, rows)
	return len(rows), retry(ctx, isConflict, func() error {
		return inTransaction(ctx, p.db, func(tx *sql.Tx) error {
			// A plan that was made for a table of a few rows reads all of it to look for one, and
			// stays in use for up to a minute while a history sync makes the table grow.
			_, err := tx.ExecContext(ctx, "SET LOCAL enable_seqscan = off")
			if err == nil {
				_, err = tx.ExecContext(ctx, putBatch, args...)
			}
			return withAdvice(err)
		})
	})
}

// deleteUpTo and deleteOldest skip rows that are locked: two processes that prune would wait for
// each other, and together with a Put, which locks in another order, in a circle.
func (p postgres) deleteUpTo(ctx context.Context, last int64) (int64, error) {
	return p.delete(ctx, "id <= $1", last, pruneBatch)
}

func (p postgres) deleteOldest(ctx context.Context, account, count int64) (int64, error) {
	return p.delete(ctx, "account = $1", account, count)
}

func (p postgres) delete(ctx context.Context, which string, args ...any) (int64, error) {
	result, err := p.exec(ctx, `
DELETE FROM reupload_media WHERE ctid = ANY (ARRAY(
	SELECT ctid FROM reupload_media WHERE `+which+` ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED))`, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

func (p postgres) exec(ctx context.Context, query string, args ...any) (result sql.Result, err error) {
	err = retry(ctx, isConflict, func() error {
		result, err = p.db.ExecContext(ctx, query, args...)
		return withAdvice(err)
	})
	return result, err
}

func (p postgres) query(ctx context.Context, scan func(*sql.Rows) error, query string, args ...any) error {
	return retry(ctx, isConflict, func() error {
		rows, err := p.db.QueryContext(ctx, query, args...)
		if err != nil {
			return withAdvice(err)
		}
		return withAdvice(scanAll(rows, scan))
	})
}

// sqlState returns PostgreSQL's code of an error, which all drivers' errors have.
func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if errors.As(err, &coded) {
		return coded.SQLState()
	}
	return ""
}

// isConflict reports whether a transaction has failed because of another one, as it can when the
// database serializes them, and may succeed when it is tried again.
func isConflict(err error) bool {
	state := sqlState(err)
	return state == "40001" || state == "40P01" // serialization failure, deadlock
}

// withAdvice says what to do about an error that poolers cause.
func withAdvice(err error) error {
	switch sqlState(err) {
	case "26000", "42P05", "08P01": // no such prepared statement, there is one already, another one was prepared
		return fmt.Errorf("%w (if a pooler in transaction mode is in between, which mixes up prepared statements, add "+
			"default_query_exec_mode=simple_protocol to the connection string of pgx, or binary_parameters=yes to that of lib/pq)", err)
	}
	return err
}

func arrayArgs(account, now int64, rows []row) []any {
	return []any{
		account, now,
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.message, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.identity, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.file, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, r.seconds, 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendBool(b, r.fromMe) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.messageID) }),
		array(rows, func(b []byte, r *row) []byte { return appendJID(b, r.chat) }),
		array(rows, func(b []byte, r *row) []byte { return appendJID(b, r.participant) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.mediaKey) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.fileHash) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.cameWith) }),
		array(rows, func(b []byte, r *row) []byte { return appendBytes(b, r.path) }),
		array(rows, func(b []byte, r *row) []byte { return appendTime(b, r.asked) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, int64(r.outcome), 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendInt(b, int64(r.failures), 10) }),
		array(rows, func(b []byte, r *row) []byte { return strconv.AppendBool(b, r.isStatus) }),
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

// appendBytes writes bytes as \x and hexadecimal digits, where an array needs two backslashes for
// one.
func appendBytes(b, value []byte) []byte {
	if value == nil {
		return append(b, "NULL"...)
	}
	return append(hex.AppendEncode(append(b, `"\\x`...), value), '"')
}

func appendTime(b []byte, unix sql.NullInt64) []byte {
	if !unix.Valid {
		return append(b, "NULL"...)
	}
	return strconv.AppendInt(b, unix.Int64, 10)
}

// appendJID writes what formatJID has written, which has no quotes and no backslashes in it.
func appendJID(b []byte, jid string) []byte {
	return append(append(append(b, '"'), jid...), '"')
}
