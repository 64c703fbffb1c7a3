package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A spy is a transport that counts what goes through it, and how often each body is closed.
type spy struct {
	base   http.RoundTripper
	mu     sync.Mutex
	urls   []string
	bodies []*countedBody
}

type countedBody struct {
	io.ReadCloser
	closed atomic.Int32
}

func (b *countedBody) Close() error {
	b.closed.Add(1)
	return b.ReadCloser.Close()
}

func (s *spy) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body := &countedBody{ReadCloser: resp.Body}
	resp.Body = body
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urls = append(s.urls, req.URL.String())
	s.bodies = append(s.bodies, body)
	return resp, nil
}

// closedOnce checks every body that has gone by.
func (s *spy) closedOnce(t testing.TB, atLeast int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bodies) < atLeast {
		t.Errorf("only %d responses have gone by", len(s.bodies))
	}
	for i, b := range s.bodies {
		if n := b.closed.Load(); n != 1 {
			t.Errorf("response %d of %d: body closed %d times", i+1, len(s.bodies), n)
		}
	}
}

// spied makes a rig whose media requests go through a spy.
func spied(t testing.TB, opts reupload.Options) (*rig, *spy) {
	t.Helper()
	r := newUnregisteredRig(t)
	s := &spy{base: r.box.Transport()}
	opts.HTTPClient = &http.Client{Transport: s}
	r.register(&opts)
	r.connect()
	return r, s
}

func TestBodiesAreClosedOnce(t *testing.T) {
	t.Parallel()
	runInBubble(t, "healed", func(t *testing.T) {
		r, s := spied(t, reupload.Options{})
		r.heals(r.receivePicture())
		s.closedOnce(t, 2)
	})
	runInBubble(t, "lost", func(t *testing.T) {
		r, s := spied(t, reupload.Options{})
		p := r.receivePicture()
		r.phone.Forget(p.id())
		if _, err := r.client.Download(r.ctx(), p.image); err == nil {
			t.Fatal("a lost file was downloaded")
		}
		s.closedOnce(t, 1)
	})
	runInBubble(t, "new path is dead", func(t *testing.T) {
		r, s := spied(t, reupload.Options{})
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: "/v/nothing.enc?ccb=11-4&oh=x&oe=7FFFFFFF"})
		_, err := r.client.Download(r.ctx(), p.image)
		if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrInvalidAnswer) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		s.closedOnce(t, 2)
	})
	runInBubble(t, "expired 403", func(t *testing.T) {
		r, s := spied(t, reupload.Options{})
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, 403, "URL signature expired")
		r.heals(p)
		s.closedOnce(t, 2)
	})
}

func TestUploadsAndUnknownFilesPassThrough(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		// A file that came in no message.
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.SetStatus(media.DirectPath, 410, "gone for good")
		if status, body := r.get(media); status != 410 || body != "gone for good" {
			t.Errorf("got %d %q", status, body)
		}
		_, err := r.client.Download(r.ctx(), media.Image())
		if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		up, err := r.client.Upload(r.ctx(), content(), whatsmeow.MediaDocument)
		if err != nil || up.DirectPath == "" {
			t.Errorf("upload: %v", err)
		}
		r.asked(0)
		if s := r.plugin.Stats(); s.Expired != 2 || s.Unhealed["unknown_message"] != 2 {
			t.Errorf("stats are %+v", s)
		}
	})
}

func TestCauseOfOtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, io.EOF, whatsmeow.ErrMediaDownloadFailedWith404, whatsmeow.DownloadHTTPError{}, reupload.ErrTimeout} {
		if cause := reupload.Cause(err); cause != nil {
			t.Errorf("cause of %v is %v", err, cause)
		}
	}
}

func TestReplayThatFailsForAnotherReason(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		path := r.box.Reupload(p.Media)
		r.box.SetStatus(path, 500, "not now")
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path})
		_, err := r.client.Download(r.ctx(), p.image)
		if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrReplayFailed) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		if n := r.box.Hits(path); n != 4 {
			t.Errorf("the new path was tried %d times, want 4", n)
		}
		// The path is remembered: when the CDN is well again, the phone need not be asked.
		r.box.SetStatus(path, 0, "")
		r.heals(p)
		r.asked(1)
		visits := r.box.Hits(p.DirectPath)
		r.heals(p)
		if r.box.Hits(p.DirectPath) != visits {
			t.Error("the dead path was visited again")
		}
	})
}

