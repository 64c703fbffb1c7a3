package reupload_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

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

// begin calls RequestReupload, and returns when that waits for the phone or has ended.
func (r *rig) begin(req reupload.Request) *call {
	r.Helper()
	inner, cancel := context.WithCancel(r.ctx())
	r.Cleanup(cancel)
	ctx := &watchedContext{Context: inner, waits: make(chan struct{})}
	c := &call{cancel: cancel, done: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(c.done)
		c.result, c.err = r.plugin.RequestReupload(ctx, req)
		c.took = time.Since(start)
	}()
	select {
	case <-ctx.waits:
	case <-c.done:
	}
	return c
}

// A watchedContext tells when the plugin waits for its end. The contexts that the plugin derives
// from it do not count.
type watchedContext struct {
	context.Context
	once  sync.Once
	waits chan struct{} // closed then
}

func (c *watchedContext) Done() <-chan struct{} {
	pc := make([]uintptr, 1)
	frame, _ := runtime.CallersFrames(pc[:runtime.Callers(2, pc)]).Next()
	if strings.HasPrefix(frame.Function, reflect.TypeFor[reupload.Plugin]().PkgPath()+".") {
		c.once.Do(func() { close(c.waits) })
	}
	return c.Context.Done()
}

// end waits for what a call returns.
func (c *call) end() (reupload.Result, error) {
	<-c.done // its context ends at the latest
	return c.result, c.err
}

// fails checks that a call ends with an error, and soon.
func (c *call) fails(t testing.TB, want ...error) {
	t.Helper()
	_, err := c.end()
	for _, want := range want {
		if !errors.Is(err, want) {
			t.Errorf("the error is %v, want %v", err, want)
		}
	}
	if c.took > prompt {
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
	c := r.begin(req)
	<-c.done
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
	case <-time.After(20 * time.Second):
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

// marker makes the phone tell of a message that nobody knows, and waits until the client has
// handled that. What was sent to the client before has been handled then, too.
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

func TestEveryAnswerIsAResult(t *testing.T) {
	t.Parallel()
	secret := []byte("a message secret of thirty-two b")
	tests := []struct {
		name   string
		answer wabox.Answer
		status reupload.Status
		err    error // of the Result
		cause  bool  // the error says more than the phone's word
		path   bool
	}{
		{name: "success", answer: wabox.Answer{Result: wabox.Success}, status: reupload.StatusSuccess, path: true},
		{name: "general error", answer: wabox.Answer{}, err: reupload.ErrGeneral},
		{name: "not found", answer: wabox.Answer{Result: wabox.NotFound}, status: reupload.StatusNotFound, err: reupload.ErrNotFound},
		{name: "decryption error", answer: wabox.Answer{Result: wabox.DecryptionError}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption},
		{name: "unknown result", answer: wabox.Answer{Result: 17}, err: reupload.ErrGeneral},
		{name: "negative result", answer: wabox.Answer{Result: -1}, err: reupload.ErrGeneral},
		{name: "no result", answer: wabox.Answer{Result: wabox.NotFound, NoResult: true}, err: reupload.ErrGeneral},

		{name: "general error with path", answer: wabox.Answer{WithPath: true}, err: reupload.ErrGeneral, path: true},
		{name: "not found with path", answer: wabox.Answer{Result: wabox.NotFound, WithPath: true}, status: reupload.StatusNotFound, err: reupload.ErrNotFound, path: true},
		{name: "decryption error with path", answer: wabox.Answer{Result: wabox.DecryptionError, WithPath: true}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, path: true},
		{name: "not found with evil path", answer: wabox.Answer{Result: wabox.NotFound, DirectPath: "@evil.example/x"}, status: reupload.StatusNotFound, err: reupload.ErrNotFound},

		{name: "node 0", answer: wabox.Answer{ErrorCode: proto.String("0")}, err: reupload.ErrGeneral},
		{name: "node 2", answer: wabox.Answer{ErrorCode: proto.String("2")}, status: reupload.StatusNotFound, err: reupload.ErrGeneral, cause: true},
		{name: "node 3", answer: wabox.Answer{ErrorCode: proto.String("3")}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption},
		{name: "node without code", answer: wabox.Answer{ErrorCode: proto.String("")}, err: reupload.ErrGeneral},
		{name: "node 4", answer: wabox.Answer{ErrorCode: proto.String("4")}, err: reupload.ErrGeneral},
		{name: "node -1", answer: wabox.Answer{ErrorCode: proto.String("-1")}, err: reupload.ErrGeneral},
		{name: "node 404", answer: wabox.Answer{ErrorCode: proto.String("404")}, err: reupload.ErrGeneral},
		{name: "node 2.0", answer: wabox.Answer{ErrorCode: proto.String("2.0")}, err: reupload.ErrGeneral},
		{name: "node of words", answer: wabox.Answer{ErrorCode: proto.String("not found")}, err: reupload.ErrGeneral},

		{name: "garbage", answer: wabox.Answer{Result: wabox.Success, Garbage: true}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "wrong key", answer: wabox.Answer{Result: wabox.Success, WrongKey: true}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "IV of 0 bytes", answer: wabox.Answer{Result: wabox.Success, IV: []byte{}}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "IV of 1 byte", answer: wabox.Answer{Result: wabox.Success, IV: make([]byte, 1)}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "IV of 11 bytes", answer: wabox.Answer{Result: wabox.Success, IV: make([]byte, 11)}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "IV of 16 bytes", answer: wabox.Answer{Result: wabox.Success, IV: make([]byte, 16)}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "no ciphertext", answer: wabox.Answer{Result: wabox.Success, Edit: func(n *waBinary.Node) {
			n.Content = []waBinary.Node{{Tag: "encrypt"}, n.GetChildByTag("rmr")}
		}}, status: reupload.StatusDecryptionError, err: reupload.ErrDecryption, cause: true},
		{name: "no rmr", answer: wabox.Answer{Result: wabox.Success, NoRMR: true}, status: reupload.StatusSuccess, path: true},
		{name: "rmr without from_me", answer: wabox.Answer{Result: wabox.Success, RMR: func(n *waBinary.Node) {
			delete(n.Attrs, "from_me")
		}}, status: reupload.StatusSuccess, path: true},
		{name: "no time", answer: wabox.Answer{Result: wabox.Success, Edit: func(n *waBinary.Node) {
			delete(n.Attrs, "t")
		}}, status: reupload.StatusSuccess, path: true},
		{name: "no ack", answer: wabox.Answer{Result: wabox.Success, Ack: wabox.AckNone}, status: reupload.StatusSuccess, path: true},
		{name: "secret", answer: wabox.Answer{Result: wabox.Success, MessageSecret: secret}, status: reupload.StatusSuccess, path: true},
	}
	r := newRig(t, nil)
	pictures := make([]picture, len(tests))
	for i, test := range tests {
		pictures[i] = r.receivePicture()
		r.phone.Script(pictures[i].id(), test.answer)
	}
	t.Run("answers", func(t *testing.T) {
		for i, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				result, err := r.requests(pictures[i].request()).end()
				if err != nil {
					t.Fatalf("got %v instead of an answer", err)
				}
				if result.Status != test.status {
					t.Errorf("the status is %v, want %v", result.Status, test.status)
				}
				if refused := result.Err(); !errors.Is(refused, test.err) || test.cause != (refused != test.err) {
					t.Errorf("the result's error is %v, want %v, with more: %t", refused, test.err, test.cause)
				}
				if test.path != (result.DirectPath != "") {
					t.Errorf("there is a path: %t", !test.path)
				}
				if !bytes.Equal(result.MessageSecret, test.answer.MessageSecret) {
					t.Errorf("the message secret is %q", result.MessageSecret)
				}
			})
		}
	})
	r.asked(len(tests))
	r.heals(r.receivePicture()) // the client still works
	if n := r.log.count("ERROR", ""); n > 0 {
		t.Errorf("errors were logged:\n%s", r.log.all())
	}
}

