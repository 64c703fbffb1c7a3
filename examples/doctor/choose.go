package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A row is a file of the index that the phone may be asked for.
type row struct {
	id   types.MessageID
	kind string
	sent time.Time
	// unreadable tells that the phone and the bot have not understood each other about the file.
	unreadable bool
}

const (
	// rowsRead is how many of the newest files of the index are looked through.
	rowsRead = 50_000
	// expiresAfter is how old a file is that has probably expired on the CDN, and phoneForgets how
	// old one is that the phone may have lost. Files between the two come first.
	expiresAfter = 20 * 24 * time.Hour
	phoneForgets = 200 * 24 * time.Hour
	// statusLife is how long a status is there for certain.
	statusLife = 25 * time.Hour
)

// order is the order in which the kinds have their turns: of those that are rare one file will do.
var order = []string{
	wabox.KindDirect, wabox.KindGroup, wabox.KindHistory, wabox.KindList, wabox.KindGroupStatus,
}

// How the requests of the bot have ended, as the index has it. Of the others the phone has lost the
// file, or was silent, and is not asked again.
const (
	outcomeFound      = 1
	outcomeDecryption = 3
)

// choose returns the files that the phone may be asked for, the likeliest to teach something first.
// The index itself is looked through, which has no method to list what is in it.
func choose(ctx context.Context, a *account, known func(types.MessageID) bool) ([]row, error) {
	own, _ := a.own()
	rows, err := a.db.QueryContext(ctx, `SELECT m.message_id, m.chat, m.seconds, m.from_me, m.is_status, m.outcome FROM reupload_media m
		JOIN reupload_account a ON a.id = m.account
		WHERE a.jid = ? AND m.file_hash IS NOT NULL AND m.seconds > 0
		AND (m.asked IS NULL OR m.outcome IN (?, ?)) ORDER BY m.id DESC LIMIT ?`, own.String(), outcomeFound, outcomeDecryption, rowsRead)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	byKind := make(map[string][]row)
	for rows.Next() {
		var id []byte
		var chat string
		var seconds, outcome int64
		var fromMe, isStatus bool
		if err = rows.Scan(&id, &chat, &seconds, &fromMe, &isStatus, &outcome); err != nil {
			return nil, err
		}
		r := row{id: string(id), sent: time.Unix(seconds, 0), unreadable: outcome == outcomeDecryption}
		if r.kind = kindOf(chat, fromMe, isStatus); r.kind == "" || known(r.id) {
			continue
		}
		if r.kind == wabox.KindGroupStatus && time.Since(r.sent) < statusLife {
			continue
		}
		byKind[r.kind] = append(byKind[r.kind], r)
	}
	if err = rows.Err(); err != nil {
		return nil, err
	}
	for kind := range byKind {
		slices.SortStableFunc(byKind[kind], func(a, b row) int {
			return cmp.Or(cmp.Compare(b.rank(), a.rank()), b.sent.Compare(a.sent))
		})
	}
	return inTurn(byKind), nil
}

// rank says how much is to be learnt of a file.
func (r row) rank() int {
	age := time.Since(r.sent)
	switch {
	case r.unreadable:
		return 2
	case age > expiresAfter && age < phoneForgets:
		return 1
	}
	return 0
}

// inTurn takes one file of each kind, and then direct chats and groups in turn.
func inTurn(byKind map[string][]row) (rows []row) {
	take := func(kind string) {
		if of := byKind[kind]; len(of) > 0 {
			rows, byKind[kind] = append(rows, of[0]), of[1:]
		}
	}
	for _, kind := range order {
		take(kind)
	}
	for len(byKind[wabox.KindDirect])+len(byKind[wabox.KindGroup]) > 0 {
		take(wabox.KindDirect)
		take(wabox.KindGroup)
	}
	for _, kind := range order { // when there is nothing else
		rows = append(rows, byKind[kind]...)
	}
	return rows
}

// kindOf returns the kind of a file, or "" if it is none that is asked for: newsletters have no
// phone that could answer, and a status is gone after a day.
func kindOf(chat string, fromMe, isStatus bool) string {
	jid, err := types.ParseJID(chat)
	switch {
	case err != nil:
		return ""
	case jid == historyChat:
		return wabox.KindHistory
	case jid.Server == types.GroupServer && isStatus:
		return wabox.KindGroupStatus
	case jid.Server == types.GroupServer:
		return wabox.KindGroup
	case jid.IsBroadcastList() && !fromMe: // which status@broadcast is not
		return wabox.KindList
	case nameOf(jid) != "":
		return wabox.KindDirect
	}
	return ""
}

// historyChat is the chat in which the index has parts of the history.
var historyChat = types.JID{User: "part", Server: "history"}

// fileOf returns the file of a row, and its key. It is nil if the index has no such file any more.
func fileOf(ctx context.Context, a *account, r row) (*file, []byte) {
	entries, err := entriesOf(ctx, a, r.id)
	if err != nil {
		return nil, nil
	}
	for _, e := range entries {
		if kindOf(e.Chat.String(), e.IsFromMe, e.IsStatus) != r.kind || len(e.FileEncSHA256) == 0 || e.Timestamp.IsZero() {
			continue
		}
		f := &file{
			ID: e.MessageID, Kind: r.kind, Chat: e.Chat, Sender: e.Participant, FromMe: e.IsFromMe,
			Hash: e.FileEncSHA256, Sent: e.Timestamp, Path: e.CameWith,
		}
		if f.Sender.IsEmpty() && f.FromMe {
			f.Sender, _ = a.own()
		}
		f.ByLID = nameOf(f.Sender) == wabox.ByLID || f.Kind == wabox.KindDirect && nameOf(f.Chat) == wabox.ByLID
		return f, e.MediaKey
	}
	return nil, nil
}

func entriesOf(ctx context.Context, a *account, id types.MessageID) ([]reupload.Entry, error) {
	own, _ := a.own()
	return a.index.ByMessage(ctx, own, id)
}

// keyOf returns the key of a file of an earlier run, or nil.
func keyOf(ctx context.Context, a *account, f *file) []byte {
	entries, _ := entriesOf(ctx, a, f.ID)
	for _, e := range entries {
		if string(e.FileEncSHA256) == string(f.Hash) && e.Chat == f.Chat {
			return e.MediaKey
		}
	}
	return nil
}
