package reupload_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of how a group's members are named, and of when the server is asked about groups.

// A phone number in a group by LIDs, of which the client knows no LID, in a history sync.
func TestGroupTellsTheLIDOfANumber(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, carl)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		if err := r.phone.DeliverHistory(history(group, &waWeb.WebMessageInfo{
			Key:              &waCommon.MessageKey{ID: proto.String("3EB0HISTORY"), RemoteJID: proto.String(group.String()), Participant: proto.String(carl.String())},
			Participant:      proto.String(carl.String()),
			Message:          &waE2E.Message{ImageMessage: media.Image()},
			MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())),
		})); err != nil {
			r.Fatal(err)
		}
		next[*events.HistorySync](r.rig)
		r.box.Expire(media)
		r.downloads(media, reupload.Request{}).heals(r, "history", carlLID)
		r.queried(1)
		in := wabox.Incoming{Chat: group, From: carlLID}
		r.asks(in, carl).heals(r, "a row", carlLID)
		r.asks(in, carlLID).heals(r, "a row by LID", carlLID)
		r.queried(0)
		time.Sleep(time.Hour)
		if r.lids.PutLIDMapping(r.Context(), doraLID, dora) != nil {
			r.Fatal("no mapping")
		}
		r.asks(in, carl).heals(r, "an hour later", carlLID) // the store knows him by now
		r.queried(0)
	})
}

// A group goes over to LIDs while the bot runs, and the server's old word is not taken for the new
// one.
func TestGroupMigrates(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, bob)
		r.asks(wabox.Incoming{Chat: group, From: bob}, bob).heals(r, "before", bob)
		r.queried(1)
		r.asks(wabox.Incoming{Chat: group, From: bob}, bobLID).heals(r, "by LID, before", bob)
		r.queried(1)
		// The server has just said so, in spite of the LID: it goes second for a minute.
		r.asks(wabox.Incoming{Chat: group, From: bob}, bobLID).heals(r, "by LID, again", bob)
		r.queried(0)
		r.phone.Group(group, types.AddressingModeLID, r.phone.LID, bobLID)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bobLID).heals(r, "just after", bob, bobLID)
		r.queried(0)
		time.Sleep(time.Minute)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bobLID).heals(r, "after", bobLID)
		r.queried(1)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bob).heals(r, "by number, after", bobLID)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, number(bob)).heals(r, "by a bare number, after", bobLID)
		r.queried(0)
	})
}

// The server's word that a group goes by phone numbers is asked for again as soon as a message by
// LID has come. Before that, a phone that does not know the sender by number is asked by LID.
func TestMessageByLIDIsADoubt(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, bob)
		r.asks(wabox.Incoming{Chat: group, From: bob}, bob).heals(r, "before", bob)
		r.queried(1)
		r.phone.Group(group, types.AddressingModeLID, r.phone.LID, bobLID)
		time.Sleep(time.Minute)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bob).heals(r, "when only the phone tells", bob, bobLID)
		r.queried(0)
		r.receive(wabox.Incoming{Chat: group, From: bobLID}, &waE2E.Message{Conversation: proto.String("hello")})
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bob).heals(r, "after a text", bobLID)
		r.queried(1)
	})
}

// While the server says that a group goes by phone numbers, and messages by LIDs say that it does
// not, the server is asked once a minute, and the phone under both names.
func TestDoubtsAreNotAskedAboutEachTime(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, bob, carl)
		in := wabox.Incoming{Chat: group, From: bob}
		for range 20 {
			r.receive(wabox.Incoming{Chat: group, From: carlLID, LIDMode: true}, &waE2E.Message{Conversation: proto.String("hello")})
			r.asks(in, bob).heals(r, "by its phone number", bob)
			time.Sleep(time.Second)
		}
		r.queried(2)                                          // for the first file, and for the doubt
		r.phone.Mismatch(func(wabox.Request) []wabox.Answer { // as of a phone that goes by LIDs already
			return []wabox.Answer{{ErrorCode: proto.String("2")}}
		})
		r.phone.Group(group, types.AddressingModeLID, r.phone.LID, bobLID, carlLID)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bob).heals(r, "by its LID", bob, bobLID)
		r.queried(0)
		time.Sleep(time.Minute)
		r.receive(wabox.Incoming{Chat: group, From: carlLID}, &waE2E.Message{Conversation: proto.String("hello")})
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bob).heals(r, "after a minute", bobLID)
		r.queried(1)
	})
}

// A member of whom only the phone number is known has no spare name, so that the server's word that
// the group goes by phone numbers holds for a minute and no longer.
func TestNumberWithoutALIDIsSoonUncertain(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, erin)
		in := wabox.Incoming{Chat: group, From: erin}
		r.asks(in, erin).heals(r, "before", erin)
		r.asks(in, erin).heals(r, "before, again", erin)
		r.queried(1)
		time.Sleep(time.Minute)
		r.asks(in, erin).heals(r, "a minute later", erin)
		r.asks(in, erin).heals(r, "a minute later, again", erin)
		r.queried(1)
		r.box.Link(erin, erinLID)
		r.phone.Group(group, types.AddressingModeLID, r.phone.LID, erinLID)
		time.Sleep(time.Minute)
		r.asks(wabox.Incoming{Chat: group, From: erinLID}, erin).heals(r, "after", erinLID)
		r.queried(1)
	})
}

