package wabox

import (
	"slices"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A knownFile is one file of a message that the phone knows.
type knownFile struct {
	*Media
	place
	quoted bool // known from a message that quotes it alone
}

// Knows gives the phone a file of a message, wherever that is: requests for it are answered by the
// message's id alone.
func (a *Account) Knows(id types.MessageID, m *Media) {
	a.phone.learn(id, knownFile{Media: m})
}

// KnowsMessage gives the phone a message that the client does not get, such as one from before it
// was linked, and returns its id. [Account.Deliver] and [Account.DeliverHistory] do that by
// themselves; the file of a quoted message is then known as that message's own.
func (a *Account) KnowsMessage(in Incoming, msg *waE2E.Message) types.MessageID {
	in = a.withDefaults(in)
	a.learnWhere(in)
	a.phone.knowsAll(in.ID, in.place(), msg.ProtoReflect())
	return in.ID
}

// Forget makes the phone lose the files of a message. It still knows the message and its keys.
func (a *Account) Forget(id types.MessageID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.lost[id] = true
}

// learn adds a file. What a quote says of a message does not count if the phone has the message
// itself: a quote can say anything.
func (p *phone) learn(id types.MessageID, f knownFile) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	itself := slices.ContainsFunc(p.files[id], func(known knownFile) bool { return !known.quoted })
	if f.quoted && itself {
		return
	}
	if !f.quoted && !itself {
		p.files[id] = nil
	}
	p.files[id] = append(p.files[id], f)
	delete(p.lost, id)
}

// A walk goes through a message, or a history of many, for the files in it.
type walk struct {
	*phone
	id     types.MessageID
	at     place
	quoted bool
}

// knowsAll gives the phone every file that a message at a place speaks of, wherever in it that is.
func (p *phone) knowsAll(id types.MessageID, at place, m protoreflect.Message) {
	walk{p, id, at, false}.message(m)
}

func (w walk) message(m protoreflect.Message) {
	switch m := m.Interface().(type) {
	case *waHistorySync.HistorySync:
		for _, pair := range m.GetPhoneNumberToLidMappings() {
			w.account.box.people.link(parseJID(pair.GetPnJID()), parseJID(pair.GetLidJID()))
		}
	case *waHistorySync.Conversation:
		w.at = place{chat: plain(parseJID(m.GetID()))}
		w.account.box.people.link(parseJID(m.GetPnJID()), parseJID(m.GetLidJID()))
	case *waWeb.WebMessageInfo:
		w.id = m.GetKey().GetID()
		w.at = w.keyed(m.GetKey(), m.GetParticipant())
	case *waE2E.ContextInfo:
		if quoted := m.GetQuotedMessage(); quoted != nil && m.GetStanzaID() != "" {
			walk{w.phone, m.GetStanzaID(), w.quote(m), true}.message(quoted.ProtoReflect())
			m = proto.CloneOf(m)
			m.QuotedMessage = nil
			w.fields(m.ProtoReflect())
			return
		}
	}
	w.fields(m)
}

func (w walk) fields(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Name() == "mediaKey" && field.Kind() == protoreflect.BytesKind:
			if w.id != "" && len(value.Bytes()) > 0 {
				media := w.account.box.cdn.find(mediaOf(m, value.Bytes()))
				w.learn(w.id, knownFile{media, w.at, w.quoted})
			}
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				w.message(value.List().Get(i).Message())
			}
		default:
			w.message(value.Message())
		}
		return true
	})
}

// keyed returns the place that a history's message is at, in a conversation.
func (w walk) keyed(key *waCommon.MessageKey, participant string) place {
	at := place{chat: w.at.chat, fromMe: key.GetFromMe()}
	if chat := parseJID(key.GetRemoteJID()); !chat.IsEmpty() {
		at.chat = plain(chat)
	}
	if key.GetParticipant() != "" {
		participant = key.GetParticipant()
	}
	switch {
	case participant != "":
		at.sender = plain(parseJID(participant))
	case at.fromMe:
		at.sender = w.account.PN
	case isDirect(at.chat):
		at.sender = at.chat
	}
	at.lid = at.sender.Server == types.HiddenUserServer
	return at
}

// quote returns the place of a quoted message.
func (w walk) quote(info *waE2E.ContextInfo) place {
	at := place{chat: w.at.chat, sender: plain(parseJID(info.GetParticipant()))}
	if chat := parseJID(info.GetRemoteJID()); !chat.IsEmpty() {
		at.chat = plain(chat)
	}
	at.fromMe = w.account.isOwn(at.sender)
	at.lid = w.at.lid || at.sender.Server == types.HiddenUserServer
	return at
}

// isOwn reports whether an address is one of the account's.
func (a *Account) isOwn(jid types.JID) bool {
	return jid.ToNonAD() == a.PN || jid.ToNonAD() == a.LID
}

// parseJID returns the address that a message speaks of, or an empty one if it is none.
func parseJID(s string) types.JID {
	jid, err := types.ParseJID(s)
	if err != nil {
		return types.EmptyJID
	}
	return jid
}

// mediaOf returns what a message says about its file. For a link preview, that is the thumbnail.
func mediaOf(m protoreflect.Message, mediaKey []byte) *Media {
	get := func(names ...protoreflect.Name) protoreflect.Value {
		for _, name := range names {
			if field := m.Descriptor().Fields().ByName(name); field != nil && m.Has(field) {
				return m.Get(field)
			}
		}
		return protoreflect.Value{}
	}
	said := &Media{MediaKey: mediaKey}
	if v, ok := get("fileSHA256", "thumbnailSHA256").Interface().([]byte); ok {
		said.FileSHA256 = v
	}
	if v, ok := get("fileEncSHA256", "thumbnailEncSHA256").Interface().([]byte); ok {
		said.FileEncSHA256 = v
	}
	if v, ok := get("directPath", "thumbnailDirectPath").Interface().(string); ok {
		said.DirectPath = v
	}
	if v, ok := get("fileLength").Interface().(uint64); ok {
		said.Length = int(v)
	}
	return said
}
