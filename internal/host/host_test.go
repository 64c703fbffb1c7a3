package host_test

import (
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func newClient() *whatsmeow.Client { return whatsmeow.NewClient(new(store.Device), nil) }

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// A bot is an unmodified client of a WhatsApp in memory.
type bot struct {
	*testing.T
	*whatsmeow.Client
	account *wabox.Account
}

func newBot(t *testing.T) bot {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	account := box.NewAccount()
	client := account.NewClient(nil)
	t.Cleanup(client.Disconnect)
	return bot{t, client, account}
}

func (b bot) connect() {
	b.Helper()
	if err := b.Connect(); err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	if err := b.account.WaitOnline(ctx); err != nil {
		b.Fatal(err)
	}
}

// receive calls a function inside the event handler of a message.
func (b bot) receive(inside func()) {
	b.Helper()
	done := make(chan struct{})
	var once sync.Once
	b.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Message); ok {
			once.Do(func() {
				defer close(done)
				inside()
			})
		}
	})
	b.deliver()
	select {
	case <-done:
	case <-time.After(patience):
		b.Fatal("no message comes")
	}
}

// deliver sends the bot a message.
func (b bot) deliver() {
	b.Helper()
	if _, err := b.account.Deliver(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("text")}); err != nil {
		b.Error(err)
	}
}

// What is there no more, or of another type, is not found. This is what a whatsmeow that has
// changed looks like.
func TestFieldsAreGuarded(t *testing.T) {
	t.Parallel()
	client := newClient()
	if host.HasField[int](client, "recvLog") || host.HasField[*http.Client](client, "noSuchField") {
		t.Error("a field that is not there was found")
	}
}

// Each field that the package looks at is there, in the whatsmeow that it is tested with.
func TestWhatsmeowHasEveryField(t *testing.T) {
	t.Parallel()
	client := newClient()
	for name, is := range map[string]bool{
		"recvLog":           host.HasField[waLog.Logger](client, "recvLog"),
		"mediaHTTP":         host.HasField[*http.Client](client, "mediaHTTP"),
		"eventHandlersLock": host.HasField[sync.RWMutex](client, "eventHandlersLock"),
		"socketLock":        host.HasField[sync.RWMutex](client, "socketLock"),
	} {
		if !is {
			t.Errorf("whatsmeow has changed: %s is gone, or of another type", name)
		}
	}
	if _, ok := host.HandlersOf(client); !ok {
		t.Error("whatsmeow has changed: the list of event handlers is another one")
	}
}