// If the server does not say it again, its old word stands, and silence is the phone's.
func TestOldWordStandsIfTheServerIsSilent(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, erin)
		in := wabox.Incoming{Chat: group, From: erin}
		r.asks(in, erin).heals(r, "before", erin)
		time.Sleep(2 * time.Minute)
		r.stall.Store(int64(20 * time.Second))
		r.phone.Phone(silent)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.receive(in, &waE2E.Message{ImageMessage: media.Image()})
		r.box.Expire(media)
		before := r.phone.RequestCount()
		for range 5 {
			if _, err := r.client.Download(r.ctx(), media.Image()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
				r.Errorf("%v (cause: %v)", err, reupload.Cause(err))
			}
		}
		r.asked(before + 1)
	})
}

// A number without a server, in a group that has gone over to LIDs since the server was asked.
func TestOldWordAboutAGroupIsNotCertain(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, bob)
		r.asks(wabox.Incoming{Chat: group, From: bob}, number(bob)).heals(r, "before", bob)
		r.asks(wabox.Incoming{Chat: group, From: bob}, number(bob)).heals(r, "before, again", bob)
		r.queried(1)
		r.phone.Group(group, types.AddressingModeLID, r.phone.LID, bobLID)
		time.Sleep(time.Hour)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, number(bob)).heals(r, "after", bobLID)
		r.queried(1)
	})
}

// Anybody can quote a message of a group that is not there, or that the account is not in. The bot
// may name any, and so may a message that was received there.
func TestStrangersCauseNoGroupQueries(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		quote := func(chat, remote types.JID) *wabox.Media {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.files++
			info := &waE2E.ContextInfo{
				StanzaID: proto.String(fmt.Sprint("3EB0QUOTED", r.files)), Participant: proto.String(bob.String()),
				QuotedMessage: &waE2E.Message{ImageMessage: media.Image()},
			}
			if !remote.IsEmpty() {
				info.RemoteJID = proto.String(remote.String())
			}
			r.receive(wabox.Incoming{Chat: chat, From: alice}, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: info}})
			r.box.Expire(media)
			return media
		}
		group, other := r.phone.NewGroup(types.AddressingModePN, bob), r.phone.NewGroup(types.AddressingModePN, bob)
		for range 3 {
			r.downloads(quote(types.EmptyJID, group), reupload.Request{}).heals(r, "a quote of a group", bob)
		}
		r.queried(0)
		r.downloads(quote(group, types.EmptyJID), reupload.Request{}).heals(r, "a quote in a group", bob)
		r.queried(1)
		media := quote(types.EmptyJID, other)
		req := reupload.Request{MessageID: fmt.Sprint("3EB0QUOTED", r.files), Chat: other, Participant: bob, MediaKey: media.MediaKey}
		if result, err := r.plugin.RequestReupload(r.ctx(), req); err != nil || result.Err() != nil {
			r.Errorf("%v, %v", result, err)
		}
		r.queried(1)
	})
}

// A bot that remembers a message by hand says as well that it has received something in its chat.
func TestGroupsOfRememberedMessagesAreAskedAbout(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, carl)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		quoted := &waE2E.Message{ImageMessage: media.Image()}
		r.phone.KnowsMessage(wabox.Incoming{ID: "3EB0QUOTED", Chat: group, From: carlLID}, quoted)
		r.box.Expire(media)
		info := &types.MessageInfo{ID: "3EB0CARRIER", MessageSource: types.MessageSource{Chat: group, Sender: bobLID, IsGroup: true}}
		if err := r.plugin.Remember(r.ctx(), info, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: &waE2E.ContextInfo{
			StanzaID: proto.String("3EB0QUOTED"), Participant: proto.String(carl.String()), QuotedMessage: quoted,
		}}}); err != nil {
			r.Fatal(err)
		}
		r.downloads(media, reupload.Request{}).heals(r, "a quote in it", carlLID)
		r.queried(1)
	})
}

// What an index has kept of a delivered message may make us ask about its group after a restart.
func TestGroupsOfTheIndexAreAskedAbout(t *testing.T) {
	index := reupload.NewMemoryIndex(100)
	withRig(t, &reupload.Options{Index: index}, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, carl)
		p := r.receivePictureIn(wabox.Incoming{Chat: group, From: carl, LIDMode: true})
		r.plugin.Close()
		r.register(&reupload.Options{Index: index})
		r.downloads(p.Media, reupload.Request{}).heals(r, "after a restart", carlLID)
		r.queried(1)
	})
}

func TestFailedGroupQueryIsNotRepeated(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		left := types.NewJID("120363099999999998", types.GroupServer)
		for range 10 {
			r.asks(wabox.Incoming{Chat: left, From: bobLID, LIDMode: true}, bobLID).heals(r, "a group that was left", bobLID)
		}
		r.queried(1)
		time.Sleep(10 * time.Minute)
		r.asks(wabox.Incoming{Chat: left, From: bobLID, LIDMode: true}, bob).heals(r, "later", bob, bobLID)
		r.queried(1)
	})
}

// Many files of one group are one query.
func TestGroupQueriesAreShared(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		r.stall.Store(int64(time.Second))
		group := r.phone.NewGroup(types.AddressingModeLID, carl)
		done := make(chan error)
		for range 10 {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			id := r.phone.KnowsMessage(wabox.Incoming{Chat: group, From: carlLID}, &waE2E.Message{ImageMessage: media.Image()})
			r.box.Expire(media)
			go func() {
				_, err := r.plugin.RequestReupload(r.ctx(), reupload.Request{MessageID: id, Chat: group, Participant: carl, MediaKey: media.MediaKey})
				done <- err
			}()
		}
		for range 10 {
			if err := <-done; err != nil {
				r.Error(err)
			}
		}
		r.queried(1)
		for _, q := range r.phone.Requests() {
			if q.Participant != carlLID {
				r.Errorf("asked for %v", q.Participant)
			}
		}
	})
}
