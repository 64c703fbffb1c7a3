package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// expiredPart makes a part of the history, with one picture of Alice's in it, that has expired.
func (r *rig) expiredPart() (*wabox.HistoryPart, *wabox.Media) {
	r.Helper()
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	part, err := r.phone.UploadHistory(history(alice, &waWeb.WebMessageInfo{
		Key:              &waCommon.MessageKey{ID: proto.String("3EB0OLD"), RemoteJID: proto.String(alice.String())},
		Message:          &waE2E.Message{ImageMessage: media.Image()},
		MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())),
	}))
	if err != nil {
		r.Fatal(err)
	}
	r.box.Expire(part.Media)
	return part, media
}

// deliver sends the bot the message about a part, and returns its event.
func (r *rig) deliver(part *wabox.HistoryPart) *events.Message {
	r.Helper()
	if err := part.Deliver(); err != nil {
		r.Fatal(err)
	}
	for {
		if evt := next[*events.Message](r); evt.Info.ID == part.ID {
			return evt
		}
	}
}

func notificationOf(evt *events.Message) *waE2E.HistorySyncNotification {
	return evt.Message.GetProtocolMessage().GetHistorySyncNotification()
}

// byHand downloads a part as a bot does that sets ManualHistorySyncDownload, and checks the cause.
func (r *rig) byHand(ctx context.Context, n *waE2E.HistorySyncNotification, want error) error {
	r.Helper()
	_, err := r.client.DownloadHistorySync(ctx, n, true)
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), want) {
		r.Errorf("got %v (cause: %v), want the cause %v", err, reupload.Cause(err), want)
	}
	return reupload.Cause(err)
}

// comes waits for a history sync, and checks that it has the picture.
func (r *rig) comes(media *wabox.Media) {
	r.Helper()
	sync := next[*events.HistorySync](r)
	got := sync.Data.GetConversations()[0].GetMessages()[0].GetMessage().GetMessage().GetImageMessage()
	if !bytes.Equal(got.GetFileEncSHA256(), media.FileEncSHA256) {
		r.Error("it is another history")
	}
}

func TestExpiredHistoryComesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		told := make(chan reupload.Reupload, 10)
		r := newRig(t, &reupload.Options{OnReupload: func(u reupload.Reupload) { told <- u }})
		part, media := r.expiredPart()
		r.deliver(part)
		r.comes(media)
		r.asked(1)
		req := r.phone.Requests()[0]
		_, hasRMR := req.Node.GetOptionalChildByTag("rmr")
		if req.ID != part.ID || req.StanzaID != part.ID || req.Category != "peer" || hasRMR || req.Wrong != "" || req.To.Device != 0 {
			t.Errorf("asked for with %s", req.Node)
		}
		time.Sleep(time.Hour)
		r.asked(1)
		s := r.plugin.Stats()
		if s.Expired != 1 || s.Unhealed["history_asked"] != 1 || s.Late != 0 || s.Waiting != 0 || len(told) != 0 {
			t.Errorf("counted as %+v; told of %d new paths", s, len(told))
		}
		r.box.Expire(media) // what the part has brought heals
		data, err := r.client.Download(r.ctx(), media.Image())
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
	})
}

// A part that is still there, and what is wrong otherwise, is no reason to ask.
func TestHistoryIsAskedForOnlyIfItHasExpired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		n := notificationOf(r.deliver(part))
		r.box.SetStatus(part.Media.DirectPath, 0, "")
		if _, err := r.client.DownloadHistorySync(r.ctx(), n, true); err != nil {
			t.Error(err)
		}
		r.box.SetStatus(part.Media.DirectPath, http.StatusForbidden, "no")
		if _, err := r.client.DownloadHistorySync(r.ctx(), n, true); err == nil || reupload.Cause(err) != nil {
			t.Errorf("got %v (cause: %v), want no cause", err, reupload.Cause(err))
		}
		r.asked(0)
	})
}

