package sqlindex

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// What is kept unless [Index.SetRetention] says otherwise.
const (
	DefaultMaxAge     = 2 * 365 * 24 * time.Hour
	DefaultMaxEntries = 2_000_000
)

const (
	pruneBatch = 500 // rows in a transaction, so that nobody waits for long
	pruneEvery = 250 // rows put in until there is another batch: half as many, so that pruning always catches up
	// pruneTimeout bounds what a Put spends on it in all.
	pruneTimeout = 500 * time.Millisecond
)

type retention struct {
	maxAge     atomic.Int64 // seconds
	maxEntries atomic.Int64
	due        atomic.Int64 // rows put in that no batch has been done for yet
}

// SetRetention sets how long an entry is kept after it was first put in, to the second, and how
// many are kept of all accounts together. The oldest are forgotten first. 0 or less means no limit.
// The defaults are DefaultMaxAge and DefaultMaxEntries.
//
// All processes that share the tables should set the same: what counts is the lowest limit.
func (x *Index) SetRetention(maxAge time.Duration, maxEntries int) {
	if maxAge <= 0 {
		maxAge = math.MaxInt64
	}
	if maxEntries <= 0 {
		maxEntries = math.MaxInt
	}
	x.retention.maxAge.Store(int64(maxAge / time.Second))
	x.retention.maxEntries.Store(int64(maxEntries))
}

// Prune forgets all entries that are older or more than the limits allow, and returns how many. It
// works in short transactions, and in SQLite with pauses between them, so that others can write
// meanwhile. On an error or the end of the context n is what has been forgotten until then.
func (x *Index) Prune(ctx context.Context) (n int64, err error) {
	for {
		deleted, err := bounded(ctx, func() (int64, error) { return x.prune(ctx) })
		n += deleted
		if err != nil {
			return n, fmt.Errorf("sqlindex: failed to prune: %w", err)
		}
		if deleted == 0 {
			return n, nil
		}
	}
}

// pruneSome does the batches that are due after rows have been put in. That it fails is not for the
// Put to tell, which has succeeded; the next one tries again.
func (x *Index) pruneSome(ctx context.Context, rows int) {
	due := x.retention.due.Add(int64(rows))
	if due < pruneEvery || !x.retention.due.CompareAndSwap(due, due%pruneEvery) {
		return // or another Put does it
	}
	ctx, cancel := context.WithTimeout(ctx, pruneTimeout)
	defer cancel()
	for range due / pruneEvery {
		if n, err := x.prune(ctx); err != nil || n < pruneBatch {
			return
		}
	}
}

// Ids are given in the order of arrival and with hardly any gaps, so that the row that is
// maxEntries behind the newest is the first one too many, and nobody has to count. (Rows that
// somebody else has deleted, and on PostgreSQL those of a transaction that was rolled back, leave
// gaps, and count until the oldest row is past them.)
const expiredQuery = `
SELECT max(id) FROM (SELECT id, stored FROM reupload_media ORDER BY id LIMIT $1) AS oldest
WHERE stored < $2 OR id <= (SELECT max(id) FROM reupload_media) - $3`

// prune forgets up to pruneBatch entries, and returns how many.
func (x *Index) prune(ctx context.Context) (int64, error) {
	cutoff := time.Now().Unix() - x.retention.maxAge.Load()
	var last *int64
	err := queryRow(ctx, x.tables, &last, expiredQuery, pruneBatch, cutoff, x.retention.maxEntries.Load())
	if err != nil || last == nil {
		return 0, err
	}
	return x.tables.deleteUpTo(ctx, *last)
}
