package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

var (
	carl    = types.NewJID("15550003", types.DefaultUserServer)
	carlLID = types.NewJID("99990003", types.HiddenUserServer)
	dora    = types.NewJID("15550004", types.DefaultUserServer)
	doraLID = types.NewJID("99990004", types.HiddenUserServer)
	erin    = types.NewJID("15550005", types.DefaultUserServer)
	erinLID = types.NewJID("99990005", types.HiddenUserServer)
)

// withRig runs a test with a bot in a bubble, which knows bob by both names.
func withRig(t *testing.T, opts *reupload.Options, test func(r *namingRig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &namingRig{rig: newUnregisteredRig(t)}
		r.lids = &failingLIDs{LIDStore: r.client.Store.LIDs}
		r.client.Store.LIDs = r.lids
		r.box.OnEvent(func(e wabox.Event) {
			if e.What == wabox.NodeIn && e.Node.Tag == "iq" && e.Node.Attrs["xmlns"] == "w:g2" {
				r.queries.Add(1)
				time.Sleep(time.Duration(r.stall.Load()))
			}
		})
		r.box.Link(bob, bobLID)
		r.box.Link(carl, carlLID)
		if err := r.lids.PutLIDMapping(t.Context(), bobLID, bob); err != nil {
			t.Fatal(err)
		}
		r.register(opts)
		r.connect()
		test(r)
		time.Sleep(time.Second) // what is on its way arrives before the client disconnects
		synctest.Wait()
	})
}

// A namingRig counts the queries about groups.
type namingRig struct {
	*rig
	lids    *failingLIDs
	queries atomic.Int64
	stall   atomic.Int64 // how long the server takes for one
	files   int
}

// queried checks how many queries there were since the last call.
func (r *namingRig) queried(want int64) {
	r.Helper()
	if n := r.queries.Swap(0); n != want {
		r.Errorf("the server was asked about groups %d times, want %d", n, want)
	}
}

// asks asks for a message that the phone has, and returns what happened.
func (r *namingRig) asks(in wabox.Incoming, participant types.JID) asking {
	r.Helper()
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	id := r.phone.KnowsMessage(in, &waE2E.Message{ImageMessage: media.Image()})
	r.box.Expire(media)
	return r.downloads(media, reupload.Request{MessageID: id, Chat: in.Chat, MediaKey: media.MediaKey, IsFromMe: in.FromMe, Participant: participant})
}

// An asking is what became of a download: whom the phone was asked for, or the cause.
type asking struct {
	of    []types.JID // participants, or chats where there are none
	cause error
}

func (r *namingRig) downloads(media *wabox.Media, req reupload.Request) (a asking) {
	r.Helper()
	ctx := r.ctx()
	if req.MessageID != "" {
		ctx = reupload.WithRequest(ctx, req, media.FileEncSHA256)
	}
	before := r.phone.RequestCount()
	_, err := r.client.Download(ctx, media.Image())
	if a.cause = reupload.Cause(err); err != nil && a.cause == nil {
		r.Errorf("no cause: %v", err)
	}
	for _, q := range r.phone.Requests()[before:] {
		if q.HasParticipant {
			a.of = append(a.of, q.Participant)
		} else {
			a.of = append(a.of, q.Chat)
		}
	}
	return a
}

// heals checks that a download has healed, and whom the phone was asked for.
func (a asking) heals(r *namingRig, what string, of ...types.JID) {
	r.Helper()
	if a.cause != nil || !slices.Equal(a.of, of) {
		r.Errorf("%s: asked for %v (%v), want %v", what, a.of, a.cause, of)
	}
}

// failingLIDs is a client's store of people's LIDs, which can fail.
type failingLIDs struct {
	store.LIDStore
	failing atomic.Bool
	hangs   atomic.Int64 // for how long, whatever the context says
}

var errLocked = errors.New("database is locked")

