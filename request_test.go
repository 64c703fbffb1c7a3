package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestInvalidRequestIsNotSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		good := reupload.Request{MessageID: "ID", Chat: carol, MediaKey: make([]byte, 32)}
		tests := []struct {
			name string
			edit func(*reupload.Request)
			want error
		}{
			{"newsletter", func(q *reupload.Request) { q.Chat = theNewsletter }, reupload.ErrNewsletter},
			{"newsletter without key", func(q *reupload.Request) { q.Chat, q.MediaKey = theNewsletter, nil }, reupload.ErrNewsletter},
			{"no key", func(q *reupload.Request) { q.MediaKey = nil }, reupload.ErrInvalidRequest},
			{"key of 31 bytes", func(q *reupload.Request) { q.MediaKey = make([]byte, 31) }, reupload.ErrInvalidRequest},
			{"key of 33 bytes", func(q *reupload.Request) { q.MediaKey = make([]byte, 33) }, reupload.ErrInvalidRequest},
			{"no id", func(q *reupload.Request) { q.MessageID = "" }, reupload.ErrInvalidRequest},
			{"no chat", func(q *reupload.Request) { q.Chat = types.EmptyJID }, reupload.ErrInvalidRequest},
			{"only a server for a chat", func(q *reupload.Request) { q.Chat = types.ServerJID }, reupload.ErrInvalidRequest},
			{"group without sender", func(q *reupload.Request) { q.Chat = carolGroup }, reupload.ErrInvalidRequest},
			{"broadcast without sender", func(q *reupload.Request) { q.Chat = carolList }, reupload.ErrInvalidRequest},
			{"status without sender", func(q *reupload.Request) { q.Chat = types.StatusBroadcastJID }, reupload.ErrInvalidRequest},
		}
		for _, test := range tests {
			req := good
			test.edit(&req)
			c := r.requests(req)
			c.fails(t, test.want)
			if other := reupload.ErrNewsletter; test.want != other && errors.Is(c.err, other) {
				t.Errorf("%s: the error is %v", test.name, c.err)
			}
		}
		r.asked(0)
		if s := r.plugin.Stats(); s.Asked != 0 || s.Waiting != 0 {
			t.Errorf("stats are %+v", s)
		}
	})
}

func TestRequestOnTheWire(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		carolTab := types.NewADJID(carol.User, 0, 4)
		tests := []struct {
			name        string
			in          wabox.Incoming
			edit        func(*reupload.Request)
			chat        types.JID
			participant types.JID
			fromMe      string
		}{
			{name: "one-to-one", in: wabox.Incoming{From: carolTab}, chat: carol, fromMe: "false"},
			{name: "one-to-one by LID", in: wabox.Incoming{From: carolLID}, chat: carolLID, fromMe: "false"},
			{name: "one-to-one, from me", in: wabox.Incoming{Chat: carol, FromMe: true}, chat: carol, fromMe: "true"},
			{name: "group", in: wabox.Incoming{Chat: carolGroup, From: carolTab}, chat: carolGroup, participant: carol, fromMe: "false"},
			{name: "group by LID", in: wabox.Incoming{Chat: carolGroup, From: carolLID}, chat: carolGroup, participant: carolLID, fromMe: "false"},
			{name: "group, from me", in: wabox.Incoming{Chat: carolGroup, FromMe: true}, chat: carolGroup, participant: r.phone.PN, fromMe: "true"},
			{name: "broadcast list", in: wabox.Incoming{Chat: carolList, From: carolTab}, chat: carolList, participant: carol, fromMe: "false"},
			{name: "broadcast list, from me", in: wabox.Incoming{Chat: carolList, FromMe: true}, chat: carolList, participant: r.phone.PN, fromMe: "true"},
			{name: "status", in: wabox.Incoming{Chat: types.StatusBroadcastJID, From: carolTab}, chat: types.StatusBroadcastJID, participant: carol, fromMe: "false"},
			{name: "status, from me", in: wabox.Incoming{Chat: types.StatusBroadcastJID, FromMe: true}, chat: types.StatusBroadcastJID, participant: r.phone.PN, fromMe: "true"},

			{name: "participant in a one-to-one chat", in: wabox.Incoming{From: carol}, edit: func(q *reupload.Request) {
				q.Participant = carolTab
			}, chat: carol, fromMe: "false"},
			{name: "device parts", in: wabox.Incoming{Chat: carolGroup, From: carol}, edit: func(q *reupload.Request) {
				q.Participant = carolTab
			}, chat: carolGroup, participant: carol, fromMe: "false"},
			{name: "device part of a chat", in: wabox.Incoming{From: carol}, edit: func(q *reupload.Request) {
				q.Chat = carolTab
			}, chat: carol, fromMe: "false"},
			{name: "chat under its old server", in: wabox.Incoming{From: carol}, edit: func(q *reupload.Request) {
				q.Chat.Server = types.LegacyUserServer
			}, chat: carol, fromMe: "false"},
			{name: "own message without participant", in: wabox.Incoming{Chat: carolGroup, FromMe: true}, edit: func(q *reupload.Request) {
				q.Participant = types.EmptyJID
			}, chat: carolGroup, participant: r.phone.PN, fromMe: "true"},
		}
		for i, test := range tests {
			p := r.receivePictureIn(test.in)
			req := p.request()
			if test.edit != nil {
				test.edit(&req)
			}
			r.requests(req).succeeds(t)
			got := r.asks(i + 1)[i]
			if got.ID != p.id() || got.StanzaID != p.id() {
				t.Errorf("%s: it is for %s, and decrypts to %s; want %s", test.name, got.ID, got.StanzaID, p.id())
			}
			if got.To != r.phone.PN {
				t.Errorf("%s: it goes to %v", test.name, got.To)
			}
			if got.Chat != test.chat || got.Participant != test.participant || got.FromMe != test.fromMe {
				t.Errorf("%s: it names %v, %v, %s", test.name, got.Chat, got.Participant, got.FromMe)
			}
			if got.HasParticipant != !test.participant.IsEmpty() {
				t.Errorf("%s: it has a participant: %t", test.name, got.HasParticipant)
			}
			if got.Node.Attrs["type"] != "server-error" || len(got.EncIV) != 12 {
				t.Errorf("%s: it is %s", test.name, got.Node)
			}
		}
		// No nonce comes twice, not even for the same request.
		r.requests(reupload.Request{MessageID: r.asks(1)[0].ID, Chat: carol, MediaKey: r.asks(1)[0].MediaKey}).succeeds(t)
		seen := make(map[string]bool)
		for _, request := range r.asks(len(tests) + 1) {
			if seen[string(request.EncIV)] {
				t.Error("a nonce was used twice")
			}
			seen[string(request.EncIV)] = true
		}
	})
}

