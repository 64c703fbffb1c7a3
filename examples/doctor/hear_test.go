package main

import (
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// Only the ack of a request is one, although others have ids, too.
func TestAcks(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tag, class, kind string
		isAck            bool
	}{
		{"ack", "receipt", "server-error", true}, {"ack", "message", "server-error", false}, {"ack", "receipt", "read", false},
		{"ack", "receipt", "", false}, {"receipt", "receipt", "server-error", false},
	} {
		f := &file{ID: "3EB0A", Tries: []*try{{}}}
		e := newEar(&state{Files: []*file{f}})
		e.node(&waBinary.Node{Tag: test.tag, Attrs: waBinary.Attrs{"id": f.ID, "class": test.class, "type": test.kind}})
		if f.Tries[0].Ack.IsZero() == test.isAck {
			t.Errorf("%+v: acknowledged %v", test, !test.isAck)
		}
	}
}

// A part of the history belongs to the last request for it, if there was one, and if the own phone
// has sent it.
func TestHistoryPartBelongsToARequest(t *testing.T) {
	t.Parallel()
	own, other := types.NewJID("491700000001", types.DefaultUserServer), types.NewADJID("491700000001", 0, 7)
	for name, test := range map[string]struct {
		tries  []*try
		sender types.JID
		fromMe bool
		parts  int
	}{
		"asked for":      {[]*try{{}, {}}, own, true, 1},
		"not asked for":  {nil, own, true, 0},
		"other device":   {[]*try{{}, {}}, other, true, 0},
		"another person": {[]*try{{}, {}}, own, false, 0},
	} {
		f := &file{ID: "3EB0A", Tries: test.tries}
		e := newEar(&state{Files: []*file{f}})
		e.message(&events.Message{
			Info: types.MessageInfo{MessageSource: types.MessageSource{Sender: test.sender, IsFromMe: test.fromMe}},
			Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
				HistorySyncNotification: &waE2E.HistorySyncNotification{OriginalMessageID: proto.String(f.ID)},
			}},
		}, time.Now())
		got := 0
		for i, try := range f.Tries {
			if got += len(try.Parts); len(try.Parts) > 0 && i < len(f.Tries)-1 {
				t.Errorf("%s: it belongs to request %d", name, i)
			}
		}
		if got != test.parts || e.heard != test.parts {
			t.Errorf("%s: %d parts, and %d things heard", name, got, e.heard)
		}
	}
}
