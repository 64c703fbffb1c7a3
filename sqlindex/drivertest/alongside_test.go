package drivertest

import (
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// documented opens a database as the package documentation says, for each driver that it names. The
// one with cgo is only there where that is.
var documented = map[string]func(path string) string{
	"sqlite": func(path string) string { return "file:" + path + "?" + moderncOptions },
}

// A bot has whatsmeow's store and the index in one SQLite file and one pool, as bots have it.
type bot struct {
	box     *wabox.Box
	account *wabox.Account
	client  *whatsmeow.Client
	plugin  *reupload.Plugin
	history chan struct{} // closed when a history sync has been handled
	media   chan *events.Message

	mu            sync.Mutex
	arrived       map[types.MessageID]bool
	undecryptable int
}

func newBot(t *testing.T, db *sql.DB, dialect string, buffered bool) *bot {
	t.Helper()
	container := sqlstore.NewWithDB(db, dialect, nil)
	if err := container.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	b := &bot{
		box: box, history: make(chan struct{}), media: make(chan *events.Message, 1000), arrived: make(map[types.MessageID]bool),
	}
	device := container.NewDevice()
	b.account = box.Pair(device)
	if err = device.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.client = b.account.NewClient(nil)
	b.client.EnableDecryptedEventBuffer = buffered // with it, whatsmeow reads and writes in one transaction
	b.plugin, err = reupload.Register(b.client, &reupload.Options{Index: newIndex(t, db, dialect), Pace: -1})
	if err != nil {
		t.Fatal(err)
	}
	b.client.AddEventHandler(b.handle)
	if err = b.client.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = b.plugin.Close()
		b.client.Disconnect()
	})
	if err = b.account.WaitOnline(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

func (b *bot) handle(evt any) {
	switch evt := evt.(type) {
	case *events.Message:
		if evt.Message.GetImageMessage() != nil {
			b.media <- evt
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.arrived[evt.Info.ID] = true
	case *events.UndecryptableMessage:
		b.mu.Lock()
		defer b.mu.Unlock()
		b.undecryptable++
	case *events.HistorySync: // the plugin's handler comes first, and has done with it
		close(b.history)
	}
}

// texts delivers texts until there are enough.
func (b *bot) texts(t *testing.T, pause time.Duration, enough func(n int) bool) (sent []types.MessageID) {
	t.Helper()
	for !enough(len(sent)) {
		id, err := b.account.Deliver(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("text")})
		if err != nil {
			t.Fatal(err)
		}
		sent = append(sent, id)
		time.Sleep(pause)
	}
	return sent
}

// wantAll waits for messages, as long as some arrive.
func (b *bot) wantAll(t *testing.T, sent []types.MessageID) {
	t.Helper()
	missing, undecryptable := len(sent), 0
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		before := missing
		b.mu.Lock()
		missing, undecryptable = 0, b.undecryptable
		for _, id := range sent {
			if !b.arrived[id] {
				missing++
			}
		}
		b.mu.Unlock()
		if missing < before {
			deadline = time.Now().Add(patience)
		}
		if missing == 0 || missing <= undecryptable || time.Now().After(deadline) {
			break
		}
	}
	if missing > 0 || undecryptable > 0 {
		t.Errorf("of %d messages %d are missing, %d could not be decrypted", len(sent), missing, undecryptable)
	}
}

// blobIsDeleted waits until whatsmeow has deleted the blob of a history sync. It does that in its
// own time, and with the media client that Close puts back.
func (b *bot) blobIsDeleted(t *testing.T) {
	t.Helper()
	isDelete := func(asked wabox.Asked) bool { return asked.Method == http.MethodDelete }
	for deadline := time.Now().Add(patience); !slices.ContainsFunc(b.box.Asked(), isDelete); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the blob was not deleted")
		}
	}
}

// alongside runs a test with each driver, one after the other: a whole bot under load is enough.
func alongside(t *testing.T, buffered bool, test func(*testing.T, *bot, *sql.DB)) {
	for driver, dsn := range documented {
		t.Run(driver, func(t *testing.T) {
			db := openDB(t, driver, dsn(dbFile(t)))
			test(t, newBot(t, db, driver, buffered), db)
		})
	}
}

// history returns a history sync of so many pictures.
func history(count int) *waHistorySync.HistorySync {
	const perChat = 1000
	hs := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum()}
	for n := range count {
		if n%perChat == 0 {
			chat := fmt.Sprintf("4917%08d@s.whatsapp.net", n)
			hs.Conversations = append(hs.Conversations, &waHistorySync.Conversation{ID: &chat})
		}
		chat := hs.Conversations[len(hs.Conversations)-1]
		file := sha256.Sum256(fmt.Append(nil, n))
		chat.Messages = append(chat.Messages, &waHistorySync.HistorySyncMsg{Message: &waWeb.WebMessageInfo{
			Key:              &waCommon.MessageKey{RemoteJID: chat.ID, FromMe: proto.Bool(false), ID: proto.String(fmt.Sprintf("3EB0%018X", n))},
			MessageTimestamp: proto.Uint64(1_700_000_000 + uint64(n)),
			Message: &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
				MediaKey: file[:], FileEncSHA256: file[:], FileSHA256: file[:], FileLength: proto.Uint64(1000),
				DirectPath: proto.String("/v/t62.7118-24/1.enc"),
			}},
		}})
	}
	return hs
}

