package main

import (
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

//go:embed catalog.sql
var schema string

// A catalog is what is to be fetched, in the tables of catalog.sql. What is being worked on is
// known in memory only: after a kill it is as before.
type catalog struct {
	db *sql.DB

	mu      sync.Mutex
	taken   map[int64]*file // that somebody works on
	revived map[int64]bool  // of these, the ones whose new path has come meanwhile
	changed chan struct{}   // closed, and replaced, when there may be something to take
}

func openCatalog(ctx context.Context, db *sql.DB) (*catalog, error) {
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, err
	}
	return &catalog{db: db, taken: make(map[int64]*file), revived: make(map[int64]bool), changed: make(chan struct{})}, nil
}

// claim makes the catalog that of an account, or refuses if it is another one's.
func (c *catalog) claim(ctx context.Context, account types.JID) error {
	var owner string
	err := c.db.QueryRowContext(ctx, `SELECT number FROM backfill_account`).Scan(&owner)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = c.db.ExecContext(ctx, `INSERT INTO backfill_account (number) VALUES (?)`, account.User)
	case err == nil && owner != account.User:
		err = fmt.Errorf("the database is that of the account %s, and the phone has linked %s; name another file with -db, and another directory with -dir", owner, account.User)
	}
	return err
}

// A found is what a message or a part of the history brings.
type found struct {
	files []*file
	chats []chat
}

// A chat is what is known of one.
type chat struct {
	jid      types.JID
	number   string // empty if nothing but its address is known
	name     string
	oldest   *types.MessageInfo // the oldest message of those that came; nil for none
	hasOlder *bool              // what the phone says; nil if it says nothing
}

// add puts what was found into the catalog, in one transaction with the end of a part of the
// history, if it comes from one. It returns how many files are new.
func (c *catalog) add(ctx context.Context, f found, part types.MessageID) (added int64, err error) {
	tx, err := c.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback() }()
	for _, chat := range f.chats {
		if err = addChat(ctx, tx, chat); err != nil {
			return 0, err
		}
	}
	insert, err := tx.PrepareContext(ctx, `INSERT INTO backfill_files
		(chat, message, sender, from_me, sent, kind, media_type, mime, name, size, is_status, path, media_key, sha256, enc_sha256, state)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING`)
	if err != nil {
		return 0, err
	}
	defer insert.Close()
	for _, f := range f.files {
		r := f.request
		result, err := insert.ExecContext(ctx, r.Chat.String(), r.MessageID, r.Participant.String(), r.IsFromMe, unix(f.sent), string(f.kind),
			string(f.mediaType), f.mime, f.name, f.size, f.isStatus, f.path, r.MediaKey, f.checksum, f.encFileSHA256, f.state)
		if err != nil {
			return 0, err
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, err
		}
		added += n
	}
	if part != "" {
		if _, err = tx.ExecContext(ctx, `DELETE FROM backfill_parts WHERE message = ?`, part); err != nil {
			return 0, err
		}
	}
	if err = tx.Commit(); err != nil {
		return 0, err
	}
	c.tell()
	return added, nil
}

func addChat(ctx context.Context, tx *sql.Tx, c chat) error {
	number := c.number
	if number == "" {
		number = c.jid.User
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO backfill_chats (jid, number, name) VALUES (?, ?, ?) ON CONFLICT (jid) DO UPDATE SET
		number = CASE WHEN ? THEN excluded.number ELSE number END, name = CASE WHEN excluded.name != '' THEN excluded.name ELSE name END`,
		c.jid.String(), number, c.name, c.number != "")
	if err == nil && c.oldest != nil && c.oldest.Timestamp.Unix() > 0 {
		_, err = tx.ExecContext(ctx, `UPDATE backfill_chats SET oldest = ?, oldest_from_me = ?, oldest_sent = ?
			WHERE jid = ? AND (oldest_sent = 0 OR oldest_sent > ?)`,
			c.oldest.ID, c.oldest.IsFromMe, c.oldest.Timestamp.Unix(), c.jid.String(), c.oldest.Timestamp.Unix())
	}
	if err == nil && c.hasOlder != nil {
		_, err = tx.ExecContext(ctx, `UPDATE backfill_chats SET has_older = ? WHERE jid = ?`, *c.hasOlder, c.jid.String())
	}
	return err
}

// columns are those of a file, as scanFile reads them, followed by more.
const columns = `id, chat, message, sender, from_me, sent, kind, media_type, mime, name, size, is_status, path, media_key, sha256, enc_sha256,
	state, cause, tries, next, insists, saved`

func scanFile(rows *sql.Rows, more ...any) (*file, error) {
	var f file
	var chat, sender string
	var sent, next int64
	r := &f.request
	err := rows.Scan(append([]any{
		&f.id, &chat, &r.MessageID, &sender, &r.IsFromMe, &sent, &f.kind, &f.mediaType, &f.mime, &f.name, &f.size, &f.isStatus, &f.path,
		&r.MediaKey, &f.checksum, &f.encFileSHA256, &f.state, &f.cause, &f.tries, &next, &f.insists, &f.saved,
	}, more...)...)
	if err == nil {
		r.Chat, err = types.ParseJID(chat)
	}
	if err == nil && sender != "" {
		r.Participant, err = types.ParseJID(sender)
	}
	f.sent, f.next = fromUnix(sent), fromUnix(next)
	return &f, err
}

// take gives out up to n files that a lane is for and that are not being worked on, the newest
// first.
func (c *catalog) take(ctx context.Context, l lane, wanted filter, n int, now time.Time) ([]*file, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if l == free {
		if err := c.wakeDue(ctx, now); err != nil {
			return nil, err
		}
	}
	condition, args := wanted.where()
	condition += " AND state = ?"
	args = append(args, l.state())
	for chat, busy := range c.busy(l) {
		if busy >= perChat {
			condition += " AND chat != ?"
			args = append(args, chat)
		}
	}
	args = append(args, n+len(c.taken))
	rows, err := c.db.QueryContext(ctx, `SELECT `+columns+` FROM backfill_files WHERE `+condition+` ORDER BY sent DESC LIMIT ?`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var files []*file
	for rows.Next() && len(files) < n {
		f, err := scanFile(rows)
		if err != nil {
			return nil, err
		}
		if c.taken[f.id] == nil {
			f.takenFor = l
			c.taken[f.id] = f
			files = append(files, f)
		}
	}
	return files, rows.Err()
}

// wakeDue makes failed files new whose time has come. It writes only if there are any.
func (c *catalog) wakeDue(ctx context.Context, now time.Time) error {
	var due bool
	err := c.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM backfill_files WHERE state = ? AND next <= ?)`, stateFailed, now.Unix()).Scan(&due)
	if err == nil && due {
		_, err = c.db.ExecContext(ctx, `UPDATE backfill_files SET state = ? WHERE state = ? AND next <= ?`, stateNew, stateFailed, now.Unix())
	}
	return err
}

