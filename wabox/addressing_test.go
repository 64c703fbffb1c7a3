package wabox_test

import (
	"strings"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

var (
	anna    = types.NewJID("491701111111", types.DefaultUserServer)
	annaLID = types.NewJID("200000000000001", types.HiddenUserServer)
	annaPad = types.NewADJID(anna.User, 0, 7)
	bert    = types.NewJID("491702222222", types.DefaultUserServer)
	bertLID = types.NewJID("200000000000002", types.HiddenUserServer)

	numbers = types.NewJID("120363000000000001", types.GroupServer) // a group that is addressed by phone numbers
	lids    = types.NewJID("120363000000000002", types.GroupServer) // and one by LIDs
)

// mismatched is what the phones of these tests answer to requests that are wrong.
const mismatched waMmsRetry.MediaRetryNotification_ResultType = 17

// A form is how a request names its message.
type form struct {
	to, chat, participant types.JID
	fromMe                bool
}

// ask requests a file under a form, and returns what came of it.
func (b *bot) ask(t *testing.T, id types.MessageID, mediaKey []byte, f form) waMmsRetry.MediaRetryNotification_ResultType {
	t.Helper()
	b.request(t, id, mediaKey, f)
	answer, err := whatsmeow.DecryptMediaRetryNotification(next[*events.MediaRetry](t, b), mediaKey)
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetResult()
}

// request sends a request under a form. whatsmeow encrypts it, in one that the server drops.
func (b *bot) request(t *testing.T, id types.MessageID, mediaKey []byte, f form) wabox.Request {
	t.Helper()
	count := b.account.RequestCount()
	b.account.OnReceipt(func(wabox.Request) bool { return true })
	if err := b.SendMediaRetryReceipt(t.Context(), &types.MessageInfo{ID: id}, mediaKey); err != nil {
		t.Fatal(err)
	}
	requests, err := b.account.WaitRequests(withPatience(t), count+1)
	if err != nil {
		t.Fatal(err)
	}
	b.account.OnReceipt(nil)
	if f.to.IsEmpty() {
		f.to = b.account.PN
	}
	rmr := waBinary.Attrs{"jid": f.chat, "from_me": f.fromMe}
	if !f.participant.IsEmpty() {
		rmr["participant"] = f.participant
	}
	//lint:ignore SA1019 there is no other way to send a request that is wrong
	if err := b.DangerousInternals().SendNode(t.Context(), waBinary.Node{
		Tag: "receipt", Attrs: waBinary.Attrs{"id": id, "to": f.to, "type": "server-error"},
		Content: []waBinary.Node{requests[count].Node.GetChildByTag("encrypt"), {Tag: "rmr", Attrs: rmr}},
	}); err != nil {
		t.Fatal(err)
	}
	if requests, err = b.account.WaitRequests(withPatience(t), count+2); err != nil {
		t.Fatal(err)
	}
	return requests[count+1]
}

func TestStrict(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	own, ownLID := b.account.PN, b.account.LID
	ownDevice := types.NewADJID(own.User, 0, 3)
	status, list := types.StatusBroadcastJID, types.NewJID("1700000000", types.BroadcastServer)
	box.Link(bertLID, bert)
	b.account.Group(lids, types.AddressingModeLID, ownLID, annaLID)
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	hosted, hostedLID := types.JID{User: anna.User, Device: 99, Server: types.HostedServer}, types.JID{User: annaLID.User, Device: 99, Server: types.HostedLIDServer}
	tests := []struct {
		name  string
		in    wabox.Incoming
		right []form
		wrong []form
	}{
		{
			"one-to-one", wabox.Incoming{From: annaPad, Alt: annaLID},
			[]form{{chat: anna}, {chat: annaLID}, {chat: anna, to: ownLID}},
			[]form{
				{chat: anna, to: ownDevice}, {chat: anna, to: anna}, {chat: bert}, {chat: bertLID}, {chat: annaPad},
				{chat: anna, fromMe: true}, {chat: anna, participant: anna}, {},
			},
		}, {
			"one-to-one by LID, linked", wabox.Incoming{From: bertLID},
			[]form{{chat: bert}, {chat: bertLID}}, []form{{chat: anna}},
		}, {
			"from me", wabox.Incoming{FromMe: true, Chat: anna},
			[]form{{chat: anna, fromMe: true}, {chat: annaLID, fromMe: true}},
			[]form{{chat: anna}, {chat: own, fromMe: true}},
		}, {
			"from me, with the other address", wabox.Incoming{FromMe: true, Chat: types.NewJID("491703333333", types.DefaultUserServer), Alt: types.NewJID("200000000000003", types.HiddenUserServer)},
			[]form{{chat: types.NewJID("200000000000003", types.HiddenUserServer), fromMe: true}}, []form{{chat: anna, fromMe: true}},
		}, {
			"from me to me", wabox.Incoming{FromMe: true},
			[]form{{chat: own, fromMe: true}, {chat: ownLID, fromMe: true}}, []form{{chat: own}},
		}, {
			"group", wabox.Incoming{From: annaPad, Chat: numbers},
			[]form{{chat: numbers, participant: anna}, {chat: numbers, participant: annaLID}},
			[]form{
				{chat: numbers}, {chat: lids, participant: anna}, {chat: numbers, participant: bert}, {chat: anna},
				{chat: numbers, participant: annaPad}, {chat: numbers, participant: anna, fromMe: true},
			},
		}, {
			"group by LID", wabox.Incoming{From: annaLID, Chat: numbers},
			[]form{{chat: numbers, participant: annaLID}}, []form{{chat: numbers, participant: anna}},
		}, {
			"group that has become one by LID", wabox.Incoming{From: anna, Chat: lids},
			[]form{{chat: lids, participant: annaLID}}, []form{{chat: lids, participant: anna}},
		}, {
			"from me in a group", wabox.Incoming{FromMe: true, Chat: numbers},
			[]form{{chat: numbers, participant: own, fromMe: true}, {chat: numbers, participant: ownLID, fromMe: true}},
			[]form{{chat: numbers, fromMe: true}, {chat: numbers, participant: own}},
		}, {
			"broadcast list", wabox.Incoming{From: anna, Chat: list},
			[]form{{chat: list, participant: anna}, {chat: list, participant: annaLID}, {chat: anna}, {chat: annaLID}},
			[]form{{chat: list}, {chat: bert}, {chat: anna, participant: anna}, {chat: anna, fromMe: true}},
		}, {
			"own broadcast list", wabox.Incoming{FromMe: true, Chat: list},
			[]form{{chat: list, participant: own, fromMe: true}}, []form{{chat: own, fromMe: true}, {chat: own}},
		}, {
			"hosted, in a group by LID", wabox.Incoming{From: hostedLID, Chat: lids},
			[]form{{chat: lids, participant: annaLID}},
			[]form{{chat: lids, participant: hostedLID}, {chat: lids, participant: hostedLID.ToNonAD()}, {chat: lids, participant: anna}},
		}, {
			"hosted, in a group by numbers", wabox.Incoming{From: hosted, Chat: numbers},
			[]form{{chat: numbers, participant: anna}, {chat: numbers, participant: annaLID}},
			[]form{{chat: numbers, participant: hosted.ToNonAD()}},
		}, {
			"hosted, one-to-one", wabox.Incoming{From: hosted},
			[]form{{chat: anna}, {chat: annaLID}}, []form{{chat: hosted.ToNonAD()}},
		}, {
			"from me, in a chat that is stored as older programs do", wabox.Incoming{FromMe: true, Chat: types.NewJID(anna.User, types.LegacyUserServer)},
			[]form{{chat: anna, fromMe: true}}, []form{{chat: types.NewJID(anna.User, types.LegacyUserServer), fromMe: true}},
		}, {
			"a bot", wabox.Incoming{From: types.NewMetaAIJID},
			[]form{{chat: types.NewMetaAIJID}}, []form{{chat: types.NewMetaAIJID, participant: types.NewMetaAIJID}},
		}, {
			"status by LID", wabox.Incoming{From: annaLID, Chat: status},
			[]form{{chat: status, participant: anna}, {chat: status, participant: annaLID}}, []form{{chat: status}},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			media := box.Upload([]byte(test.name), whatsmeow.MediaImage)
			id := b.account.KnowsMessage(test.in, &waE2E.Message{ImageMessage: media.Image()})
			for _, f := range test.right {
				if got := b.ask(t, id, media.MediaKey, f); got != wabox.Success {
					t.Errorf("%+v is right, got %v: %s", f, got, lastWrong(b))
				}
			}
			for _, f := range test.wrong {
				if got := b.ask(t, id, media.MediaKey, f); got != mismatched || lastWrong(b) == "" {
					t.Errorf("%+v is wrong, got %v", f, got)
				}
			}
		})
	}
}

