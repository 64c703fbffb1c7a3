package reupload

import (
	"strings"

	"go.mau.fi/whatsmeow/types"
)

// A jidTable numbers JIDs, which are few and come often. It forgets those that no record has any
// more.
type jidTable struct {
	numbers map[types.JID]uint32
	jids    []types.JID
	uses    []int
	free    []uint32
}

// use returns the number of a JID for one more record.
func (t *jidTable) use(jid types.JID) uint32 {
	n, known := t.numbers[jid]
	if !known {
		jid.User, jid.Server = strings.Clone(jid.User), strings.Clone(jid.Server) // they may be parts of something large
		if last := len(t.free) - 1; last >= 0 {
			n, t.free = t.free[last], t.free[:last]
			t.jids[n] = jid
		} else {
			n = uint32(len(t.jids))
			t.jids, t.uses = append(t.jids, jid), append(t.uses, 0)
		}
		t.numbers[jid] = n
	}
	t.uses[n]++
	return n
}

// drop takes a use of a JID back.
func (t *jidTable) drop(n uint32) {
	if t.uses[n]--; t.uses[n] == 0 {
		delete(t.numbers, t.jids[n])
		t.jids[n] = types.EmptyJID
		t.free = append(t.free, n)
	}
}
