package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of what bots do, and of their mistakes.

// A deafIndex does not listen to its context.
type deafIndex struct {
	reupload.Index
	hangs   atomic.Bool
	release chan struct{}
}

func (x *deafIndex) wait() {
	if x.hangs.Load() {
		<-x.release
	}
}

func (x *deafIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	x.wait()
	return x.Index.Put(ctx, account, entries)
}

func (x *deafIndex) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	x.wait()
	return x.Index.ByFile(ctx, account, hash)
}

func (x *deafIndex) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	x.wait()
	return x.Index.ByMessage(ctx, account, id)
}

// An index that hangs and does not listen to its context keeps neither messages nor downloads from
// the bot.
func TestIndexThatDoesNotListen(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		index := &deafIndex{Index: reupload.NewMemoryIndex(0), release: make(chan struct{})}
		r := newRig(t, &reupload.Options{Index: index})
		p := r.receivePicture()
		index.hangs.Store(true)
		start := time.Now()
		for range 20 {
			r.receivePicture()
		}
		_, err := r.client.Download(r.ctx(), p.image)
		if !errors.Is(reupload.Cause(err), reupload.ErrIndexFailed) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		if data, err := r.plugin.Download(r.ctx(), &p.evt.Info, p.image); err != nil || !bytes.Equal(data, p.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		if took := time.Since(start); took > 15*time.Second {
			t.Errorf("it took %s", took)
		}
		index.hangs.Store(false)
		close(index.release)
	})
}

// A fullIndex reads, and cannot write. A wipingIndex wipes what it is given and what it gives.
type (
	fullIndex   struct{ reupload.Index }
	wipingIndex struct{ reupload.Index }
)

func (fullIndex) Put(context.Context, types.JID, []reupload.Entry) error {
	return errors.New("database or disk is full")
}

func (x wipingIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	var copied []reupload.Entry
	for _, e := range entries {
		e.MediaKey, e.FileEncSHA256 = bytes.Clone(e.MediaKey), bytes.Clone(e.FileEncSHA256)
		copied = append(copied, e)
	}
	err := x.Index.Put(ctx, account, copied)
	for _, e := range entries {
		clear(e.MediaKey)
		clear(e.FileEncSHA256)
	}
	return err
}

func (x wipingIndex) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	defer clear(hash)
	found, err := x.Index.ByFile(ctx, account, bytes.Clone(hash))
	return wipedAfter(ctx, found), err
}

func (x wipingIndex) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	found, err := x.Index.ByMessage(ctx, account, id)
	return wipedAfter(ctx, found), err
}

// wipedAfter returns entries whose slices are used for others when the call is over.
func wipedAfter(ctx context.Context, found []reupload.Entry) (own []reupload.Entry) {
	for _, e := range found {
		e.MediaKey, e.FileEncSHA256 = bytes.Clone(e.MediaKey), bytes.Clone(e.FileEncSHA256)
		own = append(own, e)
	}
	context.AfterFunc(ctx, func() {
		for _, e := range own {
			clear(e.MediaKey)
			clear(e.FileEncSHA256)
		}
	})
	return own
}

// A write that fails is told, though reads work.
func TestIndexThatCannotWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{Index: fullIndex{reupload.NewMemoryIndex(0)}})
		for range 3 {
			p := r.receivePicture()
			if data, err := r.plugin.Download(r.ctx(), &p.evt.Info, p.image); err != nil || !bytes.Equal(data, p.Plaintext) {
				t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
			}
		}
		if n := r.log.count("WARN", "database or disk is full"); n != 1 {
			t.Errorf("it was told %d times", n)
		}
		if n := r.log.count("INFO", "The index works again"); n != 0 {
			t.Errorf("it was told %d times that the index works again", n)
		}
	})
}

// An index that wipes its slices breaks neither the request nor the bot's message.
func TestIndexThatWipes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{Index: wipingIndex{reupload.NewMemoryIndex(0)}})
		p := r.receivePicture()
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Delay: time.Second}} })
		r.heals(p)
		named := r.receivePicture()
		if data, err := r.plugin.Download(r.ctx(), &named.evt.Info, named.image); err != nil || !bytes.Equal(data, named.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		if !bytes.Equal(p.image.MediaKey, p.MediaKey) || !bytes.Equal(named.image.FileEncSHA256, named.FileEncSHA256) {
			t.Error("the bot's message was wiped")
		}
	})
}

// Options that can only be a mistake are refused, and say why.
func TestOptionsThatAreMistakes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		for want, opts := range map[string]reupload.Options{
			"30*time.Second": {Timeout: 30},
			"HandlerTimeout": {HandlerTimeout: 5},
			"Options.Index":  {Index: (*reupload.MemoryIndex)(nil)},
		} {
			if _, err := reupload.Register(r.client, &opts); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v", opts, err)
			}
		}
		r.register(&reupload.Options{Timeout: time.Millisecond, HandlerTimeout: time.Millisecond}) // short, and no mistake
	})
}

