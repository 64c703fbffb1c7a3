package reupload_test

import (
	"slices"
	"testing"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A history sync can name a sender by phone number in a group that is addressed by LIDs. The phone
// would answer NOT_FOUND.
func TestGroupDecidesHowItsParticipantIsNamed(t *testing.T) {
	t.Parallel()
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
}
