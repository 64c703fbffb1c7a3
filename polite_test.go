package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of how the phone is asked: no more often than may help, patiently, and also by bots that
// are put together carelessly.

// fails checks that a download is not healed, and why.
func (r *rig) fails(p picture, want error) {
	r.Helper()
	_, err := r.client.Download(r.ctx(), p.image)
	if !errors.Is(reupload.Cause(err), want) {
		r.Errorf("got %v (cause: %v), want the cause %v", err, reupload.Cause(err), want)
	}
}

func TestOldStatusIsNotAskedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	for age, want := range map[time.Duration]error{25 * time.Hour: reupload.ErrNotFound, 23 * time.Hour: nil} {
		before := r.phone.RequestCount()
		p := r.receivePictureIn(wabox.Incoming{Chat: types.StatusBroadcastJID, From: bob, Timestamp: time.Now().Add(-age)})
		if want == nil {
			r.heals(p)
			r.asked(before + 1)
			continue
		}
		r.fails(p, want)
		r.asked(before)
		r.requests(p.request()).succeeds(t) // who asks in so many words is heard
	}
}

// What is known of a file survives the process, in the index.
func TestPausesSurviveARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer wabox.Answer
		want   error
	}{
		"lost":     {wabox.Answer{Result: wabox.NotFound}, reupload.ErrNotFound},
		"silence":  {wabox.Answer{None: true}, reupload.ErrTimeout},
		"rejected": {wabox.Answer{Ack: wabox.AckError("479")}, reupload.ErrRejected},
		"in plain": {wabox.Answer{ErrorCode: proto.String("2")}, reupload.ErrGeneral},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			index := reupload.NewMemoryIndex(100)
			r := newRig(t, &reupload.Options{Index: index, Timeout: 500 * time.Millisecond})
			p := r.receivePicture()
			r.phone.Script(p.id(), c.answer)
			r.fails(p, c.want)
			for range 3 {
				r.plugin.Close()
				r.register(&reupload.Options{Index: index})
				r.fails(p, c.want)
			}
			r.asked(1)
		})
	}
}

// A process that ends while the phone is asked leaves word of that.
func TestRequestInTheAirSurvivesARestart(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(100)
	r := newRig(t, &reupload.Options{Index: index})
	p := r.receivePicture()
	r.phone.Phone(silent)
	go r.client.Download(r.ctx(), p.image)
	r.asks(1)
	until(t, "the index knows that the phone was asked", func() bool {
		found, _ := index.ByMessage(t.Context(), r.phone.PN.ToNonAD(), p.id())
		return len(found) == 1 && !found[0].Asked.At.IsZero()
	})
	r.plugin.Close()
	r.register(&reupload.Options{Index: index})
	r.fails(p, reupload.ErrTimeout)
	r.asked(1)
}

func TestWithoutAsking(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	ctx := reupload.WithoutAsking(r.ctx())
	_, err := r.client.Download(ctx, p.image)
	if cause := reupload.Cause(err); !errors.Is(cause, reupload.ErrNotAsked) || reupload.Label(cause) != "not_asked" {
		t.Errorf("got %v (cause: %v)", err, cause)
	}
	r.asked(0)
	r.requests(p.request()).succeeds(t)
	if _, err = r.client.Download(ctx, p.image); err != nil { // from a path that is known
		t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
	}
	r.asked(1)
}

// A phone that cannot match a request acknowledges it and stays silent.
func TestSecondFormAfterSilence(t *testing.T) {
	t.Parallel()
	r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
	r.phone.Phone(func(req wabox.Request) []wabox.Answer {
		if req.Chat == carol {
			return []wabox.Answer{{None: true}}
		}
		return []wabox.Answer{{Result: wabox.Success}}
	})
	start := time.Now()
	r.heals(p)
	if took := time.Since(start); took < 7*time.Second {
		t.Errorf("it took only %s", took)
	}
	if requests := r.asks(2); requests[0].Chat != carol || requests[1].Chat != carolLID {
		t.Errorf("asked for %v and %v", requests[0].Chat, requests[1].Chat)
	}
}