// perChat is how many files of one chat wait for the phone at once. The phone says nothing about a
// message that it does not have, and a chat of such messages must not take all places.
const perChat = 2

// busy returns how many files of each chat wait for the phone.
func (c *catalog) busy(l lane) map[string]int {
	chats := make(map[string]int)
	for _, f := range c.taken {
		if l == phone && f.takenFor == phone {
			chats[f.request.Chat.String()]++
		}
	}
	return chats
}

// asks notes that the phone is about to be asked for a file, before it is: a kill must not make the
// day's requests more.
func (c *catalog) asks(ctx context.Context, f *file, now time.Time) error {
	_, err := c.db.ExecContext(ctx, `UPDATE backfill_files SET asked = ? WHERE id = ?`, now.Unix(), f.id)
	return err
}

// askedSince returns for how many files the phone was asked.
func (c *catalog) askedSince(ctx context.Context, at time.Time) (n int, err error) {
	err = c.db.QueryRowContext(ctx, `SELECT count(*) FROM backfill_files WHERE asked >= ? AND asked > 0`, at.Unix()).Scan(&n)
	return n, err
}

// settle notes what has become of a file that was taken, and gives it back.
func (c *catalog) settle(ctx context.Context, f *file, v verdict) error {
	defer c.tell()
	ctx = context.WithoutCancel(ctx) // the end of a run does not undo what was done
	c.mu.Lock()
	defer c.mu.Unlock()
	defer func() { // at the end, or it could be taken again as it was
		delete(c.taken, f.id)
		delete(c.revived, f.id)
	}()
	if f.takenFor == phone && !v.asked && v.state != "" { // a try that was broken off may have asked
		if _, err := c.db.ExecContext(ctx, `UPDATE backfill_files SET asked = 0 WHERE id = ?`, f.id); err != nil {
			return err
		}
	}
	switch {
	case v.state == "":
		return nil
	case c.revived[f.id] && v.state == stateFailed:
		v.state, v.next = stateNew, time.Time{}
	}
	if v.tried {
		f.tries++
	}
	if v.state == stateExpired {
		v.cause = f.cause // for a file that -retry tries
	}
	f.state, f.cause, f.next = v.state, v.cause, v.next
	_, err := c.db.ExecContext(ctx, `UPDATE backfill_files SET state = ?, cause = ?, tries = ?, next = ?, saved = ?,
		insists = insists AND ? WHERE id = ?`, f.state, f.cause, f.tries, unix(f.next), f.saved, f.state == stateExpired, f.id)
	return err
}

// revive makes files that have failed due at once: the phone has told a new path for them, late.
func (c *catalog) revive(ctx context.Context, encFileSHA256 []byte) error {
	if len(encFileSHA256) == 0 {
		return nil
	}
	c.mu.Lock()
	for id, f := range c.taken {
		if string(f.encFileSHA256) == string(encFileSHA256) {
			c.revived[id] = true
		}
	}
	c.mu.Unlock()
	_, err := c.db.ExecContext(ctx, `UPDATE backfill_files SET state = ?, next = 0 WHERE enc_sha256 = ? AND state = ?`, stateNew, encFileSHA256, stateFailed)
	c.tell()
	return err
}

