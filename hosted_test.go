package reupload_test

import (
	"fmt"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of names on servers that a phone does not know: that of WhatsApp Web's store, and those on
// which a business's second device runs.

// otherServers are those of a phone number and those of a LID.
var otherServers = map[string]bool{types.LegacyUserServer: false, types.HostedServer: false, types.HostedLIDServer: true}

// A message whose sender or recipient has such a name is asked for by the user's own.
func TestSendersOnOtherServers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		for server, isLID := range otherServers {
			user, mode := carol, types.AddressingModePN
			if isLID {
				user, mode = carolLID, types.AddressingModeLID
			}
			from := types.JID{User: user.User, Server: server, Device: 99}
			for _, chat := range []types.JID{r.phone.NewGroup(mode, user), {}} {
				p := r.receivePictureIn(wabox.Incoming{Chat: chat, From: from})
				r.heals(p)
				if req := r.phone.Requests()[r.phone.RequestCount()-1]; req.Wrong != "" {
					t.Errorf("%s: asked for with %s: %s", server, req.Node, req.Wrong)
				}
			}
			r.heals(r.receivePictureIn(wabox.Incoming{Chat: from.ToNonAD(), FromMe: true}))
			if req := r.phone.Requests()[r.phone.RequestCount()-1]; req.Wrong != "" || req.FromMe != "true" || req.Chat.User != user.User {
				t.Errorf("to %s: asked for with %s: %s", server, req.Node, req.Wrong)
			}
		}
	})
}

// A quote of the account itself, by whichever of its names, is of an own message.
func TestQuotesOfTheAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		names := []types.JID{r.phone.PN, r.phone.LID}
		for server, isLID := range otherServers {
			user := r.phone.PN.User
			if isLID {
				user = r.phone.LID.User
			}
			names = append(names, types.JID{User: user, Server: server})
		}
		for i, name := range names {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			id := fmt.Sprint("3EB0OWN", i)
			evt := r.receive(wabox.Incoming{Chat: aGroup, From: alice}, quoteOf(id, name, media))
			r.box.Expire(media)
			r.phone.Knows(id, media)
			if _, err := r.client.Download(r.ctx(), quotedBy(evt)); err != nil {
				t.Errorf("%s: %v (cause: %v)", name, err, reupload.Cause(err))
			}
			req := r.phone.Requests()[r.phone.RequestCount()-1]
			if req.FromMe != "true" || req.ID != id {
				t.Errorf("%s: asked for with %s", name, req.Node)
			}
		}
	})
}