// Only the account's own phone says which parts there are.
func TestHistoryOfOthersIsNotAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		linked := types.JID{User: r.phone.PN.User, Server: r.phone.PN.Server, Device: 9}
		for name, in := range map[string]wabox.Incoming{
			"a stranger":                  {From: bob},
			"a stranger in a group":       {From: bob, Chat: aGroup},
			"another device of our own":   {From: linked, FromMe: true, Chat: r.phone.PN},
			"a stranger on a hosted name": {From: types.JID{User: bob.User, Server: types.HostedServer, Device: 99}},
		} {
			evt := r.receive(in, part.Message)
			if notificationOf(evt) == nil {
				t.Fatalf("%s: there is no notification", name)
			}
			r.byHand(r.ctx(), part.Message.GetProtocolMessage().GetHistorySyncNotification(), reupload.ErrUnknownMessage)
			named := reupload.WithMessage(r.ctx(), &evt.Info, notificationOf(evt))
			if !evt.Info.IsFromMe {
				r.byHand(named, notificationOf(evt), reupload.ErrUnknownMessage)
			}
		}
		r.asked(0)
	})
}

// A bot that downloads by hand, also inside its handler, gets the cause at once and the part later.
func TestHistoryByHand(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		parts := make(chan *waHistorySync.HistorySync, 10)
		var causes []error
		r.client.AddEventHandler(func(evt any) {
			msg, ok := evt.(*events.Message)
			if !ok || notificationOf(msg) == nil {
				return
			}
			began := time.Now()
			data, err := r.client.DownloadHistorySync(context.Background(), notificationOf(msg), true)
			if err == nil {
				parts <- data
				return
			}
			causes = append(causes, reupload.Cause(err))
			if waited := time.Since(began); waited > 0 {
				t.Errorf("the handler waited for %s", waited)
			}
		})
		part, _ := r.expiredPart()
		evt := r.deliver(part)
		<-parts
		if len(causes) != 1 || !errors.Is(causes[0], reupload.ErrHistoryAsked) || reupload.Label(causes[0]) != "history_asked" {
			t.Errorf("the causes are %v", causes)
		}
		for range 3 { // it has come
			r.byHand(r.ctx(), notificationOf(evt), reupload.ErrHistoryAsked)
			time.Sleep(24 * time.Hour)
		}
		r.asked(1)
	})
}

// A bot whose handlers come first gets no cause, and the part all the same.
func TestHistoryInAHandlerThatComesFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.client.ManualHistorySyncDownload = true
		var cause error
		second := make(chan bool, 1)
		first := true
		id := r.client.AddEventHandler(func(evt any) {
			msg, ok := evt.(*events.Message)
			if !ok || notificationOf(msg) == nil {
				return
			}
			began := time.Now()
			_, err := r.client.DownloadHistorySync(context.Background(), notificationOf(msg), true)
			if waited := time.Since(began); waited > 0 {
				t.Errorf("the handler waited for %s", waited)
			}
			if first {
				cause, first = reupload.Cause(err), false
			} else {
				second <- err == nil
			}
		})
		r.register(nil)
		if list, ok := host.HandlersOf(r.client); !ok || !list.MoveToFront(id, 0) {
			t.Fatal("the handler cannot be the first")
		}
		r.connect()
		part, _ := r.expiredPart()
		if err := part.Deliver(); err != nil {
			t.Fatal(err)
		}
		select {
		case ok := <-second:
			if !ok {
				t.Error("what the phone has sent again cannot be downloaded")
			}
		case <-time.After(patience):
			t.Error("the phone has sent nothing again")
		}
		if !errors.Is(cause, reupload.ErrUnknownMessage) {
			t.Errorf("the cause is %v", cause)
		}
		r.asked(1)
	})
}

