package wabox

import (
	"fmt"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// A group is what a client is told of one that it asks about.
type group struct {
	mode    types.AddressingMode
	members []types.JID
	created time.Time
}

// NewGroup makes a group that the account is in, with other members, and returns its address. The
// members' phone numbers become their LIDs in a group that is addressed by LIDs. A message comes
// out of the group by [Account.Deliver].
func (a *Account) NewGroup(mode types.AddressingMode, members ...types.JID) types.JID {
	own := a.PN
	if mode == types.AddressingModeLID {
		own = a.LID
		members = slices.Clone(members)
		for i, member := range members {
			if member.Server == types.DefaultUserServer {
				members[i] = a.box.people.lidOf(member)
			}
		}
	}
	a.mu.Lock()
	jid := types.NewJID(fmt.Sprintf("1203630%02d%09d", a.index, len(a.groups)+1), types.GroupServer)
	a.mu.Unlock()
	a.Group(jid, mode, slices.Concat([]types.JID{own}, members)...)
	return jid
}

// Group makes a group known to the server, or replaces what the server knows of it. Clients that
// ask about any other group are told that it does not exist.
func (a *Account) Group(jid types.JID, mode types.AddressingMode, members ...types.JID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.groups == nil {
		a.groups = make(map[types.JID]group)
	}
	a.groups[jid] = group{mode, members, time.Now()}
}

// groupQuery answers a client that asks about a group, or about all that it is in. It returns false
// if there is none.
func (a *Account) groupQuery(iq *waBinary.Node) (waBinary.Node, bool) {
	if _, all := iq.GetOptionalChildByTag("participating"); all {
		a.mu.Lock()
		jids := make([]types.JID, 0, len(a.groups))
		for jid := range a.groups {
			jids = append(jids, jid)
		}
		a.mu.Unlock()
		slices.SortFunc(jids, func(x, y types.JID) int { return slices.Compare([]byte(x.User), []byte(y.User)) })
		var infos []waBinary.Node
		for _, jid := range jids {
			if info, ok := a.groupInfo(jid); ok {
				infos = append(infos, info)
			}
		}
		return waBinary.Node{Tag: "groups", Content: infos}, true
	}
	jid, _ := iq.Attrs["to"].(types.JID)
	return a.groupInfo(jid)
}

func (a *Account) groupInfo(jid types.JID) (waBinary.Node, bool) {
	a.mu.Lock()
	g, ok := a.groups[jid]
	a.mu.Unlock()
	var members []waBinary.Node
	for i, member := range g.members {
		attrs := waBinary.Attrs{"jid": member}
		if i == 0 {
			attrs["type"] = "superadmin"
		}
		// The client is told the other address of each member that has one.
		if other := a.box.people.otherOf(member); !other.IsEmpty() {
			if other.Server == types.HiddenUserServer {
				attrs["lid"] = other
				a.signal.tell(other, member)
			} else {
				attrs["phone_number"] = other
				a.signal.tell(member, other)
			}
		}
		members = append(members, waBinary.Node{Tag: "participant", Attrs: attrs})
	}
	return waBinary.Node{
		Tag: "group",
		Attrs: waBinary.Attrs{
			"id": jid.User, "subject": "A group", "creation": g.created.Unix(), "s_t": g.created.Unix(),
			"addressing_mode": string(g.mode), "size": len(g.members),
		},
		Content: members,
	}, ok
}
