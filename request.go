package reupload

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// Largest sizes of input. Real message ids have 20 to 32 bytes, JIDs some 30 and direct paths some
// 200. Larger ones are refused, and never cut.
const (
	maxMessageID  = 128
	mediaKeySize  = 32 // of every WhatsApp media key
	fileHashSize  = 32 // SHA-256
	maxDirectPath = 2 << 10
)

// A Request names the message whose media the phone is asked to upload again.
type Request struct {
	MessageID types.MessageID
	Chat      types.JID // the chat that the message is in; a device part is ignored
	MediaKey  []byte    // 32 bytes
	IsFromMe  bool      // whether this account sent the message
	// Participant is the sender in groups, broadcast lists and status, and empty in one-to-one
	// chats. It may be empty for the account's own messages. A device part is ignored. It may lack
	// its server, or have a whole JID in its User, as databases store it: then it is looked for as
	// the account itself, as a number that the client knows, and among the group's members.
	Participant types.JID
	// Paths are direct paths or URLs of the file, such as a bot's table has. The first eight are
	// tried before the phone is asked. Host and scheme are ignored.
	Paths []string
}

// String names the message, and not the media key.
func (r Request) String() string {
	return fmt.Sprintf("message %q in %q from %q", r.MessageID, r.Chat, r.Participant)
}

// Format prints what String returns, whatever the verb: the media key is a secret.
func (r Request) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue implements [slog.LogValuer]: the media key is a secret.
func (r Request) LogValue() slog.Value { return slog.StringValue(r.String()) }

// NewRequest describes the request for a file of a message, as the protocol wants it: the
// participant is there for groups, broadcast lists and status, whatever info.IsGroup says
// (whatsmeow's ParseWebMessage sets it for groups alone).
func NewRequest(info *types.MessageInfo, media whatsmeow.DownloadableMessage) Request {
	var req Request
	if info != nil {
		req = requestFor(&info.MessageSource, info.ID)
	}
	if media != nil {
		req.MediaKey = media.GetMediaKey()
	}
	return req
}

func requestFor(source *types.MessageSource, id types.MessageID) Request {
	req := Request{MessageID: id, Chat: source.Chat.ToNonAD(), IsFromMe: source.IsFromMe}
	if hasParticipant(req.Chat) {
		req.Participant = source.Sender.ToNonAD()
	}
	return req
}

// hasParticipant reports whether messages of a chat are told apart by their sender.
// (WAWebSendReceiptJobCommon sends the participant for group and broadcast chats, status@broadcast
// among them, and never for one-to-one chats.)
func hasParticipant(chat types.JID) bool {
	return chat.Server == types.GroupServer || chat.Server == types.BroadcastServer
}

// normalize checks a request and returns it with canonical names, see names.go, and a copy of the
// media key. The error wraps ErrInvalidRequest or is ErrNewsletter.
func (r Request) normalize() (Request, error) {
	chat, err := canonicalChat(r.Chat)
	if err != nil {
		return r, err
	}
	r.Chat = chat
	switch {
	case r.MessageID == "":
		return r, fmt.Errorf("%w: MessageID is empty", ErrInvalidRequest)
	case len(r.MessageID) > maxMessageID:
		return r, fmt.Errorf("%w: MessageID has %d bytes, more than %d", ErrInvalidRequest, len(r.MessageID), maxMessageID)
	case len(r.MediaKey) != mediaKeySize:
		return r, fmt.Errorf("%w: MediaKey has %d bytes, want %d", ErrInvalidRequest, len(r.MediaKey), mediaKeySize)
	}
	if r.Participant, err = r.participant(); err != nil {
		return r, err
	}
	r.MediaKey = bytes.Clone(r.MediaKey)
	return r, nil
}

