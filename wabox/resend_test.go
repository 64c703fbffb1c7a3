package wabox_test

import (
	"testing"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

func TestBroken(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	retries, copies := make(chan int, 100), make(chan int, 100)
	box.OnEvent(func(evt wabox.Event) {
		if enc, ok := evt.Node.GetOptionalChildByTag("enc"); ok && evt.What == wabox.NodeOut && evt.Node.Tag == "message" {
			if n, ok := enc.Attrs["count"].(int); ok {
				copies <- n
			}
		}
		if retry, ok := evt.Node.GetOptionalChildByTag("retry"); ok && evt.What == wabox.NodeIn {
			retries <- retry.AttrGetter().Int("count")
		}
	})
	for _, in := range []wabox.Incoming{
		{From: anna}, {From: annaPad, Alt: annaLID}, {From: bertLID, Chat: lids}, {From: bertLID}, {FromMe: true, Chat: bert},
		{From: bert, Chat: types.StatusBroadcastJID},
	} {
		for _, broken := range []int{1, 4} {
			in.Broken = broken
			id := deliver(t, b.account, in, text("at last"))
			deliver(t, b.account, wabox.Incoming{From: in.From, Chat: in.Chat, FromMe: in.FromMe, Alt: in.Alt}, text("after it"))
			var got []string
			for failed := 0; failed < broken || len(got) < 2; {
				switch evt := next[any](t, b).(type) {
				case *events.UndecryptableMessage:
					failed++
					if evt.Info.ID != id {
						t.Errorf("could not decrypt %s", evt.Info.ID)
					}
				case *events.Message:
					got = append(got, evt.Message.GetConversation())
				}
			}
			if got[0]+got[1] != "after itat last" && got[0]+got[1] != "at lastafter it" {
				t.Errorf("%+v: got %v", in, got)
			}
			for want := 1; want <= broken; want++ {
				if got := <-retries; got != want {
					t.Errorf("%+v: asked %d times for it, want %d", in, got, want)
				}
				if got := <-copies; got != want {
					t.Errorf("%+v: copy %d says that it is number %d", in, want, got)
				}
			}
		}
		if in.Chat.IsEmpty() {
			in.Broken = 0
			b.sends(t, in.From.ToNonAD(), text("the session is good"))
			deliver(t, b.account, in, text("for the client as well"))
			if got := next[*events.Message](t, b).Message.GetConversation(); got != "for the client as well" {
				t.Errorf("got %q", got)
			}
		}
	}
	if len(retries) > 0 {
		t.Errorf("%d more requests for copies than there should be", len(retries))
	}
}

// Two people can choose one message id, and the client gets the copy that it has asked for.
func TestBrokenUnderOneID(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	delivered := make(chan struct{})
	box.OnEvent(func(evt wabox.Event) {
		if _, ok := evt.Node.GetOptionalChildByTag("retry"); ok && evt.What == wabox.NodeIn {
			<-delivered
		}
	})
	want := map[types.JID]string{anna: "from Anna", bert: "from Bert"}
	for from, said := range want {
		deliver(t, b.account, wabox.Incoming{ID: "ONE", From: from, Broken: 1}, text(said))
	}
	close(delivered)
	for range 2 {
		evt := next[*events.Message](t, b)
		from := evt.Info.Sender.ToNonAD()
		if got := evt.Message.GetConversation(); got != want[from] {
			t.Errorf("%s says %q, want %q", from, got, want[from])
		}
		delete(want, from)
	}
}

// A client that has lost its sessions gets its messages all the same.
func TestLostSession(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := login(t, account)
	for range 2 {
		deliver(t, account, wabox.Incoming{From: anna}, text("before"))
		next[*events.Message](t, b)
		b.sends(t, anna, text("answer"))
	}
	for _, user := range []types.JID{anna, annaLID, account.PN, account.LID} {
		if err := b.Store.Sessions.DeleteAllSessions(t.Context(), user.SignalAddressUser()); err != nil {
			t.Fatal(err)
		}
	}
	deliver(t, account, wabox.Incoming{From: anna}, text("after"))
	if got := next[*events.Message](t, b).Message.GetConversation(); got != "after" {
		t.Errorf("got %q", got)
	}
	if err := account.DeliverHistory(&waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum()}); err != nil {
		t.Fatal(err)
	}
	next[*events.HistorySync](t, b)
}
