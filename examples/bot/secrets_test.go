package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A collector is a log that leaves nothing out of what the bot and the plugin say.
type collector struct {
	mu   *sync.Mutex
	text *strings.Builder
	all  bool // and not only what is worth a warning
}

func (c collector) add(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.text, format+"\n", args...)
}

func (c collector) Debugf(format string, args ...any) {
	if c.all {
		c.add(format, args...)
	}
}

func (c collector) Infof(format string, args ...any)  { c.Debugf(format, args...) }
func (c collector) Warnf(format string, args ...any)  { c.add(format, args...) }
func (c collector) Errorf(format string, args ...any) { c.add(format, args...) }
func (c collector) Sub(module string) waLog.Logger {
	c.all = module == "Reupload"
	return c
}

// TestNoSecrets looks for secrets in all that the bot logs and answers, and in the names of what it
// stores, when it heals a file, when it does not, and when the CDN fails.
func TestNoSecrets(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	log := collector{new(sync.Mutex), new(strings.Builder), true}
	s.cfg.log = log
	heals, lost, fails := mustDraw(t, s, 1), mustDraw(t, s, 2), mustDraw(t, s, 3)
	s.box.Expire(heals)
	s.box.Expire(lost)
	s.box.Serve(fails.DirectPath, func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	err := s.withBot(t.Context(), func(*bot) error {
		for n, step := range []struct {
			of     *wabox.Media
			answer wabox.Answer
			want   string
		}{
			{heals, wabox.Answer{Result: wabox.Success}, "Saved as "},
			{lost, wabox.Answer{Result: wabox.NotFound}, "The phone no longer has this file either."},
			{fails, wabox.Answer{Garbage: true}, "It did not work this time."},
		} {
			s.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{step.answer} })
			msg := reply(step.of)
			msg.ExtendedTextMessage.ContextInfo.StanzaID = proto.String(fmt.Sprint("3EB0", n))
			msg.ExtendedTextMessage.ContextInfo.Participant = proto.String(sender.String())
			if err := s.deliver("", msg); err != nil {
				return err
			}
			got, err := s.next(t.Context())
			if err != nil || !strings.HasPrefix(got.text, step.want) {
				return fmt.Errorf("the bot has answered %q (%w), and not %q", got.text, err, step.want)
			}
			log.add("%s", got.text)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	files, err := filepath.Glob(filepath.Join(s.cfg.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Errorf("stored %v, %v", files, err)
	}
	log.mu.Lock()
	defer log.mu.Unlock()
	printed := log.text.String() + strings.Join(files, "\n")
	if !strings.Contains(printed, "Healed a download") || !strings.Contains(printed, "EOF") {
		t.Errorf("it did not say enough:\n%s", printed)
	}
	for _, leak := range s.box.Leaks([]byte(printed)) {
		t.Error(leak)
	}
	if t.Failed() {
		fmt.Fprintln(os.Stderr, printed)
	}
}
