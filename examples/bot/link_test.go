package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/mdp/qrterminal/v3"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// newUnlinkedStage returns a stage whose phone the bot is not linked to yet, and the codes in the
// QR codes that its client makes.
func newUnlinkedStage(t *testing.T) (s *stage, codes <-chan string) {
	t.Helper()
	s = newStage(t)
	s.phone = s.box.NewPhone()
	all := make(chan string, 64)
	s.cfg.newClient = func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
		client := whatsmeow.NewClient(device, log)
		s.phone.Configure(client)
		client.AddEventHandler(func(evt any) {
			if evt, ok := evt.(*events.QR); ok {
				for _, code := range evt.Codes {
					all <- code
				}
			}
		})
		return client, nil
	}
	return s, all
}

// A terminal has what the bot prints.
type terminal struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (o *terminal) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.Write(p)
}

func (o *terminal) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.out.String()
}

var linkingCode = regexp.MustCompile(`(?m)^ +([0-9A-Z]{4}-[0-9A-Z]{4})$`)

// TestLinks links the bot as its user does, by a QR code or by a code that is typed, and runs
// it a second time.
func TestLinks(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(ctx context.Context, t *testing.T, s *stage, out *terminal, codes <-chan string) error{
		"by a QR code": func(ctx context.Context, t *testing.T, s *stage, out *terminal, codes <-chan string) error {
			code := <-codes
			var want strings.Builder
			qrterminal.GenerateHalfBlock(code, qrterminal.L, &want)
			wait(t, "the QR code", func() bool { return strings.Contains(out.String(), want.String()) })
			for line := range strings.Lines(out.String()) {
				if n := utf8.RuneCountInString(strings.TrimSpace(line)); strings.Contains(line, "█") && n > 80 {
					t.Errorf("a terminal may be too narrow for %d characters", n)
				}
			}
			return s.phone.Scan(ctx, code)
		},
		"by a code that is typed": func(ctx context.Context, t *testing.T, s *stage, out *terminal, _ <-chan string) error {
			wait(t, "the code", func() bool { return linkingCode.MatchString(out.String()) })
			if strings.Contains(out.String(), "Scan") {
				t.Error("it shows a QR code too")
			}
			return s.phone.EnterCode(ctx, linkingCode.FindStringSubmatch(out.String())[1])
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, codes := newUnlinkedStage(t)
			if strings.Contains(name, "typed") {
				s.cfg.phone = "+" + s.phone.PN.User
			}
			out := new(terminal)
			runs := func(while func(ctx context.Context) error) {
				t.Helper()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				ended := make(chan error, 1)
				go func() { ended <- run(ctx, out, s.cfg) }()
				if err := while(ctx); err != nil {
					t.Errorf("%v, after\n%s", err, out)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			first, second := mustDraw(t, s, 1), mustDraw(t, s, 2)
			runs(func(ctx context.Context) error {
				if err := link(ctx, t, s, out, codes); err != nil {
					return err
				}
				if err := s.phone.WaitOnline(ctx); err != nil {
					return err
				}
				if err := sendPicture(s, first); err != nil {
					return err
				}
				return s.waitSaved(ctx, first)
			})
			printed := out.String()
			runs(func(ctx context.Context) error {
				if err := sendPicture(s, second); err != nil {
					return err
				}
				return s.waitSaved(ctx, second)
			})
			if got := out.String(); got != printed {
				t.Errorf("it was linked, and prints %q", strings.TrimPrefix(got, printed))
			}
		})
	}
}

// TestLinkErrorsSayWhatToDo has what can go wrong before the bot is linked.
func TestLinkErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for phone, want := range map[string]string{
		"01701234567": "write the number as +491701234567",
		"12":          "write the number as +491701234567",
	} {
		s, _ := newUnlinkedStage(t)
		s.cfg.phone = phone
		if err := run(t.Context(), io.Discard, s.cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", phone, err)
		}
	}
	s, _ := newUnlinkedStage(t)
	s.box.Close()
	if err := run(t.Context(), io.Discard, s.cfg); err == nil || !strings.Contains(err.Error(), "check the network") {
		t.Errorf("got %v", err)
	}
}

// TestLinkingEndsWithItsContext ends the bot while it shows a code, which is no error.
func TestLinkingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, codes := newUnlinkedStage(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, io.Discard, s.cfg) }()
	<-codes
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
