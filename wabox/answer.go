package wabox

import (
	"bytes"
	"maps"
	"slices"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"google.golang.org/protobuf/proto"
)

// Results of an [Answer], shorter than waMmsRetry has them.
const (
	GeneralError    = waMmsRetry.MediaRetryNotification_GENERAL_ERROR
	Success         = waMmsRetry.MediaRetryNotification_SUCCESS
	NotFound        = waMmsRetry.MediaRetryNotification_NOT_FOUND
	DecryptionError = waMmsRetry.MediaRetryNotification_DECRYPTION_ERROR
)

// An Ack is what the server says about a request, before the phone does. It is sent on the
// connection that the request came in on, and lost with that.
type Ack string

const (
	AckOK   Ack = ""     // it was accepted
	AckNone Ack = "none" // nothing
)

// AckError refuses a request with an error code, such as "479". The phone then never gets it, and
// the rest of the [Answer] does not happen.
func AckError(code string) Ack { return Ack(code) }

// An Answer is what the server and the phone do about one request. The zero Answer is a
// notification with the result GENERAL_ERROR, as that is 0.
type Answer struct {
	Ack      Ack // for the first of several answers to a request, and not with [Account.SendAnswer]
	AckDelay time.Duration
	Delay    time.Duration   // before the notification
	Hold     <-chan struct{} // if set, the notification waits until it is closed
	None     bool            // no notification
	Repeat   int             // how many times the notification is sent again, at once

	Result        waMmsRetry.MediaRetryNotification_ResultType
	NoResult      bool    // leave the result out
	NoPath        bool    // success without a path
	WithPath      bool    // a good path with a result other than success
	DirectPath    string  // in place of the path of a new upload, verbatim
	StanzaID      *string // in place of the message's id
	MessageSecret []byte
	// ErrorCode makes it an answer with <error code="…"/> in place of a ciphertext. If it is "",
	// the node has no code.
	ErrorCode *string

	IV       []byte // in place of 12 random bytes, verbatim. AES-GCM uses it if it has their length
	WrongKey bool   // encrypt under another key. A file that the phone does not know has no right one
	Garbage  bool   // random bytes for a ciphertext
	NoRMR    bool   // leave <rmr> out

	RMR  func(*waBinary.Node) // edits <rmr>, which repeats that of the request
	Edit func(*waBinary.Node) // edits the whole notification

	told func(path string) // is called with the path of a new upload before the notification is sent
}

// SendAnswer plays an answer to an earlier request, without an ack. It returns when the
// notification has been sent or is held for the next login. It fails if that cannot be done any
// more, as [Account.SendNode] does.
func (a *Account) SendAnswer(r Request, ans Answer) error {
	if !a.box.sleep(ans.Delay) || !a.phone.held(ans) {
		return errClosed
	}
	return a.phone.reply(r, ans)
}

// play plays the answers to a request.
func (p *phone) play(c *conn, r Request, answers []Answer) {
	box := p.account.box
	for i, ans := range answers {
		if i == 0 && ans.Ack != AckNone {
			if !box.sleep(ans.AckDelay) {
				return
			}
			if ans.Ack != AckOK {
				p.answered(r)
			}
			_ = c.write(ackTo(r.Node, string(ans.Ack)))
			if ans.Ack != AckOK {
				continue
			}
		}
		if !box.sleep(ans.Delay) || !p.held(ans) {
			return
		}
		if p.reply(r, ans) != nil {
			return
		}
	}
}

// held waits for an answer's Hold. It returns false if the box closes before that.
func (p *phone) held(ans Answer) bool {
	if ans.Hold == nil {
		return true
	}
	select {
	case <-ans.Hold:
		return true
	case <-p.account.box.ctx.Done():
		return false
	}
}

func (p *phone) reply(r Request, ans Answer) error {
	if ans.None {
		return nil
	}
	if r.isForHistory() && r.MediaKey != nil && ans.Result == Success && ans.ErrorCode == nil {
		p.answered(r)
		for range 1 + ans.Repeat {
			if err := p.sendAgain(r); err != nil {
				return err
			}
		}
		return nil
	}
	node, err := p.notification(r, ans)
	if err != nil {
		return err
	}
	p.answered(r)
	for range 1 + ans.Repeat {
		if err := p.account.SendNode(node); err != nil {
			return err
		}
	}
	return nil
}

func (p *phone) answered(r Request) {
	p.account.mu.Lock()
	defer p.account.mu.Unlock()
	delete(p.waiting, r.index)
}

// notification builds the phone's answer to a request.
func (p *phone) notification(r Request, ans Answer) (waBinary.Node, error) {
	node := waBinary.Node{Tag: "notification", Attrs: waBinary.Attrs{
		"type": "mediaretry", "id": r.ID, "from": r.To, "t": time.Now().Unix(),
	}}
	var content []waBinary.Node
	if ans.ErrorCode != nil {
		content = append(content, waBinary.Node{Tag: "error", Attrs: waBinary.Attrs{"code": *ans.ErrorCode}})
	} else {
		ciphertext, iv, err := p.encrypt(r, ans)
		if err != nil {
			return waBinary.Node{}, err
		}
		content = append(content, waBinary.Node{Tag: "encrypt", Content: []waBinary.Node{
			{Tag: "enc_p", Content: ciphertext},
			{Tag: "enc_iv", Content: iv},
		}})
	}
	if rmr, ok := r.Node.GetOptionalChildByTag("rmr"); ok && !ans.NoRMR {
		rmr.Attrs = maps.Clone(rmr.Attrs)
		if ans.RMR != nil {
			ans.RMR(&rmr)
		}
		content = append(content, rmr)
	}
	node.Content = content
	if ans.Edit != nil {
		ans.Edit(&node)
	}
	return node, nil
}

func (p *phone) encrypt(r Request, ans Answer) (ciphertext, iv []byte, err error) {
	plaintext, err := proto.Marshal(p.retryNotification(r, ans))
	if err != nil {
		return nil, nil, err
	}
	key := r.MediaKey
	if ans.WrongKey || key == nil {
		key = randomBytes(32)
	}
	iv = randomBytes(ivLength)
	if len(ans.IV) == ivLength {
		iv = ans.IV
	}
	ciphertext, err = gcmutil.Encrypt(retryKey(key), iv, plaintext, []byte(r.ID))
	if err != nil {
		return nil, nil, err
	}
	if ans.IV != nil {
		iv = bytes.Clone(ans.IV)
	}
	if ans.Garbage {
		ciphertext = randomBytes(len(ciphertext))
	}
	return ciphertext, iv, nil
}

// retryNotification returns the plaintext of an answer. It uploads the file again where the answer
// has a path.
func (p *phone) retryNotification(r Request, ans Answer) *waMmsRetry.MediaRetryNotification {
	plaintext := &waMmsRetry.MediaRetryNotification{
		StanzaID:      &r.ID,
		Result:        ans.Result.Enum(),
		MessageSecret: slices.Clone(ans.MessageSecret),
	}
	if ans.StanzaID != nil {
		plaintext.StanzaID = ans.StanzaID
	}
	if ans.NoResult {
		plaintext.Result = nil
	}
	path := ans.DirectPath
	if path == "" && r.media != nil && (ans.Result == Success || ans.WithPath) && !ans.NoPath {
		path = p.account.box.Reupload(r.media)
		if ans.told != nil && path != "" {
			ans.told(path)
		}
	}
	if path != "" {
		plaintext.DirectPath = &path
	}
	return plaintext
}
