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
)

// A carrier is the message that media is found in: what a request for it must name.
type carrier struct {
	source *types.MessageSource
	id     types.MessageID
	sent   time.Time          // zero if not known
	status bool               // it is a status
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
	fill  bool // media that lacks only its direct path to be asked for gets a stand-in for one
	found []Entry
	most  int // how many entries found may have, or list may keep

	// list, if it is set, gets what is found in place of found, without what is quoted, and reports
	// whether it has kept it.
	list   func(carrier, whatsmeow.DownloadableMessage) (kept bool)
	listed int // how many it has kept
}

// mediaOf returns an entry for each file in a message, which can be nil.
func (w walker) mediaOf(info *types.MessageInfo, msg *waE2E.Message) []Entry {
	return w.appendMedia(nil, info, msg)
}

// appendMedia appends an entry for each file in a message to those of other messages.
func (w walker) appendMedia(entries []Entry, info *types.MessageInfo, msg *waE2E.Message) []Entry {
	w.found, w.most = entries, len(entries)+filesPerMessage
	w.look(info, msg)
	return w.found
}

// look looks into a message, which can be nil.
func (w *walker) look(info *types.MessageInfo, msg *waE2E.Message) {
	if msg != nil {
		c := carrier{source: &info.MessageSource, id: info.ID, sent: info.Timestamp}
		if c.sent.Unix() <= 0 { // what whatsmeow makes of a missing time in a history
			c.sent = time.Time{}
		}
		w.walk(c, reflect.ValueOf(msg).Elem(), 0)
	}
}