// Where the message has one name, the account itself can have two.
func TestSecondNameOfTheAccountAfterSilence(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: bob})
	first := make(chan wabox.Request, 1)
	r.phone.Phone(func(req wabox.Request) []wabox.Answer {
		if req.To == r.phone.PN {
			first <- req
			return []wabox.Answer{{None: true}}
		}
		// The answer to the first one counts, and comes late.
		if err := r.phone.SendAnswer(<-first, wabox.Answer{Result: wabox.Success}); err != nil {
			t.Error(err)
		}
		return []wabox.Answer{{None: true}}
	})
	r.heals(p)
	if requests := r.asks(2); requests[1].To != r.phone.LID {
		t.Errorf("asked %v", requests[1].To)
	}
}

// An error that names the chat in its other form is about the request all the same.
func TestErrorInTheOtherForm(t *testing.T) {
	t.Parallel()
	r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
	r.phone.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{ErrorCode: proto.String("0"), RMR: func(n *waBinary.Node) { n.Attrs["jid"] = carolLID }}}
	})
	start := time.Now()
	r.fails(p, reupload.ErrGeneral)
	if took := time.Since(start); took > prompt {
		t.Errorf("it took %s", took)
	}
}

// Many expired pictures with a phone that is off, ten times as fast as by default. Only the first
// few wait for it.
func TestPhoneThatIsOff(t *testing.T) {
	t.Parallel()
	opts := &reupload.Options{Timeout: 3 * time.Second, HandlerTimeout: time.Second}
	t.Run("in handlers", func(t *testing.T) {
		t.Parallel()
		r := newUnregisteredRig(t)
		r.register(opts)
		var slow atomic.Int32
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetImageMessage() != nil {
				start := time.Now()
				_, err := r.client.Download(context.Background(), msg.Message.GetImageMessage())
				if time.Since(start) >= opts.HandlerTimeout {
					slow.Add(1)
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
	t.Run("in one goroutine", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, opts)
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
			if time.Since(start) >= opts.Timeout {
				slow++
			}
		}
		if slow != 3 {
			t.Errorf("%d of 40 downloads waited, want 3", slow)
		}
		r.asked(3)
		// Any answer ends it.
		r.marker()
		r.phone.Phone(nil)
		r.heals(p)
	})
}

// A backlog of requests that nobody answers does not keep a live download from its own error.
func TestLiveDownloadBehindABacklog(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 2 * time.Second, MaxInFlight: 8, BackfillPace: -1})
	r.phone.Phone(silent)
	p := r.receivePicture()
	ctx, cancel := context.WithCancel(t.Context())
	var backlog sync.WaitGroup
	for i := range 1000 {
		info, media := r.unseen(fmt.Sprintf("BACKLOG%d", i))
		backlog.Go(func() { r.plugin.RequestReupload(reupload.WithBackfill(ctx), reupload.NewRequest(info, media.Image())) })
	}
	r.asks(7) // one place is free
	start := time.Now()
	r.fails(p, reupload.ErrTimeout)
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	cancel()
	backlog.Wait()
}