// What neither a seal nor the chat vouches for can be about anybody's message.
func TestAnswerThatNothingVouchesFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 500 * time.Millisecond})
	for name, answer := range map[string]wabox.Answer{
		"an error without rmr": {ErrorCode: proto.String("2"), NoRMR: true},
		"an error of another chat": {ErrorCode: proto.String("2"), RMR: func(n *waBinary.Node) {
			n.Attrs["jid"] = carolGroup
		}},
		"garbage of another chat": {Garbage: true, RMR: func(n *waBinary.Node) {
			n.Attrs["jid"] = carolGroup
		}},
		"nothing in it": {Edit: func(n *waBinary.Node) { n.Content = nil }},
	} {
		p := r.receivePicture()
		r.phone.Script(p.id(), answer, wabox.Answer{Result: wabox.Success})
		c := r.requests(p.request())
		if c.fails(t, reupload.ErrTimeout); c.err == nil {
			t.Errorf("%s: got %v", name, c.result)
		}
		r.requests(p.request()).succeeds(t)
	}
}

func TestAnswerThatMakesNoSense(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer wabox.Answer
	}{
		{"another stanza id", wabox.Answer{Result: wabox.Success, StanzaID: proto.String("OTHER")}},
		{"refusal for another stanza id", wabox.Answer{Result: wabox.NotFound, StanzaID: proto.String("OTHER")}},
		{"no path", wabox.Answer{Result: wabox.Success, NoPath: true}},
		{"success as error", wabox.Answer{ErrorCode: proto.String("1")}},
		{"user info", wabox.Answer{Result: wabox.Success, DirectPath: "@evil.example/x"}},
		{"other host", wabox.Answer{Result: wabox.Success, DirectPath: "//evil.example/x"}},
		{"suffix of host", wabox.Answer{Result: wabox.Success, DirectPath: ".evil.example/x"}},
		{"port", wabox.Answer{Result: wabox.Success, DirectPath: ":8080/x"}},
		{"URL", wabox.Answer{Result: wabox.Success, DirectPath: "https://evil.example/x"}},
		{"line feed", wabox.Answer{Result: wabox.Success, DirectPath: "/x\ny"}},
		{"request smuggling", wabox.Answer{Result: wabox.Success, DirectPath: "/x HTTP/1.1\r\nHost: evil.example\r\n\r\n"}},
		{"backslash", wabox.Answer{Result: wabox.Success, DirectPath: `/\evil.example/x`}},
		{"fragment", wabox.Answer{Result: wabox.Success, DirectPath: "/x#y"}},
		{"bad escape", wabox.Answer{Result: wabox.Success, DirectPath: "/%zz"}},
	}
	r := newRig(t, nil)
	pictures, downloaded := make([]picture, len(tests)), make([]picture, len(tests))
	for i, test := range tests {
		pictures[i], downloaded[i] = r.receivePicture(), r.receivePicture()
		r.phone.Script(pictures[i].id(), test.answer)
		r.phone.Script(downloaded[i].id(), test.answer)
	}
	t.Run("requested", func(t *testing.T) {
		for i, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				c := r.requests(pictures[i].request())
				c.fails(t, reupload.ErrInvalidAnswer)
				if !reflect.ValueOf(c.result).IsZero() {
					t.Errorf("there is a result: %v", c.result.Status)
				}
			})
		}
	})
	if asked := r.box.Asked(); len(asked) > 0 {
		t.Errorf("the CDN was asked for %+v", asked)
	}
	for i, test := range tests {
		_, err := r.client.Download(r.ctx(), downloaded[i].image)
		if cause := reupload.Cause(err); !errors.Is(cause, reupload.ErrInvalidAnswer) {
			t.Errorf("%s: the cause is %v", test.name, cause)
		}
	}
	if asked := r.box.Asked(); len(asked) != len(tests) { // each dead path once
		t.Errorf("the CDN was asked %d times for %d pictures", len(asked), len(tests))
	}
	r.heals(r.receivePicture())
}

