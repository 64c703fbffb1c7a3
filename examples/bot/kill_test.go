package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// TestKilled kills the bot while it waits for the phone, and starts it again.
func TestKilled(t *testing.T) {
	if os.Getenv("BOT_BOX") != "" { // this process is the bot
		t.Fatal(runInBox(os.Getenv("BOT_BOX"), os.Getenv("BOT_DIR")))
	}
	t.Parallel()
	box, dir := wabox.Start(t, wabox.Sockets()), t.TempDir()
	account := link(t, box, dir)
	chat := account.Chat(t, wabox.Incoming{})
	answers := make(chan struct{})
	account.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.Success, Hold: answers}}
	})

	kill := start(t, box, dir)
	account.AwaitOnline(t)
	picture := box.Upload([]byte("a picture"), whatsmeow.MediaImage)
	box.Expire(picture)
	chat.Send(&waE2E.Message{ImageMessage: picture.Image()})
	account.AwaitRequests(t, 1)
	kill()
	asked := account.RequestCount()
	close(answers) // the phone answers, and WhatsApp keeps that for the bot

	start(t, box, dir)
	chat.Send(get(picture))
	name := fileName(picture.Image())
	if got := chat.Next().Text(); got != "Saved as "+name+"." {
		t.Errorf("got %q", got)
	}
	saved, err := os.ReadFile(filepath.Join(dir, "media", name))
	if err != nil || !bytes.Equal(saved, picture.Plaintext) {
		t.Errorf("got %q, %v", saved, err)
	}
	if again := account.RequestCount() - asked; again != 0 {
		t.Errorf("the phone was asked %d times more, although its answer has come", again)
	}
}

// start starts the bot as a process of its own, which is the test itself again. kill is kill -9.
func start(t *testing.T, box *wabox.Box, dir string) (kill func()) {
	t.Helper()
	bot := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=1m")
	bot.Env = append(os.Environ(), "BOT_BOX="+box.Invitation(), "BOT_DIR="+dir)
	bot.Stdout, bot.Stderr = os.Stderr, os.Stderr
	if err := bot.Start(); err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() {
		_ = bot.Process.Kill()
		_ = bot.Wait()
	})
	t.Cleanup(kill)
	return kill
}

// runInBox is main for a bot in a box of another process.
func runInBox(invitation, dir string) error {
	remote, err := wabox.Join(invitation)
	if err != nil {
		return err
	}
	return run(context.Background(), io.Discard, config{
		db: filepath.Join(dir, "bot.db"), dir: filepath.Join(dir, "media"), log: waLog.Noop,
		newClient: func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
			client := whatsmeow.NewClient(device, log)
			remote.Configure(client)
			return client, nil
		},
	})
}

// link links the bot before it is started: its session is in its database.
func link(t *testing.T, box *wabox.Box, dir string) *wabox.Account {
	t.Helper()
	db, err := openDB(filepath.Join(dir, "bot.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sessions := sqlstore.NewWithDB(db, dialect, nil)
	if err = sessions.Upgrade(t.Context()); err != nil {
		t.Fatal(err)
	}
	device := sessions.NewDevice()
	account := box.Pair(device)
	if err = device.Save(t.Context()); err != nil {
		t.Fatal(err)
	}
	return account
}

// get is a reply to a picture that says !get. It does not name the message that the picture came
// with, which only the bot's index then knows.
func get(picture *wabox.Media) *waE2E.Message {
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text:        proto.String("!get"),
		ContextInfo: &waE2E.ContextInfo{QuotedMessage: &waE2E.Message{ImageMessage: picture.Image()}},
	}}
}

// TestKilledAtAnyMoment kills the bot while pictures come in, wherever it is. Afterwards it has all
// of them, or gets them when it is told to.
func TestKilledAtAnyMoment(t *testing.T) {
	if os.Getenv("BOT_BOX") != "" {
		t.Fatal(runInBox(os.Getenv("BOT_BOX"), os.Getenv("BOT_DIR")))
	}
	t.Parallel()
	box, dir := wabox.Start(t, wabox.Sockets()), t.TempDir()
	account := link(t, box, dir)
	chat := account.Chat(t, wabox.Incoming{})
	var pictures []*wabox.Media
	for round := range 8 {
		kill := start(t, box, dir)
		account.AwaitOnline(t)
		for i := range 5 {
			picture := box.Upload(fmt.Appendf(nil, "picture %d of round %d", i, round), whatsmeow.MediaImage)
			if i%2 == 0 {
				box.Expire(picture)
			}
			pictures = append(pictures, picture)
			chat.Send(&waE2E.Message{ImageMessage: picture.Image()})
		}
		time.Sleep(rand.N(50 * time.Millisecond)) // where it is then
		kill()
	}

	start(t, box, dir)
	for _, picture := range pictures {
		box.Expire(picture)
		chat.Send(get(picture))
		name := fileName(picture.Image())
		if got := chat.Next().Text(); got != "Saved as "+name+"." {
			t.Errorf("%s: %q", picture.Plaintext, got)
			continue
		}
		saved, err := os.ReadFile(filepath.Join(dir, "media", name))
		if err != nil || !bytes.Equal(saved, picture.Plaintext) {
			t.Errorf("%s: got %q, %v", picture.Plaintext, saved, err)
		}
	}
	asked := make(map[types.MessageID]int)
	for _, request := range account.Requests() {
		// A bot that dies between a request and its note of it asks again, for it must.
		if asked[request.ID]++; asked[request.ID] > 2 || request.Wrong != "" {
			t.Errorf("request %d for %s: %s", asked[request.ID], request.ID, request.Wrong)
		}
	}
}
