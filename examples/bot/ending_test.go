package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// help is what the bot says to a message that it need not download anything for.
const help = "Reply !get to a picture, a video, an audio or a document."

func (s *stage) askForHelp() error {
	return s.deliver("", &waE2E.Message{Conversation: proto.String("!get")})
}

// story returns what was said so far.
func (s *stage) story() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprint(s.out)
}

// partial returns how many files are being downloaded.
func (s *stage) partial(t *testing.T) (n int) {
	t.Helper()
	for _, name := range s.files(t) {
		if leftover.MatchString(name) {
			n++
		}
	}
	return n
}

// wait waits for a condition.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: ", what)
		}
	}
}

func TestSilentPhoneHoldsUpNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	err := s.withBot(t.Context(), func(b *bot) error {
		b.patience = 0
		s.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		for n := range uint8(3 * parallel) {
			old := mustDraw(t, s, n)
			s.box.Expire(old)
			if err := sendPicture(s, old); err != nil {
				return err
			}
			if n == 0 {
				if _, err := s.phone.WaitRequests(t.Context(), 1); err != nil {
					return err
				}
			}
		}
		handled := make(chan struct{}, 1)
		b.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetConversation() != "" {
				handled <- struct{}{}
			}
		})
		start := time.Now()
		if err := s.deliver("", &waE2E.Message{Conversation: proto.String("hello")}); err != nil {
			return err
		}
		select {
		case <-handled:
		case <-time.After(10 * time.Second):
			t.Errorf("a text was not handled in %v", time.Since(start))
			s.phone.Phone(nil) // or the test waits for the silent phone
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestOldFilesDoNotHoldUpNewOnes has more old files than are downloaded at once, and
// a silent phone.
func TestOldFilesDoNotHoldUpNewOnes(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	err := s.withBot(t.Context(), func(b *bot) error {
		b.patience = 0
		s.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		for n := range uint8(2 * parallel) {
			old := mustDraw(t, s, n)
			s.box.Expire(old)
			msg := reply(old)
			msg.ExtendedTextMessage.ContextInfo.StanzaID = proto.String(fmt.Sprintf("3EB0%04X", n))
			msg.ExtendedTextMessage.ContextInfo.Participant = proto.String(sender.String())
			if err := s.deliver("", msg); err != nil {
				return err
			}
		}
		if _, err := s.phone.WaitRequests(t.Context(), parallel); err != nil {
			return err
		}
		fresh := mustDraw(t, s, 255)
		if err := sendPicture(s, fresh); err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // less than the phone is waited for
		defer cancel()
		return s.waitSaved(ctx, fresh)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestDownloadsAreBounded(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	release := make(chan struct{})
	err := s.withBot(t.Context(), func(*bot) error {
		var last *wabox.Media
		for n := range uint8(2*parallel + 1) {
			last = mustDraw(t, s, n)
			s.box.Stall(last.DirectPath, release)
			if err := sendPicture(s, last); err != nil {
				return err
			}
		}
		// All pictures have been handled when the bot answers what came after them.
		if err := errors.Join(s.askForHelp(), s.expect(t.Context(), help)); err != nil {
			return err
		}
		wait(t, "as many downloads as may run", func() bool { return s.partial(t) >= parallel })
		if n := s.partial(t); n != parallel {
			t.Errorf("%d downloads run at once, want %d", n, parallel)
		}
		close(release)
		return s.waitSaved(t.Context(), last)
	})
	if err != nil {
		t.Error(err)
	}
}

// TestEndWaitsForDownloads ends the bot while one file is on its way and another waits for the
// phone, which needs the connection. What comes meanwhile is for the next run.
func TestEndWaitsForDownloads(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	slow, expired, late := mustDraw(t, s, 1), mustDraw(t, s, 2), mustDraw(t, s, 3)
	release := make(chan struct{})
	s.box.Stall(slow.DirectPath, release)
	s.box.Expire(expired)
	ctx, cancel := context.WithCancel(t.Context())
	b, err := openBot(ctx, s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.send = s.hear
	b.patience = 20 * time.Second
	s.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: release}} })
	if err = errors.Join(b.connect(ctx, new(bytes.Buffer), ""), s.phone.WaitOnline(ctx), sendPicture(s, slow), sendPicture(s, expired)); err != nil {
		t.Fatal(err)
	}
	wait(t, "two downloads", func() bool { return s.partial(t) == 2 && s.phone.RequestCount() > 0 })

	cancel() // as a signal does
	closed := make(chan struct{})
	go func() {
		b.close()
		close(closed)
	}()
	wait(t, "the bot takes no more work", func() bool { return b.news.offer(func() {}) != nil })
	if err = sendPicture(s, late); err != nil {
		t.Fatal(err)
	}
	wait(t, "the late picture's message", func() bool { return strings.Contains(s.story(), "Left for the next run") })
	select {
	case <-closed:
		t.Fatal("it did not wait")
	default:
	}
	close(release)
	<-closed
	if err = errors.Join(s.waitSaved(t.Context(), slow), s.waitSaved(t.Context(), expired)); err != nil {
		t.Error(err)
	}
	if n := len(s.files(t)); n != 2 {
		t.Errorf("there are %d files", n)
	}
	if err = b.db.PingContext(t.Context()); err == nil {
		t.Error("the database is still open")
	}
	if strings.Contains(s.story(), "error:") {
		t.Errorf("there are errors:\n%s", s.story())
	}
	// The message was not acknowledged, so that it comes again.
	ctx, cancel = context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err = s.withBot(ctx, func(*bot) error { return s.waitSaved(ctx, late) }); err != nil {
		t.Error(err)
	}
}

func TestEndHasALimit(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	stalled := mustDraw(t, s, 1)
	s.box.Stall(stalled.DirectPath, make(chan struct{}))
	var start time.Time
	err := s.withBot(t.Context(), func(b *bot) error {
		b.patience = 300 * time.Millisecond
		if err := sendPicture(s, stalled); err != nil {
			return err
		}
		wait(t, "a download", func() bool { return s.partial(t) == 1 })
		start = time.Now()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 300*time.Millisecond || took > 20*time.Second {
		t.Errorf("it ended after %v", took)
	}
	if n := len(s.files(t)); n > 0 {
		t.Errorf("it has left %d files", n)
	}
	if !strings.Contains(s.story(), "Not saved, because the bot ends") {
		t.Errorf("it did not say so:\n%s", s.story())
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	p := newPool(1, 1)
	begun, release := make(chan struct{}), make(chan struct{})
	done := 0
	work := func() {
		begun <- struct{}{}
		<-release
		done++
	}
	first := p.offer(work)
	<-begun
	second, third := p.offer(work), p.offer(work)
	if got := fmt.Sprint(first, second, third); got != fmt.Sprint(nil, nil, errBusy) {
		t.Errorf("got %s", got)
	}
	p.close()
	p.close()
	if err := p.offer(work); !errors.Is(err, errEnding) {
		t.Errorf("got %v", err)
	}
	close(release)
	<-begun
	p.wait()
	if done != 2 {
		t.Errorf("%d were done", done)
	}
}
