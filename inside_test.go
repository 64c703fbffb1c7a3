package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
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

// What is kept of an answer is of bounded size, however it has come.
func TestAnswersAreOfBoundedSize(t *testing.T) {
	t.Parallel()
	jid := func(size int) types.JID { return types.NewJID(strings.Repeat("1", size), types.GroupServer) }
	for _, test := range []struct {
		name               string
		id, nonce, jid, by int
		isError, fits      bool
	}{
		{name: "real", id: 32, nonce: 12, jid: 20, fits: true},
		{name: "no id", nonce: 12, jid: 20},
		{name: "long id", id: maxMessageID + 1, nonce: 12, jid: 20},
		{name: "long nonce", id: 32, nonce: maxStamp, jid: 20},
		{name: "real error", id: 32, isError: true, jid: 20, by: 20, fits: true},
		{name: "error in a long chat", id: 32, isError: true, jid: maxStamp, by: 20},
		{name: "error about a long sender", id: 32, isError: true, jid: 20, by: maxStamp},
	} {
		evt := &events.MediaRetry{MessageID: strings.Repeat("A", test.id), ChatID: jid(test.jid), SenderID: jid(test.by), IV: make([]byte, test.nonce)}
		content := []waBinary.Node{{Tag: "rmr", Attrs: waBinary.Attrs{"jid": evt.ChatID, "participant": evt.SenderID}}}
		if test.isError {
			evt.Error = &events.MediaRetryError{Code: 2}
			content = append(content, waBinary.Node{Tag: "error", Attrs: waBinary.Attrs{"code": "2"}})
		} else {
			content = append(content, waBinary.Node{Tag: "encrypt", Content: []waBinary.Node{{Tag: "enc_iv", Content: evt.IV}}})
		}
		_, fits := answerFromEvent(evt)
		if _, parsed := parseAnswer(&waBinary.Node{
			Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "id": evt.MessageID}, Content: content,
		}); fits != test.fits || parsed != test.fits {
			t.Errorf("%s: taken as an event %t, as a node %t, want %t", test.name, fits, parsed, test.fits)
		}
	}
	for size, want := range map[int]int{32: 32, maxSecret: maxSecret, maxSecret + 1: 0} {
		r, err := readNotification("id", &waMmsRetry.MediaRetryNotification{MessageSecret: make([]byte, size)})
		if err != nil || len(r.MessageSecret) != want {
			t.Errorf("of a secret of %d bytes %d are kept: %v", size, len(r.MessageSecret), err)
		}
	}
}

// A store that hangs holds a download up once, and not for each message that its file was in.
func TestNamesAreWaitedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		device := &store.Device{LIDs: hangingLIDs{}}
		p := newPlugin(whatsmeow.NewClient(device, nil), new(Options))
		defer p.cancel(nil)
		entries := make([]Entry, entriesPerFile)
		for i := range entries {
			entries[i] = file(1)
			entries[i].Chat, entries[i].MessageID = stageLID, fmt.Sprint(i)
		}
		began := time.Now()
		if found := p.candidates(t.Context(), entries); len(found) != len(entries) || time.Since(began) > indexTimeout {
			t.Errorf("%d of %d are found after %s", len(found), len(entries), time.Since(began))
		}
	})
}

type hangingLIDs struct{ store.LIDStore }

func (hangingLIDs) GetPNForLID(ctx context.Context, _ types.JID) (types.JID, error) {
	<-ctx.Done()
	return types.EmptyJID, ctx.Err()
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
	p.sender.account.Store(&account{pn: stageOwn})
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

// A sender without a server is completed by what the index knows of the message, if that is the
// same in all else.
func TestSenderIsCompleted(t *testing.T) {
	t.Parallel()
	row := file(1).Request
	row.Chat, row.Participant = types.NewJID("1", types.GroupServer), types.JID{User: stageChat.User}
	file := download{hash: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="} // 32 times 1
	for name, test := range map[string]struct {
		known func(*Entry)
		want  types.JID
	}{
		"the same":         {func(*Entry) {}, stageChat},
		"another sender":   {func(e *Entry) { e.Participant.User += "0" }, row.Participant},
		"no server either": {func(e *Entry) { e.Participant.Server = "" }, row.Participant},
		"from the account": {func(e *Entry) { e.IsFromMe = true }, row.Participant},
		"another chat":     {func(e *Entry) { e.Chat.User = "2" }, row.Participant},
		"another key":      {func(e *Entry) { e.MediaKey = make([]byte, mediaKeySize) }, row.Participant},
		"another message":  {func(e *Entry) { e.MessageID = "other" }, row.Participant},
	} {
		p := newPlugin(whatsmeow.NewClient(new(store.Device), nil), &Options{Lookup: func(context.Context, []byte) ([]Request, error) {
			return []Request{row}, nil
		}})
		defer p.cancel(nil)
		p.sender.account.Store(&account{pn: stageOwn})
		known := Entry{Request: row} // whose file is not known
		known.Participant = stageChat
		test.known(&known)
		p.index.put(t.Context(), []Entry{known})
		found, _ := p.messagesOf(t.Context(), file)
		if len(found) != 1 || found[0].entry.Participant != test.want {
			t.Errorf("%s: found are %v, want one from %v", name, found, test.want)
		}
	}
}

// What is remembered stays as it is when the bot changes the message.
func TestWhatIsRememberedIsACopy(t *testing.T) {
	t.Parallel()
	image := &waE2E.ImageMessage{MediaKey: file(1).MediaKey, FileEncSHA256: bytes.Repeat([]byte{1}, fileHashSize), DirectPath: proto.String("/a")}
	info := &types.MessageInfo{ID: "id", MessageSource: types.MessageSource{Chat: stageChat, Sender: stageChat}}
	found := walker{isOwn: func(types.JID) bool { return false }}.mediaOf(info, &waE2E.Message{ImageMessage: image})
	named, _ := WithMessage(t.Context(), info, image).Value(messageKey{}).(*Entry)
	clear(image.FileEncSHA256)
	for _, e := range append(found, *named) {
		if e.FileEncSHA256[0] != 1 {
			t.Errorf("%v has changed", e.Request)
		}
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

// A media client that the bot sets is wrapped with the next events, if there is no tap
// to see nodes.
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
	p.sender.account.Store(&account{pn: stageOwn})
	for want, before := range []func(){func() { p.closed.Store(true) }, func() { p.closed.Store(false) }} {
		before()
		if err := p.rememberHistory(t.Context(), sync); err != nil || index.Len() != want {
			t.Errorf("%d files are remembered, want %d; error %v", index.Len(), want, err)
		}
	}
}
