package wabox

import (
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// A group is what a client is told of one that it asks about.
type group struct {
	mode    types.AddressingMode
	members []types.JID
}

// Group makes a group known to the server. Clients that ask about another are told that it does not exist.
func (a *Account) Group(jid types.JID, mode types.AddressingMode, members ...types.JID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.groups == nil {
		a.groups = make(map[types.JID]group)
	}
	a.groups[jid] = group{mode, members}
}

func (a *Account) groupInfo(jid types.JID) (waBinary.Node, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	g, ok := a.groups[jid]
	var members []waBinary.Node
	for _, member := range g.members {
		members = append(members, waBinary.Node{Tag: "participant", Attrs: waBinary.Attrs{"jid": member}})
	}
	return waBinary.Node{
		Tag: "group",
		Attrs: waBinary.Attrs{
			"id": jid.User, "subject": "A group", "creation": time.Now().Unix(), "s_t": time.Now().Unix(), "addressing_mode": string(g.mode),
		},
		Content: members,
	}, ok
}
