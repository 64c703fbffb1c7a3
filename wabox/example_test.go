package wabox_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"log"
	"net/http"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// A box without a test: a client logs in, gets a message and answers it.
func Example() {
	ctx := context.Background()
	box, err := wabox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()

	client := account.NewClient(nil)
	messages := make(chan *events.Message, 1)
	client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			messages <- msg
		}
	})
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()

	contact := types.NewJID("491701234567", types.DefaultUserServer)
	hello := &waE2E.Message{Conversation: proto.String("hello")}
	if _, err := account.Deliver(wabox.Incoming{From: contact}, hello); err != nil {
		log.Fatal(err)
	}
	msg := <-messages
	answer := &waE2E.Message{Conversation: proto.String("you said " + msg.Message.GetConversation())}
	if _, err := client.SendMessage(ctx, msg.Info.Chat, answer); err != nil {
		log.Fatal(err)
	}
	sent := account.Sent()
	fmt.Println(sent[0].Chat, sent[0].Text())
	// Output: 491701234567@s.whatsapp.net you said hello
}

// A client that is not linked yet shows a QR code, and the phone scans it.
func ExampleAccount_Scan() {
	ctx := context.Background()
	box, err := wabox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	phone := box.NewPhone()

	client := phone.NewClient(nil)
	items, err := client.GetQRChannel(ctx)
	if err != nil {
		log.Fatal(err)
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	for item := range items {
		fmt.Println(item.Event)
		if item.Event == whatsmeow.QRChannelEventCode {
			if err := phone.Scan(ctx, item.Code); err != nil {
				log.Fatal(err)
			}
		}
	}
	if err := phone.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(client.Store.ID)
	// Output:
	// code
	// success
	// 15550000001:3@s.whatsapp.net
}

// A bot that sets a proxy dials with a copy of http.DefaultTransport. What is done to that here
// belongs into a TestMain.
func ExampleDialContext() {
	transport := http.DefaultTransport.(*http.Transport)
	transport.DialContext = wabox.DialContext
	transport.TLSClientConfig = &tls.Config{RootCAs: wabox.CertPool()}

	box, err := wabox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	proxy, err := box.NewProxy()
	if err != nil {
		log.Fatal(err)
	}
	client := box.NewAccount().NewClient(nil)
	if err := client.SetProxyAddress(proxy.URL().String()); err != nil {
		log.Fatal(err)
	}
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	fmt.Println(proxy.Hits())
	// Output: 1
}

// The phone's answers to requests for one message, in order. The last one is for all
// further requests too.
func ExampleAccount_Script() {
	ctx := context.Background()
	box, err := wabox.New()
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	account.Script("3EB0C0FFEE",
		wabox.Answer{Result: wabox.GeneralError},
		wabox.Answer{Result: wabox.Success},
	)
	picture := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	in := wabox.Incoming{ID: "3EB0C0FFEE", From: types.NewJID("491701234567", types.DefaultUserServer)}
	account.KnowsMessage(in, &waE2E.Message{ImageMessage: picture.Image()})

	client := account.NewClient(nil)
	answers := make(chan *events.MediaRetry)
	client.AddEventHandler(func(evt any) {
		if evt, ok := evt.(*events.MediaRetry); ok {
			answers <- evt
		}
	})
	if err := client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err := account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}
	info := &types.MessageInfo{ID: in.ID, MessageSource: types.MessageSource{Chat: in.From, Sender: in.From}}
	for range 2 {
		if err := client.SendMediaRetryReceipt(ctx, info, picture.MediaKey); err != nil {
			log.Fatal(err)
		}
		answer, err := whatsmeow.DecryptMediaRetryNotification(<-answers, picture.MediaKey)
		fmt.Println(answer.GetResult(), answer.DirectPath != nil, err)
	}
	fmt.Println(account.RequestCount(), account.Requests()[0].Wrong == "")
	// Output:
	// GENERAL_ERROR false <nil>
	// SUCCESS true <nil>
	// 2 true
}
