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
	// answer is given to each request: if the chat has two addresses, the plugin asks under both before it gives up.
	answer  wabox.Answer
	timeout time.Duration // Options.Timeout; 0 is the default
	cut     bool          // the connection breaks when the first request has arrived
	late    bool          // the answer comes when nobody waits any more

	// What is right: the download heals if cause is nil, and else fails for that cause.
	cause  error
	advice string // what a bot does about it
}

const (
	evilHost = "evil.example"

	doNothing = "Nothing: client.Download returned the file as if it had never expired."
	giveUp    = "Ask the sender for the file, and leave the phone alone: the plugin itself does not ask again for an hour."
	tryLater  = "Download again later: the plugin asks again after a minute at the earliest."
	logIt     = "Treat the file as lost for now and log it: the plugin did not follow the answer, and asks again after a minute."
)

var faults = []fault{
	{
		name:   "success",
		story:  "the phone uploads the picture again",
		answer: wabox.Answer{Result: wabox.Success},
		advice: doNothing,
	},
	{
		name:   "not-found",
		story:  "the phone no longer has the picture",
		answer: wabox.Answer{Result: wabox.NotFound},
		cause:  reupload.ErrNotFound,
		advice: giveUp,
	},
	{
		name:   "general",
		story:  "the phone fails and does not say why",
		answer: wabox.Answer{Result: wabox.GeneralError},
		cause:  reupload.ErrGeneral,
		advice: tryLater,
	},
	{
		name:   "decryption",
		story:  "the phone says that it could not decrypt the request",
		answer: wabox.Answer{Result: wabox.DecryptionError},
		cause:  reupload.ErrDecryption,
		advice: giveUp,
	},
	{
		name:   "error-node",
		story:  "the phone says in the clear, as <error code=\"2\"/>, that it does not know the message",
		answer: wabox.Answer{ErrorCode: proto.String("2")},
		cause:  reupload.ErrGeneral,
		advice: "Download again later: nothing vouches for what was said in the clear.",
	},
	{
		name:    "offline",
		story:   "the phone is switched off, and answers when the bot has stopped waiting",
		answer:  wabox.Answer{None: true},
		timeout: 2 * time.Second,
		late:    true,
		cause:   reupload.ErrTimeout,
		advice:  "Download again later, or when Options.OnReupload tells of the late answer: the request stands on the server.",
	},
	{
		name:   "rejected",
		story:  "the server refuses the request, so that the phone never sees it",
		answer: wabox.Answer{Ack: wabox.AckError("479")},
		cause:  reupload.ErrRejected,
		advice: tryLater,
	},
	{
		name:   "garbage",
		story:  "the answer is random bytes",
		answer: wabox.Answer{Result: wabox.Success, Garbage: true},
		cause:  reupload.ErrDecryption,
		advice: giveUp,
	},
	{
		name:   "wrong-key",
		story:  "the answer is encrypted with another key",
		answer: wabox.Answer{Result: wabox.Success, WrongKey: true},
		cause:  reupload.ErrDecryption,
		advice: giveUp,
	},
	{
		name:   "bad-iv",
		story:  "the answer's nonce has 16 bytes in place of 12, at which whatsmeow's own function for answers panics",
		answer: wabox.Answer{Result: wabox.Success, IV: make([]byte, 16)},
		cause:  reupload.ErrDecryption,
		advice: giveUp,
	},
	{
		name:   "other-stanza",
		story:  "the answer is authentic, and yet speaks of another message inside",
		answer: wabox.Answer{Result: wabox.Success, StanzaID: proto.String("3EB0DECAF")},
		cause:  reupload.ErrInvalidAnswer,
		advice: logIt,
	},
	{
		name:   "evil-path",
		story:  "the answer has a path that would lead whatsmeow to another host",
		answer: wabox.Answer{Result: wabox.Success, DirectPath: "@" + evilHost + "/v/t62.7118-24/picture.enc?oh=1&oe=7FFFFFFF"},
		cause:  reupload.ErrInvalidAnswer,
		advice: logIt,
	},
	{
		name:   "no-path",
		story:  "the phone reports success and forgets the path",
		answer: wabox.Answer{Result: wabox.Success, NoPath: true},
		cause:  reupload.ErrInvalidAnswer,
		advice: logIt,
	},
	{
		name:   "no-rmr",
		story:  "the answer comes without <rmr>, so that whatsmeow makes no event of it",
		answer: wabox.Answer{Result: wabox.Success, NoRMR: true},
		advice: doNothing,
	},
	{
		name:   "twice",
		story:  "the same answer comes twice",
		answer: wabox.Answer{Result: wabox.Success, Repeat: 1},
		advice: doNothing,
	},
	{
		name:   "cut",
		story:  "the connection breaks after the request, and the answer comes when the bot is back",
		answer: wabox.Answer{Result: wabox.Success},
		cut:    true,
		advice: doNothing,
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
