package reupload

import (
	"context"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

// knownLIDs is a client's store of people's LIDs.
type knownLIDs struct {
	store.LIDStore
	ofPN map[types.JID]types.JID
}

func (s knownLIDs) GetLIDForPN(_ context.Context, pn types.JID) (types.JID, error) {
	return s.ofPN[pn], nil
}

func (s knownLIDs) GetPNForLID(_ context.Context, lid types.JID) (types.JID, error) {
	for pn, other := range s.ofPN {
		if other == lid {
			return pn, nil
		}
	}
	return types.EmptyJID, nil
}

// TestAddresses names messages where the client need not ask the server about a group.
func TestAddresses(t *testing.T) {
	t.Parallel()
	var (
		own, ownLID = stageOwn, types.NewJID("111", types.HiddenUserServer)
		bob, bobLID = stageChat, stageLID
		carol       = types.NewJID("300", types.DefaultUserServer) // whose LID is not known
		status      = types.StatusBroadcastJID
		none        types.JID
	)
	for _, test := range []struct {
		name        string
		chat, from  types.JID
		fromMe      bool
		migrated    bool
		withoutLID  bool
		unknownLIDs bool
		want        []address
	}{
		{name: "chat", chat: bob, want: []address{{own, bob, none}, {ownLID, bobLID, none}}},
		{name: "chat by LID", chat: bobLID, want: []address{{own, bob, none}, {ownLID, bobLID, none}}},
		{name: "chat of an account that has migrated", chat: bob, migrated: true, want: []address{{ownLID, bobLID, none}, {own, bob, none}}},
		{name: "chat of an account without a LID", chat: bob, migrated: true, withoutLID: true, want: []address{{own, bob, none}, {own, bobLID, none}}},
		{name: "chat with an unknown LID", chat: carol, want: []address{{own, carol, none}, {ownLID, carol, none}}},
		{name: "nothing to choose from", chat: carol, withoutLID: true, want: []address{{own, carol, none}}},
		{name: "no store of LIDs", chat: bob, unknownLIDs: true, want: []address{{own, bob, none}, {ownLID, bob, none}}},
		{name: "chat with oneself", chat: own, unknownLIDs: true, want: []address{{own, own, none}, {ownLID, ownLID, none}}},
		{name: "chat with oneself by LID", chat: ownLID, unknownLIDs: true, want: []address{{own, own, none}, {ownLID, ownLID, none}}},
		{name: "status", chat: status, from: bob, want: []address{{own, status, bob}, {ownLID, status, bobLID}}},
		{name: "status by LID", chat: status, from: bobLID, want: []address{{own, status, bobLID}, {ownLID, status, bob}}},
		{name: "status, migrated", chat: status, from: bob, migrated: true, want: []address{{ownLID, status, bob}, {own, status, bobLID}}},
		{name: "own status", chat: status, fromMe: true, want: []address{{own, status, own}, {ownLID, status, ownLID}}},
		{name: "own status by LID", chat: status, from: ownLID, fromMe: true, want: []address{{own, status, ownLID}, {ownLID, status, own}}},
		{name: "sender without a server", chat: status, from: types.JID{User: "9"}, want: []address{
			{own, status, types.NewJID("9", types.DefaultUserServer)}, {ownLID, status, types.NewJID("9", types.HiddenUserServer)},
		}},
		{name: "from me in a chat", chat: bob, fromMe: true, want: []address{{own, bob, none}, {ownLID, bobLID, none}}},
	} {
		device := &store.Device{LIDs: knownLIDs{ofPN: map[types.JID]types.JID{bob: bobLID}}}
		if test.migrated {
			device.LIDMigrationTimestamp = 1
		}
		if test.unknownLIDs {
			device.LIDs = nil
		}
		s := &sender{client: whatsmeow.NewClient(device, nil)}
		s.account.Store(&account{own, ownLID})
		if test.withoutLID {
			s.account.Store(&account{pn: own})
		}
		named := s.addresses(t.Context(), Request{MessageID: "id", Chat: test.chat, Participant: test.from, IsFromMe: test.fromMe})
		got := named.forms
		if len(got) != len(test.want) || got[0] != test.want[0] || got[len(got)-1] != test.want[len(got)-1] {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
		if alike := got[0].chat == got[len(got)-1].chat && got[0].participant == got[len(got)-1].participant; areAlike(got) != alike {
			t.Errorf("%s: alike: %t", test.name, !alike)
		}
	}
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	s := &sender{client: whatsmeow.NewClient(&store.Device{LIDs: knownLIDs{ofPN: map[types.JID]types.JID{stageChat: stageLID}}}, nil)}
	s.account.Store(&account{stageOwn, types.NewJID("111", types.HiddenUserServer)})
	group, stranger := types.NewJID("1", types.GroupServer), types.NewJID("999", types.HiddenUserServer)
	for jid, want := range map[types.JID]types.JID{
		stageChat: stageChat, stageLID: stageChat, group: group, stranger: stranger, types.EmptyJID: types.EmptyJID,
		types.NewJID("111", types.HiddenUserServer): stageOwn, {User: "9"}: {User: "9"},
	} {
		if got, err := s.canonical(t.Context(), jid); got != want || err != nil {
			t.Errorf("%v is %v, %v, want %v", jid, got, err, want)
		}
	}
}
