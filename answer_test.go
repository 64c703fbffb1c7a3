package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestEveryAnswerIsAResult(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		for _, test := range tests {
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer)
			result, err := r.requests(p.request()).end()
			if err != nil {
				t.Errorf("%s: got %v instead of an answer", test.name, err)
				continue
			}
			if result.Status != test.status {
				t.Errorf("%s: the status is %v, want %v", test.name, result.Status, test.status)
			}
			if refused := result.Err(); !errors.Is(refused, test.err) || test.cause != (refused != test.err) {
				t.Errorf("%s: the result's error is %v, want %v, with more: %t", test.name, refused, test.err, test.cause)
			}
			if test.path != (result.DirectPath != "") {
				t.Errorf("%s: there is a path: %t", test.name, !test.path)
			}
			if !bytes.Equal(result.MessageSecret, test.answer.MessageSecret) {
				t.Errorf("%s: the message secret is %q", test.name, result.MessageSecret)
			}
		}
		r.asked(len(tests))
		r.heals(r.receivePicture()) // the client still works
		if n := r.log.count("ERROR", ""); n > 0 {
			t.Errorf("errors were logged:\n%s", r.log.all())
		}
	})
}

// What neither a seal nor the chat vouches for can be about anybody's message.
func TestAnswerThatNothingVouchesFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.heals(r.receivePicture()) // it is known from now on which name of the account the phone answers to
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
	})
}

// A phone that writes the names in another way vouches for an answer all the same.
func TestAnswerUnderAnotherServer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.heals(r.receivePicture()) // it is known from now on which name of the account the phone answers to
		for name, in := range map[string]wabox.Incoming{"a chat": {}, "a group": {Chat: carolGroup, From: bob}} {
			p := r.receivePictureIn(in)
			attr := "jid"
			if !in.Chat.IsEmpty() {
				attr = "participant"
			}
			r.phone.Script(p.id(), wabox.Answer{ErrorCode: proto.String("3"), RMR: func(n *waBinary.Node) {
				given, ok := n.Attrs[attr].(types.JID)
				if !ok {
					t.Errorf("%s: there is no %s", name, attr)
				}
				n.Attrs[attr] = types.JID{User: given.User, Server: types.HostedServer, Device: 99}
			}})
			c := r.requests(p.request())
			if c.end(); c.err != nil || c.result.Err() != reupload.ErrDecryption {
				t.Errorf("%s: got %v, %v", name, c.result, c.err)
			}
		}
	})
}

// Nor has it to name the sender as the request did, as long as the chat is the request's.
func TestAnswerThatNamesTheSenderOtherwise(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePictureIn(wabox.Incoming{Chat: carolGroup, From: bob})
		r.phone.Script(p.id(), wabox.Answer{ErrorCode: proto.String("3"), RMR: func(n *waBinary.Node) {
			n.Attrs["participant"] = carolLID
		}})
		c := r.requests(p.request())
		if c.end(); c.err != nil || c.result.Err() != reupload.ErrDecryption {
			t.Errorf("got %v, %v", c.result, c.err)
		}
	})
}

// A request that has its answer does not stand in the way of the next one under its message's id.
func TestAnswerUnderAnIDThatWasAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		first, second := r.receivePictureIn(wabox.Incoming{ID: "ONE", From: alice}), r.receivePictureIn(wabox.Incoming{ID: "ONE", From: bob})
		r.phone.Script("ONE", wabox.Answer{Result: wabox.Success}, wabox.Answer{ErrorCode: proto.String("3")})
		r.requests(first.request()).succeeds(t)
		c := r.requests(second.request())
		if c.end(); c.err != nil || c.result.Err() != reupload.ErrDecryption {
			t.Errorf("got %v, %v", c.result, c.err)
		}
	})
}

func TestAnswerThatMakesNoSense(t *testing.T) {
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
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		for _, test := range tests {
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer)
			c := r.requests(p.request())
			c.fails(t, reupload.ErrInvalidAnswer)
			if !reflect.ValueOf(c.result).IsZero() {
				t.Errorf("%s: there is a result: %v", test.name, c.result.Status)
			}
		}
		if asked := r.box.Asked(); len(asked) > 0 {
			t.Errorf("the CDN was asked for %+v", asked)
		}
		for _, test := range tests {
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer)
			_, err := r.client.Download(r.ctx(), p.image)
			if cause := reupload.Cause(err); !errors.Is(cause, reupload.ErrInvalidAnswer) {
				t.Errorf("%s: the cause is %v", test.name, cause)
			}
		}
		if asked := r.box.Asked(); len(asked) != len(tests) { // each dead path once
			t.Errorf("the CDN was asked %d times for %d pictures", len(asked), len(tests))
		}
		r.heals(r.receivePicture())
	})
}

