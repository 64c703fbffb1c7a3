package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
)

// messages is the gateway's table of media messages: what it takes to download the media months
// later. An index is no substitute for it, as that knows files only by their hash, and not what
// type they are of or what they are called.
type messages struct{ db *sql.DB }

// A storeFunc stores a message of an account if it has media.
type storeFunc func(ctx context.Context, account string, evt *events.Message) error

// A message is a row of the table.
type message struct {
	info  types.MessageInfo // as much of it as a request to the phone needs
	media media
}

// media is the part of a message that can be downloaded.
type media interface {
	whatsmeow.DownloadableMessage
	proto.Message
	GetMimetype() string
	GetFileLength() uint64 // as its sender says
}

// createTable has the message ids of a chat once, although two members of a group can make up
// the same one. The first message stays, so that no member can replace one that came before.
const createTable = `
CREATE TABLE IF NOT EXISTS gateway_message (
	account text        NOT NULL, -- phone number
	chat    text        NOT NULL,
	id      text        NOT NULL,
	sender  text        NOT NULL,
	from_me boolean     NOT NULL,
	sent    timestamptz NOT NULL,
	media   bytea       NOT NULL, -- a protobuf Any; it has the key of the file
	PRIMARY KEY (account, chat, id)
);
CREATE INDEX IF NOT EXISTS gateway_message_sent ON gateway_message (sent)`

func newMessages(ctx context.Context, db *sql.DB) (*messages, error) {
	_, err := db.ExecContext(ctx, createTable)
	return &messages{db}, err
}

// put stores a message if it has media.
func (t *messages) put(ctx context.Context, account string, evt *events.Message) error {
	found := mediaOf(evt.Message)
	if found == nil || account == "" || !isText(evt.Info.ID) {
		return nil
	}
	packed, err := anypb.New(stripped(found)) // which says of what type it is
	if err != nil {
		return err
	}
	row, err := proto.Marshal(packed)
	if err != nil {
		return err
	}
	info := &evt.Info
	_, err = t.db.ExecContext(ctx, `
INSERT INTO gateway_message (account, chat, id, sender, from_me, sent, media) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (account, chat, id) DO NOTHING`,
		account, info.Chat.ToNonAD().String(), info.ID, info.Sender.ToNonAD().String(), info.IsFromMe, info.Timestamp, row)
	return err
}

// errUnknown means that there is no such message.
var errUnknown = errors.New("this account has no media message with this id in this chat")

// get returns a message of an account. The error can be errUnknown.
func (t *messages) get(ctx context.Context, account string, chat types.JID, id types.MessageID) (*message, error) {
	if !isText(id) || !isText(account) {
		return nil, errUnknown
	}
	m := &message{info: types.MessageInfo{ID: id, MessageSource: types.MessageSource{Chat: chat.ToNonAD()}}}
	var sender string
	var row []byte
	var sent time.Time
	err := t.db.QueryRowContext(ctx, `
SELECT sender, from_me, sent, media FROM gateway_message WHERE account = $1 AND chat = $2 AND id = $3`,
		account, m.info.Chat.String(), id).Scan(&sender, &m.info.IsFromMe, &sent, &row)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, errUnknown
	} else if err != nil {
		return nil, err
	}
	m.info.Timestamp = sent
	if m.info.Sender, err = types.ParseJID(sender); err != nil {
		return nil, fmt.Errorf("message %s: %w", id, err)
	}
	if m.media, err = unpack(row); err != nil {
		return nil, fmt.Errorf("message %s: %w", id, err)
	}
	return m, nil
}

// unpack returns the media of a row.
func unpack(row []byte) (media, error) {
	var packed anypb.Any
	if err := proto.Unmarshal(row, &packed); err != nil {
		return nil, err
	}
	unpacked, err := packed.UnmarshalNew()
	if err != nil {
		return nil, err
	}
	m, ok := unpacked.(media)
	if !ok {
		return nil, fmt.Errorf("%s is no media", packed.GetTypeUrl())
	}
	return m, nil
}

// longestID is what reupload takes. WhatsApp's own ids are much shorter.
const longestID = 128

// isText reports whether PostgreSQL can store an id. A sender can make up any bytes, and a caller.
func isText(id string) bool {
	return id != "" && len(id) <= longestID && utf8.ValidString(id) && !strings.Contains(id, "\x00")
}

// mediaOf returns the media of a message, or nil.
func mediaOf(msg *waE2E.Message) media {
	switch {
	case msg.GetImageMessage() != nil:
		return msg.GetImageMessage()
	case msg.GetVideoMessage() != nil:
		return msg.GetVideoMessage()
	case msg.GetPtvMessage() != nil: // a round video
		return msg.GetPtvMessage()
	case msg.GetAudioMessage() != nil:
		return msg.GetAudioMessage()
	case msg.GetDocumentMessage() != nil:
		return msg.GetDocumentMessage()
	case msg.GetStickerMessage() != nil:
		return msg.GetStickerMessage()
	}
	return nil
}

// stripped returns a copy of a media message without what can be large and is not needed: the
// thumbnail, and what it quotes.
func stripped(m media) proto.Message {
	smaller := proto.Clone(m)
	fields := smaller.ProtoReflect().Descriptor().Fields()
	for _, name := range []protoreflect.Name{"JPEGThumbnail", "pngThumbnail", "contextInfo"} {
		if field := fields.ByName(name); field != nil {
			smaller.ProtoReflect().Clear(field)
		}
	}
	return smaller
}