func TestInvalidRequestIsNotSent(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	good := reupload.Request{MessageID: "ID", Chat: carol, MediaKey: make([]byte, 32)}
	tests := []struct {
		name string
		edit func(*reupload.Request)
		want error
	}{
		{"newsletter", func(q *reupload.Request) { q.Chat = theNewsletter }, reupload.ErrNewsletter},
		{"newsletter without key", func(q *reupload.Request) { q.Chat, q.MediaKey = theNewsletter, nil }, reupload.ErrNewsletter},
		{"no key", func(q *reupload.Request) { q.MediaKey = nil }, reupload.ErrInvalidRequest},
		{"key of 31 bytes", func(q *reupload.Request) { q.MediaKey = make([]byte, 31) }, reupload.ErrInvalidRequest},
		{"key of 33 bytes", func(q *reupload.Request) { q.MediaKey = make([]byte, 33) }, reupload.ErrInvalidRequest},
		{"no id", func(q *reupload.Request) { q.MessageID = "" }, reupload.ErrInvalidRequest},
		{"no chat", func(q *reupload.Request) { q.Chat = types.EmptyJID }, reupload.ErrInvalidRequest},
		{"only a server for a chat", func(q *reupload.Request) { q.Chat = types.ServerJID }, reupload.ErrInvalidRequest},
		{"group without sender", func(q *reupload.Request) { q.Chat = carolGroup }, reupload.ErrInvalidRequest},
		{"broadcast without sender", func(q *reupload.Request) { q.Chat = carolList }, reupload.ErrInvalidRequest},
		{"status without sender", func(q *reupload.Request) { q.Chat = types.StatusBroadcastJID }, reupload.ErrInvalidRequest},
	}
	for _, test := range tests {
		req := good
		test.edit(&req)
		c := r.requests(req)
		c.fails(t, test.want)
		if other := reupload.ErrNewsletter; test.want != other && errors.Is(c.err, other) {
			t.Errorf("%s: the error is %v", test.name, c.err)
		}
	}
	r.asked(0)
	if s := r.plugin.Stats(); s.Asked != 0 || s.Waiting != 0 {
		t.Errorf("stats are %+v", s)
	}
}

func TestRequestOnTheWire(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	carolTab := types.NewADJID(carol.User, 0, 4)
	tests := []struct {
		name        string
		in          wabox.Incoming
		edit        func(*reupload.Request)
		chat        types.JID
		participant types.JID
		fromMe      string
	}{
		{name: "one-to-one", in: wabox.Incoming{From: carolTab}, chat: carol, fromMe: "false"},
		{name: "one-to-one by LID", in: wabox.Incoming{From: carolLID}, chat: carolLID, fromMe: "false"},
		{name: "one-to-one, from me", in: wabox.Incoming{Chat: carol, FromMe: true}, chat: carol, fromMe: "true"},
		{name: "group", in: wabox.Incoming{Chat: carolGroup, From: carolTab}, chat: carolGroup, participant: carol, fromMe: "false"},
		{name: "group by LID", in: wabox.Incoming{Chat: carolGroup, From: carolLID}, chat: carolGroup, participant: carolLID, fromMe: "false"},
		{name: "group, from me", in: wabox.Incoming{Chat: carolGroup, FromMe: true}, chat: carolGroup, participant: r.phone.PN, fromMe: "true"},
		{name: "broadcast list", in: wabox.Incoming{Chat: carolList, From: carolTab}, chat: carolList, participant: carol, fromMe: "false"},
		{name: "broadcast list, from me", in: wabox.Incoming{Chat: carolList, FromMe: true}, chat: carolList, participant: r.phone.PN, fromMe: "true"},
		{name: "status", in: wabox.Incoming{Chat: types.StatusBroadcastJID, From: carolTab}, chat: types.StatusBroadcastJID, participant: carol, fromMe: "false"},
		{name: "status, from me", in: wabox.Incoming{Chat: types.StatusBroadcastJID, FromMe: true}, chat: types.StatusBroadcastJID, participant: r.phone.PN, fromMe: "true"},

		{name: "participant in a one-to-one chat", in: wabox.Incoming{From: carol}, edit: func(q *reupload.Request) {
			q.Participant = carolTab
		}, chat: carol, fromMe: "false"},
		{name: "device parts", in: wabox.Incoming{Chat: carolGroup, From: carol}, edit: func(q *reupload.Request) {
			q.Participant = carolTab
		}, chat: carolGroup, participant: carol, fromMe: "false"},
		{name: "device part of a chat", in: wabox.Incoming{From: carol}, edit: func(q *reupload.Request) {
			q.Chat = carolTab
		}, chat: carol, fromMe: "false"},
		{name: "chat under its old server", in: wabox.Incoming{From: carol}, edit: func(q *reupload.Request) {
			q.Chat.Server = types.LegacyUserServer
		}, chat: carol, fromMe: "false"},
		{name: "own message without participant", in: wabox.Incoming{Chat: carolGroup, FromMe: true}, edit: func(q *reupload.Request) {
			q.Participant = types.EmptyJID
		}, chat: carolGroup, participant: r.phone.PN, fromMe: "true"},
	}
	for i, test := range tests {
		p := r.receivePictureIn(test.in)
		req := p.request()
		if test.edit != nil {
			test.edit(&req)
		}
		r.requests(req).succeeds(t)
		got := r.asks(i + 1)[i]
		if got.ID != p.id() || got.StanzaID != p.id() {
			t.Errorf("%s: it is for %s, and decrypts to %s; want %s", test.name, got.ID, got.StanzaID, p.id())
		}
		if got.To != r.phone.PN {
			t.Errorf("%s: it goes to %v", test.name, got.To)
		}
		if got.Chat != test.chat || got.Participant != test.participant || got.FromMe != test.fromMe {
			t.Errorf("%s: it names %v, %v, %s", test.name, got.Chat, got.Participant, got.FromMe)
		}
		if got.HasParticipant != !test.participant.IsEmpty() {
			t.Errorf("%s: it has a participant: %t", test.name, got.HasParticipant)
		}
		if got.Node.Attrs["type"] != "server-error" || len(got.EncIV) != 12 {
			t.Errorf("%s: it is %s", test.name, got.Node)
		}
	}
	// No nonce comes twice, not even for the same request.
	r.requests(reupload.Request{MessageID: r.asks(1)[0].ID, Chat: carol, MediaKey: r.asks(1)[0].MediaKey}).succeeds(t)
	seen := make(map[string]bool)
	for _, request := range r.asks(len(tests) + 1) {
		if seen[string(request.EncIV)] {
			t.Error("a nonce was used twice")
		}
		seen[string(request.EncIV)] = true
	}
}

