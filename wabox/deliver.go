package wabox

import (
	"encoding/hex"
	"strings"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// defaultContact writes messages whose sender does not matter.
var defaultContact = types.NewJID("447700900123", types.DefaultUserServer)

// Incoming says where a message comes from.
type Incoming struct {
	ID   types.MessageID // defaults to a fresh one
	Chat types.JID       // a user, group, broadcast list, status@broadcast or newsletter. Defaults to From, one-to-one
	// From is the sender, as phone number or LID. It may have a device part, and be on a hosted
	// server, as the second device of a business is. Defaults to some contact, or to the own
	// account if FromMe is set. Newsletters do not name senders.
	From types.JID
	// FromMe is for what was sent with the own phone. Unless From is set, that writes under its
	// phone number, and under its LID where LIDMode is set or Chat is a LID.
	FromMe  bool
	LIDMode bool // the group or broadcast is addressed by LIDs. This is so too when From is a LID
	// Alt is the other address of the sender, or that of the other side of a one-to-one chat if
	// FromMe is set: the LID of a phone number, or the phone number of a LID. A client may learn it
	// from no other place. Defaults to none.
	Alt       types.JID
	Timestamp time.Time // defaults to now
	// Broken is how many copies of the message arrive in a state that the client cannot decrypt. It
	// asks for another, up to four times, and gets the message then.
	Broken int
}

// Deliver sends the client a message, encrypted with Signal for everything but newsletters, and
// returns its id. The phone knows the message, as if [Account.KnowsMessage] had been called.
func (a *Account) Deliver(in Incoming, msg *waE2E.Message) (types.MessageID, error) {
	in = a.withDefaults(in)
	a.learnWhere(in)
	a.phone.knowsAll(in.ID, in.place(), msg.ProtoReflect())
	node := waBinary.Node{Tag: "message", Attrs: in.attrs()}
	node.Attrs["type"] = "text"
	mediaType := mediaTypeOf(msg)
	if mediaType != "" {
		node.Attrs["type"] = "media"
	}
	if in.Chat.Server == types.NewsletterServer {
		plaintext, err := proto.Marshal(msg)
		if err != nil {
			return "", err
		}
		node.Content = []waBinary.Node{{
			Tag: "plaintext", Attrs: waBinary.Attrs{"mediatype": mediaType}, Content: plaintext,
		}}
		return in.ID, a.SendNode(node)
	}
	alt := in.Alt
	if in.FromMe && isUser(plain(in.Chat)) {
		alt = types.EmptyJID // it is the other side's
		msg = &waE2E.Message{DeviceSentMessage: &waE2E.DeviceSentMessage{
			DestinationJID: proto.String(in.Chat.String()), Message: msg,
		}}
	}
	return in.ID, a.sendEncrypted(original{in.From, alt, msg, mediaType, node, in.Broken})
}

func (a *Account) withDefaults(in Incoming) Incoming {
	if in.ID == "" {
		in.ID = newMessageID()
	}
	if in.From.IsEmpty() {
		switch {
		case !in.FromMe:
			in.From = defaultContact
		case in.LIDMode || plain(in.Chat).Server == types.HiddenUserServer:
			in.From = a.LID
		default:
			in.From = a.PN
		}
	}
	if in.Chat.IsEmpty() {
		in.Chat = plain(in.From)
	}
	if plain(in.From).Server == types.HiddenUserServer {
		in.LIDMode = true
	}
	if in.Timestamp.IsZero() {
		in.Timestamp = time.Now()
	}
	return in
}

// attrs returns the attributes of a <message>.
func (in Incoming) attrs() waBinary.Attrs {
	attrs := waBinary.Attrs{"id": in.ID, "t": in.Timestamp.Unix()}
	// The attribute with the other address is named after what kind it is.
	alt := "_lid"
	if in.LIDMode {
		alt = "_pn"
	}
	switch {
	case in.Chat.Server == types.NewsletterServer:
		attrs["from"] = in.Chat
		attrs["server_id"] = 100 + in.Timestamp.Unix()%1000
		return attrs
	case !isUser(plain(in.Chat)):
		attrs["from"], attrs["participant"] = in.Chat, in.From
		attrs["addressing_mode"] = string(types.AddressingModePN)
		if in.LIDMode {
			attrs["addressing_mode"] = string(types.AddressingModeLID)
		}
		alt = "participant" + alt
	case in.FromMe:
		attrs["from"], attrs["recipient"] = in.From, in.Chat
		alt = "peer_recipient_lid"
		if plain(in.Chat).Server == types.HiddenUserServer {
			alt = "peer_recipient_pn"
		}
	default:
		attrs["from"] = in.From
		alt = "sender" + alt
	}
	if !in.Alt.IsEmpty() {
		attrs[alt] = in.Alt
	}
	return attrs
}

// mediaTypeOf returns the name that a stanza has for the media of a message, or "" if
// there is none.
func mediaTypeOf(msg *waE2E.Message) string {
	switch {
	case msg.ImageMessage != nil:
		return "image"
	case msg.VideoMessage != nil:
		return "video"
	case msg.AudioMessage.GetPTT():
		return "ptt"
	case msg.AudioMessage != nil:
		return "audio"
	case msg.DocumentMessage != nil:
		return "document"
	case msg.StickerMessage != nil:
		return "sticker"
	}
	return ""
}

func newMessageID() types.MessageID {
	return "3EB0" + strings.ToUpper(hex.EncodeToString(randomBytes(9)))
}
