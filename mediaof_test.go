package reupload_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// What is remembered of a message is listed too, except for what it quotes.
func TestMediaOfListsWhatIsRemembered(t *testing.T) {
	t.Parallel()
	var all []route
	routes((*waE2E.Message)(nil).ProtoReflect().Descriptor(), nil, make(map[protoreflect.FullName]int), &all)
	for _, r := range all {
		want := r.id()
		if slices.ContainsFunc(r, func(f protoreflect.FieldDescriptor) bool { return f.Name() == "quotedMessage" }) {
			want = ""
		}
		files := reupload.MediaOf(carrierInfo(aGroup, alice), r.build())
		switch {
		case want == "" && len(files) != 0:
			t.Errorf("%v: listed %v", r, files)
		case want != "" && (len(files) != 1 || files[0].Request.MessageID != want || files[0].Kind == reupload.KindOther):
			t.Errorf("%v: listed %v, want one file of %s", r, files, want)
		}
	}
}

func TestMediaOfDescribesFiles(t *testing.T) {
	t.Parallel()
	wrap := func(m *waE2E.Message) *waE2E.FutureProofMessage { return &waE2E.FutureProofMessage{Message: m} }
	picture := image(1)
	picture.Mimetype, picture.FileLength = proto.String("image/jpeg"), proto.Uint64(1234)
	key, path, enc := picture.MediaKey, picture.DirectPath, picture.FileEncSHA256
	edit := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Key: &waCommon.MessageKey{ID: proto.String("3EB0EDITED")}, EditedMessage: &waE2E.Message{ImageMessage: picture},
	}}
	for name, c := range map[string]struct {
		msg  *waE2E.Message
		want reupload.Media
	}{
		"a picture": {
			&waE2E.Message{ImageMessage: picture},
			reupload.Media{Kind: reupload.KindImage, MIMEType: "image/jpeg", Size: 1234},
		},
		"an edited one": {
			&waE2E.Message{EditedMessage: wrap(edit)},
			reupload.Media{Kind: reupload.KindImage, MIMEType: "image/jpeg", Size: 1234, Request: reupload.Request{MessageID: "3EB0EDITED"}},
		},
		"a round video": {
			&waE2E.Message{PtvMessage: &waE2E.VideoMessage{MediaKey: key, DirectPath: path, FileEncSHA256: enc}},
			reupload.Media{Kind: reupload.KindVideo},
		},
		"a voice message": {
			&waE2E.Message{ViewOnceMessageV2: wrap(&waE2E.Message{AudioMessage: &waE2E.AudioMessage{
				MediaKey: key, FileEncSHA256: enc, Mimetype: proto.String("audio/ogg; codecs=opus"), PTT: proto.Bool(true),
			}})},
			reupload.Media{Kind: reupload.KindAudio, MIMEType: "audio/ogg; codecs=opus"},
		},
		"a document": {
			&waE2E.Message{DocumentWithCaptionMessage: wrap(&waE2E.Message{DocumentMessage: &waE2E.DocumentMessage{
				MediaKey: key, DirectPath: path, FileEncSHA256: enc, FileName: proto.String("../Offer.pdf"), Mimetype: proto.String("application/pdf"),
			}})},
			reupload.Media{Kind: reupload.KindDocument, MIMEType: "application/pdf", Name: "../Offer.pdf"},
		},
		"a sticker": {
			&waE2E.Message{StickerMessage: &waE2E.StickerMessage{MediaKey: key, DirectPath: path, FileEncSHA256: enc}},
			reupload.Media{Kind: reupload.KindSticker},
		},
		"a sticker pack": {
			&waE2E.Message{StickerPackMessage: &waE2E.StickerPackMessage{MediaKey: key, DirectPath: path, FileEncSHA256: enc, Name: proto.String("Cats")}},
			reupload.Media{Kind: reupload.KindStickerPack, Name: "Cats"},
		},
		"a status of the group": {
			&waE2E.Message{GroupStatusMessageV2: wrap(&waE2E.Message{ImageMessage: picture})},
			reupload.Media{Kind: reupload.KindImage, MIMEType: "image/jpeg", Size: 1234, IsStatus: true},
		},
	} {
		files := reupload.MediaOf(carrierInfo(aGroup, alice), c.msg)
		if len(files) != 1 {
			t.Errorf("%s: listed %v", name, files)
			continue
		}
		if c.want.Request.MessageID == "" {
			c.want.Request.MessageID = mediaID
		}
		got := files[0]
		if got.Kind != c.want.Kind || got.MIMEType != c.want.MIMEType || got.Name != c.want.Name || got.Size != c.want.Size ||
			got.IsStatus != c.want.IsStatus || got.Request.MessageID != c.want.Request.MessageID {
			t.Errorf("%s: %q, %q, %d, status: %t, under %s", got, got.MIMEType, got.Name, got.Size, got.IsStatus, got.Request.MessageID)
		}
		if got.Request.Chat != aGroup || got.Request.Participant != alice || !bytes.Equal(got.Request.MediaKey, key) ||
			!bytes.Equal(got.Message.GetFileEncSHA256(), enc) {
			t.Errorf("%s: asks for %v", name, got.Request)
		}
	}
}

