package wabox_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	evt := received(t, b, media, wabox.Incoming{})
	// fails is for answers that whatsmeow cannot decrypt.
	fails := func(t *testing.T, evt *events.MediaRetry) {
		if answer, err := whatsmeow.DecryptMediaRetryNotification(evt, media.MediaKey); err == nil {
			t.Errorf("decrypted %v", answer)
		}
	}
	decrypts := func(check func(*waMmsRetry.MediaRetryNotification) bool) func(*testing.T, *events.MediaRetry) {
		return func(t *testing.T, evt *events.MediaRetry) {
			answer, err := whatsmeow.DecryptMediaRetryNotification(evt, media.MediaKey)
			if err != nil || !check(answer) {
				t.Errorf("got %v, %v", answer, err)
			}
		}
	}
	tests := []struct {
		name   string
		answer wabox.Answer
		check  func(*testing.T, *events.MediaRetry)
	}{
		{"zero", wabox.Answer{}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.Result != nil && n.GetResult() == wabox.GeneralError && n.DirectPath == nil && n.GetStanzaID() == evt.Info.ID
		})},
		{"success", wabox.Answer{Result: wabox.Success}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.GetResult() == wabox.Success && n.DirectPath != nil
		})},
		{"unknown result", wabox.Answer{Result: 17}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.GetResult() == 17
		})},
		{"no result", wabox.Answer{Result: wabox.Success, NoResult: true}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.Result == nil && n.DirectPath != nil
		})},
		{"no path", wabox.Answer{Result: wabox.Success, NoPath: true}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.DirectPath == nil
		})},
		{"with path", wabox.Answer{Result: wabox.DecryptionError, WithPath: true}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.GetResult() == wabox.DecryptionError && n.DirectPath != nil
		})},
		{"direct path", wabox.Answer{DirectPath: "@host/x"}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.GetDirectPath() == "@host/x"
		})},
		{"stanza id", wabox.Answer{StanzaID: proto.String("OTHER")}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.GetStanzaID() == "OTHER"
		})},
		{"secret", wabox.Answer{MessageSecret: []byte("s")}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return string(n.GetMessageSecret()) == "s"
		})},
		{"IV", wabox.Answer{IV: make([]byte, 12)}, func(t *testing.T, evt *events.MediaRetry) {
			if !bytes.Equal(evt.IV, make([]byte, 12)) {
				t.Errorf("IV is %x", evt.IV)
			}
			decrypts(func(*waMmsRetry.MediaRetryNotification) bool { return true })(t, evt)
		}},
		{"long IV", wabox.Answer{IV: make([]byte, 16)}, func(t *testing.T, evt *events.MediaRetry) {
			if len(evt.IV) != 16 {
				t.Errorf("IV is %x", evt.IV)
			}
		}},
		{"empty IV", wabox.Answer{IV: []byte{}}, func(t *testing.T, evt *events.MediaRetry) {
			if len(evt.IV) != 0 {
				t.Errorf("IV is %x", evt.IV)
			}
		}},
		{"wrong key", wabox.Answer{WrongKey: true}, fails},
		{"garbage", wabox.Answer{Garbage: true}, fails},
		{"error", wabox.Answer{ErrorCode: proto.String("1")}, func(t *testing.T, evt *events.MediaRetry) {
			if evt.Error == nil || evt.Error.Code != 1 || evt.Ciphertext != nil {
				t.Errorf("got %+v", evt)
			}
		}},
		{"error without code", wabox.Answer{ErrorCode: proto.String("")}, func(t *testing.T, evt *events.MediaRetry) {
			if evt.Error == nil || evt.Error.Code != 0 {
				t.Errorf("got %+v", evt)
			}
		}},
		{"rmr", wabox.Answer{RMR: func(n *waBinary.Node) { n.Attrs["jid"] = account.LID }}, func(t *testing.T, evt *events.MediaRetry) {
			if evt.ChatID != account.LID {
				t.Errorf("chat is %v", evt.ChatID)
			}
		}},
		{"edit", wabox.Answer{Edit: func(n *waBinary.Node) { n.Attrs["id"] = "EDITED" }}, func(t *testing.T, evt *events.MediaRetry) {
			if evt.MessageID != "EDITED" {
				t.Errorf("id is %v", evt.MessageID)
			}
		}},
		{"repeat", wabox.Answer{Repeat: 2, Result: wabox.Success}, func(t *testing.T, evt *events.MediaRetry) {
			for range 2 {
				if again := next[*events.MediaRetry](t, b); !bytes.Equal(again.Ciphertext, evt.Ciphertext) {
					t.Error("not the same again")
				}
			}
		}},
		// whatsmeow drops one without <rmr>; the next answer comes all the same.
		{"no rmr", wabox.Answer{NoRMR: true}, nil},
		{"after all that", wabox.Answer{Result: wabox.Success, Delay: time.Millisecond, AckDelay: time.Millisecond}, decrypts(func(n *waMmsRetry.MediaRetryNotification) bool {
			return n.GetResult() == wabox.Success
		})},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			account.Script(evt.Info.ID, test.answer)
			if err := b.SendMediaRetryReceipt(t.Context(), &evt.Info, media.MediaKey); err != nil {
				t.Fatal(err)
			}
			if test.check != nil {
				test.check(t, next[*events.MediaRetry](t, b))
			}
		})
	}
}

