package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// A progress shows what happens: to a person at a terminal, to a log, or to a program. Its methods
// can be called concurrently.
type progress interface {
	file(*file)                            // has been tried
	history(percent, chats, files int)     // a part of the history has come
	waits(reason string, until time.Time)  // the phone may not be asked
	counts([]count)                        // how far it is
	note(line string)                      // a line of the log
	end()                                  // nothing more of the above comes
	summary(counts []count, report string) // what has become of everything
	estimate(estimate)                     // what a run would do
}

func newProgress(cfg config, out, errOut io.Writer) progress {
	switch {
	case cfg.json:
		return &jsonEvents{out: json.NewEncoder(out), errOut: errOut}
	case cfg.terminal:
		return &bar{out: out, plan: cfg.plan}
	}
	return &logLines{out: out, errOut: errOut, plan: cfg.plan}
}

// A tally is how far it is.
type tally struct{ all, saved, lost, later, phone, fresh int }

func tallyOf(counts []count) (t tally) {
	for _, n := range counts {
		t.all += n.files
		switch n.state {
		case stateSaved:
			t.saved += n.files
		case stateLost:
			t.lost += n.files
		case stateFailed:
			t.later += n.files
		case stateExpired:
			t.phone += n.files
		default:
			t.fresh += n.files
		}
	}
	return t
}

func (t tally) String() string {
	parts := []string{number(t.saved, "file") + " of " + english.Sprint(t.all) + " saved"}
	for _, part := range []struct {
		n    int
		what string
	}{{t.fresh, "to look for"}, {t.phone, "wait for the phone"}, {t.later, "later"}, {t.lost, "lost"}} {
		if part.n > 0 {
			parts = append(parts, english.Sprintf("%d %s", part.n, part.what))
		}
	}
	return strings.Join(parts, ", ")
}

// A bar is for a terminal.
type bar struct {
	out  io.Writer
	plan plan

	mu      sync.Mutex
	bar     *progressbar.ProgressBar
	waiting string
}

func (b *bar) file(*file) {}

func (b *bar) history(percent, chats, files int) {
	if files > 0 {
		b.note(fmt.Sprintf("A part of the history: %s, %s", number(chats, "chat"), number(files, "new file")))
	}
}

func (b *bar) waits(reason string, until time.Time) {
	text := "waiting until " + until.Local().Format("Mon 15:04") + ": " + reason
	b.mu.Lock()
	again := b.waiting == text
	b.waiting = text
	b.mu.Unlock()
	if !again {
		b.note(capital(text))
	}
}

func (b *bar) counts(counts []count) {
	t := tallyOf(counts)
	if t.all == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == nil {
		b.bar = progressbar.NewOptions(t.all, progressbar.OptionSetWriter(b.out), progressbar.OptionFullWidth(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionUseANSICodes(true))
	}
	if t.all != b.bar.GetMax() {
		b.bar.ChangeMax(t.all)
	}
	left := fmt.Sprintf("%d of %d", t.all-t.fresh-t.phone-t.later, t.all)
	for _, part := range []struct {
		n    int
		what string
	}{{t.phone, "for the phone"}, {t.later, "later"}, {t.lost, "lost"}} {
		if part.n > 0 {
			left += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	if t.fresh+t.phone == 0 {
		left += ", waiting for more"
	}
	_ = b.bar.Set(min(t.saved+t.lost, t.all-1)) // a full one ends
	b.bar.Describe(left)
}

func (b *bar) note(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
	}
	fmt.Fprintln(b.out, line)
	if b.bar != nil {
		_ = b.bar.RenderBlank()
	}
}

func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}

func (b *bar) summary(counts []count, report string) { printSummary(b.out, counts, report) }
func (b *bar) estimate(e estimate)                   { printEstimate(b.out, e, b.plan) }

// logLines are for a log: one line a minute.
type logLines struct {
	out, errOut io.Writer
	plan        plan

	mu      sync.Mutex
	last    time.Time
	said    tally
	waiting string
}

// linePause is the time between two lines of progress in a log.
const linePause = time.Minute

func (l *logLines) file(*file) {}
func (l *logLines) end()       {}

func (l *logLines) history(percent, chats, files int) {
	l.line(fmt.Sprintf("a part of the history: %s, %s", number(chats, "chat"), number(files, "new file")))
}

func (l *logLines) waits(reason string, until time.Time) {
	text := "waiting until " + until.Local().Format("Mon 15:04") + ": " + reason
	l.mu.Lock()
	again := l.waiting == text
	l.waiting = text
	l.mu.Unlock()
	if !again {
		l.line(text)
	}
}

func (l *logLines) counts(counts []count) {
	t := tallyOf(counts)
	l.mu.Lock()
	now := time.Now()
	if l.last.IsZero() {
		l.last = now.Add(tickPause - linePause) // the first line comes soon
	}
	due := t.all > 0 && t != l.said && now.Sub(l.last) >= linePause
	if due {
		l.last, l.said = now, t
	}
	l.mu.Unlock()
	if due {
		l.line(t.String())
	}
}

func (l *logLines) line(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.out, time.Now().Format(time.DateTime), text)
}