// What whatsmeow writes for each message goes through while the index takes a history sync in.
func TestHistorySyncLosesNoMessage(t *testing.T) {
	alongside(t, true, func(t *testing.T, b *bot, db *sql.DB) {
		count := lots(100_000)
		start := time.Now()
		if err := b.account.DeliverHistory(history(count)); err != nil {
			t.Fatal(err)
		}
		t.Logf("delivered in %v", time.Since(start))
		sent := b.texts(t, 10*time.Millisecond, func(int) bool {
			select {
			case <-b.history:
				return true
			default:
				return t.Context().Err() != nil
			}
		})
		took := time.Since(start)
		b.wantAll(t, sent)
		b.blobIsDeleted(t)
		if n, want := countRows(t, db), count+1; n != want { // and the part of the history itself
			t.Errorf("%d entries are in the index, want %d", n, want)
		}
		t.Logf("a history sync of %d took %v; %d messages came meanwhile", count, took, len(sent))
		if len(sent) < 50 && !raceDetector {
			t.Errorf("only %d messages came while the history was put in", len(sent))
		}
	})
}

// The same while a hundred pictures heal, of which each is written down when it is asked for and
// when it is found.
func TestHealingLosesNoMessage(t *testing.T) {
	alongside(t, false, func(t *testing.T, b *bot, db *sql.DB) {
		const count = 100
		var pictures []*wabox.Media
		for n := range count {
			picture := b.box.Upload(fmt.Append(nil, "picture ", n), whatsmeow.MediaImage)
			if _, err := b.account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: picture.Image()}); err != nil {
				t.Fatal(err)
			}
			pictures = append(pictures, picture)
		}
		for range count {
			evt := next(t, b.media)
			// A machine that has much else to do may have taken longer than the plugin waits
			// for its index.
			for err := b.plugin.Remember(t.Context(), &evt.Info, evt.Message); err != nil; time.Sleep(100 * time.Millisecond) {
				err = b.plugin.Remember(t.Context(), &evt.Info, evt.Message)
			}
		}
		var downloads sync.WaitGroup
		for _, picture := range pictures {
			b.box.Expire(picture)
			downloads.Go(func() {
				_, err := b.client.Download(t.Context(), picture.Image())
				// The same for a look-up: it is not what this is about.
				deadline := time.Now().Add(4 * patience)
				for errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) && time.Now().Before(deadline) {
					time.Sleep(100 * time.Millisecond)
					_, err = b.client.Download(t.Context(), picture.Image())
				}
				if err != nil {
					t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
				}
			})
		}
		sent := b.texts(t, 0, func(n int) bool { return n == count })
		downloads.Wait()
		b.wantAll(t, sent)
	})
}

// While a large batch is put in, the times for which no other connection can write are short, and
// less than half of all time. A busy machine makes some of them longer, but not most.
func TestLargeBatchHoldsTheLockBriefly(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes SQLite in Go fifteen times slower")
	}
	for driver, dsn := range documented {
		t.Run(driver, func(t *testing.T) {
			const count, limit = 20_000, 50 * time.Millisecond
			path := dbFile(t)
			index := newIndex(t, openDB(t, driver, dsn(path)), driver)
			other, err := openDB(t, driver, dsn(path)).Conn(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if _, err = other.ExecContext(t.Context(), "PRAGMA busy_timeout = 0"); err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				put(t, index, mediaBatch(0, count)...)
			}()
			var held []time.Duration
			var all time.Duration
			began := time.Now()
			for start, locked := time.Now(), false; ; time.Sleep(200 * time.Microsecond) {
				_, err := other.ExecContext(t.Context(), "BEGIN IMMEDIATE")
				if err == nil {
					_, _ = other.ExecContext(t.Context(), "ROLLBACK")
				}
				if err != nil && !locked {
					start = time.Now()
				} else if err == nil && locked {
					held = append(held, time.Since(start))
					all += time.Since(start)
				}
				locked = err != nil
				select {
				case <-done:
				default:
					continue
				}
				break
			}
			if slices.Sort(held); len(held) == 0 || held[len(held)/2] > limit {
				t.Fatalf("the lock was held for %v, want %v or less", held, limit)
			}
			if took := time.Since(began); all > took*45/100 {
				t.Errorf("the lock was held for %v of %v", all, took)
			}
			t.Logf("the lock was held %d times, for %v as a median and %v at the most, and for %v of %v in all",
				len(held), held[len(held)/2], held[len(held)-1], all, time.Since(began))
		})
	}
}