func lastWrong(b *bot) string {
	requests := b.account.Requests()
	return requests[len(requests)-1].Wrong
}

// What a real phone does about a request that it cannot match.
func TestMismatch(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	evt := received(t, b, media, wabox.Incoming{From: annaLID, Alt: anna, Chat: lids})
	id, key := evt.Info.ID, media.MediaKey
	acks := make(chan string, 10)
	box.OnEvent(func(evt wabox.Event) {
		if evt.What == wabox.NodeOut && evt.Node.Tag == "ack" && evt.Node.Attrs["type"] == "server-error" {
			acks <- evt.Node.AttrGetter().OptionalString("error")
		}
	})
	silent := func(f form) {
		t.Helper()
		b.request(t, id, key, f)
		if code := <-acks; code != "" {
			t.Errorf("the server refused it, with %s", code)
		}
		time.Sleep(20 * time.Millisecond)
		for len(b.events) > 0 {
			if evt, ok := (<-b.events).(*events.MediaRetry); ok {
				t.Errorf("got %+v", evt)
			}
		}
	}
	// A script is for requests that are right.
	b.account.Script(id, wabox.Answer{Result: wabox.NotFound}, wabox.Answer{Result: wabox.Success})
	silent(form{chat: numbers, participant: annaLID})
	silent(form{chat: lids, participant: annaLID, fromMe: true})
	b.request(t, id, key, form{chat: lids, participant: anna})
	if evt := next[*events.MediaRetry](t, b); evt.Error == nil || evt.Error.Code != 2 {
		t.Errorf("a number in a group by LID: got %+v", evt)
	}
	if got := b.ask(t, id, key, form{chat: lids, participant: annaLID}); got != wabox.NotFound {
		t.Errorf("the first right request got %v", got)
	}

	b.account.Mismatch(func(r wabox.Request) []wabox.Answer {
		if !strings.Contains(r.Wrong, "chat") {
			t.Errorf("it is wrong because of %q", r.Wrong)
		}
		return []wabox.Answer{{ErrorCode: proto.String("2")}}
	})
	b.request(t, id, key, form{chat: numbers, participant: annaLID})
	if evt := next[*events.MediaRetry](t, b); evt.Error == nil || evt.Error.Code != 2 {
		t.Errorf("got %+v", evt)
	}

	b.account.Strict(false)
	if got := b.ask(t, id, key, form{chat: numbers}); got != wabox.Success || lastWrong(b) == "" {
		t.Errorf("a phone that is not strict answered %v", got)
	}
	b.account.Strict(true)
	b.account.Mismatch(nil)
	for len(acks) > 0 {
		<-acks
	}
	silent(form{chat: numbers})
}

