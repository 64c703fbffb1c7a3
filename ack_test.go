package reupload_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestRejectedByTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{Result: wabox.Success})
		c := r.requests(p.request())
		c.fails(t, reupload.ErrRejected)
		if !strings.Contains(c.err.Error(), "479") {
			t.Errorf("the error does not say which: %v", c.err)
		}
		r.asked(1)
		r.requests(p.request()).succeeds(t)
		r.asked(2)
	})
}

// A read receipt has the id of its message, as a request for its media has. So have their acks.
func TestAcksOfOtherReceiptsAreNotOurs(t *testing.T) {
	ack := func(info *types.MessageInfo, attrs waBinary.Attrs) waBinary.Node {
		attrs["class"], attrs["id"], attrs["from"] = "receipt", info.ID, info.Chat
		return waBinary.Node{Tag: "ack", Attrs: attrs}
	}
	runInBubble(t, "refused", func(t *testing.T) {
		r := newRig(t, nil)
		info, media := r.unseen("REFUSED")
		answer := make(chan struct{})
		r.phone.Script(info.ID, wabox.Answer{Ack: wabox.AckNone, Result: wabox.Success, Hold: answer})
		c := r.begin(reupload.NewRequest(info, media.Image()))
		r.asks(1)
		r.send(ack(info, waBinary.Attrs{"type": "read", "error": "500"}))
		r.marker()
		close(answer)
		c.succeeds(t)
	})
	runInBubble(t, "accepted, and then ours refused", func(t *testing.T) {
		r := newRig(t, nil)
		info, media := r.unseen("ACCEPTED")
		c := r.acknowledgedElsewhere(info, media, ack(info, waBinary.Attrs{"type": "read"}))
		r.send(ack(info, waBinary.Attrs{"type": "server-error", "error": "479"}))
		c.fails(t, reupload.ErrRejected)
	})
	runInBubble(t, "delivery accepted, and then the connection cut", func(t *testing.T) {
		r := newRig(t, nil)
		info, media := r.unseen("CUT")
		c := r.acknowledgedElsewhere(info, media, ack(info, waBinary.Attrs{}))
		r.phone.Cut() // the request is not acknowledged, so it is sent again
		r.asks(2)
		c.succeeds(t)
	})
}

// acknowledgedElsewhere sends a request that the server and the phone ignore at first, and
// then another ack.
func (r *rig) acknowledgedElsewhere(info *types.MessageInfo, media *wabox.Media, ack waBinary.Node) *call {
	r.Helper()
	before := r.phone.RequestCount()
	r.phone.Script(info.ID, wabox.Answer{Ack: wabox.AckNone, None: true}, wabox.Answer{Result: wabox.Success})
	c := r.begin(reupload.NewRequest(info, media.Image()))
	r.asks(before + 1)
	r.send(ack)
	r.marker()
	return c
}

// The server acknowledges every receipt for a message under the message's id, that of its delivery
// too, which whatsmeow sends when it has handled the message: often in the moment in which the
// request is out.
func TestForeignAcksAreNotTakenForOurs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Ack: wabox.AckError("479")}} })
		for range 100 {
			p := r.receivePicture()
			if _, err := r.client.Download(r.ctx(), p.image); !errors.Is(reupload.Cause(err), reupload.ErrRejected) {
				t.Fatalf("error %v, cause %v", err, reupload.Cause(err))
			}
		}
	})
}

// slowPreKeys is a store of a client's keys that takes its time: whatsmeow asks it after a login,
// and dispatches its event only then.
type slowPreKeys struct {
	store.PreKeyStore
	takes time.Duration
}

func (s *slowPreKeys) UploadedPreKeyCount(ctx context.Context) (int, error) {
	time.Sleep(s.takes)
	return s.PreKeyStore.UploadedPreKeyCount(ctx)
}

// A request that goes out before the event of a login, and is acknowledged after it, is not taken
// for one of the bot's own: the plugin would not ask any more.
func TestRequestBeforeTheEventOfALogin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p, other := r.receivePicture(), r.receivePicture()
		r.client.Store.PreKeys = &slowPreKeys{r.client.Store.PreKeys, 3 * time.Second}
		r.phone.Script(p.id(), wabox.Answer{AckDelay: 4 * time.Second, Result: wabox.Success})
		time.Sleep(defaultTimeout) // what a plugin that was there before may have asked
		r.phone.Cut()
		until(t, "the login", func() bool { return r.phone.Logins() == 2 && r.client.IsLoggedIn() })
		r.heals(p)
		time.Sleep(5 * time.Second)
		r.heals(other)
		r.asked(2)
	})
}

// Without the tap, acks are waited for by their id.
func TestRejectionWithoutTap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.connect()
		r.register(nil)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Ack: wabox.AckError("479")}} })
		info, media := r.unseen("3EB0UNSEEN")
		if _, err := r.plugin.RequestReupload(r.ctx(), reupload.NewRequest(info, media.Image())); !errors.Is(err, reupload.ErrRejected) {
			t.Errorf("got %v", err)
		}
	})
}

// A receipt that the server has lost gets no ack. That of the next one, minutes later, is not taken
// for it: the message is asked for under its second name after eight seconds.
func TestAckAfterALostReceipt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
		r.phone.Script(p.id(), wabox.Answer{Ack: wabox.AckNone, None: true}, wabox.Answer{None: true}, wabox.Answer{Result: wabox.Success})
		r.fails(p, reupload.ErrServerSilent)
		time.Sleep(time.Minute)
		r.heals(p)
		r.asked(3)
	})
}
