package wabox

import (
	"encoding/binary"
	"slices"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/util/optional"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// An original is an encrypted message that the client has not confirmed. Its sender encrypts it
// again if the client asks for that, as it does when it cannot decrypt what it has got.
type original struct {
	sender, alt types.JID
	msg         *waE2E.Message
	mediaType   string
	node        waBinary.Node // without content
	broken      int           // how many more copies of it are to arrive broken
}

// An originalKey is what a receipt of the client has to say of which message it is for.
type originalKey struct {
	id                types.MessageID
	from, participant types.JID
}

// keyOf returns the key of a message, or of a receipt. Which attribute of the node has the other
// side is up to the caller.
func keyOf(node *waBinary.Node, other string) originalKey {
	var key originalKey
	key.id, _ = node.Attrs["id"].(string)
	key.from, _ = node.Attrs[other].(types.JID)
	key.participant, _ = node.Attrs["participant"].(types.JID)
	return key
}

// sendEncrypted encrypts a message and sends it.
func (a *Account) sendEncrypted(o original) error {
	a.mu.Lock()
	if a.unlinked {
		a.mu.Unlock()
		return errUnlinked
	}
	a.originals[keyOf(&o.node, "from")] = &o
	a.mu.Unlock()
	return a.sendCopy(&o, nil, 0)
}

// sendCopy sends a copy of a message, the count-th that the client has asked for. A bundle begins a
// new session for it.
func (a *Account) sendCopy(o *original, bundle *prekey.Bundle, count int) error {
	return a.signal.encrypt(o.sender, o.alt, o.msg, bundle, func(kind string, ciphertext []byte) error {
		a.mu.Lock()
		if o.broken > 0 {
			o.broken--
			// That is inside what is authenticated: the ids of prekeys that may come
			// last take less.
			ciphertext[len(ciphertext)-20] ^= 1
		}
		a.mu.Unlock()
		attrs := waBinary.Attrs{"v": "2", "type": kind, "mediatype": o.mediaType}
		if count > 0 {
			attrs["count"] = count
		}
		node := o.node
		node.Content = []waBinary.Node{{Tag: "enc", Attrs: attrs, Content: ciphertext}}
		return a.SendNode(node)
	})
}

// confirmed handles a receipt of the client for a message: it has it, or wants another copy.
func (a *Account) confirmed(receipt *waBinary.Node) {
	key := keyOf(receipt, "to")
	retry, again := receipt.GetOptionalChildByTag("retry")
	a.mu.Lock()
	o := a.originals[key]
	if !again {
		delete(a.originals, key)
	}
	a.mu.Unlock()
	if again && o != nil {
		// If that fails, there is no client any more.
		_ = a.sendCopy(o, a.signal.newSession(receipt), retry.AttrGetter().OptionalInt("count"))
	}
}

// newSession reads the keys that a client gives with its second request for a copy, and later ones.
// It returns nil if there are none.
func (s *signal) newSession(receipt *waBinary.Node) *prekey.Bundle {
	keys, ok := receipt.GetOptionalChildByTag("keys")
	if !ok {
		return nil
	}
	bytesOf := func(n int, path ...string) []byte {
		content, _ := keys.GetChildByTag(path...).Content.([]byte)
		if len(content) != n {
			ok = false
			return make([]byte, n)
		}
		return content
	}
	number := func(path ...string) uint32 {
		return binary.BigEndian.Uint32(slices.Concat([]byte{0}, bytesOf(3, path...)))
	}
	key := func(path ...string) ecc.ECPublicKeyable { return ecc.NewDjbECPublicKey([32]byte(bytesOf(32, path...))) }
	s.mu.Lock()
	defer s.mu.Unlock()
	bundle := prekey.NewBundle(s.client.registration, s.client.device, optional.NewOptionalUint32(number("key", "id")),
		number("skey", "id"), key("key", "value"), key("skey", "value"), [64]byte(bytesOf(64, "skey", "signature")),
		identity.NewKey(key("identity")))
	if !ok {
		return nil
	}
	return bundle
}
