package wabox

import (
	"context"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A phone is the user's own phone, which answers requests to upload a file again. It is guarded by the account's mu.
type phone struct {
	account *Account

	files   map[types.MessageID][]*Media
	lost    map[types.MessageID]bool
	scripts map[types.MessageID][]Answer
	asked   map[types.MessageID]int // requests that took an answer of a script
	behave  PhoneFunc
	receipt func(Request) bool

	requests   []Request
	waiting    map[int]struct{} // requests without an answer, by index
	maxWaiting int
}

// PhoneFunc decides what the server and the phone do about a request: the answers are played in order. Without any, the
// request gets not even an ack. The function can be called on several goroutines at once.
type PhoneFunc func(Request) []Answer

// A Request is one <receipt type="server-error"> that the client sent.
type Request struct {
	ID             types.MessageID
	To             types.JID
	Chat           types.JID // the jid of <rmr>
	Participant    types.JID
	HasParticipant bool
	FromMe         string         // from_me as it was sent: "true" or "false"
	Node           *waBinary.Node // the whole stanza
	EncP, EncIV    []byte
	At             time.Time

	MediaKey []byte // of the file that the phone knows under ID; nil if there is none
	StanzaID string // what was encrypted with MediaKey; "" if it cannot be decrypted

	media *Media
	index int // in the phone's requests
}

func (p *phone) init(a *Account) {
	p.account = a
	p.files = make(map[types.MessageID][]*Media)
	p.lost = make(map[types.MessageID]bool)
	p.scripts = make(map[types.MessageID][]Answer)
	p.asked = make(map[types.MessageID]int)
	p.waiting = make(map[int]struct{})
}

// Requests returns the requests so far, in order.
func (a *Account) Requests() []Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.phone.requests)
}

// RequestCount returns the number of requests so far.
func (a *Account) RequestCount() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.phone.requests)
}

// MaxWaiting returns the highest number of requests that were without an answer at once. A request has its answer when
// the server refuses it, or when a notification about it is sent or held for a client that is away.
func (a *Account) MaxWaiting() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.phone.maxWaiting
}

// WaitRequests waits until there have been at least n requests, and returns all that there were.
func (a *Account) WaitRequests(ctx context.Context, n int) ([]Request, error) {
	err := a.wait(ctx, func() bool { return len(a.phone.requests) >= n })
	return a.Requests(), err
}

// Phone sets how the phone behaves towards requests that no [Account.Script] is for. nil sets it back to the default: it
// uploads a file that it has again; it answers NOT_FOUND for one that was forgotten or never was on the CDN; an error
// node with code 2 for a message that it does not know, and with code 3 for a request that it cannot decrypt.
func (a *Account) Phone(f PhoneFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.behave = f
}

// Script sets the phone's answers to requests about one message: one for each request, and the last one for all further
// ones. Without any answers, it ends the script.
func (a *Account) Script(id types.MessageID, answers ...Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.scripts[id] = answers
	a.phone.asked[id] = 0
}

// OnReceipt sets a function that is called when a request has been read, before the server does anything about it. It may
// break the connection. If it returns true, the server forgets the request: it neither acknowledges it nor tells the
// phone.
func (a *Account) OnReceipt(f func(Request) (drop bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.receipt = f
}

// Knows gives the phone a file of a message. [Account.Deliver] and [Account.DeliverHistory] do that by themselves; a
// quoted message's file it then knows under the quoted message's id.
func (a *Account) Knows(id types.MessageID, m *Media) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.files[id] = append(a.phone.files[id], m)
	delete(a.phone.lost, id)
}

// Forget makes the phone lose the files of a message. It still knows the message and its keys.
func (a *Account) Forget(id types.MessageID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.lost[id] = true
}

// receive handles a request from the client.
func (p *phone) receive(c *conn, node *waBinary.Node) {
	a := p.account
	a.mu.Lock()
	r := p.parse(node)
	p.requests = append(p.requests, r)
	p.waiting[r.index] = struct{}{}
	p.maxWaiting = max(p.maxWaiting, len(p.waiting))
	onReceipt := p.receipt
	a.notify()
	a.mu.Unlock()
	if onReceipt != nil && onReceipt(r) {
		return
	}

	a.mu.Lock()
	answers := p.scripted(r.ID)
	behave := p.behave
	if behave == nil {
		lost := p.lost[r.ID]
		behave = func(r Request) []Answer { return defaultAnswer(r, lost) }
	}
	a.mu.Unlock()
	a.box.spawn(func() {
		if answers == nil {
			answers = behave(r)
		}
		p.play(c, r, answers)
	})
}

