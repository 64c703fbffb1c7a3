package reupload_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A history sync can name a sender by phone number in a group that is addressed by LIDs. The phone
// would answer NOT_FOUND.
func TestGroupDecidesHowItsParticipantIsNamed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		byLID, byPN, unknown := types.NewJID("1203630001", types.GroupServer), types.NewJID("1203630002", types.GroupServer), types.NewJID("1203630003", types.GroupServer)
		r := newRig(t, nil)
		if err := r.client.Store.LIDs.PutLIDMapping(t.Context(), bobLID, bob); err != nil {
			t.Fatal(err)
		}
		r.phone.Group(byLID, types.AddressingModeLID, bobLID)
		r.phone.Group(byPN, types.AddressingModePN, bob)
		for i, c := range []struct {
			group, sender types.JID
			asked         []types.JID
		}{
			{byLID, bob, []types.JID{bobLID}},
			{byLID, bobLID, []types.JID{bobLID}},
			{byPN, bobLID, []types.JID{bob}},
			{byPN, bob, []types.JID{bob}},
			{unknown, bob, []types.JID{bob, bobLID}},
			{unknown, bobLID, []types.JID{bobLID, bob}},
			{byLID, r.phone.PN, []types.JID{r.phone.LID}},
			{byLID, types.JID{User: bobLID.User}, []types.JID{bobLID}},
			{byPN, types.JID{User: bob.User}, []types.JID{bob}},
			{unknown, types.JID{User: "1"}, []types.JID{types.NewJID("1", types.DefaultUserServer), types.NewJID("1", types.HiddenUserServer)}},
		} {
			before := r.phone.RequestCount()
			req := reupload.Request{
				MessageID: "3EB0" + string(rune('A'+i)), Chat: c.group, MediaKey: image(1).MediaKey, Participant: c.sender, IsFromMe: c.sender == r.phone.PN,
			}
			r.phone.Script(req.MessageID, wabox.Answer{Result: wabox.NotFound})
			if _, err := r.plugin.RequestReupload(r.ctx(), req); err != nil {
				t.Fatal(err)
			}
			var asked []types.JID
			for _, request := range r.phone.Requests()[before:] {
				asked = append(asked, request.Participant)
			}
			if !slices.Equal(asked, c.asked) {
				t.Errorf("%v in %v: asked for %v", c.sender, c.group, asked)
			}
		}
	})
}

// addressed is a picture from somebody whom the client knows by phone number and by LID.
func addressed(t *testing.T, opts *reupload.Options, in wabox.Incoming, migrated bool) (*rig, picture) {
	t.Helper()
	r := newUnregisteredRig(t)
	if migrated {
		r.client.Store.LIDMigrationTimestamp = time.Now().Unix()
	}
	r.register(opts)
	r.connect()
	if err := r.client.Store.LIDs.PutLIDMapping(t.Context(), carolLID, carol); err != nil {
		t.Fatal(err)
	}
	r.box.Link(carol, carolLID)
	return r, r.receivePictureIn(in)
}

func TestTwoAddresses(t *testing.T) {
	t.Parallel()
	answers := []struct {
		name   string
		first  wabox.Answer
		second bool // the other address is tried
	}{
		{"success", wabox.Answer{Result: wabox.Success}, false},
		{"path", wabox.Answer{Result: wabox.NotFound, WithPath: true}, false},
		{"general error", wabox.Answer{}, false},
		{"nonsense", wabox.Answer{Result: wabox.Success, NoPath: true}, false},
		{"not found", wabox.Answer{Result: wabox.NotFound}, false}, // who has sealed it knows the message
		{"not found, in plain", wabox.Answer{ErrorCode: proto.String("2")}, true},
		{"decryption error", wabox.Answer{Result: wabox.DecryptionError}, false},
		{"undecryptable", wabox.Answer{Garbage: true}, true},
		{"rejected", wabox.Answer{Ack: wabox.AckError("479")}, true},
	}
	forms := []struct {
		name          string
		in            wabox.Incoming
		migrated      bool
		lidFirst      bool // for the account and the chat
		participantIs types.JID
	}{
		{name: "chat by phone number", in: wabox.Incoming{From: carol}},
		{name: "chat by LID", in: wabox.Incoming{From: carolLID}},
		{name: "chat by phone number, migrated", in: wabox.Incoming{From: carol}, migrated: true, lidFirst: true},
		{name: "chat by LID, migrated", in: wabox.Incoming{From: carolLID}, migrated: true, lidFirst: true},
		{name: "group by phone number", in: wabox.Incoming{Chat: carolGroup, From: carol}, participantIs: carol},
		{name: "group by LID", in: wabox.Incoming{Chat: carolGroup, From: carolLID}, participantIs: carolLID},
		{name: "group by phone number, migrated", in: wabox.Incoming{Chat: carolGroup, From: carol}, migrated: true, lidFirst: true, participantIs: carol},
		{name: "status by LID", in: wabox.Incoming{Chat: types.StatusBroadcastJID, From: carolLID}, participantIs: carolLID},
	}
	for _, form := range forms {
		runInBubble(t, form.name, func(t *testing.T) {
			r, _ := addressed(t, nil, form.in, form.migrated)
			r.phone.Strict(false) // the second form is a wrong one where the group's mode is not known
			chats := [2]types.JID{carol, carolLID}
			if form.lidFirst {
				slices.Reverse(chats[:])
			}
			owns := [2]types.JID{r.phone.PN, r.phone.LID}
			if form.lidFirst {
				slices.Reverse(owns[:])
			}
			participants := [2]types.JID{}
			if !form.participantIs.IsEmpty() {
				chats = [2]types.JID{form.in.Chat, form.in.Chat}
				participants = [2]types.JID{form.participantIs, carolLID}
				if form.participantIs == carolLID {
					participants[1] = carol
				}
			}
			seen := 0
			for _, test := range answers {
				p := r.receivePictureIn(form.in)
				r.phone.Script(p.id(), test.first, wabox.Answer{Result: wabox.Success})
				result, err := r.requests(p.request()).end()
				if test.second && (err != nil || result.Err() != nil) {
					t.Errorf("%s: got %v, %v", test.name, result.Status, err)
				}
				want := 1
				if test.second {
					want = 2
				}
				requests := r.phone.Requests()[seen:]
				seen += len(requests)
				if len(requests) != want {
					t.Errorf("%s: the phone was asked %d times, want %d", test.name, len(requests), want)
					continue
				}
				for i, request := range requests {
					if request.To != owns[i] || request.Chat != chats[i] || request.Participant != participants[i] {
						t.Errorf("%s: request %d goes to %v and names %v, %v", test.name, i, request.To, request.Chat, request.Participant)
					}
					if request.StanzaID != p.id() {
						t.Errorf("%s: request %d decrypts to %s", test.name, i, request.StanzaID)
					}
				}
			}
		})
	}
}

