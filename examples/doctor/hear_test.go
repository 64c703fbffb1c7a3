package main

import (
	"bytes"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
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

// retryError is an answer that is not sealed.
func retryError(id string, at int64, more waBinary.Attrs) *waBinary.Node {
	node := &waBinary.Node{
		Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "id": id, "t": strconv.FormatInt(at, 10)},
		Content: []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": "2"}}},
	}
	maps.Copy(node.Attrs, more)
	return node
}

// An answer has waited at WhatsApp if it comes after a login and before WhatsApp says that this was
// all, or if it says so itself.
func TestWhatHasWaited(t *testing.T) {
	t.Parallel()
	f := &file{ID: "3EB0A", Tries: []*try{{}}}
	e := newEar(&state{Files: []*file{f}})
	end := &waBinary.Node{Tag: "ib", Content: []waBinary.Node{{Tag: "offline", Attrs: waBinary.Attrs{"count": "1"}}}}
	other := &waBinary.Node{Tag: "ib", Content: []waBinary.Node{{Tag: "dirty"}}}
	login := &waBinary.Node{Tag: "success"}
	var want []bool
	for i, step := range []struct {
		before []*waBinary.Node
		more   waBinary.Attrs
		queued bool
	}{
		{nil, nil, true},
		{[]*waBinary.Node{other}, nil, true},
		{[]*waBinary.Node{end}, nil, false},
		{nil, waBinary.Attrs{"offline": "0"}, true},
		{nil, nil, false},
		{[]*waBinary.Node{login}, nil, true},
		{[]*waBinary.Node{end}, nil, false},
	} {
		for _, node := range step.before {
			e.node(node)
		}
		e.node(retryError(f.ID, int64(i+1), step.more))
		want = append(want, step.queued)
	}
	var got []bool
	for _, a := range f.Tries[0].Answers {
		got = append(got, a.Queued)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// No number of answers makes a record that cannot be read.
func TestManyAnswers(t *testing.T) {
	t.Parallel()
	now := time.Now()
	f := &file{ID: "3EB0A", Kind: wabox.KindDirect, Chat: anna, Sent: now, Tries: []*try{{Form: wabox.Form{To: wabox.ByNumber, Chat: wabox.ByNumber}, At: now}}}
	s := &state{Watched: now, Files: []*file{f}, Labels: make(map[string]int), Others: make(map[string]string)}
	e := newEar(s)
	for i := range 100 {
		e.node(retryError(f.ID, now.Unix()+int64(i), nil))
	}
	if err := s.toRecord(wabox.MadeWith{}).Check(); err != nil || len(f.Tries[0].Answers) == 0 {
		t.Errorf("of %d answers: %v", len(f.Tries[0].Answers), err)
	}
}

// The first path that the phone tells is the one whose life is watched.
func TestFirstPathIsKept(t *testing.T) {
	t.Parallel()
	key := bytes.Repeat([]byte{7}, 32)
	f := &file{ID: "3EB0A", Tries: []*try{{}}}
	e := newEar(&state{Files: []*file{f}})
	e.keys[f.ID] = key
	for i, path := range []string{"/v/first?oh=1", "/v/second?oh=2"} {
		plaintext, err := proto.Marshal(&waMmsRetry.MediaRetryNotification{
			StanzaID: &f.ID, DirectPath: &path, Result: waMmsRetry.MediaRetryNotification_SUCCESS.Enum(),
		})
		if err != nil {
			t.Fatal(err)
		}
		iv := bytes.Repeat([]byte{byte(i)}, ivSize)
		ciphertext, err := gcmutil.Encrypt(retryKey(key), iv, plaintext, []byte(f.ID))
		if err != nil {
			t.Fatal(err)
		}
		e.node(&waBinary.Node{
			Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "id": f.ID, "t": "1"},
			Content: []waBinary.Node{{Tag: "encrypt", Content: []waBinary.Node{
				{Tag: "enc_p", Content: ciphertext}, {Tag: "enc_iv", Content: iv},
			}}},
		})
	}
	if len(f.Tries[0].Answers) != 2 || f.Told != "/v/first?oh=1" {
		t.Errorf("after %+v the path is %s", f.Tries[0].Answers, f.Told)
	}
}

// A message is asked for again if the phone could not decrypt the request, and has not told a path
// all the same.
func TestWantsAgain(t *testing.T) {
	t.Parallel()
	tries := func(result string) []*try { return []*try{{}, {Answers: []answer{{Result: result}}}} }
	for want, files := range map[bool][]*file{
		true: {
			{Kind: wabox.KindDirect, Tries: tries("DECRYPTION_ERROR")},
			{Kind: wabox.KindGroup, Tries: tries(wabox.Unreadable)},
		},
		false: {
			{Kind: wabox.KindDirect, Tries: tries("NOT_FOUND")},
			{Kind: wabox.KindDirect, Tries: []*try{{}}},
			{Kind: wabox.KindDirect, Tries: tries("DECRYPTION_ERROR"), Told: "/v/t62"},
			{Kind: wabox.KindDirect, Tries: tries("DECRYPTION_ERROR"), Resent: "nothing"},
			{Kind: wabox.KindHistory, Tries: tries("DECRYPTION_ERROR")},
		},
	} {
		for _, f := range files {
			if got := f.wantsAgain(); got != want {
				t.Errorf("%+v: %t", f, got)
			}
		}
	}
}

// A nonce of another size opens nothing, and ends nothing.
func TestNonceOfAnotherSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int{0, 11, 16, 1000} {
		a, path := read(&waBinary.Node{Tag: "notification", Attrs: waBinary.Attrs{"id": "3EB0A"}, Content: []waBinary.Node{
			{Tag: "encrypt", Content: []waBinary.Node{
				{Tag: "enc_p", Content: make([]byte, 64)}, {Tag: "enc_iv", Content: make([]byte, size)},
			}},
		}}, make([]byte, 32))
		if a.Result != wabox.Unreadable || path != "" {
			t.Errorf("with %d bytes: %+v, %q", size, a, path)
		}
	}
}

func TestAttrNumber(t *testing.T) {
	t.Parallel()
	for value, want := range map[any]int{"479": 479, "998": 998, "999": 999, "1000": 999, "0": 999, "-1": 999, "": 999, "x": 999, 479: 999, nil: 0} {
		node := &waBinary.Node{Attrs: waBinary.Attrs{"error": value}}
		if value == nil {
			node.Attrs = nil
		}
		if got := attrNumber(node, "error"); got != want {
			t.Errorf("%v becomes %d, want %d", value, got, want)
		}
	}
}
