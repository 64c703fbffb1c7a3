package reupload_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The whole of it: one call after NewClient, and an unchanged bot.
func Example() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil) // whatsmeow.NewClient, for the real one

	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()

	done := make(chan bool)
	client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			data, err := client.Download(ctx, msg.Message.GetImageMessage())
			fmt.Printf("%s, %v\n", data, err)
			close(done)
		}
	})
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()

	// Somebody sends a picture, whose file has expired before the bot downloads it.
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	box.Expire(picture)
	if _, err = account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: picture.Image()}); err != nil {
		log.Fatal(err)
	}
	<-done
	fmt.Println("healed:", plugin.Stats().Healed)
	// Output:
	// a picture from last year, <nil>
	// healed: 1
}

// Why a download could not be healed. The error itself stays whatsmeow's.
func ExampleCause() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)
	account.Forget(info.ID) // on the phone too

	_, err = plugin.Download(ctx, info, msg.GetImageMessage())
	if errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) && errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
		fmt.Println("The phone no longer has it either.")
	}
	// Output: The phone no longer has it either.
}

// Asking without a download, for a bot that has a queue of its own.
func ExamplePlugin_RequestReupload() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)

	image := msg.GetImageMessage()
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	result, err := plugin.RequestReupload(ctx, reupload.NewRequest(info, image))
	if err != nil {
		log.Fatal("no answer: ", err)
	}
	if err = result.Err(); err != nil {
		log.Fatal("the phone says: ", err)
	}
	image.DirectPath = &result.DirectPath
	data, err := client.Download(ctx, image)
	fmt.Printf("%v: %s, %v\n", result.Status, data, err)
	// Output: SUCCESS: a picture from last year, <nil>
}

// A bot with a database of its own names the message that the media belongs to.
func ExampleWithMessage() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)

	image := msg.GetImageMessage()
	data, err := client.Download(reupload.WithMessage(ctx, info, image), image)
	fmt.Printf("%s, %v\n", data, err)
	// Output: a picture from last year, <nil>
}

// A message that the plugin has not seen is remembered by hand. Whatever downloads its media then
// need not name it.
func ExamplePlugin_Remember() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)

	if err = plugin.Remember(ctx, info, msg); err != nil {
		log.Fatal(err)
	}
	data, err := client.Download(ctx, msg.GetImageMessage())
	fmt.Printf("%s, %v\n", data, err)
	// Output: a picture from last year, <nil>
}

// A picture from last year is sent again by reference: a copy of it with a path that works, and no
// upload. The phone is asked only if the CDN does not have the file any more.
func ExamplePlugin_FreshPath() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)

	path, err := plugin.FreshPath(ctx, info, msg.GetImageMessage())
	if err != nil {
		log.Fatal(reupload.Cause(err))
	}
	image := proto.CloneOf(msg.GetImageMessage())
	image.DirectPath = &path
	image.URL = proto.String("https://mmg.whatsapp.net" + path)
	_, err = client.SendMessage(ctx, contact, &waE2E.Message{ImageMessage: image})
	fmt.Printf("sent: %v; a new path: %t\n", err, path != picture.DirectPath)
	// Output: sent: <nil>; a new path: true
}

// Counts for a dashboard, as JSON.
func ExamplePlugin_Stats() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)

	_, _ = client.Download(ctx, msg.GetImageMessage()) // the index does not know its message
	_, _ = plugin.Download(ctx, info, msg.GetImageMessage())
	counts, err := json.Marshal(plugin.Stats())
	fmt.Printf("%s, %v\n", counts, err)
	// Output: {"Healthy":0,"Expired":2,"Asked":1,"Healed":1,"Late":0,"Unhealed":{"unknown_message":1},"Waiting":0}, <nil>
}