// A phone that is silent is asked once, by one process and the next, and its answer is used when it
// comes. Its silence about a part says nothing of its silence about pictures.
func TestHistoryIsAskedForOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		opts := &reupload.Options{Index: reupload.NewMemoryIndex(100)}
		r := newRig(t, opts)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		r.phone.Script(part.ID, wabox.Answer{None: true})
		n := notificationOf(r.deliver(part))
		for range 10 {
			cause := r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
			time.Sleep(time.Minute)
			if !errors.Is(cause, reupload.ErrHistoryAsked) {
				t.Errorf("the cause is %v", cause)
			}
		}
		r.asked(1)
		other, _ := r.expiredPart() // which nothing has downloaded yet
		unasked := notificationOf(r.deliver(other))
		var paused *reupload.PausedError
		if cause := r.byHand(r.ctx(), n, reupload.ErrHistoryAsked); !errors.As(cause, &paused) || !errors.Is(cause, reupload.ErrTimeout) {
			t.Errorf("the cause is %v, want one that says until when it is not asked again", cause)
		}
		r.plugin.Close()
		r.register(opts)
		r.deliver(part) // a server sends again what was not acknowledged
		r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
		r.asked(1)

		request := r.phone.Requests()[0]
		if err := r.phone.SendAnswer(request, wabox.Answer{Result: wabox.Success}); err != nil {
			t.Fatal(err)
		}
		again := next[*events.Message](r)
		if got := notificationOf(again).GetOriginalMessageID(); got != part.ID {
			t.Errorf("it is for %q", got)
		}
		if _, err := r.client.DownloadHistorySync(r.ctx(), notificationOf(again), true); err != nil {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
		r.asked(1)
		if s := r.plugin.Stats(); s.Late != 0 {
			t.Errorf("%d paths of media have come late", s.Late)
		}

		r.byHand(r.ctx(), unasked, reupload.ErrHistoryAsked)
		if got := notificationOf(next[*events.Message](r)).GetOriginalMessageID(); got != other.ID {
			t.Errorf("the phone has sent %q again, want the other part", got)
		}
		r.asked(2)
	})
}

func TestSilenceAboutHistoryIsNotThePhones(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		for range 5 {
			part, _ := r.expiredPart()
			r.phone.Script(part.ID, wabox.Answer{None: true})
			r.byHand(r.ctx(), notificationOf(r.deliver(part)), reupload.ErrHistoryAsked)
		}
		time.Sleep(2 * time.Minute)
		r.asked(5)
		last := r.phone.Requests()
		for i := range last[1:] {
			if pause := last[i+1].At.Sub(last[i].At); pause < defaultPace {
				t.Errorf("a request comes %s after the one before", pause)
			}
		}
		for _, from := range []types.JID{alice, bob} { // with a third chat that is silent, the phone is
			p := r.receivePictureIn(wabox.Incoming{From: from})
			r.phone.Script(p.id(), wabox.Answer{None: true})
			r.fails(p, reupload.ErrTimeout)
		}
		r.heals(r.receivePicture())
	})
}

// A phone that says that it has lost a part is not asked again for a day.
func TestHistoryThatIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		r.phone.Forget(part.ID)
		n := notificationOf(r.deliver(part))
		r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
		time.Sleep(time.Minute)
		r.byHand(r.ctx(), n, reupload.ErrNotFound)
		r.asked(1)
		time.Sleep(defaultRefusalPause)
		r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
		time.Sleep(time.Minute)
		r.asked(2)
	})
}

// What the phone sends again and the CDN has lost at once does not keep the phone busy.
func TestHistoryThatExpiresAgainAndAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(&reupload.Options{HTTPClient: &http.Client{Transport: noHistory{r.box.Transport()}}, SilencePause: -1, RefusalPause: -1})
		r.connect()
		part, _ := r.expiredPart()
		r.deliver(part)
		time.Sleep(time.Hour - time.Minute)
		r.asked(1)
	})
}

// A noHistory is a CDN that has no parts of histories.
type noHistory struct{ http.RoundTripper }

func (n noHistory) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := n.RoundTripper.RoundTrip(req)
	if err == nil && strings.Contains(req.URL.RawQuery, "mms-type=md-msg-hist") {
		resp.StatusCode, resp.Status = http.StatusGone, "410 Gone"
	}
	return resp, err
}

