package wabox

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/sha256"
	"slices"
	"strings"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"go.mau.fi/whatsmeow/util/hkdfutil"
	"go.mau.fi/whatsmeow/util/keys"
	"golang.org/x/crypto/curve25519"
)

// A companionHello is what a client sends when it has made a linking code: a key that is encrypted
// with the code.
type companionHello struct {
	jid     types.JID // the account that the client wants to be linked to
	ref     []byte
	wrapped []byte
}

// wrappedKeyLength is that of a salt, an IV and a key.
const wrappedKeyLength = 32 + 16 + 32

// newCompanionHello reads a hello. It returns nil if that is malformed.
func newCompanionHello(reg waBinary.Node) *companionHello {
	jid, _ := reg.Attrs["jid"].(types.JID)
	wrapped, _ := reg.GetChildByTag("link_code_pairing_wrapped_companion_ephemeral_pub").Content.([]byte)
	if jid.IsEmpty() || len(wrapped) != wrappedKeyLength {
		return nil
	}
	return &companionHello{jid.ToNonAD(), randomBytes(16), wrapped}
}

// An exchange is the phone's side of linking by code.
type exchange struct {
	hello     *companionHello
	code      string
	ephemeral *keys.KeyPair
	shared    []byte // with the client's ephemeral key
}

func newExchange(hello *companionHello, code string) (*exchange, error) {
	code = strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(code))
	if len(code) != 8 {
		return nil, errBadCode
	}
	theirs, err := cryptWithCode(code, hello.wrapped[:32], hello.wrapped[32:48], hello.wrapped[48:])
	if err != nil {
		return nil, err
	}
	e := &exchange{hello: hello, code: code, ephemeral: keys.NewKeyPair()}
	if e.shared, err = curve25519.X25519(e.ephemeral.Priv[:], theirs); err != nil {
		return nil, errWrongCode
	}
	return e, nil
}

// cryptWithCode encrypts or decrypts with a linking code, both of which are the same.
func cryptWithCode(code string, salt, iv, data []byte) ([]byte, error) {
	key, err := pbkdf2.Key(sha256.New, code, salt, 2<<16, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, len(data))
	cipher.NewCTR(block, iv).XORKeyStream(out, data)
	return out, nil
}

// primaryHello tells the client the phone's keys.
func (e *exchange) primaryHello(phone *keys.KeyPair) waBinary.Node {
	salt, iv := randomBytes(32), randomBytes(16)
	key, _ := cryptWithCode(e.code, salt, iv, e.ephemeral.Pub[:]) // the code has been used before
	return waBinary.Node{
		Tag: "notification",
		Attrs: waBinary.Attrs{
			"from": types.ServerJID, "type": "link_code_companion_reg", "id": newMessageID(), "t": time.Now().Unix(),
		},
		Content: []waBinary.Node{{
			Tag: "link_code_companion_reg", Attrs: waBinary.Attrs{"stage": "primary_hello"},
			Content: []waBinary.Node{
				{Tag: "link_code_pairing_wrapped_primary_ephemeral_pub", Content: slices.Concat(salt, iv, key)},
				{Tag: "primary_identity_pub", Content: phone.Pub[:]},
				{Tag: "link_code_pairing_ref", Content: e.hello.ref},
			},
		}},
	}
}

// secret returns what the client will accept a pairing under, out of the keys that it has wrapped
// for the phone.
func (e *exchange) secret(wrapped []byte, phone *keys.KeyPair, client [32]byte) ([]byte, error) {
	if len(wrapped) < 32+12 {
		return nil, errWrongCode
	}
	key := hkdfutil.SHA256(e.shared, wrapped[:32], []byte("link_code_pairing_key_bundle_encryption_key"), 32)
	bundle, err := gcmutil.Decrypt(key, wrapped[32:44], wrapped[44:], nil)
	if err != nil || len(bundle) != 96 || string(bundle[:32]) != string(client[:]) || string(bundle[32:64]) != string(phone.Pub[:]) {
		return nil, errWrongCode
	}
	identities, err := curve25519.X25519(phone.Priv[:], client[:])
	if err != nil {
		return nil, err
	}
	return hkdfutil.SHA256(slices.Concat(e.shared, identities, bundle[64:]), nil, []byte("adv_secret"), 32), nil
}
