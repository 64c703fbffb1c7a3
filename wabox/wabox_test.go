package wabox_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestMain(m *testing.M) {
	if invitation := os.Getenv(guestVariable); invitation != "" {
		guest(invitation) // in a process of its own; see join_test.go
		return
	}
	// whatsmeow's SetProxy begins with a clone of the default transport.
	transport := http.DefaultTransport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{RootCAs: wabox.CertPool()}
	transport.DialContext = wabox.DialContext
	os.Exit(m.Run())
}

// patience is how long a test waits for what is bound to happen.
const patience = 30 * time.Second

func newBox(t *testing.T) *wabox.Box {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	return box
}

func withPatience(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// A bot is a client that collects its events.
type bot struct {
	*whatsmeow.Client
	account *wabox.Account
	events  chan any
}

func newBot(t *testing.T, account *wabox.Account) *bot {
	t.Helper()
	b := &bot{account.NewClient(nil), account, make(chan any, 4096)}
	b.AddEventHandler(func(evt any) { b.events <- evt })
	t.Cleanup(b.Disconnect)
	return b
}

func login(t *testing.T, account *wabox.Account) *bot {
	t.Helper()
	b := newBot(t, account)
	b.connect(t)
	return b
}

func (b *bot) connect(t *testing.T) {
	t.Helper()
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	if err := b.account.WaitOnline(withPatience(t)); err != nil {
		t.Fatal(err)
	}
}

// next returns the next event of a type, and skips others.
func next[T any](t *testing.T, b *bot) T {
	t.Helper()
	ctx := withPatience(t)
	for {
		select {
		case evt := <-b.events:
			if evt, ok := evt.(T); ok {
				return evt
			}
		case <-ctx.Done():
			t.Fatalf("no %T came", *new(T))
		}
	}
}

func deliver(t *testing.T, a *wabox.Account, in wabox.Incoming, msg *waE2E.Message) types.MessageID {
	t.Helper()
	id, err := a.Deliver(in, msg)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func text(s string) *waE2E.Message { return &waE2E.Message{Conversation: proto.String(s)} }

func jid(t *testing.T, s string) types.JID {
	t.Helper()
	parsed, err := types.ParseJID(s)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestLogin(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := login(t, account)
	next[*events.Connected](t, b)
	if !b.IsLoggedIn() || account.Logins() != 1 {
		t.Errorf("logged in: %t, logins: %d", b.IsLoggedIn(), account.Logins())
	}
	b.Disconnect()
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	next[*events.Connected](t, b)
	if account.Logins() != 2 {
		t.Errorf("logins: %d, want 2", account.Logins())
	}
}

func TestPair(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	dev := wabox.NewDevice()
	if dev.ID != nil {
		t.Fatal("device has an ID before it is paired")
	}
	identity := *dev.IdentityKey.Pub
	account := box.Pair(dev)
	if account.Device != dev || dev.ID.ToNonAD() != account.PN || dev.LID.ToNonAD() != account.LID || dev.ID.Device == 0 {
		t.Errorf("device is %v, %v; account is %v, %v", dev.ID, dev.LID, account.PN, account.LID)
	}
	if *dev.IdentityKey.Pub != identity {
		t.Error("the device's own key was replaced")
	}
	cli := whatsmeow.NewClient(dev, nil)
	account.Configure(cli)
	b := &bot{cli, account, make(chan any, 100)}
	b.AddEventHandler(func(evt any) { b.events <- evt })
	t.Cleanup(b.Disconnect)
	b.connect(t)
	deliver(t, account, wabox.Incoming{}, text("hello"))
	if got := next[*events.Message](t, b).Message.GetConversation(); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestPairBare(t *testing.T) {
	t.Parallel()
	// As an sqlstore leaves a device before it is saved: without stores.
	dev := wabox.NewDevice()
	lids := dev.LIDs
	dev.LIDs, dev.NoiseKey, dev.IdentityKey, dev.SignedPreKey, dev.AdvSecretKey = nil, nil, nil, nil, nil
	account := newBox(t).Pair(dev)
	dev.LIDs = lids
	b := login(t, account)
	for range 2 {
		deliver(t, account, wabox.Incoming{FromMe: true}, text("by number"))
		deliver(t, account, wabox.Incoming{FromMe: true, LIDMode: true}, text("by LID"))
		for _, want := range []string{"by number", "by LID"} {
			if got := next[*events.Message](t, b).Message.GetConversation(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		// From here on the client has one session where it had two.
		if err := lids.PutLIDMapping(t.Context(), dev.LID, *dev.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPairAgain(t *testing.T) {
	t.Parallel()
	first := newBox(t)
	first.NewAccount()
	account := first.NewAccount()
	login(t, account).Disconnect()

	// The same device in a box that knows nothing of the first one.
	second := newBox(t)
	again := second.Pair(account.Device)
	if again.PN != account.PN || again.LID != account.LID || account.Device.ID.ToNonAD() != account.PN {
		t.Errorf("got %v, %v; was %v, %v", again.PN, again.LID, account.PN, account.LID)
	}
	if other := second.NewAccount(); other.PN == again.PN {
		t.Errorf("two accounts have the number %v", other.PN)
	}
	b := login(t, again)
	deliver(t, again, wabox.Incoming{}, text("hello"))
	if got := next[*events.Message](t, b).Message.GetConversation(); got != "hello" {
		t.Errorf("got %q", got)
	}
}

func TestTwoAccounts(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	first, second := login(t, box.NewAccount()), login(t, box.NewAccount())
	if first.account.PN == second.account.PN || first.account.LID == second.account.LID {
		t.Fatal("accounts share an address")
	}
	deliver(t, first.account, wabox.Incoming{}, text("for the first"))
	deliver(t, second.account, wabox.Incoming{}, text("for the second"))
	if got := next[*events.Message](t, first).Message.GetConversation(); got != "for the first" {
		t.Errorf("first got %q", got)
	}
	if got := next[*events.Message](t, second).Message.GetConversation(); got != "for the second" {
		t.Errorf("second got %q", got)
	}
}

func TestStranger(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	stranger := *account.Device
	stranger.NoiseKey = wabox.NewDevice().NoiseKey
	cli := whatsmeow.NewClient(&stranger, nil)
	account.Configure(cli)
	b := &bot{cli, account, make(chan any, 100)}
	b.AddEventHandler(func(evt any) { b.events <- evt })
	t.Cleanup(b.Disconnect)
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	if evt := next[*events.LoggedOut](t, b); !evt.OnConnect {
		t.Error("refused after login")
	}
	if account.Logins() != 0 {
		t.Error("logged in with the wrong key")
	}
}

func TestOnEvent(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	seen := make(chan wabox.Event, 1000)
	box.OnEvent(func(evt wabox.Event) { seen <- evt })
	b := login(t, account)
	next[*events.OfflineSyncCompleted](t, b)
	media := box.Upload([]byte("x"), whatsmeow.MediaAudio)
	if _, err := b.Download(t.Context(), media.Audio()); err != nil {
		t.Fatal(err)
	}
	box.OnEvent(nil)
	var tags []string
	for len(seen) > 0 {
		switch evt := <-seen; evt.What {
		case wabox.NodeIn, wabox.NodeOut:
			if evt.Account != account.PN || evt.At.IsZero() || evt.Client == nil {
				t.Errorf("got %+v", evt)
			}
			tags = append(tags, evt.Node.Tag)
		case wabox.CDN:
			if evt.Asked.Path != media.Path() {
				t.Errorf("asked for %s", evt.Asked.Path)
			}
			tags = append(tags, "GET")
		}
	}
	for _, want := range []string{"success", "iq", "ib", "GET"} {
		if !bytes.Contains([]byte(" "+join(tags)+" "), []byte(" "+want+" ")) {
			t.Errorf("no %s among %v", want, tags)
		}
	}
}

func join(tags []string) string {
	var all []byte
	for _, tag := range tags {
		all = append(append(all, tag...), ' ')
	}
	return string(all)
}
