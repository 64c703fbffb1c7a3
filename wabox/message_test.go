package wabox_test

import (
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

func TestMessages(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	var (
		anna     = jid(t, "491701111111@s.whatsapp.net")
		annaLID  = jid(t, "200000000000001@lid")
		annaPad  = jid(t, "491701111111:7@s.whatsapp.net")
		annaPadL = jid(t, "200000000000001:7@lid")
		group    = jid(t, "120363000000000001@g.us")
		list     = jid(t, "1700000000@broadcast")
		channel  = jid(t, "120363000000000002@newsletter")
		own      = account.PN
		ownLID   = account.LID
	)
	tests := []struct {
		name string
		in   wabox.Incoming
		want types.MessageSource
	}{
		{
			"one-to-one", wabox.Incoming{From: anna},
			types.MessageSource{Chat: anna, Sender: anna},
		}, {
			"one-to-one with LID", wabox.Incoming{From: annaPad, Alt: annaLID},
			types.MessageSource{Chat: anna, Sender: annaPad, SenderAlt: annaPadL},
		}, {
			"one-to-one by LID", wabox.Incoming{From: annaLID, Alt: anna},
			types.MessageSource{Chat: annaLID, Sender: annaLID, SenderAlt: anna},
		}, {
			"number again, LID known", wabox.Incoming{From: anna},
			types.MessageSource{Chat: anna, Sender: anna, SenderAlt: annaLID},
		}, {
			"group", wabox.Incoming{From: annaPad, Chat: group, Alt: annaLID},
			types.MessageSource{
				Chat: group, Sender: annaPad, IsGroup: true, SenderAlt: annaPadL, AddressingMode: types.AddressingModePN,
			},
		}, {
			"group by LID", wabox.Incoming{From: annaLID, Chat: group, Alt: anna, LIDMode: true},
			types.MessageSource{
				Chat: group, Sender: annaLID, IsGroup: true, SenderAlt: anna, AddressingMode: types.AddressingModeLID,
			},
		}, {
			"broadcast list", wabox.Incoming{From: anna, Chat: list, Alt: annaLID},
			types.MessageSource{
				Chat: list, Sender: anna, IsGroup: true, SenderAlt: annaLID, AddressingMode: types.AddressingModePN,
			},
		}, {
			"status", wabox.Incoming{From: anna, Chat: types.StatusBroadcastJID, Alt: annaLID},
			types.MessageSource{
				Chat: types.StatusBroadcastJID, Sender: anna, IsGroup: true, SenderAlt: annaLID,
				AddressingMode: types.AddressingModePN,
			},
		}, {
			"from me", wabox.Incoming{FromMe: true, Chat: anna, Alt: annaLID},
			types.MessageSource{
				Chat: anna, Sender: own, IsFromMe: true, SenderAlt: ownLID, RecipientAlt: annaLID,
			},
		}, {
			"from me by LID", wabox.Incoming{FromMe: true, Chat: annaLID, Alt: anna},
			types.MessageSource{Chat: annaLID, Sender: ownLID, IsFromMe: true, RecipientAlt: anna},
		}, {
			"from me to me", wabox.Incoming{FromMe: true},
			types.MessageSource{Chat: own, Sender: own, IsFromMe: true, SenderAlt: ownLID},
		}, {
			"from me in group", wabox.Incoming{FromMe: true, Chat: group, LIDMode: true, Alt: own},
			types.MessageSource{
				Chat: group, Sender: ownLID, IsGroup: true, IsFromMe: true, SenderAlt: own,
				AddressingMode: types.AddressingModeLID,
			},
		}, {
			"from me as status", wabox.Incoming{FromMe: true, Chat: types.StatusBroadcastJID},
			types.MessageSource{
				Chat: types.StatusBroadcastJID, Sender: own, IsGroup: true, IsFromMe: true, SenderAlt: ownLID,
				AddressingMode: types.AddressingModePN,
			},
		}, {
			"newsletter", wabox.Incoming{Chat: channel},
			types.MessageSource{Chat: channel, Sender: channel},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.in.ID = "ID-" + types.MessageID(test.name)
			test.in.Timestamp = time.Unix(1_700_000_000, 0)
			media := box.Upload([]byte(test.name), whatsmeow.MediaImage)
			if test.in.Chat == channel {
				media = box.UploadPlain([]byte(test.name), whatsmeow.MediaImage)
			}
			deliver(t, account, test.in, &waE2E.Message{ImageMessage: media.Image()})
			evt := next[*events.Message](t, b)
			got := evt.Info.MessageSource
			got.BroadcastRecipients = nil
			if !sameSource(got, test.want) {
				t.Errorf("got\n%+v, want\n%+v", got, test.want)
			}
			if evt.Info.ID != test.in.ID || !evt.Info.Timestamp.Equal(test.in.Timestamp) || evt.Info.Type != "media" ||
				evt.Info.MediaType != "image" {
				t.Errorf("got %+v", evt.Info)
			}
			data, err := b.Download(t.Context(), evt.Message.GetImageMessage())
			if err != nil || string(data) != test.name {
				t.Errorf("downloaded %q, %v", data, err)
			}
		})
	}
}

