package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of what a quote or an edit says of its message: anybody can invent that.

// A member of a group quotes a picture from before the plugin's time, under an id that does not
// exist. The message that the bot names, itself or by its table, is asked for all the same.
func TestInventedQuoteDoesNotReplaceWhatTheBotNames(t *testing.T) {
	t.Parallel()
	for _, byTable := range []bool{true, false} {
		runInBubble(t, fmt.Sprintf("byTable=%t", byTable), func(t *testing.T) {
			r := newUnregisteredRig(t)
			r.connect()
			p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
			opts := new(reupload.Options)
			ctx := reupload.WithMessage(r.ctx(), &p.evt.Info, p.image)
			if byTable {
				opts.Lookup = func(context.Context, []byte) ([]reupload.Request, error) { return []reupload.Request{p.request()}, nil }
				ctx = r.ctx()
			}
			r.register(opts)
			r.receive(wabox.Incoming{Chat: aGroup, From: mallory}, quoteOf("3EB0INVENTED", alice, p.Media))
			r.phone.Script("3EB0INVENTED", wabox.Answer{None: true})
			start := time.Now()
			data, err := r.client.Download(ctx, p.image)
			if took := time.Since(start); err != nil || !bytes.Equal(data, p.Plaintext) || took > 10*time.Second {
				t.Errorf("after %s: %v (cause: %v)", took, err, reupload.Cause(err))
			}
		})
	}
}

// Quotes from invented senders, and in the name of the one whose picture it is, do not come before
// the message that the bot's table names.
func TestQuotesDoNotComeBeforeTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.connect()
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		r.register(&reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
			return []reupload.Request{p.request()}, nil
		}})
		for i, sender := range []types.JID{bob, carol, types.NewJID("491600000000", types.DefaultUserServer), alice} {
			quote := quoteOf(fmt.Sprintf("3EB0INVENTED%d", i), sender, p.Media)
			quote.ExtendedTextMessage.ContextInfo.QuotedMessage = forged(p, i)
			r.receive(wabox.Incoming{Chat: aGroup, From: mallory}, quote)
		}
		r.phone.Phone(refuses(p.id()))
		r.heals(p)
		r.asked(2)
	})
}

// A bot downloads an edit with the info of the edit's own event. The message that was edited is
// asked for, and not the edit.
func TestEditUnderItsOwnID(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.phone.Knows("3EB0EDITED", media)
		r.phone.Strict(false)
		evt := r.receive(wabox.Incoming{Chat: aGroup, From: alice}, &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
			Type:          waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(),
			Key:           &waCommon.MessageKey{ID: proto.String("3EB0EDITED"), RemoteJID: proto.String(aGroup.String())},
			EditedMessage: &waE2E.Message{ImageMessage: media.Image()},
		}})
		r.box.Expire(media)
		r.phone.Script(evt.Info.ID, wabox.Answer{None: true})
		data, err := r.plugin.Download(r.ctx(), &evt.Info, media.Image())
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		if req := r.phone.Requests()[0]; req.ID != "3EB0EDITED" {
			t.Errorf("asked for %s", req.ID)
		}
		r.asked(1)
	})
}

// An edit that the phone was asked for under its own id, without an answer, does not stand in for
// the message that the bot's table names.
func TestLookupKnowsBetterThanASilentEdit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var row reupload.Request
		r := newRig(t, &reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
			return []reupload.Request{row}, nil
		}})
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.phone.Knows("3EB0EDITED", media)
		r.phone.Strict(false)
		r.box.Expire(media)
		edit := types.MessageInfo{ID: "3EB0EDIT", Timestamp: time.Now(), MessageSource: types.MessageSource{Chat: aGroup, Sender: alice, IsGroup: true}}
		row = reupload.NewRequest(&edit, media.Image())
		r.phone.Script(edit.ID, wabox.Answer{None: true})
		if _, err := r.plugin.Download(r.ctx(), &edit, media.Image()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
			t.Errorf("the edit: %v (cause: %v)", err, reupload.Cause(err))
		}
		row.MessageID = "3EB0EDITED"
		data, err := r.client.Download(r.ctx(), media.Image())
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
	})
}
