package reupload

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"go.mau.fi/whatsmeow/types"
	"golang.org/x/crypto/hkdf"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"go.mau.fi/whatsmeow/proto/waMmsRetry"
)

const (
	retryKeySize = 32 // AES-256
	retryIVSize  = 12 // the nonce size of GCM; whatsmeow's DecryptMediaRetryNotification panics on any other
	retryTagSize = 16

	stanzaIDField = 1 // of waMmsRetry.ServerErrorReceipt

	// retryKeyInfo separates this key from the ones that encrypt the file itself
	// (WAWebMmsRetry; whatsmeow, mediaretry.go).
	retryKeyInfo = "WhatsApp Media Retry Notification"
)

var errUndecryptable = errors.New("message authentication failed: the phone used another media key or message id")

// An envelope is what the <encrypt> element carries: ciphertext with tag (enc_p) and nonce
// (enc_iv).
type envelope struct {
	ciphertext, iv []byte
}

// A retryCipher seals requests and opens answers about one file. Both directions use AES-256-GCM
// under a key derived from the media key, with the bytes of the message id as additional data.
type retryCipher struct {
	aead cipher.AEAD
}

// newRetryCipher derives the cipher from a media key of 32 bytes.
func newRetryCipher(mediaKey []byte) (retryCipher, error) {
	if len(mediaKey) != mediaKeySize {
		return retryCipher{}, fmt.Errorf("%w: the media key has %d bytes, want %d", ErrInvalidRequest, len(mediaKey), mediaKeySize)
	}
	var key [retryKeySize]byte
	if _, err := io.ReadFull(hkdf.New(sha256.New, mediaKey, nil, []byte(retryKeyInfo)), key[:]); err != nil {
		return retryCipher{}, fmt.Errorf("deriving the retry key: %w", err)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return retryCipher{}, err
	}
	aead, err := cipher.NewGCM(block)
	return retryCipher{aead}, err
}

// sealRequest encrypts the request for a message under a fresh random nonce. Its plaintext is a
// waMmsRetry.ServerErrorReceipt, whose one field is the message id.
func (c retryCipher) sealRequest(id types.MessageID) envelope {
	plaintext := make([]byte, 0, 8+len(id))
	plaintext = protowire.AppendTag(plaintext, stanzaIDField, protowire.BytesType)
	plaintext = protowire.AppendString(plaintext, id)
	nonce := make([]byte, retryIVSize, retryIVSize+len(plaintext)+retryTagSize) // with room for the ciphertext
	rand.Read(nonce)
	return c.seal(id, plaintext, nonce)
}

// seal appends the ciphertext to the nonce.
func (c retryCipher) seal(id types.MessageID, plaintext, nonce []byte) envelope {
	buf := c.aead.Seal(nonce, nonce, plaintext, []byte(id))
	return envelope{ciphertext: buf[len(nonce):], iv: buf[:len(nonce):len(nonce)]}
}

// openAnswer decrypts the answer about a message. The error is errUndecryptable, perhaps wrapped,
// when the envelope is not authentic under this key and id, and wraps ErrInvalidAnswer when it is
// but does not hold what it should.
func (c retryCipher) openAnswer(id types.MessageID, env envelope) (*waMmsRetry.MediaRetryNotification, error) {
	if len(env.iv) != retryIVSize {
		return nil, fmt.Errorf("%w (the nonce has %d bytes, want %d)", errUndecryptable, len(env.iv), retryIVSize)
	}
	plaintext, err := c.aead.Open(nil, env.iv, env.ciphertext, []byte(id))
	if err != nil {
		return nil, errUndecryptable // GCM's own error says no more
	}
	answer := new(waMmsRetry.MediaRetryNotification)
	if proto.Unmarshal(plaintext, answer) != nil { // the error could quote the plaintext
		return nil, fmt.Errorf("%w: it is not a MediaRetryNotification", ErrInvalidAnswer)
	}
	return answer, nil
}
