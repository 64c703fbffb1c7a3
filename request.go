package reupload

import (
	"bytes"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// A Request names the message whose media the phone is asked to upload again.
type Request struct {
	MessageID types.MessageID
	Chat      types.JID // the chat that the message is in; a device part is ignored
	MediaKey  []byte    // 32 bytes
	IsFromMe  bool      // whether this account sent the message
	// Participant is the sender in groups, broadcast lists and status, and empty in one-to-one chats. It may be empty for
	// the account's own messages. A device part is ignored.
	Participant types.JID
}

// NewRequest describes the request for a file of a message, as the protocol wants it: the participant is there for groups,
// broadcast lists and status, whatever info.IsGroup says (whatsmeow's ParseWebMessage sets it for groups alone).
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

// hasParticipant tells whether messages of a chat are told apart by their sender. (WAWebSendReceiptJobCommon sends the
// participant for group and broadcast chats, status@broadcast among them, and never for one-to-one chats.)
func hasParticipant(chat types.JID) bool {
	return chat.Server == types.GroupServer || chat.Server == types.BroadcastServer
}

// normalize checks a request and returns it as it goes on the wire, without device parts and with a copy of the media key.
// The error wraps ErrInvalidRequest or is ErrNewsletter.
func (r Request) normalize() (Request, error) {
	r.Chat, r.Participant = r.Chat.ToNonAD(), r.Participant.ToNonAD()
	for _, jid := range [...]*types.JID{&r.Chat, &r.Participant} {
		if jid.Server == types.LegacyUserServer { // the name that backups and WhatsApp Web's store use
			jid.Server = types.DefaultUserServer
		}
	}
	switch {
	case r.Chat.Server == types.NewsletterServer:
		return r, ErrNewsletter
	case r.MessageID == "":
		return r, fmt.Errorf("%w: MessageID is empty", ErrInvalidRequest)
	case r.Chat.IsEmpty() || r.Chat.User == "":
		return r, fmt.Errorf("%w: Chat %q does not name a chat", ErrInvalidRequest, r.Chat)
	case len(r.MediaKey) != mediaKeySize:
		return r, fmt.Errorf("%w: MediaKey has %d bytes, want %d", ErrInvalidRequest, len(r.MediaKey), mediaKeySize)
	case !hasParticipant(r.Chat):
		r.Participant = types.EmptyJID
	case !r.IsFromMe && r.Participant.User == "":
		return r, fmt.Errorf("%w: Participant is empty, but chat %s needs the sender of message %s", ErrInvalidRequest, r.Chat, r.MessageID)
	}
	r.MediaKey = bytes.Clone(r.MediaKey)
	return r, nil
}

// Status is the outcome that a phone reports, with the protocol's own numbers (MediaRetryNotification.ResultType).
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
	Status Status
	// DirectPath is where the file is now, with its query. It is set on success, and can be set on other answers too: such
	// a path is worth a try. It is always an absolute path that stays on WhatsApp's media host.
	DirectPath    string
	MessageSecret []byte

	cause error // why Status is StatusDecryptionError, when that was found here
}

// Err returns nil on success, and else ErrNotFound, ErrDecryption (perhaps wrapping its cause) or ErrGeneral.
func (r Result) Err() error {
	switch r.Status {
	case StatusSuccess:
		return nil
	case StatusNotFound:
		return ErrNotFound
	case StatusDecryptionError:
		if r.cause != nil {
			return fmt.Errorf("%w: %w", ErrDecryption, r.cause)
		}
		return ErrDecryption
	}
	return ErrGeneral
}

// A Reupload is a new path that the phone has told, as Options.OnReupload gets it.
type Reupload struct {
	Request Request
	Result  Result // DirectPath is set
	// FileEncSHA256 is the SHA-256 of the encrypted file, 32 bytes, or nil if it is not known.
	FileEncSHA256 []byte
	// Late tells that nobody was waiting any more.
	Late bool
	At   time.Time
}
