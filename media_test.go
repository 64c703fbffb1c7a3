package reupload_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/whatsmeow-plugins/reupload"
)

var (
	alice   = types.NewJID("15550001", types.DefaultUserServer)
	bob     = types.NewJID("15550002", types.DefaultUserServer)
	bobLID  = types.NewJID("99990002", types.HiddenUserServer)
	me      = types.NewJID("15559999", types.DefaultUserServer)
	myLID   = types.NewJID("99999999", types.HiddenUserServer)
	aGroup  = types.NewJID("120363040237990503", types.GroupServer)
	mediaID = "3EB0CARRIER"
)

func carrierInfo(chat, sender types.JID) *types.MessageInfo {
	return &types.MessageInfo{
		MessageSource: types.MessageSource{Chat: chat, Sender: sender, IsGroup: chat.Server == types.GroupServer},
		ID:            mediaID,
		Timestamp:     time.Unix(1_760_000_000, 0),
	}
}

func image(n byte) *waE2E.ImageMessage {
	return &waE2E.ImageMessage{
		DirectPath:    proto.String("/v/a?oe=1"),
		MediaKey:      bytes.Repeat([]byte{n}, 32),
		FileSHA256:    bytes.Repeat([]byte{n + 1}, 32),
		FileEncSHA256: bytes.Repeat([]byte{n + 2}, 32),
	}
}

// A route leads from waE2E.Message to a type that can be downloaded, through message fields.
type route []protoreflect.FieldDescriptor

func (r route) String() string {
	var names []string
	for _, f := range r {
		names = append(names, string(f.Name()))
	}
	return strings.Join(names, ".")
}

// downloadable tells, in whatsmeow's own words, whether media of a type can be downloaded and
// belongs to a message.
func downloadable(d protoreflect.MessageDescriptor) bool {
	if known, ok := downloadables.Load(d.FullName()); ok {
		return known.(bool)
	}
	is := isDownloadable(d)
	downloadables.Store(d.FullName(), is)
	return is
}

var downloadables sync.Map // what downloadable has found out, by name

func isDownloadable(d protoreflect.MessageDescriptor) bool {
	mt, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		return false
	}
	media, ok := mt.New().Interface().(whatsmeow.DownloadableMessage)
	if !ok {
		return false
	}
	switch whatsmeow.GetMediaType(media) {
	case "", whatsmeow.MediaHistory, whatsmeow.MediaAppState, whatsmeow.MediaLinkThumbnail:
		return false
	}
	return true
}

// routes walks the descriptors. It passes through each type once, and through Message twice, so
// that every kind of wrapper is followed by everything that it can wrap.
func routes(d protoreflect.MessageDescriptor, so route, seen map[protoreflect.FullName]int, found *[]route) {
	limit := 1
	if d.FullName() == "WAWebProtobufsE2E.Message" {
		limit = 2
	}
	if seen[d.FullName()] >= limit {
		return
	}
	seen[d.FullName()]++
	defer func() { seen[d.FullName()]-- }()
	if len(so) > 0 && downloadable(d) {
		*found = append(*found, slices.Clone(so))
	}
	for i := range d.Fields().Len() {
		if f := d.Fields().Get(i); f.Message() != nil && !f.IsMap() {
			routes(f.Message(), append(so, f), seen, found)
		}
	}
}

// build makes a message with media at the end of a route.
func (r route) build() *waE2E.Message {
	root := new(waE2E.Message)
	m := root.ProtoReflect()
	for _, f := range r {
		if f.IsList() {
			list := m.Mutable(f).List()
			m = list.AppendMutable().Message()
		} else {
			m = m.Mutable(f).Message()
		}
		switch v := m.Interface().(type) {
		case *waE2E.ContextInfo:
			v.StanzaID, v.Participant = proto.String("3EB0QUOTED"), proto.String(bob.String())
		case *waE2E.ProtocolMessage:
			v.Key = &waCommon.MessageKey{ID: proto.String("3EB0EDITED")}
			v.Type = waE2E.ProtocolMessage_MESSAGE_EDIT.Enum()
		}
	}
	template := image(1).ProtoReflect()
	for _, name := range []protoreflect.Name{"directPath", "mediaKey", "fileSHA256", "fileEncSHA256"} {
		m.Set(m.Descriptor().Fields().ByName(name), template.Get(template.Descriptor().Fields().ByName(name)))
	}
	return root
}

