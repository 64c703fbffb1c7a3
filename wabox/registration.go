package wabox

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"regexp"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/types"
)

// A registration is a client that is not linked to an account yet, and wants to be.
type registration struct {
	noise [32]byte
	keys  clientKeys
	refs  []string // each is in one of its QR codes

	// ended is closed when the connection has ended.
	ended chan struct{}
	// The rest is guarded by the box's mu.
	hello    *companionHello // what a linking code was made for
	finish   chan []byte     // gets the wrapped keys of the client, once a phone has entered the code
	pairID   string          // of the <pair-success> that the client has got
	accepted chan error      // gets what the client says to that
}

func newRegistration(noise []byte, data *waWa6.ClientPayload_DevicePairingRegistrationData) (*registration, error) {
	if len(noise) != 32 || len(data.GetEIdent()) != 32 || len(data.GetESkeyVal()) != 32 || len(data.GetESkeySig()) != 64 ||
		len(data.GetERegid()) != 4 || len(data.GetESkeyID()) != 3 {
		return nil, errors.New("wabox: malformed registration")
	}
	r := &registration{
		noise: [32]byte(noise),
		keys: clientKeys{
			identity: [32]byte(data.GetEIdent()), registration: binary.BigEndian.Uint32(data.GetERegid()),
			signedID: binary.BigEndian.Uint32(slices.Concat([]byte{0}, data.GetESkeyID())),
			signed:   [32]byte(data.GetESkeyVal()), signature: [64]byte(data.GetESkeySig()),
		},
		ended: make(chan struct{}),
	}
	for range 6 { // as many as WhatsApp gives
		r.refs = append(r.refs, "2@"+base64.StdEncoding.EncodeToString(randomBytes(48)))
	}
	return r, nil
}

// register serves a client that wants to be linked, until its connection ends.
func (c *conn) register() {
	b, r := c.box, c.registration
	b.mu.Lock()
	b.unlinked = append(b.unlinked, c)
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.unlinked = slices.DeleteFunc(b.unlinked, func(other *conn) bool { return other == c })
		close(r.ended)
	}()
	var refs []waBinary.Node
	for _, ref := range r.refs {
		refs = append(refs, waBinary.Node{Tag: "ref", Content: []byte(ref)})
	}
	if c.write(serverIQ("set", newMessageID(), waBinary.Node{Tag: "pair-device", Content: refs})) != nil {
		return
	}
	for {
		node, err := c.read()
		if err != nil {
			return
		}
		if node.Tag == "iq" && c.registering(node) != nil {
			return
		}
	}
}

// serverIQ returns an iq from the server, or its answer to one.
func serverIQ(kind, id string, content ...waBinary.Node) waBinary.Node {
	return waBinary.Node{
		Tag: "iq", Attrs: waBinary.Attrs{"from": types.ServerJID, "type": kind, "id": id, "t": time.Now().Unix()},
		Content: content,
	}
}

// displayName is what the server wants of the name that a client has itself linked under.
var displayName = regexp.MustCompile(`^[^()]+ \([^()]+\)$`)

// registering does what the server does with an iq of a client that is not linked.
func (c *conn) registering(node *waBinary.Node) error {
	id, _ := node.Attrs["id"].(string)
	kind, _ := node.Attrs["type"].(string)
	if kind == "result" || kind == "error" {
		return c.paired(node, id)
	}
	reg, ok := node.GetOptionalChildByTag("link_code_companion_reg")
	if !ok {
		return c.write(serverIQ("result", id))
	}
	switch reg.Attrs["stage"] {
	case "companion_hello":
		hello := newCompanionHello(reg)
		if hello == nil || !displayName.MatchString(text(reg.GetChildByTag("companion_platform_display"))) {
			return c.write(serverIQ("error", id, waBinary.Node{
				Tag: "error", Attrs: waBinary.Attrs{"code": "400", "text": "bad-request"},
			}))
		}
		c.box.mu.Lock()
		c.registration.hello, c.registration.finish = hello, make(chan []byte, 1)
		c.box.mu.Unlock()
		return c.write(serverIQ("result", id, waBinary.Node{
			Tag: "link_code_companion_reg", Attrs: waBinary.Attrs{"stage": "companion_hello"},
			Content: []waBinary.Node{{Tag: "link_code_pairing_ref", Content: hello.ref}},
		}))
	case "companion_finish":
		wrapped, _ := reg.GetChildByTag("link_code_pairing_wrapped_key_bundle").Content.([]byte)
		c.box.mu.Lock()
		select {
		case c.registration.finish <- wrapped:
		default:
		}
		c.box.mu.Unlock()
	}
	return c.write(serverIQ("result", id))
}

// text returns the content of a node that has text in it.
func text(node waBinary.Node) string {
	switch content := node.Content.(type) {
	case string:
		return content
	case []byte:
		return string(content)
	}
	return ""
}

// paired handles a client's answer to an iq of the server, which may be the one that told it that
// it is linked.
func (c *conn) paired(node *waBinary.Node, id string) error {
	c.box.mu.Lock()
	accepted := c.registration.accepted
	if accepted == nil || id != c.registration.pairID {
		c.box.mu.Unlock()
		return nil
	}
	c.registration.accepted = nil
	c.box.mu.Unlock()
	if _, signed := node.GetOptionalChildByTag("pair-device-sign"); !signed {
		refusal := node.GetChildByTag("error")
		accepted <- errors.New("wabox: the client refuses to be linked: " + refusal.AttrGetter().OptionalString("text"))
		return nil
	}
	accepted <- nil
	return nil
}
