package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// inBubble runs a test beside the others, inside a testing/synctest bubble. The clock there stands
// still while anything has something to do and then jumps to the next moment for which somebody
// waits, so that a test of a time-out of 30 s takes milliseconds and its figures are exact. Tests
// of races, of the heap and of dials that take time stay outside: whatsmeow holds a lock while it
// dials, and no time passes in a bubble while anything waits for a lock.
func inBubble(t *testing.T, test func(t *testing.T)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		// whatsmeow keeps a goroutine for a minute after the last history sync.
		t.Cleanup(func() { time.Sleep(2 * time.Minute) })
		// A frame that arrives while a client disconnects keeps a goroutine of whatsmeow's for
		// good.
		defer time.Sleep(time.Second)
		test(t)
	})
}

// runInBubble is inBubble for a subtest.
func runInBubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { inBubble(t, test) })
}

// What Options has by default.
const (
	defaultTimeout        = 30 * time.Second
	defaultHandlerTimeout = 5 * time.Second
	defaultPace           = time.Second
	defaultRefusalPause   = 24 * time.Hour
	defaultSilencePause   = time.Hour
)

// patience bounds what a test waits for that must happen. It is longer than any time-out.
const patience = 5 * time.Minute

// A rig is a bot: an unmodified whatsmeow client that is logged in to a box, with the plugin.
type rig struct {
	testing.TB
	box    *wabox.Box
	phone  *wabox.Account
	client *whatsmeow.Client
	plugin *reupload.Plugin
	log    *logRecorder
	events chan any // every event, except kinds that no test looks at
}

// newRig registers the plugin as the documentation says, and connects.
func newRig(t testing.TB, opts *reupload.Options) *rig {
	t.Helper()
	r := newUnregisteredRig(t)
	r.register(opts)
	r.connect()
	return r
}

func newUnregisteredRig(t testing.TB) *rig {
	t.Helper()
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	r := &rig{TB: t, box: box, phone: box.NewAccount(), log: new(logRecorder), events: make(chan any, 10000)}
	r.client = r.phone.NewClient(r.log)
	t.Cleanup(r.client.Disconnect)
	return r
}

func (r *rig) register(opts *reupload.Options) {
	r.Helper()
	var err error
	if r.plugin, err = reupload.Register(r.client, opts); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { r.plugin.Close() })
}

func (r *rig) connect() {
	r.Helper()
	r.client.AddEventHandler(func(evt any) { r.events <- evt })
	if err := r.client.Connect(); err != nil {
		r.Fatal(err)
	}
	if err := r.phone.WaitOnline(r.ctx()); err != nil {
		r.Fatal(err)
	}
	next[*events.Connected](r)
}

// ctx ends when a test has waited for too long.
func (r *rig) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	r.Cleanup(cancel)
	return ctx
}

// next returns the next event of a type.
func next[T any](r *rig) T {
	r.Helper()
	timeout := time.After(patience)
	for {
		select {
		case evt := <-r.events:
			if evt, ok := evt.(T); ok {
				return evt
			}
		case <-timeout:
			r.Fatalf("no %T came", *new(T))
		}
	}
}

// receive delivers a message and waits until the bot has it.
func (r *rig) receive(in wabox.Incoming, msg *waE2E.Message) *events.Message {
	r.Helper()
	id, err := r.phone.Deliver(in, msg)
	if err != nil {
		r.Fatal(err)
	}
	for {
		if evt := next[*events.Message](r); evt.Info.ID == id {
			return evt
		}
	}
}

// A picture is a file that the bot has received in a message.
type picture struct {
	*wabox.Media
	evt   *events.Message
	image *waE2E.ImageMessage
}

func (p picture) id() types.MessageID { return p.evt.Info.ID }

// request is what a bot asks for by itself.
func (p picture) request() reupload.Request { return reupload.NewRequest(&p.evt.Info, p.image) }

// receivePicture delivers a picture in a one-to-one chat, and lets it expire.
func (r *rig) receivePicture() picture {
	r.Helper()
	return r.receivePictureIn(wabox.Incoming{})
}

func (r *rig) receivePictureIn(in wabox.Incoming) picture {
	r.Helper()
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	evt := r.receive(in, &waE2E.Message{ImageMessage: media.Image()})
	r.box.Expire(media)
	return picture{media, evt, evt.Message.GetImageMessage()}
}

var contents struct {
	sync.Mutex
	n int
}

// content returns bytes that no other file has.
func content() []byte {
	contents.Lock()
	defer contents.Unlock()
	contents.n++
	return bytes.Repeat(fmt.Appendf(nil, "picture %d ", contents.n), 500)
}

// heals downloads a picture and checks what comes.
func (r *rig) heals(p picture) {
	r.Helper()
	data, err := r.client.Download(r.ctx(), p.image)
	if err != nil {
		r.Fatalf("download: %v (cause: %v)", err, reupload.Cause(err))
	}
	if !bytes.Equal(data, p.Plaintext) {
		r.Fatal("the download gave other bytes")
	}
}

// fails checks that a download is not healed, and why.
func (r *rig) fails(p picture, want error) {
	r.Helper()
	_, err := r.client.Download(r.ctx(), p.image)
	if !errors.Is(reupload.Cause(err), want) {
		r.Errorf("got %v (cause: %v), want the cause %v", err, reupload.Cause(err), want)
	}
}

// asked checks how many requests the server has seen.
func (r *rig) asked(want int) {
	r.Helper()
	if n := r.phone.RequestCount(); n != want {
		r.Errorf("the phone was asked %d times, want %d", n, want)
	}
}

// until polls for what must come.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: never", what)
		}
	}
}

// blobsDeleted waits until whatsmeow has deleted the blobs of n history syncs. It does that in its
// own time, with the media client that Close puts back.
func (r *rig) blobsDeleted(n int) {
	r.Helper()
	until(r, "the blobs are deleted", func() bool {
		deleted := 0
		for _, asked := range r.box.Asked() {
			if asked.Method == http.MethodDelete {
				deleted++
			}
		}
		return deleted == n
	})
}

// A logRecorder keeps what is logged, by this package and by whatsmeow.
type logRecorder struct {
	mu    sync.Mutex
	lines []string
}

var _ waLog.Logger = (*moduleLog)(nil)

func (l *logRecorder) add(level, module, msg string, args []any) {
	if level == "DEBUG" && module != "Reupload" {
		return
	}
	line := level + " " + module + ": " + fmt.Sprintf(msg, args...)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
}

func (l *logRecorder) count(level, part string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.HasPrefix(line, level) && strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func (l *logRecorder) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *logRecorder) Sub(module string) waLog.Logger { return &moduleLog{l, module} }
func (l *logRecorder) Debugf(msg string, args ...any) { l.add("DEBUG", "", msg, args) }
func (l *logRecorder) Infof(msg string, args ...any)  { l.add("INFO", "", msg, args) }
func (l *logRecorder) Warnf(msg string, args ...any)  { l.add("WARN", "", msg, args) }
func (l *logRecorder) Errorf(msg string, args ...any) { l.add("ERROR", "", msg, args) }

type moduleLog struct {
	*logRecorder
	module string
}

func (l *moduleLog) Debugf(msg string, args ...any) { l.add("DEBUG", l.module, msg, args) }
func (l *moduleLog) Infof(msg string, args ...any)  { l.add("INFO", l.module, msg, args) }
func (l *moduleLog) Warnf(msg string, args ...any)  { l.add("WARN", l.module, msg, args) }
func (l *moduleLog) Errorf(msg string, args ...any) { l.add("ERROR", l.module, msg, args) }