// walk looks into one message, v, which is a struct.
func (w *walker) walk(c carrier, v reflect.Value, depth int) {
	if depth > maxNesting || len(w.found)+w.listed >= w.most {
		return
	}
	l := layoutOf(v.Type())
	switch l.kind {
	case isMedia:
		w.add(c, v.Addr().Interface().(whatsmeow.DownloadableMessage))
	case isContext:
		if info := v.Addr().Interface().(*waE2E.ContextInfo); info.QuotedMessage != nil && w.list == nil {
			by := c
			w.walk(carrier{quote: info, by: &by}, reflect.ValueOf(info.QuotedMessage).Elem(), depth+1)
		}
		return
	case isProtocol:
		// An edit belongs to the message that it edits. When that was sent is not known, nor
		// whether it ever was: its sender can name any id. Everything else in here (history-sync
		// blobs, app state, data for other devices) is no message's media and cannot be asked for.
		if edit := v.Addr().Interface().(*waE2E.ProtocolMessage); edit.EditedMessage != nil && edit.GetKey().GetID() != "" {
			c.id, c.sent, c.status = edit.GetKey().GetID(), time.Time{}, false
			w.walk(c, reflect.ValueOf(edit.EditedMessage).Elem(), depth+1)
		}
		return
	}
	for _, f := range l.fields {
		field := v.Field(f.index)
		if field.IsNil() {
			continue
		}
		c := c
		c.status = c.status || f.status
		switch {
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
	switch {
	case !canReupload(whatsmeow.GetMediaType(media)):
		return
	case w.list != nil:
		if w.list(c, media) {
			w.listed++
		}
		return
	case len(media.GetFileEncSHA256()) != fileHashSize:
		return
	}
	c, ok := w.resolve(c)
	if !ok {
		return
	}
	req := requestFor(c.source, c.id)
	req.MediaKey = media.GetMediaKey()
	req, err := req.normalize()
	if err != nil {
		return // newsletter media, or a message that could not be asked for anyway
	}
	e := Entry{Request: req, FileEncSHA256: bytes.Clone(media.GetFileEncSHA256()), Timestamp: c.sent}
	e.CameWith = pathIn(media)
	if w.fill && media.GetDirectPath() == "" {
		fillPath(media)
	}
	e.IsStatus = !c.sent.IsZero() && (c.status || saysStatus(media)) // of the message itself: quotes and edits have no time
	w.found = append(w.found, e)
}

// saysStatus reports whether media says of itself that it is in the status of a group.
func saysStatus(media whatsmeow.DownloadableMessage) bool {
	said, ok := media.(interface{ GetContextInfo() *waE2E.ContextInfo })
	return ok && said.GetContextInfo().GetIsGroupStatus()
}

// resolve says what a quoted message is: it has its own id, chat and sender, and is from this
// account if its sender is. When it was sent is not known. It is not ok if its names are not those
// of a chat and a person: a quote says what its sender likes.
func (w *walker) resolve(c carrier) (resolved carrier, ok bool) {
	if c.quote == nil {
		return c, true
	}
	id := c.id // of an edit in the quote
	if id == "" {
		id = c.quote.GetStanzaID()
	}
	var source types.MessageSource
	if remote := c.quote.GetRemoteJID(); remote != "" {
		chat, err := parseName(remote, canonicalChat)
		if err != nil {
			return carrier{}, false
		}
		source.Chat = chat
	} else {
		by, ok := w.resolve(*c.by)
		if !ok {
			return carrier{}, false
		}
		source.Chat = by.source.Chat
	}
	if participant := c.quote.GetParticipant(); participant != "" {
		sender, err := parseName(participant, canonicalPerson)
		if err != nil || sender.Server == "" {
			return carrier{}, false
		}
		source.Sender, source.IsFromMe = sender, w.isOwn(sender)
	}
	return carrier{source: &source, id: id}, true
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
	status bool // what is in it is the status of a group
	isList bool
	oneof  bool // an interface, which holds a pointer to a struct with one field
}

var layouts sync.Map // of *layout, by the struct's reflect.Type

func layoutOf(t reflect.Type) *layout {
	if known, ok := layouts.Load(t); ok {
		return known.(*layout)
	}
	l := &layout{kind: messageKind(t)}
	for i := range t.NumField() {
		field := t.Field(i)
		switch {
		case !field.IsExported():
		case isMessage(field.Type) && leads(field.Type):
			status := field.Name == "GroupStatusMessage" || field.Name == "GroupStatusMessageV2"
			l.fields = append(l.fields, messageField{index: i, status: status})
		case field.Type.Kind() == reflect.Slice && isMessage(field.Type.Elem()) && leads(field.Type.Elem()):
			l.fields = append(l.fields, messageField{index: i, isList: true})
		case field.Type.Kind() == reflect.Interface:
			l.fields = append(l.fields, messageField{index: i, oneof: true})
		}
	}
	layouts.Store(t, l)
	return l
}

func messageKind(t reflect.Type) kind {
	switch {
	case t == reflect.TypeFor[waE2E.ContextInfo]():
		return isContext
	case t == reflect.TypeFor[waE2E.ProtocolMessage]():
		return isProtocol
	case reflect.PointerTo(t).Implements(reflect.TypeFor[whatsmeow.DownloadableMessage]()):
		return isMedia
	}
	return isOther
}

// leads reports whether there can be media somewhere in a message, of which the type is a pointer:
// the fields of a message that can hold none are not looked at.
func leads(pointer reflect.Type) bool { return reaches(pointer.Elem(), make(map[reflect.Type]bool)) }

func reaches(t reflect.Type, seen map[reflect.Type]bool) bool {
	if messageKind(t) != isOther {
		return true
	}
	seen[t] = true
	for i := range t.NumField() {
		field := t.Field(i)
		next := field.Type
		if next.Kind() == reflect.Slice {
			next = next.Elem()
		}
		switch {
		case !field.IsExported():
		case next.Kind() == reflect.Interface: // a message with one field, of a type that does not say which
			return true
		case isMessage(next) && !seen[next.Elem()] && reaches(next.Elem(), seen):
			return true
		}
	}
	return false
}

// isMessage reports whether a type is a pointer to a message.
func isMessage(t reflect.Type) bool {
	return t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && t.Implements(reflect.TypeFor[proto.Message]())
}