func TestMediaOfWhatChatsHave(t *testing.T) {
	t.Parallel()
	newsletter := types.NewJID("120363144038483540", types.NewsletterServer)
	plain := image(1)
	plain.MediaKey, plain.FileEncSHA256 = nil, nil
	pathless := proto.CloneOf(plain)
	pathless.DirectPath = nil
	for name, c := range map[string]struct {
		chat, sender types.JID
		media        *waE2E.ImageMessage
		files        int
		status       bool
	}{
		"one-to-one":                     {alice, alice, image(1), 1, false},
		"a status":                       {types.StatusBroadcastJID, alice, image(1), 1, true},
		"a newsletter":                   {newsletter, newsletter, plain, 1, false},
		"a newsletter, with a key":       {newsletter, newsletter, image(1), 1, false},
		"a newsletter, without a path":   {newsletter, newsletter, pathless, 0, false},
		"without a key in a chat":        {alice, alice, plain, 0, false},
		"in a group, without its sender": {aGroup, types.EmptyJID, image(1), 0, false},
	} {
		files := reupload.MediaOf(carrierInfo(c.chat, c.sender), &waE2E.Message{ImageMessage: c.media})
		if len(files) != c.files || len(files) > 0 && (files[0].IsStatus != c.status || files[0].Request.Chat != c.chat) {
			t.Errorf("%s: listed %v", name, files)
		}
	}
	if files := reupload.MediaOf(nil, &waE2E.Message{ImageMessage: image(1)}); len(files) != 0 {
		t.Errorf("without info: listed %v", files)
	}
	if files := reupload.MediaOf(carrierInfo(alice, alice), nil); len(files) != 0 {
		t.Errorf("without a message: listed %v", files)
	}
}

// A message can have the same file twice, and a hostile one any number of files.
func TestMediaOfIsBounded(t *testing.T) {
	t.Parallel()
	template := &waE2E.TemplateMessage_HydratedFourRowTemplate{
		Title: &waE2E.TemplateMessage_HydratedFourRowTemplate_ImageMessage{ImageMessage: image(1)},
	}
	both := &waE2E.Message{TemplateMessage: &waE2E.TemplateMessage{
		HydratedTemplate: template,
		Format:           &waE2E.TemplateMessage_HydratedFourRowTemplate_{HydratedFourRowTemplate: proto.CloneOf(template)},
	}}
	if files := reupload.MediaOf(carrierInfo(alice, alice), both); len(files) != 1 {
		t.Errorf("a template in two forms: listed %v", files)
	}
	var cards []*waE2E.InteractiveMessage
	for n := range byte(100) {
		cards = append(cards, &waE2E.InteractiveMessage{Header: &waE2E.InteractiveMessage_Header{
			Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: image(n)},
		}})
	}
	many := &waE2E.Message{InteractiveMessage: &waE2E.InteractiveMessage{
		InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{Cards: cards}},
	}}
	if files := reupload.MediaOf(carrierInfo(alice, alice), many); len(files) != 64 {
		t.Errorf("listed %d files", len(files))
	}
}

