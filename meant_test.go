package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of which message a bot means that names one which was never seen.

// An index that fails to tell whether a message was seen is no reason to take another one for it.
func TestNamedMessageOfAnIndexThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		index := &forgetfulIndex{Index: reupload.NewMemoryIndex(0)}
		r := newRig(t, &reupload.Options{Index: index})
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		in := wabox.Incoming{Chat: aGroup, From: alice}
		named := r.receive(in, &waE2E.Message{ImageMessage: media.Image()})
		time.Sleep(time.Minute)
		lost := r.receive(in, &waE2E.Message{ImageMessage: media.Image()})
		r.box.Expire(media)
		index.fails.Store(true)
		r.phone.Script(lost.Info.ID, wabox.Answer{Result: wabox.NotFound})
		data, err := r.plugin.Download(r.ctx(), &named.Info, named.Message.GetImageMessage())
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		if req := r.phone.Requests()[0]; req.ID != named.Info.ID {
			t.Errorf("asked for %s, want %s", req.ID, named.Info.ID)
		}
	})
}

// A forgetfulIndex can fail to say what it knows of messages.
type forgetfulIndex struct {
	reupload.Index
	fails atomic.Bool
}

func (x *forgetfulIndex) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	if x.fails.Load() {
		return nil, errors.New("it fails")
	}
	return x.Index.ByMessage(ctx, account, id)
}

// The same person has sent a file twice, and the phone has lost it in the message that was seen.
// The one that the bot's table names is asked for, though it looks like the first.
func TestLookupNamesAnotherCopy(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var row reupload.Request
		r := newUnregisteredRig(t)
		r.connect()
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		in := wabox.Incoming{Chat: aGroup, From: alice}
		evt := r.receive(in, &waE2E.Message{ImageMessage: media.Image()})
		row = reupload.NewRequest(&evt.Info, media.Image())
		r.register(&reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
			return []reupload.Request{row}, nil
		}})
		seen := r.receive(in, &waE2E.Message{ImageMessage: media.Image()})
		r.box.Expire(media)
		r.phone.Script(seen.Info.ID, wabox.Answer{Result: wabox.NotFound})
		r.heals(picture{media, seen, seen.Message.GetImageMessage()})
		r.asked(2)
	})
}

// Lookup has a wrong id for a message that was seen: that message is meant. One that is named
// rightly is not taken for the wrong one that Lookup has given before.
func TestLookupWithWrongIDs(t *testing.T) {
	t.Parallel()
	wrong := func(p *picture) func(context.Context, []byte) ([]reupload.Request, error) {
		return func(context.Context, []byte) ([]reupload.Request, error) {
			req := p.request()
			req.MessageID += "X"
			return []reupload.Request{req}, nil
		}
	}
	runInBubble(t, "seen", func(t *testing.T) {
		var p picture
		r := newRig(t, &reupload.Options{Lookup: wrong(&p)})
		p = r.receivePicture()
		edit := p.Media.Image()
		r.box.Expire(p.Media)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.GeneralError}, wabox.Answer{Result: wabox.Success})
		if _, err := r.client.Download(r.ctx(), edit); !errors.Is(reupload.Cause(err), reupload.ErrGeneral) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(1) // and not for the wrong id
		time.Sleep(2 * time.Hour)
		r.heals(p)
	})
	runInBubble(t, "not seen", func(t *testing.T) {
		var p picture
		r := newUnregisteredRig(t)
		r.connect()
		p = r.receivePicture()
		r.register(&reupload.Options{Lookup: wrong(&p)})
		r.fails(p, reupload.ErrGeneral)
		ctx := reupload.WithRequest(r.ctx(), p.request(), p.FileEncSHA256)
		if _, err := r.client.Download(ctx, p.Media.Image()); err != nil {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
	})
}

// A bot names a message that was never seen, with a file that was seen in another chat. That is
// another message: the one that it names is asked for.
func TestFileOfAnotherChatIsNotMeant(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		info, media := r.unseen("UNSEEN")
		r.receive(wabox.Incoming{From: alice}, &waE2E.Message{ImageMessage: media.Image()})
		if data, err := r.plugin.Download(r.ctx(), info, media.Image()); err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		if req := r.asks(1)[0]; req.ID != info.ID || req.Chat != info.Chat {
			t.Errorf("asked for %s in %s", req.ID, req.Chat)
		}
	})
}