// Of several calls of Register at once one succeeds.
func TestRegisterAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		var registered atomic.Int32
		var calls sync.WaitGroup
		for range 20 {
			calls.Go(func() {
				switch plugin, err := reupload.Register(r.client, nil); {
				case err == nil:
					registered.Add(1)
					t.Cleanup(func() { plugin.Close() })
				case !errors.Is(err, reupload.ErrAlreadyRegistered):
					t.Error(err)
				}
			})
		}
		calls.Wait()
		if n := registered.Load(); n != 1 {
			t.Errorf("%d calls have succeeded", n)
		}
		r.connect()
		r.heals(r.receivePicture())
	})
}

// The largest pauses and paces are just very long.
func TestLongestDurations(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{RefusalPause: math.MaxInt64, SilencePause: math.MaxInt64, Pace: math.MaxInt64})
		refused, broken := r.receivePicture(), r.receivePicture()
		r.phone.Forget(refused.id())
		r.phone.Script(broken.id(), wabox.Answer{Result: wabox.GeneralError})
		for range 3 { // RequestReupload asks all the same
			_, _ = r.requests(broken.request()).end()
		}
		r.fails(refused, reupload.ErrNotFound)
		for range 3 {
			for _, p := range []picture{refused, broken} {
				_, err := r.client.Download(r.ctx(), p.image)
				var paused *reupload.PausedError
				if cause := reupload.Cause(err); !errors.As(cause, &paused) || time.Until(paused.Until) < 365*24*time.Hour {
					t.Errorf("got %v (cause: %v)", err, cause)
				}
			}
			time.Sleep(2 * 24 * time.Hour)
		}
		r.asked(4)
		r.heals(r.receivePicture())
	})
}

// What a wrong clock has noted, years ahead, does not keep what comes of later requests out of the
// index.
func TestTimeFarAhead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		opts := &reupload.Options{Index: reupload.NewMemoryIndex(0)}
		r := newRig(t, opts)
		p := r.receivePicture()
		e := reupload.Entry{Request: p.request(), FileEncSHA256: p.FileEncSHA256, Asked: reupload.Asked{At: time.Now().AddDate(30, 0, 0), Outcome: 2, Failures: 1}}
		if err := opts.Index.Put(r.ctx(), r.phone.PN, []reupload.Entry{e}); err != nil {
			t.Fatal(err)
		}
		r.phone.Forget(p.id())
		r.fails(p, reupload.ErrNotFound)
		r.asked(1)
		time.Sleep(time.Second)
		r.plugin.Close()
		r.register(opts)
		r.fails(p, reupload.ErrNotFound)
		r.asked(1)
	})
}

// A backfill keeps its pace, a slow one too, while live downloads heal now and then.
func TestSlowPaceDoesNotStarveABackfill(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const pace = 30 * time.Second
		r := newRig(t, &reupload.Options{Pace: pace})
		var requests []reupload.Request
		for i := range 10 {
			info, media := r.unseen(fmt.Sprintf("OLD%d", i))
			requests = append(requests, reupload.NewRequest(info, media.Image()))
		}
		done := make(chan struct{})
		var live sync.WaitGroup
		live.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(25 * time.Second):
					r.heals(r.receivePicture())
				}
			}
		})
		start := time.Now()
		for a := range r.plugin.RequestAll(t.Context(), slices.Values(requests)) {
			if a.Err != nil {
				t.Errorf("%v: %v", a.Request, a.Err)
			}
		}
		if took := time.Since(start); took > 2*10*pace {
			t.Errorf("ten requests took %s", took)
		}
		close(done)
		live.Wait()
	})
}

// A bot that changes its http.Client in place gets what it has set, as it would without us.
func TestHTTPClientChangedInPlace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		own := &http.Client{Transport: r.box.Transport()}
		r.client.SetMediaHTTPClient(own)
		r.register(nil)
		r.connect()
		r.heals(r.receivePicture())
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		site := &url.URL{Scheme: "https", Host: "mmg.whatsapp.net"}
		jar.SetCookies(site, []*http.Cookie{{Name: "a", Value: "b"}})
		s := &spy{base: r.box.Transport()}
		own.Transport, own.Jar = s, jar
		r.heals(r.receivePicture())
		if n := len(s.urls); n != 2 { // the old path and the new one
			t.Errorf("the new transport had %d requests, want 2", n)
		}
		for _, asked := range r.box.Asked()[len(r.box.Asked())-2:] {
			if asked.Header.Get("Cookie") != "a=b" {
				t.Errorf("the cookies are %q", asked.Header.Values("Cookie"))
			}
		}
		stalled := r.box.Upload(content(), whatsmeow.MediaImage)
		release := make(chan struct{})
		defer close(release)
		r.box.Stall(stalled.DirectPath, release)
		own.Timeout = 3 * time.Second
		start := time.Now()
		if _, err := fetch(r.ctx(), r.client, stalled); err == nil || time.Since(start) != own.Timeout {
			t.Errorf("a stalled download: %v after %s", err, time.Since(start))
		}
	})
}

