package reupload

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// An address is one way to name a message on the wire: the same message can be named by phone
// numbers and by LIDs.
type address struct {
	to          types.JID // the own account, without device part
	chat        types.JID // empty for a part of the history, which goes by its message's id alone
	participant types.JID // empty in one-to-one chats
}

// receiptNode builds the request:
//
//	<receipt type="server-error" to="OWN" id="MSGID">
//	  <encrypt><enc_p/><enc_iv/></encrypt>
//	  <rmr jid="CHAT" from_me="true|false" participant="SENDER"/>
//	</receipt>
//
// One for a part of the history has category="peer" in place of the <rmr> (whatsmeow,
// SendHistorySyncServerErrorReceipt).
func receiptNode(id types.MessageID, fromMe bool, addr address, env envelope) waBinary.Node {
	attrs := waBinary.Attrs{"id": id, "to": addr.to, "type": "server-error"}
	content := []waBinary.Node{{Tag: "encrypt", Content: []waBinary.Node{
		{Tag: "enc_p", Content: env.ciphertext},
		{Tag: "enc_iv", Content: env.iv},
	}}}
	if addr.chat.IsEmpty() {
		attrs["category"] = "peer"
		return waBinary.Node{Tag: "receipt", Attrs: attrs, Content: content}
	}
	rmr := waBinary.Attrs{"jid": addr.chat, "from_me": strconv.FormatBool(fromMe)}
	if !addr.participant.IsEmpty() {
		rmr["participant"] = addr.participant
	}
	return waBinary.Node{Tag: "receipt", Attrs: attrs, Content: append(content, waBinary.Node{Tag: "rmr", Attrs: rmr})}
}

// isRequestAck reports whether a node is the ack of a request. All receipts for a message have its
// id, that of its delivery too, so that the id alone does not tell.
func isRequestAck(node *waBinary.Node) bool {
	return node != nil && node.Tag == "ack" && node.Attrs["class"] == "receipt" && node.Attrs["type"] == "server-error"
}

// ackError returns the reason that the server gives for refusing a receipt, or nil.
func ackError(ack *waBinary.Node) error {
	if code, refused := ack.Attrs["error"]; refused {
		number, _ := strconv.Atoi(fmt.Sprint(code))
		return &RejectedError{Code: number}
	}
	return nil
}

// An answer is what a mediaretry notification says about one message.
type answer struct {
	id       types.MessageID
	chat     types.JID // of <rmr>, as is the sender, its participant; empty if there is none
	sender   types.JID
	envelope envelope
	isError  bool // it is an <error> node, and status is its code
	status   Status
	// stamp tells one answer about a message from another: it is the nonce, which is never used
	// twice, or all that an error says, which has no nonce. An answer that is delivered again has
	// the same stamp.
	stamp string
}

// Sizes of what an answer brings. Real ones have some 300 bytes, with a nonce of 12 and a
// secret of 32.
const (
	maxAnswer = 16 << 10 // sealed
	maxStamp  = 512
	maxSecret = 64
)

// parseAnswer reads a node of any kind. It is not ok if the node is no mediaretry notification,
// names no message, or is too large.
func parseAnswer(node *waBinary.Node) (a answer, ok bool) {
	if node.Tag != "notification" || node.Attrs["type"] != "mediaretry" {
		return answer{}, false
	}
	a.id, _ = node.Attrs["id"].(string)
	rmr := node.GetChildByTag("rmr")
	if chat, ok := rmr.Attrs["jid"].(types.JID); ok {
		a.chat = canonicalOr(chat, canonicalChat)
	}
	if sender, ok := rmr.Attrs["participant"].(types.JID); ok {
		a.sender = canonicalOr(sender, canonicalPerson)
	}
	if code, ok := node.GetOptionalChildByTag("error"); ok {
		text, _ := code.Attrs["code"].(string)
		a.isError, a.status = true, parseErrorCode(text)
		a.stamp = fmt.Sprint(node.Attrs["t"], a.status, a.chat, rmr.Attrs["participant"])
		return a, a.fits()
	}
	a.envelope.ciphertext, _ = node.GetChildByTag("encrypt", "enc_p").Content.([]byte)
	a.envelope.iv, _ = node.GetChildByTag("encrypt", "enc_iv").Content.([]byte)
	a.stamp = "sealed " + string(a.envelope.iv)
	return a, a.fits()
}

// canonicalOr returns the canonical form of a JID, or the JID itself if it has none: then it names
// nothing that can have been asked for.
func canonicalOr(jid types.JID, canonical func(types.JID) (types.JID, error)) types.JID {
	if name, err := canonical(jid); err == nil {
		return name
	}
	return jid
}

// fits reports whether an answer names a message, and is no larger than answers can be.
func (a answer) fits() bool {
	return a.id != "" && len(a.id) <= maxMessageID && len(a.envelope.ciphertext) <= maxAnswer && len(a.stamp) <= maxStamp
}

