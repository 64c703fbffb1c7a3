package wabox_test

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// sends sends a message, and returns what came of it.
func (b *bot) sends(t *testing.T, to types.JID, msg *waE2E.Message) wabox.Sent {
	t.Helper()
	count := len(b.account.Sent())
	resp, err := b.SendMessage(withPatience(t), to, msg)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := b.account.WaitSent(withPatience(t), count+1)
	if err != nil {
		t.Fatal(err)
	}
	if len(sent) != count+1 || sent[count].ID != resp.ID || sent[count].Err != nil || sent[count].Message == nil {
		t.Fatalf("sent %s, and there is %+v", resp.ID, sent[count:])
	}
	return sent[count]
}

func TestSent(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	var begun atomic.Int32 // sessions of the client with devices
	box.OnEvent(func(evt wabox.Event) {
		if evt.What != wabox.NodeOut {
			return
		}
		list, _ := evt.Node.GetOptionalChildByTag("list")
		for _, user := range list.GetChildren() {
			if n, ok := user.GetOptionalChildByTag("registration"); ok {
				begun.Add(1)
				if id, _ := n.Content.([]byte); len(id) != 4 || bytes.Equal(id, make([]byte, 4)) {
					t.Errorf("a device has the registration id %x", id)
				}
			}
		}
	})
	byNumber := b.account.NewGroup(types.AddressingModePN, anna, bert)
	byLID := b.account.NewGroup(types.AddressingModeLID, anna, bertLID)
	tests := []struct {
		name  string
		to    types.JID
		chat  types.JID
		users []string
	}{
		{"somebody new", anna, anna, nil},
		{"the same again", anna, anna, nil},
		{"by LID", bertLID, bertLID, nil},
		{"a group", byNumber, byNumber, []string{anna.User, bert.User}},
		{"the group again", byNumber, byNumber, []string{anna.User, bert.User}},
		{"a group by LID", byLID, byLID, nil},
		{"nobody but me", b.account.PN, b.account.PN, []string{}},
		{"status", types.StatusBroadcastJID, types.StatusBroadcastJID, []string{}},
		{"a channel", types.NewJID("120363000000000009", types.NewsletterServer), types.NewJID("120363000000000009", types.NewsletterServer), []string{}},
	}
	for _, test := range tests {
		got := b.sends(t, test.to, text(test.name))
		if got.Chat != test.chat || got.Text() != test.name || got.At.IsZero() || got.Node.Tag != "message" {
			t.Errorf("%s: got %q in %v", test.name, got.Text(), got.Chat)
		}
		var users []string
		for _, device := range got.To {
			users = append(users, device.User)
		}
		if test.users != nil && fmt.Sprint(users) != fmt.Sprint(test.users) {
			t.Errorf("%s: encrypted for %v, want %v", test.name, users, test.users)
		}
	}
	if begun.Load() == 0 {
		t.Error("the client was told of no device")
	}
	if _, err := b.SendPeerMessage(t.Context(), b.BuildHistorySyncRequest(&types.MessageInfo{}, 1)); err != nil {
		t.Error(err)
	}
	if got := len(b.account.Sent()); got != len(tests) {
		t.Errorf("%d messages were sent, want %d", got, len(tests))
	}
	if got := b.account.NewGroup(types.AddressingModePN); got == byLID || got == byNumber {
		t.Errorf("two groups are %v", got)
	}
	groups, err := b.GetJoinedGroups(t.Context())
	if err != nil || len(groups) != 3 || groups[0].JID != byNumber || groups[1].AddressingMode != types.AddressingModeLID {
		t.Errorf("got %v, %v", groups, err)
	}
	if members := groups[1].Participants; len(members) != 3 || members[0].JID != b.account.LID || members[1].PhoneNumber != anna {
		t.Errorf("the members are %v", members)
	}
	devices, err := b.GetUserDevices(t.Context(), []types.JID{b.account.PN, anna})
	if want := []types.JID{b.account.PN, *b.Store.ID, anna}; err != nil || !slices.Equal(devices, want) {
		t.Errorf("the devices are %v, %v; want %v", devices, err, want)
	}
	if found, err := b.IsOnWhatsApp(t.Context(), []string{"+" + anna.User}); err != nil || len(found) != 1 || !found[0].IsIn || found[0].JID != anna {
		t.Errorf("got %v, %v", found, err)
	}
	if err := b.SendPresence(t.Context(), types.PresenceAvailable); err != nil { // which takes a name
		t.Error(err)
	}
	if info, err := b.GetUserInfo(t.Context(), []types.JID{anna}); err != nil || info[anna].LID.Server != types.HiddenUserServer {
		t.Errorf("got %v, %v", info, err)
	}
}

