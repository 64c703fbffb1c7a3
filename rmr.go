package reupload

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// An address is one way to name a message on the wire. Phone numbers and LIDs are different ways to name the same one.
type address struct {
	to          types.JID // the own account, without device part
	chat        types.JID
	participant types.JID // empty in one-to-one chats
}

// receiptNode builds the request:
//
//	<receipt type="server-error" to="OWN" id="MSGID">
//	  <encrypt><enc_p/><enc_iv/></encrypt>
//	  <rmr jid="CHAT" from_me="true|false" participant="SENDER"/>
//	</receipt>
func receiptNode(id types.MessageID, fromMe bool, addr address, env envelope) waBinary.Node {
	rmr := waBinary.Attrs{"jid": addr.chat, "from_me": strconv.FormatBool(fromMe)}
	if !addr.participant.IsEmpty() {
		rmr["participant"] = addr.participant
	}
	return waBinary.Node{
		Tag:   "receipt",
		Attrs: waBinary.Attrs{"id": id, "to": addr.to, "type": "server-error"},
		Content: []waBinary.Node{
			{Tag: "encrypt", Content: []waBinary.Node{
				{Tag: "enc_p", Content: env.ciphertext},
				{Tag: "enc_iv", Content: env.iv},
			}},
			{Tag: "rmr", Attrs: rmr},
		},
	}
}

// isAckOf tells whether a node is the ack of a receipt of some type, or with "" an ack of any kind. All receipts for a message
// have its id, that of its delivery too, so that the id alone does not tell.
func isAckOf(node *waBinary.Node, receiptType string) bool {
	return node != nil && node.Tag == "ack" &&
		(receiptType == "" || node.Attrs["class"] == "receipt" && node.Attrs["type"] == receiptType)
}

// ackError returns the reason that the server gives for refusing a receipt, or nil.
func ackError(ack *waBinary.Node) error {
	if code, refused := ack.Attrs["error"]; refused {
		return fmt.Errorf("%w: error %v", ErrRejected, code)
	}
	return nil
}

// An answer is what a mediaretry notification says about one message. Like WhatsApp Web, we do without its <rmr> and time.
type answer struct {
	id       types.MessageID
	envelope envelope
	isError  bool // it is an <error> node, and status is its code
	status   Status
	// stamp is all that tells one error from another about the same message: its time, and how it names the message. An
	// envelope has a nonce, and no stamp.
	stamp string
}

// parseAnswer reads a node of any kind. It is not ok if the node is no mediaretry notification or names no message.
func parseAnswer(node *waBinary.Node) (a answer, ok bool) {
	if node.Tag != "notification" || node.Attrs["type"] != "mediaretry" {
		return answer{}, false
	}
	a.id, _ = node.Attrs["id"].(string)
	if a.id == "" {
		return answer{}, false
	}
	if failure, found := node.GetOptionalChildByTag("error"); found {
		code, _ := failure.Attrs["code"].(string)
		a.isError, a.status = true, parseErrorCode(code)
		rmr := node.GetChildByTag("rmr")
		a.stamp = fmt.Sprint(node.Attrs["t"], a.status, rmr.Attrs["jid"], rmr.Attrs["participant"])
		return a, true
	}
	a.envelope.ciphertext, _ = node.GetChildByTag("encrypt", "enc_p").Content.([]byte)
	a.envelope.iv, _ = node.GetChildByTag("encrypt", "enc_iv").Content.([]byte)
	return a, true
}

// answerFromEvent is parseAnswer for a notification that whatsmeow has parsed.
func answerFromEvent(evt *events.MediaRetry) answer {
	a := answer{id: evt.MessageID, envelope: envelope{ciphertext: evt.Ciphertext, iv: evt.IV}}
	if evt.Error != nil {
		a.isError, a.status = true, knownStatus(evt.Error.Code)
		a.stamp = fmt.Sprint(evt.Timestamp.Unix(), a.status, evt.ChatID, evt.SenderID)
	}
	return a
}

// parseErrorCode reads the code of an <error> node, whose numbers are those of the encrypted result. Whatever is not one of
// them, to the letter, is a general error.
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

// read makes a Result of an answer. The cipher must be that of the message's media key. An answer that cannot be decrypted
// is a Result as well; the error wraps ErrInvalidAnswer.
func (a answer) read(c retryCipher) (Result, error) {
	if a.isError {
		return checkResult(Result{Status: a.status})
	}
	notification, err := c.openAnswer(a.id, a.envelope)
	switch {
	case errors.Is(err, errUndecryptable):
		return Result{Status: StatusDecryptionError, cause: err}, nil
	case err != nil:
		return Result{}, err
	}
	return readNotification(a.id, notification)
}

// readNotification checks a decrypted answer. WhatsApp Web as well refuses one that names another message.
func readNotification(id types.MessageID, n *waMmsRetry.MediaRetryNotification) (Result, error) {
	if n.GetStanzaID() != id {
		return Result{}, fmt.Errorf("%w: it is about another message", ErrInvalidAnswer)
	}
	return checkResult(Result{
		Status:        knownStatus(int(n.GetResult())),
		DirectPath:    n.GetDirectPath(),
		MessageSecret: n.GetMessageSecret(),
	})
}

// checkResult makes sure that a success has a path that can be used. Other answers merely lose a path that cannot.
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

// checkDirectPath tells what is wrong with a direct path. whatsmeow appends it to "https://" + host, so that a path such as
// "@evil.example/" or "//evil.example/" would lead to another host. The error does not quote the path, which is a token.
func checkDirectPath(path string) error {
	switch {
	case path == "":
		return errors.New("the direct path is missing")
	case path[0] != '/' || strings.HasPrefix(path, "//"):
		return errors.New("the direct path does not start with a single slash")
	case !utf8.ValidString(path):
		return errors.New("the direct path is not UTF-8")
	case strings.ContainsFunc(path, notInDirectPath):
		return errors.New("the direct path holds a space, control character, backslash or fragment")
	}
	u, err := url.Parse(path)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || u.Opaque != "" {
		return errors.New("the direct path is not a path with a query")
	}
	return nil
}

func notInDirectPath(r rune) bool {
	return unicode.IsSpace(r) || unicode.IsControl(r) || r == '\\' || r == '#'
}
