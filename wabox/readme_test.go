package wabox_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
)

// A pictureBot answers !ping, and weighs pictures.
type pictureBot struct{ client *whatsmeow.Client }

func startBot(client *whatsmeow.Client) {
	reupload.Register(client, nil)
	client.AddEventHandler((&pictureBot{client}).handle)
}

func (b *pictureBot) handle(evt any) {
	if msg, ok := evt.(*events.Message); ok && !msg.Info.IsFromMe {
		go b.answer(context.Background(), msg)
	}
}

func (b *pictureBot) answer(ctx context.Context, msg *events.Message) {
	var answer string
	if image := msg.Message.GetImageMessage(); image != nil {
		data, err := b.client.Download(ctx, image)
		answer = fmt.Sprintf("%d bytes", len(data))
		if err != nil {
			answer = "That picture is gone."
		}
	} else if msg.Message.GetConversation() == "!ping" {
		answer = "pong"
	} else {
		return
	}
	b.client.SendMessage(ctx, msg.Info.Chat, &waE2E.Message{Conversation: &answer})
}

func TestPictureBot(t *testing.T) {
	box := wabox.Start(t)
	account := box.NewAccount()
	account.Login(t, startBot)
	chat := account.Chat(t, wabox.Incoming{})

	chat.Say("!ping")
	if got := chat.Next().Text(); got != "pong" {
		t.Errorf("got %q", got)
	}

	// A picture that is no longer on WhatsApp's servers: the phone uploads it again.
	picture := box.Upload(make([]byte, 1000), whatsmeow.MediaImage)
	box.Expire(picture)
	chat.Send(&waE2E.Message{ImageMessage: picture.Image()})
	if got := chat.Next().Text(); got != "1000 bytes" {
		t.Errorf("got %q", got)
	}

	// And one that the phone does not have either.
	account.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.NotFound}}
	})
	lost := box.Upload(make([]byte, 2000), whatsmeow.MediaImage)
	box.Expire(lost)
	chat.Send(&waE2E.Message{ImageMessage: lost.Image()})
	if got := chat.Next().Text(); got != "That picture is gone." {
		t.Errorf("got %q", got)
	}
}
