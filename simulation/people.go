package simulation

import (
	"fmt"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A person has a phone number and a LID. Of most, messages tell both.
type person struct {
	n       int
	pn, lid types.JID
	shown   bool
}

// A chatKind is how messages of a chat are named.
type chatKind string

const (
	direct     chatKind = "direct"
	directLID  chatKind = "direct by LID"
	groupPN    chatKind = "group"
	groupLID   chatKind = "group by LID"
	migrating  chatKind = "group that migrates"
	status     chatKind = "status"
	list       chatKind = "broadcast list"
	newsletter chatKind = "newsletter"
	hosted     chatKind = "group with hosted business"
	hostedLID  chatKind = "group by LID with hosted business"
	assistant  chatKind = "assistant" // @bot, in history only
	legacy     chatKind = "c.us"      // in history only
)

// A chat is one chat of some bots.
type chat struct {
	kind     chatKind
	jid      types.JID
	members  []*person
	bots     []*bot
	lids     bool      // a group is addressed by LIDs
	migrated time.Time // when it began to be
}

func (c *chat) isGroup() bool { return c.jid.Server == types.GroupServer }

// populate makes people and chats.
func (w *World) populate() {
	t := w.dice.For("people")
	for i := range w.People + 1 {
		p := &person{n: i, pn: types.NewJID(fmt.Sprint(4915550000+i), types.DefaultUserServer)}
		p.lid = types.NewJID(fmt.Sprint(99990000000+i), types.HiddenUserServer)
		p.shown = i == 0 || t.Chance(0.8)
		w.box.Link(p.pn, p.lid)
		w.people = append(w.people, p)
	}
	w.stranger = w.people[0]
	for _, b := range w.bots {
		for _, p := range w.people {
			if t.Chance(0.4) {
				w.addChat(&chat{kind: directLID, jid: p.lid, members: []*person{p}, bots: []*bot{b}})
			} else {
				w.addChat(&chat{kind: direct, jid: p.pn, members: []*person{p}, bots: []*bot{b}})
			}
		}
		w.addChat(&chat{kind: status, jid: types.StatusBroadcastJID, members: w.people, bots: []*bot{b}})
		w.addChat(&chat{kind: list, jid: types.NewJID(fmt.Sprint(1500000000+b.n), types.BroadcastServer), members: w.people[1:3], bots: []*bot{b}})
	}
	news := types.NewJID("120363999999999999", types.NewsletterServer)
	w.addChat(&chat{kind: newsletter, jid: news, members: w.people, bots: w.bots})
	for i, kind := range []chatKind{groupPN, groupLID, migrating, hosted, hostedLID} {
		c := &chat{kind: kind, jid: types.NewJID(fmt.Sprint(120363040000000000+i), types.GroupServer), bots: w.bots}
		c.lids = kind == groupLID || kind == hostedLID
		for _, p := range w.people {
			if p == w.stranger || t.Chance(0.7) {
				c.members = append(c.members, p)
			}
		}
		w.addChat(c)
		w.announce(c)
	}
}

func (w *World) addChat(c *chat) { w.chats = append(w.chats, c) }

// announce tells the server how a group is.
func (w *World) announce(c *chat) {
	for _, b := range c.bots {
		mode, own := types.AddressingModePN, b.account.PN
		if c.lids {
			mode, own = types.AddressingModeLID, b.account.LID
		}
		members := []types.JID{own}
		for _, p := range c.members {
			members = append(members, p.in(c))
		}
		b.account.Group(c.jid, mode, members...)
	}
}

// in returns how a person goes in a group.
func (p *person) in(c *chat) types.JID {
	if c.lids {
		return p.lid
	}
	return p.pn
}

// incoming returns where a message of a person in a chat comes from.
func (p *person) incoming(c *chat) wabox.Incoming {
	in := wabox.Incoming{Chat: c.jid, From: p.pn, Alt: p.lid}
	switch c.kind {
	case directLID:
		in.From, in.Alt, in.LIDMode = p.lid, p.pn, true
	case groupPN, groupLID, migrating, hosted, hostedLID:
		if in.From = p.in(c); in.From == p.lid {
			in.Alt = p.pn
		}
		in.LIDMode = c.lids
	case newsletter:
		in.From, in.Alt = types.EmptyJID, types.EmptyJID
	}
	if !p.shown {
		in.Alt = types.EmptyJID
	}
	return in
}

// hasBothNames reports whether the other side of a one-to-one chat goes by phone number and by LID.
func (c *chat) hasBothNames() bool {
	return (c.kind == direct || c.kind == directLID) && c.members[0].shown
}

// has reports whether a chat with one person goes by a name.
func (c *chat) has(jid types.JID) bool {
	return (c.kind == direct || c.kind == directLID) && (c.members[0].pn == jid || c.members[0].lid == jid)
}

// isSame reports whether two names are one person's.
func (w *World) isSame(a, b types.JID) bool {
	for _, p := range w.people {
		if (p.pn.User == a.User || p.lid.User == a.User) && (p.pn.User == b.User || p.lid.User == b.User) {
			return true
		}
	}
	return a.User == b.User
}
