package reupload_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
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

// A bot that restarts keeps what it knows in its database, and looks up the rest in a table of its own: here the one of whatsapp-mcp,
// whose sender is a bare number.
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