// Whether a request is addressed to the account by phone number or by LID first goes by whether it
// has migrated. Of an account that answers only to the other name, a file heals eight seconds
// later, because the second form is sent.
func TestAccountThatAnswersToOneNameOnly(t *testing.T) {
	for _, c := range []struct {
		name               string
		migrated, answersL bool
	}{
		{"by number, answers to its number", false, false},
		{"by number, answers to its LID", false, true},
		{"migrated, answers to its number", true, false},
		{"migrated, answers to its LID", true, true},
	} {
		runInBubble(t, c.name, func(t *testing.T) {
			r, p := addressed(t, nil, wabox.Incoming{From: carol}, c.migrated)
			only, first := r.phone.PN, r.phone.PN
			if c.answersL {
				only = r.phone.LID
			}
			if c.migrated {
				first = r.phone.LID
			}
			r.phone.Phone(func(q wabox.Request) []wabox.Answer {
				if q.To != only {
					return []wabox.Answer{{None: true}} // acknowledged, and then nothing
				}
				return []wabox.Answer{{Result: wabox.Success}}
			})
			for range 2 {
				before, began := r.phone.RequestCount(), time.Now()
				r.heals(p)
				requests := r.phone.Requests()[before:]
				want, took := []types.JID{first}, time.Duration(0)
				if first != only {
					want, took = []types.JID{first, only}, 8*time.Second
				}
				var got []types.JID
				for _, q := range requests {
					got = append(got, q.To)
				}
				if !slices.Equal(got, want) || time.Since(began) != took {
					t.Errorf("asked as %v within %s, want %v within %s", got, time.Since(began), want, took)
				}
				p = r.receivePictureIn(wabox.Incoming{From: carol})
			}
		})
	}
}

func TestNoSecondRequestWithoutASecondAddress(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, migrated := range []bool{false, true} {
			r := newUnregisteredRig(t)
			if migrated {
				r.client.Store.LIDMigrationTimestamp = time.Now().Unix()
			}
			r.register(nil)
			r.connect()
			for _, answer := range []wabox.Answer{{Result: wabox.NotFound}, {Garbage: true}, {Ack: wabox.AckError("479")}} {
				before := r.phone.RequestCount()
				p := r.receivePictureIn(wabox.Incoming{From: carol})
				r.phone.Script(p.id(), answer, wabox.Answer{Result: wabox.Success})
				if result, err := r.requests(p.request()).end(); err == nil && result.Err() == nil {
					t.Error("it has succeeded")
				}
				r.asked(before + 1)
			}
		}
	})
}

// What comes of the first request while the second is out must not end the second.
func TestLateAnswerUnderTheFirstAddress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		first wabox.Answer
	}{
		{"not found, in plain", wabox.Answer{ErrorCode: proto.String("2")}},
		{"not found, in plain and twice", wabox.Answer{ErrorCode: proto.String("2"), Repeat: 1}},
		{"undecryptable, twice", wabox.Answer{Garbage: true, Repeat: 1}},
	}
	for _, test := range tests {
		runInBubble(t, test.name, func(t *testing.T) {
			r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
			answer := make(chan struct{})
			r.phone.Script(p.id(), test.first, wabox.Answer{Result: wabox.Success, Hold: answer})
			c := r.begin(p.request())
			for range 1 + test.first.Repeat {
				next[*events.MediaRetry](r)
			}
			r.asks(2)
			r.marker()
			close(answer)
			c.succeeds(t)
			r.asked(2)
		})
	}
}

