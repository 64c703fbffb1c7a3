package reupload_test

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestExpiredDownloadHeals(t *testing.T) {
	t.Parallel()
	for _, status := range []int{404, 410} {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, status, "gone")
		r.heals(p)
		r.asked(1)
		visits := r.box.Hits(p.DirectPath)

		// The old message works from now on, without another request and without a visit to
		// the dead path.
		r.heals(p)
		r.asked(1)
		if n := r.box.Hits(p.DirectPath); n != visits {
			t.Errorf("the dead path was visited again")
		}
		if s := r.plugin.Stats(); s.Expired != 1 || s.Healed != 1 || s.Asked != 1 || s.Healthy != 1 || s.Waiting != 0 {
			t.Errorf("stats are %+v", s)
		}
	}
}

func TestDownloadInsideHandlerHeals(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.register(nil)
	type download struct {
		data []byte
		err  error
	}
	downloads := make(chan download, 1)
	r.client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			data, err := r.client.Download(t.Context(), msg.Message.GetImageMessage())
			downloads <- download{data, err}
		}
	})
	r.connect()
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.Expire(media)
	r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	d := <-downloads
	if d.err != nil || !bytes.Equal(d.data, media.Plaintext) {
		t.Fatalf("download inside the handler: %v (cause: %v)", d.err, reupload.Cause(d.err))
	}
	// The answer arrives as an event as well, once, and is harmless.
	next[*events.MediaRetry](r)
	r.asked(1)
}

func TestUnhealedDownloadKeepsItsError(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.phone.Forget(p.id())
	_, err := r.client.Download(r.ctx(), p.image)
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
		t.Errorf("the error is %v", err)
	}
	if cause := reupload.Cause(err); !errors.Is(cause, reupload.ErrNotFound) {
		t.Errorf("the cause is %v", cause)
	}
}

// The server acknowledges every receipt for a message under the message's id, that of its delivery
// too, which whatsmeow sends when it has handled the message: often in the moment in which the
// request is out.
func TestForeignAcksAreNotTakenForOurs(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Ack: wabox.AckError("479")}} })
	for range 100 {
		p := r.receivePicture()
		if _, err := r.client.Download(r.ctx(), p.image); !errors.Is(reupload.Cause(err), reupload.ErrRejected) {
			t.Fatalf("error %v, cause %v", err, reupload.Cause(err))
		}
	}
}

// Without the tap, acks are waited for by their id.
func TestRejectionWithoutTap(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.connect()
	r.register(nil)
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Ack: wabox.AckError("479")}} })
	info, media := r.unseen("3EB0UNSEEN")
	if _, err := r.plugin.RequestReupload(r.ctx(), reupload.NewRequest(info, media.Image())); !errors.Is(err, reupload.ErrRejected) {
		t.Errorf("got %v", err)
	}
}

func TestTwoFilesOfOneMessageOverABreak(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
	var online atomic.Bool
	r.phone.OnReceipt(func(wabox.Request) (drop bool) { return !online.Load() })
	r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
	r.box.Expire(one)
	r.box.Expire(two)
	var downloads sync.WaitGroup
	for i, media := range []whatsmeow.DownloadableMessage{one.Image(), two.Video()} {
		downloads.Go(func() {
			data, err := r.client.Download(r.ctx(), media)
			if err != nil || !bytes.Equal(data, [][]byte{one.Plaintext, two.Plaintext}[i]) {
				t.Errorf("file %d: %v (cause: %v)", i+1, err, reupload.Cause(err))
			}
		})
	}
	r.asks(1) // the other one waits: nothing but the message id tells whose an ack is
	online.Store(true)
	r.phone.Cut()
	downloads.Wait()
	r.asked(3)
	next[*events.Disconnected](r)
}

func TestPanicInOnReuploadIsContained(t *testing.T) {
	t.Parallel()
	called := make(chan struct{}, 2)
	r := newRig(t, &reupload.Options{OnReupload: func(reupload.Reupload) {
		called <- struct{}{}
		panic("the bot's own fault")
	}})
	for range 2 {
		r.heals(r.receivePicture())
		<-called
	}
	until(t, "both are in the log", func() bool { return r.log.count("ERROR", "Panic in Options.OnReupload") == 2 })
}

func TestOnReuploadCanClose(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	var r *rig
	r = newRig(t, &reupload.Options{OnReupload: func(reupload.Reupload) {
		r.plugin.Close()
		close(closed)
	}})
	r.heals(r.receivePicture())
	<-closed
	if err := r.plugin.Remember(t.Context(), carrierInfo(alice, alice), &waE2E.Message{ImageMessage: image(1)}); !errors.Is(err, reupload.ErrClosed) {
		t.Errorf("Remember after Close: %v", err)
	}
}

func TestRememberRefusesWhatNamesNoMessage(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	nowhere := carrierInfo(types.EmptyJID, alice)
	for _, info := range []*types.MessageInfo{nil, {}, nowhere} {
		if err := r.plugin.Remember(t.Context(), info, &waE2E.Message{ImageMessage: image(1)}); !errors.Is(err, reupload.ErrInvalidRequest) {
			t.Errorf("%v: %v", info, err)
		}
	}
}

// A phone that was never reached is not left alone for it.
func TestOwnOutageIsNotHeldAgainstThePhone(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 2 * time.Second})
	r.heals(r.receivePicture()) // whatsmeow knows the media hosts from now on
	p := r.receivePicture()
	r.phone.Offline(true)
	next[*events.Disconnected](r)
	if _, err := r.client.Download(r.ctx(), p.image); !errors.Is(reupload.Cause(err), whatsmeow.ErrNotConnected) {
		t.Fatalf("error %v, cause %v", err, reupload.Cause(err))
	}
	r.phone.Offline(false)
	next[*events.Connected](r)
	r.heals(p)
}
