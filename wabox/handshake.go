package wabox

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.mau.fi/whatsmeow/proto/waWa6"
	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/util/keys"
	"google.golang.org/protobuf/proto"
)

// handshake returns the account that the client belongs to, or nil if there is none with its key.
// One that is not linked yet has its registration in c.
func (c *conn) handshake() (*Account, error) {
	prologue := make([]byte, len(socket.WAConnHeader))
	if _, err := io.ReadFull(c.reader, prologue); err != nil {
		return nil, err
	}
	if !bytes.Equal(prologue, socket.WAConnHeader) {
		return nil, errors.New("wabox: not a WhatsApp client")
	}
	noise, err := newNoiseState(prologue)
	if err != nil {
		return nil, err
	}
	var hello waWa6.HandshakeMessage
	if err := c.readHandshake(&hello); err != nil {
		return nil, err
	}
	theirs := hello.GetClientHello().GetEphemeral()
	ours, static := keys.NewKeyPair(), c.box.authority.noise
	noise.mixHash(theirs)
	noise.mixHash(ours.Pub[:])
	if err := noise.mixDH(ours.Priv[:], theirs); err != nil {
		return nil, err
	}
	sealedStatic := noise.seal(static.Pub[:])
	if err := noise.mixDH(static.Priv[:], theirs); err != nil {
		return nil, err
	}
	answer, err := proto.Marshal(&waWa6.HandshakeMessage{ServerHello: &waWa6.HandshakeMessage_ServerHello{
		Ephemeral: ours.Pub[:], Static: sealedStatic, Payload: noise.seal(c.box.authority.chain),
	}})
	if err != nil {
		return nil, err
	}
	if err := c.writeFrame(answer); err != nil {
		return nil, err
	}

	var finish waWa6.HandshakeMessage
	if err := c.readHandshake(&finish); err != nil {
		return nil, err
	}
	clientStatic, err := noise.open(finish.GetClientFinish().GetStatic())
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to decrypt client's key: %w", err)
	}
	if err := noise.mixDH(ours.Priv[:], clientStatic); err != nil {
		return nil, err
	}
	data, err := noise.open(finish.GetClientFinish().GetPayload())
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to decrypt client's payload: %w", err)
	}
	var payload waWa6.ClientPayload
	if err := proto.Unmarshal(data, &payload); err != nil {
		return nil, err
	}
	if c.receive.aead, c.send.aead, err = noise.split(); err != nil {
		return nil, err
	}
	if data := payload.GetDevicePairingData(); data != nil {
		c.registration, err = newRegistration(clientStatic, data)
		return nil, err
	}
	return c.box.ownerOf(payload.GetUsername(), payload.GetDevice(), clientStatic), nil
}

func (c *conn) readHandshake(message *waWa6.HandshakeMessage) error {
	frame, err := c.readFrame()
	if err != nil {
		return err
	}
	return proto.Unmarshal(frame, message)
}