// If neither address brings the file back, the better of the two outcomes counts.
func TestBothAddressesFail(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name          string
		first, second wabox.Answer
		status        reupload.Status
		err           error
	}{
		{"not found, not found", wabox.Answer{ErrorCode: proto.String("2")}, wabox.Answer{Result: wabox.NotFound}, reupload.StatusNotFound, nil},
		{"not found, rejected", wabox.Answer{ErrorCode: proto.String("2")}, wabox.Answer{Ack: wabox.AckError("479")}, reupload.StatusNotFound, nil},
		{"undecryptable, rejected", wabox.Answer{Garbage: true}, wabox.Answer{Ack: wabox.AckError("479")}, reupload.StatusDecryptionError, nil},
		{"rejected, rejected", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{Ack: wabox.AckError("479")}, 0, reupload.ErrRejected},
		{"rejected, not found", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{Result: wabox.NotFound}, reupload.StatusNotFound, nil},
		{"rejected, general error", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{}, reupload.StatusGeneralError, nil},
		{"rejected, not found in plain", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{ErrorCode: proto.String("2")}, reupload.StatusNotFound, nil},
		{"rejected, undecryptable", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{Garbage: true}, reupload.StatusDecryptionError, nil},
		{"not found, silence", wabox.Answer{ErrorCode: proto.String("2")}, wabox.Answer{None: true}, reupload.StatusNotFound, nil},
	}
	for _, test := range tests {
		runInBubble(t, test.name, func(t *testing.T) {
			r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
			r.phone.Script(p.id(), test.first, test.second)
			result, err := r.requests(p.request()).end()
			if result.Status != test.status || !errors.Is(err, test.err) || test.err == nil && err != nil {
				t.Errorf("got %v, %v", result.Status, err)
			}
			r.asked(2)
		})
	}
}

// A phone that cannot match a request acknowledges it and stays silent.
func TestSecondFormAfterSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			if req.Chat == carol {
				return []wabox.Answer{{None: true}}
			}
			return []wabox.Answer{{Result: wabox.Success}}
		})
		start := time.Now()
		r.heals(p)
		if took := time.Since(start); took != 8*time.Second {
			t.Errorf("it took %s", took)
		}
		if requests := r.asks(2); requests[0].Chat != carol || requests[1].Chat != carolLID {
			t.Errorf("asked for %v and %v", requests[0].Chat, requests[1].Chat)
		}
	})
}

// A name that was not tried, because the phone may have been off, is tried soon after it was heard.
func TestNameThatWasHeldBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			if req.Chat == carolLID || req.Participant == bob {
				return []wabox.Answer{{Result: wabox.Success}}
			}
			return []wabox.Answer{{None: true}}
		})
		r.fails(r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice}), reupload.ErrTimeout)
		before := r.phone.RequestCount()
		r.fails(p, reupload.ErrTimeout)
		time.Sleep(2 * time.Minute)
		r.fails(p, reupload.ErrPhoneSilent) // the server has the request for it
		r.asked(before + 1)
		r.heals(r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: bob}))
		r.heals(p)
		r.asked(before + 4)
	})
}

// Where the message has one name, the account itself can have two.
func TestSecondNameOfTheAccountAfterSilence(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: bob})
		first := make(chan wabox.Request, 1)
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			if req.To == r.phone.PN {
				first <- req
				return []wabox.Answer{{None: true}}
			}
			// The answer to the first one counts, and comes late.
			if err := r.phone.SendAnswer(<-first, wabox.Answer{Result: wabox.Success}); err != nil {
				t.Error(err)
			}
			return []wabox.Answer{{None: true}}
		})
		r.heals(p)
		if requests := r.asks(2); requests[1].To != r.phone.LID {
			t.Errorf("asked %v", requests[1].To)
		}
	})
}

// An error that names the chat in its other form is about the request all the same.
func TestErrorInTheOtherForm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
		r.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{ErrorCode: proto.String("0"), RMR: func(n *waBinary.Node) { n.Attrs["jid"] = carolLID }}}
		})
		start := time.Now()
		r.fails(p, reupload.ErrGeneral)
		if took := time.Since(start); took > prompt {
			t.Errorf("it took %s", took)
		}
	})
}

func TestNamesFromBackupsAreTranslated(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		info, media := r.unseen("3EB0")
		info.Chat, info.Sender = carolGroup, types.NewJID(carol.User, types.LegacyUserServer)
		if _, err := r.requests(reupload.NewRequest(info, media.Image())).end(); err != nil {
			t.Fatal(err)
		}
		if got := r.phone.Requests()[0].Participant; got != carol {
			t.Errorf("the participant is %v", got)
		}
	})
}
