package faults

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
)

var (
	cellFlag = flag.String("cell", "", `replay cells and print what happens, such as "cut(5s)@acked handler two sqlite"`)
	askFlag  = flag.Bool("ask", false, "where -cell waits for the end of a pause, call RequestReupload instead")
	update   = flag.Bool("update", false, "write docs/faults.md again")
)

// replays reports whether a single cell is replayed.
func replays() bool { return *cellFlag != "" }

// A record is what came of a cell.
type record struct {
	outcome string        // "healed", the label of a cause, or what whatsmeow says
	took    time.Duration // until the call has ended
	asks    int           // requests for the file that went out in all, until it was there
	then    string        // when the file can be had afterwards: "" for at once
}

// String is what the page says. Times are rounded up to a tenth of a second, or to one from ten on.
func (r record) String() string {
	unit := time.Second / 10
	if r.took > 10*time.Second {
		unit = time.Second
	}
	s := fmt.Sprintf("%s %g s", r.outcome, ((r.took + unit - 1) / unit * unit).Seconds())
	if r.asks != 1 {
		s += fmt.Sprintf(" ×%d", r.asks)
	}
	if r.then != "" {
		s += ", " + r.then
	}
	return s
}

var recordSyntax = regexp.MustCompile(`^(.+?) ([0-9.]+) s(?: ×([0-9]+))?(?:, (.+))?$`)

// parseRecord reads what the page says.
func parseRecord(s string) (r record, err error) {
	parts := recordSyntax.FindStringSubmatch(s)
	if parts == nil {
		return r, fmt.Errorf("%q is not OUTCOME TIME s [×REQUESTS][, WHEN]", s)
	}
	seconds, err := strconv.ParseFloat(parts[2], 64)
	if err != nil {
		return r, err
	}
	r = record{parts[1], time.Duration(math.Round(seconds*1000)) * time.Millisecond, 1, parts[4]}
	if parts[3] != "" {
		r.asks, err = strconv.Atoi(parts[3])
	}
	return r, err
}

// fits reports whether a record is as the page has it, and not later.
func (r record) fits(said record) bool {
	return r.outcome == said.outcome && r.asks == said.asks && r.then == said.then && r.took <= said.took
}

const isHealed = "healed"

// run lives through a cell. If the file is not asked for again for some time, it waits for that,
// or asks with RequestReupload otherwise.
func (c cell) run(t *testing.T, waits bool) (r record) {
	defer func() {
		if p := recover(); p != nil { // goroutines that are left
			t.Errorf("%v: %v", c, p)
		}
	}()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c)
		if c.phase == queued {
			w.occupy()
		}
		if c.phase == healed {
			if outcome, _ := w.call(func() {}); outcome != isHealed {
				t.Fatalf("without a fault: %s", outcome)
			}
		}
		if c.fault.restart && moments[c.phase] == 0 {
			w.begin()
			r.outcome, r.took = w.call(func() {})
		} else {
			r.outcome, r.took = w.call(w.begin)
			w.struck.Wait()
			if c.fault.restart {
				r.outcome, r.took = w.call(func() {})
			}
		}
		w.lift()
		r.then = w.afterwards(waits)
		w.mu.Lock()
		r.asks = len(w.asks)
		for _, s := range w.strange {
			t.Error(s)
		}
		w.mu.Unlock()
		w.say("** %v", r)
	})
	return r
}

// call makes one call as the bot does, and returns what comes of it and how long that takes. Just
// before, it calls a function.
func (w *world) call(before func()) (outcome string, took time.Duration) {
	ctx, cancel := context.WithCancel(w.Context())
	defer cancel()
	w.cancel = cancel
	b := w.bot
	ended := make(chan struct{})
	job := func() {
		defer close(ended)
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		began := time.Now()
		outcome = w.ask(ctx, b)
		took = time.Since(began)
		w.say("** the call ends: %s", outcome)
	}
	if w.cell.way == "handler" {
		_, err := w.account.Deliver(w.chat, &waE2E.Message{Conversation: proto.String("!get")})
		w.must(err)
		<-b.inside
		before()
		b.jobs <- job
	} else {
		before()
		go job()
	}
	<-ended
	return outcome, took
}

