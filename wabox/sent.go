package wabox

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// A Sent is a message that the client has sent, as its recipients have it. Do not change it.
type Sent struct {
	ID types.MessageID
	// Chat is where it was sent to. That is a phone number for a user who has one, though whatsmeow
	// sends to LIDs.
	Chat    types.JID
	Message *waE2E.Message // nil if no recipient could decrypt it
	At      time.Time
	Node    *waBinary.Node // the whole stanza
	// To has the devices that it was encrypted for, without the account's own phone.
	To []types.JID
	// Err says which devices could not decrypt it, and why. They ask the client for another copy,
	// as real ones do: what [Account.Sent] returns later has no error if they have got one.
	Err error

	failed map[types.JID]error
}

// Text returns the text of a message, be it a plain one or one with a link, a reply or a caption.
// It is "" for others.
func (s Sent) Text() string { return textOf(s.Message) }

func textOf(msg *waE2E.Message) string {
	for _, text := range []string{
		msg.GetConversation(), msg.GetExtendedTextMessage().GetText(), msg.GetImageMessage().GetCaption(),
		msg.GetVideoMessage().GetCaption(), msg.GetDocumentMessage().GetCaption(),
		msg.GetDocumentWithCaptionMessage().GetMessage().GetDocumentMessage().GetCaption(),
	} {
		if text != "" {
			return text
		}
	}
	return ""
}

// Sent returns the messages that the client has sent so far, in order: to users, groups, broadcast
// lists and newsletters, and not what it tells its own phone only.
func (a *Account) Sent() []Sent {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sent)
}

// WaitSent waits until the client has sent at least n messages, and returns all that it has.
func (a *Account) WaitSent(ctx context.Context, n int) ([]Sent, error) {
	err := a.wait(ctx, func() bool { return len(a.sent) >= n })
	return a.Sent(), err
}

// send takes a message from the client to those whom it is for. It notes what they get before the
// client has its ack.
func (a *Account) send(node *waBinary.Node) {
	s := Sent{At: time.Now(), Node: node, failed: make(map[types.JID]error)}
	s.ID, _ = node.Attrs["id"].(string)
	to, _ := node.Attrs["to"].(types.JID)
	s.Chat = to
	if pn := a.box.people.otherOf(to); to.Server == types.HiddenUserServer && !pn.IsEmpty() {
		s.Chat = pn
	}
	enc, direct := node.GetOptionalChildByTag("enc")
	_, isCopy := enc.Attrs["count"]
	if plaintext, ok := node.GetChildByTag("plaintext").Content.([]byte); ok { // as newsletters have it
		s.Message = new(waE2E.Message)
		s.Err = proto.Unmarshal(plaintext, s.Message)
	}
	participants, _ := node.GetOptionalChildByTag("participants")
	for _, child := range participants.GetChildrenByTag("to") {
		device, _ := child.Attrs["jid"].(types.JID)
		if !a.isOwn(device) {
			s.To = append(s.To, device)
		}
		s.get(a, device, to, child.GetChildByTag("enc"))
	}
	switch {
	case isCopy:
		device, ok := node.Attrs["participant"].(types.JID)
		if !ok {
			device = to
		}
		s.get(a, device, to, enc)
	case direct:
		s.get(a, to, to, enc)
	}
	if node.Attrs["category"] == "peer" {
		a.asksPeer(s.ID, s.Message)
		return
	}
	if s.Message != nil {
		at := place{s.Chat.ToNonAD(), a.PN, true, node.Attrs["addressing_mode"] == string(types.AddressingModeLID)}
		a.phone.knowsAll(s.ID, at, s.Message.ProtoReflect())
	}
	a.record(s, isCopy)
	for device := range s.failed {
		if device != to || isUser(to) { // who has no key of a group gets it with the copy of another
			_ = a.SendNode(a.askAgain(&s, device, to)) // if that fails, there is no client any more
		}
	}
}

// record adds a message to those that were sent. A copy is of one that is there.
func (a *Account) record(s Sent, isCopy bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	defer a.notify()
	i := slices.IndexFunc(a.sent, func(other Sent) bool { return other.ID == s.ID })
	if !isCopy || i < 0 {
		s.Err = errors.Join(s.Err, s.why())
		a.sent = append(a.sent, s)
		return
	}
	first := &a.sent[i]
	if s.Message == nil {
		return
	}
	if first.Message == nil {
		first.Message = s.Message
	}
	first.failed = maps.Clone(first.failed)
	to, _ := s.Node.Attrs["to"].(types.JID)
	if participant, ok := s.Node.Attrs["participant"].(types.JID); ok {
		delete(first.failed, participant)
	}
	delete(first.failed, to)
	first.Err = first.why()
}

// why puts into one error why devices could not decrypt the message.
func (s *Sent) why() error {
	var errs []error
	for device, err := range s.failed {
		errs = append(errs, fmt.Errorf("%s cannot decrypt message %s: %w", device, s.ID, err))
	}
	return errors.Join(errs...)
}

// get lets a device decrypt what it gets of a message.
func (s *Sent) get(a *Account, device, to types.JID, enc waBinary.Node) {
	kind, _ := enc.Attrs["type"].(string)
	ciphertext, _ := enc.Content.([]byte)
	msg, err := a.signal.decrypt(device, to, a.LID, kind, ciphertext)
	if err != nil {
		s.failed[device] = err
		return
	}
	if inner := msg.GetDeviceSentMessage().GetMessage(); inner != nil {
		msg = inner
	}
	if msg.GetSenderKeyDistributionMessage() == nil || !isEmptyBut(msg) {
		s.Message = msg
	}
}

// askAgain returns the receipt by which a device asks the client for another copy of a message,
// with keys for a new session.
func (a *Account) askAgain(s *Sent, device, to types.JID) waBinary.Node {
	attrs := waBinary.Attrs{"id": s.ID, "type": "retry", "t": s.At.Unix(), "from": device}
	switch {
	case !isUser(to):
		attrs["from"], attrs["participant"] = to, device
	case a.isOwn(device):
		attrs["recipient"] = to
	}
	user := a.signal.keysOf(device)
	keys := user.GetChildren()
	return waBinary.Node{Tag: "receipt", Attrs: attrs, Content: []waBinary.Node{
		{Tag: "retry", Attrs: waBinary.Attrs{"count": "1", "id": s.ID, "t": s.At.Unix(), "v": "1"}},
		keys[0], {Tag: "keys", Content: keys[1:]},
	}}
}

// isEmptyBut reports whether a message has nothing but a sender key in it.
func isEmptyBut(msg *waE2E.Message) bool {
	rest := proto.CloneOf(msg)
	rest.SenderKeyDistributionMessage, rest.MessageContextInfo = nil, nil
	return proto.Size(rest) == 0
}