// scripted returns the next answer of a script as a list, or nil if there is no script.
func (p *phone) scripted(id types.MessageID) []Answer {
	script := p.scripts[id]
	if len(script) == 0 {
		return nil
	}
	n := min(p.asked[id], len(script)-1)
	p.asked[id]++
	return script[n : n+1]
}

func defaultAnswer(r Request, lost bool) []Answer {
	code := func(code string) []Answer { return []Answer{{ErrorCode: &code}} }
	switch {
	case r.media == nil:
		return code("2")
	case r.StanzaID != r.ID:
		return code("3")
	case lost || r.media.blob == nil:
		return []Answer{{Result: NotFound}}
	}
	return []Answer{{Result: Success}}
}

func (p *phone) parse(node *waBinary.Node) Request {
	r := Request{Node: node, At: time.Now(), index: len(p.requests)}
	r.ID, _ = node.Attrs["id"].(string)
	r.To, _ = node.Attrs["to"].(types.JID)
	rmr := node.GetChildByTag("rmr")
	r.Chat, _ = rmr.Attrs["jid"].(types.JID)
	_, r.HasParticipant = rmr.Attrs["participant"]
	r.Participant, _ = rmr.Attrs["participant"].(types.JID)
	r.FromMe, _ = rmr.Attrs["from_me"].(string)
	r.EncP, _ = node.GetChildByTag("encrypt", "enc_p").Content.([]byte)
	r.EncIV, _ = node.GetChildByTag("encrypt", "enc_iv").Content.([]byte)
	for _, m := range p.files[r.ID] {
		id, ok := decryptRequest(m.MediaKey, r)
		if r.media == nil || ok {
			r.media, r.MediaKey, r.StanzaID = m, m.MediaKey, id
		}
	}
	return r
}

func decryptRequest(mediaKey []byte, r Request) (stanzaID string, ok bool) {
	if len(r.EncIV) != ivLength {
		return "", false
	}
	plaintext, err := gcmutil.Decrypt(retryKey(mediaKey), r.EncIV, r.EncP, []byte(r.ID))
	if err != nil {
		return "", false
	}
	var receipt waMmsRetry.ServerErrorReceipt
	err = proto.Unmarshal(plaintext, &receipt)
	return receipt.GetStanzaID(), err == nil
}

// ivLength is that of AES-GCM.
const ivLength = 12

// retryKey derives the key of requests and answers about a file.
func retryKey(mediaKey []byte) []byte {
	return hkdfutil.SHA256(mediaKey, nil, []byte("WhatsApp Media Retry Notification"), 32)
}

// knowsAll gives the phone every file that a message speaks of, wherever in it that is.
func (p *phone) knowsAll(id types.MessageID, m protoreflect.Message) {
	switch m := m.Interface().(type) {
	case *waWeb.WebMessageInfo:
		id = m.GetKey().GetID()
	case *waE2E.ContextInfo:
		// A quoted message may be in a chat of its own, but its id says which it is.
		if quoted := m.GetQuotedMessage(); quoted != nil && m.GetStanzaID() != "" {
			p.knowsAll(m.GetStanzaID(), quoted.ProtoReflect())
			m = proto.CloneOf(m)
			m.QuotedMessage = nil
			p.knowsFields(id, m.ProtoReflect())
			return
		}
	}
	p.knowsFields(id, m)
}

func (p *phone) knowsFields(id types.MessageID, m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.Name() == "mediaKey" && field.Kind() == protoreflect.BytesKind:
			if id != "" && len(value.Bytes()) > 0 {
				p.account.Knows(id, p.account.box.cdn.find(mediaOf(m, value.Bytes())))
			}
		case field.Message() == nil || field.IsMap():
		case field.IsList():
			for i := range value.List().Len() {
				p.knowsAll(id, value.List().Get(i).Message())
			}
		default:
			p.knowsAll(id, value.Message())
		}
		return true
	})
}

// mediaOf returns what a message says about its file. For a link preview, that is the thumbnail.
func mediaOf(m protoreflect.Message, mediaKey []byte) *Media {
	get := func(names ...protoreflect.Name) protoreflect.Value {
		for _, name := range names {
			if field := m.Descriptor().Fields().ByName(name); field != nil && m.Has(field) {
				return m.Get(field)
			}
		}
		return protoreflect.Value{}
	}
	said := &Media{MediaKey: mediaKey}
	if v, ok := get("fileSHA256", "thumbnailSHA256").Interface().([]byte); ok {
		said.FileSHA256 = v
	}
	if v, ok := get("fileEncSHA256", "thumbnailEncSHA256").Interface().([]byte); ok {
		said.FileEncSHA256 = v
	}
	if v, ok := get("directPath", "thumbnailDirectPath").Interface().(string); ok {
		said.DirectPath = v
	}
	if v, ok := get("fileLength").Interface().(uint64); ok {
		said.Length = int(v)
	}
	return said
}
