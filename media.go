package reupload

import (
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxNesting bounds how deep media is looked for. Real messages wrap it five or six levels deep; quotes can be nested.
const maxNesting = 32

// A carrier is the message that media is found in: what a request for it must name.
type carrier struct {
	source *types.MessageSource
	id     types.MessageID
	sent   time.Time
}

// mediaOf returns an entry for each file in a message that WhatsApp can be asked for again, wherever it sits: in wrappers
// such as ephemeral or view-once messages, in the cards of an interactive message, in the message that is quoted.
//
// It walks the message by reflection, so that a type that a later whatsmeow learns to download is found as well.
func mediaOf(c carrier, msg *waE2E.Message, isOwn func(types.JID) bool) []Entry {
	if msg == nil {
		return nil
	}
	w := walker{isOwn: isOwn}
	w.walk(c, msg.ProtoReflect(), 0)
	return w.found
}

type walker struct {
	isOwn func(types.JID) bool
	found []Entry
}

func (w *walker) walk(c carrier, m protoreflect.Message, depth int) {
	if depth > maxNesting {
		return
	}
	switch v := m.Interface().(type) {
	case *waE2E.ContextInfo:
		if v.GetQuotedMessage() != nil {
			w.walk(w.quoted(c, v), v.GetQuotedMessage().ProtoReflect(), depth+1)
		}
		return
	case *waE2E.ProtocolMessage:
		// An edit belongs to the message that it edits. Everything else in here (history-sync blobs, app state, data for
		// other devices) is no message's media and cannot be asked for.
		if v.GetEditedMessage() != nil && v.GetKey().GetID() != "" {
			c.id = v.GetKey().GetID()
			w.walk(c, v.GetEditedMessage().ProtoReflect(), depth+1)
		}
		return
	case whatsmeow.DownloadableMessage:
		w.add(c, v)
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				w.walk(c, value.List().Get(i).Message(), depth+1)
			}
		default:
			w.walk(c, value.Message(), depth+1)
		}
		return true
	})
}

func (w *walker) add(c carrier, media whatsmeow.DownloadableMessage) {
	if !canReupload(whatsmeow.GetMediaType(media)) || len(media.GetFileEncSHA256()) != 32 {
		return
	}
	req := requestFor(c.source, c.id)
	req.MediaKey = media.GetMediaKey()
	req, err := req.normalize()
	if err != nil {
		return // newsletter media, or a message that could not be asked for anyway
	}
	w.found = append(w.found, Entry{Request: req, FileEncSHA256: media.GetFileEncSHA256(), Timestamp: c.sent})
}

// quoted returns the carrier of a quoted message: it has its own id, chat and sender, and is from this account if its
// sender is. When it was sent is not known.
func (w *walker) quoted(by carrier, info *waE2E.ContextInfo) carrier {
	source := types.MessageSource{Chat: by.source.Chat}
	if chat, err := types.ParseJID(info.GetRemoteJID()); err == nil && !chat.IsEmpty() {
		source.Chat = chat
	}
	if sender, err := types.ParseJID(info.GetParticipant()); err == nil {
		source.Sender, source.IsFromMe = sender, w.isOwn(sender)
	}
	return carrier{source: &source, id: info.GetStanzaID()}
}

// canReupload tells whether the media of messages is of this type. Link previews, history-sync blobs and app state are not:
// no phone answers for them.
func canReupload(t whatsmeow.MediaType) bool {
	switch t {
	case "", whatsmeow.MediaHistory, whatsmeow.MediaAppState, whatsmeow.MediaLinkThumbnail:
		return false
	}
	return true
}