// Both sides write in turn, and out of turn: nothing gets lost, whichever side wrote first and
// under whatever address.
func TestConversation(t *testing.T) {
	t.Parallel()
	for _, in := range []wabox.Incoming{
		{From: anna}, {From: annaLID}, {From: anna, Alt: annaLID}, {From: annaPad}, {From: annaLID, Alt: anna},
	} {
		for _, first := range []string{"bot", "contact"} {
			t.Run(fmt.Sprintf("%s first, %v, %v", first, in.From, in.Alt), func(t *testing.T) {
				t.Parallel()
				b := login(t, newBox(t).NewAccount())
				group := b.account.NewGroup(types.AddressingModeLID, anna)
				for i := range 6 {
					if i > 0 || first == "contact" {
						for range 1 + i%3 {
							deliver(t, b.account, in, text("ping"))
							if got := next[*events.Message](t, b); got.Message.GetConversation() != "ping" {
								t.Fatalf("got %v", got)
							}
						}
					}
					for range 1 + i%2 {
						b.sends(t, in.From.ToNonAD(), text("pong"))
						b.sends(t, group, text("pong"))
					}
					deliver(t, b.account, wabox.Incoming{FromMe: true, Chat: in.From.ToNonAD()}, text("mine"))
					if got := next[*events.Message](t, b); got.Message.GetConversation() != "mine" {
						t.Fatalf("got %v", got)
					}
				}
			})
		}
	}
}

// The phone has what the client sends, and uploads its files again.
func TestSentMedia(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	up, err := b.Upload(t.Context(), []byte("mine"), whatsmeow.MediaImage)
	if err != nil {
		t.Fatal(err)
	}
	sent := b.sends(t, anna, &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
		DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileSHA256: up.FileSHA256, FileEncSHA256: up.FileEncSHA256,
		Caption: proto.String("look"),
	}})
	if sent.Text() != "look" {
		t.Errorf("got %q", sent.Text())
	}
	if got := b.ask(t, sent.ID, up.MediaKey, form{chat: anna, fromMe: true}); got != wabox.Success {
		t.Errorf("got %v: %s", got, lastWrong(b))
	}
	if got := b.ask(t, sent.ID, up.MediaKey, form{chat: anna}); got != mismatched {
		t.Errorf("got %v for a message of somebody else", got)
	}
}

// waitDecrypted waits until all have got what a client has sent.
func waitDecrypted(t *testing.T, account *wabox.Account) {
	t.Helper()
	for ctx := withPatience(t); ; time.Sleep(time.Millisecond) {
		if !slices.ContainsFunc(account.Sent(), func(s wabox.Sent) bool { return s.Err != nil }) {
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("not all have got it: %+v", account.Sent())
		}
	}
}

// A device that was at home in another box has sessions with contacts who know nothing of them.
func TestSentAgain(t *testing.T) {
	t.Parallel()
	first := newBox(t)
	account := first.NewAccount()
	first.Link(anna, annaLID)
	b := login(t, account)
	group := account.NewGroup(types.AddressingModeLID, anna, bert)
	b.sends(t, anna, text("before"))
	b.sends(t, group, text("before"))
	deliver(t, account, wabox.Incoming{From: anna, Alt: annaLID}, text("before"))
	next[*events.Message](t, b)
	deliver(t, account, wabox.Incoming{FromMe: true, Chat: anna}, text("before"))
	next[*events.Message](t, b)
	b.sends(t, anna, text("before"))
	b.Disconnect()

	second := newBox(t)
	again := second.Pair(account.Device)
	second.Link(anna, annaLID)
	again.Group(group, types.AddressingModeLID, again.LID, annaLID)
	b = login(t, again)
	for _, chat := range []types.JID{anna, group} {
		c := again.Chat(t, wabox.Incoming{From: annaLID, Chat: chat})
		for _, want := range []string{"one", "two"} {
			if _, err := b.SendMessage(withPatience(t), chat, text(want)); err != nil {
				t.Fatal(err)
			}
			if got := c.Next().Text(); got != want {
				t.Errorf("%v: got %q, want %q", chat, got, want)
			}
			waitDecrypted(t, again) // whatsmeow can lose the second copy of one message if it sends another
		}
	}
	if sent := again.Sent(); len(sent) != 4 {
		t.Errorf("%d messages were sent, want 4", len(sent))
	}
}