func TestRequestKeepsNothingOfTheCallers(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	answer := make(chan struct{})
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
	req := p.request()
	req.MediaKey = bytes.Clone(req.MediaKey)
	c := r.begin(req)
	r.asks(1)
	clear(req.MediaKey) // a caller may wipe its key
	close(answer)
	c.succeeds(t)
	r.heals(p)
	r.asked(1)
}

func TestNewRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	live := []struct {
		name string
		in   wabox.Incoming
		want reupload.Request
	}{
		{"live", wabox.Incoming{From: carolAtTab}, reupload.Request{Chat: carol}},
		{"live, from me", wabox.Incoming{Chat: carol, FromMe: true}, reupload.Request{Chat: carol, IsFromMe: true}},
		{"live, group", wabox.Incoming{Chat: carolGroup, From: carolAtTab}, reupload.Request{Chat: carolGroup, Participant: carol}},
		{"live, status", wabox.Incoming{Chat: types.StatusBroadcastJID, From: carolAtTab}, reupload.Request{Chat: types.StatusBroadcastJID, Participant: carol}},
		{"live, broadcast list", wabox.Incoming{Chat: carolList, From: carolAtTab}, reupload.Request{Chat: carolList, Participant: carol}},
	}
	check := func(name string, p picture, want reupload.Request) {
		t.Helper()
		want.MessageID, want.MediaKey = p.id(), p.MediaKey
		if got := p.request(); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		r.requests(p.request()).succeeds(t)
	}
	for _, test := range live {
		check(test.name, r.receivePictureIn(test.in), test.want)
	}

	history := []struct {
		name string
		chat types.JID
		key  *waCommon.MessageKey
		msg  *waWeb.WebMessageInfo // the rest of it
		want reupload.Request
	}{
		{"history", carol, &waCommon.MessageKey{FromMe: proto.Bool(false)}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: carol}},
		{"history, from me", carol, &waCommon.MessageKey{FromMe: proto.Bool(true)}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: carol, IsFromMe: true}},
		{"history, group", carolGroup, &waCommon.MessageKey{}, &waWeb.WebMessageInfo{Participant: proto.String(carolAtTab.String())}, reupload.Request{Chat: carolGroup, Participant: carol}},
		{"history, group, from me", carolGroup, &waCommon.MessageKey{FromMe: proto.Bool(true)}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: carolGroup, Participant: r.phone.PN, IsFromMe: true}},
		{"history, broadcast list", carolList, &waCommon.MessageKey{}, &waWeb.WebMessageInfo{Participant: proto.String(carol.String())}, reupload.Request{Chat: carolList, Participant: carol}},
		{"history, status", types.StatusBroadcastJID, &waCommon.MessageKey{Participant: proto.String(carolLID.String())}, &waWeb.WebMessageInfo{}, reupload.Request{Chat: types.StatusBroadcastJID, Participant: carolLID}},
	}
	for i, test := range history {
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(media)
		test.key.ID, test.key.RemoteJID = proto.String(fmt.Sprintf("HISTORY%d", i)), proto.String(test.chat.String())
		test.msg.Key, test.msg.Message = test.key, &waE2E.Message{ImageMessage: media.Image()}
		if err := r.phone.DeliverHistory(&waHistorySync.HistorySync{
			SyncType: waHistorySync.HistorySync_RECENT.Enum(),
			Conversations: []*waHistorySync.Conversation{{
				ID: proto.String(test.chat.String()), Messages: []*waHistorySync.HistorySyncMsg{{Message: test.msg}},
			}},
		}); err != nil {
			t.Fatal(err)
		}
		synced := next[*events.HistorySync](r).Data.GetConversations()[0].GetMessages()[0].GetMessage()
		evt, err := r.client.ParseWebMessage(test.chat, synced)
		if err != nil {
			t.Fatal(err)
		}
		check(test.name, picture{media, evt, evt.Message.GetImageMessage()}, test.want)
	}

	r.blobsDeleted(len(history))
	if got := reupload.NewRequest(nil, nil); !reflect.DeepEqual(got, reupload.Request{}) {
		t.Errorf("of nothing: %+v", got)
	}
}

