package wabox_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types/events"
)

// unlinked returns a client that shows QR codes, and the first of them.
func unlinked(t *testing.T, account *wabox.Account) (b *bot, code string, items <-chan whatsmeow.QRChannelItem) {
	t.Helper()
	b = newBot(t, account)
	items, err := b.GetQRChannel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	select {
	case item := <-items:
		if item.Event != whatsmeow.QRChannelEventCode {
			t.Fatalf("got %+v", item)
		}
		return b, item.Code, items
	case <-withPatience(t).Done():
		t.Fatal("no QR code came")
		return nil, "", nil
	}
}

// isLinked checks what a client has that was linked to an account.
func isLinked(t *testing.T, b *bot, device uint16) {
	t.Helper()
	evt := next[*events.PairSuccess](t, b)
	if evt.ID.ToNonAD() != b.account.PN || evt.LID.ToNonAD() != b.account.LID || evt.ID.Device != device || evt.LID.Device != device {
		t.Errorf("linked as %v, %v", evt.ID, evt.LID)
	}
	if err := b.account.WaitOnline(withPatience(t)); err != nil {
		t.Fatal(err)
	}
	next[*events.Connected](t, b)
	if !b.IsLoggedIn() || *b.Store.ID != evt.ID {
		t.Errorf("logged in: %t, as %v", b.IsLoggedIn(), b.Store.ID)
	}
	deliver(t, b.account, wabox.Incoming{}, text("from a contact"))
	deliver(t, b.account, wabox.Incoming{FromMe: true}, text("from the own phone"))
	for _, want := range []string{"from a contact", "from the own phone"} {
		if got := next[*events.Message](t, b).Message.GetConversation(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if err := b.account.DeliverHistory(&waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum()}); err != nil {
		t.Fatal(err)
	}
	next[*events.HistorySync](t, b)
}

func TestScan(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	box.NewAccount()
	phone := box.NewPhone()
	if _, err := phone.Deliver(wabox.Incoming{}, text("hello")); err == nil {
		t.Error("delivered to an account without a device")
	}
	b, code, items := unlinked(t, phone)
	if !strings.HasPrefix(code, "https://wa.me/") {
		t.Errorf("the code is %s", code)
	}
	if err := phone.Scan(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	if item := <-items; item != whatsmeow.QRChannelSuccess {
		t.Errorf("got %+v", item)
	}
	isLinked(t, b, 3)
	if phone.Device != b.Store {
		t.Error("the device is another")
	}
}

func TestScanWhatIsNoCode(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b, code, _ := unlinked(t, box.NewPhone())
	for _, bad := range []string{"", "hello", "a,b,c,d", strings.Replace(code, ",", "0,", 1)} {
		if err := b.account.Scan(t.Context(), bad); err == nil {
			t.Errorf("scanned %q", bad)
		}
	}
	if err := newBox(t).NewPhone().Scan(t.Context(), code); err == nil {
		t.Error("scanned the code of another box's client")
	}
	// The secret in the code is what the client knows its phone by.
	parts := strings.Split(code, ",")
	parts[3] = strings.ToUpper(parts[3])
	if err := b.account.Scan(t.Context(), strings.Join(parts, ",")); err == nil || !strings.Contains(err.Error(), "hmac-mismatch") {
		t.Errorf("with another secret: %v", err)
	}
	next[*events.PairError](t, b)
}

func TestEnterCode(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	phone, stranger := box.NewPhone(), box.NewPhone()
	b, _, items := unlinked(t, phone)
	if _, err := b.PairPhone(t.Context(), phone.PN.User, true, whatsmeow.PairClientChrome, "My bot"); err == nil {
		t.Error("got a linking code with a name that is not that of a browser")
	}
	if err := phone.EnterCode(t.Context(), "ABCD-EFGH"); err == nil {
		t.Error("entered a code that nobody has made")
	}
	code, err := b.PairPhone(t.Context(), "+"+phone.PN.User, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.EnterCode(t.Context(), code); err == nil {
		t.Error("entered the code of another account")
	}
	wrong := "1" + code[1:]
	if code[0] == '1' {
		wrong = "2" + code[1:]
	}
	if err := phone.EnterCode(t.Context(), wrong); err == nil || !strings.Contains(err.Error(), "not the one") {
		t.Errorf("entered the wrong code: %v", err)
	}
	if err := phone.EnterCode(t.Context(), strings.ToLower(code)); err != nil {
		t.Fatal(err)
	}
	if item := <-items; item != whatsmeow.QRChannelSuccess {
		t.Errorf("got %+v", item)
	}
	isLinked(t, b, 3)
}

// A program that links accounts does not know which one a client will be of.
func TestLinkToWhoever(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	device := wabox.NewDevice()
	cli := whatsmeow.NewClient(device, nil)
	box.Configure(cli)
	phone := box.NewPhone()
	b := &bot{cli, phone, make(chan any, 4096)}
	b.AddEventHandler(func(evt any) { b.events <- evt })
	t.Cleanup(b.Disconnect)
	if err := b.Connect(); err != nil {
		t.Fatal(err)
	}
	if err := phone.Scan(withPatience(t), next[*events.QR](t, b).Codes[5]); err != nil {
		t.Fatal(err)
	}
	isLinked(t, b, 3)
}

// A client is not told of a LID that is hidden, whichever way it is linked.
func TestHideLID(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	account.HideLID()
	b := login(t, account)
	next[*events.Connected](t, b)
	if lid := b.Store.GetLID(); !lid.IsEmpty() {
		t.Errorf("logged in, the client knows %v", lid)
	}
	phone := box.NewPhone()
	phone.HideLID()
	scanning, code, _ := unlinked(t, phone)
	if err := phone.Scan(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	if evt := next[*events.PairSuccess](t, scanning); !evt.LID.IsEmpty() {
		t.Errorf("linked as %v", evt.LID)
	}
	next[*events.Connected](t, scanning)
	if lid := scanning.Store.GetLID(); !lid.IsEmpty() {
		t.Errorf("linked, the client knows %v", lid)
	}
	deliver(t, phone, wabox.Incoming{FromMe: true}, text("from the own phone"))
	if got := next[*events.Message](t, scanning).Message.GetConversation(); got != "from the own phone" {
		t.Errorf("got %q", got)
	}
}

// A device that was unlinked is let in no more, and the phone can link another.
func TestLinkAgain(t *testing.T) {
	t.Parallel()
	for _, away := range []bool{false, true} {
		box := newBox(t)
		account := box.NewAccount()
		b := login(t, account)
		next[*events.Connected](t, b)
		other, code, _ := unlinked(t, box.NewPhone())
		if err := account.Scan(t.Context(), code); err == nil {
			t.Fatal("linked a second device")
		}
		deliver(t, account, wabox.Incoming{}, text("before"))
		next[*events.Message](t, b)
		if away {
			b.Disconnect()
			deliver(t, account, wabox.Incoming{}, text("while away"))
		}
		account.Logout()
		if away {
			if err := b.Connect(); err != nil {
				t.Fatal(err)
			}
		}
		if evt := next[*events.LoggedOut](t, b); evt.OnConnect != away {
			t.Errorf("away: %t, logged out at login: %t", away, evt.OnConnect)
		}
		if err := account.Scan(t.Context(), code); err != nil {
			t.Fatal(err)
		}
		other.account = account
		var undecryptable atomic.Int32 // what was for the other device
		other.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.UndecryptableMessage); ok {
				undecryptable.Add(1)
			}
		})
		isLinked(t, other, 4)
		if n := undecryptable.Load(); n > 0 {
			t.Errorf("got %d messages of the device before", n)
		}
	}
}