// A message can hold two files, which have a media key each. Nothing but that tells whose
// an answer is.
func TestTwoFilesOfOneMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		info, first := r.unseen("ID")
		_, second := r.unseen("ID")
		answer := make(chan struct{})
		r.phone.Script("ID", wabox.Answer{Result: wabox.Success, Hold: answer}, wabox.Answer{Result: wabox.NotFound, Hold: answer})
		a := r.begin(reupload.NewRequest(info, first.Image()))
		r.asks(1)
		b := r.begin(reupload.NewRequest(info, second.Image()))
		r.asks(2) // the server has acknowledged the first
		close(answer)
		a.succeeds(t)
		if result, err := b.end(); err != nil || result.Err() != reupload.ErrNotFound {
			t.Errorf("the second file: %v, %v", result.Status, err)
		}
	})
}

func TestDuplicateAnswersAreHarmless(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// WhatsApp delivers an answer again that was not acked, which can be when the next request for the
// file is already under way.
func TestRepeatedAnswerIsNotTheNextOnes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// An answer that meets its caller's leaving is either the caller's or a late one. It is never lost.
func TestAnswerThatMeetsALeavingCallerIsKept(t *testing.T) {
	t.Parallel()
	const n = 300
	heard := make(told, 2*n)
	r := newRig(t, heard.options(reupload.Options{Pace: -1}))
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
	timeout := time.After(patience)
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

// An error about the same message id in another chat is not about the request that waits, and the
// one about it counts.
func TestErrorOfAnotherChatIsNotTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		foreign := func(n *waBinary.Node) { n.Attrs["jid"] = aGroup }
		r.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{
				{ErrorCode: proto.String("2"), RMR: foreign},
				{Garbage: true, RMR: foreign},
				{Result: wabox.Success},
			}
		})
		r.heals(p)
		r.asked(1)
	})
}

// Two files of one message are asked for one after the other, and the error about the first says
// nothing of the second.
func TestErrorOfAnotherFileIsNotTaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
		r.box.Expire(one)
		r.box.Expire(two)
		lost := wabox.Answer{ErrorCode: proto.String("2"), Edit: func(n *waBinary.Node) { n.Attrs["t"] = int64(1_700_000_000) }}
		r.phone.Script(evt.Info.ID, lost)
		if _, err := r.client.Download(r.ctx(), one.Image()); !errors.Is(reupload.Cause(err), reupload.ErrGeneral) {
			t.Fatalf("the first file: %v (cause: %v)", err, reupload.Cause(err))
		}
		r.phone.Script(evt.Info.ID)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{lost, {Result: wabox.Success}} }) // the same error again
		if data, err := r.client.Download(r.ctx(), two.Video()); err != nil || !bytes.Equal(data, two.Plaintext) {
			t.Errorf("the second file: %v (cause: %v)", err, reupload.Cause(err))
		}
	})
}

// A late error under a message id belongs to no request: two files were asked for, and it does not
// say which it is about.
func TestLateErrorIsNobodys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{SilencePause: -1})
		one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
		r.box.Expire(one)
		r.box.Expire(two)
		r.phone.Script(evt.Info.ID, wabox.Answer{None: true})
		_, _ = r.client.Download(r.ctx(), one.Image())
		request := r.asks(1)[0]
		r.answer(request, wabox.Answer{ErrorCode: proto.String("2")})
		r.marker()
		r.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{ErrorCode: proto.String("2")}, {Result: wabox.Success, Delay: 50 * time.Millisecond}}
		})
		r.phone.Script(evt.Info.ID)
		if _, err := r.client.Download(r.ctx(), two.Video()); err != nil {
			t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
		}
	})
}

// An answer without a stanza id is authentic all the same.
func TestAnswerWithoutAStanzaID(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, StanzaID: proto.String("")})
		r.heals(p)
	})
}

// A late answer about one file of a message is no answer about another one that is waited for.
func TestLateAnswerAboutAnotherFileOfTheMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(told, 10)
		r := newRig(t, heard.options(reupload.Options{}))
		one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
		r.box.Expire(one)
		r.box.Expire(two)
		answer := make(chan struct{})
		nothing := wabox.Answer{None: true} // under either name of the account
		r.phone.Script(evt.Info.ID, nothing, nothing, wabox.Answer{Result: wabox.Success, Hold: answer})
		done := make(chan error, 1)
		go func() { _, err := r.client.Download(r.ctx(), one.Image()); done <- err }()
		request := r.asks(1)[0]
		<-done // it has given up
		go func() { _, err := r.client.Download(r.ctx(), two.Video()); done <- err }()
		r.asks(3)
		r.answer(request, wabox.Answer{Result: wabox.Success})
		if u := heard.next(t); !u.Late {
			t.Errorf("told of %+v", u)
		}
		close(answer)
		if err := <-done; err != nil {
			t.Errorf("the file that is waited for: %v (cause: %v)", err, reupload.Cause(err))
		}
		if _, err := r.client.Download(r.ctx(), one.Image()); err != nil {
			t.Errorf("the file that came late: %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(3)
	})
}

// Answers without ciphertext have nothing that tells them apart.
func TestEmptyAnswerTwice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Edit: func(n *waBinary.Node) {
			n.Content = []waBinary.Node{n.GetChildByTag("rmr")}
		}})
		for range 2 {
			result, err := r.requests(p.request()).end()
			if err != nil || !errors.Is(result.Err(), reupload.ErrDecryption) {
				t.Errorf("got %v, %v", result.Status, err)
			}
		}
	})
}