// A group goes over to LIDs while the client runs: from then on that counts for older messages too.
func TestGroupThatMigrates(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	box.Link(anna, annaLID)
	group := b.account.NewGroup(types.AddressingModePN, anna)
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	id := received(t, b, media, wabox.Incoming{From: anna, Chat: group}).Info.ID
	if got := b.ask(t, id, media.MediaKey, form{chat: group, participant: anna}); got != wabox.Success {
		t.Errorf("before: %v, %s", got, lastWrong(b))
	}
	b.account.Group(group, types.AddressingModeLID, b.account.LID, annaLID)
	if got := b.ask(t, id, media.MediaKey, form{chat: group, participant: anna}); got != mismatched {
		t.Errorf("by number, after: %v", got)
	}
	if got := b.ask(t, id, media.MediaKey, form{chat: group, participant: annaLID}); got != wabox.Success {
		t.Errorf("by LID, after: %v, %s", got, lastWrong(b))
	}
	info, err := b.GetGroupInfo(t.Context(), group)
	if err != nil || info.AddressingMode != types.AddressingModeLID {
		t.Errorf("the server says %+v, %v", info, err)
	}
	for i, member := range info.Participants {
		if isFirst := i == 0; member.IsSuperAdmin != isFirst {
			t.Errorf("member %d, %s, is the group's owner: %t", i, member.JID, member.IsSuperAdmin)
		}
	}
}

// A business writes from a hosted device, and the account from its own: whatever whatsmeow makes of
// the sender, the phone knows the user.
func TestHostedSenderOverTheWire(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	box.Link(anna, annaLID)
	group := b.account.NewGroup(types.AddressingModeLID, annaLID)
	for name, in := range map[string]wabox.Incoming{
		"in a group": {From: types.JID{User: annaLID.User, Device: 99, Server: types.HostedLIDServer}, Chat: group},
		"one-to-one": {From: types.JID{User: anna.User, Device: 99, Server: types.HostedServer}},
	} {
		media := box.Upload([]byte(name), whatsmeow.MediaImage)
		evt := received(t, b, media, in)
		f := form{chat: evt.Info.Chat}
		if evt.Info.IsGroup {
			if evt.Info.Sender.Server != types.HostedLIDServer {
				t.Errorf("%s: whatsmeow says %v", name, evt.Info.Sender)
			}
			f.participant = annaLID
		}
		if got := b.ask(t, evt.Info.ID, media.MediaKey, f); got != wabox.Success {
			t.Errorf("%s: %v, %s", name, got, lastWrong(b))
		}
	}
}