func TestScriptOrder(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	evt := received(t, b, media, wabox.Incoming{})
	account.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: 9}} })
	ask := func() waMmsRetry.MediaRetryNotification_ResultType {
		answer, err := retry(t, b, &evt.Info, media.MediaKey)
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetResult()
	}
	if got := ask(); got != 9 {
		t.Errorf("got %v from the phone's own behaviour", got)
	}
	account.Script(evt.Info.ID, wabox.Answer{Result: wabox.NotFound}, wabox.Answer{Result: wabox.Success})
	for i, want := range []waMmsRetry.MediaRetryNotification_ResultType{wabox.NotFound, wabox.Success, wabox.Success} {
		if got := ask(); got != want {
			t.Errorf("answer %d is %v, want %v", i, got, want)
		}
	}
	account.Script(evt.Info.ID)
	account.Phone(nil)
	if got := ask(); got != wabox.Success {
		t.Errorf("got %v by default", got)
	}
	account.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.GeneralError}, {Result: wabox.Success}}
	})
	if got := ask(); got != wabox.GeneralError {
		t.Errorf("got %v first", got)
	}
	second, err := whatsmeow.DecryptMediaRetryNotification(next[*events.MediaRetry](t, b), media.MediaKey)
	if err != nil || second.GetResult() != wabox.Success {
		t.Errorf("got %v, %v second", second, err)
	}
}

func TestAcks(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	evt := received(t, b, media, wabox.Incoming{})
	// Acks cannot be told apart by id alone: the delivery receipt's has the same.
	acks := make(chan *waBinary.Node, 10)
	box.OnEvent(func(evt wabox.Event) {
		if evt.What == wabox.NodeOut && evt.Node.Tag == "ack" && evt.Node.Attrs["type"] == "server-error" {
			acks <- evt.Node
		}
	})
	ask := func(answer wabox.Answer) <-chan *waBinary.Node {
		t.Helper()
		account.Script(evt.Info.ID, answer)
		if err := b.SendMediaRetryReceipt(t.Context(), &evt.Info, media.MediaKey); err != nil {
			t.Fatal(err)
		}
		return acks
	}
	ack := <-ask(wabox.Answer{None: true})
	if ack.Attrs["class"] != "receipt" || ack.Attrs["type"] != "server-error" || ack.Attrs["error"] != nil || ack.Attrs["from"] != account.PN {
		t.Errorf("got %s", ack)
	}
	ack = <-ask(wabox.Answer{Ack: wabox.AckError("479"), Result: wabox.Success})
	if ack.Attrs["error"] != "479" {
		t.Errorf("got %s", ack)
	}
	unacked := ask(wabox.Answer{Ack: wabox.AckNone, Result: wabox.Success})
	next[*events.MediaRetry](t, b)
	select {
	case ack := <-unacked:
		t.Errorf("got %s", ack)
	default:
	}
	if got := account.MaxWaiting(); got != 2 { // the first never got an answer
		t.Errorf("%d requests waited at once, want 2", got)
	}

	requests := account.Requests()
	if err := account.SendAnswer(requests[0], wabox.Answer{Result: wabox.Success}); err != nil {
		t.Fatal(err)
	}
	if got := next[*events.MediaRetry](t, b).MessageID; got != evt.Info.ID {
		t.Errorf("late answer is for %s", got)
	}
}

func TestOnReceipt(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	account := box.NewAccount()
	b := login(t, account)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	evt := received(t, b, media, wabox.Incoming{})

	// The request is dropped; then the connection breaks in place of an ack, and the
	// answer is held.
	account.OnReceipt(func(r wabox.Request) bool {
		if r.ID != evt.Info.ID {
			t.Errorf("got %s", r.ID)
		}
		if account.RequestCount() == 1 {
			return true
		}
		account.Cut()
		return false
	})
	for range 2 {
		if err := b.SendMediaRetryReceipt(t.Context(), &evt.Info, media.MediaKey); err != nil {
			t.Fatal(err)
		}
	}
	if requests, err := account.WaitRequests(withPatience(t), 2); err != nil || len(requests) != 2 {
		t.Fatalf("got %d requests, %v", len(requests), err)
	}
	next[*events.Disconnected](t, b)
	if got := next[*events.MediaRetry](t, b).MessageID; got != evt.Info.ID {
		t.Errorf("got %s", got)
	}
	if got := account.Logins(); got != 2 {
		t.Errorf("logins: %d, want 2", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := account.WaitRequests(ctx, 3); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