// id returns the message that media at the end of a route belongs to, or "" if it belongs to none.
func (r route) id() string {
	id := mediaID
	for _, f := range r {
		switch f.ContainingMessage().FullName() {
		case "WAWebProtobufsE2E.ContextInfo":
			if id = "3EB0QUOTED"; f.Name() != "quotedMessage" {
				return ""
			}
		case "WAWebProtobufsE2E.ProtocolMessage":
			if id = "3EB0EDITED"; f.Name() != "editedMessage" {
				return ""
			}
		}
	}
	return id
}

// Whatever whatsmeow can download is found wherever it can sit, today's types and the ones to come.
func TestMediaIsFoundWhereverItSits(t *testing.T) {
	t.Parallel()
	var all []route
	routes((*waE2E.Message)(nil).ProtoReflect().Descriptor(), nil, make(map[protoreflect.FullName]int), &all)
	kinds := make(map[protoreflect.FullName]int)
	for _, r := range all {
		entries := reupload.Remembered(carrierInfo(aGroup, alice), r.build(), me)
		kinds[r[len(r)-1].Message().FullName()]++
		switch want := r.id(); {
		case want == "" && len(entries) != 0:
			t.Errorf("%v: remembered, although nobody could be asked for it", r)
		case want != "" && (len(entries) != 1 || entries[0].MessageID != want):
			t.Errorf("%v: found %v, want one file under %s", r, entries, want)
		}
	}
	t.Logf("%d routes to %v", len(all), kinds)
	for _, kind := range []protoreflect.FullName{"ImageMessage", "VideoMessage", "AudioMessage", "DocumentMessage", "StickerMessage", "StickerPackMessage"} {
		if kinds["WAWebProtobufsE2E."+kind] == 0 {
			t.Errorf("there is no route to %s", kind)
		}
	}
}

// Types of waE2E that have a media key and a path, and which whatsmeow cannot download. If this
// fails, whatsmeow has a new one: see whether it can be uploaded again.
func TestMediaThatCannotBeDownloaded(t *testing.T) {
	t.Parallel()
	known := []string{
		"ChatCustomImageWallpaper", "EmbeddedMusic", "ExtendedTextMessage", "FlowResponsesCsvBundle", "HistorySyncNotification",
		"InvoiceMessage", "LinkPreviewHighQualityThumbnail", "MMSThumbnailMetadata", "MediaData", "MessageHistoryBundle",
	}
	var found []string
	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		d := mt.Descriptor()
		has := func(part string) bool {
			for i := range d.Fields().Len() {
				if strings.Contains(strings.ToLower(string(d.Fields().Get(i).Name())), part) {
					return true
				}
			}
			return false
		}
		if strings.HasPrefix(string(d.FullName()), "WAWebProtobufsE2E.") &&
			has("mediakey") && has("directpath") && !downloadable(d) {
			found = append(found, string(d.Name()))
		}
		return true
	})
	slices.Sort(found)
	if !slices.Equal(found, known) {
		t.Errorf("found %v, know %v", found, known)
	}
}

