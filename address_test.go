package reupload_test

import (
	"testing"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A history sync can name a sender by phone number in a group that is addressed by LIDs. The phone would answer NOT_FOUND.
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
		group, sender, first, second types.JID
	}{
		{byLID, bob, bobLID, bob},
		{byLID, bobLID, bobLID, bob},
		{byPN, bobLID, bob, bobLID},
		{byPN, bob, bob, bobLID},
		{unknown, bob, bob, bobLID},
		{unknown, bobLID, bobLID, bob},
		{byLID, r.phone.PN, r.phone.LID, r.phone.PN},
	} {
		req := reupload.Request{
			MessageID: "3EB0" + string(rune('A'+i)), Chat: c.group, MediaKey: image(1).MediaKey, Participant: c.sender, IsFromMe: c.sender == r.phone.PN,
		}
		r.phone.Script(req.MessageID, wabox.Answer{Result: wabox.NotFound})
		if _, err := r.plugin.RequestReupload(r.ctx(), req); err != nil {
			t.Fatal(err)
		}
		requests := r.phone.Requests()[2*i:]
		if len(requests) != 2 || requests[0].Participant != c.first || requests[1].Participant != c.second {
			t.Errorf("%v in %v: asked for %v", c.sender, c.group, requests)
		}
	}
}
