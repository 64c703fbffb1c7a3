package wabox

import (
	"context"
	"encoding/binary"
	mathrand "math/rand/v2"
	"slices"
	"sync"

	"go.mau.fi/libsignal/ecc"
	"go.mau.fi/libsignal/keys/identity"
	"go.mau.fi/libsignal/keys/prekey"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	"go.mau.fi/libsignal/util/optional"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	"google.golang.org/protobuf/proto"
)

// signal encrypts for one client, in the name of everyone who writes to it, and decrypts what it
// writes to them.
//
// A sender's messages are prekey messages ("pkmsg") of one session until the client has written
// back, and then plain ones ("msg"). Each sender uses up one of the client's one-time prekeys.
type signal struct {
	// senders has the sessions, each under the sender's address in place of the client's. One
	// identity is enough for all of them: a client compares it only with what it has seen of
	// the same sender.
	senders *store.Device

	client clientKeys
	own    [2]string // users of the account itself

	mu      sync.Mutex // one message at a time
	preKeys []preKey
}

type preKey struct {
	id  uint32
	key ecc.ECPublicKeyable
}

// clientKeys are the public keys of a client.
type clientKeys struct {
	identity, signed [32]byte
	registration     uint32
	device           uint32
	signedID         uint32
	signature        [64]byte
}

func (s *signal) init(pn, lid types.JID) {
	s.senders = NewDevice()
	_ = s.senders.LIDs.PutLIDMapping(context.Background(), lid, pn)
	s.own = [2]string{pn.User, lid.User}
}

// setClient makes a new device the one to encrypt for. What the senders know of each other stays,
// and their sessions end.
func (s *signal) setClient(client clientKeys) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client, s.preKeys = client, nil
	old := s.senders
	s.senders = NewDevice()
	s.senders.LIDs, s.senders.IdentityKey, s.senders.SignedPreKey = old.LIDs, old.IdentityKey, old.SignedPreKey
}

// phone returns the identity key of the account's own phone.
func (s *signal) phone() *keys.KeyPair {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.senders.IdentityKey
}

func (s *signal) preKeyCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.preKeys)
}

// addPreKey adds a one-time prekey out of a <key> that the client uploaded. It
// ignores malformed ones.
func (s *signal) addPreKey(node waBinary.Node) {
	id, _ := node.GetChildByTag("id").Content.([]byte)
	value, _ := node.GetChildByTag("value").Content.([]byte)
	if len(id) != 3 || len(value) != 32 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.preKeys = append(s.preKeys, preKey{
		id:  binary.BigEndian.Uint32(slices.Concat([]byte{0}, id)),
		key: ecc.NewDjbECPublicKey([32]byte(value)),
	})
}

// encrypt encrypts a message from a sender, whose other address is alt. It begins a new session if
// there are keys for one, or if there is no session yet. send is called with the ciphertext and its
// kind before any other message is encrypted.
func (s *signal) encrypt(sender, alt types.JID, msg *waE2E.Message, bundle *prekey.Bundle, send func(kind string, ciphertext []byte) error) error {
	plaintext, err := proto.Marshal(msg)
	if err != nil {
		return err
	}
	padding := 1 + mathrand.IntN(16)
	plaintext = append(plaintext, slices.Repeat([]byte{byte(padding)}, padding)...)

	s.mu.Lock()
	defer s.mu.Unlock()
	ctx := context.Background() // everything is in memory
	address := s.address(ctx, sender, alt).SignalAddress()
	builder := session.NewBuilderFromSignal(s.senders, address, serializer)
	if known, err := s.senders.ContainsSession(ctx, address); err != nil {
		return err
	} else if !known && bundle == nil {
		bundle = s.bundle(sender)
	}
	if bundle != nil {
		if err := builder.ProcessBundle(ctx, bundle); err != nil {
			return err
		}
	}
	ciphertext, err := session.NewCipher(builder, address).Encrypt(ctx, plaintext)
	if err != nil {
		return err
	}
	kind := "pkmsg"
	if ciphertext.Type() == protocol.WHISPER_TYPE {
		kind = "msg"
	}
	return send(kind, ciphertext.Serialize())
}

// address returns the address under which the client has its session with a sender. It follows the
// client's rule, with the same effects: a phone number whose LID is known is that LID, and what was
// under the number moves there.
func (s *signal) address(ctx context.Context, sender, alt types.JID) types.JID {
	if !alt.IsEmpty() && alt.Device == 0 {
		alt.Device = sender.Device
	}
	switch {
	case sender.Server == types.HiddenUserServer && alt.Server == types.DefaultUserServer:
		_ = s.senders.LIDs.PutLIDMapping(ctx, sender, alt)
	case sender.Server == types.DefaultUserServer:
		if alt.Server == types.HiddenUserServer {
			_ = s.senders.LIDs.PutLIDMapping(ctx, alt, sender)
		}
		if lid, _ := s.senders.LIDs.GetLIDForPN(ctx, sender); !lid.IsEmpty() {
			_ = s.senders.Sessions.MigratePNToLID(ctx, sender, lid)
			return lid
		}
	}
	return sender
}

// bundle returns what a sender gets from the server to begin a session. When the client has no
// one-time prekeys left, or has not uploaded any yet, it does without, as Signal allows. So does
// the own phone: a client that was not paired by whatsmeow may not know that the account's number
// and LID are one, and can keep two sessions where there is one here. Without a one-time prekey,
// which is good for one session only, it makes the second by itself.
func (s *signal) bundle(sender types.JID) *prekey.Bundle {
	oneTimeID, oneTimeKey := optional.NewEmptyUint32(), ecc.ECPublicKeyable(nil)
	if len(s.preKeys) > 0 && !slices.Contains(s.own[:], sender.User) {
		oneTimeID, oneTimeKey = optional.NewOptionalUint32(s.preKeys[0].id), s.preKeys[0].key
		s.preKeys = s.preKeys[1:]
	}
	client := s.client
	return prekey.NewBundle(client.registration, client.device, oneTimeID, client.signedID, oneTimeKey,
		ecc.NewDjbECPublicKey(client.signed), client.signature, identity.NewKey(ecc.NewDjbECPublicKey(client.identity)))
}
