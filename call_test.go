package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// prompt is much longer than anything takes that does not wait for a time-out, and much shorter
// than the default time-out.
const prompt = 8 * time.Second

// People and chats that messages come from.
var (
	carol         = types.NewJID("491701111111", types.DefaultUserServer)
	carolLID      = types.NewJID("200000000000001", types.HiddenUserServer)
	carolAtTab    = types.NewADJID(carol.User, 0, 4)
	carolGroup    = types.NewJID("120363000000000001", types.GroupServer)
	carolList     = types.NewJID("1700000000", types.BroadcastServer)
	theNewsletter = types.NewJID("120363000000000002", types.NewsletterServer)
)

// A call is a RequestReupload on its way.
type call struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when the three below are set
	result reupload.Result
	err    error
	took   time.Duration
}

// begin calls RequestReupload, and returns when that waits for the phone or has ended. It is for
// tests inside a bubble.
func (r *rig) begin(req reupload.Request) *call {
	r.Helper()
	ctx, cancel := context.WithCancel(r.ctx())
	r.Cleanup(cancel)
	c := &call{cancel: cancel, done: make(chan struct{})}
	go r.request(ctx, req, c)
	synctest.Wait()
	return c
}

func (r *rig) request(ctx context.Context, req reupload.Request, c *call) {
	defer close(c.done)
	start := time.Now()
	c.result, c.err = r.plugin.RequestReupload(ctx, req)
	c.took = time.Since(start)
}

// end waits for what a call returns.
func (c *call) end() (reupload.Result, error) {
	<-c.done // its context ends at the latest
	return c.result, c.err
}

// fails checks that a call ends with an error, and when it should.
func (c *call) fails(t testing.TB, want ...error) {
	t.Helper()
	_, err := c.end()
	for _, want := range want {
		if !errors.Is(err, want) {
			t.Errorf("the error is %v, want %v", err, want)
		}
	}
	limit := prompt
	if errors.Is(c.err, reupload.ErrTimeout) {
		limit = defaultTimeout
	}
	if c.took > limit {
		t.Errorf("it took %s", c.took)
	}
}

func (c *call) succeeds(t testing.TB) {
	t.Helper()
	result, err := c.end()
	if err != nil || result.Err() != nil || result.DirectPath == "" {
		t.Errorf("got status %v, path %t, error %v", result.Status, result.DirectPath != "", err)
	}
}

// requests is RequestReupload.
func (r *rig) requests(req reupload.Request) *call {
	r.Helper()
	c := &call{done: make(chan struct{})}
	r.request(r.ctx(), req, c)
	return c
}

// asks waits for the server to have seen that many requests, and returns them.
func (r *rig) asks(n int) []wabox.Request {
	r.Helper()
	requests, err := r.phone.WaitRequests(r.ctx(), n)
	if err != nil {
		r.Fatalf("waiting for %d requests: %v", n, err)
	}
	return requests
}

// unseen makes a picture in a message that the phone knows, and that the bot never received.
func (r *rig) unseen(id types.MessageID) (*types.MessageInfo, *wabox.Media) {
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.Expire(media)
	r.phone.Knows(id, media)
	return &types.MessageInfo{ID: id, MessageSource: types.MessageSource{Chat: carol, Sender: carol}}, media
}

// told collects what Options.OnReupload is told.
type told chan reupload.Reupload

func (c told) options(opts reupload.Options) *reupload.Options {
	opts.OnReupload = func(u reupload.Reupload) { c <- u }
	return &opts
}

func (c told) next(t testing.TB) reupload.Reupload {
	t.Helper()
	select {
	case u := <-c:
		return u
	case <-time.After(patience):
		t.Fatal("Options.OnReupload was not called")
		panic("unreachable")
	}
}

// send makes the server send the client a node.
func (r *rig) send(node waBinary.Node) {
	r.Helper()
	if err := r.phone.SendNode(node); err != nil {
		r.Fatal(err)
	}
}

// answer makes the phone answer an earlier request, now or as soon as the client is back.
func (r *rig) answer(request wabox.Request, answer wabox.Answer) {
	r.Helper()
	if err := r.phone.SendAnswer(request, answer); err != nil {
		r.Fatal(err)
	}
}

// marker makes the phone answer about a message that was never sent, and waits until the client has
// handled that. By then the client has handled everything that was sent to it before.
func (r *rig) marker() {
	r.Helper()
	id := fmt.Sprintf("MARKER%d", rand.Uint64())
	r.send(waBinary.Node{
		Tag:   "notification",
		Attrs: waBinary.Attrs{"type": "mediaretry", "id": id, "from": r.phone.PN, "t": time.Now().Unix()},
		Content: []waBinary.Node{
			{Tag: "error", Attrs: waBinary.Attrs{"code": "0"}},
			{Tag: "rmr", Attrs: waBinary.Attrs{"jid": carol, "from_me": "false"}},
		},
	})
	for next[*events.MediaRetry](r).MessageID != id {
	}
}

// silent is a phone that the server hands every request to, and that answers none.
func silent(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} }