// A slowLog takes its time for each line of ours.
type slowLog struct {
	waLog.Logger
	takes time.Duration
}

func (l slowLog) Debugf(msg string, args ...any) { time.Sleep(l.takes) }
func (l slowLog) Infof(msg string, args ...any)  { time.Sleep(l.takes) }
func (l slowLog) Warnf(msg string, args ...any)  { time.Sleep(l.takes) }
func (l slowLog) Errorf(msg string, args ...any) { time.Sleep(l.takes) }

// The goroutine that reads the socket does not wait for a slow logger.
func TestSlowLogger(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(&reupload.Options{Log: slowLog{waLog.Noop, 5 * time.Second}})
		r.connect()
		p := r.receivePicture()
		r.requests(p.request()).succeeds(t)
		for range 20 { // answers that nothing vouches for, which are in the log at Debug
			r.answer(r.phone.Requests()[0], wabox.Answer{ErrorCode: proto.String("2")})
		}
		synctest.Wait()
		// What comes after them is read at once: an ack and an answer.
		start := time.Now()
		c := r.requests(p.request())
		c.succeeds(t)
		r.receive(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("text")})
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		time.Sleep(5 * time.Minute)
	})
}

// A stalled new path holds up an event handler for HandlerTimeout, and no longer.
func TestHandlerAndAStalledPath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(nil)
		took := make(chan time.Duration, 10)
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetImageMessage() != nil {
				start := time.Now()
				_, _ = r.client.Download(context.Background(), msg.Message.GetImageMessage())
				took <- time.Since(start)
			}
		})
		r.connect()
		release := make(chan struct{})
		defer close(release)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		path := r.box.Reupload(media)
		r.box.SetStatus(media.DirectPath, http.StatusGone, "")
		r.box.Stall(path, release)
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, DirectPath: path}} })
		for range 2 { // the second one has the path from the first
			if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
				t.Fatal(err)
			}
			if d := <-took; d > defaultHandlerTimeout {
				t.Errorf("the handler waited for %s", d)
			}
		}
		// And so does one that has given the file before.
		r.box.Stall(path, nil)
		p := picture{media, nil, media.Image()}
		r.heals(p)
		r.box.Stall(path, release)
		if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			t.Fatal(err)
		}
		select {
		case d := <-took:
			if d > defaultHandlerTimeout {
				t.Errorf("the handler waited for %s for a path that has worked", d)
			}
		case <-time.After(time.Minute):
			t.Error("the handler waits for a path that has worked, and does not end")
		}
	})
}

// slog prints no media key, path or secret, as text or as JSON.
func TestSecretsAreNotLoggedBySlog(t *testing.T) {
	t.Parallel()
	key := []byte("a media key that nobody may read")
	req := reupload.Request{MessageID: "ID", Chat: alice, MediaKey: key, Paths: []string{"/path?oh=token"}}
	result := reupload.Result{Status: reupload.StatusSuccess, DirectPath: "/path?oh=token", MessageSecret: []byte("a message secret")}
	for _, value := range []any{
		req, &req, result, &result, reupload.Reupload{Request: req, Result: result}, reupload.Entry{Request: req, CameWith: "/path?oh=token", DirectPath: "/path?oh=token"},
		reupload.Answer{Request: req, Result: result},
	} {
		var out bytes.Buffer
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", value)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", value)
		for _, secret := range []string{string(key), "YSBtZWRpYSBrZXkg", "oh=token", "a message secret", "YSBtZXNzYWdlIHNlY3JldA"} {
			if strings.Contains(out.String(), secret) {
				t.Errorf("a %T is logged as %s", value, out.String())
			}
		}
	}
}

// No error in a cause's chain holds the URL.
func TestCauseHoldsNoURL(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(&reupload.Options{HTTPClient: &http.Client{Transport: leakyTransport{r.box.Transport(), "/v/leaky"}}})
		r.connect()
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: "/v/leaky?ccb=11-4&oh=TOKEN&oe=7FFFFFFF"})
		_, err := r.client.Download(r.ctx(), p.image)
		cause := reupload.Cause(err)
		if !errors.Is(cause, reupload.ErrReplayFailed) {
			t.Errorf("got %v (cause: %v)", err, cause)
		}
		var withURL *url.Error
		if errors.As(cause, &withURL) || strings.Contains(fmt.Sprintf("%+v %#v", cause, cause), "TOKEN") {
			t.Errorf("the cause holds the URL: %#v", cause)
		}
	})
}
