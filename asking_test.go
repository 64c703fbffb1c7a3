package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of bots that download in their event handlers, and of bots that ask the phone by
// themselves.

// A text behind any number of pictures that a bot downloads in its handler, with a silent phone,
// comes after fifteen seconds at the most, and in the minutes after that after five.
func TestTextBehindPictures(t *testing.T) {
	t.Parallel()
	one := func(int) types.JID { return alice }
	many := func(i int) types.JID { return types.NewJID(fmt.Sprint(491600000000+i), types.DefaultUserServer) }
	for name, test := range map[string]struct {
		from  func(i int) types.JID
		phone wabox.PhoneFunc
	}{
		"of one chat":   {one, silent},
		"of many chats": {many, silent},
		"of many chats, and the server is silent": {many, func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Ack: wabox.AckNone, None: true}}
		}},
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
			r.phone.Phone(test.phone)
			n := 0
			for round := range 6 {
				start := time.Now()
				for range 12 {
					media := r.box.Upload(content(), whatsmeow.MediaImage)
					r.box.Expire(media)
					n++
					if _, err := r.phone.Deliver(wabox.Incoming{From: test.from(n)}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
						t.Fatal(err)
					}
				}
				r.receive(wabox.Incoming{From: bob}, &waE2E.Message{Conversation: proto.String("are you there?")})
				limit := 5 * time.Second
				if round == 0 {
					limit = 15 * time.Second
				}
				if took := time.Since(start); took > limit {
					t.Errorf("round %d: the text came after %s", round, took)
				}
				time.Sleep(30 * time.Second)
			}
		})
	}
}

// An ownRetry is a bot with a retry of its own: when a download fails it asks, waits for half a
// minute, and downloads from the path in the answer.
type ownRetry struct {
	*rig
	mu      sync.Mutex
	waiting map[types.MessageID]chan *events.MediaRetry
}

func newOwnRetry(r *rig) *ownRetry {
	b := &ownRetry{rig: r, waiting: make(map[types.MessageID]chan *events.MediaRetry)}
	r.client.AddEventHandler(func(evt any) {
		if retry, ok := evt.(*events.MediaRetry); ok {
			b.mu.Lock()
			defer b.mu.Unlock()
			if ch := b.waiting[retry.MessageID]; ch != nil {
				select {
				case ch <- retry:
				default:
				}
			}
		}
	})
	return b
}

var errGaveUp = errors.New("the phone has not answered")

func (b *ownRetry) get(ctx context.Context, p picture) ([]byte, error) {
	data, err := b.client.Download(ctx, p.image)
	if err == nil {
		return data, nil
	}
	answer := make(chan *events.MediaRetry, 1)
	b.mu.Lock()
	b.waiting[p.id()] = answer
	b.mu.Unlock()
	if err = b.client.SendMediaRetryReceipt(ctx, &p.evt.Info, p.MediaKey); err != nil {
		return nil, err
	}
	select {
	case retry := <-answer:
		data, err := whatsmeow.DecryptMediaRetryNotification(retry, p.MediaKey)
		if err != nil {
			return nil, err
		} else if data.GetResult() != waMmsRetry.MediaRetryNotification_SUCCESS {
			return nil, fmt.Errorf("the phone says %v", data.GetResult())
		}
		again := proto.CloneOf(p.image)
		again.DirectPath = data.DirectPath
		return b.client.Download(ctx, again)
	case <-time.After(30 * time.Second):
		return nil, errGaveUp
	}
}

// A bot that asks by itself costs the phone from its second file on what it costs without the
// plugin, and waits no longer.
func TestBotWithARetryOfItsOwn(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		answer wabox.Answer
		heals  bool
	}{
		"the phone has the file": {wabox.Answer{Result: wabox.Success, Delay: time.Second}, true},
		"the phone lost it":      {wabox.Answer{Result: wabox.NotFound, Delay: time.Second}, false},
		"the phone is silent":    {wabox.Answer{None: true}, false},
	} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			bot := newOwnRetry(r)
			first := r.receivePicture()
			r.phone.Forget(first.id())
			if _, err := bot.get(r.ctx(), first); err == nil {
				t.Error("a lost file was downloaded")
			}
			synctest.Wait() // until the plugin has noticed that the bot asks
			r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{test.answer} })
			before := r.phone.RequestCount()
			for n := range 4 {
				p := r.receivePicture()
				start := time.Now()
				data, err := bot.get(r.ctx(), p)
				if healed := err == nil && bytes.Equal(data, p.Plaintext); healed != test.heals {
					t.Errorf("file %d: %v", n+2, err)
				}
				if took := time.Since(start); took > 31*time.Second {
					t.Errorf("file %d took %s", n+2, took)
				}
				r.asked(before + n + 1)
			}
			// What it asks the plugin for is asked for.
			p := r.receivePicture()
			_, _ = r.plugin.Download(r.ctx(), &p.evt.Info, p.image)
			if n := r.phone.RequestCount(); n < before+5 {
				t.Error("Plugin.Download did not ask")
			}
		})
	}
}

