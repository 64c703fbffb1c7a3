package drivertest

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// What wabox/README.md says of databases inside a testing/synctest bubble is tested here.

// A bot in a bubble, with its session and its index in one database. It is restarted each hour, and
// heals ten pictures at a time with a phone that takes 20 s for each.
func TestBotInABubble(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		driver string
		dsn    func(testing.TB) string
		rounds int
	}{
		{"sqlite", newSQLite, 5},
		{"pgx", newPostgres, 1}, // which is slower
		{"postgres", newPostgres, 1},
	} {
		t.Run(test.driver, func(t *testing.T) {
			t.Parallel()
			dsn := test.dsn(t)
			synctest.Test(t, func(t *testing.T) {
				liveForHours(t, openDB(t, test.driver, dsn), test.driver, test.rounds)
			})
		})
	}
}

func newSQLite(t testing.TB) string { return "file:" + dbFile(t) + "?" + moderncOptions }

func liveForHours(t *testing.T, db *sql.DB, driver string, rounds int) {
	const hours, parallel = 5, 10
	sessions := sqlstore.NewWithDB(db, driver, nil)
	if err := sessions.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	box := wabox.Start(t)
	device := sessions.NewDevice()
	account := box.Pair(device)
	if err := device.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	account.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.Success, Delay: 20 * time.Second}}
	})
	began := time.Now()
	old := box.Upload([]byte("from the first hour"), whatsmeow.MediaImage)
	for hour := range hours {
		device, err := sessions.GetFirstDevice(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		client := whatsmeow.NewClient(device, waLog.Noop)
		account.Configure(client)
		messages := make(chan *events.Message, parallel)
		client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok {
				messages <- msg
			}
		})
		plugin, err := reupload.Register(client, &reupload.Options{Index: newIndex(t, db, driver)})
		if err != nil {
			t.Fatal(err)
		}
		if err = client.Connect(); err != nil {
			t.Fatal(err)
		}
		account.AwaitOnline(t)
		receive := func(picture *wabox.Media) {
			if _, err := account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: picture.Image()}); err != nil {
				t.Error(err)
			}
			<-messages
			box.Expire(picture)
		}
		heal := func(picture *wabox.Media) {
			data, err := client.Download(t.Context(), picture.Image())
			if err != nil || !bytes.Equal(data, picture.Plaintext) {
				t.Errorf("hour %d: %v (cause: %v)", hour, err, reupload.Cause(err))
			}
		}
		switch hour {
		case 0:
			receive(old)
		case hours - 1:
			heal(old)
		}
		for round := range rounds {
			var wg sync.WaitGroup
			for i := range parallel {
				picture := box.Upload(fmt.Appendf(nil, "%d, %d, %d", hour, round, i), whatsmeow.MediaImage)
				receive(picture)
				wg.Go(func() { heal(picture) })
			}
			wg.Wait()
		}
		time.Sleep(time.Hour)
		client.Disconnect()
		plugin.Close()
	}
	if lived := time.Since(began); lived < hours*time.Hour || lived > (hours+1)*time.Hour {
		t.Errorf("that were %v", lived)
	}
	asked := make(map[types.MessageID]bool)
	for _, request := range account.Requests() {
		asked[request.ID] = true
	}
	if want := hours*rounds*parallel + 1; len(asked) != want {
		t.Errorf("the phone was asked for %d messages, want %d", len(asked), want)
	}
}

// modernc.org/sqlite waits for a lock by the clock of the bubble.
func TestLockInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, "sqlite", newSQLite(t))
		index := newIndex(t, db, "sqlite")
		began := time.Now()
		lock, err := db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(2*time.Second, func() { _ = lock.Rollback() })
		put(t, index, media(1))
		if took := time.Since(began); took < 2*time.Second || took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// No time passes while a socket is read, so that no time-out ends a query.
func TestQueryInABubble(t *testing.T) {
	t.Parallel()
	dsn := newPostgres(t)
	synctest.Test(t, func(t *testing.T) {
		db := openDB(t, "pgx", dsn)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := db.ExecContext(ctx, "SELECT pg_sleep(0.2)"); err != nil || time.Since(began) != 0 {
			t.Errorf("it took %v: %v", time.Since(began), err)
		}
	})
}
