package wabox

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"go.mau.fi/whatsmeow/socket"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"golang.org/x/crypto/curve25519"
)

// A cipherState encrypts or decrypts one direction, with a counter for nonce.
type cipherState struct {
	aead    cipher.AEAD
	counter uint32
}

func (c *cipherState) nonce() []byte {
	nonce := make([]byte, 12)
	binary.BigEndian.PutUint32(nonce[8:], c.counter)
	c.counter++
	return nonce
}

// A noiseState is the symmetric state of a Noise_XX_25519_AESGCM_SHA256 handshake.
// whatsmeow's own cannot be used for it: it gives the final keys to a client's socket only,
// and in the client's order.
type noiseState struct {
	cipherState
	hash, salt []byte
}

func newNoiseState(prologue []byte) (*noiseState, error) {
	// The name of the protocol is exactly as long as a hash, and so is used unhashed.
	name := []byte(socket.NoiseStartPattern)
	n := &noiseState{hash: name, salt: name}
	var err error
	if n.aead, err = gcmutil.Prepare(name); err != nil {
		return nil, err
	}
	n.mixHash(prologue)
	return n, nil
}

func (n *noiseState) mixHash(data []byte) {
	h := sha256.New()
	h.Write(n.hash)
	h.Write(data)
	n.hash = h.Sum(nil)
}

// mixDH mixes the shared secret of a private and a public key into the cipher's key.
func (n *noiseState) mixDH(private, public []byte) error {
	secret, err := curve25519.X25519(private, public)
	if err != nil {
		return fmt.Errorf("failed to agree on a key: %w", err)
	}
	salt, key, err := n.expand(secret)
	if err != nil {
		return err
	}
	n.salt, n.counter = salt, 0
	n.aead, err = gcmutil.Prepare(key)
	return err
}

func (n *noiseState) seal(plaintext []byte) []byte {
	ciphertext := n.aead.Seal(nil, n.nonce(), plaintext, n.hash)
	n.mixHash(ciphertext)
	return ciphertext
}

func (n *noiseState) open(ciphertext []byte) ([]byte, error) {
	plaintext, err := n.aead.Open(nil, n.nonce(), ciphertext, n.hash)
	if err != nil {
		return nil, err
	}
	n.mixHash(ciphertext)
	return plaintext, nil
}

// split ends the handshake, and returns the responder's two ciphers.
func (n *noiseState) split() (receive, send cipher.AEAD, err error) {
	fromInitiator, fromResponder, err := n.expand(nil)
	if err != nil {
		return nil, nil, err
	}
	if receive, err = gcmutil.Prepare(fromInitiator); err != nil {
		return nil, nil, err
	}
	if send, err = gcmutil.Prepare(fromResponder); err != nil {
		return nil, nil, err
	}
	return receive, send, nil
}

func (n *noiseState) expand(secret []byte) (first, second []byte, err error) {
	out, err := hkdf.Key(sha256.New, secret, n.salt, "", 64)
	if err != nil {
		return nil, nil, err
	}
	return out[:32], out[32:], nil
}
