package main

import (
	"context"
	"time"
)

const (
	// sweepEvery is how often old messages are looked for.
	sweepEvery = time.Hour
	// sweepAtOnce is how many are deleted in one statement, so that none locks the table for long.
	sweepAtOnce = 1000
)

// sweepRegularly deletes what is older than the gateway keeps, until it ends.
func (g *gateway) sweepRegularly() {
	ticker := time.NewTicker(sweepEvery)
	defer ticker.Stop()
	for {
		if n, err := g.sweep(g.running); err != nil && g.running.Err() == nil {
			g.log.Error("Old messages were not deleted; it is tried again", "error", err)
		} else if n > 0 {
			g.log.Info("Deleted old messages", "count", n)
		}
		select {
		case <-ticker.C:
		case <-g.running.Done():
			return
		}
	}
}

// sweep deletes all messages that are too old, and their files in the cache.
func (g *gateway) sweep(ctx context.Context) (n int, err error) {
	g.cache.forgetOld(time.Now().Add(-g.cfg.keep))
	for {
		gone, more, err := g.messages.deleteOld(ctx, time.Now().Add(-g.cfg.keep), sweepAtOnce)
		for _, m := range gone {
			g.cache.forget(m)
		}
		n += len(gone)
		if err != nil || !more {
			return n, err
		}
	}
}

// isKept reports whether a message that was sent then is to be stored at all.
func (cfg *config) isKept(sent time.Time) bool {
	return cfg.keep <= 0 || time.Since(sent) < cfg.keep
}

// deleteOld deletes messages that were sent before a time, as many as the limit allows, and returns
// their media. There are more if it has reached the limit.
func (t *messages) deleteOld(ctx context.Context, before time.Time, limit int) (gone []media, more bool, err error) {
	rows, err := t.db.QueryContext(ctx, `
DELETE FROM gateway_message WHERE (account, chat, id) IN (
	SELECT account, chat, id FROM gateway_message WHERE sent < $1 ORDER BY sent LIMIT $2
) RETURNING media`, before, limit)
	if err != nil {
		return nil, false, err
	}
	defer rows.Close()
	count := 0
	for ; rows.Next(); count++ {
		var row []byte
		if err = rows.Scan(&row); err != nil {
			return gone, false, err
		}
		if m, err := unpack(row); err == nil {
			gone = append(gone, m)
		}
	}
	return gone, count == limit, rows.Err()
}
