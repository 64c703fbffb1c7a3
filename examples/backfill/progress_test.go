package main

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

var someCounts = []count{
	{state: stateSaved, files: 1234, bytes: 2_345_678_901},
	{state: stateLost, cause: "not_found", files: 50},
	{state: stateFailed, cause: "timeout", files: 1, next: time.Date(2024, 5, 2, 3, 4, 0, 0, time.Local)},
	{state: stateExpired, files: 20},
	{state: stateNew, files: 700},
}

func TestSummary(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	printSummary(&out, someCounts, "/home/anna/media/report/index.html")
	const want = `
Saved                1,234 files, 2.3 GB
Lost                 50 files: no longer on the phone; only the sender can send it again; not tried again, unless you run it with -retry lost
Later                1 file: the phone did not answer (it has to be on, and online); tried again by a run after 2024-05-02 03:04
Waits for the phone  20 files
Not yet tried        700 files

Look at them: /home/anna/media/report/index.html
`
	if out.String() != want {
		t.Errorf("got\n%s", &out)
	}
}

// Each cause that reupload has is explained.
func TestCausesAreExplained(t *testing.T) {
	t.Parallel()
	for _, cause := range []error{
		reupload.ErrNotFound, reupload.ErrGeneral, reupload.ErrDecryption, reupload.ErrTimeout, reupload.ErrPhoneSilent, reupload.ErrServerSilent,
		reupload.ErrBusy, reupload.ErrNotAsked, reupload.ErrInvalidRequest, reupload.ErrRejected, reupload.ErrInvalidAnswer, reupload.ErrForbidden,
		reupload.ErrHandlerBlocked, reupload.ErrReplayFailed,
	} {
		if text := explain(reupload.Label(cause)); text == "" || strings.Contains(text, "of another kind") {
			t.Errorf("%v: %q", cause, text)
		}
	}
	if got := explain("surprise"); got != "of another kind: surprise" {
		t.Errorf("got %q", got)
	}
}

// In a log there is a line a minute, and one for what matters.
func TestLog(t *testing.T) {
	t.Parallel()
	var out, errOut bytes.Buffer
	p := newProgress(config{}, &out, &errOut)
	log := p.(*logLines)
	p.history(50, 3, 1000)
	p.counts(someCounts)
	if strings.Contains(out.String(), "saved") {
		t.Error("there is a line at once")
	}
	for range 3 {
		log.last = log.last.Add(-linePause)
		p.counts(someCounts)
		p.counts(someCounts)
		p.waits("it sleeps", time.Date(2024, 5, 2, 3, 4, 0, 0, time.Local))
	}
	p.note("a warning")
	got := regexp.MustCompile(`(?m)^\S+ \S+ `).ReplaceAllString(out.String(), "")
	const want = `a part of the history: 3 chats, 1,000 new files
1,234 files of 2,005 saved, 700 to look for, 20 wait for the phone, 1 later, 50 lost
waiting until Thu 03:04: it sleeps
`
	if got != want || errOut.String() != "a warning\n" {
		t.Errorf("got\n%s and %q", got, &errOut)
	}
}

// At a terminal there is a bar, which a line of the log does not break.
func TestBar(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(config{terminal: true}, &out, &out)
	p.counts(nil)
	p.counts(someCounts)
	p.note("a warning")
	p.counts(someCounts)
	p.counts(append(slices.Clone(someCounts), count{state: stateNew, files: 1000, cause: "more"})) // in a history that came meanwhile
	before := out.Len()
	p.end()
	text := out.String()
	if end := text[before:]; !strings.Contains(end, "\x1b[2K") || strings.TrimLeft(end, " \r\x1b[2K") != "" {
		t.Errorf("in the end the bar is not taken away, but %q comes", end)
	}
	if !strings.Contains(text, "1285 of 2005, 20 for the phone, 1 later, 50 lost") && !strings.Contains(text, "1284 of 2005, 20 for the phone, 1 later, 50 lost") {
		t.Errorf("got %q", text)
	}
	if !regexp.MustCompile(`50 lost +64% .* of 3005, .* +42% `).MatchString(text) {
		t.Errorf("the bar is not that long: %q", text)
	}
	if i := strings.Index(text, "a warning\n"); i < 0 || !strings.HasSuffix(strings.TrimRight(text[:i], " \r"), "\x1b[2K") && !strings.Contains(text[:i], "\r") {
		t.Errorf("the warning is within the bar: %q", text)
	}
}

// What a program gets has no keys and no paths.
func TestEvents(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := newProgress(config{json: true, terminal: true}, &out, &out)
	f := testFile(7, types.NewJID("120363040237990500", types.GroupServer))
	f.request.Participant, f.state, f.saved = anna, stateSaved, "Choir (1)/2024-05/a.png"
	p.file(f)
	p.counts(someCounts)
	p.counts(someCounts) // nothing new
	p.summary(someCounts, "report/index.html")
	events := parse(t, out.String())
	if len(events) != 3 || events[0].Sender != anna.String() || events[0].File != f.saved || len(events[2].Counts) != 5 || events[2].Report == "" {
		t.Errorf("got %+v", events)
	}
	if strings.Contains(out.String(), "BwcHBw") || strings.Contains(out.String(), "oh=") {
		t.Errorf("there are secrets in %s", &out)
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"-types films", "-since yesterday", "-before 2024-02-30", "-hours 9", "-per-day -1", "-retry all", "-pace -1s", "now",
		"-since 2024-05-01 -before 2024-05-01",
	} {
		if _, _, err := configOf(strings.Fields(args), new(bytes.Buffer)); err == nil {
			t.Errorf("%s is accepted", args)
		}
	}
	cfg, isDemo, err := configOf(strings.Fields("-demo -types image,Videos -since 2024-01-31 -hours 22-6 -retry failed -older=false"), new(bytes.Buffer))
	if err != nil || !isDemo || len(cfg.wanted.kinds) != 2 || cfg.wanted.kinds[1] != reupload.KindVideo || cfg.wanted.since.Day() != 31 ||
		cfg.plan.hours != (hours{22, 6}) || cfg.plan.perDay != 2000 || cfg.plan.pace != time.Second || cfg.older || cfg.wanted.statuses || cfg.dir != "" {
		t.Errorf("got %+v, %v", cfg, err)
	}
	for args, want := range map[string]string{"": "media", "-dir media": "media", "-demo -dir media": "media"} {
		if cfg, _, err := configOf(strings.Fields(args), new(bytes.Buffer)); err != nil || cfg.dir != want {
			t.Errorf("%q: the directory is %q, %v", args, cfg.dir, err)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for bytes, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1500: "1.5 kB", 99_900_000: "99.9 MB", 123_456_789: "123 MB", 5e12: "5.0 TB", 5e15: "5000 TB"} {
		if got := size(bytes); got != want {
			t.Errorf("%d: %s", bytes, got)
		}
	}
	for d, want := range map[time.Duration]string{
		time.Second: "less than a minute", 90 * time.Minute: "90 minutes", 5 * time.Hour: "5 hours", 100 * time.Hour: "4 days", time.Minute: "1 minute",
	} {
		if got := roughly(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}