// Answers to the bot's own requests are remembered, for messages too that only its own table or the
// caller names, and whether they are sealed or not.
func TestAnswersToTheBotAreRemembered(t *testing.T) {
	t.Parallel()
	for name, withLookup := range map[string]bool{"with Lookup": true, "with WithMessage": false} {
		for kind, answer := range map[string]wabox.Answer{
			"a path":           {Result: wabox.Success, Delay: time.Second},
			"a refusal":        {Result: wabox.NotFound, Delay: time.Second},
			"an unsealed word": {ErrorCode: proto.String("2"), Delay: time.Second},
		} {
			runInBubble(t, name+", "+kind, func(t *testing.T) {
				var opts reupload.Options
				rows := make(map[string]reupload.Request)
				if withLookup {
					opts.Lookup = func(_ context.Context, hash []byte) ([]reupload.Request, error) {
						return []reupload.Request{rows[string(hash)]}, nil
					}
				}
				r := newRig(t, &opts)
				info, media := r.unseen("UNSEEN")
				rows[string(media.FileEncSHA256)] = reupload.NewRequest(info, media.Image())
				r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{answer} })
				ctx := reupload.WithoutAsking(r.ctx())
				if !withLookup {
					ctx = reupload.WithMessage(ctx, info, media.Image())
				}
				if _, err := r.client.Download(ctx, media.Image()); !errors.Is(reupload.Cause(err), reupload.ErrNotAsked) {
					t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
				}
				r.asked(0)
				if err := r.client.SendMediaRetryReceipt(r.ctx(), info, media.MediaKey); err != nil {
					t.Fatal(err)
				}
				next[*events.MediaRetry](r)
				time.Sleep(time.Second)
				_, err := r.plugin.Download(r.ctx(), info, media.Image())
				if brings := answer.Result == wabox.Success && answer.ErrorCode == nil; brings != (err == nil) {
					t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
				}
				r.asked(1)
			})
		}
	}
}

// RequestReupload asks a silent phone too.
func TestRequestReuploadAsksASilentPhone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.phone.Phone(silent)
		for _, from := range []types.JID{alice, bob, carol} {
			r.fails(r.receivePictureIn(wabox.Incoming{From: from}), reupload.ErrTimeout)
		}
		p := r.receivePicture()
		r.fails(p, reupload.ErrPhoneSilent)
		before := r.phone.RequestCount()
		r.phone.Phone(nil)
		c := r.requests(p.request())
		c.succeeds(t)
		if c.took > time.Second {
			t.Errorf("it took %s", c.took)
		}
		r.asked(before + 1)
	})
}

// A request that a caller makes of fields keeps the time that the index knows: a status an hour old
// is asked for, and one two days old is not.
func TestRequestOfFieldsKeepsTheTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePictureIn(wabox.Incoming{Chat: types.StatusBroadcastJID, From: alice})
		for _, age := range []time.Duration{time.Hour, 48 * time.Hour} {
			time.Sleep(age)
			r.box.Expire(p.Media)
			_, err := r.client.Download(reupload.WithRequest(r.ctx(), p.request(), p.FileEncSHA256), p.image)
			if isGone := errors.Is(reupload.Cause(err), reupload.ErrNotFound); isGone != (age > 24*time.Hour) || err != nil && !isGone {
				t.Errorf("after %s: %v (cause: %v)", age, err, reupload.Cause(err))
			}
		}
		r.asked(1)
	})
}

// After RequestReupload of a message that was never seen, whose first path is no good, the path of
// a later answer is used.
func TestLaterAnswerForAnUnseenMessage(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusForbidden, http.StatusGone} {
		runInBubble(t, fmt.Sprint(status), func(t *testing.T) {
			r := newRig(t, nil)
			info, media := r.unseen("UNSEEN")
			bad, good := r.box.Reupload(media), r.box.Reupload(media)
			r.box.SetStatus(bad, status, "bad signature")
			r.phone.Script(info.ID, wabox.Answer{Result: wabox.Success, DirectPath: bad})
			c := r.requests(reupload.NewRequest(info, media.Image()))
			c.succeeds(t)
			_, err := r.plugin.Download(r.ctx(), info, media.Image())
			if err == nil {
				t.Error("it has healed")
			}
			before := r.phone.RequestCount()
			r.answer(r.phone.Requests()[0], wabox.Answer{Result: wabox.Success, DirectPath: good})
			r.marker()
			time.Sleep(time.Second)
			data, err := r.plugin.Download(r.ctx(), info, media.Image())
			if err != nil || !bytes.Equal(data, media.Plaintext) {
				t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
			}
			r.asked(before)
		})
	}
}

// A download that is cancelled says so, whatever the index does.
func TestCancelledDownloadSaysSo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		index := &lockedIndex{Index: reupload.NewMemoryIndex(0)}
		r := newRig(t, &reupload.Options{Index: index})
		r.heals(r.receivePicture()) // whatsmeow knows the media hosts from now on
		p := r.receivePicture()
		index.locked.Store(true)
		ctx, cancel := context.WithTimeout(r.ctx(), time.Second)
		defer cancel()
		_, err := r.client.Download(ctx, p.image)
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(reupload.Cause(err), context.DeadlineExceeded) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		index.locked.Store(false)
	})
}

// A new path that breaks off does not fail a download whose own path works again.
func TestOwnPathWorksAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.heals(p)
		moved := r.box.Asked()[len(r.box.Asked())-1].Path
		r.box.Truncate(moved)
		r.box.SetStatus(p.Path(), http.StatusOK, "")
		r.phone.Phone(silent)
		r.heals(p)
		r.asked(1)
	})
}

// With a short time-out and a slow query for the group, the cause is not the connection.
func TestShortTimeoutAndASlowGroupQuery(t *testing.T) {
	withRig(t, &reupload.Options{Timeout: 3 * time.Second}, func(r *namingRig) {
		group := r.phone.NewGroup(types.AddressingModeLID, bobLID, carlLID)
		r.receive(wabox.Incoming{Chat: group, From: bobLID}, &waE2E.Message{Conversation: proto.String("text")})
		r.stall.Store(int64(10 * time.Second))
		a := r.asks(wabox.Incoming{Chat: group, From: carlLID}, number(carl))
		r.stall.Store(0)
		if errors.Is(a.cause, whatsmeow.ErrNotConnected) {
			r.Errorf("the cause is %v", a.cause)
		}
	})
}
