package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A hearer is told of what comes.
type hearer interface {
	node(*waBinary.Node)
	// event reports whether the event may be acknowledged.
	event(evt any) bool
}

// A tap is the client's log, whose receive logger is handed each node before whatsmeow handles it.
// No event has acks, nor says that a node has waited at WhatsApp.
type tap struct {
	waLog.Logger
	see func(*waBinary.Node)
}

func (t tap) Sub(module string) waLog.Logger {
	if module == "Recv" {
		return receiver(t)
	}
	return t.Logger.Sub(module)
}

type receiver struct {
	waLog.Logger
	see func(*waBinary.Node)
}

func (r receiver) Debugf(_ string, args ...any) {
	for _, arg := range args {
		if node, ok := arg.(*waBinary.Node); ok {
			r.see(node)
		}
	}
}

// An ear puts what comes into the state, and wakes what waits for that.
type ear struct {
	mu      sync.Mutex
	state   *state
	keys    map[types.MessageID][]byte // of the files of the state
	queue   bool                       // what comes has waited at WhatsApp
	resent  map[types.MessageID][]byte // the keys of messages that have come again
	history int                        // how many times a part of the history has come
	heard   int                        // how many answers have come
	changed chan struct{}              // closed, and replaced, when anything has come
}

func newEar(s *state) *ear {
	return &ear{
		state: s, queue: true, keys: make(map[types.MessageID][]byte),
		resent: make(map[types.MessageID][]byte), changed: make(chan struct{}),
	}
}

// locked calls f while nothing changes the state.
func (e *ear) locked(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *ear) notify() {
	close(e.changed)
	e.changed = make(chan struct{})
}