func TestRejectedByTheServer(t *testing.T) {
	t.Parallel()
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
}

// A read receipt has the id of its message, as a request for its media has. So have their acks.
func TestAcksOfOtherReceiptsAreNotOurs(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	ack := func(info *types.MessageInfo, attrs waBinary.Attrs) waBinary.Node {
		attrs["class"], attrs["id"], attrs["from"] = "receipt", info.ID, info.Chat
		return waBinary.Node{Tag: "ack", Attrs: attrs}
	}
	t.Run("refused", func(t *testing.T) {
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
	t.Run("accepted, and then ours refused", func(t *testing.T) {
		info, media := r.unseen("ACCEPTED")
		c := r.acknowledgedElsewhere(info, media, ack(info, waBinary.Attrs{"type": "read"}))
		r.send(ack(info, waBinary.Attrs{"type": "server-error", "error": "479"}))
		c.fails(t, reupload.ErrRejected)
	})
	t.Run("delivery accepted, and then the connection cut", func(t *testing.T) {
		info, media := r.unseen("CUT")
		before := r.phone.RequestCount()
		c := r.acknowledgedElsewhere(info, media, ack(info, waBinary.Attrs{}))
		r.phone.Cut() // nobody has acknowledged the request, so it is sent again
		r.asks(before + 2)
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

func TestPhoneIsSilent(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	for _, answer := range []wabox.Answer{{None: true}, {Ack: wabox.AckNone, None: true}} {
		r := newRig(t, &reupload.Options{Timeout: timeout})
		p := r.receivePicture()
		r.phone.Script(p.id(), answer)
		c := r.requests(p.request())
		c.fails(t, reupload.ErrTimeout)
		if errors.Is(c.err, whatsmeow.ErrNotConnected) {
			t.Errorf("the client is connected, but the error is %v", c.err)
		}
		if c.took < timeout {
			t.Errorf("it took only %s", c.took)
		}
		if s := r.plugin.Stats(); s.Waiting != 0 || s.Asked != 1 {
			t.Errorf("stats are %+v", s)
		}
		r.phone.Script(p.id())
		r.requests(p.request()).succeeds(t)
	}
}

func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{None: true})
	c := r.begin(p.request())
	r.asks(1)
	c.cancel()
	c.fails(t, context.Canceled)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.plugin.RequestReupload(ctx, p.request()); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := r.plugin.RequestReupload(ctx, p.request()); !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, reupload.ErrTimeout) {
		t.Errorf("after the caller's own deadline: %v", err)
	}
	if n := r.plugin.Stats().Waiting; n != 1 { // for whoever comes next
		t.Errorf("%d requests wait, want 1", n)
	}
	r.asked(1)
}

func TestCloseEndsWaiting(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{MaxInFlight: 1})
	p, queued := r.receivePicture(), r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{None: true})
	first := r.begin(p.request())
	r.asks(1)
	second := r.begin(queued.request())
	if err := r.plugin.Close(); err != nil {
		t.Error(err)
	}
	first.fails(t, reupload.ErrClosed)
	second.fails(t, reupload.ErrClosed)
	r.requests(queued.request()).fails(t, reupload.ErrClosed)
	r.asked(1)
	if n := r.plugin.Stats().Waiting; n != 0 {
		t.Errorf("%d still wait", n)
	}
}

func TestWithoutAccountOrConnection(t *testing.T) {
	t.Parallel()
	req := reupload.Request{MessageID: "ID", Chat: carol, MediaKey: make([]byte, 32)}

	r := newUnregisteredRig(t)
	r.client = whatsmeow.NewClient(wabox.NewDevice(), r.log)
	r.register(nil)
	r.requests(req).fails(t, whatsmeow.ErrNotLoggedIn)

	r = newUnregisteredRig(t)
	r.register(nil)
	r.requests(req).fails(t, whatsmeow.ErrNotConnected)
	r.connect()
	info, media := r.unseen("ID")
	r.requests(reupload.NewRequest(info, media.Image())).succeeds(t) // it works as soon as there is a connection
}

func TestCallersShareOneRequest(t *testing.T) {
	t.Parallel()
	heard := make(told, 100)
	r := newRig(t, heard.options(reupload.Options{}))
	p := r.receivePicture()
	answer := make(chan struct{})
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
	calls := make([]*call, 50)
	for i := range calls {
		calls[i] = r.begin(p.request())
	}
	r.asks(1)
	if n := r.plugin.Stats().Waiting; n != 1 {
		t.Errorf("%d requests wait, want 1", n)
	}
	for _, c := range calls[:10] {
		c.cancel()
		c.fails(t, context.Canceled)
	}
	close(answer)
	for _, c := range calls[10:] {
		c.succeeds(t)
		if c.result.DirectPath != calls[10].result.DirectPath {
			t.Error("callers got different paths")
		}
	}
	r.asked(1)
	if u := heard.next(t); u.Late || u.Request.MessageID != p.id() || u.Result.DirectPath != calls[10].result.DirectPath {
		t.Errorf("Options.OnReupload was told %+v", u)
	}

	// A request that nobody waits for any more is there for the next one.
	answer = make(chan struct{})
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
	a, b := r.begin(p.request()), r.begin(p.request())
	r.asks(2)
	for _, c := range []*call{a, b} {
		c.cancel()
		c.fails(t, context.Canceled)
	}
	c := r.begin(p.request())
	close(answer)
	c.succeeds(t)
	r.asked(2)
}