func (n noHistory) CloseIdleConnections() { n.RoundTripper.(*http.Transport).CloseIdleConnections() }

// A request that cannot go out does so after the next login.
func TestHistoryWhileTheBotIsOffline(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		n := notificationOf(r.deliver(part))
		r.byHand(reupload.WithoutAsking(r.ctx()), n, reupload.ErrNotAsked) // now whatsmeow knows the CDN's hosts
		time.Sleep(time.Second)
		r.client.Disconnect()
		r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
		time.Sleep(time.Hour)
		r.asked(0)
		if err := r.client.Connect(); err != nil {
			t.Fatal(err)
		}
		again := next[*events.Message](r)
		if got := notificationOf(again).GetOriginalMessageID(); got != part.ID {
			t.Errorf("it is for %q", got)
		}
		r.asked(1)
	})
}

// whatsmeow begins a download before the event of its notification is dispatched.
func TestHistoryWhoseEventComesLater(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		time.AfterFunc(time.Second, func() {
			if err := part.Deliver(); err != nil {
				t.Error(err)
			}
		})
		began := time.Now()
		r.byHand(r.ctx(), part.Message.GetProtocolMessage().GetHistorySyncNotification(), reupload.ErrHistoryAsked)
		if waited := time.Since(began); waited != time.Second {
			t.Errorf("the download waited for %s, want a second", waited)
		}
	})
}

func TestHistoryAndClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		part, _ := r.expiredPart()
		unknown := part.Message.GetProtocolMessage().GetHistorySyncNotification()
		began := time.Now()
		closed := make(chan struct{})
		time.AfterFunc(time.Second, func() { // while the download waits for the event
			r.plugin.Close()
			close(closed)
		})
		r.byHand(r.ctx(), unknown, reupload.ErrClosed)
		if waited := time.Since(began); waited > time.Second {
			t.Errorf("the download waited for %s", waited)
		}
		<-closed

		r.register(nil)
		n := notificationOf(r.deliver(part))
		r.byHand(reupload.WithoutAsking(r.ctx()), n, reupload.ErrNotAsked)
		r.phone.Script(part.ID, wabox.Answer{None: true})
		r.byHand(r.ctx(), n, reupload.ErrHistoryAsked)
		r.plugin.Close() // while the phone is asked
		if _, err := r.client.DownloadHistorySync(r.ctx(), n, true); err == nil || reupload.Cause(err) != nil {
			t.Errorf("after Close: %v (cause: %v)", err, reupload.Cause(err))
		}
	})
}

// A bot that keeps notifications over a restart, and the plugin does not, names the message.
func TestHistoryThatTheBotNames(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.client.ManualHistorySyncDownload = true
		r.connect()
		part, _ := r.expiredPart()
		evt := r.deliver(part)
		r.register(nil)
		r.byHand(reupload.WithMessage(r.ctx(), &evt.Info, notificationOf(evt)), notificationOf(evt), reupload.ErrHistoryAsked)
		if got := notificationOf(next[*events.Message](r)).GetOriginalMessageID(); got != part.ID {
			t.Errorf("the phone has sent %q again", got)
		}
		r.asked(1)
	})
}

// A bot that asks for parts by itself is left to do so. Its pictures still heal.
func TestBotThatAsksForHistoryByItself(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.client.ManualHistorySyncDownload = true
		time.Sleep(time.Hour)
		for i := range 3 {
			part, _ := r.expiredPart()
			n := notificationOf(r.deliver(part))
			want := reupload.ErrNotAsked
			if i == 0 { // the bot has not asked yet
				want = reupload.ErrHistoryAsked
			}
			r.byHand(r.ctx(), n, want)
			if err := r.client.SendHistorySyncServerErrorReceipt(r.ctx(), part.ID, n.GetMediaKey()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		asked := r.phone.RequestCount()
		if asked > 4 {
			t.Errorf("the phone was asked %d times for three parts", asked)
		}
		r.heals(r.receivePicture())
		r.asked(asked + 1)
	})
}