func (s *failingLIDs) GetLIDForPN(ctx context.Context, pn types.JID) (types.JID, error) {
	time.Sleep(time.Duration(s.hangs.Load()))
	if s.failing.Load() {
		return types.EmptyJID, errLocked
	}
	return s.LIDStore.GetLIDForPN(ctx, pn)
}

func (s *failingLIDs) GetPNForLID(ctx context.Context, lid types.JID) (types.JID, error) {
	if s.failing.Load() {
		return types.EmptyJID, errLocked
	}
	return s.LIDStore.GetPNForLID(ctx, lid)
}

func number(jid types.JID) types.JID { return types.JID{User: jid.User} }

func TestPersonWithoutAServer(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		r.box.Link(dora, doraLID)
		byLID := r.phone.NewGroup(types.AddressingModeLID, bob, carl)
		byPN := r.phone.NewGroup(types.AddressingModePN, bob, carl)
		own, ownLID := r.phone.PN, r.phone.LID
		for _, c := range []struct {
			name   string
			group  types.JID
			from   types.JID // as the phone has it
			fromMe bool
			given  types.JID
			asked  []types.JID
		}{
			{"own number", byLID, ownLID, true, number(own), []types.JID{ownLID}},
			{"own LID", byPN, own, true, number(ownLID), []types.JID{own}},
			{"none", byLID, ownLID, true, types.EmptyJID, []types.JID{ownLID}},
			{"none, by number", byPN, own, true, types.EmptyJID, []types.JID{own}},
			{"number in the store", byLID, bobLID, false, number(bob), []types.JID{bobLID}},
			{"LID in the store", byLID, bobLID, false, number(bobLID), []types.JID{bobLID}},
			{"LID in the store, by number", byPN, bob, false, number(bobLID), []types.JID{bob}},
			{"number in the list", byLID, carlLID, false, number(carl), []types.JID{carlLID}},
			{"LID in the list", byPN, carl, false, number(carlLID), []types.JID{carl}},
			{"number in neither", byPN, dora, false, number(dora), []types.JID{dora}},
			{"LID in neither", byLID, doraLID, false, number(doraLID), []types.JID{doraLID}},
			{"LID in neither, by number", byPN, dora, false, number(doraLID), []types.JID{types.NewJID(doraLID.User, types.DefaultUserServer), doraLID}},
			{"a whole JID in the user part", byLID, carlLID, false, types.JID{User: carl.String(), Server: types.HiddenUserServer}, []types.JID{carlLID}},
			{"whatever types.ParseJID makes of a number", byLID, bobLID, false, types.JID{Server: bob.User}, []types.JID{bobLID}},
		} {
			in := wabox.Incoming{Chat: c.group, From: c.from, FromMe: c.fromMe, LIDMode: c.group == byLID}
			r.asks(in, c.given).heals(r, c.name, c.asked...)
		}
	})
}

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

// A store that fails makes nothing certain, and silence is not booked on the file then.
func TestStoreThatFailsCostsNoPause(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, bob)
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bobLID).heals(r, "so that the group is known", bobLID)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.phone.Group(group, types.AddressingModeLID, r.phone.LID) // bob has left it
		id := r.phone.KnowsMessage(wabox.Incoming{Chat: group, From: bobLID}, &waE2E.Message{ImageMessage: media.Image()})
		r.box.Expire(media)
		req := reupload.Request{MessageID: id, Chat: group, Participant: bob, MediaKey: media.MediaKey}
		r.lids.failing.Store(true)
		if a := r.downloads(media, req); a.cause == nil {
			r.Errorf("healed, asked for %v", a.of)
		}
		r.lids.failing.Store(false)
		r.downloads(media, req).heals(r, "when the store works again", bobLID)
	})
}

