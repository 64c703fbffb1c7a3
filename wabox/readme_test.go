package wabox_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

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

func TestPhoneIsOffForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := wabox.Start(t)
		account := box.NewAccount()
		account.Login(t, startBot)
		chat := account.Chat(t, wabox.Incoming{})

		// What the phone is asked today, it answers tomorrow.
		tomorrow := time.Now().Add(24 * time.Hour)
		account.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, Delay: time.Until(tomorrow)}}
		})
		picture := box.Upload(make([]byte, 1000), whatsmeow.MediaImage)
		box.Expire(picture)
		chat.Send(&waE2E.Message{ImageMessage: picture.Image()})
		if got := chat.Next().Text(); got != "That picture is gone." { // after 30 seconds
			t.Errorf("got %q", got)
		}

		time.Sleep(25 * time.Hour)
		asked := account.RequestCount()
		chat.Send(&waE2E.Message{ImageMessage: picture.Image()}) // forwarded, say
		if got := chat.Next().Text(); got != "1000 bytes" {
			t.Errorf("got %q", got)
		}
		if again := account.RequestCount() - asked; again != 0 {
			t.Errorf("the phone was asked %d times more, although its answer has come", again)
		}
	})
}

func TestBadNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box := wabox.Start(t)
		account := box.NewAccount()
		account.Login(t, startBot)
		chat := account.Chat(t, wabox.Incoming{})

		// Of three connections to the CDN, two break after 20 kB.
		box.Network(func(d wabox.Dial) wabox.Plan {
			if d.IsChat() || d.Number%3 == 0 {
				return wabox.Plan{Latency: 50 * time.Millisecond}
			}
			return wabox.Plan{Fault: wabox.Cut, AfterBytes: 20_000}
		})
		// The chat server has hung up, and the client does not know.
		if err := account.Disturb(wabox.ClientUnaware, 0); err != nil {
			t.Fatal(err)
		}
		picture := box.Upload(make([]byte, 100_000), whatsmeow.MediaImage)
		chat.Send(&waE2E.Message{ImageMessage: picture.Image()})
		time.Sleep(5 * time.Minute) // whatsmeow finds it out in four
		if got := chat.Next().Text(); got != "100000 bytes" {
			t.Errorf("got %q", got)
		}
	})
}