func TestWrongBytesUnderTheNewPath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{SilencePause: -1})
		p := r.receivePicture()
		path := r.box.Reupload(p.Media)
		r.box.Corrupt(path)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path}, wabox.Answer{Result: wabox.Success})
		if _, err := r.client.Download(r.ctx(), p.image); !errors.Is(reupload.Cause(err), reupload.ErrInvalidAnswer) {
			t.Fatalf("download of wrong bytes: %v (cause: %v)", err, reupload.Cause(err))
		}
		if n := r.box.Hits(path); n != 4 {
			t.Errorf("the new path was tried %d times, want 4", n)
		}
		r.heals(p) // not from there again
		r.asked(2)
	})
}

func TestNewPathExpiresToo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		for n := 1; n <= 3; n++ {
			r.heals(p)
			r.asked(n)
			r.box.Expire(p.Media)
		}
	})
}

func TestOneReceiptForManyDownloads(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		hold := make(chan struct{})
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: hold})
		var downloads sync.WaitGroup
		for range 50 {
			downloads.Go(func() { r.heals(p) })
		}
		if _, err := r.phone.WaitRequests(r.ctx(), 1); err != nil {
			t.Fatal(err)
		}
		until(t, "all have failed", func() bool { return r.plugin.Stats().Expired == 50 })
		close(hold)
		downloads.Wait()
		r.asked(1)
	})
}

// Of messages with the same path the oldest is the original, whatever others have sent since.
func TestForwardsAreAskedOldestFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		now := time.Now().Truncate(time.Second)
		var ids []string
		for _, age := range []time.Duration{2 * time.Hour, time.Hour, 3 * time.Hour} { // they do not arrive in order
			evt := r.receive(wabox.Incoming{Timestamp: now.Add(-age)}, &waE2E.Message{ImageMessage: media.Image()})
			ids = append(ids, evt.Info.ID)
		}
		r.box.Expire(media)
		r.phone.Forget(ids[1])
		r.phone.Forget(ids[2])
		data, err := r.client.Download(r.ctx(), media.Image())
		if err != nil || !bytes.Equal(data, media.Plaintext) {
			t.Fatalf("download: %v (cause: %v)", err, reupload.Cause(err))
		}
		var order []string
		for _, req := range r.phone.Requests() {
			order = append(order, req.ID)
		}
		if want := []string{ids[2], ids[0]}; !slices.Equal(order, want) {
			t.Errorf("asked for %v, want %v", order, want)
		}
	})
}

func TestNewsletterMediaIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.UploadPlain(content(), whatsmeow.MediaImage)
		chat := types.NewJID("120363041234567890", types.NewsletterServer)
		evt := r.receive(wabox.Incoming{Chat: chat}, &waE2E.Message{ImageMessage: media.Image()})
		r.box.Expire(media)
		_, err := r.plugin.Download(r.ctx(), &evt.Info, evt.Message.GetImageMessage())
		if err == nil || !errors.Is(reupload.Cause(err), reupload.ErrNewsletter) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		r.asked(0)
	})
}

func TestContextEndsTheWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = r.phone.WaitRequests(r.ctx(), 1)
			cancel()
		}()
		_, err := r.client.Download(ctx, p.image)
		if err == nil || !errors.Is(err, context.Canceled) && !errors.Is(reupload.Cause(err), context.Canceled) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		if n := r.plugin.Stats().Waiting; n != 1 { // its answer is for the next download
			t.Errorf("%d requests wait, want 1", n)
		}
	})
}

func TestWithoutAsking(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// The path that a file has moved to goes, and the old one comes back: the bot gets what it would
// get without the plugin.
func TestOldPathIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.heals(p)
		moved := r.box.Asked()[len(r.box.Asked())-1].Path
		r.phone.Phone(silent)
		for _, status := range []int{http.StatusGone, http.StatusForbidden, http.StatusServiceUnavailable} {
			r.heals(p) // from where it is known to be
			r.box.SetStatus(moved, status, "")
			r.box.SetStatus(p.Path(), http.StatusOK, "")
			r.heals(p)
			if asked := r.box.Asked(); asked[len(asked)-1].Path != p.Path() {
				t.Errorf("with status %d at the new path, the old one was not tried", status)
			}
			r.box.SetStatus(moved, 0, "")
			r.box.SetStatus(p.Path(), http.StatusGone, "")
		}
		r.asked(1)
	})
}

// Callers with little patience leave their request to the next one.
func TestImpatientCallersSendOneRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		answer := make(chan struct{})
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
		for range 5 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				defer cancel()
				r.asks(1)
				time.Sleep(50 * time.Millisecond)
			}()
			if _, err := r.client.Download(ctx, p.image); err == nil {
				t.Fatal("it has healed")
			}
		}
		close(answer)
		r.heals(p)
		r.asked(1)
	})
}
