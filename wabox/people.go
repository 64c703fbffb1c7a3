package wabox

import (
	"fmt"
	"sync"

	"go.mau.fi/whatsmeow/types"
)

// people is WhatsApp's directory: which phone number and which LID belong to one person. A client
// knows some of it, the server and the phones know all.
type people struct {
	mu    sync.Mutex
	other map[types.JID]types.JID // from one address to the other, both ways
	made  int                     // LIDs made up so far
}

func isUser(jid types.JID) bool {
	return jid.Server == types.DefaultUserServer || jid.Server == types.HiddenUserServer
}

// isDirect reports whether a chat is with one user, bot or user of another network.
func isDirect(chat types.JID) bool {
	switch chat.Server {
	case types.BotServer, types.InteropServer, types.MessengerServer:
		return true
	}
	return isUser(chat)
}

// plain returns the address of a user without a device, and without the server that says where the
// device runs or that older programs write.
func plain(jid types.JID) types.JID {
	jid = jid.ToNonAD()
	switch jid.Server {
	case types.HostedServer, types.LegacyUserServer:
		jid.Server = types.DefaultUserServer
	case types.HostedLIDServer:
		jid.Server = types.HiddenUserServer
	}
	return jid
}

// Link tells the box that a phone number and a LID are one person's, so that requests can name him
// by either. It learns that from [Incoming.Alt] and from histories, too.
func (b *Box) Link(pn, lid types.JID) { b.people.link(pn, lid) }

// link says that two addresses, in any order, are one person's. Anything but a phone number and a
// LID is ignored.
func (p *people) link(a, b types.JID) {
	if !isUser(a) || !isUser(b) || a.Server == b.Server {
		return
	}
	a, b = a.ToNonAD(), b.ToNonAD()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.other == nil {
		p.other = make(map[types.JID]types.JID)
	}
	delete(p.other, p.other[a])
	delete(p.other, p.other[b])
	p.other[a], p.other[b] = b, a
}

// otherOf returns the other address of a person, or an empty one if that is not known.
func (p *people) otherOf(jid types.JID) types.JID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.other[jid.ToNonAD()]
}

// same reports whether two addresses are those of one person or one chat, whatever their
// forms and devices.
func (p *people) same(a, b types.JID) bool {
	a, b = a.ToNonAD(), b.ToNonAD()
	return a == b || !a.IsEmpty() && p.otherOf(a) == b
}

// lidOf returns the LID of a phone number, and makes one up if it has none yet.
func (p *people) lidOf(pn types.JID) types.JID {
	if lid := p.otherOf(pn); !lid.IsEmpty() {
		return lid
	}
	p.mu.Lock()
	p.made++
	lid := types.JID{User: fmt.Sprintf("3000%011d", p.made), Server: types.HiddenUserServer}
	p.mu.Unlock()
	p.link(pn, lid)
	return lid
}