// A message can hold two files, which have a media key each. Nothing but that tells whose
// an answer is.
func TestTwoFilesOfOneMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	info, first := r.unseen("ID")
	_, second := r.unseen("ID")
	answer := make(chan struct{})
	r.phone.Script("ID", wabox.Answer{Result: wabox.Success, Hold: answer}, wabox.Answer{Result: wabox.NotFound, Hold: answer})
	a := r.begin(reupload.NewRequest(info, first.Image()))
	r.asks(1)
	b := r.begin(reupload.NewRequest(info, second.Image()))
	r.asked(1) // one after the other
	close(answer)
	a.succeeds(t)
	if result, err := b.end(); err != nil || result.Err() != reupload.ErrNotFound {
		t.Errorf("the second file: %v, %v", result.Status, err)
	}
}

func TestDuplicateAnswersAreHarmless(t *testing.T) {
	t.Parallel()
	heard := make(told, 100)
	r := newRig(t, heard.options(reupload.Options{}))
	p := r.receivePicture()
	ask := func(answer wabox.Answer) *call {
		var sent waBinary.Node
		answer.Edit = func(n *waBinary.Node) { sent = *n }
		r.phone.Script(p.id(), answer)
		c := r.requests(p.request())
		for range 3 {
			r.send(sent)
		}
		r.marker()
		return c
	}
	for _, refusal := range []wabox.Answer{{Result: wabox.NotFound}, {ErrorCode: proto.String("2")}} {
		if result, err := ask(refusal).end(); err != nil || result.Status != reupload.StatusNotFound {
			t.Errorf("got %v, %v", result.Status, err)
		}
	}
	c := ask(wabox.Answer{Result: wabox.Success})
	c.succeeds(t)
	if u := heard.next(t); u.Late || u.Result.DirectPath != c.result.DirectPath || !bytes.Equal(u.FileEncSHA256, p.FileEncSHA256) {
		t.Errorf("Options.OnReupload was told %+v", u)
	}
	r.heals(p)
	r.asked(3)
	r.plugin.Close() // which waits for what late answers do
	if s := r.plugin.Stats(); s.Late != 0 || len(heard) > 0 {
		t.Errorf("%d late answers, told of %d more", s.Late, len(heard))
	}
}

// WhatsApp delivers what was not acked once more, which can be when the next request for the file
// is already under way.
func TestRepeatedAnswerIsNotTheNextOnes(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	var refusal waBinary.Node
	hold := make(chan struct{})
	r.phone.Script(p.id(),
		wabox.Answer{Result: wabox.NotFound, Edit: func(n *waBinary.Node) { refusal = *n }},
		wabox.Answer{Result: wabox.Success, Hold: hold})
	if result, err := r.requests(p.request()).end(); err != nil || result.Status != reupload.StatusNotFound {
		t.Errorf("got %v, %v", result.Status, err)
	}
	c := r.begin(p.request())
	r.asks(2)
	r.marker() // so that it waits for the answer, not for the ack
	r.send(refusal)
	r.marker()
	close(hold)
	c.succeeds(t)
}

// An answer that meets its caller's leaving is either the caller's or a late one. It is never lost.
func TestAnswerThatMeetsALeavingCallerIsKept(t *testing.T) {
	t.Parallel()
	const n = 300
	heard := make(told, 2*n)
	r := newRig(t, heard.options(reupload.Options{}))
	var mu sync.Mutex
	leave := make(map[types.MessageID]context.CancelFunc)
	r.phone.Phone(func(req wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.Success, Edit: func(*waBinary.Node) {
			mu.Lock()
			defer mu.Unlock()
			time.AfterFunc(rand.N(600*time.Microsecond), leave[req.ID])
		}}}
	})
	missing := make(map[types.MessageID]bool)
	for i := range n {
		id := fmt.Sprintf("ID%d", i)
		info, media := r.unseen(id)
		ctx, cancel := context.WithCancel(r.ctx())
		mu.Lock()
		leave[id] = cancel
		mu.Unlock()
		missing[id] = true
		if _, err := r.plugin.RequestReupload(ctx, reupload.NewRequest(info, media.Image())); err != nil && !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		cancel()
	}
	timeout := time.After(20 * time.Second)
	for len(missing) > 0 {
		select {
		case u := <-heard:
			if !missing[u.Request.MessageID] {
				t.Errorf("told of %s twice", u.Request.MessageID)
			}
			delete(missing, u.Request.MessageID)
		case <-timeout:
			t.Fatalf("%d of %d answers were lost", len(missing), n)
		}
	}
}

func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	const files, limit = 200, 4
	r := newRig(t, &reupload.Options{MaxInFlight: limit})
	answers := make(chan struct{})
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: answers}} })
	calls := make([]*call, files)
	for i := range calls {
		info, media := r.unseen(fmt.Sprintf("ID%d", i))
		calls[i] = r.begin(reupload.NewRequest(info, media.Image()))
	}
	r.asks(limit)
	if n := r.plugin.Stats().Waiting; n != files {
		t.Errorf("%d requests wait, want %d", n, files)
	}
	close(answers)
	for _, c := range calls {
		c.succeeds(t)
	}
	r.asked(files)
	if n := r.phone.MaxWaiting(); n != limit {
		t.Errorf("up to %d requests were out at once, want %d", n, limit)
	}
}

// The time in the queue does not count as time of the phone's.
func TestQueueTimeIsNotWaitingTime(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	r := newRig(t, &reupload.Options{MaxInFlight: 1, Timeout: timeout})
	info, media := r.unseen("FIRST")
	answer := make(chan struct{})
	r.phone.Script(info.ID, wabox.Answer{Result: wabox.Success, Hold: answer})
	first := r.begin(reupload.NewRequest(info, media.Image()))
	r.asks(1)
	info, media = r.unseen("SECOND")
	r.phone.Script(info.ID, wabox.Answer{None: true})
	second := r.begin(reupload.NewRequest(info, media.Image()))
	time.Sleep(timeout / 4)
	close(answer)
	first.succeeds(t)
	second.fails(t, reupload.ErrTimeout)
	if second.took < timeout*5/4 {
		t.Errorf("the second request waited for %s", second.took)
	}
}