// retry makes files due that are lost, or whose time has not come.
func (c *catalog) retry(ctx context.Context, state string, wanted filter) (n int64, err error) {
	condition, args := wanted.where()
	result, err := c.db.ExecContext(ctx, `UPDATE backfill_files SET state = ?, next = 0, insists = TRUE WHERE state = ? AND `+condition,
		append([]any{stateNew, state}, args...)...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// copyOf returns the path of a file with the same content that is saved already, or "".
func (c *catalog) copyOf(ctx context.Context, f *file) (saved string, err error) {
	err = c.db.QueryRowContext(ctx, `SELECT saved FROM backfill_files WHERE sha256 = ? AND state = ? LIMIT 1`, f.checksum, stateSaved).Scan(&saved)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return saved, err
}

// folder returns the folder of a chat, and keeps it. Two addresses of one person, a number and a
// LID, share it.
func (c *catalog) folder(ctx context.Context, jid types.JID, look func(number, name string) (string, string)) (folder string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	number, name := jid.User, ""
	err = c.db.QueryRowContext(ctx, `SELECT number, name, folder FROM backfill_chats WHERE jid = ?`, jid.String()).Scan(&number, &name, &folder)
	if err != nil && !errors.Is(err, sql.ErrNoRows) || folder != "" {
		return folder, err
	}
	number, name = look(number, name)
	err = c.db.QueryRowContext(ctx, `SELECT folder FROM backfill_chats WHERE number = ? AND folder != ''`, number).Scan(&folder)
	if errors.Is(err, sql.ErrNoRows) {
		folder, err = folderOf(name, number), nil
	}
	if err == nil {
		_, err = c.db.ExecContext(ctx, `INSERT INTO backfill_chats (jid, number, name, folder) VALUES (?, ?, ?, ?)
			ON CONFLICT (jid) DO UPDATE SET number = excluded.number, name = excluded.name, folder = excluded.folder`, jid.String(), number, name, folder)
	}
	return folder, err
}

// A count is how many files there are of one state and cause, and what they are.
type count struct {
	state, cause string
	files        int
	bytes        int64
	next         time.Time // when the first of them is tried again
}

// counts counts the files that are wanted.
func (c *catalog) counts(ctx context.Context, wanted filter) (all []count, err error) {
	condition, args := wanted.where()
	rows, err := c.db.QueryContext(ctx, `SELECT state, CASE WHEN state IN ('lost', 'failed') THEN cause ELSE '' END AS why, count(*), sum(size), min(next)
		FROM backfill_files WHERE `+condition+` GROUP BY state, why ORDER BY state, why`, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var n count
		var next int64
		if err = rows.Scan(&n.state, &n.cause, &n.files, &n.bytes, &next); err != nil {
			return nil, err
		}
		n.next = fromUnix(next)
		all = append(all, n)
	}
	return all, rows.Err()
}

// isDone reports whether nothing is left to do before a time.
func (c *catalog) isDone(ctx context.Context, wanted filter, before time.Time) (done bool, err error) {
	c.mu.Lock()
	busy := len(c.taken) > 0
	c.mu.Unlock()
	if busy {
		return false, nil
	}
	condition, args := wanted.where()
	args = append(args, stateNew, stateExpired, stateFailed, before.Unix())
	err = c.db.QueryRowContext(ctx, `SELECT NOT EXISTS (SELECT 1 FROM backfill_files WHERE `+condition+` AND (state IN (?, ?) OR state = ? AND next <= ?))
		AND NOT EXISTS (SELECT 1 FROM backfill_parts)`, args...).Scan(&done)
	return done, err
}

// label is what a chat is called.
const label = `CASE WHEN folder != '' THEN folder WHEN name != '' THEN name ELSE number END`

// all calls f for each file that is wanted and what its chat is called, chat by chat and of each
// the newest first.
func (c *catalog) all(ctx context.Context, wanted filter, f func(*file, string) error) error {
	condition, args := wanted.where()
	const chatLabel = `coalesce((SELECT ` + label + ` FROM backfill_chats WHERE jid = chat), chat)`
	rows, err := c.db.QueryContext(ctx, `SELECT `+columns+`, `+chatLabel+` AS called FROM backfill_files
		WHERE `+condition+` ORDER BY called COLLATE NOCASE, called, sent DESC, id`, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var called string
		file, err := scanFile(rows, &called)
		if err == nil {
			err = f(file, called)
		}
		if err != nil {
			return err
		}
	}
	return rows.Err()
}

// tell wakes all that wait for something to take.
func (c *catalog) tell() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
}

// change returns a channel that is closed when there may be something to take.
func (c *catalog) change() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

func fromUnix(at int64) time.Time {
	if at == 0 {
		return time.Time{}
	}
	return time.Unix(at, 0)
}

// A lane is one of the two ways to fetch.
type lane int

const (
	free  lane = iota // from WhatsApp's servers and by paths that are known, which costs the phone nothing
	phone             // from the phone
)

// state returns the state of the files that a lane is for.
func (l lane) state() string {
	if l == phone {
		return stateExpired
	}
	return stateNew
}