// A slow answer about a group takes half of a request's time at the most.
func TestSlowGroupQueryIsNotTheConnection(t *testing.T) {
	withRig(t, &reupload.Options{Timeout: 2 * time.Second}, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, bob)
		r.stall.Store(int64(1500 * time.Millisecond))
		r.asks(wabox.Incoming{Chat: group, From: bobLID}, bobLID).heals(r, "slow", bobLID)
		r.stall.Store(int64(time.Minute))
		a := r.asks(wabox.Incoming{Chat: r.phone.NewGroup(types.AddressingModeLID, bob), From: bobLID}, bobLID)
		if !errors.Is(a.cause, reupload.ErrTimeout) || errors.Is(a.cause, whatsmeow.ErrNotConnected) {
			r.Errorf("the cause is %v", a.cause)
		}
		time.Sleep(2 * time.Minute)
	})
}

// A store that does not answer in time, and does not listen to its context, costs no pause: nothing
// was sent.
func TestStoreThatHangsCostsNoPause(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		p := r.receivePictureIn(wabox.Incoming{From: bob})
		r.lids.hangs.Store(int64(time.Minute))
		r.fails(p, reupload.ErrTimeout)
		r.asked(0)
		time.Sleep(time.Minute)
		r.lids.hangs.Store(0)
		r.heals(p)
		r.asked(1)
	})
}

// By which chat a phone knows the message of another's broadcast list is not known.
func TestBroadcastListIsADirectChatToo(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		list := types.NewJID("1599999999", types.BroadcastServer)
		for _, from := range []types.JID{bob, carl} {
			p := r.receivePictureIn(wabox.Incoming{Chat: list, From: from})
			r.phone.Phone(func(q wabox.Request) []wabox.Answer {
				if q.Chat == list {
					return []wabox.Answer{{ErrorCode: proto.String("2")}}
				}
				return []wabox.Answer{{Result: wabox.Success}}
			})
			r.downloads(p.Media, reupload.Request{}).heals(r, "from another", from, from)
			if q := r.phone.Requests(); q[len(q)-1].Chat != from || q[len(q)-1].HasParticipant || q[len(q)-1].Wrong != "" {
				r.Errorf("asked for %+v", q[len(q)-1])
			}
			r.phone.Phone(func(q wabox.Request) []wabox.Answer {
				if q.Chat != list || q.Participant.Server != types.HiddenUserServer {
					return []wabox.Answer{{ErrorCode: proto.String("2")}}
				}
				return []wabox.Answer{{Result: wabox.Success}}
			})
		}
		p := r.receivePictureIn(wabox.Incoming{Chat: list, From: bob})
		r.downloads(p.Media, reupload.Request{}).heals(r, "in the list by LID", bob, bob, bobLID)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{ErrorCode: proto.String("2")}} })
		if a := r.asks(wabox.Incoming{Chat: list, FromMe: true}, types.EmptyJID); len(a.of) != 2 {
			r.Errorf("the account's own list: asked for %v", a.of)
		}
		if a := r.asks(wabox.Incoming{Chat: types.StatusBroadcastJID, From: bob}, bob); len(a.of) > 2 {
			r.Errorf("a status: asked for %v", a.of)
		}
	})
}

// Chats of all kinds are in histories, with one person or not.
func TestHistoryOfAllKindsOfChats(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		for i, c := range []struct {
			chat string
			want types.JID
		}{
			{"15550002@c.us", bob}, {"15550002@hosted", bob}, {"99990002@hosted.lid", bobLID},
			{types.NewMetaAIJID.String(), types.NewMetaAIJID}, {"3-77@interop", types.NewJID("3-77", types.InteropServer)},
			{"no chat", types.EmptyJID}, {"1@example.org", types.EmptyJID}, {"1@g.us@lid", types.EmptyJID}, {"1@g.us", types.EmptyJID},
		} {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			id := fmt.Sprint("3EB0HISTORY", i)
			data := history(types.EmptyJID, &waWeb.WebMessageInfo{
				Key: &waCommon.MessageKey{ID: &id, RemoteJID: &c.chat}, Message: &waE2E.Message{ImageMessage: media.Image()},
			})
			data.Conversations[0].ID = &c.chat
			if err := r.plugin.RememberHistory(r.Context(), data); err != nil {
				r.Fatal(err)
			}
			r.phone.Knows(id, media)
			r.box.Expire(media)
			a := r.downloads(media, reupload.Request{})
			if c.want.IsEmpty() {
				if a.cause != reupload.ErrUnknownMessage {
					r.Errorf("%s: asked for %v, %v", c.chat, a.of, a.cause)
				}
				continue
			}
			if len(a.of) == 0 || a.cause != nil {
				r.Errorf("%s: asked for %v, %v", c.chat, a.of, a.cause)
				continue
			}
			a.of[0] = types.JID{User: a.of[0].User, Server: a.of[0].Server}
			if c.want == bobLID { // whose number the client knows
				c.want = bob
			}
			a.heals(r, c.chat, c.want)
		}
	})
}

