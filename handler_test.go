package reupload_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestDownloadInsideHandlerHeals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// A download inside a Connected handler, after a break, is sent again.
func TestDownloadInsideConnectedHandlerAfterABreak(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		var drop = true
		r.phone.OnReceipt(func(wabox.Request) bool { // the first request is lost with the connection
			defer func() { drop = false }()
			if drop {
				r.phone.Cut()
			}
			return drop
		})
		done := make(chan error, 10)
		r.client.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.Connected); ok {
				_, err := r.client.Download(r.ctx(), p.image)
				done <- err
			}
		})
		c := r.begin(p.request())
		if err := <-done; err != nil {
			t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
		}
		c.succeeds(t)
		r.asked(2)
	})
}

func TestCloseInsideHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(nil)
		closed := make(chan error, 1)
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok {
				_, err := r.client.Download(t.Context(), msg.Message.GetImageMessage())
				closed <- err
			}
		})
		r.connect()
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(media)
		if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			t.Fatal(err)
		}
		if _, err := r.phone.WaitRequests(r.ctx(), 1); err != nil {
			t.Fatal(err)
		}
		r.plugin.Close() // while a handler waits
		if err := <-closed; !errors.Is(reupload.Cause(err), reupload.ErrClosed) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}

		done := make(chan struct{})
		r.register(nil)
		r.client.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.Message); ok {
				r.plugin.Close() // inside a handler
				close(done)
			}
		})
		if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			t.Fatal("Close inside a handler hangs")
		}
	})
}

// After Close inside a handler, an event that this handler dispatches does not hang.
func TestNestedDispatchAfterCloseInsideHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(nil)
		other := r.box.NewAccount().NewClient(r.log)
		done := make(chan error, 1)
		r.client.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.Message); !ok {
				return
			}
			r.plugin.Close()
			time.Sleep(100 * time.Millisecond)                                          // for one that would wait for the lock
			r.client.DangerousInternals().DispatchEvent(&events.AppStateSyncComplete{}) //lint:ignore SA1019 as FetchAppState does
			p, err := reupload.Register(other, nil)                                     // of another client, which is not held up by this handler
			if err == nil {
				p.Close()
			}
			done <- err
		})
		r.connect()
		if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("x")}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Register for another client: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("the handler hangs")
		}
		until(t, "our handler is gone", func() bool { return listOf(r).Len() == 2 })
	})
}

func TestRegisterAfterConnect(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		downloads := make(chan error, 1)
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && r.plugin != nil && msg.Message.GetImageMessage() != nil {
				_, err := r.plugin.Download(t.Context(), &msg.Info, msg.Message.GetImageMessage())
				downloads <- err
			}
		})
		r.connect()
		r.register(nil)
		if n := r.log.count("WARN", "downloads inside event handlers do not heal at once"); n != 1 {
			t.Errorf("said %d times that there is no tap", n)
		}
		if err := r.plugin.Degraded(); err == nil || !strings.Contains(err.Error(), "call Register before Connect") {
			t.Errorf("Degraded says %v", err)
		}

		// Inside the handler the answer cannot arrive. The download fails at once, and the request
		// is on its way.
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(media)
		start := time.Now()
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
		if err := <-downloads; !errors.Is(reupload.Cause(err), reupload.ErrHandlerBlocked) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		if waited := time.Since(start); waited > time.Second {
			t.Errorf("it took %v", waited)
		}
		// Outside it heals, without a second request.
		r.heals(picture{media, evt, evt.Message.GetImageMessage()})
		r.asked(1)
	})
}

func TestRegisterInsideHandlerIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		errs := make(chan error, 100)
		r.client.AddEventHandler(func(evt any) {
			_, err := reupload.Register(r.client, nil)
			errs <- err
		})
		r.connect()
		if err := <-errs; err == nil || !strings.Contains(err.Error(), "inside an event handler") {
			t.Errorf("got %v", err)
		}
	})
}

// Our handler comes first, whenever Register is called.
func TestRegisterAfterOtherHandlers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		errs := make(chan error, 10)
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetImageMessage() != nil {
				_, err := r.client.Download(r.ctx(), msg.Message.GetImageMessage())
				errs <- err
			}
		})
		r.register(nil)
		if err := r.plugin.Degraded(); err != nil {
			t.Errorf("degraded: %v", err)
		}
		r.connect()
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(media)
		if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			t.Fatal(err)
		}
		if err := <-errs; err != nil {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
	})
}

// listOf returns the list of the client's event handlers.
func listOf(r *rig) host.Handlers {
	list, _ := host.HandlersOf(r.client)
	return list
}
