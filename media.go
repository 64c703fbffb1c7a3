package reupload

import (
	"bytes"
	"reflect"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// maxNesting bounds how deep media is looked for. Real messages wrap it five or six levels
	// deep; quotes can be nested.
	maxNesting = 32
	// filesPerMessage is how many files of one message are remembered. A sticker pack has thirty.
	filesPerMessage = 64
)

// A carrier is the message that media is found in: what a request for it must name.
type carrier struct {
	source *types.MessageSource
	id     types.MessageID
	sent   time.Time
	quote  *waE2E.ContextInfo // the message is the one that this quotes, in the carrier by
	by     *carrier
}

// A walker finds the files in a message that WhatsApp can be asked for again, wherever they sit: in
// wrappers such as ephemeral or view-once messages, in the cards of an interactive message, in the
// message that is quoted.
//
// It walks by reflection, so that a type that a later whatsmeow learns to download is found as
// well: by that on the generated structs, since protobuf's own takes ten times as long for the
// hundred fields of a text message, and this runs for each message on whatsmeow's handler queue.
type walker struct {
	isOwn func(types.JID) bool
	fill  bool // media that could be asked for but for its missing direct path gets a stand-in for one
	found []Entry
}

// mediaOf returns an entry for each file in a message, which can be nil.
func (w walker) mediaOf(info *types.MessageInfo, msg *waE2E.Message) []Entry {
	if msg != nil {
		c := carrier{source: &info.MessageSource, id: info.ID, sent: info.Timestamp}
		w.walk(c, reflect.ValueOf(msg).Elem(), 0)
	}
	return w.found
}

// walk looks into one message, v, which is a struct.
func (w *walker) walk(c carrier, v reflect.Value, depth int) {
	if depth > maxNesting || len(w.found) >= filesPerMessage {
		return
	}
	l := layoutOf(v.Type())
	switch l.kind {
	case isMedia:
		w.add(c, v.Addr().Interface().(whatsmeow.DownloadableMessage))
	case isContext:
		if info := v.Addr().Interface().(*waE2E.ContextInfo); info.QuotedMessage != nil {
			by := c
			w.walk(carrier{quote: info, by: &by}, reflect.ValueOf(info.QuotedMessage).Elem(), depth+1)
		}
		return
	case isProtocol:
		// An edit belongs to the message that it edits. Everything else in here (history-sync
		// blobs, app state, data for other devices) is no message's media and cannot be asked for.
		if edit := v.Addr().Interface().(*waE2E.ProtocolMessage); edit.EditedMessage != nil && edit.GetKey().GetID() != "" {
			c.id = edit.GetKey().GetID()
			w.walk(c, reflect.ValueOf(edit.EditedMessage).Elem(), depth+1)
		}
		return
	}
	for _, f := range l.fields {
		switch field := v.Field(f.index); {
		case field.IsNil():
		case f.isList:
			for i := range field.Len() {
				w.into(c, field.Index(i), depth)
			}
		case f.oneof:
			w.into(c, field.Elem().Elem().Field(0), depth)
		default:
			w.into(c, field, depth)
		}
	}
}

// into looks into a message behind a pointer, if it is one.
func (w *walker) into(c carrier, pointer reflect.Value, depth int) {
	if pointer.Kind() == reflect.Pointer && pointer.Type().Elem().Kind() == reflect.Struct && !pointer.IsNil() {
		w.walk(c, pointer.Elem(), depth+1)
	}
}

func (w *walker) add(c carrier, media whatsmeow.DownloadableMessage) {
	if !canReupload(whatsmeow.GetMediaType(media)) || len(media.GetFileEncSHA256()) != fileHashSize {
		return
	}
	c = w.resolve(c)
	req := requestFor(c.source, c.id)
	req.MediaKey = media.GetMediaKey()
	req, err := req.normalize()
	if err != nil {
		return // newsletter media, or a message that could not be asked for anyway
	}
	if w.fill && media.GetDirectPath() == "" {
		fillPath(media)
	}
	w.found = append(w.found, Entry{Request: req, FileEncSHA256: bytes.Clone(media.GetFileEncSHA256()), Timestamp: c.sent})
}

// resolve says what a quoted message is: it has its own id, chat and sender, and is from this
// account if its sender is. When it was sent is not known.
func (w *walker) resolve(c carrier) carrier {
	if c.quote == nil {
		return c
	}
	id := c.id // of an edit in the quote
	if id == "" {
		id = c.quote.GetStanzaID()
	}
	source := types.MessageSource{Chat: w.resolve(*c.by).source.Chat}
	if chat, err := types.ParseJID(c.quote.GetRemoteJID()); err == nil && !chat.IsEmpty() {
		source.Chat = chat
	}
	if sender, err := types.ParseJID(c.quote.GetParticipant()); err == nil {
		source.Sender, source.IsFromMe = sender, w.isOwn(sender)
	}
	return carrier{source: &source, id: id}
}

// fillPath gives media a stand-in for its direct path.
func fillPath(media whatsmeow.DownloadableMessage) {
	msg, ok := media.(proto.Message)
	if !ok {
		return
	}
	m := msg.ProtoReflect()
	if field := m.Descriptor().Fields().ByName("directPath"); field != nil && field.Kind() == protoreflect.StringKind {
		m.Set(field, protoreflect.ValueOfString(standInPath))
	}
}

// canReupload reports whether the media of messages is of this type. Link previews, history-sync
// blobs and app state are not: no phone answers for them.
func canReupload(t whatsmeow.MediaType) bool {
	switch t {
	case "", whatsmeow.MediaHistory, whatsmeow.MediaAppState, whatsmeow.MediaLinkThumbnail:
		return false
	}
	return true
}

// A layout is where in a message type, a struct, other messages are.
type layout struct {
	kind   kind
	fields []messageField
}

type kind int

const (
	isOther kind = iota
	isMedia
	isContext
	isProtocol
)

type messageField struct {
	index  int
	isList bool
	oneof  bool // an interface, which holds a pointer to a struct with one field
}

var layouts sync.Map // of *layout, by the struct's reflect.Type

func layoutOf(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	l := new(layout)
	switch pointer := reflect.PointerTo(t); {
	case t == reflect.TypeFor[waE2E.ContextInfo]():
		l.kind = isContext
	case t == reflect.TypeFor[waE2E.ProtocolMessage]():
		l.kind = isProtocol
	case pointer.Implements(reflect.TypeFor[whatsmeow.DownloadableMessage]()):
		l.kind = isMedia
	}
	for i := range t.NumField() {
		field := t.Field(i)
		switch {
		case !field.IsExported():
		case isMessage(field.Type):
			l.fields = append(l.fields, messageField{index: i})
		case field.Type.Kind() == reflect.Slice && isMessage(field.Type.Elem()):
			l.fields = append(l.fields, messageField{index: i, isList: true})
		case field.Type.Kind() == reflect.Interface:
			l.fields = append(l.fields, messageField{index: i, oneof: true})
		}
	}
	layouts.Store(t, l)
	return l
}

// isMessage reports whether a type is a pointer to a message.
func isMessage(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Implements(reflect.TypeFor[proto.Message]())
}
