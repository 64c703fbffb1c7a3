package sqlindex

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"time"
)

// The limits, unless [Index.SetRetention] sets others.
const (
	DefaultMaxAge     = 2 * 365 * 24 * time.Hour
	DefaultMaxEntries = 2_000_000
)

const (
	pruneBatch = 500 // rows in a transaction, so that other writers do not wait for long
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
// many are kept of all accounts together. When there are more, the account that has most of them
// loses its oldest ones, so that none loses any that has no more than an even share. 0 or less
// means no limit. The defaults are DefaultMaxAge and DefaultMaxEntries.
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

// pruneSome does the batches that are due after rows have been put in. A failure is no error of the
// Put, which has succeeded; the next one tries again.
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

// Ids are given in the order of arrival, so that the first rows are the oldest.
const (
	expiredQuery = `
SELECT max(id) FROM (SELECT id, stored FROM reupload_media ORDER BY id LIMIT $1) AS oldest WHERE stored < $2`

	// heaviestQuery finds the account that has most rows. Triggers count them.
	heaviestQuery = `
SELECT id, entries, (SELECT CAST(sum(entries) AS BIGINT) FROM reupload_account), (SELECT count(*) FROM reupload_account WHERE entries > 0)
FROM reupload_account ORDER BY entries DESC, id LIMIT 1`
)

// prune forgets up to pruneBatch entries, and returns how many.
func (x *Index) prune(ctx context.Context) (int64, error) {
	deleted, err := x.pruneOld(ctx)
	if err != nil || deleted > 0 {
		return deleted, err
	}
	return x.pruneMany(ctx)
}

func (x *Index) pruneOld(ctx context.Context) (int64, error) {
	cutoff := time.Now().Unix() - x.retention.maxAge.Load()
	var last *int64
	err := queryRow(ctx, x.tables, expiredQuery, []any{pruneBatch, cutoff}, &last)
	if err != nil || last == nil {
		return 0, err
	}
	return x.tables.deleteUpTo(ctx, *last)
}

// pruneMany takes from the account that has most rows, as far as it has more than an even share.
func (x *Index) pruneMany(ctx context.Context) (int64, error) {
	var account, entries, total, accounts int64
	err := queryRow(ctx, x.tables, heaviestQuery, nil, &account, &entries, &total, &accounts)
	limit := x.retention.maxEntries.Load()
	if err != nil || total <= limit {
		return 0, err
	}
	return x.tables.deleteOldest(ctx, account, min(total-limit, entries-limit/accounts, pruneBatch))
}