func TestMediaKeepsItsSecrets(t *testing.T) {
	t.Parallel()
	file := reupload.MediaOf(carrierInfo(alice, alice), &waE2E.Message{ImageMessage: image(65)})[0]
	want := `image of message "` + mediaID + `" in "` + alice.String() + `" from ""`
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		if got := fmt.Sprintf(verb, file); got != want {
			t.Errorf("%s prints %s", verb, got)
		}
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("a file", "media", file)
	if strings.Contains(log.String(), base64.StdEncoding.EncodeToString(image(65).MediaKey)) || !strings.Contains(log.String(), mediaID) {
		t.Errorf("logged as %s", &log)
	}
}

// What is listed of a real event can be asked for and downloaded.
func TestMediaOfAnEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		picture := r.box.Upload(content(), whatsmeow.MediaImage)
		evt := r.receive(wabox.Incoming{Chat: aGroup, From: alice}, &waE2E.Message{
			EphemeralMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: picture.Image()}},
		})
		r.box.Expire(picture)
		files := reupload.MediaOf(&evt.Info, evt.RawMessage)
		if len(files) != 1 || files[0].Kind != reupload.KindImage {
			t.Fatalf("listed %v", files)
		}
		file := files[0]
		ctx := reupload.WithRequest(r.ctx(), file.Request, file.Message.GetFileEncSHA256())
		data, err := r.client.Download(ctx, file.Message)
		if err != nil || !bytes.Equal(data, picture.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		if r.requests(file.Request).succeeds(t); t.Failed() {
			t.Errorf("asked as %v", file.Request)
		}
		newsletter := *carrierInfo(types.NewJID("120363144038483540", types.NewsletterServer), types.EmptyJID)
		plain := reupload.MediaOf(&newsletter, &waE2E.Message{ImageMessage: picture.Image()})
		if _, err = r.plugin.RequestReupload(r.ctx(), plain[0].Request); !errors.Is(err, reupload.ErrNewsletter) {
			t.Errorf("of a newsletter: %v", err)
		}
	})
}

// FuzzMediaOf reads messages that are whatever their sender likes: nested, wrapped, quoted, with
// fields of any size.
func FuzzMediaOf(f *testing.F) {
	wrapped := &waE2E.Message{ViewOnceMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: image(1)}}}
	edit := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Key: &waCommon.MessageKey{ID: proto.String("3EB0EDITED")}, EditedMessage: wrapped,
	}}
	reply := &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: &waE2E.ContextInfo{
		StanzaID: proto.String("3EB0QUOTED"), Participant: proto.String(alice.String()), QuotedMessage: edit,
	}}}
	for _, msg := range []*waE2E.Message{{ImageMessage: image(1)}, wrapped, edit, reply} {
		wire, err := proto.Marshal(msg)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		msg := new(waE2E.Message)
		if proto.Unmarshal(wire, msg) != nil {
			return
		}
		files := reupload.MediaOf(carrierInfo(aGroup, alice), msg)
		if len(files) > 64 {
			t.Errorf("%d files", len(files))
		}
		for i, file := range files {
			req := file.Request
			if len(req.MediaKey) != 32 || req.MessageID == "" || len(req.MessageID) > 128 || req.Participant.IsEmpty() {
				t.Errorf("file %d cannot be asked for: %v, %d bytes of key", i, req, len(req.MediaKey))
			}
			if slices.ContainsFunc(files[:i], func(o reupload.Media) bool { return o.Message == file.Message }) {
				t.Errorf("file %d is there twice", i)
			}
		}
	})
}
