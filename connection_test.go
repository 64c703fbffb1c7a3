package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// goesOffline cuts the client off and waits until it knows.
func (r *rig) goesOffline() {
	r.Helper()
	r.phone.Offline(true)
	next[*events.Disconnected](r)
}

// acknowledges is a phone behaviour: the request is acknowledged, and never answered. After the ack
// comes a notification that tells when the client has it: see waitAcknowledged.
func acknowledges(wabox.Request) []wabox.Answer {
	code := "0"
	return []wabox.Answer{{ErrorCode: &code, Edit: func(n *waBinary.Node) {
		id, _ := n.Attrs["id"].(string)
		n.Attrs["id"] = "ACKNOWLEDGED " + id
	}}}
}

// waitAcknowledged waits until the client has the ack of a request.
func (r *rig) waitAcknowledged(id types.MessageID) {
	r.Helper()
	for next[*events.MediaRetry](r).MessageID != "ACKNOWLEDGED "+id {
	}
}

func TestCutBeforeTheSend(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.goesOffline()
		c := r.begin(p.request())
		r.asked(0)
		r.phone.Offline(false)
		c.succeeds(t)
		r.asked(1)
		r.heals(p)
		r.asked(1)
	})
}

func TestCutBeforeTheAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, cuts := range []int{1, 3} {
			r := newRig(t, nil)
			p := r.receivePicture()
			r.phone.OnReceipt(func(wabox.Request) (drop bool) {
				if r.phone.RequestCount() > cuts {
					return false
				}
				r.phone.Cut()
				return true
			})
			r.requests(p.request()).succeeds(t)
			r.asked(cuts + 1)
			for _, request := range r.phone.Requests() {
				if request.To != r.phone.PN || request.Chat != p.evt.Info.Chat || request.StanzaID != p.id() {
					t.Errorf("a request goes to %v, names %v and decrypts to %s", request.To, request.Chat, request.StanzaID)
				}
			}
		}
	})
}

// The phone may have got the request, though its ack was lost.
func TestCutInsteadOfTheAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.OnReceipt(func(wabox.Request) bool {
			if r.phone.RequestCount() == 1 {
				r.phone.Cut()
			}
			return false
		})
		r.requests(p.request()).succeeds(t)
		if n := r.phone.RequestCount(); n > 2 {
			t.Errorf("the phone was asked %d times", n)
		}
		r.heals(p)
	})
}

func TestCutAfterTheAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, offline := range []bool{false, true} {
			r := newRig(t, nil)
			p := r.receivePicture()
			r.phone.Phone(acknowledges)
			c := r.begin(p.request())
			r.waitAcknowledged(p.id())
			if offline { // so that the answer waits for the client
				r.goesOffline()
				r.answer(r.asks(1)[0], wabox.Answer{Result: wabox.Success})
				r.phone.Offline(false)
			} else {
				r.phone.Cut()
				next[*events.Connected](r)
				r.answer(r.asks(1)[0], wabox.Answer{Result: wabox.Success})
			}
			c.succeeds(t)
			r.marker()
			r.asked(1)
		}
	})
}

func TestAnswerLostOnItsWay(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(told, 10)
		r := newRig(t, heard.options(reupload.Options{}))
		p := r.receivePicture()
		var lost atomic.Bool
		r.box.OnEvent(func(evt wabox.Event) {
			if evt.What == wabox.NodeOut && evt.Node.Tag == "notification" && evt.Node.Attrs["id"] == p.id() && !lost.Swap(true) {
				r.phone.Cut()
			}
		})
		answer := make(chan struct{})
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			return append(acknowledges(req), wabox.Answer{Result: wabox.Success, Hold: answer})
		})
		c := r.begin(p.request())
		r.waitAcknowledged(p.id())
		close(answer)
		c.succeeds(t)
		if n := r.phone.Logins(); n != 2 {
			t.Errorf("%d logins, want 2", n)
		}
		next[*events.MediaRetry](r)
		r.asked(1)
		if u := heard.next(t); u.Late {
			t.Error("the answer was taken for a late one")
		}
		r.plugin.Close()
		if n := r.plugin.Stats().Late; n != 0 || len(heard) > 0 {
			t.Errorf("%d late answers, told of %d more", n, len(heard))
		}
	})
}