func TestQuotedMediaBelongsToTheQuotedMessage(t *testing.T) {
	t.Parallel()
	quote := func(info *waE2E.ContextInfo) *waE2E.Message {
		info.StanzaID = proto.String("3EB0QUOTED")
		info.QuotedMessage = &waE2E.Message{ImageMessage: image(1)}
		return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("!sticker"), ContextInfo: info}}
	}
	for name, c := range map[string]struct {
		chat, sender types.JID
		msg          *waE2E.Message
		want         reupload.Request
	}{
		"in a group": {
			aGroup, alice, quote(&waE2E.ContextInfo{Participant: proto.String("99990002:7@lid")}),
			reupload.Request{Chat: aGroup, Participant: bobLID},
		},
		"my own in a group": {
			aGroup, alice, quote(&waE2E.ContextInfo{Participant: proto.String(myLID.String())}),
			reupload.Request{Chat: aGroup, Participant: myLID, IsFromMe: true},
		},
		"one-to-one": {
			alice, alice, quote(&waE2E.ContextInfo{Participant: proto.String(alice.String())}),
			reupload.Request{Chat: alice},
		},
		"my own, one-to-one": {
			alice, alice, quote(&waE2E.ContextInfo{Participant: proto.String(me.String())}),
			reupload.Request{Chat: alice, IsFromMe: true},
		},
		"of a status": {
			alice, alice, quote(&waE2E.ContextInfo{Participant: proto.String(bob.String()), RemoteJID: proto.String("status@broadcast")}),
			reupload.Request{Chat: types.StatusBroadcastJID, Participant: bob},
		},
		"of a group, answered in private": {
			alice, alice, quote(&waE2E.ContextInfo{Participant: proto.String(bob.String()), RemoteJID: proto.String(aGroup.String())}),
			reupload.Request{Chat: aGroup, Participant: bob},
		},
	} {
		entries := reupload.Remembered(carrierInfo(c.chat, c.sender), c.msg, me, myLID)
		if len(entries) != 1 {
			t.Errorf("%s: found %d files", name, len(entries))
			continue
		}
		c.want.MessageID, c.want.MediaKey = "3EB0QUOTED", image(1).MediaKey
		if got := entries[0]; fmt.Sprint(got.Request) != fmt.Sprint(c.want) || !got.Timestamp.IsZero() {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A quote whose sender or chat is no person's and no chat's is not remembered.
func TestQuotesOfNobody(t *testing.T) {
	t.Parallel()
	for name, info := range map[string]*waE2E.ContextInfo{
		"of the group itself":        {Participant: proto.String(aGroup.String())},
		"of the status":              {Participant: proto.String("status@broadcast")},
		"of a newsletter":            {Participant: proto.String("120363041234567890@newsletter")},
		"of another server's":        {Participant: proto.String("15550002@example.org")},
		"of a name with two servers": {Participant: proto.String("99990002@lid@lid")},
		"of a number":                {Participant: proto.String("15550002")},
		"of a name":                  {Participant: proto.String("bob@s.whatsapp.net")},
		"in a newsletter":            {Participant: proto.String(bob.String()), RemoteJID: proto.String("120363041234567890@newsletter")},
		"in another server's chat":   {Participant: proto.String(bob.String()), RemoteJID: proto.String("15550002@example.org")},
	} {
		info.StanzaID, info.QuotedMessage = proto.String("3EB0QUOTED"), &waE2E.Message{ImageMessage: image(1)}
		msg := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: info}}
		for _, chat := range []types.JID{aGroup, alice} {
			if entries := reupload.Remembered(carrierInfo(chat, alice), msg); len(entries) != 0 {
				t.Errorf("a quote %s, in %s: remembered as %v", name, chat, entries)
			}
		}
	}
}

func TestOneMessageWithManyFiles(t *testing.T) {
	t.Parallel()
	msg := &waE2E.Message{InteractiveMessage: &waE2E.InteractiveMessage{
		InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{
			Cards: []*waE2E.InteractiveMessage{
				{Header: &waE2E.InteractiveMessage_Header{Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: image(1)}}},
				{Header: &waE2E.InteractiveMessage_Header{Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: image(5)}}},
			},
		}},
		ContextInfo: &waE2E.ContextInfo{StanzaID: proto.String("3EB0QUOTED"), QuotedMessage: &waE2E.Message{ImageMessage: image(9)}, Participant: proto.String(bob.String())},
	}}
	var ids []string
	for _, e := range reupload.Remembered(carrierInfo(aGroup, alice), msg) {
		ids = append(ids, e.MessageID)
	}
	slices.Sort(ids)
	if want := []string{mediaID, mediaID, "3EB0QUOTED"}; !slices.Equal(ids, want) {
		t.Errorf("found %v, want %v", ids, want)
	}
}

func TestHostileNestingEnds(t *testing.T) {
	t.Parallel()
	msg := &waE2E.Message{ImageMessage: image(1)}
	for range 5000 {
		msg = &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: msg}}
	}
	if entries := reupload.Remembered(carrierInfo(alice, alice), msg); len(entries) != 0 {
		t.Errorf("found %d files 5000 levels deep", len(entries))
	}
	if entries := reupload.Remembered(carrierInfo(alice, alice), nil); len(entries) != 0 {
		t.Errorf("found %d files in nil", len(entries))
	}
}

