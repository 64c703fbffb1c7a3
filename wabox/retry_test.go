package wabox_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// retry asks for a file and returns the answer, as whatsmeow decrypts it.
func retry(t *testing.T, b *bot, info *types.MessageInfo, mediaKey []byte) (*waMmsRetry.MediaRetryNotification, error) {
	t.Helper()
	if err := b.SendMediaRetryReceipt(t.Context(), info, mediaKey); err != nil {
		t.Fatal(err)
	}
	return whatsmeow.DecryptMediaRetryNotification(next[*events.MediaRetry](t, b), mediaKey)
}

// received delivers a picture and returns its message.
func received(t *testing.T, b *bot, media *wabox.Media, in wabox.Incoming) *events.Message {
	t.Helper()
	deliver(t, b.account, in, &waE2E.Message{ImageMessage: media.Image()})
	return next[*events.Message](t, b)
}

func TestMediaRetry(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	evt := received(t, b, media, wabox.Incoming{
		From: jid(t, "491701111111@s.whatsapp.net"), Chat: jid(t, "120363000000000001@g.us"),
	})
	image := evt.Message.GetImageMessage()
	box.Expire(media)
	if _, err := b.Download(t.Context(), image); !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
		t.Fatalf("got %v", err)
	}
	answer, err := retry(t, b, &evt.Info, image.GetMediaKey())
	if err != nil || answer.GetResult() != wabox.Success || answer.GetStanzaID() != evt.Info.ID {
		t.Fatalf("got %v, %v", answer, err)
	}
	image.DirectPath = answer.DirectPath
	if data, err := b.Download(t.Context(), image); err != nil || string(data) != "picture" {
		t.Errorf("got %q, %v", data, err)
	}

	r := account.Requests()[0]
	if r.ID != evt.Info.ID || r.To != account.PN || r.Chat != evt.Info.Chat || r.FromMe != "false" ||
		!r.HasParticipant || r.Participant != evt.Info.Sender || r.StanzaID != evt.Info.ID ||
		!bytes.Equal(r.MediaKey, media.MediaKey) || len(r.EncIV) != 12 || len(r.EncP) == 0 || r.Node.Tag != "receipt" {
		t.Errorf("got %+v", r)
	}

	account.Forget(evt.Info.ID)
	answer, err = retry(t, b, &evt.Info, image.GetMediaKey())
	if err != nil || answer.GetResult() != wabox.NotFound || answer.DirectPath != nil {
		t.Errorf("lost file: got %v, %v", answer, err)
	}
	unknown := evt.Info
	unknown.ID = "UNKNOWN"
	if _, err = retry(t, b, &unknown, image.GetMediaKey()); !errors.Is(err, whatsmeow.ErrMediaNotAvailableOnPhone) {
		t.Errorf("unknown message: got %v", err)
	}
	if _, err = retry(t, b, &evt.Info, make([]byte, 32)); !errors.Is(err, whatsmeow.ErrUnknownMediaRetryError) {
		t.Errorf("wrong key: got %v", err)
	}
	if account.RequestCount() != 4 || account.MaxWaiting() != 1 {
		t.Errorf("%d requests, %d at once", account.RequestCount(), account.MaxWaiting())
	}
}

func TestUploadedByClient(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := login(t, account)
	up, err := b.Upload(t.Context(), []byte("mine"), whatsmeow.MediaImage)
	if err != nil {
		t.Fatal(err)
	}
	deliver(t, account, wabox.Incoming{}, &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
		DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileSHA256: up.FileSHA256, FileEncSHA256: up.FileEncSHA256,
	}})
	evt := next[*events.Message](t, b)
	image := evt.Message.GetImageMessage()
	answer, err := retry(t, b, &evt.Info, up.MediaKey)
	if err != nil || answer.GetResult() != wabox.Success {
		t.Fatalf("got %v, %v", answer, err)
	}
	image.DirectPath = answer.DirectPath
	if data, err := b.Download(t.Context(), image); err != nil || string(data) != "mine" {
		t.Errorf("got %q, %v", data, err)
	}

	// A key is all that the phone knows of a file that was never on the CDN.
	deliver(t, account, wabox.Incoming{}, &waE2E.Message{VideoMessage: &waE2E.VideoMessage{MediaKey: make([]byte, 32)}})
	evt = next[*events.Message](t, b)
	if answer, err = retry(t, b, &evt.Info, make([]byte, 32)); err != nil || answer.GetResult() != wabox.NotFound {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestHistory(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	media := box.Upload([]byte("old picture"), whatsmeow.MediaImage)
	chat := "491701111111@s.whatsapp.net"
	if err := account.DeliverHistory(&waHistorySync.HistorySync{
		SyncType:   waHistorySync.HistorySync_RECENT.Enum(),
		ChunkOrder: proto.Uint32(3),
		Conversations: []*waHistorySync.Conversation{{
			ID: &chat,
			Messages: []*waHistorySync.HistorySyncMsg{{Message: &waWeb.WebMessageInfo{
				Key:              &waCommon.MessageKey{RemoteJID: &chat, FromMe: proto.Bool(false), ID: proto.String("OLD")},
				MessageTimestamp: proto.Uint64(1_600_000_000),
				Message:          &waE2E.Message{ImageMessage: media.Image()},
			}}},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	history := next[*events.HistorySync](t, b)
	if history.Data.GetSyncType() != waHistorySync.HistorySync_RECENT || history.Data.GetChunkOrder() != 3 {
		t.Errorf("got %v", history.Data)
	}
	evt, err := b.ParseWebMessage(jid(t, chat), history.Data.GetConversations()[0].GetMessages()[0].GetMessage())
	if err != nil {
		t.Fatal(err)
	}
	box.Expire(media)
	answer, err := retry(t, b, &evt.Info, media.MediaKey)
	if err != nil || answer.GetResult() != wabox.Success {
		t.Errorf("got %v, %v", answer, err)
	}
}

func TestQuoted(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	quoted, reply := box.Upload([]byte("quoted"), whatsmeow.MediaImage), box.Upload([]byte("reply"), whatsmeow.MediaImage)
	image := reply.Image()
	image.ContextInfo = &waE2E.ContextInfo{
		StanzaID:      proto.String("QUOTED"),
		QuotedMessage: &waE2E.Message{ImageMessage: quoted.Image()},
	}
	deliver(t, b.account, wabox.Incoming{}, &waE2E.Message{
		ViewOnceMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: image}},
	})
	info := next[*events.Message](t, b).Info
	if answer, err := retry(t, b, &info, reply.MediaKey); err != nil || answer.GetResult() != wabox.Success {
		t.Errorf("reply: got %v, %v", answer, err)
	}
	info.ID = "QUOTED"
	if answer, err := retry(t, b, &info, quoted.MediaKey); err != nil || answer.GetResult() != wabox.Success {
		t.Errorf("quoted: got %v, %v", answer, err)
	}
}
