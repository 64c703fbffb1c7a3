package wabox_test

import (
	"errors"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

func TestReconnect(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := login(t, account)
	account.Cut()
	next[*events.Disconnected](t, b)
	// whatsmeow comes back by itself.
	if err := account.WaitOnline(withPatience(t)); err != nil {
		t.Fatal(err)
	}
	if account.Logins() != 2 {
		t.Errorf("logins: %d, want 2", account.Logins())
	}
	deliver(t, account, wabox.Incoming{}, text("welcome back"))
	if got := next[*events.Message](t, b).Message.GetConversation(); got != "welcome back" {
		t.Errorf("got %q", got)
	}
}

func TestHeldWhileAway(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := newBot(t, account)
	b.EnableAutoReconnect = false
	b.connect(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	deliver(t, account, wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	evt := next[*events.Message](t, b)

	release := make(chan struct{})
	account.Script(evt.Info.ID, wabox.Answer{Result: wabox.Success, Hold: release})
	if err := b.SendMediaRetryReceipt(t.Context(), &evt.Info, media.MediaKey); err != nil {
		t.Fatal(err)
	}
	if _, err := account.WaitRequests(withPatience(t), 1); err != nil {
		t.Fatal(err)
	}
	account.Cut()
	next[*events.Disconnected](t, b)
	first := deliver(t, account, wabox.Incoming{}, text("first"))
	second := deliver(t, account, wabox.Incoming{}, text("second"))
	close(release)
	b.connect(t)

	// The message may come again, if the connection broke before it was acknowledged; then it is
	// not an event again.
	if got := next[*events.Message](t, b).Info.ID; got != first {
		t.Errorf("got %s, want %s", got, first)
	}
	if got := next[*events.Message](t, b).Info.ID; got != second {
		t.Errorf("got %s, want %s", got, second)
	}
	if got := next[*events.MediaRetry](t, b).MessageID; got != evt.Info.ID {
		t.Errorf("got an answer for %s, want %s", got, evt.Info.ID)
	}
}

func TestOfflineCount(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	const count = 5
	for range count {
		deliver(t, account, wabox.Incoming{}, text("hello"))
	}
	b := login(t, account)
	for i := 0; i < count; {
		switch evt := (<-b.events).(type) {
		case *events.Message:
			i++
		case *events.OfflineSyncCompleted:
			t.Fatalf("%+v came after %d messages", evt, i)
		}
	}
	if got := next[*events.OfflineSyncCompleted](t, b).Count; got != count {
		t.Errorf("count is %d, want %d", got, count)
	}
}

// A client that leaves without a word must not lose what was on its way to it.
func TestUnacknowledgedComesAgain(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := newBot(t, account)
	b.connect(t)
	busy, release := make(chan struct{}), make(chan struct{})
	handler := b.AddEventHandler(func(evt any) {
		if evt, ok := evt.(*events.Message); ok && evt.Message.GetConversation() == "block" {
			close(busy)
			<-release
		}
	})
	deliver(t, account, wabox.Incoming{}, text("block"))
	<-busy
	// It is on the client's queue now, and the queue is dropped with the connection.
	if err := account.SendNode(waBinary.Node{Tag: "notification", Attrs: waBinary.Attrs{
		"type": "mediaretry", "id": "LATE", "from": account.PN, "t": time.Now().Unix(),
	}, Content: []waBinary.Node{
		{Tag: "error", Attrs: waBinary.Attrs{"code": "2"}},
		{Tag: "rmr", Attrs: waBinary.Attrs{"jid": account.PN, "from_me": "false"}},
	}}); err != nil {
		t.Fatal(err)
	}
	b.Disconnect()
	close(release)
	b.RemoveEventHandler(handler)
	b.connect(t)
	if got := next[*events.MediaRetry](t, b).MessageID; got != "LATE" {
		t.Errorf("got %s", got)
	}
}

func TestOffline(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := newBot(t, account)
	b.EnableAutoReconnect = false
	b.connect(t)
	account.Offline(true)
	next[*events.Disconnected](t, b)
	err := b.Connect()
	if refused := (socket.ErrWithStatusCode{}); !errors.As(err, &refused) || refused.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v", err)
	}
	account.Offline(false)
	b.connect(t)
	if account.Logins() != 2 {
		t.Errorf("logins: %d, want 2", account.Logins())
	}
}

func TestLogout(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	copied := *account.Device // logging out empties the device
	b := login(t, account)
	next[*events.Connected](t, b)
	account.Logout()
	if evt := next[*events.LoggedOut](t, b); evt.OnConnect {
		t.Error("logged out at login")
	}
	if _, err := account.Deliver(wabox.Incoming{}, text("hello")); err == nil {
		t.Error("delivered to a device that is logged out")
	}

	again := whatsmeow.NewClient(&copied, nil)
	account.Configure(again)
	b = &bot{again, account, make(chan any, 100)}
	b.AddEventHandler(func(evt any) { b.events <- evt })
	t.Cleanup(b.Disconnect)
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	if evt := next[*events.LoggedOut](t, b); !evt.OnConnect {
		t.Error("logged out after login")
	}
}

func TestReplaced(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	first := login(t, account)
	copied := *account.Device
	second := &bot{whatsmeow.NewClient(&copied, nil), account, make(chan any, 100)}
	account.Configure(second.Client)
	t.Cleanup(second.Disconnect)
	if err := second.Connect(); err != nil {
		t.Fatal(err)
	}
	next[*events.StreamReplaced](t, first)
}

func TestSendNode(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	if err := account.SendNode(waBinary.Node{Tag: "x", Content: struct{}{}}); err == nil {
		t.Error("sent a node that cannot be marshalled")
	}
	b := login(t, account)
	if err := account.SendNode(waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{
		"from": types.NewJID("491701111111", types.DefaultUserServer), "type": "unavailable",
	}}); err != nil {
		t.Fatal(err)
	}
	if evt := next[*events.Presence](t, b); !evt.Unavailable {
		t.Errorf("got %+v", evt)
	}
	b.Disconnect()
	box.Close()
	if err := account.SendNode(waBinary.Node{Tag: "presence"}); err == nil {
		t.Error("sent a node into a closed box")
	}
}

// A node that no client acknowledges is not sent again after a break.
func TestNodeWithoutAnAckComesOnce(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := login(t, account)
	if err := account.SendNode(waBinary.Node{Tag: "presence", Attrs: waBinary.Attrs{
		"from": types.NewJID("491701111111", types.DefaultUserServer), "type": "unavailable",
	}}); err != nil {
		t.Fatal(err)
	}
	next[*events.Presence](t, b)
	b.Disconnect()
	b.connect(t)
	deliver(t, account, wabox.Incoming{}, text("hello"))
	for {
		switch evt := (<-b.events).(type) {
		case *events.Presence:
			t.Fatalf("%+v came again", evt)
		case *events.Message:
			return
		}
	}
}

// TestClose is not parallel: it counts goroutines.
func TestClose(t *testing.T) {
	before := runtime.NumGoroutine()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	proxy, err := box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	account := box.NewAccount()
	b := &bot{account.NewClient(nil), account, make(chan any, 1000)}
	b.EnableAutoReconnect = false
	b.AddEventHandler(func(evt any) { b.events <- evt })
	b.connect(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	deliver(t, account, wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	evt := next[*events.Message](t, b)

	// An answer that never comes, a download that never ends and a tunnel that is never closed
	// are no obstacles.
	account.Script(evt.Info.ID, wabox.Answer{Hold: make(chan struct{})})
	if err := b.SendMediaRetryReceipt(t.Context(), &evt.Info, media.MediaKey); err != nil {
		t.Fatal(err)
	}
	if _, err := account.WaitRequests(withPatience(t), 1); err != nil {
		t.Fatal(err)
	}
	box.Stall(media.DirectPath, make(chan struct{}))
	asked := downloads(box)
	transport := box.Transport()
	transport.Proxy = http.ProxyURL(proxy.URL())
	stalled := make(chan error, 1)
	go func() {
		resp, err := (&http.Client{Transport: transport}).Get(media.URL())
		if err == nil {
			_ = resp.Body.Close()
		}
		stalled <- err
	}()
	<-asked
	box.Close()
	box.Close()
	if err := <-stalled; err == nil {
		t.Error("a stalled download succeeded")
	}
	next[*events.Disconnected](t, b)
	b.Disconnect()
	transport.CloseIdleConnections()
	http.DefaultTransport.(*http.Transport).CloseIdleConnections()

	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(time.Millisecond)
	}
}
