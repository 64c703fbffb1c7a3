package sqlindex

import (
	"cmp"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/whatsmeow-plugins/reupload"
)

// A row is an entry as it is stored. Text that strangers choose is stored as bytes, since
// PostgreSQL's text type takes only UTF-8 without NUL, and one bad message must not keep out a
// whole batch.
type row struct {
	key
	file              int64 // hash of account and file, or 0 where there is no file
	seconds           int64 // unix, or unknownTime
	fromMe            bool
	messageID         []byte
	chat, participant string
	mediaKey          []byte
	fileHash          []byte        // nil: only the message is known
	cameWith, path    []byte        // empty: none
	asked             sql.NullInt64 // unix; not valid: never
	outcome, failures int
	isStatus          bool
}

// A key is what rows are told apart by: 64 bits of a hash of account and message id, and 64 of all
// else that makes an entry's identity. That two keys are the same by chance does not happen with
// 128 bits, nor can anyone make it happen.
type key struct{ message, identity int64 }

// hash turns a message id or a file's hash into the number that it is looked up by. The account is
// hashed too, so that the indexes need no column for it. A file's own hash would not do, since the
// sender of a file can choose bits of it.
func hash(account int64, value []byte) int64 {
	return sum(append(binary.BigEndian.AppendUint64(make([]byte, 0, 64), uint64(account)), value...))
}

// hashIdentity returns the hash of what else an entry is told apart by. No two entries write the
// same: there is no NUL in a JID as it is stored, and what follows the JIDs has one length, or
// another without a file.
func (r *row) hashIdentity() int64 {
	text := append(make([]byte, 0, 256), r.chat...)
	text = append(append(text, 0), r.participant...)
	text = strconv.AppendBool(append(text, 0), r.fromMe)
	return sum(append(append(append(text, 0), r.mediaKey...), r.fileHash...))
}

func sum(text []byte) int64 {
	sum := sha256.Sum256(text)
	return int64(binary.BigEndian.Uint64(sum[:]))
}

const mediaKeySize, fileHashSize = 32, 32

// Limits that the plugin keeps, too.
const maxMessageID, maxJID, maxPath = 128, 128, 2 << 10

// maxSkew is how far ahead, in seconds, the time of a request can be. One that is farther was noted
// by a wrong clock, and counts as none.
const maxSkew = 60 * 60

var noBytes = []byte{} // nil would be NULL

// makeRows returns the rows for entries, one for each key and ordered by it. All processes lock
// rows in this order, so that they never wait for each other in a circle.
func makeRows(account, now int64, entries []reupload.Entry) ([]row, error) {
	rows := make([]row, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		// The database checks this as well, but its error would have the row in it.
		switch {
		case len(e.MediaKey) != mediaKeySize:
			return nil, fmt.Errorf("the media key of entry %d has %d bytes, want %d", i, len(e.MediaKey), mediaKeySize)
		case len(e.FileEncSHA256) != 0 && len(e.FileEncSHA256) != fileHashSize:
			return nil, fmt.Errorf("the file hash of entry %d has %d bytes, want %d or none", i, len(e.FileEncSHA256), fileHashSize)
		case len(e.MessageID) > maxMessageID, len(e.DirectPath) > maxPath, len(e.CameWith) > maxPath,
			len(e.Chat.User)+len(e.Chat.Server) > maxJID, len(e.Participant.User)+len(e.Participant.Server) > maxJID:
			return nil, fmt.Errorf("the message id, a JID or a path of entry %d is too long", i)
		}
		r := row{
			key:         key{message: hash(account, []byte(e.MessageID))},
			seconds:     e.Timestamp.Unix(),
			fromMe:      e.IsFromMe,
			messageID:   append(noBytes, e.MessageID...),
			chat:        formatJID(e.Chat),
			participant: formatJID(e.Participant),
			mediaKey:    e.MediaKey,
			cameWith:    append(noBytes, e.CameWith...),
			path:        append(noBytes, e.DirectPath...),
			isStatus:    e.IsStatus,
		}
		if asked := e.Asked.At.Unix(); asked != unknownTime && asked <= now+maxSkew {
			r.asked, r.outcome, r.failures = sql.NullInt64{Int64: asked, Valid: true}, int(e.Asked.Outcome), e.Asked.Failures
		}
		if len(e.FileEncSHA256) != 0 {
			r.file, r.fileHash = hash(account, e.FileEncSHA256), e.FileEncSHA256
		}
		r.identity = r.hashIdentity()
		rows = append(rows, r)
	}
	return merge(rows), nil
}

// merge orders rows by key and makes one of those with the same key, as if they were put in one
// after the other. (PostgreSQL refuses to change a row twice in one statement.)
func merge(rows []row) []row {
	if len(rows) < 2 {
		return rows
	}
	order := make([]int, len(rows)) // rows are too large to be moved about
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int {
		a, b := &rows[i], &rows[j]
		return cmp.Or(cmp.Compare(a.message, b.message), cmp.Compare(a.identity, b.identity), cmp.Compare(i, j))
	})
	merged := make([]row, 0, len(rows))
	for _, i := range order {
		if n := len(merged); n > 0 && merged[n-1].key == rows[i].key {
			merged[n-1].merge(&rows[i])
		} else {
			merged = append(merged, rows[i])
		}
	}
	return merged
}

// merge does what the database does with a row that is there already.
func (r *row) merge(with *row) {
	if r.seconds == unknownTime {
		r.seconds, r.isStatus = with.seconds, with.isStatus
	}
	if len(r.cameWith) == 0 {
		r.cameWith = with.cameWith
	}
	if len(with.path) > 0 {
		r.path = with.path
	}
	if with.asked.Valid && (!r.asked.Valid || with.asked.Int64 >= r.asked.Int64) {
		r.asked, r.outcome, r.failures = with.asked, with.outcome, with.failures
	}
}

// unknownTime is the time of a message of which it is not known. The statements have it too.
var unknownTime = time.Time{}.Unix()

func (r *row) entry() (reupload.Entry, error) {
	chat, err := parseJID(r.chat)
	if err != nil {
		return reupload.Entry{}, fmt.Errorf("the chat in a row: %w", err)
	}
	participant, err := parseJID(r.participant)
	if err != nil {
		return reupload.Entry{}, fmt.Errorf("the participant in a row: %w", err)
	}
	e := reupload.Entry{
		Request: reupload.Request{
			MessageID:   string(r.messageID),
			Chat:        chat,
			MediaKey:    r.mediaKey,
			IsFromMe:    r.fromMe,
			Participant: participant,
		},
		FileEncSHA256: r.fileHash,
		CameWith:      string(r.cameWith),
		IsStatus:      r.isStatus,
		DirectPath:    string(r.path),
	}
	if r.seconds != unknownTime {
		e.Timestamp = time.Unix(r.seconds, 0)
	}
	if r.asked.Valid {
		e.Asked = reupload.Asked{At: time.Unix(r.asked.Int64, 0), Outcome: reupload.Outcome(r.outcome), Failures: r.failures}
	}
	return e, nil
}