// ask asks for the file in the bot's way.
func (w *world) ask(ctx context.Context, b *bot) (outcome string) {
	switch w.cell.way {
	case "request":
		result, err := b.plugin.RequestReupload(ctx, reupload.NewRequest(&w.info, w.image))
		return w.outcomeOf(result, err)
	case "all":
		outcome = "no answer"
		requests := slices.Values([]reupload.Request{reupload.NewRequest(&w.info, w.image)})
		for answer := range b.plugin.RequestAll(ctx, requests) {
			outcome = w.outcomeOf(answer.Result, answer.Err)
		}
		return outcome
	}
	data, err := b.client.Download(ctx, w.image)
	return w.fileOr(data, err)
}

func (w *world) outcomeOf(result reupload.Result, err error) string {
	if err == nil {
		err = result.Err()
	}
	if err != nil {
		return w.label(err)
	}
	return isHealed
}

// fileOr checks that a file is the file, or says why there is none.
func (w *world) fileOr(data []byte, err error) string {
	if err == nil && !bytes.Equal(data, w.media.Plaintext) {
		w.suspect("the download gave other bytes")
	}
	switch cause := reupload.Cause(err); {
	case err == nil:
		return isHealed
	case cause != nil:
		return w.label(cause)
	}
	var status whatsmeow.DownloadHTTPError
	for _, known := range passedOn {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("HTTP %d", status.StatusCode)
	case isNetError(err):
		return "network"
	}
	w.suspect("the download fails with %v", err)
	return "unknown"
}

func isNetError(err error) bool {
	var network net.Error
	return errors.As(err, &network)
}

// passedOn are the errors of whatsmeow's that the plugin leaves as they are.
var passedOn = []struct {
	err  error
	name string
}{
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "deadline_exceeded"},
	{syscall.ECONNREFUSED, "refused"},
	{io.ErrUnexpectedEOF, "cut short"},
	{whatsmeow.ErrTooShortFile, "too short"},
	{whatsmeow.ErrInvalidMediaEncSHA256, "other bytes"},
}

// label checks that a cause is one of those that are documented.
func (w *world) label(cause error) string {
	label := reupload.Label(cause)
	if label == "other" {
		w.suspect("the cause is not one of the documented ones: %v", cause)
	}
	return label
}

// pauses are for how long the phone is not asked again at the most, as documented.
var pauses = []pause{
	{time.Hour, "1 h"},
	{24 * time.Hour, "24 h"},
	{3 * 24 * time.Hour, "3 days"},
}

// Other ways to have a file afterwards.
const (
	asked = "asked" // by RequestReupload
	named = "named" // by a download that names its message
	lost  = "lost"  // not at all
)

type pause struct {
	time time.Duration
	name string
}

// afterwards sees when the file can be had, now that the fault is over.
func (w *world) afterwards(waits bool) (then string) {
	get := func() string {
		data, err := w.bot.client.Download(w.Context(), w.image)
		outcome := w.fileOr(data, err)
		w.say("** the next download: %s", outcome)
		return outcome
	}
	defer func() {
		if then == named || then == lost {
			return
		}
		w.mu.Lock()
		before := len(w.asks)
		w.mu.Unlock()
		data, err := w.bot.client.Download(reupload.WithoutAsking(w.Context()), w.image)
		if outcome := w.fileOr(data, err); outcome != isHealed {
			w.Errorf("the file was there, and then is not: %s", outcome)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.asks) != before {
			w.Errorf("the phone was asked for a file that was there")
		}
	}()
	outcome := get()
	switch outcome {
	case isHealed:
		return ""
	case reupload.Label(reupload.ErrUnknownMessage):
		data, err := w.bot.plugin.Download(w.Context(), &w.info, w.image)
		if outcome = w.fileOr(data, err); outcome == isHealed {
			return named
		}
	}
	if !waits {
		result, err := w.bot.plugin.RequestReupload(w.Context(), reupload.NewRequest(&w.info, w.image))
		outcome = w.outcomeOf(result, err)
		w.say("** RequestReupload: %s", outcome)
		if outcome == isHealed && get() == isHealed {
			return asked
		}
		return lost
	}
	paused := time.Now()
	for _, pause := range pauses {
		w.bot.client.Disconnect() // each keep-alive costs more than a login
		time.Sleep(pause.time + time.Second - time.Since(paused))
		w.must(w.bot.client.Connect())
		w.must(w.account.WaitOnline(w.Context()))
		time.Sleep(time.Second)
		if get() == isHealed {
			return pause.name
		}
	}
	return lost
}
