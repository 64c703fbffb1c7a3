package main

import (
	"context"
	"database/sql"
	"errors"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// What a phone sends by itself, when a device is linked, ends at some age or size that the phone
// decides. Of chats of which it says that it has more, it can be asked for older messages: for 50
// at a time, those before one that is known. It answers with a part of the history, or not at all:
// it has to be online, WhatsApp has to run on it, and many requests in a row are not answered. So
// they are few and slow, and a chat that was not answered is left to the next run.
const (
	olderCount   = 50               // messages for a request; what whatsmeow recommends
	olderPause   = 5                // times the pace, between two requests
	olderTimeout = 60 * time.Second // for the answer
)

// An elder asks for older history.
type elder struct {
	account *account
	catalog *catalog
	history *history
	wanted  filter
	plan    plan
	quiet   time.Duration // of the history, before it is asked for more
	timeout time.Duration
	log     waLog.Logger

	idle atomic.Bool // there is nothing to ask for now
}

// run asks for one chat after the other, until the context ends.
func (e *elder) run(ctx context.Context) {
	silent := make(map[string]bool) // chats that were not answered in this run
	for ctx.Err() == nil {
		if !e.history.isQuiet(e.quiet) || !e.mayAsk(ctx) {
			e.rest(ctx, pollPause)
			continue
		}
		oldest, err := e.catalog.oldest(ctx, e.wanted, silent)
		if err != nil || oldest == nil {
			e.idle.Store(err == nil)
			e.rest(ctx, pollPause)
			continue
		}
		e.idle.Store(false)
		if !e.ask(ctx, oldest) {
			silent[oldest.Chat.String()] = true
		}
		e.rest(ctx, olderPause*e.plan.pace)
	}
}

func (e *elder) mayAsk(ctx context.Context) bool {
	now := time.Now()
	asked, err := e.catalog.askedSince(ctx, midnight(now))
	ok, _, _ := e.plan.mayAsk(now, asked)
	return err == nil && ok && e.account.client.IsLoggedIn()
}

// ask asks for what is older than a message, and reports whether there was an answer.
func (e *elder) ask(ctx context.Context, oldest *types.MessageInfo) bool {
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	changed := e.catalog.change()
	if _, err := e.account.client.SendPeerMessage(ctx, e.account.client.BuildHistorySyncRequest(oldest, olderCount)); err != nil {
		e.log.Warnf("The phone could not be asked for older messages of %s: %s", oldest.Chat, redact(err.Error()))
		return false
	}
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			e.log.Infof("The phone has not sent older messages of %s; the next run asks again", oldest.Chat)
			return false
		}
		changed = e.catalog.change()
		now, hasOlder, err := e.catalog.oldestOf(ctx, oldest.Chat)
		if err == nil && (!hasOlder || now.ID != oldest.ID) {
			return true
		}
	}
}

func (e *elder) rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// oldest returns the oldest message that is known of a chat that has older ones, or nil. Chats with
// the latest oldest message come first.
func (c *catalog) oldest(ctx context.Context, wanted filter, without map[string]bool) (*types.MessageInfo, error) {
	condition, args := "has_older AND oldest != ''", []any(nil)
	if wanted.chat != "" {
		condition, args = condition+" AND ("+chatMatches+")", append(args, wanted.chatArgs()...)
	}
	if !wanted.since.IsZero() {
		condition, args = condition+" AND oldest_sent > ?", append(args, wanted.since.Unix())
	}
	for jid := range without {
		condition, args = condition+" AND jid != ?", append(args, jid)
	}
	rows, err := c.db.QueryContext(ctx, `SELECT jid, oldest, oldest_from_me, oldest_sent FROM backfill_chats WHERE `+condition+` ORDER BY oldest_sent DESC LIMIT 1`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	if !rows.Next() {
		return nil, rows.Err()
	}
	var jid string
	var sent int64
	var info types.MessageInfo
	if err = rows.Scan(&jid, &info.ID, &info.IsFromMe, &sent); err != nil {
		return nil, err
	}
	info.Timestamp = fromUnix(sent)
	info.Chat, err = types.ParseJID(jid)
	return &info, err
}

// oldestOf returns the oldest message that is known of a chat, and whether the phone has older
// ones.
func (c *catalog) oldestOf(ctx context.Context, chat types.JID) (info types.MessageInfo, hasOlder bool, err error) {
	err = c.db.QueryRowContext(ctx, `SELECT oldest, has_older FROM backfill_chats WHERE jid = ?`, chat.String()).Scan(&info.ID, &hasOlder)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return info, hasOlder, err
}

// withOlder returns of how many chats the phone has older messages.
func (c *catalog) withOlder(ctx context.Context) (n int, err error) {
	err = c.db.QueryRowContext(ctx, `SELECT count(*) FROM backfill_chats WHERE has_older AND oldest != ''`).Scan(&n)
	return n, err
}
