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

// The account's own number and LID are known without the store.
func TestOwnNumberWithoutAServer(t *testing.T) {
	withRig(t, nil, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, bob)
		in := wabox.Incoming{Chat: group, FromMe: true, LIDMode: true}
		r.asks(in, r.phone.PN).heals(r, "before", r.phone.LID)
		r.lids.failing.Store(true)
		for _, own := range []types.JID{number(r.phone.PN), number(r.phone.LID)} {
			r.asks(in, own).heals(r, own.String(), r.phone.LID)
		}
		r.lids.failing.Store(false)
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
