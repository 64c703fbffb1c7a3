package sqlindex

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// A row is an entry as it is stored. Text that others have chosen is stored as bytes, since PostgreSQL's own text takes no NUL
// and nothing that is not UTF-8, and one such message must not keep a whole batch out.
type row struct {
	key
	file              int64 // the hash of the file, or 0 where there is none
	seconds           int64 // unix, or unknownTime
	asked             int64 // the same
	outcome, vain     int
	fromMe            bool
	messageID         []byte
	chat, participant string
	mediaKey          []byte
	fileHash          []byte // nil: only the message is known
	path              []byte // empty: none
}

// A key is what rows are told apart by: 64 bits for account and message id, and 64 for all that an entry is identified by. That two
// keys are the same by chance does not happen with 128 bits, nor can anyone make it happen.
type key struct{ message, identity int64 }

// hash turns a message id or a file's hash into the number that it is looked up by. The account is hashed too, so that the
// indexes need no column for it. A file's own hash would not do, since who sends a file can choose bits of it.
func hash(account int64, value []byte) int64 {
	input := binary.BigEndian.AppendUint64(make([]byte, 0, 64), uint64(account))
	sum := sha256.Sum256(append(input, value...))
	return int64(binary.BigEndian.Uint64(sum[:]))
}

// identity turns all that an entry is identified by into one number. Each part comes with its length, so that none can reach into
// the next one.
func identity(account int64, e *reupload.Entry) int64 {
	var parts []byte
	for _, part := range [...]string{e.MessageID, formatJID(e.Chat), formatJID(e.Participant), strconv.FormatBool(e.IsFromMe), string(e.MediaKey), string(e.FileEncSHA256)} {
		parts = binary.BigEndian.AppendUint32(parts, uint32(len(part)))
		parts = append(parts, part...)
	}
	return hash(account, parts)
}

const mediaKeySize, fileHashSize = 32, 32

// What the plugin keeps out as well.
const maxMessageID, maxJID, maxPath = 128, 128, 2 << 10

var noBytes = []byte{} // nil would be NULL

// makeRows returns the rows for entries, one for each key and ordered by it. All processes lock rows in this order, so that they
// never wait for each other in a circle.
func makeRows(account int64, entries []reupload.Entry) ([]row, error) {
	rows := make([]row, 0, len(entries))
	for i := range entries {
		e := &entries[i]
		// The database checks this as well, but its error would have the row in it.
		switch {
		case len(e.MediaKey) != mediaKeySize:
			return nil, fmt.Errorf("the media key of entry %d has %d bytes, want %d", i, len(e.MediaKey), mediaKeySize)
		case len(e.FileEncSHA256) != 0 && len(e.FileEncSHA256) != fileHashSize:
			return nil, fmt.Errorf("the file hash of entry %d has %d bytes, want %d or none", i, len(e.FileEncSHA256), fileHashSize)
		case len(e.MessageID) > maxMessageID, len(e.DirectPath) > maxPath,
			len(e.Chat.User)+len(e.Chat.Server) > maxJID, len(e.Participant.User)+len(e.Participant.Server) > maxJID:
			return nil, fmt.Errorf("the message id, a JID or the path of entry %d is too long", i)
		}
		r := row{
			key:         key{hash(account, []byte(e.MessageID)), identity(account, e)},
			seconds:     e.Timestamp.Unix(),
			asked:       e.Asked.At.Unix(),
			outcome:     int(e.Asked.Outcome),
			vain:        e.Asked.Vain,
			fromMe:      e.IsFromMe,
			messageID:   append(noBytes, e.MessageID...),
			chat:        formatJID(e.Chat),
			participant: formatJID(e.Participant),
			mediaKey:    e.MediaKey,
			path:        append(noBytes, e.DirectPath...),
		}
		if len(e.FileEncSHA256) != 0 {
			r.file, r.fileHash = hash(account, e.FileEncSHA256), e.FileEncSHA256
		}
		rows = append(rows, r)
	}
	return merge(rows), nil
}

// merge orders rows by key and makes one of those with the same key, as if they were put in one after the other. (PostgreSQL
// refuses to change a row twice in one statement.)
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
		r.seconds = with.seconds
	}
	if len(with.path) > 0 {
		r.path = with.path
	}
	if with.asked != unknownTime && with.asked >= r.asked {
		r.asked, r.outcome, r.vain = with.asked, with.outcome, with.vain
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
		DirectPath:    string(r.path),
	}
	if r.seconds != unknownTime {
		e.Timestamp = time.Unix(r.seconds, 0)
	}
	if r.asked != unknownTime {
		e.Asked = reupload.Asked{At: time.Unix(r.asked, 0), Outcome: reupload.Outcome(r.outcome), Vain: r.vain}
	}
	return e, nil
}

// formatJID writes a JID so that parseJID returns the very same one, whatever is in it. For most it is what their String
// returns. JID.String itself does not do: it leaves the integrator out, and others can put any characters into a JID.
func formatJID(jid types.JID) string {
	if jid == types.EmptyJID {
		return ""
	}
	text := url.QueryEscape(jid.User) + "@" + url.QueryEscape(jid.Server)
	if jid.RawAgent != 0 || jid.Device != 0 || jid.Integrator != 0 {
		text += fmt.Sprintf("@%d.%d.%d", jid.RawAgent, jid.Device, jid.Integrator)
	}
	return text
}

var errInvalidJID = errors.New("invalid JID")

func parseJID(text string) (jid types.JID, err error) {
	if text == "" {
		return types.EmptyJID, nil
	}
	parts := strings.Split(text, "@")
	if len(parts) != 2 && len(parts) != 3 {
		return types.EmptyJID, errInvalidJID
	}
	if jid.User, err = url.QueryUnescape(parts[0]); err != nil {
		return types.EmptyJID, errInvalidJID
	}
	if jid.Server, err = url.QueryUnescape(parts[1]); err != nil {
		return types.EmptyJID, errInvalidJID
	}
	if len(parts) == 3 {
		numbers := strings.Split(parts[2], ".")
		if len(numbers) != 3 {
			return types.EmptyJID, errInvalidJID
		}
		agent, err1 := strconv.ParseUint(numbers[0], 10, 8)
		device, err2 := strconv.ParseUint(numbers[1], 10, 16)
		integrator, err3 := strconv.ParseUint(numbers[2], 10, 16)
		if errors.Join(err1, err2, err3) != nil {
			return types.EmptyJID, errInvalidJID
		}
		jid.RawAgent, jid.Device, jid.Integrator = uint8(agent), uint16(device), uint16(integrator)
	}
	return jid, nil
}
