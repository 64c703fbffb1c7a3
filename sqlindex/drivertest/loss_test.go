package drivertest

import (
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A whole bot: whatsmeow's own tables and those of the index are in one SQLite file, and the pool is as sql.Open makes it.
type bot struct {
	testing.TB
	box     *wabox.Box
	account *wabox.Account
	client  *whatsmeow.Client
	texts   chan string
	broken  chan *events.UndecryptableMessage
	synced  chan struct{}
}

func newBot(t *testing.T, db *sql.DB) *bot {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	sessions := sqlstore.NewWithDB(db, "sqlite3", nil)
	if err = sessions.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	device := sessions.NewDevice()
	b := &bot{TB: t, box: box, account: box.Pair(device), texts: make(chan string, 10_000),
		broken: make(chan *events.UndecryptableMessage, 10_000), synced: make(chan struct{}, 10)}
	if err = device.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.client = b.account.NewClient(nil)
	index, err := sqlindex.New(t.Context(), db, "sqlite3")
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := reupload.Register(b.client, &reupload.Options{Index: index})
	if err != nil {
		t.Fatal(err)
	}
	b.client.AddEventHandler(func(evt any) {
		switch evt := evt.(type) {
		case *events.Message:
			b.texts <- evt.Message.GetConversation()
		case *events.UndecryptableMessage:
			b.broken <- evt
		case *events.HistorySync:
			b.synced <- struct{}{} // our handler was first
		}
	})
	if err = b.client.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		plugin.Close()
		b.client.Disconnect()
	})
	if err = b.account.WaitOnline(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// blobIsDeleted waits until whatsmeow has deleted the blob of a history sync. It does that in its own time, with the media client that
// Close puts back.
func (b *bot) blobIsDeleted() {
	b.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		for _, asked := range b.box.Asked() {
			if asked.Method == http.MethodDelete {
				return
			}
		}
	}
	b.Error("the blob was not deleted")
}

// receives checks that texts arrive, all of them and readable.
func (b *bot) receives(n int) {
	b.Helper()
	timeout := time.After(patience)
	for got := 0; got < n; {
		select {
		case text := <-b.texts:
			if text != "" { // not one of the pictures
				got++
			}
		case evt := <-b.broken:
			b.Fatalf("message %s could not be decrypted, after %d of %d", evt.Info.ID, got, n)
		case <-timeout:
			b.Fatalf("%d of %d texts arrived", got, n)
		}
	}
}

func (b *bot) text(i int) {
	b.Helper()
	if _, err := b.account.Deliver(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String(fmt.Sprint("text ", i))}); err != nil {
		b.Fatal(err)
	}
}

// sqliteFiles are SQLite files as the documentation says to open them.
var sqliteFiles = map[string]func(testing.TB) *sql.DB{
	"modernc": func(t testing.TB) *sql.DB { return openSQLite(t, dbFile(t), recommended...) },
}

// While a large history sync is put into the index, whatsmeow goes on writing to the same file.
func TestHistorySyncLosesNoMessage(t *testing.T) {
	messages := 100_000
	if raceDetector { // which takes many times as long
		messages = 10_000
	}
	for name, open := range sqliteFiles {
		t.Run(name, func(t *testing.T) {
			b := newBot(t, open(t))
			sync := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum()}
			for chat := range 10 {
				conversation := &waHistorySync.Conversation{ID: proto.String(fmt.Sprintf("1555000000%d@s.whatsapp.net", chat))}
				for i := range messages / 10 {
					e := media(chat*messages + i)
					conversation.Messages = append(conversation.Messages, &waHistorySync.HistorySyncMsg{Message: &waWeb.WebMessageInfo{
						Key:              &waCommon.MessageKey{ID: &e.MessageID, RemoteJID: conversation.ID, FromMe: proto.Bool(false)},
						MessageTimestamp: proto.Uint64(uint64(e.Timestamp.Unix())),
						Message:          &waE2E.Message{ImageMessage: &waE2E.ImageMessage{MediaKey: e.MediaKey, FileEncSHA256: e.FileEncSHA256}},
					}})
				}
				sync.Conversations = append(sync.Conversations, conversation)
			}
			if err := b.account.DeliverHistory(sync); err != nil {
				t.Fatal(err)
			}
			n := 0
			for done := false; !done; n++ {
				b.text(n)
				select {
				case <-b.synced:
					done = true
				case <-time.After(25 * time.Millisecond):
				}
			}
			b.receives(n)
			t.Logf("%d live messages", n)
			b.blobIsDeleted()
			if n < 50 && !raceDetector {
				t.Errorf("only %d messages came while the history was put in", n)
			}
		})
	}
}

// A hundred expired pictures are asked for at once, and a hundred texts arrive.
func TestManyRequestsLoseNoMessage(t *testing.T) {
	for name, open := range sqliteFiles {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBot(t, open(t))
			const n = 100
			errs := make(chan error, n)
			for i := range n {
				file := b.box.Upload(fmt.Append(nil, "picture ", i), whatsmeow.MediaImage)
				if _, err := b.account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: file.Image()}); err != nil {
					t.Fatal(err)
				}
				b.box.Expire(file)
				go func() {
					_, err := b.client.Download(t.Context(), file.Image())
					for errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) { // it has not arrived yet
						time.Sleep(200 * time.Millisecond)
						_, err = b.client.Download(t.Context(), file.Image())
					}
					errs <- err
				}()
				b.text(i)
			}
			for range n {
				if err := <-errs; err != nil {
					t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
				}
			}
			b.receives(n)
		})
	}
}
