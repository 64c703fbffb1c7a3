package reupload_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// history makes a history sync of one conversation.
func history(chat types.JID, messages ...*waWeb.WebMessageInfo) *waHistorySync.HistorySync {
	conversation := &waHistorySync.Conversation{ID: proto.String(chat.String())}
	for _, m := range messages {
		conversation.Messages = append(conversation.Messages, &waHistorySync.HistorySyncMsg{Message: m})
	}
	return &waHistorySync.HistorySync{
		SyncType:      waHistorySync.HistorySync_RECENT.Enum(),
		Conversations: []*waHistorySync.Conversation{conversation},
	}
}

func TestHistorySyncHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		ownPN := r.phone.PN
		status := types.StatusBroadcastJID
		list := types.NewJID("1599999999", types.BroadcastServer)
		type item struct {
			chat, sender types.JID
			fromMe       bool
			participant  types.JID // on the wire
		}
		for i, c := range []item{
			{chat: alice},
			{chat: alice, fromMe: true},
			{chat: aGroup, sender: types.JID{User: bobLID.User, Server: bobLID.Server, Device: 3}, participant: bobLID},
			{chat: aGroup, fromMe: true, participant: ownPN},
			{chat: status, sender: bob, participant: bob},
			{chat: list, sender: bob, participant: bob},
		} {
			media := r.box.Upload(content(), whatsmeow.MediaVideo)
			id := fmt.Sprintf("3EB0HISTORY%d", i)
			msg := &waWeb.WebMessageInfo{
				Key:              &waCommon.MessageKey{ID: proto.String(id), RemoteJID: proto.String(c.chat.String()), FromMe: proto.Bool(c.fromMe)},
				Message:          &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{PtvMessage: media.Video()}}},
				MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())), // a status lives for a day
			}
			if !c.sender.IsEmpty() {
				msg.Participant = proto.String(c.sender.String())
			}
			sync := history(c.chat, msg)
			if c.chat == status { // the phone has a list of its own for these
				sync = &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_INITIAL_STATUS_V3.Enum(), StatusV3Messages: []*waWeb.WebMessageInfo{msg}}
			}
			if err := r.phone.DeliverHistory(sync); err != nil {
				t.Fatal(err)
			}
			next[*events.HistorySync](r)
			r.asked(i) // nothing is asked by itself
			r.phone.Knows(id, media)
			r.box.Expire(media)
			data, err := r.client.Download(r.ctx(), media.Video())
			if err != nil || !bytes.Equal(data, media.Plaintext) {
				t.Errorf("%v: %v (cause: %v)", c, err, reupload.Cause(err))
				continue
			}
			req := r.phone.Requests()[i]
			if req.ID != id || req.Chat != c.chat || req.Participant != c.participant || req.FromMe != fmt.Sprint(c.fromMe) {
				t.Errorf("%v: asked for %s in %s of %s, from me: %s", c, req.ID, req.Chat, req.Participant, req.FromMe)
			}
			r.blobsDeleted(i + 1)
		}
	})
}

func TestQuotedPictureHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(nil)
		r.connect()
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		// The picture itself came long ago; what comes now is a command that quotes it.
		evt := r.receive(wabox.Incoming{Chat: aGroup, From: alice}, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			Text: proto.String("!sticker"),
			ContextInfo: &waE2E.ContextInfo{
				StanzaID: proto.String("3EB0LONGAGO"), Participant: proto.String(bob.String()), QuotedMessage: &waE2E.Message{ImageMessage: media.Image()},
			},
		}})
		r.box.Expire(media)
		quoted := evt.Message.GetExtendedTextMessage().GetContextInfo().GetQuotedMessage().GetImageMessage()
		data, err := r.client.Download(r.ctx(), quoted)
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Fatalf("%v (cause: %v)", err, reupload.Cause(err))
		}
		if req := r.phone.Requests()[0]; req.ID != "3EB0LONGAGO" || req.Chat != aGroup || req.Participant != bob {
			t.Errorf("asked for %s in %s of %s", req.ID, req.Chat, req.Participant)
		}
	})
}

func TestEveryKindOfMediaHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		for kind, of := range map[whatsmeow.MediaType]func(m *wabox.Media) (*waE2E.Message, whatsmeow.DownloadableMessage){
			whatsmeow.MediaImage: func(m *wabox.Media) (*waE2E.Message, whatsmeow.DownloadableMessage) {
				s := m.Sticker()
				return &waE2E.Message{StickerMessage: s}, s
			},
			whatsmeow.MediaVideo: func(m *wabox.Media) (*waE2E.Message, whatsmeow.DownloadableMessage) {
				v := m.Video()
				return &waE2E.Message{ViewOnceMessageV2: &waE2E.FutureProofMessage{Message: &waE2E.Message{VideoMessage: v}}}, v
			},
			whatsmeow.MediaAudio: func(m *wabox.Media) (*waE2E.Message, whatsmeow.DownloadableMessage) {
				a := m.Audio()
				return &waE2E.Message{AudioMessage: a}, a
			},
			whatsmeow.MediaDocument: func(m *wabox.Media) (*waE2E.Message, whatsmeow.DownloadableMessage) {
				d := m.Document()
				return &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{DocumentMessage: d}}}, d
			},
			whatsmeow.MediaStickerPack: func(m *wabox.Media) (*waE2E.Message, whatsmeow.DownloadableMessage) {
				s := &waE2E.StickerPackMessage{
					DirectPath: proto.String(m.DirectPath), MediaKey: m.MediaKey, FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256,
				}
				return &waE2E.Message{StickerPackMessage: s}, s
			},
		} {
			media := r.box.Upload(content(), kind)
			msg, part := of(media)
			r.receive(wabox.Incoming{}, msg)
			r.box.Expire(media)
			data, err := r.client.Download(r.ctx(), part)
			if err != nil || !bytes.Equal(data, media.Plaintext) {
				t.Errorf("%s: %v (cause: %v)", kind, err, reupload.Cause(err))
			}
		}
	})
}

func TestLinkPreviewsAreNotAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaLinkThumbnail)
		text := &waE2E.ExtendedTextMessage{
			Text: proto.String("https://example.org"), ThumbnailDirectPath: proto.String(media.DirectPath),
			ThumbnailSHA256: media.FileSHA256, ThumbnailEncSHA256: media.FileEncSHA256, MediaKey: media.MediaKey,
		}
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ExtendedTextMessage: text})
		r.box.Expire(media)
		if _, err := r.client.DownloadThumbnail(reupload.WithMessage(r.ctx(), &evt.Info, thumbnail{text}), text); err == nil || reupload.Cause(err) != nil {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		r.asked(0)
	})
}

type thumbnail struct{ *waE2E.ExtendedTextMessage }

func (t thumbnail) GetDirectPath() string    { return t.GetThumbnailDirectPath() }
func (t thumbnail) GetFileSHA256() []byte    { return t.GetThumbnailSHA256() }
func (t thumbnail) GetFileEncSHA256() []byte { return t.GetThumbnailEncSHA256() }