func sameSource(a, b types.MessageSource) bool {
	return a.Chat == b.Chat && a.Sender == b.Sender && a.IsFromMe == b.IsFromMe && a.IsGroup == b.IsGroup &&
		a.AddressingMode == b.AddressingMode && a.SenderAlt == b.SenderAlt && a.RecipientAlt == b.RecipientAlt
}

func TestManyMessages(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	const count = 300
	senders := []types.JID{jid(t, "491701111111@s.whatsapp.net"), jid(t, "200000000000002@lid"), jid(t, "491703333333:9@s.whatsapp.net")}
	var ids []types.MessageID
	send := func() {
		ids = append(ids, deliver(t, account, wabox.Incoming{From: senders[len(ids)%len(senders)]}, text("hello")))
	}
	for len(ids) < count/3 {
		send() // before the client has ever been there
	}
	b := login(t, account)
	for len(ids) < count {
		send()
	}
	for i, want := range ids {
		if got := next[*events.Message](t, b); got.Info.ID != want {
			t.Fatalf("message %d is %s, want %s", i, got.Info.ID, want)
		}
	}
}

// The first message of a person uses up one of the client's one-time prekeys, and no other does:
// the own phone does without. A person has one session under both addresses, once they are known.
func TestOneTimePreKeys(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	b := login(t, account)
	anna, ben := jid(t, "491701111111@s.whatsapp.net"), jid(t, "491702222222@s.whatsapp.net")
	zoe, zoeLID := jid(t, "491703333333@s.whatsapp.net"), jid(t, "100000000000003@lid")
	ada, adaLID := jid(t, "491704444444@s.whatsapp.net"), jid(t, "100000000000004@lid")
	count := func() int {
		t.Helper()
		n, err := b.Store.PreKeys.UploadedPreKeyCount(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for deadline := time.Now().Add(patience); count() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	left := count()
	for _, test := range []struct {
		in  wabox.Incoming
		use int
	}{
		{wabox.Incoming{From: anna}, 1}, {wabox.Incoming{From: anna}, 0}, {wabox.Incoming{From: ben}, 1}, {wabox.Incoming{FromMe: true, Chat: ben}, 0},
		{wabox.Incoming{From: zoeLID, Alt: zoe}, 1}, {wabox.Incoming{From: zoe}, 0}, {wabox.Incoming{From: zoeLID}, 0},
		{wabox.Incoming{From: ada}, 1}, {wabox.Incoming{From: ada, Alt: adaLID}, 0}, {wabox.Incoming{From: adaLID}, 0},
	} {
		deliver(t, account, test.in, text("hello"))
		next[*events.Message](t, b)
		if left -= test.use; count() != left {
			t.Errorf("after a message of %+v it has %d keys, not %d", test.in, count(), left)
			left = count()
		}
	}
}