func TestIncompleteMediaIsNotRemembered(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*waE2E.ImageMessage){
		"no key":      func(m *waE2E.ImageMessage) { m.MediaKey = nil },
		"short key":   func(m *waE2E.ImageMessage) { m.MediaKey = m.MediaKey[:31] },
		"no hash":     func(m *waE2E.ImageMessage) { m.FileEncSHA256 = nil },
		"a long hash": func(m *waE2E.ImageMessage) { m.FileEncSHA256 = append(m.FileEncSHA256, 1) },
	} {
		m := image(1)
		edit(m)
		if entries := reupload.Remembered(carrierInfo(alice, alice), &waE2E.Message{ImageMessage: m}); len(entries) != 0 {
			t.Errorf("%s: remembered", name)
		}
	}
}

func TestPathThatAMessageCameWith(t *testing.T) {
	t.Parallel()
	const path = "/v/t62.7118-24/1_n.enc?ccb=11-4&oh=01_Q5Aa&oe=66A1B2C3&_nc_sid=5e03e0"
	for given, want := range map[string]string{
		path:                                  path,
		"/v/t62.7118-24/1.enc":                "/v/t62.7118-24/1.enc", // without its query it may live all the same
		"":                                    "",
		"//example.com/1":                     "",
		"@example.com/1":                      "",
		"https://example.com/1":               "",
		"/a b":                                "",
		"/" + strings.Repeat("x", 2<<10):      "",
		"/" + strings.Repeat("x", 2<<10-1):    "/" + strings.Repeat("x", 2<<10-1),
		"/reupload/no-path-yet?ask-the-phone": "", // our own stand-in for one
	} {
		m := image(1)
		m.DirectPath = proto.String(given)
		quote := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: &waE2E.ContextInfo{
			StanzaID: proto.String("QUOTED"), Participant: proto.String(alice.String()), QuotedMessage: &waE2E.Message{ImageMessage: m},
		}}}
		for _, msg := range []*waE2E.Message{{ImageMessage: m}, quote} {
			if entries := reupload.Remembered(carrierInfo(alice, alice), msg); len(entries) != 1 || entries[0].CameWith != want || entries[0].DirectPath != "" {
				t.Errorf("%.100q becomes %+v", given, entries)
			}
		}
	}
}

// A status in a group lives as long as any other. What a quote or an edit says of one is not known.
func TestStatusInAGroup(t *testing.T) {
	t.Parallel()
	wrapped := func(m *waE2E.Message) *waE2E.FutureProofMessage { return &waE2E.FutureProofMessage{Message: m} }
	picture, told := &waE2E.Message{ImageMessage: image(1)}, &waE2E.Message{ImageMessage: image(1)}
	told.ImageMessage.ContextInfo = &waE2E.ContextInfo{IsGroupStatus: proto.Bool(true)}
	for name, c := range map[string]struct {
		msg  *waE2E.Message
		want bool
	}{
		"a picture":              {picture, false},
		"a status":               {&waE2E.Message{GroupStatusMessage: wrapped(picture)}, true},
		"a status, version 2":    {&waE2E.Message{GroupStatusMessageV2: wrapped(&waE2E.Message{ViewOnceMessage: wrapped(picture)})}, true},
		"a status, by its media": {told, true},
		"a mention":              {&waE2E.Message{GroupStatusMentionMessage: wrapped(picture)}, false},
		"an edit":                {&waE2E.Message{GroupStatusMessageV2: wrapped(&waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{Key: &waCommon.MessageKey{ID: proto.String("3EB0EDITED")}, EditedMessage: told}})}, false},
		"a quote in a status": {&waE2E.Message{GroupStatusMessageV2: wrapped(&waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			ContextInfo: &waE2E.ContextInfo{StanzaID: proto.String("3EB0QUOTED"), Participant: proto.String(bob.String()), QuotedMessage: told},
		}})}, false},
	} {
		entries := reupload.Remembered(carrierInfo(aGroup, alice), c.msg)
		if len(entries) != 1 || entries[0].IsStatus != c.want {
			t.Errorf("%s: %+v, want a status: %t", name, entries, c.want)
		}
	}
}