func TestRequestKeepsNothingOfTheCallers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		answer := make(chan struct{})
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
		req := p.request()
		req.MediaKey = bytes.Clone(req.MediaKey)
		c := r.begin(req)
		r.asks(1)
		clear(req.MediaKey) // a caller may wipe its key
		close(answer)
		c.succeeds(t)
		r.heals(p)
		r.asked(1)
	})
}

func TestNewRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		live := []struct {
			name string
			in   wabox.Incoming
			want reupload.Request
		}{
			{"live", wabox.Incoming{From: carolAtTab}, reupload.Request{Chat: carol}},
			{"live, from me", wabox.Incoming{Chat: carol, FromMe: true}, reupload.Request{Chat: carol, IsFromMe: true}},
			{"live, group", wabox.Incoming{Chat: carolGroup, From: carolAtTab}, reupload.Request{Chat: carolGroup, Participant: carol}},
			{"live, status", wabox.Incoming{Chat: types.StatusBroadcastJID, From: carolAtTab}, reupload.Request{Chat: types.StatusBroadcastJID, Participant: carol}},
			{"live, broadcast list", wabox.Incoming{Chat: carolList, From: carolAtTab}, reupload.Request{Chat: carolList, Participant: carol}},
		}
		check := func(name string, p picture, want reupload.Request) {
			t.Helper()
			want.MessageID, want.MediaKey = p.id(), p.MediaKey
			if got := p.request(); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: got %+v, want %+v", name, got, want)
			}
			r.requests(p.request()).succeeds(t)
		}
		for _, test := range live {
			check(test.name, r.receivePictureIn(test.in), test.want)
		}

		history := []struct {
			name string
			chat types.JID
			key  *waCommon.MessageKey
			msg  *waWeb.WebMessageInfo // the rest of it
			want reupload.Request
		}{
			{"history", carol, &waCommon.MessageKey{FromMe: proto.Bool(false)}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: carol}},
			{"history, from me", carol, &waCommon.MessageKey{FromMe: proto.Bool(true)}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: carol, IsFromMe: true}},
			{"history, group", carolGroup, &waCommon.MessageKey{}, &waWeb.WebMessageInfo{Participant: proto.String(carolAtTab.String())}, reupload.Request{Chat: carolGroup, Participant: carol}},
			{"history, group, from me", carolGroup, &waCommon.MessageKey{FromMe: proto.Bool(true)}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: carolGroup, Participant: r.phone.PN, IsFromMe: true}},
			{"history, broadcast list", carolList, &waCommon.MessageKey{}, &waWeb.WebMessageInfo{Participant: proto.String(carol.String())}, reupload.Request{Chat: carolList, Participant: carol}},
			{"history, status", types.StatusBroadcastJID, &waCommon.MessageKey{Participant: proto.String(carolLID.String())}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: types.StatusBroadcastJID, Participant: carolLID}},
		}
		for i, test := range history {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.box.Expire(media)
			test.key.ID, test.key.RemoteJID = proto.String(fmt.Sprintf("HISTORY%d", i)), proto.String(test.chat.String())
			test.msg.Key, test.msg.Message = test.key, &waE2E.Message{ImageMessage: media.Image()}
			if err := r.phone.DeliverHistory(&waHistorySync.HistorySync{
				SyncType: waHistorySync.HistorySync_RECENT.Enum(),
				Conversations: []*waHistorySync.Conversation{{
					ID: proto.String(test.chat.String()), Messages: []*waHistorySync.HistorySyncMsg{{Message: test.msg}},
				}},
			}); err != nil {
				t.Fatal(err)
			}
			synced := next[*events.HistorySync](r).Data.GetConversations()[0].GetMessages()[0].GetMessage()
			evt, err := r.client.ParseWebMessage(test.chat, synced)
			if err != nil {
				t.Fatal(err)
			}
			check(test.name, picture{media, evt, evt.Message.GetImageMessage()}, test.want)
		}

		r.blobsDeleted(len(history))
		if got := reupload.NewRequest(nil, nil); !reflect.DeepEqual(got, reupload.Request{}) {
			t.Errorf("of nothing: %+v", got)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		c := r.begin(p.request())
		r.asks(1)
		c.cancel()
		c.fails(t, context.Canceled)

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.plugin.RequestReupload(ctx, p.request()); !errors.Is(err, context.Canceled) {
			t.Errorf("with a context that has ended: %v", err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if _, err := r.plugin.RequestReupload(ctx, p.request()); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, reupload.ErrTimeout) {
			t.Errorf("after the caller's own deadline: %v", err)
		}
		if n := r.plugin.Stats().Waiting; n != 1 { // for the next caller
			t.Errorf("%d requests wait, want 1", n)
		}
		r.asked(1)
	})
}