func TestMediaWithoutADirectPath(t *testing.T) {
	t.Parallel()
	pathless := func(r *rig) (picture, *waE2E.ImageMessage) {
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		image := media.Image()
		image.DirectPath, image.URL = nil, nil
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: image})
		return picture{media, evt, evt.Message.GetImageMessage()}, evt.Message.GetImageMessage()
	}
	t.Run("Plugin.Download", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, nil)
		p, image := pathless(r)
		if _, err := r.client.Download(r.ctx(), image); !errors.Is(err, whatsmeow.ErrNoURLPresent) {
			t.Errorf("whatsmeow says %v", err)
		}
		data, err := r.plugin.Download(r.ctx(), &p.evt.Info, image)
		if err != nil || !bytes.Equal(data, p.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "picture"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err = r.plugin.DownloadToFile(r.ctx(), &p.evt.Info, image, file); err != nil {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(1)
		p, image = pathless(r)
		r.phone.Forget(p.id())
		_, err = r.plugin.Download(r.ctx(), &p.evt.Info, image)
		if !errors.Is(err, whatsmeow.ErrNoURLPresent) || !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		for _, asked := range r.box.Asked() {
			if strings.Contains(asked.Path, "reupload") {
				t.Errorf("the CDN was asked for %s", asked.Path)
			}
		}
	})
	t.Run("FillMissingPaths", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, &reupload.Options{FillMissingPaths: true})
		p, image := pathless(r)
		if image.GetDirectPath() == "" {
			t.Fatal("the bot's handler sees no stand-in")
		}
		for range 2 {
			r.heals(p)
		}
		r.asked(1)
		for _, asked := range r.box.Asked() {
			if strings.Contains(asked.Path, "reupload") {
				t.Errorf("the CDN was asked for %s", asked.Path)
			}
		}
	})
}

// A bot that has stored the path without its query.
func TestStrippedPath(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	alive, lost := r.receivePicture(), r.receivePicture()
	for _, p := range []picture{alive, lost} {
		p.image.DirectPath = proto.String(p.Path())
	}
	for range 2 {
		r.heals(alive)
	}
	r.asked(1)
	r.phone.Forget(lost.id())
	r.fails(lost, reupload.ErrStrippedPath)
	r.fails(lost, reupload.ErrNotFound) // which it wraps
	if n := r.log.count("WARN", "without their query"); n != 1 {
		t.Errorf("warned %d times", n)
	}
}

func TestForbiddenForAnotherReason(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.box.SetStatus(p.DirectPath, http.StatusForbidden, "nothing about its age")
	_, err := r.client.Download(r.ctx(), p.image)
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith403) || reupload.Label(reupload.Cause(err)) != "forbidden" {
		t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
	}
	r.asked(0)
}

// A bot that has its messages in a table of its own.
func TestLookup(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.connect()
	known, unknown, failing, panicking := r.receivePicture(), r.receivePicture(), r.receivePicture(), r.receivePicture()
	asked := 0
	r.register(&reupload.Options{Lookup: func(ctx context.Context, hash []byte) ([]reupload.Request, error) {
		asked++
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("its time is not bounded")
		}
		switch {
		case bytes.Equal(hash, known.FileEncSHA256):
			return []reupload.Request{{MessageID: "bad"}, known.request()}, nil
		case bytes.Equal(hash, failing.FileEncSHA256):
			return nil, errors.New("no such table")
		case bytes.Equal(hash, panicking.FileEncSHA256):
			panic("a bug of the bot's")
		}
		return nil, nil
	}})
	r.heals(known)
	r.heals(known)
	if asked != 1 {
		t.Errorf("it was asked %d times", asked)
	}
	for _, p := range []picture{unknown, failing, panicking} {
		r.fails(p, reupload.ErrUnknownMessage)
	}
	r.asked(1)
}