// Whoever gets no place in the time that the phone would have says so.
func TestNoPlace(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{MaxInFlight: 1, Timeout: time.Second})
	info, media := r.unseen("FIRST")
	r.phone.Script(info.ID, wabox.Answer{None: true})
	first := r.begin(reupload.NewRequest(info, media.Image()))
	r.asks(1)
	var busy []*call
	for i := range 5 {
		info, media := r.unseen(fmt.Sprintf("ID%d", i))
		r.phone.Script(info.ID, wabox.Answer{None: true})
		busy = append(busy, r.begin(reupload.NewRequest(info, media.Image())))
	}
	first.fails(t, reupload.ErrTimeout)
	var n int
	for _, c := range busy {
		if _, err := c.end(); errors.Is(err, reupload.ErrBusy) {
			n++
		}
	}
	if n < 4 { // the first of them may have got the place in the last moment
		t.Errorf("%d of 5 were told that there was no place", n)
	}
}

// A refusal is remembered for downloads, and not for those who ask in so many words.
func TestRefusalsAreRemembered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer wabox.Answer
		want   error
	}{
		{"not found", wabox.Answer{Result: wabox.NotFound}, reupload.ErrNotFound},
		{"not found, in plain", wabox.Answer{ErrorCode: proto.String("2")}, reupload.ErrGeneral},
		{"undecryptable", wabox.Answer{Garbage: true}, reupload.ErrDecryption},
		{"general error", wabox.Answer{}, reupload.ErrGeneral},
		{"rejected", wabox.Answer{Ack: wabox.AckError("500")}, reupload.ErrRejected},
		{"nonsense", wabox.Answer{Result: wabox.Success, NoPath: true}, reupload.ErrInvalidAnswer},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer)
			for i := range 3 {
				_, err := r.client.Download(r.ctx(), p.image)
				cause := reupload.Cause(err)
				if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(cause, test.want) {
					t.Fatalf("got %v (cause: %v)", err, cause)
				}
				_, until, remembered := strings.Cut(cause.Error(), "until ")
				if remembered != (i > 0) {
					t.Errorf("download %d: the cause is %v", i, cause)
				}
				if at, err := time.Parse(time.RFC3339, strings.Trim(until, "()")); remembered && (err != nil || time.Until(at) < 30*time.Second) {
					t.Errorf("it is remembered until %q", until)
				}
			}
			r.asked(1)

			r.phone.Script(p.id(), test.answer, wabox.Answer{Result: wabox.Success})
			if c := r.requests(p.request()); c.err == nil && c.result.Status == reupload.StatusSuccess {
				t.Error("the phone was not asked at all")
			}
			r.asked(2)
			r.requests(p.request()).succeeds(t)
			r.asked(3)
			r.heals(p)
			r.asked(3)
		})
	}
}

func TestPausesCanBeShort(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		opts   reupload.Options
		answer wabox.Answer
	}{
		{"no refusal pause", reupload.Options{RefusalPause: -1}, wabox.Answer{Result: wabox.NotFound}},
		{"no silence pause", reupload.Options{SilencePause: -1}, wabox.Answer{}},
		{"short refusal pause", reupload.Options{RefusalPause: 50 * time.Millisecond}, wabox.Answer{Result: wabox.NotFound}},
		{"short silence pause", reupload.Options{SilencePause: 50 * time.Millisecond}, wabox.Answer{}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, &test.opts)
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer, wabox.Answer{Result: wabox.Success})
			if _, err := r.client.Download(r.ctx(), p.image); reupload.Cause(err) == nil {
				t.Fatal("it has healed")
			}
			until(t, "the phone is asked again", func() bool {
				_, err := r.client.Download(r.ctx(), p.image)
				return err == nil
			})
			r.asked(2)
		})
	}
}

// A bot that holds messages in a database of its own can ask for one, and download it then.
func TestRequestForAMessageThatTheIndexHasNeverSeen(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	info, media := r.unseen("ID")
	r.requests(reupload.NewRequest(info, media.Image())).succeeds(t)
	data, err := r.plugin.Download(r.ctx(), info, media.Image())
	if err != nil || !bytes.Equal(data, media.Plaintext) {
		t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
	}
	r.asked(1) // the new path is known
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
		{"not found", wabox.Answer{Result: wabox.NotFound}, true},
		{"not found, in plain", wabox.Answer{ErrorCode: proto.String("2")}, true},
		{"decryption error", wabox.Answer{Result: wabox.DecryptionError}, true},
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
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
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

func TestNoSecondRequestWithoutASecondAddress(t *testing.T) {
	t.Parallel()
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
}

// What comes of the first request while the second is out must not end the second.
func TestLateAnswerUnderTheFirstAddress(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		first wabox.Answer
	}{
		{"not found", wabox.Answer{Result: wabox.NotFound}},
		{"not found, twice", wabox.Answer{Result: wabox.NotFound, Repeat: 1}},
		{"not found, in plain", wabox.Answer{ErrorCode: proto.String("2")}},
		{"not found, in plain and twice", wabox.Answer{ErrorCode: proto.String("2"), Repeat: 1}},
		{"undecryptable, twice", wabox.Answer{Garbage: true, Repeat: 1}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
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
		{"not found, not found", wabox.Answer{Result: wabox.NotFound}, wabox.Answer{Result: wabox.NotFound}, reupload.StatusNotFound, nil},
		{"not found, rejected", wabox.Answer{Result: wabox.NotFound}, wabox.Answer{Ack: wabox.AckError("479")}, reupload.StatusNotFound, nil},
		{"undecryptable, rejected", wabox.Answer{Garbage: true}, wabox.Answer{Ack: wabox.AckError("479")}, reupload.StatusDecryptionError, nil},
		{"rejected, rejected", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{Ack: wabox.AckError("479")}, 0, reupload.ErrRejected},
		{"rejected, not found", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{Result: wabox.NotFound}, reupload.StatusNotFound, nil},
		{"rejected, general error", wabox.Answer{Ack: wabox.AckError("479")}, wabox.Answer{}, reupload.StatusGeneralError, nil},
		{"not found, silence", wabox.Answer{Result: wabox.NotFound}, wabox.Answer{None: true}, reupload.StatusNotFound, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, p := addressed(t, &reupload.Options{Timeout: 2 * time.Second}, wabox.Incoming{From: carol}, false)
			r.phone.Script(p.id(), test.first, test.second)
			result, err := r.requests(p.request()).end()
			if result.Status != test.status || !errors.Is(err, test.err) || test.err == nil && err != nil {
				t.Errorf("got %v, %v", result.Status, err)
			}
			r.asked(2)
		})
	}
}

