package main

import (
	"context"
	"crypto/rand"
	"strconv"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/gcmutil"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A naming is a form with its addresses: one way to name a message in a request.
type naming struct {
	wabox.Form
	to, chat, participant types.JID
}

// namings returns the ways to name a file's message, one or two. All of a naming goes by phone
// numbers, or by LIDs as far as they are known. Which is first alternates, so that both are tried.
func (a *account) namings(ctx context.Context, f *file, numberFirst bool) []naming {
	pn, lid := a.own()
	by := func(jid types.JID, server string) types.JID {
		if other := a.otherName(ctx, jid); nameOf(jid) != "" && jid.Server != server && !other.IsEmpty() {
			return other
		}
		return jid
	}
	all := func(own types.JID) naming {
		n := naming{to: own}
		switch f.Kind {
		case wabox.KindHistory: // is named by its message's id alone
		case wabox.KindDirect:
			n.chat = by(f.Chat, own.Server)
		default:
			n.chat, n.participant = f.Chat, by(f.Sender, own.Server)
		}
		return n.named()
	}
	first, second := pn, lid
	if !numberFirst && !lid.IsEmpty() {
		first, second = lid, pn
	}
	namings := []naming{all(first)}
	switch {
	case f.Kind == wabox.KindHistory: // a phone that takes its time would send the part twice
	case f.Kind == wabox.KindList:
		namings = append(namings, naming{to: first, chat: by(f.Sender, first.Server)}.named())
	case !second.IsEmpty():
		namings = append(namings, all(second))
	}
	return namings
}

func (n naming) named() naming {
	n.Form = wabox.Form{To: nameOf(n.to), Chat: nameOf(n.chat), Participant: nameOf(n.participant)}
	return n
}

// send sends one request:
//
//	<receipt type="server-error" to="OWN" id="MSGID">
//	  <encrypt><enc_p/><enc_iv/></encrypt>
//	  <rmr jid="CHAT" from_me="true|false" participant="SENDER"/>
//	</receipt>
//
// One for a part of the history has category="peer" in place of the <rmr>. A bot has no need of
// this: Plugin.RequestReupload does it, and chooses the form.
func (a *account) send(ctx context.Context, f *file, mediaKey []byte, n naming) error {
	plaintext, err := proto.Marshal(&waMmsRetry.ServerErrorReceipt{StanzaID: &f.ID})
	if err != nil {
		return err
	}
	iv := make([]byte, ivSize)
	rand.Read(iv)
	ciphertext, err := gcmutil.Encrypt(retryKey(mediaKey), iv, plaintext, []byte(f.ID))
	if err != nil {
		return err
	}
	receipt := waBinary.Node{Tag: "receipt", Attrs: waBinary.Attrs{"id": f.ID, "to": n.to, "type": "server-error"}}
	content := []waBinary.Node{{Tag: "encrypt", Content: []waBinary.Node{
		{Tag: "enc_p", Content: ciphertext}, {Tag: "enc_iv", Content: iv},
	}}}
	if f.Kind == wabox.KindHistory {
		receipt.Attrs["category"] = "peer"
	} else {
		rmr := waBinary.Attrs{"jid": n.chat, "from_me": strconv.FormatBool(f.FromMe)}
		if !n.participant.IsEmpty() {
			rmr["participant"] = n.participant
		}
		content = append(content, waBinary.Node{Tag: "rmr", Attrs: rmr})
	}
	receipt.Content = content
	//lint:ignore SA1019 there is no other way to send a request in a form of one's own
	return a.client.DangerousInternals().SendNode(ctx, receipt)
}

// askAgain asks the phone for a whole message, and returns what has come: see
// wabox.RecordedFile.Resent. It is "" if the phone could not be asked.
func (d *doctor) askAgain(ctx context.Context, f *file, mediaKey []byte) string {
	sender := f.Sender
	if f.Kind == wabox.KindDirect && !f.FromMe {
		sender = f.Chat
	}
	if f.FromMe {
		sender, _ = d.account.own()
	}
	_, err := d.account.client.SendPeerMessage(ctx, d.account.client.BuildUnavailableMessageRequest(f.Chat, sender, f.ID))
	if err != nil {
		return ""
	}
	var key []byte
	has := d.ear.until(ctx, d.cfg.wait, func() bool {
		key = d.ear.resent[f.ID]
		return key != nil
	})
	switch {
	case !has && ctx.Err() != nil:
		return ""
	case !has:
		return "nothing"
	case string(key) == string(mediaKey):
		return "same-key"
	}
	return "other-key"
}

// ask asks for a file in one form, and reports whether the phone has answered in time.
func (d *doctor) ask(ctx context.Context, f *file, mediaKey []byte, n naming) (answered bool, err error) {
	t := &try{Form: n.Form, At: time.Now()}
	var before int
	d.ear.locked(func() {
		f.Tries = append(f.Tries, t)
		before = d.ear.heard
	})
	// What was sent is known in any case, so that an answer that comes later finds it.
	if err := d.save(); err != nil {
		return false, err
	}
	if err := d.account.send(ctx, f, mediaKey, n); err != nil {
		d.ear.locked(func() { f.Tries = f.Tries[:len(f.Tries)-1] })
		return false, err
	}
	d.ear.until(ctx, d.cfg.wait, func() bool { return t.hasAnswer() || t.Refused > 0 || d.ear.heard > before && f.hasAnswer() })
	d.ear.locked(func() { answered = t.hasAnswer() || t.Refused > 0 })
	return answered, d.save()
}
