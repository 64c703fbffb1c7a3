package reupload_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The errors of a client that is not linked say what to do.
func TestNotLoggedIn(t *testing.T) {
	t.Parallel()
	client := whatsmeow.NewClient(wabox.NewDevice(), nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	picture := &waE2E.Message{ImageMessage: image(1)}
	_, errRequest := plugin.RequestReupload(t.Context(), reupload.NewRequest(carrierInfo(alice, alice), picture.ImageMessage))
	for what, err := range map[string]error{
		"Remember":        plugin.Remember(t.Context(), carrierInfo(alice, alice), picture),
		"RequestReupload": errRequest,
	} {
		if !errors.Is(err, whatsmeow.ErrNotLoggedIn) || !strings.Contains(err.Error(), "link it") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestExpiredDownloadHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

func TestUnhealedDownloadKeepsItsError(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

func TestTwoFilesOfOneMessageOverABreak(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
		// Seldom the second request goes out over the new connection, but was begun before. Then it
		// counts as lost with the old one, and is made again.
		if n := r.phone.RequestCount(); n != 3 && n != 4 {
			t.Errorf("the phone was asked %d times", n)
		}
		next[*events.Disconnected](r)
	})
}

func TestPanicInOnReuploadIsContained(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

func TestOnReuploadCanClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

func TestRememberRefusesWhatNamesNoMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		nowhere := carrierInfo(types.EmptyJID, alice)
		for _, info := range []*types.MessageInfo{nil, {}, nowhere} {
			if err := r.plugin.Remember(t.Context(), info, &waE2E.Message{ImageMessage: image(1)}); !errors.Is(err, reupload.ErrInvalidRequest) {
				t.Errorf("%v: %v", info, err)
			}
		}
	})
}

// A bot that asks by itself: its request is ours, too.
func TestBotThatAsksByItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		answer := make(chan struct{})
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			return append(acknowledges(req), wabox.Answer{Result: wabox.Success, Hold: answer})
		})
		if err := r.client.SendMediaRetryReceipt(r.ctx(), &p.evt.Info, p.MediaKey); err != nil {
			t.Fatal(err)
		}
		r.waitAcknowledged(p.id())
		done := make(chan error, 3)
		for range 3 {
			go func() { _, err := r.client.Download(r.ctx(), p.image); done <- err }()
		}
		until(t, "the downloads wait", func() bool { return r.plugin.Stats().Waiting == 1 })
		close(answer)
		for range 3 {
			if err := <-done; err != nil {
				t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
			}
		}
		r.asked(1)
		if n := r.plugin.Stats().Asked; n != 0 {
			t.Errorf("we have asked %d times", n)
		}
		// From now on it is left to the bot whether the phone is asked, unless the plugin is
		// called.
		r.phone.Phone(nil)
		next := r.receivePicture()
		if _, err := r.client.Download(r.ctx(), next.image); !errors.Is(reupload.Cause(err), reupload.ErrNotAsked) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(1)
		if _, err := r.plugin.Download(r.ctx(), &next.evt.Info, next.image); err != nil {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(2)
	})
}

func TestLogIsQuietInAStorm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		if n := r.log.count("INFO", "Expired media will be asked for: index in memory"); n != 1 {
			t.Errorf("Register has said %d times what it does", n)
		}
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.NotFound}} })
		for range 30 {
			p := r.receivePicture()
			r.fails(p, reupload.ErrNotFound)
			r.fails(p, reupload.ErrNotFound)
		}
		r.phone.Phone(nil)
		for range 5 {
			r.heals(r.receivePicture())
		}
		if n := r.log.count("INFO", "Reupload: "); n > 3 {
			t.Errorf("%d lines at Info:\n%s", n, r.log.all())
		}
		if n := r.log.count("INFO", "only its sender can bring it back"); n != 1 {
			t.Errorf("the first failure was told %d times", n)
		}
	})
}

func TestRememberWithoutAnAccount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		client := whatsmeow.NewClient(wabox.NewDevice(), nil)
		plugin, err := reupload.Register(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer plugin.Close()
		info, media := r.unseen("3EB0")
		if err = plugin.Remember(t.Context(), info, &waE2E.Message{ImageMessage: media.Image()}); !errors.Is(err, whatsmeow.ErrNotLoggedIn) {
			t.Errorf("got %v", err)
		}
	})
}

func TestStatsAreJSON(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Forget(p.id())
		_, _ = r.client.Download(r.ctx(), p.image)
		encoded, err := json.Marshal(r.plugin.Stats())
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"Healthy":0,"Expired":1,"Asked":1,"Healed":0,"Late":0,"Unhealed":{"not_found":1},"Waiting":0}`; string(encoded) != want {
			t.Errorf("got %s, want %s", encoded, want)
		}
	})
}

func TestDownloadAfterCloseHasACause(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.plugin.Close()
		_, err := r.plugin.Download(r.ctx(), &p.evt.Info, p.image)
		if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrClosed) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		if err = r.plugin.DownloadToFile(r.ctx(), &p.evt.Info, p.image, nil); !errors.Is(err, reupload.ErrInvalidRequest) {
			t.Errorf("without a file: %v", err)
		}
	})
}

func TestRegisterWithoutAMediaClient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.client.SetMediaHTTPClient(nil)
		if _, err := reupload.Register(r.client, nil); err == nil || !strings.Contains(err.Error(), "Options.HTTPClient") {
			t.Errorf("Register without a media client: %v", err)
		}
	})
}

func TestBadOptions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		for _, opts := range []reupload.Options{{Timeout: -1}, {MaxInFlight: -1}} {
			if _, err := reupload.Register(r.client, &opts); err == nil {
				t.Errorf("%+v was accepted", opts)
			}
		}
		if _, err := reupload.Register(nil, nil); !errors.Is(err, whatsmeow.ErrClientIsNil) || !strings.Contains(err.Error(), "whatsmeow.NewClient") {
			t.Errorf("nil client: %v", err)
		}
	})
}
