package simulation

import (
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// newMessage notes a message with a file that it describes as media does.
func (w *World) newMessage(c *chat, in wabox.Incoming, media *wabox.Media, kind fileKind, f *file, junk string) *message {
	m := &message{
		n: int(w.messageCount.Add(1)), id: in.ID, chat: c, from: in.From, own: in.FromMe, at: in.Timestamp, media: media, kind: kind,
		file: f, junk: junk,
	}
	if m.id == "" {
		m.id = fmt.Sprintf("3EB0%016X", m.n)
	}
	if m.at.IsZero() {
		m.at = time.Now()
	}
	m.oddNames = c.kind == hosted || c.kind == hostedLID || c.kind == assistant || c.kind == legacy
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byID[m.id] = append(w.byID[m.id], m)
	return m
}

// deliver sends a message to the bots of its chat.
func (w *World) deliver(t *Throw, m *message, in wabox.Incoming, msg *waE2E.Message, to ...*bot) {
	in.ID, in.Timestamp = m.id, m.at
	if t.Chance(0.03) && w.may(netBroken) != "" {
		in.Broken = 1
		w.count(netBroken)
	}
	for _, b := range to {
		w.deliverTo(b, m.chat, in, msg)
	}
}

func (w *World) deliverTo(b *bot, c *chat, in wabox.Incoming, msg *waE2E.Message) {
	w.mu.Lock()
	since := time.Now()
	if in.Broken > 0 {
		since = time.Time{}
	}
	b.wanted[letter{in.ID, c.jid}] = since
	w.mu.Unlock()
	if plain := in.From.Server; plain == types.HostedServer || plain == types.HostedLIDServer {
		known := in
		known.From = types.NewJID(in.From.User, types.DefaultUserServer)
		if plain == types.HostedLIDServer {
			known.From.Server = types.HiddenUserServer
		}
		b.account.KnowsMessage(known, msg)
	}
	if _, err := b.account.Deliver(in, msg); err != nil {
		w.violate(Violation{Rule: "messages", What: "the box does not deliver", Err: err})
	}
}

// newsMedia returns a file as newsletters have it.
func (w *World) newsMedia(f *file) *wabox.Media {
	m := w.box.UploadPlain(f.media.Plaintext, mediaTypes[f.kind])
	w.mu.Lock()
	defer w.mu.Unlock()
	u := w.keep(f, m.DirectPath, false)
	u.fault = ""
	return m
}

// withPath returns media with another path.
func withPath(m *wabox.Media, path string) *wabox.Media {
	other := *m
	other.DirectPath = path
	return &other
}

// withKey returns media with another media key.
func withKey(m *wabox.Media, key []byte) *wabox.Media {
	other := *m
	other.MediaKey = key
	return &other
}

// editOf returns an edit of a message.
func editOf(m *message, new *waE2E.Message) *waE2E.Message {
	key := m.key()
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(), Key: key, EditedMessage: new, TimestampMS: proto.Int64(time.Now().UnixMilli()),
	}}
}

// quoteOf returns a text that quotes a message, under some sender.
func quoteOf(id types.MessageID, sender types.JID, quoted *waE2E.Message) *waE2E.Message {
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: proto.String("look"), ContextInfo: &waE2E.ContextInfo{
			StanzaID: proto.String(id), Participant: proto.String(sender.String()), QuotedMessage: quoted,
		},
	}}
}

var _ whatsmeow.DownloadableMessage = repathed{}