// A status in a group is gone after a day, and not asked for.
func TestStatusInAGroupIsGoneAfterADay(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModePN, bob)
		for age, want := range map[time.Duration]error{time.Hour: nil, 25 * time.Hour: reupload.ErrNotFound} {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			msg := &waE2E.Message{GroupStatusMessageV2: &waE2E.FutureProofMessage{Message: &waE2E.Message{ImageMessage: media.Image()}}}
			r.receive(wabox.Incoming{Chat: group, From: bob, Timestamp: time.Now().Add(-age)}, msg)
			r.box.Expire(media)
			a := r.downloads(media, reupload.Request{})
			if !errors.Is(a.cause, want) || (len(a.of) > 0) != (want == nil) {
				r.Errorf("after %s: asked for %v, %v", age, a.of, a.cause)
			}
		}
	})
}

// A message that the index has under both names of its sender is one: the newer of both paths is
// used, and the newer of both outcomes counts.
func TestTwoNamesAreOneMessage(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		index := reupload.NewMemoryIndex(0)
		r.plugin.Close()
		r.register(&reupload.Options{Index: index})
		group := r.phone.NewGroup(types.AddressingModeLID, bob)
		const found, notFound = 1, 2 // outcomes
		put := func(media *wabox.Media, sender types.JID, path string, ago time.Duration, outcome reupload.Outcome) {
			e := reupload.Entry{
				Request:       reupload.Request{MessageID: fmt.Sprintf("3EB0%X", media.FileEncSHA256[:8]), Chat: group, Participant: sender, MediaKey: media.MediaKey},
				FileEncSHA256: media.FileEncSHA256, DirectPath: path, Timestamp: time.Now().Add(-time.Hour).Truncate(time.Second),
				Asked: reupload.Asked{At: time.Now().Add(-ago).Truncate(time.Second), Outcome: outcome},
			}
			if err := index.Put(r.Context(), r.phone.PN, []reupload.Entry{e}); err != nil {
				r.Fatal(err)
			}
		}
		for _, names := range [][2]types.JID{{bob, bobLID}, {bobLID, bob}} {
			for _, isNewerFirst := range []bool{true, false} {
				moved, lost := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaImage)
				r.box.Expire(moved)
				r.box.Expire(lost)
				good, old := r.box.Reupload(moved), r.box.Reupload(moved)
				r.box.SetStatus(old, http.StatusGone, "")
				older := func() {
					put(moved, names[0], old, 20*time.Minute, found)
					put(lost, names[0], "", 20*time.Minute, 0)
				}
				newer := func() {
					put(moved, names[1], good, 10*time.Minute, found)
					put(lost, names[1], "", 10*time.Minute, notFound)
				}
				if isNewerFirst {
					newer()
					older()
				} else {
					older()
					newer()
				}
				r.downloads(moved, reupload.Request{}).heals(r, "with two paths")
				if n := r.box.Hits(old); n != 0 {
					r.Errorf("the older path was asked for %d times", n)
				}
				if a := r.downloads(lost, reupload.Request{}); !errors.Is(a.cause, reupload.ErrNotFound) || len(a.of) != 0 {
					r.Errorf("with two outcomes: asked for %v, %v", a.of, a.cause)
				}
			}
		}
	})
}
