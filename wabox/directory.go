package wabox

import (
	"strconv"
	"strings"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// usync answers a client that asks about users. Everybody is on WhatsApp, with a phone and
// no other device.
func (a *Account) usync(usync waBinary.Node) waBinary.Node {
	query := usync.GetChildByTag("query")
	var users []waBinary.Node
	list := usync.GetChildByTag("list")
	for _, asked := range list.GetChildren() {
		users = append(users, a.userInfo(asked, query))
	}
	return waBinary.Node{Tag: "usync", Attrs: usync.Attrs, Content: []waBinary.Node{{Tag: "list", Content: users}}}
}

func (a *Account) userInfo(asked, query waBinary.Node) waBinary.Node {
	jid, _ := asked.Attrs["jid"].(types.JID)
	contact, byNumber := asked.GetOptionalChildByTag("contact")
	if byNumber {
		number, _, _ := strings.Cut(strings.TrimPrefix(text(contact), "+"), "@")
		jid = types.NewJID(number, types.DefaultUserServer)
	}
	attrs, content := waBinary.Attrs{"jid": jid}, []waBinary.Node(nil)
	for _, what := range query.GetChildren() {
		switch what.Tag {
		case "devices":
			content = append(content, waBinary.Node{Tag: "devices", Content: []waBinary.Node{{
				Tag: "device-list", Content: a.devicesOf(jid),
			}}})
		case "lid":
			if lid := a.lidOf(jid); !lid.IsEmpty() {
				content = append(content, waBinary.Node{Tag: "lid", Attrs: waBinary.Attrs{"val": lid}})
			}
		case "contact":
			attrs["pn_jid"] = jid
			content = append(content, waBinary.Node{
				Tag: "contact", Attrs: waBinary.Attrs{"type": "in"}, Content: []byte(text(contact)),
			})
		}
	}
	return waBinary.Node{Tag: "user", Attrs: attrs, Content: content}
}

// lidOf returns the LID of a user, as the client is told it. It is empty for a user who is asked
// about by LID.
func (a *Account) lidOf(jid types.JID) types.JID {
	if jid.Server != types.DefaultUserServer {
		return types.EmptyJID
	}
	lid := a.box.people.lidOf(jid)
	a.signal.tell(lid, jid)
	return lid
}

func (a *Account) devicesOf(jid types.JID) []waBinary.Node {
	devices := []waBinary.Node{{Tag: "device", Attrs: waBinary.Attrs{"id": "0"}}}
	if l := a.linked.Load(); l != nil && a.isOwn(jid) {
		id := strconv.Itoa(int(l.id.Device))
		devices = append(devices, waBinary.Node{Tag: "device", Attrs: waBinary.Attrs{"id": id, "key-index": "1"}})
	}
	return devices
}

// preKeys answers a client that wants to begin sessions with devices.
func (a *Account) preKeys(key waBinary.Node) waBinary.Node {
	var users []waBinary.Node
	for _, asked := range key.GetChildren() {
		if jid, ok := asked.Attrs["jid"].(types.JID); ok {
			users = append(users, a.signal.keysOf(jid))
		}
	}
	return waBinary.Node{Tag: "list", Content: users}
}
