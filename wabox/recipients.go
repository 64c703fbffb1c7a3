package wabox

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"go.mau.fi/libsignal/groups"
	"go.mau.fi/libsignal/protocol"
	"go.mau.fi/libsignal/session"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

var serializer = store.SignalProtobufSerializer

// decrypt decrypts what the client has encrypted for a device, or for a group that it is in.
func (s *signal) decrypt(device, group, client types.JID, kind string, ciphertext []byte) (*waE2E.Message, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	plaintext, err := s.open(context.Background(), device, group, client, kind, ciphertext)
	if err != nil {
		return nil, err
	}
	if plaintext, err = unpad(plaintext); err != nil {
		return nil, err
	}
	msg := new(waE2E.Message)
	if err := proto.Unmarshal(plaintext, msg); err != nil {
		return nil, err
	}
	if key := msg.GetSenderKeyDistributionMessage(); key != nil {
		return msg, s.learnSenderKey(context.Background(), client, key)
	}
	return msg, nil
}

func (s *signal) open(ctx context.Context, device, group, client types.JID, kind string, ciphertext []byte) ([]byte, error) {
	address := s.address(ctx, device, types.EmptyJID).SignalAddress()
	cipher := session.NewCipher(session.NewBuilderFromSignal(s.senders, address, serializer), address)
	switch kind {
	case "pkmsg":
		msg, err := protocol.NewPreKeySignalMessageFromBytes(ciphertext, serializer.PreKeySignalMessage, serializer.SignalMessage)
		if err != nil {
			return nil, err
		}
		return cipher.DecryptMessage(ctx, msg)
	case "msg":
		msg, err := protocol.NewSignalMessageFromBytes(ciphertext, serializer.SignalMessage)
		if err != nil {
			return nil, err
		}
		return cipher.Decrypt(ctx, msg)
	case "skmsg":
		msg, err := protocol.NewSenderKeyMessageFromBytes(ciphertext, serializer.SenderKeyMessage)
		if err != nil {
			return nil, err
		}
		builder := groups.NewGroupSessionBuilder(s.senders, serializer)
		return groups.NewGroupCipher(builder, senderKeyName(group.String(), client), s.senders).Decrypt(ctx, msg)
	}
	return nil, fmt.Errorf("it is encrypted as %q", kind)
}

// learnSenderKey takes the client's key for a group. One store is all members', so that it comes
// once for each of them.
func (s *signal) learnSenderKey(ctx context.Context, client types.JID, key *waE2E.SenderKeyDistributionMessage) error {
	msg, err := protocol.NewSenderKeyDistributionMessageFromBytes(
		key.GetAxolotlSenderKeyDistributionMessage(), serializer.SenderKeyDistributionMessage)
	if err != nil {
		return err
	}
	return groups.NewGroupSessionBuilder(s.senders, serializer).Process(ctx, senderKeyName(key.GetGroupID(), client), msg)
}

func senderKeyName(group string, client types.JID) *protocol.SenderKeyName {
	return protocol.NewSenderKeyName(group, client.ToNonAD().SignalAddress())
}

func unpad(plaintext []byte) ([]byte, error) {
	if len(plaintext) == 0 {
		return nil, errors.New("it is empty")
	}
	n := plaintext[len(plaintext)-1]
	unpadded, ok := bytes.CutSuffix(plaintext, bytes.Repeat([]byte{n}, int(n)))
	if !ok || n == 0 {
		return nil, errors.New("it is not padded")
	}
	return unpadded, nil
}

// keysOf returns what the server gives the client to begin a session with a device. All devices
// have the same keys: what they know is the box's to know.
func (s *signal) keysOf(device types.JID) waBinary.Node {
	s.mu.Lock()
	defer s.mu.Unlock()
	signed := s.senders.SignedPreKey
	registration, id := make([]byte, 4), make([]byte, 4)
	binary.BigEndian.PutUint32(registration, s.senders.RegistrationID)
	binary.BigEndian.PutUint32(id, signed.KeyID)
	return waBinary.Node{Tag: "user", Attrs: waBinary.Attrs{"jid": device}, Content: []waBinary.Node{
		{Tag: "registration", Content: registration},
		{Tag: "type", Content: []byte{5}}, // Curve25519
		{Tag: "identity", Content: s.senders.IdentityKey.Pub[:]},
		{Tag: "skey", Content: []waBinary.Node{
			{Tag: "id", Content: id[1:]},
			{Tag: "value", Content: signed.Pub[:]},
			{Tag: "signature", Content: signed.Signature[:]},
		}},
	}}
}

// tell notes that the client is told that two addresses are one person's.
func (s *signal) tell(lid, pn types.JID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.senders.LIDs.PutLIDMapping(context.Background(), lid, pn)
}
