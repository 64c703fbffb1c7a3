package reupload

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// Small things that cannot be told apart from outside, or only with luck.

// Every notification passes here, and no other one is taken for an answer.
func TestOnlyMediaRetryIsAnAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		tag, kind, id string
		is            bool
	}{
		{"notification", "mediaretry", "id", true}, {"notification", "devices", "id", false}, {"receipt", "mediaretry", "id", false},
		{"notification", "mediaretry", "", false}, {"notification", "mediaretry", string(make([]byte, maxMessageID)), true},
		{"notification", "mediaretry", string(make([]byte, maxMessageID+1)), false},
	} {
		node := &waBinary.Node{Tag: test.tag, Attrs: waBinary.Attrs{"type": test.kind, "id": test.id}}
		if _, is := parseAnswer(node); is != test.is {
			t.Errorf("<%s type=%q> with an id of %d bytes is an answer: %t", test.tag, test.kind, len(test.id), is)
		}
	}
}

// A picture is found under ten quotes, and not under any number of them.
func TestQuotesAreFollowedSoFar(t *testing.T) {
	t.Parallel()
	picture := file(1)
	for quotes, want := range map[int]int{0: 1, 1: 1, 10: 1, 11: 0, 1000: 0} {
		msg := &waE2E.Message{ImageMessage: &waE2E.ImageMessage{
			MediaKey: picture.MediaKey, FileEncSHA256: picture.FileEncSHA256, DirectPath: proto.String("/a"),
		}}
		for range quotes {
			msg = &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{ContextInfo: &waE2E.ContextInfo{
				StanzaID: proto.String("quoted"), Participant: proto.String(stageChat.String()), QuotedMessage: msg,
			}}}
		}
		w := walker{isOwn: func(types.JID) bool { return false }}
		info := &types.MessageInfo{ID: "id", MessageSource: types.MessageSource{Chat: stageChat, Sender: stageChat}}
		if found := w.mediaOf(info, msg); len(found) != want {
			t.Errorf("under %d quotes %d files are found, want %d", quotes, len(found), want)
		}
	}
}

// What Options.Lookup has told is in the index from then on, with the file that it was asked for.
func TestLookupIsRemembered(t *testing.T) {
	t.Parallel()
	known, asked := file(1), 0
	p := newPlugin(whatsmeow.NewClient(new(store.Device), nil), &Options{Lookup: func(context.Context, []byte) ([]Request, error) {
		asked++
		return []Request{{MessageID: "no key"}, known.Request}, nil
	}})
	defer p.cancel(nil)
	p.sender.identity.Store(&account{pn: stageOwn})
	file := download{hash: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="} // 32 times 1
	known.FileEncSHA256 = file.fileEncSHA256()
	for range 2 {
		found, _ := p.messagesOf(t.Context(), file)
		if !slices.EqualFunc(found, []Entry{known}, func(c candidate, e Entry) bool { return c.entry.same(&e) }) {
			t.Errorf("found are %v", found)
		}
	}
	if asked != 1 {
		t.Errorf("it is asked %d times", asked)
	}
}

// User and server of a JID have so many bytes together.
func TestJIDsAreOfBoundedSize(t *testing.T) {
	t.Parallel()
	for size, want := range map[int]error{maxJID: nil, maxJID + 1: ErrInvalidRequest} {
		user := strings.Repeat("1", size-len(types.GroupServer))
		chat, sender := types.NewJID(user, types.GroupServer), types.NewJID(user, types.GroupServer)
		for _, req := range []Request{{Chat: chat, Participant: stageChat}, {Chat: types.StatusBroadcastJID, Participant: sender}} {
			req.MessageID, req.MediaKey = "id", file(1).MediaKey
			if _, err := req.normalize(); !errors.Is(err, want) {
				t.Errorf("with %d bytes: %v, want %v", size, err, want)
			}
		}
	}
}

// A lineLog keeps what is logged for the bot's owner to read.
type lineLog struct {
	waLog.Logger
	lines *[]string
}

func (l lineLog) Infof(format string, args ...any) {
	*l.lines = append(*l.lines, fmt.Sprintf(format, args...))
}
func (l lineLog) Warnf(format string, args ...any) { l.Infof("warning: "+format, args...) }
func (l lineLog) Sub(string) waLog.Logger          { return l }

func newOfflinePlugin(t *testing.T, opts *Options) *Plugin {
	p, err := Register(whatsmeow.NewClient(&store.Device{}, nil), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// A login is seen before whatsmeow tells of it: messages can come before its event.
func TestLoginIsSeenAtOnce(t *testing.T) {
	t.Parallel()
	p := newOfflinePlugin(t, nil)
	own := types.NewADJID("100", 0, 7)
	p.client.Store.ID = &own
	p.tapped(&waBinary.Node{Tag: "success"})
	if p.sender.ownID() != stageOwn || !p.sender.wasOnline.Load() {
		t.Errorf("logged in is %v, online: %t", p.sender.ownID(), p.sender.wasOnline.Load())
	}
	p.tapped(&waBinary.Node{Tag: "failure", Attrs: waBinary.Attrs{"reason": "401"}})
	if !p.sender.ownID().IsEmpty() {
		t.Error("a logout is not seen")
	}
}

// A media client that the bot sets is wrapped with the next events, if there is no tap to see nodes.
func TestEventsTellOfANewMediaClient(t *testing.T) {
	t.Parallel()
	p := newOfflinePlugin(t, nil)
	p.client.SetMediaHTTPClient(&http.Client{})
	for range 2 { // it may be just at it
		p.handle(&events.AppState{})
	}
	if current, _ := mediaClient(p.client); !isOurs(current) {
		t.Error("the new media client is not wrapped")
	}
}

func TestRegisterSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	for want, index := range map[string]Index{"index in memory, which forgets": nil, "index *reupload.MemoryIndex": NewMemoryIndex(1)} {
		var lines []string
		newOfflinePlugin(t, &Options{Index: index, Log: lineLog{waLog.Noop, &lines}})
		if len(lines) != 1 || !strings.Contains(lines[0], want) || !strings.Contains(lines[0], "everything works") {
			t.Errorf("it says %q, want %q", lines, want)
		}
	}
}

// A history sync can be long. Close does not wait for its end.
func TestCloseEndsAHistorySync(t *testing.T) {
	t.Parallel()
	picture := file(1)
	message := &waWeb.WebMessageInfo{
		Key:              &waCommon.MessageKey{ID: proto.String("id"), FromMe: proto.Bool(false), RemoteJID: proto.String(stageChat.String())},
		MessageTimestamp: proto.Uint64(1),
		Message:          &waE2E.Message{ImageMessage: &waE2E.ImageMessage{MediaKey: picture.MediaKey, FileEncSHA256: picture.FileEncSHA256}},
	}
	sync := &waHistorySync.HistorySync{Conversations: []*waHistorySync.Conversation{
		{ID: proto.String(stageChat.String()), Messages: []*waHistorySync.HistorySyncMsg{{Message: message}}},
	}}
	index := NewMemoryIndex(10)
	p := newOfflinePlugin(t, &Options{Index: index})
	p.sender.identity.Store(&account{pn: stageOwn})
	for want, before := range []func(){func() { p.closed.Store(true) }, func() { p.closed.Store(false) }} {
		before()
		if err := p.rememberHistory(t.Context(), sync); err != nil || index.Len() != want {
			t.Errorf("%d files are remembered, want %d; error %v", index.Len(), want, err)
		}
	}
}
