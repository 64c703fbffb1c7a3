package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The whole of it: one call after NewClient, and an unchanged bot.
func Example() {
	client, stage := exampleClient()
	defer stage.Close()

	plugin, err := reupload.Register(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer plugin.Close()

	done := make(chan bool)
	client.AddEventHandler(func(evt any) {
		msg, ok := evt.(*events.Message)
		if !ok {
			return
		}
		// The file behind this picture has expired.
		data, err := client.Download(context.Background(), msg.Message.GetImageMessage())
		fmt.Printf("%s, %v\n", data, err)
		close(done)
	})
	stage.run(client)
	<-done
	fmt.Println("healed:", plugin.Stats().Healed)
	// Output:
	// a picture from last year, <nil>
	// healed: 1
}

// Why a download could not be healed. The error itself stays whatsmeow's.
func ExampleCause() {
	client, stage := exampleClient()
	defer stage.Close()
	stage.phoneHasLostIt = true

	plugin, err := reupload.Register(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer plugin.Close()

	msg := stage.run(client)
	_, err = client.Download(context.Background(), msg.Message.GetImageMessage())
	if errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) && errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
		fmt.Println("The phone no longer has it either.")
	}
	// Output: The phone no longer has it either.
}

// Asking without a download, for a bot that has a queue of its own.
func ExamplePlugin_RequestReupload() {
	client, stage := exampleClient()
	defer stage.Close()

	plugin, err := reupload.Register(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer plugin.Close()

	msg := stage.run(client)
	img := msg.Message.GetImageMessage()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	result, err := plugin.RequestReupload(ctx, reupload.NewRequest(&msg.Info, img))
	if err != nil {
		fmt.Println("no answer:", err)
		return
	}
	if err = result.Err(); err != nil {
		fmt.Println("the phone says:", err)
		return
	}
	img.DirectPath = &result.DirectPath
	data, err := client.Download(ctx, img)
	fmt.Printf("%v: %s, %v\n", result.Status, data, err)
	// Output: SUCCESS: a picture from last year, <nil>
}

// A bot with a database of its own names the message that the media belongs to.
func ExampleWithMessage() {
	client, stage := exampleClient()
	defer stage.Close()
	msg := stage.run(client) // before the plugin: its index knows nothing of it

	plugin, err := reupload.Register(client, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer plugin.Close()

	img := msg.Message.GetImageMessage()
	data, err := client.Download(reupload.WithMessage(context.Background(), &msg.Info, img), img)
	fmt.Printf("%s, %v\n", data, err)
	// Output: a picture from last year, <nil>
}

// An exampleStage is what an example stands on: a WhatsApp on loopback.
type exampleStage struct {
	*wabox.Box
	account        *wabox.Account
	client         *whatsmeow.Client
	phoneHasLostIt bool
}

func exampleClient() (*whatsmeow.Client, *exampleStage) {
	box, err := wabox.New()
	if err != nil {
		panic(err)
	}
	account := box.NewAccount()
	client := account.NewClient(nil)
	return client, &exampleStage{Box: box, account: account, client: client}
}

// run connects the client and sends it a picture whose file has expired.
func (s *exampleStage) run(client *whatsmeow.Client) *events.Message {
	messages := make(chan *events.Message, 1)
	client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			messages <- msg
		}
	})
	if err := client.Connect(); err != nil {
		panic(err)
	}
	media := s.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	s.Expire(media)
	id, err := s.account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	if err != nil {
		panic(err)
	}
	if s.phoneHasLostIt {
		s.account.Forget(id)
	}
	return <-messages
}

// Close ends the client's connection, and the box.
func (s *exampleStage) Close() {
	s.client.Disconnect()
	s.Box.Close()
}