func TestOfflineForLongerThanTheTimeout(t *testing.T) {
	runInBubble(t, "before the send", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.goesOffline()
		for range 10 {
			r.requests(p.request()).timesOutOffline(r, defaultTimeout, 0)
		}
		r.asked(0)
	})
	runInBubble(t, "before the ack", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.OnReceipt(func(wabox.Request) bool {
			r.phone.Offline(true)
			return true
		})
		r.requests(p.request()).timesOutOffline(r, defaultTimeout, 0)
		r.asked(1)
	})
	// While whatsmeow dials, it holds a lock that every send waits for, so that this takes real
	// time.
	t.Run("in a dial that hangs", func(t *testing.T) {
		t.Parallel()
		const timeout = 400 * time.Millisecond
		r := newUnregisteredRig(t)
		d := &hangingDialer{base: r.box.Transport(), dials: make(chan struct{}, 10), release: make(chan struct{})}
		t.Cleanup(d.base.CloseIdleConnections)
		r.client.SetWebsocketHTTPClient(&http.Client{Transport: d})
		r.register(&reupload.Options{Timeout: timeout})
		r.connect()
		t.Cleanup(func() { close(d.release) })
		<-d.dials
		p := r.receivePicture()
		d.hangs.Store(true)
		r.phone.Cut()
		<-d.dials
		r.requests(p.request()).timesOutOffline(r, timeout, 5*time.Second)
		r.asked(0)
	})
}

// timesOutOffline checks that a call has ended with the time-out of a bot that is offline.
func (c *call) timesOutOffline(r *rig, timeout, late time.Duration) {
	r.Helper()
	c.fails(r, reupload.ErrTimeout, whatsmeow.ErrNotConnected)
	if c.took < timeout || c.took > timeout+late {
		r.Errorf("it took %s", c.took)
	}
	if n := r.plugin.Stats().Waiting; n != 0 {
		r.Errorf("%d still wait", n)
	}
}

// A hangingDialer is the network that loses packets.
type hangingDialer struct {
	base    *http.Transport
	hangs   atomic.Bool
	dials   chan struct{}
	release chan struct{}
}

func (d *hangingDialer) RoundTrip(req *http.Request) (*http.Response, error) {
	d.dials <- struct{}{}
	if d.hangs.Load() {
		select {
		case <-d.release:
		case <-req.Context().Done():
		}
	}
	return d.base.RoundTrip(req)
}

func TestLoggedOut(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		answers func(wabox.Request) []wabox.Answer
	}{
		{"acknowledged", acknowledges},
		{"not acknowledged", func(wabox.Request) []wabox.Answer { return nil }},
	}
	for _, test := range tests {
		runInBubble(t, test.name, func(t *testing.T) {
			const sent, all = 10, 12
			r := newRig(t, &reupload.Options{MaxInFlight: sent})
			r.phone.Phone(test.answers)
			calls := make([]*call, all) // the last ones queue
			for i := range calls {
				info, media := r.unseen(fmt.Sprintf("ID%d", i))
				calls[i] = r.begin(reupload.NewRequest(info, media.Image()))
			}
			r.asks(sent)
			r.phone.Logout()
			for _, c := range calls {
				c.fails(t, whatsmeow.ErrNotLoggedIn)
			}
			next[*events.LoggedOut](r)
			if n := r.plugin.Stats().Waiting; n != 0 {
				t.Errorf("%d still wait", n)
			}
			r.asked(sent)
		})
	}
	runInBubble(t, "while offline", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.goesOffline()
		c := r.begin(p.request())
		r.phone.Logout()
		r.phone.Offline(false)
		c.fails(t, whatsmeow.ErrNotLoggedIn)
		r.asked(0)
	})
}

