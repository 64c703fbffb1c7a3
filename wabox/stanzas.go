package wabox

import (
	"context"
	"strconv"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// location is the data centre that the box says it is.
const location = "box"

// handle does what the server does with a node from the client.
func (a *Account) handle(ctx context.Context, c *conn, node *waBinary.Node) {
	id, _ := node.Attrs["id"].(string)
	switch node.Tag {
	case "iq":
		if c.write(a.answer(id, node)) != nil {
			return
		}
		if _, ok := node.GetOptionalChildByTag("active"); ok && node.Attrs["xmlns"] == "passive" {
			a.activate(ctx, c)
		}
	case "ack":
		class, _ := node.Attrs["class"].(string)
		a.acknowledged(class, id)
	case "receipt":
		if node.Attrs["type"] == "server-error" {
			a.phone.receive(c, node)
			return
		}
		a.acknowledged("message", id)
		a.confirmed(node)
		_ = c.write(ackTo(node, ""))
	case "message":
		a.send(node)
		_ = c.write(ackTo(node, ""))
	}
}

// answer returns the answer to an iq.
func (a *Account) answer(id string, iq *waBinary.Node) waBinary.Node {
	result := waBinary.Node{Tag: "iq", Attrs: waBinary.Attrs{"id": id, "type": "result", "from": types.ServerJID}}
	var query waBinary.Node
	if children := iq.GetChildren(); len(children) > 0 {
		query = children[0]
	}
	switch namespace, _ := iq.Attrs["xmlns"].(string); {
	case namespace == "encrypt" && query.Tag == "count":
		result.Content = []waBinary.Node{{
			Tag: "count", Attrs: waBinary.Attrs{"value": a.signal.preKeyCount()},
		}}
	case namespace == "encrypt" && iq.Attrs["type"] == "set":
		list := iq.GetChildByTag("list")
		for _, key := range list.GetChildren() {
			a.signal.addPreKey(key)
		}
	case namespace == "w:m" && query.Tag == "media_conn":
		result.Content = []waBinary.Node{a.box.cdn.mediaConn()}
	case namespace == "encrypt" && query.Tag == "key":
		result.Content = []waBinary.Node{a.preKeys(query)}
	case namespace == "usync" && query.Tag == "usync":
		result.Content = []waBinary.Node{a.usync(query)}
	case namespace == "w:g2" && (query.Tag == "query" || query.Tag == "participating"):
		if info, ok := a.groupQuery(iq); ok {
			result.Content = []waBinary.Node{info}
		} else {
			result.Attrs["type"] = "error"
			result.Content = []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": "404", "text": "item-not-found"}}}
		}
	case namespace == "privacy":
		result.Content = []waBinary.Node{{Tag: "privacy"}}
	}
	return result
}

func (c *cdn) mediaConn() waBinary.Node {
	var hosts []waBinary.Node
	names, ttl := c.mediaHosts()
	for _, host := range names {
		hosts = append(hosts, waBinary.Node{Tag: "host", Attrs: waBinary.Attrs{"hostname": host}})
	}
	return waBinary.Node{
		Tag:     "media_conn",
		Attrs:   waBinary.Attrs{"auth": "in-a-box", "ttl": int(ttl / time.Second), "auth_ttl": 21600, "max_buckets": 12},
		Content: hosts,
	}
}

// ackTo returns the server's ack of a receipt or message, which refuses it if there is
// an error code.
func ackTo(node *waBinary.Node, code string) waBinary.Node {
	attrs := waBinary.Attrs{
		"class": node.Tag,
		"id":    node.Attrs["id"],
		"from":  node.Attrs["to"],
		"t":     time.Now().Unix(),
	}
	for _, name := range []string{"type", "participant"} {
		if value, ok := node.Attrs[name]; ok {
			attrs[name] = value
		}
	}
	if code != "" {
		attrs["error"] = code
	}
	return waBinary.Node{Tag: "ack", Attrs: attrs}
}

// success is the first node after a good login.
func success(a *Account) waBinary.Node {
	attrs := waBinary.Attrs{"t": time.Now().Unix(), "location": location}
	return waBinary.Node{Tag: "success", Attrs: a.tellsLID(attrs, a.linked.Load().lid)}
}

// offlineEnd tells a client that it has what waited for it.
func offlineEnd(count int) waBinary.Node {
	return waBinary.Node{Tag: "ib", Content: []waBinary.Node{{
		Tag: "offline", Attrs: waBinary.Attrs{"count": strconv.Itoa(count)},
	}}}
}

// streamError is the last node of a connection that the server ends because of a conflict.
func streamError(code, conflict string) waBinary.Node {
	return waBinary.Node{
		Tag:     "stream:error",
		Attrs:   waBinary.Attrs{"code": code},
		Content: []waBinary.Node{{Tag: "conflict", Attrs: waBinary.Attrs{"type": conflict}}},
	}
}