// until waits until a condition holds, which is looked at while nothing changes the state, or a
// time is over, and reports which.
func (e *ear) until(ctx context.Context, patience time.Duration, done func() bool) bool {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		e.mu.Lock()
		ok, changed := done(), e.changed
		e.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

func (e *ear) node(n *waBinary.Node) {
	now := time.Now()
	e.mu.Lock()
	defer e.mu.Unlock()
	id, _ := n.Attrs["id"].(string)
	switch {
	case n.Tag == "success": // of a login; what has waited comes next
		e.queue = true
	case n.Tag == "ib":
		if _, ok := n.GetOptionalChildByTag("offline"); ok {
			e.queue = false
		}
	case n.Tag == "ack" && n.Attrs["class"] == "receipt" && n.Attrs["type"] == "server-error":
		if f := e.state.find(id); f != nil {
			f.acked(now, n)
			e.notify()
		}
	case n.Tag == "notification" && n.Attrs["type"] == "mediaretry":
		if f := e.state.find(id); f != nil {
			e.answered(f, now, n)
			e.notify()
		}
	}
}

// acked books an ack on the oldest request that has none: nothing but the id tells whose it is.
func (f *file) acked(now time.Time, n *waBinary.Node) {
	for _, t := range f.Tries {
		if t.Ack.IsZero() {
			t.Ack = now
			t.Refused = attrNumber(n, "error")
			return
		}
	}
}

// attrNumber returns a number of a node, 999 for an attribute that is none, and 0 for none.
func attrNumber(n *waBinary.Node, name string) int {
	value, ok := n.Attrs[name]
	if !ok {
		return 0
	}
	text, _ := value.(string)
	if number, err := strconv.Atoi(text); err == nil && number > 0 && number < 999 {
		return number
	}
	return 999
}

// answered books an answer on the newest request to the name that it comes from, as phones have it
// from the request, or on the newest of all.
func (e *ear) answered(f *file, now time.Time, n *waBinary.Node) {
	a, path := read(n, e.keys[f.ID])
	if a.Result == wabox.Unreadable && e.keys[f.ID] == nil {
		return // the index has forgotten the file: this says nothing of the phone
	}
	a.At, a.Queued = now, e.queue || n.Attrs["offline"] != nil
	from, _ := n.Attrs["from"].(types.JID)
	var of *try
	for _, t := range f.Tries {
		for _, known := range t.Answers {
			if known.Stamp == a.Stamp {
				return // delivered again
			}
		}
		if of == nil || t.To == nameOf(from) || of.To != nameOf(from) {
			of = t
		}
	}
	if of == nil || len(of.Answers) >= 16 {
		return
	}
	of.Answers = append(of.Answers, a)
	e.heard++
	if path != "" && f.Told == "" {
		f.Told, f.ToldAt = path, now
	}
}

// nameOf returns which name of a person a JID is, or "" if it is no person's.
func nameOf(jid types.JID) string {
	switch jid.Server {
	case types.DefaultUserServer:
		return wabox.ByNumber
	case types.HiddenUserServer:
		return wabox.ByLID
	}
	return ""
}

// read reads an answer, with the key of the file that it is about.
func read(n *waBinary.Node, mediaKey []byte) (a answer, path string) {
	a.Said = n.AttrGetter().OptionalUnixTime("t")
	if code, ok := n.GetOptionalChildByTag("error"); ok {
		number, _ := strconv.Atoi(code.AttrGetter().OptionalString("code"))
		a.Result = resultName(int32(number))
		a.Stamp = a.Result + " " + strconv.FormatInt(a.Said.Unix(), 10)
		return a, ""
	}
	a.Result, a.Sealed = wabox.Unreadable, true
	ciphertext, _ := n.GetChildByTag("encrypt", "enc_p").Content.([]byte)
	iv, _ := n.GetChildByTag("encrypt", "enc_iv").Content.([]byte)
	sum := sha256.Sum256(iv)
	a.Stamp = hex.EncodeToString(sum[:4])
	id, _ := n.Attrs["id"].(string)
	var said waMmsRetry.MediaRetryNotification
	if len(iv) != ivSize || len(mediaKey) == 0 {
		return a, ""
	}
	plaintext, err := gcmutil.Decrypt(retryKey(mediaKey), iv, ciphertext, []byte(id))
	if err != nil || proto.Unmarshal(plaintext, &said) != nil {
		return a, ""
	}
	a.Result = resultName(int32(said.GetResult()))
	path = said.GetDirectPath()
	if len(path) < 2 || path[0] != '/' || path[1] == '/' {
		path = "" // it would lead to another host
	}
	a.HasPath = path != ""
	return a, path
}

// resultName returns the protocol's name of a result. Unknown ones are general errors.
func resultName(result int32) string {
	if name, ok := waMmsRetry.MediaRetryNotification_ResultType_name[result]; ok {
		return name
	}
	return wabox.GeneralError.String()
}

const ivSize = 12 // of AES-GCM

// retryKey derives the key of requests and answers about a file.
func retryKey(mediaKey []byte) []byte {
	return hkdfutil.SHA256(mediaKey, nil, []byte("WhatsApp Media Retry Notification"), 32)
}

func (e *ear) event(rawEvt any) bool {
	switch evt := rawEvt.(type) {
	case *events.HistorySync:
		e.locked(func() {
			e.history++
			e.notify()
		})
	case *events.Message:
		return e.message(evt, time.Now())
	}
	return true
}

// message looks at a message of the own phone. Messages of others are left for the bot: what is not
// acknowledged comes again.
func (e *ear) message(evt *events.Message, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	defer e.notify()
	if evt.UnavailableRequestID != "" {
		for _, media := range reupload.MediaOf(&evt.Info, evt.RawMessage) {
			e.resent[evt.Info.ID] = media.Request.MediaKey
		}
		return true
	}
	protocol := evt.Message.GetProtocolMessage()
	if original := protocol.GetHistorySyncNotification().GetOriginalMessageID(); original != "" && evt.Info.IsFromMe && evt.Info.Sender.Device == 0 {
		if f := e.state.find(original); f != nil && len(f.Tries) > 0 {
			last := f.Tries[len(f.Tries)-1]
			last.Parts = append(last.Parts, now)
			e.heard++
		}
	}
	if protocol.GetHistorySyncNotification() != nil {
		return e.state.Linked // a bot has to read its history itself
	}
	return protocol != nil || e.state.Linked
}
