package main

import (
	"context"
	"log/slog"
	"net/http"
	"regexp"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestShutdownDoesNotWaitForAPhone(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	answered := make(chan answer, 1)
	start := time.Now()
	err := s.withGateway(t.Context(), func(context.Context) error {
		media := s.upload("a")
		s.deliver(t, "3EB0", &waE2E.Message{ImageMessage: media.Image()})
		s.waitRow(t, "3EB0")
		s.box.Expire(media)
		s.phones[s.a].Script("3EB0", wabox.Answer{None: true})
		go func() {
			got, err := s.get(context.WithoutCancel(t.Context()), s.a, sender.String(), "3EB0")
			if err != nil {
				t.Error(err)
			}
			answered <- got
		}()
		_, err := s.phones[s.a].WaitRequests(t.Context(), 1)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if got := <-answered; got.status != http.StatusServiceUnavailable {
		t.Errorf("got %s", got)
	}
	if took := time.Since(start); took > 40*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestCloseHandlesWhatHasCome ends the gateway while a message is being stored.
func TestCloseHandlesWhatHasCome(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	started, stored := make(chan struct{}), make(chan error, 1)
	s.cfg.wrapStore = func(next storeFunc) storeFunc {
		return func(ctx context.Context, account string, evt *events.Message) error {
			if evt.Info.ID != "SLOW" {
				return next(ctx, account, evt)
			}
			close(started)
			<-s.g.running.Done()                // the gateway ends
			time.Sleep(1500 * time.Millisecond) // longer than the plugin itself would wait
			err := next(ctx, account, evt)
			stored <- err
			return err
		}
	}
	err := s.withGateway(t.Context(), func(context.Context) error {
		s.deliver(t, "SLOW", &waE2E.Message{ImageMessage: s.upload("slow").Image()})
		<-started
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	select {
	case err = <-stored:
		if err != nil {
			t.Errorf("the database was closed too early: %v", err)
		}
	default:
		t.Error("nobody has waited for the message")
	}
}

// TestRun starts and ends the gateway as main does, with a log that says where it listens.
func TestRun(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	out := new(safeBuffer)
	s.cfg.log, _ = newLog(out, "text", slog.LevelInfo)
	s.cfg.listen = "127.0.0.1:0"
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, s.cfg) }()
	listening := regexp.MustCompile(`msg=Listening url=(\S+)`)
	for !listening.MatchString(out.String()) {
		select {
		case err := <-ended:
			t.Fatalf("it has ended: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if got := status(t, listening.FindStringSubmatch(out.String())[1]+"/readyz"); got != http.StatusOK {
		t.Errorf("it is not ready: %d", got)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