// answerFromEvent is parseAnswer for a notification that whatsmeow has parsed.
func answerFromEvent(evt *events.MediaRetry) (a answer, ok bool) {
	a = answer{
		id:       evt.MessageID,
		chat:     canonicalOr(evt.ChatID, canonicalChat),
		sender:   canonicalOr(evt.SenderID, canonicalPerson),
		envelope: envelope{ciphertext: evt.Ciphertext, iv: evt.IV},
		stamp:    "sealed " + string(evt.IV),
	}
	if evt.Error != nil {
		a.isError, a.status = true, knownStatus(evt.Error.Code)
		a.stamp = fmt.Sprint(evt.Timestamp.Unix(), a.status, evt.ChatID, evt.SenderID)
	}
	return a, a.fits()
}

// parseErrorCode reads the code of an <error> node, which has the numbers of the encrypted result.
// Any other text is a general error.
func parseErrorCode(code string) Status {
	for _, s := range [...]Status{StatusGeneralError, StatusSuccess, StatusNotFound, StatusDecryptionError} {
		if code == strconv.Itoa(int(s)) {
			return s
		}
	}
	return StatusGeneralError
}

func knownStatus(code int) Status {
	if s := Status(code); s >= StatusGeneralError && s <= StatusDecryptionError {
		return s
	}
	return StatusGeneralError
}

// read reads a sealed answer, and reports whether the cipher opens it. Then it is authentic, and
// about the file that has the cipher's media key: the phone has sealed it for this message id. The
// reading's error wraps ErrInvalidAnswer.
func (a answer) read(c retryCipher) (r reading, opened bool) {
	if a.isError {
		return reading{}, false
	}
	notification, err := c.openAnswer(a.id, a.envelope)
	if errors.Is(err, errUndecryptable) {
		return reading{}, false
	}
	r.stamp, r.sealed = a.stamp, true
	if r.err = err; err == nil {
		r.result, r.err = readNotification(a.id, notification)
	}
	return r, true
}

// names reports whether the answer names a message of a chat and a sender, who is empty in
// one-to-one chats.
func (a answer) names(chat, sender types.JID) bool {
	return a.chat == chat && (a.sender.IsEmpty() || sender.IsEmpty() || a.sender == sender)
}

// tag tells a sealed answer from any other: a nonce is never used twice.
func (a answer) tag() string { return a.id + "\x00" + a.stamp }

// unsealed reads an answer that is not authenticated: an error, or one that cannot be opened.
func (a answer) unsealed() reading {
	r := reading{stamp: a.stamp}
	if a.isError {
		r.result, r.err = checkResult(Result{Status: a.status, unsealed: true})
	} else {
		r.result = Result{Status: StatusDecryptionError, cause: errUndecryptable}
	}
	return r
}

// readNotification checks a decrypted answer. Like WhatsApp Web, it refuses one that names another
// message. One that names none is authentic all the same, because the seal covers the id.
func readNotification(id types.MessageID, n *waMmsRetry.MediaRetryNotification) (Result, error) {
	if n.GetStanzaID() != "" && n.GetStanzaID() != id {
		return Result{}, fmt.Errorf("%w: it is about another message", ErrInvalidAnswer)
	}
	secret := n.GetMessageSecret()
	if len(secret) > maxSecret {
		secret = nil
	}
	return checkResult(Result{
		Status:        knownStatus(int(n.GetResult())),
		DirectPath:    n.GetDirectPath(),
		MessageSecret: secret,
	})
}

// checkResult makes sure that a success has a path that can be used. Other answers merely lose a
// path that cannot.
func checkResult(r Result) (Result, error) {
	err := checkDirectPath(r.DirectPath)
	if r.Status == StatusSuccess && err != nil {
		return Result{}, fmt.Errorf("%w: success, but %w", ErrInvalidAnswer, err)
	}
	if err != nil {
		r.DirectPath = ""
	}
	return r, nil
}

// checkDirectPath returns what is wrong with a direct path. whatsmeow appends it to "https://" +
// host, so that a path such as "@evil.example/" or "//evil.example/" would lead to another host.
// The error does not quote the path, which is a token. For a good path it allocates nothing, since
// each message with a file has one.
func checkDirectPath(path string) error {
	switch {
	case path == "":
		return errors.New("the direct path is missing")
	case len(path) > maxDirectPath:
		return fmt.Errorf("the direct path has %d bytes, more than %d", len(path), maxDirectPath)
	case path[0] != '/' || strings.HasPrefix(path, "//"):
		return errors.New("the direct path does not start with a single slash")
	case !utf8.ValidString(path):
		return errors.New("the direct path is not UTF-8")
	case strings.ContainsFunc(path, notInDirectPath):
		return errors.New("the direct path holds a space, control character, backslash or fragment")
	}
	if before, _, _ := strings.Cut(path, "?"); !hasWholeEscapes(before) {
		return errors.New("the direct path holds a percent sign without two hexadecimal digits")
	}
	return nil
}

// hasWholeEscapes reports whether each percent sign is followed by two hexadecimal digits.
func hasWholeEscapes(path string) bool {
	for {
		_, rest, found := strings.Cut(path, "%")
		switch {
		case !found:
			return true
		case len(rest) < 2 || !isHex(rest[0]) || !isHex(rest[1]):
			return false
		}
		path = rest[2:]
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func notInDirectPath(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\\' || r == '#'
}