// A leakyTransport puts the whole URL into its errors, as one does that is built on an http.Client.
type leakyTransport struct {
	base  http.RoundTripper
	fails string // a path
}

func (l leakyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == l.fails {
		return nil, &url.Error{Op: "Get", URL: req.URL.String(), Err: io.ErrUnexpectedEOF}
	}
	return l.base.RoundTrip(req)
}

// Media keys and direct paths are worth the file.
func TestNoSecretsInErrorsAndLog(t *testing.T) {
	t.Parallel()
	const query = "?ccb=11-4&oh=01_SECRETTOKEN&oe=7FFFFFFF&_nc_sid=5e03e0"
	heard := make(told, 100)
	r := newUnregisteredRig(t)
	r.register(heard.options(reupload.Options{
		Timeout:      time.Second,
		SilencePause: -1,
		RefusalPause: -1,
		HTTPClient:   &http.Client{Transport: leakyTransport{r.box.Transport(), "/v/secret-leaky"}},
	}))
	r.connect()
	secrets := map[string]string{"oh=": "a query", "SECRETTOKEN": "a query", "secret-": "a path", "evil": "a path"}
	var texts []string
	for _, answer := range []wabox.Answer{
		{Result: wabox.Success},
		{Result: wabox.NotFound},
		{Result: wabox.NotFound, WithPath: true},
		{Garbage: true},
		{WrongKey: true},
		{Result: wabox.Success, IV: make([]byte, 16)},
		{Ack: wabox.AckError("479")},
		{None: true},
		{Result: wabox.Success, StanzaID: proto.String("secret-other")},
		{Result: wabox.Success, DirectPath: "@evil.example/secret-a" + query},
		{Result: wabox.Success, DirectPath: "/secret-b\n" + query},
		{Result: wabox.Success, DirectPath: "/secret-%zz" + query},
		{Result: wabox.Success, DirectPath: "/v/secret-c" + query},     // there is nothing
		{Result: wabox.NotFound, DirectPath: "/v/secret-c" + query},    // there is nothing
		{Result: wabox.Success, DirectPath: "/v/secret-d" + query},     // forbidden
		{Result: wabox.Success, DirectPath: "/v/secret-leaky" + query}, // the transport fails
	} {
		p := r.receivePicture()
		r.box.SetStatus("/v/secret-d", http.StatusForbidden, "secret-body")
		r.phone.Script(p.id(), answer)
		_, err := r.client.Download(r.ctx(), p.image)
		if cause := reupload.Cause(err); cause != nil {
			texts = append(texts, cause.Error())
		}
		c := r.requests(p.request())
		texts = append(texts, fmt.Sprint(c.err), fmt.Sprint(c.result.Err()))
		if path, _, found := strings.Cut(c.result.DirectPath, "?"); found {
			secrets[path] = "a path"
		}
		short := p.request()
		short.MediaKey = short.MediaKey[:31]
		texts = append(texts, fmt.Sprint(r.requests(short).err))
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success})
		r.requests(p.request()).succeeds(t)
		key := p.MediaKey[:31]
		secrets[p.Path()] = "a path"
		secrets[hex.EncodeToString(key)], secrets[strings.ToUpper(hex.EncodeToString(key))] = "a media key", "a media key"
		secrets[base64.StdEncoding.EncodeToString(key)[:40]], secrets[base64.URLEncoding.EncodeToString(key)[:40]] = "a media key", "a media key"
		secrets[string(key)], secrets[fmt.Sprint(key[:16])[1:40]] = "a media key", "a media key"
	}
	// A late one, too.
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{None: true})
	c := r.requests(p.request())
	c.fails(t, reupload.ErrTimeout)
	requests := r.phone.Requests()
	r.answer(requests[len(requests)-1], wabox.Answer{Result: wabox.Success})
	until(t, "the late answer", func() bool { return r.plugin.Stats().Late > 0 })
	r.heals(p)
	r.plugin.Close()

	for _, text := range texts {
		for secret, what := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("an error holds %s: %q", what, text)
			}
		}
	}
	for line := range strings.Lines(r.log.all()) {
		if _, ours, found := strings.Cut(line, " Reupload: "); found {
			for secret, what := range secrets {
				if strings.Contains(ours, secret) {
					t.Errorf("the log holds %s: %q", what, line)
				}
			}
		}
	}
	if r.log.count("", " Reupload: ") == 0 {
		t.Error("nothing was logged at all")
	}
}
