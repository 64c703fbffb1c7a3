package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A fault is what the phone, or the way to it, does about a request.
type fault struct {
	name  string
	story string // what happens
	// answer is given to each request: if the chat has two addresses, the plugin asks under both
	// before it gives up.
	answer  wabox.Answer
	timeout time.Duration // Options.Timeout; 0 is the default
	cut     bool          // the connection breaks when the first request has arrived
	late    bool          // the answer comes when the bot waits no longer

	// The download must heal if cause is nil, and fail for that cause otherwise.
	cause error
}

const evilHost = "evil.example"

// advice is what a bot does about a cause, by its label, in the words of the table in
// docs/causes.md.
var advice = map[string]string{
	reupload.Label(nil):                       "nothing: the file is as if it had never expired",
	reupload.Label(reupload.ErrNotFound):      "give up; ask the sender",
	reupload.Label(reupload.ErrTimeout):       "download again later; a late answer is used",
	reupload.Label(reupload.ErrGeneral):       "download again later",
	reupload.Label(reupload.ErrDecryption):    "give up",
	reupload.Label(reupload.ErrRejected):      "check chat and participant of the message that you named",
	reupload.Label(reupload.ErrInvalidAnswer): "download again later",
}

var faults = []fault{
	{
		name:   "success",
		story:  "the phone uploads the picture again",
		answer: wabox.Answer{Result: wabox.Success},
	},
	{
		name:   "not-found",
		story:  "the phone no longer has the picture",
		answer: wabox.Answer{Result: wabox.NotFound},
		cause:  reupload.ErrNotFound,
	},
	{
		name:   "general",
		story:  "the phone fails and does not say why",
		answer: wabox.Answer{Result: wabox.GeneralError},
		cause:  reupload.ErrGeneral,
	},
	{
		name:   "decryption",
		story:  "the phone says that it could not decrypt the request",
		answer: wabox.Answer{Result: wabox.DecryptionError},
		cause:  reupload.ErrDecryption,
	},
	{
		name:   "error-node",
		story:  "the phone says in the clear that it lost it: <error code=\"2\"/>",
		answer: wabox.Answer{ErrorCode: proto.String("2")},
		cause:  reupload.ErrGeneral,
	},
	{
		name:    "offline",
		story:   "the phone is off, and answers when nobody waits any more",
		answer:  wabox.Answer{None: true},
		timeout: 2 * time.Second,
		late:    true,
		cause:   reupload.ErrTimeout,
	},
	{
		name:   "rejected",
		story:  "the server refuses the request; the phone never sees it",
		answer: wabox.Answer{Ack: wabox.AckError("479")},
		cause:  reupload.ErrRejected,
	},
	{
		name:   "garbage",
		story:  "the answer is random bytes",
		answer: wabox.Answer{Result: wabox.Success, Garbage: true},
		cause:  reupload.ErrDecryption,
	},
	{
		name:   "wrong-key",
		story:  "the answer is encrypted with another key",
		answer: wabox.Answer{Result: wabox.Success, WrongKey: true},
		cause:  reupload.ErrDecryption,
	},
	{
		name:   "bad-iv",
		story:  "the answer's nonce has 16 bytes, at which whatsmeow panics",
		answer: wabox.Answer{Result: wabox.Success, IV: make([]byte, 16)},
		cause:  reupload.ErrDecryption,
	},
	{
		name:   "other-stanza",
		story:  "the answer is authentic, and speaks of another message",
		answer: wabox.Answer{Result: wabox.Success, StanzaID: proto.String("3EB0DECAF")},
		cause:  reupload.ErrInvalidAnswer,
	},
	{
		name:   "evil-path",
		story:  "the answer has a path that leads to another host",
		answer: wabox.Answer{Result: wabox.Success, DirectPath: "@" + evilHost + "/v/t62.7118-24/picture.enc?oh=1&oe=7FFFFFFF"},
		cause:  reupload.ErrInvalidAnswer,
	},
	{
		name:   "no-path",
		story:  "the phone reports success and forgets the path",
		answer: wabox.Answer{Result: wabox.Success, NoPath: true},
		cause:  reupload.ErrInvalidAnswer,
	},
	{
		name:   "no-rmr",
		story:  "the answer lacks <rmr>, so that whatsmeow makes no event of it",
		answer: wabox.Answer{Result: wabox.Success, NoRMR: true},
	},
	{
		name:   "twice",
		story:  "the same answer comes twice",
		answer: wabox.Answer{Result: wabox.Success, Repeat: 1},
	},
	{
		name:   "cut",
		story:  "the connection breaks, and the answer comes when the bot is back",
		answer: wabox.Answer{Result: wabox.Success},
		cut:    true,
	},
}

var errUnknownFault = errors.New("unknown fault")

// findFault returns the fault with a name. The error is errUnknownFault, wrapped.
func findFault(name string) (fault, error) {
	for _, f := range faults {
		if f.name == name {
			return f, nil
		}
	}
	return fault{}, fmt.Errorf("%w %q", errUnknownFault, name)
}

func listOfFaults() string {
	var list strings.Builder
	for _, f := range faults {
		fmt.Fprintf(&list, "  %-13s %s\n", f.name, f.story)
	}
	return list.String()
}
