package drivertest

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A process is one run of a bot, with a handle of its own to the database.
type process struct {
	client   *whatsmeow.Client
	plugin   *reupload.Plugin
	messages chan *events.Message
	late     chan reupload.Reupload
	log      *recorder
}

// run starts a bot for an account. It ends with stop, or with the test.
func run(t *testing.T, account *wabox.Account, db *sql.DB, dialect string) *process {
	t.Helper()
	p := &process{messages: make(chan *events.Message, 100), late: make(chan reupload.Reupload, 100), log: new(recorder)}
	p.client = account.NewClient(p.log)
	var err error
	p.plugin, err = reupload.Register(p.client, &reupload.Options{
		Index:   newIndex(t, db, dialect),
		Timeout: 3 * time.Second, // for phones that do not answer; one that does takes milliseconds
		OnReupload: func(r reupload.Reupload) {
			if r.Late {
				p.late <- r
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			p.messages <- msg
		}
	})
	if err = p.client.Connect(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err = account.WaitOnline(ctx); err != nil {
		t.Fatal(err)
	}
	return p
}

// patience bounds what must happen.
const patience = 30 * time.Second

// next returns the next value of a channel.
func next[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		t.Fatalf("no %T came", *new(T))
		panic("unreachable")
	}
}

func (p *process) stop() {
	p.plugin.Close()
	p.client.Disconnect()
}

// receive delivers a picture and lets it expire.
func (p *process) receive(t *testing.T, box *wabox.Box, account *wabox.Account, content string) (*wabox.Media, *events.Message) {
	t.Helper()
	picture := box.Upload([]byte(content), whatsmeow.MediaImage)
	if _, err := account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: picture.Image()}); err != nil {
		t.Fatal(err)
	}
	msg := next(t, p.messages)
	box.Expire(picture)
	return picture, msg
}

func (p *process) heals(t *testing.T, picture *wabox.Media) {
	t.Helper()
	data, err := p.client.Download(t.Context(), picture.Image())
	if err != nil || !bytes.Equal(data, picture.Plaintext) {
		t.Fatalf("download: %v (cause: %v)", err, reupload.Cause(err))
	}
}

// newBox returns a box with one account.
func newBox(t *testing.T) (*wabox.Box, *wabox.Account) {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	return box, box.NewAccount()
}

func TestPictureFromBeforeTheRestartHeals(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		box, account := newBox(t)
		first := run(t, account, k.again(t, db), dialect)
		picture, _ := first.receive(t, box, account, "from before the restart")
		first.stop()

		second := run(t, account, k.again(t, db), dialect)
		second.heals(t, picture)
		if n := account.RequestCount(); n != 1 {
			t.Errorf("the phone was asked %d times", n)
		}
		second.stop()

		// What the second run was told serves the third.
		third := run(t, account, k.again(t, db), dialect)
		third.heals(t, picture)
		if n := account.RequestCount(); n != 1 {
			t.Errorf("the phone was asked %d times", n)
		}
	})
}

func TestAnswerThatComesAfterTheRestart(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		box, account := newBox(t)
		account.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		first := run(t, account, k.again(t, db), dialect)
		picture, msg := first.receive(t, box, account, "answered after the restart")
		if _, err := first.client.Download(t.Context(), picture.Image()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
			t.Fatalf("error %v, cause %v", err, reupload.Cause(err))
		}
		// Asked for by a bot that keeps its messages elsewhere: the index knows no more of it
		// than the request.
		other := box.Upload([]byte("asked for by hand"), whatsmeow.MediaImage)
		account.Knows("3EB0BYHAND", other)
		box.Expire(other)
		byHand := types.MessageInfo{ID: "3EB0BYHAND", MessageSource: types.MessageSource{Chat: msg.Info.Chat, Sender: msg.Info.Chat}}
		if _, err := first.plugin.RequestReupload(t.Context(), reupload.NewRequest(&byHand, other.Image())); !errors.Is(err, reupload.ErrTimeout) {
			t.Fatalf("got %v", err)
		}
		asked := account.Requests()
		first.stop()

		for _, request := range asked { // the server holds the answers
			if err := account.SendAnswer(request, wabox.Answer{Result: wabox.Success}); err != nil {
				t.Fatal(err)
			}
		}
		second := run(t, account, k.again(t, db), dialect)
		for range asked {
			if late := next(t, second.late); late.Result.DirectPath == "" {
				t.Errorf("told of %+v", late)
			}
		}
		second.heals(t, picture)
		data, err := second.plugin.Download(t.Context(), &byHand, other.Image())
		if err != nil || !bytes.Equal(data, other.Plaintext) {
			t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
		}
		if n := account.RequestCount(); n != len(asked) {
			t.Errorf("the phone was asked %d times, want %d", n, len(asked))
		}
	})
}

// Two linked devices of one account, each with a process.
func TestPathOfOneProcessServesTheOther(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		box, account := newBox(t)
		device := wabox.NewDevice()
		id, lid := *account.Device.ID, account.Device.LID
		id.Device++
		lid.Device++
		device.ID, device.LID = &id, lid
		otherDevice := box.Pair(device)

		one := run(t, account, k.again(t, db), dialect)
		other := run(t, otherDevice, k.again(t, db), dialect)
		picture, _ := one.receive(t, box, account, "healed once")
		one.heals(t, picture)
		// The download returns before the path is in the database.
		index := newIndex(t, k.again(t, db), dialect)
		for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
			found, err := index.ByFile(t.Context(), id.ToNonAD(), picture.Image().GetFileEncSHA256())
			if err != nil || time.Now().After(deadline) {
				t.Fatalf("the path is not in the database: %v, %v", found, err)
			}
			if len(found) == 1 && found[0].DirectPath != "" {
				break
			}
		}
		other.heals(t, picture)
		if n := account.RequestCount() + otherDevice.RequestCount(); n != 1 {
			t.Errorf("the phone was asked %d times", n)
		}

		// Somebody else's account does not see it.
		stranger := run(t, box.NewAccount(), k.again(t, db), dialect)
		if _, err := stranger.client.Download(t.Context(), picture.Image()); !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
	})
}

// A database that is gone costs the bot what it would remember, and nothing else.
func TestBotWorksOnWithoutItsDatabase(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		box, account := newBox(t)
		handle := k.again(t, db)
		p := run(t, account, handle, dialect)
		known, _ := p.receive(t, box, account, "from when there was a database")
		handle.Close()

		start := time.Now()
		const n = 20
		for i := range n {
			picture, msg := p.receive(t, box, account, fmt.Sprint("without a database, ", i))
			data, err := p.plugin.Download(t.Context(), &msg.Info, picture.Image())
			if err != nil || !bytes.Equal(data, picture.Plaintext) {
				t.Fatalf("download: %v (cause: %v)", err, reupload.Cause(err))
			}
		}
		if took := time.Since(start); took > 30*time.Second {
			t.Errorf("%d messages took %v", n, took)
		}
		if _, err := p.client.Download(t.Context(), known.Image()); !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		if n := p.log.count("The index fails"); n != 2 {
			t.Errorf("the log says %d times that the index fails, want once for reads and once for writes", n)
		}
	})
}

// A recorder keeps warnings.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) Warnf(msg string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(msg, args...))
}

func (r *recorder) count(part string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, line := range r.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func (r *recorder) Errorf(string, ...any)   {}
func (r *recorder) Infof(string, ...any)    {}
func (r *recorder) Debugf(string, ...any)   {}
func (r *recorder) Sub(string) waLog.Logger { return r }