// A caller that has fields only, and of the sender not even a server.
func TestWithRequest(t *testing.T) {
	t.Parallel()
	for mode, sender := range map[types.AddressingMode]types.JID{types.AddressingModePN: carol, types.AddressingModeLID: carolLID} {
		r := newUnregisteredRig(t)
		r.connect()
		r.phone.Group(carolGroup, mode, sender)
		p := r.receivePictureIn(wabox.Incoming{Chat: carolGroup, From: sender})
		r.register(nil)
		req := reupload.Request{MessageID: p.id(), Chat: carolGroup, MediaKey: p.MediaKey, Participant: types.JID{User: sender.User}}
		data, err := r.client.Download(reupload.WithRequest(r.ctx(), req, p.FileEncSHA256), p.image)
		if err != nil || !bytes.Equal(data, p.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		if got := r.asks(1)[0].Participant; got != sender {
			t.Errorf("asked for %v, want %v", got, sender)
		}
	}
}

// A message that is named with the sender's server and without is the same one: its refusal
// holds for both.
func TestSenderWithoutServerIsTheSameOne(t *testing.T) {
	t.Parallel()
	var row reupload.Request
	r := newRig(t, &reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
		return []reupload.Request{row}, nil
	}})
	refused := wabox.Answer{Result: wabox.NotFound}
	for name, asksFirst := range map[string]func(p picture){
		"RequestReupload": func(p picture) { _, _ = r.plugin.RequestReupload(r.ctx(), row) },
		"WithRequest": func(p picture) {
			_, _ = r.client.Download(reupload.WithRequest(r.ctx(), row, p.FileEncSHA256), p.image)
		},
		"Download": func(p picture) { _, _ = r.client.Download(r.ctx(), p.image) },
	} {
		p := r.receivePictureIn(wabox.Incoming{Chat: carolGroup, From: carol})
		r.phone.Script(p.id(), refused)
		row = reupload.Request{MessageID: p.id(), Chat: carolGroup, MediaKey: p.MediaKey, Participant: types.JID{User: carol.User}}
		before := r.phone.RequestCount()
		asksFirst(p)
		r.fails(p, reupload.ErrNotFound)
		_, err := r.client.Download(reupload.WithRequest(r.ctx(), row, p.FileEncSHA256), p.image)
		if n := r.phone.RequestCount() - before; n != 1 || !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
			t.Errorf("%s first: the phone was asked %d times, and at last: %v", name, n, reupload.Cause(err))
		}
	}
}

func TestRememberHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	var messages []*waHistorySync.HistorySyncMsg
	var files []*wabox.Media
	for i := range 3 {
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		id := fmt.Sprintf("HISTORY%d", i)
		r.phone.Knows(id, media)
		r.box.Expire(media)
		files = append(files, media)
		messages = append(messages, &waHistorySync.HistorySyncMsg{Message: &waWeb.WebMessageInfo{
			Key:              &waCommon.MessageKey{ID: proto.String(id), RemoteJID: proto.String(alice.String()), FromMe: proto.Bool(false)},
			MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())),
			Message:          &waE2E.Message{ImageMessage: media.Image()},
		}})
	}
	data := &waHistorySync.HistorySync{
		SyncType:      waHistorySync.HistorySync_RECENT.Enum(),
		Conversations: []*waHistorySync.Conversation{{ID: proto.String(alice.String()), Messages: messages}},
	}
	if err := r.plugin.RememberHistory(r.ctx(), data); err != nil {
		t.Fatal(err)
	}
	for _, media := range files {
		if got, err := r.client.Download(r.ctx(), media.Image()); err != nil || !bytes.Equal(got, media.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
	}
	r.plugin.Close()
	if err := r.plugin.RememberHistory(r.ctx(), data); !errors.Is(err, reupload.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// Our handler comes first, whenever Register is called.
func TestRegisterAfterOtherHandlers(t *testing.T) {
	t.Parallel()
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
}

func TestLogIsQuietInAStorm(t *testing.T) {
	t.Parallel()
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
}

// A bot that asks by itself: its request is ours, too.
func TestBotThatAsksByItself(t *testing.T) {
	t.Parallel()
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
	// Its answer is over now, and the next file is asked for again.
	r.phone.Phone(nil)
	r.heals(r.receivePicture())
	r.asked(2)
}

func TestRequestAll(t *testing.T) {
	t.Parallel()
	const n = 200
	index := reupload.NewMemoryIndex(1000)
	r := newRig(t, &reupload.Options{Index: index, MaxInFlight: 8, BackfillPace: -1})
	want := make(map[types.MessageID]error)
	var requests []reupload.Request
	for i := range n {
		id := fmt.Sprintf("ALL%d", i)
		info, media := r.unseen(id)
		requests, want[id] = append(requests, reupload.NewRequest(info, media.Image())), nil
		if i%10 == 0 {
			r.phone.Script(id, wabox.Answer{Result: wabox.NotFound})
			want[id] = reupload.ErrNotFound
		}
	}
	requests = append(requests, reupload.Request{MessageID: "INVALID"})
	want["INVALID"] = reupload.ErrInvalidRequest
	collect := func() {
		t.Helper()
		got := make(map[types.MessageID]int)
		for a := range r.plugin.RequestAll(r.ctx(), slices.Values(requests)) {
			id := a.Request.MessageID
			err := a.Err
			if err == nil {
				err = a.Result.Err()
			}
			if got[id]++; !errors.Is(err, want[id]) || want[id] == nil && a.Result.DirectPath == "" {
				t.Errorf("%s: %v, %v", id, a.Result, a.Err)
			}
		}
		for id := range want {
			if got[id] != 1 {
				t.Errorf("%s came %d times", id, got[id])
			}
		}
	}
	collect()
	r.asked(n)
	if most := r.phone.MaxWaiting(); most > 8 {
		t.Errorf("%d were in the air", most)
	}
	collect() // all is known now
	r.asked(n)
	r.plugin.Close()
	r.register(&reupload.Options{Index: index})
	collect() // and after a restart
	r.asked(n)
}

func TestRequestAllStops(t *testing.T) {
	t.Parallel()
	const inAir = 4
	r := newRig(t, &reupload.Options{MaxInFlight: inAir, BackfillPace: -1})
	pulled := 0
	endless := func(yield func(reupload.Request) bool) {
		for {
			pulled++
			info, media := r.unseen(fmt.Sprintf("ID%d", pulled))
			if !yield(reupload.NewRequest(info, media.Image())) {
				return
			}
		}
	}
	for a := range r.plugin.RequestAll(t.Context(), endless) {
		if a.Err != nil {
			t.Errorf("got %v, %v", a.Request, a.Err)
		}
		break
	}
	if pulled > inAir {
		t.Errorf("%d requests were taken", pulled)
	}
	r.phone.Phone(silent)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(200*time.Millisecond, cancel)
	n := 0
	for a := range r.plugin.RequestAll(ctx, endless) {
		if n++; !errors.Is(a.Err, context.Canceled) {
			t.Errorf("got %v, %v", a.Request, a.Err)
		}
	}
	if n < 1 || n > inAir {
		t.Errorf("%d answers after the end, with %d in the air", n, inAir)
	}
}

// Live downloads overtake a backfill, which keeps its pace.
func TestLiveOvertakesBackfill(t *testing.T) {
	t.Parallel()
	const pace = 500 * time.Millisecond
	r := newRig(t, &reupload.Options{MaxInFlight: 2, BackfillPace: pace})
	p := r.receivePicture()
	var requests []reupload.Request
	for i := range 6 {
		info, media := r.unseen(fmt.Sprintf("ID%d", i))
		requests = append(requests, reupload.NewRequest(info, media.Image()))
	}
	start := time.Now()
	for a := range r.plugin.RequestAll(r.ctx(), slices.Values(requests)) {
		if a.Err != nil {
			t.Errorf("%v: %v", a.Request, a.Err)
		}
		if p.Media != nil {
			r.heals(p)
			p.Media = nil
		}
	}
	if took := time.Since(start); took < 5*pace {
		t.Errorf("six requests took %s", took)
	}
	place := slices.IndexFunc(r.phone.Requests(), func(req wabox.Request) bool { return req.ID == p.id() })
	if place > 3 {
		t.Errorf("it came after %d of the backfill", place)
	}
}