// participant returns the canonical sender of a message in a canonical chat. It is empty in chats
// with one person, and can be for the account's own messages.
func (r Request) participant() (types.JID, error) {
	if !hasParticipant(r.Chat) {
		return types.EmptyJID, nil
	}
	if r.Participant.User == "" && !isDigits(r.Participant.Server) {
		if !r.IsFromMe {
			return types.EmptyJID, fmt.Errorf("%w: Participant is empty, but chat %s needs the sender of message %s", ErrInvalidRequest, r.Chat, r.MessageID)
		}
		return types.EmptyJID, nil
	}
	person, err := canonicalPerson(r.Participant)
	if err != nil {
		return types.EmptyJID, err
	}
	if person.User == r.Chat.User && (person.Server == "" || r.Chat.Server == types.GroupServer) {
		return types.EmptyJID, fmt.Errorf("%w: Participant %s is the chat itself: it has to be the person that sent the message",
			ErrInvalidRequest, quoted(r.Participant))
	}
	return person, nil
}

// Status is the outcome that a phone reports, with the protocol's own numbers
// (MediaRetryNotification.ResultType).
type Status int

const (
	StatusGeneralError    Status = 0
	StatusSuccess         Status = 1
	StatusNotFound        Status = 2
	StatusDecryptionError Status = 3 // the phone's word, or: its answer could not be decrypted here
)

// String returns the protocol's name of the status.
func (s Status) String() string {
	switch s {
	case StatusGeneralError:
		return "GENERAL_ERROR"
	case StatusSuccess:
		return "SUCCESS"
	case StatusNotFound:
		return "NOT_FOUND"
	case StatusDecryptionError:
		return "DECRYPTION_ERROR"
	}
	return fmt.Sprintf("Status(%d)", int(s))
}

// A Result is any answer of the phone, good or bad.
type Result struct {
	// Status is what the phone has said, sealed or not. Decide by Err: an unsealed NOT_FOUND proves
	// nothing.
	Status Status
	// DirectPath is where the file is now, with its query. It is set on success, and can be set on
	// other answers too: such a path is worth a try. It is always an absolute path that stays on
	// WhatsApp's media host.
	DirectPath    string
	MessageSecret []byte

	cause    error // why Status is StatusDecryptionError, when that was found here
	unsealed bool  // it was not authenticated
}

// String tells the status, and not the path or the secret.
func (r Result) String() string {
	if r.DirectPath != "" {
		return r.Status.String() + " with a path"
	}
	return r.Status.String()
}

// Format prints what String returns, whatever the verb: the path is a token, and the message secret
// is a secret.
func (r Result) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue implements [slog.LogValuer].
func (r Result) LogValue() slog.Value { return slog.StringValue(r.String()) }

// Err returns nil on success, and otherwise ErrNotFound, ErrDecryption (perhaps wrapping its cause)
// or ErrGeneral. ErrNotFound takes a sealed answer of the phone: an <error code="2"> does not prove
// that the file is gone, and is ErrGeneral.
func (r Result) Err() error {
	switch r.Status {
	case StatusSuccess:
		return nil
	case StatusNotFound:
		if r.unsealed {
			return errUnsealedNotFound
		}
		return ErrNotFound
	case StatusDecryptionError:
		if r.cause != nil {
			return fmt.Errorf("%w: %w", ErrDecryption, r.cause)
		}
		return ErrDecryption
	}
	return ErrGeneral
}

var errUnsealedNotFound = fmt.Errorf("%w (it says that it does not have the file, but not sealed, which is no proof)", ErrGeneral)

// A Reupload is a new path that the phone has told, as Options.OnReupload gets it.
type Reupload struct {
	Request Request
	Result  Result // DirectPath is set
	// FileEncSHA256 is the SHA-256 of the encrypted file, 32 bytes, or nil if it is not known.
	FileEncSHA256 []byte
	// Late reports whether the answer came when no caller was waiting any more.
	Late bool
	At   time.Time
}

// String names the message, and no secrets.
func (r Reupload) String() string {
	return fmt.Sprintf("%v: %v", r.Request, r.Result)
}

// Format prints what String returns, whatever the verb.
func (r Reupload) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, r.String()) }

// LogValue implements [slog.LogValuer].
func (r Reupload) LogValue() slog.Value { return slog.StringValue(r.String()) }
