package wabox

import (
	"fmt"

	"go.mau.fi/whatsmeow/types"
)

// A place is where the phone has a message, and so what a request has to name.
type place struct {
	chat   types.JID // empty if the phone goes by the message's id alone
	sender types.JID // empty if the phone does not know who wrote it; it then checks no direction either
	fromMe bool
	lid    bool // the message came addressed by LIDs
}

// place returns where the phone has a message that comes in.
func (in Incoming) place() place {
	return place{plain(in.Chat), plain(in.From), in.FromMe, in.LIDMode}
}

// Strict sets whether the phone insists on how a request names the message, which it does unless
// this is set to false. It looks at:
//
//   - to: the account's own phone number or LID, without a device part;
//   - jid of <rmr>: the chat of the message, by phone number or LID if that is a user;
//   - from_me: whether the account wrote the message;
//   - participant: the sender, by phone number or LID, without a device part, in groups,
//     broadcast lists and status; none in a chat with one user. In a group that is addressed by
//     LIDs, it has to be a LID. What the group is at the moment counts.
//
// A message from another's broadcast list is known in the list and in the chat with its sender. A
// sender or chat on a hosted server (a business's second device) or on @c.us is known as the user
// that it is: a request that names it by such a server is wrong.
//
// The phone knows where the messages are that came by [Account.Deliver],
// [Account.DeliverHistory] or [Account.KnowsMessage], and those that they quote. It knows the
// two addresses of a person by [Incoming.Alt], histories and [Box.Link]. For files given by
// [Account.Knows] it looks at to alone.
//
// A request that names its message wrongly has [Request.Wrong] set. The server acknowledges it,
// and the phone does what [Account.Mismatch] says; scripts and [Account.Phone] are for those
// that are right.
func (a *Account) Strict(on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.lenient = !on
}

// Mismatch sets what the phone does about a request that names a message wrongly. nil sets it back
// to the default, which is what has been seen of real phones: silence; and <error code="2"/> for a
// phone number as participant in a group that is addressed by LIDs.
func (a *Account) Mismatch(f PhoneFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.mismatch = f
}

func defaultMismatch(r Request) []Answer {
	if r.byNumber {
		code := "2"
		return []Answer{{ErrorCode: &code}}
	}
	return []Answer{{None: true}}
}

// wrongTo says what is wrong with the addressee of a request, or "" if nothing is.
func (p *phone) wrongTo(r Request) string {
	if r.To != p.account.PN && r.To != p.account.LID {
		return fmt.Sprintf("to is %s, and has to be %s or %s", r.To, p.account.PN, p.account.LID)
	}
	return ""
}

// wrong says what of a request does not name the message at a place, or "" if all does. byNumber is
// set if it is only the form of the participant. The account's mu is held.
func (p *phone) wrong(r Request, at place) (why string, byNumber bool) {
	people := &p.account.box.people
	switch {
	case at.chat.IsEmpty():
		return "", false
	case at.chat.IsBroadcastList() && !at.fromMe && !at.sender.IsEmpty() && isDirect(r.Chat):
		return p.wrong(r, place{chat: at.sender, sender: at.sender})
	case r.Chat != r.Chat.ToNonAD() || !people.same(r.Chat, at.chat):
		return fmt.Sprintf("the chat is %s, and has to be %s", r.Chat, at.chat), false
	case isDirect(at.chat) && r.HasParticipant:
		return fmt.Sprintf("there is a participant, %s, in a chat with one user", r.Participant), false
	case !isDirect(at.chat) && r.Participant.IsEmpty():
		return "there is no participant", false
	case at.sender.IsEmpty():
		return "", false
	case r.FromMe != fmt.Sprint(at.fromMe):
		return fmt.Sprintf("from_me is %q, and has to be \"%t\"", r.FromMe, at.fromMe), false
	case isDirect(at.chat):
		return "", false
	case r.Participant != r.Participant.ToNonAD() || !people.same(r.Participant, at.sender):
		return fmt.Sprintf("the participant is %s, and has to be %s", r.Participant, at.sender), false
	case r.Participant.Server != types.HiddenUserServer && p.byLID(at):
		return fmt.Sprintf("the participant is the phone number %s, in a group that is addressed by LIDs", r.Participant), true
	}
	return "", false
}

// byLID reports whether a message is in a group that is addressed by LIDs. What the group is now
// counts, if that is known. The account's mu is held.
func (p *phone) byLID(at place) bool {
	if g, ok := p.account.groups[at.chat]; ok {
		return g.mode == types.AddressingModeLID
	}
	return at.lid && at.chat.Server == types.GroupServer
}

// learnWhere learns from a message which two addresses belong to one person.
func (a *Account) learnWhere(in Incoming) {
	if in.FromMe && isUser(plain(in.Chat)) {
		a.box.people.link(plain(in.Chat), in.Alt)
	} else {
		a.box.people.link(plain(in.From), in.Alt)
	}
}