func TestCloseEndsWaiting(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{MaxInFlight: 1})
		p, queued := r.receivePicture(), r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		first := r.begin(p.request())
		r.asks(1)
		second := r.begin(queued.request())
		if err := r.plugin.Close(); err != nil {
			t.Error(err)
		}
		first.fails(t, reupload.ErrClosed)
		second.fails(t, reupload.ErrClosed)
		r.requests(queued.request()).fails(t, reupload.ErrClosed)
		r.asked(1)
		if n := r.plugin.Stats().Waiting; n != 0 {
			t.Errorf("%d still wait", n)
		}
	})
}

func TestWithoutAccountOrConnection(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		req := reupload.Request{MessageID: "ID", Chat: carol, MediaKey: make([]byte, 32)}

		r := newUnregisteredRig(t)
		r.client = whatsmeow.NewClient(wabox.NewDevice(), r.log)
		r.register(nil)
		r.requests(req).fails(t, whatsmeow.ErrNotLoggedIn)

		r = newUnregisteredRig(t)
		r.register(nil)
		r.requests(req).fails(t, whatsmeow.ErrNotConnected)
		r.connect()
		info, media := r.unseen("ID")
		r.requests(reupload.NewRequest(info, media.Image())).succeeds(t) // it works as soon as there is a connection
	})
}

func TestCallersShareOneRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(told, 100)
		r := newRig(t, heard.options(reupload.Options{}))
		p := r.receivePicture()
		answer := make(chan struct{})
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
		calls := make([]*call, 50)
		for i := range calls {
			calls[i] = r.begin(p.request())
		}
		r.asks(1)
		if n := r.plugin.Stats().Waiting; n != 1 {
			t.Errorf("%d requests wait, want 1", n)
		}
		for _, c := range calls[:10] {
			c.cancel()
			c.fails(t, context.Canceled)
		}
		close(answer)
		for _, c := range calls[10:] {
			c.succeeds(t)
			if c.result.DirectPath != calls[10].result.DirectPath {
				t.Error("callers got different paths")
			}
		}
		r.asked(1)
		if u := heard.next(t); u.Late || u.Request.MessageID != p.id() || u.Result.DirectPath != calls[10].result.DirectPath {
			t.Errorf("Options.OnReupload was told %+v", u)
		}

		// A request that its caller has left is there for the next caller.
		answer = make(chan struct{})
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
		a, b := r.begin(p.request()), r.begin(p.request())
		r.asks(2)
		for _, c := range []*call{a, b} {
			c.cancel()
			c.fails(t, context.Canceled)
		}
		c := r.begin(p.request())
		close(answer)
		c.succeeds(t)
		r.asked(2)
	})
}

// A bot that holds messages in a database of its own can ask for one, and download it then.
func TestRequestForAMessageThatTheIndexHasNeverSeen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		info, media := r.unseen("ID")
		r.requests(reupload.NewRequest(info, media.Image())).succeeds(t)
		data, err := r.plugin.Download(r.ctx(), info, media.Image())
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(1) // the new path is known
	})
}