func (l *logLines) note(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintln(l.errOut, line)
}

func (l *logLines) summary(counts []count, report string) { printSummary(l.out, counts, report) }
func (l *logLines) estimate(e estimate)                   { printEstimate(l.out, e, l.plan) }

// jsonEvents are for a program: an object a line. Keys, paths on servers and other secrets are not
// in them.
type jsonEvents struct {
	errOut io.Writer

	mu   sync.Mutex
	out  *json.Encoder
	said tally
	wait string
}

type event struct {
	Time  time.Time `json:"time"`
	Event string    `json:"event"`

	State   string     `json:"state,omitempty"`
	Cause   string     `json:"cause,omitempty"`
	Next    *time.Time `json:"next,omitempty"`
	Chat    string     `json:"chat,omitempty"`
	Message string     `json:"message,omitempty"`
	Sender  string     `json:"sender,omitempty"`
	Sent    *time.Time `json:"sent,omitempty"`
	Kind    string     `json:"kind,omitempty"`
	File    string     `json:"file,omitempty"` // under the directory for media

	Progress *int       `json:"progress,omitempty"` // of the history, in percent
	Chats    *int       `json:"chats,omitempty"`
	Files    *int       `json:"files,omitempty"`
	Reason   string     `json:"reason,omitempty"`
	Until    *time.Time `json:"until,omitempty"`
	Counts   []counted  `json:"counts,omitempty"`
	Report   string     `json:"report,omitempty"`
	Estimate *estimate  `json:"estimate,omitempty"`
}

type counted struct {
	State string     `json:"state"`
	Cause string     `json:"cause,omitempty"`
	Files int        `json:"files"`
	Bytes int64      `json:"bytes"`
	Next  *time.Time `json:"next,omitempty"`
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

func countedOf(counts []count) (all []counted) {
	for _, n := range counts {
		all = append(all, counted{n.state, n.cause, n.files, n.bytes, timeOrNil(n.next)})
	}
	return all
}

func (j *jsonEvents) put(e event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	e.Time = time.Now()
	_ = j.out.Encode(e)
}

func (j *jsonEvents) file(f *file) {
	e := event{
		Event: "file", State: f.state, Cause: f.cause, Next: timeOrNil(f.next), Chat: f.request.Chat.String(), Message: f.request.MessageID,
		Sent: timeOrNil(f.sent), Kind: string(f.kind), File: f.saved,
	}
	if !f.request.Participant.IsEmpty() {
		e.Sender = f.request.Participant.String()
	}
	j.put(e)
}

func (j *jsonEvents) history(percent, chats, files int) {
	j.put(event{Event: "history", Progress: &percent, Chats: &chats, Files: &files})
}

func (j *jsonEvents) waits(reason string, until time.Time) {
	j.mu.Lock()
	again := j.wait == reason+until.String()
	j.wait = reason + until.String()
	j.mu.Unlock()
	if !again {
		j.put(event{Event: "waits", Reason: reason, Until: &until})
	}
}

func (j *jsonEvents) counts(counts []count) {
	t := tallyOf(counts)
	j.mu.Lock()
	again := j.said == t
	j.said = t
	j.mu.Unlock()
	if !again {
		j.put(event{Event: "progress", Counts: countedOf(counts)})
	}
}

func (j *jsonEvents) note(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	fmt.Fprintln(j.errOut, line)
}

func (j *jsonEvents) end() {}

func (j *jsonEvents) summary(counts []count, report string) {
	j.put(event{Event: "summary", Counts: countedOf(counts), Report: report})
}

func (j *jsonEvents) estimate(e estimate) { j.put(event{Event: "estimate", Estimate: &e}) }

func capital(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// A logger shows what the backfill logs, warnings of the plugin, and errors of whatsmeow; with -v
// all of it.
type logger struct {
	note    func(string)
	module  string
	verbose bool
}

func (l logger) log(level, format string, args []any) {
	l.note(fmt.Sprintf("%s %s %s: %s", time.Now().Format(time.TimeOnly), level, l.module, redact(fmt.Sprintf(format, args...))))
}

func (l logger) Debugf(format string, args ...any) {
	if l.verbose {
		l.log("debug", format, args)
	}
}

func (l logger) Infof(format string, args ...any) {
	if l.verbose || l.module == "Backfill" {
		l.log("info", format, args)
	}
}

func (l logger) Warnf(format string, args ...any) {
	if l.verbose || l.module == "Backfill" || l.module == "Reupload" {
		l.log("warning", format, args)
	}
}

func (l logger) Errorf(format string, args ...any) { l.log("error", format, args) }

func (l logger) Sub(module string) waLog.Logger { return logger{l.note, module, l.verbose} }
