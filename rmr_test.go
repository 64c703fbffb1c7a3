package reupload

import (
	"strings"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// An answer names its message in the form in which requests are remembered, however the phone
// writes it, and in no other way if there is no such form.
func TestNamesInAnswers(t *testing.T) {
	t.Parallel()
	person, lid := types.NewJID("4915112345678", types.DefaultUserServer), types.NewJID("77000011112222", types.HiddenUserServer)
	group, nonsense := types.NewJID("120363000000000001", types.GroupServer), types.NewJID("x", "example.com")
	on := func(jid types.JID, server string) types.JID { jid.Server = server; return jid }
	device := func(jid types.JID) types.JID { jid.Device = 7; return jid }
	for _, test := range []struct{ given, want types.JID }{
		{person, person},
		{lid, lid},
		{device(person), person},
		{device(lid), lid},
		{on(person, types.LegacyUserServer), person},
		{on(person, types.HostedServer), person},
		{device(on(person, types.HostedServer)), person},
		{device(on(lid, types.HostedLIDServer)), lid},
		{group, group},
		{nonsense, nonsense},
		{types.EmptyJID, types.EmptyJID},
	} {
		rmr := waBinary.Node{Tag: "rmr", Attrs: waBinary.Attrs{"jid": test.given, "participant": test.given}}
		node := &waBinary.Node{
			Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "id": "3EB0"},
			Content: []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": "2"}}, rmr},
		}
		parsed, ok := parseAnswer(node)
		if !ok {
			t.Fatal("the node is no answer")
		}
		told, ok := answerFromEvent(&events.MediaRetry{MessageID: "3EB0", ChatID: test.given, SenderID: test.given})
		if !ok {
			t.Fatal("the event is no answer")
		}
		for what, a := range map[string]answer{"the node": parsed, "the event": told} {
			if a.chat != test.want || a.sender != test.want {
				t.Errorf("%s of %v: chat %v, sender %v, want %v", what, test.given, a.chat, a.sender, test.want)
			}
		}
	}
}

// What is larger than an answer can be is none: nothing of it is kept, or waits for its turn.
func TestAnswersAreNoLargerThanTheyCanBe(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("A", n) }
	for what, test := range map[string]struct {
		id, iv, ciphertext string
		ok                 bool
	}{
		"usual":                 {"3EB0", long(12), long(200), true},
		"as large as it can be": {long(maxMessageID), long(12), long(maxAnswer), true},
		"no message id":         {"", long(12), long(200), false},
		"a long message id":     {long(maxMessageID + 1), long(12), long(200), false},
		"a long nonce":          {"3EB0", long(maxStamp), long(200), false},
		"a large secret":        {"3EB0", long(12), long(maxAnswer + 1), false},
	} {
		node := &waBinary.Node{
			Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "id": test.id},
			Content: []waBinary.Node{{Tag: "encrypt", Content: []waBinary.Node{
				{Tag: "enc_p", Content: []byte(test.ciphertext)}, {Tag: "enc_iv", Content: []byte(test.iv)},
			}}},
		}
		if _, ok := parseAnswer(node); ok != test.ok {
			t.Errorf("%s: the node is an answer: %t", what, ok)
		}
		evt := &events.MediaRetry{MessageID: test.id, Ciphertext: []byte(test.ciphertext), IV: []byte(test.iv)}
		if _, ok := answerFromEvent(evt); ok != test.ok {
			t.Errorf("%s: the event is an answer: %t", what, ok)
		}
	}
	// An error has its names in its stamp.
	rmr := waBinary.Node{Tag: "rmr", Attrs: waBinary.Attrs{"jid": types.NewJID(long(maxStamp), types.DefaultUserServer)}}
	if _, ok := parseAnswer(&waBinary.Node{
		Tag: "notification", Attrs: waBinary.Attrs{"type": "mediaretry", "id": "3EB0"},
		Content: []waBinary.Node{{Tag: "error", Attrs: waBinary.Attrs{"code": "2"}}, rmr},
	}); ok {
		t.Error("an error with a long name is an answer")
	}
}