// The bot is told of every new path, even if it has asked for it itself or waits no longer, and
// stores it in place of the old one.
func ExampleOptions_onReupload() {
	ctx := context.Background()
	box, err := wabox.New() // a WhatsApp in this process, so that the example runs
	if err != nil {
		log.Fatal(err)
	}
	defer box.Close()
	account := box.NewAccount()
	client := account.NewClient(nil)
	told := make(chan reupload.Reupload, 1)
	plugin, err := reupload.Register(client, &reupload.Options{OnReupload: func(u reupload.Reupload) { told <- u }})
	if err != nil {
		log.Fatal(err)
	}
	defer plugin.Close()
	if err = client.Connect(); err != nil {
		log.Fatal(err)
	}
	defer client.Disconnect()
	if err = account.WaitOnline(ctx); err != nil {
		log.Fatal(err)
	}

	// A message from before the plugin, as the bot has it in its archive. The file has expired.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	info := &types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}}
	picture := box.Upload([]byte("a picture from last year"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: picture.Image()}
	account.KnowsMessage(wabox.Incoming{ID: info.ID, From: contact}, msg)
	box.Expire(picture)

	if _, err = plugin.Download(ctx, info, msg.GetImageMessage()); err != nil {
		log.Fatal(err)
	}
	u := <-told
	fmt.Printf("message %s: a new path: %t, late: %t\n", u.Request.MessageID, u.Result.DirectPath != "", u.Late)
	// Output: message 3EB0C0FFEE: a new path: true, late: false
}

// A bot that restarts keeps what it knows in its database, and looks up the rest in a table of its
// own: here the one of whatsapp-mcp, whose sender is a bare number.
func ExampleOptions() {
	open := func(ctx context.Context, client *whatsmeow.Client, db *sql.DB) (*reupload.Plugin, error) {
		index, err := sqlindex.New(ctx, db, "sqlite3")
		if err != nil {
			return nil, err
		}
		return reupload.Register(client, &reupload.Options{
			Index: index,
			Lookup: func(ctx context.Context, fileEncSHA256 []byte) (found []reupload.Request, err error) {
				rows, err := db.QueryContext(ctx, `SELECT id, chat_jid, sender, is_from_me, media_key FROM messages WHERE file_enc_sha256 = ?`, fileEncSHA256)
				if err != nil {
					return nil, err
				}
				defer rows.Close()
				for rows.Next() {
					var r reupload.Request
					var chat, sender string
					if err = rows.Scan(&r.MessageID, &chat, &sender, &r.IsFromMe, &r.MediaKey); err != nil {
						return nil, err
					}
					if r.Chat, err = types.ParseJID(chat); err != nil {
						continue
					}
					r.Participant = types.JID{User: sender} // the group tells whether it is a phone number or a LID
					found = append(found, r)
				}
				return found, rows.Err()
			},
			OnReupload: func(u reupload.Reupload) {
				_, err := db.Exec(`UPDATE messages SET url = ? WHERE id = ? AND chat_jid = ?`,
					"https://mmg.whatsapp.net"+u.Result.DirectPath, u.Request.MessageID, u.Request.Chat.String())
				if err != nil {
					client.Log.Warnf("Not stored: %v", err)
				}
			},
		})
	}
	_ = open
}

// A caller that has nothing but fields, as from a row of a database.
func ExampleWithRequest() {
	download := func(ctx context.Context, client *whatsmeow.Client, id, chat, sender string, image *waE2E.ImageMessage) ([]byte, error) {
		jid, err := types.ParseJID(chat)
		if err != nil {
			return nil, err
		}
		ctx = reupload.WithRequest(ctx, reupload.Request{
			MessageID:   id,
			Chat:        jid,
			Participant: types.JID{User: sender},
			MediaKey:    image.GetMediaKey(),
		}, image.GetFileEncSHA256())
		return client.Download(ctx, image)
	}
	_ = download
}

// All files of the messages that a bot gets, wherever they sit in a message.
func ExampleMediaOf() {
	handle := func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			list(reupload.MediaOf(&msg.Info, msg.RawMessage)) // which has more than msg.Message
		}
	}

	// Such an event: a document that disappears from the chat.
	contact := types.NewJID("491701234567", types.DefaultUserServer)
	handle(&events.Message{
		Info: types.MessageInfo{ID: "3EB0C0FFEE", MessageSource: types.MessageSource{Chat: contact, Sender: contact}},
		RawMessage: &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{
			DocumentMessage: &waE2E.DocumentMessage{
				FileName: proto.String("offer.pdf"), Mimetype: proto.String("application/pdf"), FileLength: proto.Uint64(52_134),
				DirectPath: proto.String("/v/t62.7119-24/1_n.enc?ccb=11-4&oh=01_Q5Aa&oe=66A1B2C3"),
				MediaKey:   make([]byte, 32), FileSHA256: make([]byte, 32), FileEncSHA256: make([]byte, 32),
			},
		}}},
	})
	// Output:
	// document of message "3EB0C0FFEE" in "491701234567@s.whatsapp.net" from ""
	// "offer.pdf" (application/pdf), 52134 bytes
}

func list(files []reupload.Media) {
	for _, file := range files {
		fmt.Println(file)
		fmt.Printf("%q (%s), %d bytes\n", file.Name, file.MIMEType, file.Size)
	}
}

// New paths for everything that a bot has ever stored, in constant memory and at the plugin's pace.
func ExamplePlugin_RequestAll() {
	backfill := func(ctx context.Context, plugin *reupload.Plugin, stored iter.Seq[reupload.Request], save func(id, directPath string)) {
		for answer := range plugin.RequestAll(ctx, stored) {
			switch {
			case answer.Err != nil:
				fmt.Println(answer.Request.MessageID, reupload.Label(answer.Err))
			case answer.Result.DirectPath != "":
				save(answer.Request.MessageID, answer.Result.DirectPath)
			}
		}
	}
	_ = backfill
}