// A bot does not know that it is being logged out, and downloads on.
func TestRequestsDuringLogout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return nil })
		r.phone.Logout()
		req := reupload.Request{MessageID: "ID", Chat: carol, MediaKey: make([]byte, 32)}
		until(t, "the account is forgotten", func() bool {
			ctx, cancel := context.WithTimeout(r.ctx(), 50*time.Millisecond)
			defer cancel()
			_, err := r.plugin.RequestReupload(ctx, req)
			return errors.Is(err, whatsmeow.ErrNotLoggedIn)
		})
		next[*events.LoggedOut](r)
	})
}

// A client that is logged out has no account, of which the index could know messages.
func TestDownloadAfterLogout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Logout()
		next[*events.LoggedOut](r)
		r.fails(p, whatsmeow.ErrNotLoggedIn)
		r.asked(0)
	})
}

func TestDisconnectByTheBot(t *testing.T) {
	t.Parallel()
	runInBubble(t, "before the send", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.client.Disconnect()
		r.requests(p.request()).fails(t, whatsmeow.ErrNotConnected)
		r.asked(0)
	})
	runInBubble(t, "before the ack", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Ack: wabox.AckNone, None: true}, wabox.Answer{Result: wabox.Success})
		c := r.begin(p.request())
		r.asks(1)
		r.client.Disconnect()
		c.fails(t, whatsmeow.ErrNotConnected)
		if err := r.client.Connect(); err != nil {
			t.Fatal(err)
		}
		next[*events.Connected](r)
		r.requests(p.request()).succeeds(t)
		r.asked(2)
	})
	runInBubble(t, "while whatsmeow reconnects", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.goesOffline()
		c := r.begin(p.request())
		failed := func() int { return r.log.count("ERROR", "Error reconnecting") }
		before := failed()
		until(t, "whatsmeow tries to reconnect", func() bool { return failed() > before })
		r.client.Disconnect()
		c.fails(t, whatsmeow.ErrNotConnected)
		r.asked(0)
	})
	runInBubble(t, "after the ack, and back", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Phone(acknowledges)
		c := r.begin(p.request())
		r.waitAcknowledged(p.id())
		r.client.Disconnect()
		r.answer(r.asks(1)[0], wabox.Answer{Result: wabox.Success})
		if err := r.client.Connect(); err != nil {
			t.Fatal(err)
		}
		c.succeeds(t)
		r.asked(1)
	})
	runInBubble(t, "without automatic reconnection", func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.client.EnableAutoReconnect = false
		r.register(nil)
		r.connect()
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Ack: wabox.AckNone, None: true})
		c := r.begin(p.request())
		r.asks(1)
		r.phone.Cut()
		c.fails(t, whatsmeow.ErrNotConnected)
	})
}

// Naming a group's participant takes a question to the server, which cannot be asked while
// whatsmeow dials. Nor must Close wait for that. It takes real time, as whatsmeow holds a lock
// while it dials.
func TestGroupRequestInADialThatHangs(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	d := &hangingDialer{base: r.box.Transport(), dials: make(chan struct{}, 10), release: make(chan struct{})}
	t.Cleanup(d.base.CloseIdleConnections)
	r.client.SetWebsocketHTTPClient(&http.Client{Transport: d})
	r.register(&reupload.Options{Timeout: 400 * time.Millisecond})
	r.connect()
	defer close(d.release)
	<-d.dials
	if err := r.client.Store.LIDs.PutLIDMapping(r.ctx(), carolLID, carol); err != nil {
		t.Fatal(err)
	}
	info, media := r.unseen("3EB0")
	info.Chat = carolGroup
	d.hangs.Store(true)
	r.phone.Cut()
	<-d.dials
	if _, err := r.requests(reupload.NewRequest(info, media.Image())).end(); !errors.Is(err, whatsmeow.ErrNotConnected) {
		t.Errorf("got %v", err)
	}
	start := time.Now()
	r.plugin.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}
