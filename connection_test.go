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
	t.Parallel()
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
}

func TestCutBeforeTheAck(t *testing.T) {
	t.Parallel()
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
}

// The phone may have got the request, though its ack was lost.
func TestCutInsteadOfTheAck(t *testing.T) {
	t.Parallel()
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
}

func TestCutAfterTheAck(t *testing.T) {
	t.Parallel()
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
}

func TestAnswerLostOnItsWay(t *testing.T) {
	t.Parallel()
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
}

func TestOfflineForLongerThanTheTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 400 * time.Millisecond
	timesOut := func(t *testing.T, r *rig, c *call) {
		t.Helper()
		c.fails(t, reupload.ErrTimeout, whatsmeow.ErrNotConnected)
		if c.took < timeout || c.took > timeout+2*time.Second {
			t.Errorf("it took %s", c.took)
		}
		if n := r.plugin.Stats().Waiting; n != 0 {
			t.Errorf("%d still wait", n)
		}
	}
	t.Run("before the send", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, &reupload.Options{Timeout: timeout})
		p := r.receivePicture()
		r.goesOffline()
		for range 10 {
			timesOut(t, r, r.requests(p.request()))
		}
		r.asked(0)
	})
	t.Run("before the ack", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, &reupload.Options{Timeout: timeout})
		p := r.receivePicture()
		r.phone.OnReceipt(func(wabox.Request) bool {
			r.phone.Offline(true)
			return true
		})
		timesOut(t, r, r.requests(p.request()))
		r.asked(1)
	})
	// While whatsmeow dials, it holds a lock that every send waits for.
	t.Run("in a dial that hangs", func(t *testing.T) {
		t.Parallel()
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
		timesOut(t, r, r.requests(p.request()))
		r.asked(0)
	})
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
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
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
	t.Run("while offline", func(t *testing.T) {
		t.Parallel()
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
	t.Parallel()
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
}

func TestDisconnectByTheBot(t *testing.T) {
	t.Parallel()
	t.Run("before the send", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		p := r.receivePicture()
		r.client.Disconnect()
		r.requests(p.request()).fails(t, whatsmeow.ErrNotConnected)
		r.asked(0)
	})
	t.Run("before the ack", func(t *testing.T) {
		t.Parallel()
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
	t.Run("while whatsmeow reconnects", func(t *testing.T) {
		t.Parallel()
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
	t.Run("after the ack, and back", func(t *testing.T) {
		t.Parallel()
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
	t.Run("without automatic reconnection", func(t *testing.T) {
		t.Parallel()
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

func TestLateAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		opts   reupload.Options
		ends   func(*testing.T, *rig, *call) // the wait
		answer wabox.Answer
	}{
		{"after the time-out", reupload.Options{Timeout: 300 * time.Millisecond}, func(t *testing.T, _ *rig, c *call) {
			c.fails(t, reupload.ErrTimeout)
		}, wabox.Answer{Result: wabox.Success}},
		{"several times", reupload.Options{Timeout: 300 * time.Millisecond}, func(t *testing.T, _ *rig, c *call) {
			c.fails(t, reupload.ErrTimeout)
		}, wabox.Answer{Result: wabox.Success, Repeat: 3}},
		{"without rmr", reupload.Options{Timeout: 300 * time.Millisecond}, func(t *testing.T, _ *rig, c *call) {
			c.fails(t, reupload.ErrTimeout)
		}, wabox.Answer{Result: wabox.Success, NoRMR: true}},
		{"a refusal with a path", reupload.Options{Timeout: 300 * time.Millisecond}, func(t *testing.T, _ *rig, c *call) {
			c.fails(t, reupload.ErrTimeout)
		}, wabox.Answer{Result: wabox.NotFound, WithPath: true}},
		{"held while the client was away", reupload.Options{Timeout: 300 * time.Millisecond}, func(t *testing.T, r *rig, c *call) {
			c.fails(t, reupload.ErrTimeout)
			r.goesOffline()
		}, wabox.Answer{Result: wabox.Success}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			heard := make(told, 10)
			r := newRig(t, heard.options(test.opts))
			p := r.receivePicture()
			r.phone.Script(p.id(), wabox.Answer{None: true})
			c := r.begin(p.request())
			request := r.asks(1)[0]
			test.ends(t, r, c)
			if s := r.plugin.Stats(); s.Waiting != 0 || s.Late != 0 {
				t.Errorf("before the answer, stats are %+v", s)
			}
			r.answer(request, test.answer)
			r.phone.Offline(false)
			u := heard.next(t)
			if !u.Late || u.Request.MessageID != p.id() || u.Result.DirectPath == "" || string(u.FileEncSHA256) != string(p.FileEncSHA256) {
				t.Errorf("Options.OnReupload was told %+v", u)
			}
			if data, err := r.client.Download(r.ctx(), p.image); err != nil || string(data) != string(p.Plaintext) {
				t.Errorf("the download: %v (cause: %v)", err, reupload.Cause(err))
			}
			r.asked(1)
			r.marker()
			r.plugin.Close()
			if n := r.plugin.Stats().Late; n != 1 || len(heard) > 0 {
				t.Errorf("%d late answers, told of %d more", n, len(heard))
			}
		})
	}
}

// The answer to a request of a process that has ended finds its message all the same, if the index
// has been kept.
func TestLateAnswerToAnEarlierPlugin(t *testing.T) {
	t.Parallel()
	heard := make(told, 10)
	index := reupload.NewMemoryIndex(100)
	r := newRig(t, &reupload.Options{Index: index})
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{None: true})
	c := r.begin(p.request())
	request := r.asks(1)[0]
	r.plugin.Close()
	c.fails(t, reupload.ErrClosed)
	r.answer(request, wabox.Answer{Result: wabox.Success})
	next[*events.MediaRetry](r) // nobody listens

	r.register(heard.options(reupload.Options{Index: index}))
	r.answer(request, wabox.Answer{Result: wabox.Success})
	if u := heard.next(t); !u.Late {
		t.Errorf("Options.OnReupload was told %+v", u)
	}
	r.heals(p)
	r.asked(1)
}

func TestLateRefusal(t *testing.T) {
	t.Parallel()
	heard := make(told, 10)
	r := newRig(t, heard.options(reupload.Options{Timeout: 300 * time.Millisecond, SilencePause: -1}))
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{None: true})
	c := r.requests(p.request())
	c.fails(t, reupload.ErrTimeout)
	r.answer(r.asks(1)[0], wabox.Answer{Result: wabox.NotFound})
	until(t, "a download is refused for what the phone has said", func() bool {
		_, err := r.client.Download(r.ctx(), p.image)
		return errors.Is(reupload.Cause(err), reupload.ErrNotFound)
	})
	r.plugin.Close()
	if n := r.plugin.Stats().Late; n != 0 || len(heard) > 0 {
		t.Errorf("%d new paths, told of %d", n, len(heard))
	}
}

func TestAnswerThatNobodyAskedFor(t *testing.T) {
	t.Parallel()
	heard := make(told, 10)
	r := newRig(t, heard.options(reupload.Options{}))
	known := r.receivePicture()
	stranger := r.box.Upload(content(), whatsmeow.MediaImage)
	r.phone.Knows("STRANGER", stranger)
	// Another device of the account has asked; or somebody plays with us.
	request := wabox.Request{ID: "STRANGER", To: r.phone.PN, Node: &waBinary.Node{
		Tag:     "receipt",
		Content: []waBinary.Node{{Tag: "rmr", Attrs: waBinary.Attrs{"jid": carol, "from_me": "false"}}},
	}}
	code := "2"
	answers := []wabox.Answer{
		{Result: wabox.Success, DirectPath: "/v/t62?oh=01&oe=7FFFFFFF"}, {Garbage: true}, {Result: wabox.Success, IV: []byte{}}, {ErrorCode: &code},
	}
	for _, answer := range answers {
		r.answer(request, answer)
		next[*events.MediaRetry](r)
	}
	request.ID = known.id() // known to the index, but the answer is under another key
	for _, answer := range answers[:3] {
		r.answer(request, answer)
		next[*events.MediaRetry](r)
	}
	r.heals(known)
	r.asked(1)
	if u := heard.next(t); u.Late || u.Request.MessageID != known.id() {
		t.Errorf("Options.OnReupload was told %+v", u)
	}
	r.plugin.Close()
	if n := r.plugin.Stats().Late; n != 0 || len(heard) > 0 {
		t.Errorf("%d late answers, told of %d more", n, len(heard))
	}
	if r.log.count("WARN Reupload", "")+r.log.count("ERROR", "") > 0 { // whatsmeow warns of contacts without a LID
		t.Errorf("the log is not quiet:\n%s", r.log.all())
	}
}
