package wabox

import (
	"context"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"google.golang.org/protobuf/proto"
)

// A phone is the user's own phone, which answers requests to upload a file again. It is guarded by
// the account's mu.
type phone struct {
	account *Account

	files map[types.MessageID][]knownFile
	// histories are the parts of the history that the phone has put on the CDN, by message.
	histories map[types.MessageID]*waHistorySync.HistorySync
	lost      map[types.MessageID]bool
	scripts   map[types.MessageID][]Answer
	asked     map[types.MessageID]int // requests that took an answer of a script
	replayed  map[types.MessageID]*Replayed
	resends   map[types.MessageID]func(key *waCommon.MessageKey, requestID types.MessageID) error
	behave    PhoneFunc
	receipt   func(Request) bool

	lenient  bool // towards requests that name a message wrongly
	mismatch PhoneFunc

	requests   []Request
	waiting    map[int]struct{} // requests without an answer, by index
	maxWaiting int
}

// PhoneFunc decides what the server and the phone do about a request: the answers are played in
// order. Without any, the request gets not even an ack. The function can be called on several
// goroutines at once.
type PhoneFunc func(Request) []Answer

// A Request is one <receipt type="server-error"> that the client sent.
type Request struct {
	ID             types.MessageID
	To             types.JID
	Chat           types.JID // the jid of <rmr>
	Participant    types.JID
	HasParticipant bool
	FromMe         string         // from_me as it was sent: "true" or "false"
	Category       string         // "peer" for a part of the history, which is named by ID alone
	Node           *waBinary.Node // the whole stanza
	EncP, EncIV    []byte
	At             time.Time

	MediaKey []byte // of the file that the phone knows under ID; nil if there is none
	StanzaID string // what was encrypted with MediaKey; "" if it cannot be decrypted

	// Wrong says what of the request does not name the message as the phone knows it, in words. ""
	// if all does. See [Account.Strict].
	Wrong string

	media    *Media
	byNumber bool // what is wrong is that the participant is a phone number
	index    int  // in the phone's requests
}

func (p *phone) init(a *Account) {
	p.account = a
	p.files = make(map[types.MessageID][]knownFile)
	p.histories = make(map[types.MessageID]*waHistorySync.HistorySync)
	p.lost = make(map[types.MessageID]bool)
	p.scripts = make(map[types.MessageID][]Answer)
	p.asked = make(map[types.MessageID]int)
	p.replayed = make(map[types.MessageID]*Replayed)
	p.resends = make(map[types.MessageID]func(*waCommon.MessageKey, types.MessageID) error)
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

// MaxWaiting returns the highest number of requests that were without an answer at once. A request
// has its answer when the server refuses it, or when a notification about it is sent or held for a
// client that is away.
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

// Phone sets how the phone behaves towards requests that no [Account.Script] is for. nil sets it
// back to the default: it uploads a file that it has again; it answers NOT_FOUND for one that was
// forgotten or never was on the CDN; an error node with code 2 for a message that it does not know,
// and with code 3 for a request that it cannot decrypt.
func (a *Account) Phone(f PhoneFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.behave = f
}

// Script sets the phone's answers to requests about one message: one for each request, and the last
// one for all further ones. Without any answers, it ends the script.
func (a *Account) Script(id types.MessageID, answers ...Answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.scripts[id] = answers
	a.phone.asked[id] = 0
}

// OnReceipt sets a function that is called when a request has been read, before the server does
// anything about it. It may break the connection. If it returns true, the server forgets the
// request: it neither acknowledges it nor tells the phone.
func (a *Account) OnReceipt(f func(Request) (drop bool)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.receipt = f
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

	answer := p.decide(r)
	a.box.spawn(func() { p.play(c, r, answer(r)) })
}

// decide returns what gives the answers to a request.
func (p *phone) decide(r Request) PhoneFunc {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	// A record shows what comes of a participant that is named by the wrong one of his names, too.
	if f := p.replayed[r.ID]; f != nil && (r.Wrong == "" || r.byNumber) {
		answers := f.answer(r)
		return func(Request) []Answer { return answers }
	}
	if r.Wrong != "" && !p.lenient {
		if p.mismatch != nil {
			return p.mismatch
		}
		return defaultMismatch
	}
	if answers := p.scripted(r.ID); answers != nil {
		return func(Request) []Answer { return answers }
	}
	if p.behave != nil {
		return p.behave
	}
	lost := p.lost[r.ID]
	return func(r Request) []Answer { return defaultAnswer(r, lost) }
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
	r.Category, _ = node.Attrs["category"].(string)
	p.match(&r)
	return r
}

// match finds the file that a request is about: of those under its message's id, one that it names
// rightly rather than one that it does not, and one whose key opens it rather than another.
func (p *phone) match(r *Request) {
	best := -1
	if r.isForHistory() {
		r.Wrong = p.wrongPart(*r)
	}
	for _, f := range p.files[r.ID] {
		why, byNumber := r.Wrong, false
		if !r.isForHistory() {
			why, byNumber = p.wrong(*r, f.place)
		}
		id, opens := decryptRequest(f.MediaKey, *r)
		rank := 0
		if why == "" {
			rank += 2
		}
		if opens {
			rank++
		}
		if rank > best || opens && rank == best {
			best = rank
			r.media, r.MediaKey, r.StanzaID, r.Wrong, r.byNumber = f.Media, f.MediaKey, id, why, byNumber
		}
	}
	if why := p.wrongTo(*r); why != "" {
		r.Wrong, r.byNumber = why, false
	}
}

func (r Request) isForHistory() bool { return r.Category == "peer" }

// wrongPart says what of a request does not name a part of the history, or "" if all does.
func (p *phone) wrongPart(r Request) string {
	_, hasRMR := r.Node.GetOptionalChildByTag("rmr")
	switch {
	case p.histories[r.ID] == nil:
		return "no part of the history came with this message"
	case hasRMR:
		return "there is an <rmr>"
	}
	return ""
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
