package reupload

import (
	"net/http"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// What the tests outside the package need of its inside.

// RaceDetector tells whether the tests run under it.
const RaceDetector = raceDetector

// SealWith seals a plaintext under a chosen nonce.
func SealWith(mediaKey []byte, id types.MessageID, plaintext, iv []byte) (ciphertext []byte, err error) {
	c, err := newRetryCipher(mediaKey)
	if err != nil {
		return nil, err
	}
	return c.seal(id, plaintext, append([]byte(nil), iv...)).ciphertext, nil
}

// SealRequest seals a request as it is sent.
func SealRequest(mediaKey []byte, id types.MessageID) (ciphertext, iv []byte, err error) {
	c, err := newRetryCipher(mediaKey)
	if err != nil {
		return nil, nil, err
	}
	env := c.sealRequest(id)
	return env.ciphertext, env.iv, nil
}

// ReadEnvelope opens an encrypted answer and judges it.
func ReadEnvelope(mediaKey []byte, id types.MessageID, ciphertext, iv []byte) (Result, error) {
	c, err := newRetryCipher(mediaKey)
	if err != nil {
		return Result{}, err
	}
	return judge(answer{id: id, envelope: envelope{ciphertext, iv}}, c)
}

// judge reads an answer as the flight does that must be the one it is for.
func judge(a answer, c retryCipher) (Result, error) {
	r, opened := a.read(c)
	if !opened {
		r = a.unsealed()
	}
	return r.result, r.err
}

// ReadNode parses a node as the tap does, and judges the answer in it. It is not ok if it
// is no answer.
func ReadNode(mediaKey []byte, node *waBinary.Node) (r Result, ok bool, err error) {
	a, ok := parseAnswer(node)
	if !ok {
		return Result{}, false, nil
	}
	c, err := newRetryCipher(mediaKey)
	if err != nil {
		return Result{}, true, err
	}
	r, err = judge(a, c)
	return r, true, err
}

// Receipt builds the request as it is sent, with a chosen envelope.
func Receipt(req Request, own types.JID, ciphertext, iv []byte) (waBinary.Node, error) {
	req, err := req.normalize()
	if err != nil {
		return waBinary.Node{}, err
	}
	return receiptNode(req.MessageID, req.IsFromMe, address{own.ToNonAD(), req.Chat, req.Participant}, envelope{ciphertext, iv}), nil
}

var CheckDirectPath = checkDirectPath

// ExchangeTimeout returns how long a wrapped media client gives each exchange with the CDN.
func ExchangeTimeout(client *http.Client) time.Duration {
	return client.Transport.(*transport).bot.Timeout
}

// Remembered returns what is remembered of a message.
func Remembered(info *types.MessageInfo, msg *waE2E.Message, own ...types.JID) []Entry {
	isOwn := func(jid types.JID) bool { return slices.Contains(own, jid.ToNonAD()) }
	return walker{isOwn: isOwn}.mediaOf(info, msg)
}

// SealAndOpen does what one request costs: derive the key, seal the request, open and
// judge the answer.
func SealAndOpen(mediaKey []byte, id types.MessageID, ciphertext, iv []byte) error {
	c, err := newRetryCipher(mediaKey)
	if err != nil {
		return err
	}
	c.sealRequest(id)
	r, err := judge(answer{id: id, envelope: envelope{ciphertext, iv}}, c)
	if err != nil {
		return err
	}
	return r.Err()
}
