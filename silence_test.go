package reupload_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestPhoneIsSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for _, test := range []struct {
			answer wabox.Answer
			asked  uint64 // under either name of the account, once the server has acknowledged the first
		}{
			{wabox.Answer{None: true}, 2},
			{wabox.Answer{Ack: wabox.AckNone, None: true}, 1},
		} {
			r := newRig(t, nil)
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer)
			c := r.requests(p.request())
			c.fails(t, reupload.ErrTimeout)
			if errors.Is(c.err, whatsmeow.ErrNotConnected) {
				t.Errorf("the client is connected, but the error is %v", c.err)
			}
			if c.took != defaultTimeout {
				t.Errorf("it took %s", c.took)
			}
			if s := r.plugin.Stats(); s.Waiting != 0 || s.Asked != test.asked {
				t.Errorf("stats are %+v", s)
			}
			r.phone.Script(p.id())
			r.requests(p.request()).succeeds(t)
		}
	})
}

// Many expired pictures with a phone that is off. Only the first few wait for it.
func TestPhoneThatIsOff(t *testing.T) {
	t.Parallel()
	runInBubble(t, "in handlers", func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(nil)
		var slow atomic.Int32
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetImageMessage() != nil {
				start := time.Now()
				_, err := r.client.Download(context.Background(), msg.Message.GetImageMessage())
				if took := time.Since(start); took >= defaultHandlerTimeout {
					slow.Add(1)
					if took > defaultHandlerTimeout+time.Second {
						t.Errorf("a handler was held up for %s", took)
					}
				}
				if !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
					t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
				}
			}
		})
		r.connect()
		r.phone.Phone(silent)
		for range 20 {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.box.Expire(media)
			if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
				t.Fatal(err)
			}
		}
		r.receive(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("are you there?")})
		if n := slow.Load(); n < 1 || n > 6 { // the third request has had its time after five
			t.Errorf("the text was handled after %d downloads that waited", n)
		}
	})
	runInBubble(t, "in one goroutine", func(t *testing.T) {
		r := newRig(t, nil)
		r.phone.Phone(silent)
		var p picture
		slow := 0
		for i := range 40 {
			p = r.receivePicture()
			want := reupload.ErrTimeout
			if i > 3 {
				want = reupload.ErrPhoneSilent
			}
			start := time.Now()
			r.fails(p, want)
			if time.Since(start) >= defaultTimeout {
				slow++
			}
		}
		if slow != 3 {
			t.Errorf("%d of 40 downloads waited, want 3", slow)
		}
		r.asked(4) // for the first of the three under either name of the account
		// Any answer ends it.
		r.marker()
		r.phone.Phone(nil)
		r.heals(p)
	})
}

// A stranger's dead files hold up a bot no longer if the phone answers them slowly with what is of
// no use, though one of his files has come before, nor when he sends them again.
func TestHandlersBehindSlowRefusals(t *testing.T) {
	t.Parallel()
	for name, useless := range map[string]wabox.Answer{
		"errors":                  {Result: wabox.GeneralError, Delay: 3 * time.Second},
		"paths that lead nowhere": {Result: wabox.Success, DirectPath: nowhere, Delay: 3 * time.Second},
	} {
		runInBubble(t, name, func(t *testing.T) {
			r := newUnregisteredRig(t)
			r.register(nil)
			r.client.AddEventHandler(func(evt any) {
				if msg, ok := evt.(*events.Message); ok && msg.Message.GetImageMessage() != nil {
					_, _ = r.client.Download(context.Background(), msg.Message.GetImageMessage())
				}
			})
			r.connect()
			behind := func(files []*wabox.Media) time.Duration {
				start := time.Now()
				for _, media := range files {
					if _, err := r.phone.Deliver(wabox.Incoming{From: mallory}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
						t.Fatal(err)
					}
				}
				r.receive(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("are you there?")})
				return time.Since(start)
			}
			var files []*wabox.Media
			for range 21 {
				media := r.box.Upload(content(), whatsmeow.MediaImage)
				r.box.Expire(media)
				files = append(files, media)
			}
			behind(files[:1])
			r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{useless} })
			if took := behind(files[1:]); took < 9*time.Second || took > 21*time.Second {
				t.Errorf("the text came after %s", took)
			}
			if took := behind(files[1:]); took > 5*time.Second {
				t.Errorf("the second time it came after %s", took)
			}
		})
	}
}

func TestSilentPhoneIsNotAskedForForwards(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		for range 3 {
			r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
		}
		r.box.Expire(media)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		_, err := r.client.Download(r.ctx(), media.Image())
		if !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		r.asked(2) // under either name of the account
	})
}

// One message after the other may be the one that the phone cannot find, until it is clear that it
// answers nothing at all.
func TestSilentPhoneIsAskedForEachForwardOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		for range 4 {
			r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
		}
		r.box.Expire(media)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		for range 8 {
			if _, err := r.client.Download(r.ctx(), media.Image()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
				t.Errorf("error %v, cause %v", err, reupload.Cause(err))
			}
		}
		if n := r.phone.RequestCount(); n < 4 || n > 6 { // the first under both names, and then one a minute
			t.Errorf("the phone was asked %d times", n)
		}
	})
}

// A phone that was never reached is not left alone for it.
func TestOwnOutageIsNotHeldAgainstThePhone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
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
	})
}

// A server that does not acknowledge a request has hardly passed it on: the file is asked for again
// after a minute, and not after an hour.
func TestRequestThatTheServerDoesNotAcknowledge(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Ack: wabox.AckNone, None: true})
		r.fails(p, reupload.ErrServerSilent)
		r.fails(p, reupload.ErrServerSilent)
		r.asked(1)
		r.phone.Script(p.id())
		time.Sleep(time.Minute)
		r.heals(p)
		r.asked(2)
	})
}

// A connection that goes before the server has a request says nothing of the file.
func TestOutageDuringARequestDoesNotPauseTheFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.heals(r.receivePicture()) // whatsmeow knows the media hosts from now on
		p := r.receivePicture()
		r.phone.OnReceipt(func(wabox.Request) bool {
			r.phone.Offline(true)
			return true
		})
		r.fails(p, whatsmeow.ErrNotConnected)
		r.phone.OnReceipt(nil)
		r.phone.Offline(false)
		next[*events.Connected](r)
		r.heals(p)
	})
}

// What fails because the bot has no connection does not count among the requests that a file may
// have in an hour.
func TestOutagesDoNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.box.MediaTTL(24 * time.Hour)
		r.register(nil)
		r.connect()
		p := r.receivePicture()
		r.heals(r.receivePicture()) // so that whatsmeow knows the CDN's hosts
		r.client.Disconnect()
		for range 10 {
			r.fails(p, whatsmeow.ErrNotConnected)
		}
		if err := r.client.Connect(); err != nil {
			t.Fatal(err)
		}
		next[*events.Connected](r)
		r.heals(p)
		r.asked(2)
	})
}
