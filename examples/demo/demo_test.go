package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// aligned is what each line looks like: with a time and a name, or going on with the one above.
var aligned = regexp.MustCompile(`^( {0,4}\d{1,5} ms  (bot → CDN   |bot → server|server → bot|stage       |legend      |bot         |bot does    |plugin      )  \S| {24} {0,2}\S).*$`)

// unwrap puts what goes on in the next line back into one, since the length of a number can decide
// where a line breaks.
func unwrap(story string) string { return regexp.MustCompile(`\n {24} *`).ReplaceAllString(story, " ") }

// lengthsFit checks that no line of a text is too long for a terminal.
func lengthsFit(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > width {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

func TestEveryFault(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := run(t.Context(), &out, f.name, false); err != nil {
				t.Errorf("run: %v", err)
			}
			lengthsFit(t, out.String())
			for line := range strings.Lines(out.String()) {
				if !aligned.MatchString(strings.TrimSuffix(line, "\n")) {
					t.Errorf("not aligned: %s", line)
				}
			}
			if !strings.Contains(out.String(), "\n                          <rmr jid=CHAT from_me=false>\n") {
				t.Error("<rmr> has no line of its own")
			}
			story := unwrap(out.String())
			for _, want := range append(wants(f),
				"bot → server  <receipt type=server-error id=3EB0C0FFEE to=OWN> <encrypt> <enc_p>28B <enc_iv>12B <rmr jid=CHAT from_me=false>",
				"_n.enc: 410 Gone",
				f.story, advice[reupload.Label(f.cause)], "right: this is how it has to go",
			) {
				if !strings.Contains(story, want) {
					t.Errorf("there is no %q", want)
				}
			}
			if strings.Contains(story, "oh=") || strings.Contains(story, "hash=") {
				t.Error("a query was printed")
			}
			if t.Failed() {
				t.Logf("the story was\n%s", out.String())
			}
		})
	}
}

// TestAdviceIsThatOfTheDocuments compares it with the table of causes.
func TestAdviceIsThatOfTheDocuments(t *testing.T) {
	t.Parallel()
	causes, err := os.ReadFile(filepath.Join("..", "..", "docs", "causes.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(Err[A-Za-z]+)` \\|.*\\| (.*) \\|$")
	table := make(map[string]string) // by the label that belongs to the name
	for _, cells := range row.FindAllStringSubmatch(string(causes), -1) {
		var label strings.Builder
		for i, r := range strings.TrimPrefix(cells[1], "Err") {
			if i > 0 && unicode.IsUpper(r) {
				label.WriteByte('_')
			}
			label.WriteRune(unicode.ToLower(r))
		}
		table[label.String()] = cells[2]
	}
	for _, f := range faults {
		label := reupload.Label(f.cause)
		if f.cause != nil && (table[label] == "" || advice[label] != table[label]) {
			t.Errorf("%s: the demo says %q, and docs/causes.md %q", label, advice[label], table[label])
		}
	}
}

// wants returns what the story of a fault has to tell besides what all have in common.
func wants(f fault) (wants []string) {
	switch {
	case f.name == "rejected":
		wants = append(wants, "server → bot  <ack type=server-error id=3EB0C0FFEE from=OWN error=479>")
	case f.name != "cut": // which can break the connection before the ack
		wants = append(wants, "server → bot  <ack type=server-error id=3EB0C0FFEE")
	}
	if f.name != "rejected" {
		wants = append(wants, "server → bot  <notification type=mediaretry id=3EB0C0FFEE")
	}
	if f.cause != nil {
		wants = append(wants, "reupload.Cause: "+f.cause.Error(), reupload.Label(f.cause)+": "+advice[reupload.Label(f.cause)])
	}
	if f.cause == nil || f.late {
		wants = append(wants, "_n.enc: 200 OK", ": equal")
	}
	switch f.name {
	case "error-node":
		wants = append(wants, "<error code=2>")
	case "offline":
		wants = append(wants, "told when nobody waited", "no other request was sent", "1 asked, 1 healed, 1 late")
	case "cut":
		wants = append(wants, "the connection breaks")
	case "bad-iv":
		wants = append(wants, "<enc_iv>16B")
	}
	return wants
}

func TestWrongOutcomeFails(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]fault{
		"healed in place of failed": {answer: wabox.Answer{Result: wabox.Success}, cause: reupload.ErrNotFound},
		"failed in place of healed": {answer: wabox.Answer{Result: wabox.NotFound}},
		"another cause":             {answer: wabox.Answer{Result: wabox.NotFound}, cause: reupload.ErrGeneral},
		"failed before it was late": {answer: wabox.Answer{Result: wabox.NotFound}, cause: reupload.ErrTimeout, late: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := newStage(io.Discard, f, false)
			if err != nil {
				t.Fatal(err)
			}
			if err = s.play(t.Context()); err == nil {
				t.Error("it passed")
			}
		})
	}

	t.Run("other bytes", func(t *testing.T) {
		t.Parallel()
		s := &stage{picture: &wabox.Media{Plaintext: []byte("original")}}
		if s.judge(download{data: []byte("other")}) == nil {
			t.Error("it passed")
		}
	})
	t.Run("an error that is not whatsmeow's", func(t *testing.T) {
		t.Parallel()
		s := &stage{fault: fault{cause: reupload.ErrNotFound}}
		if s.judge(download{err: errors.New("some other")}) == nil {
			t.Error("it passed")
		}
	})
	t.Run("another host", func(t *testing.T) {
		t.Parallel()
		s := &stage{fault: fault{cause: reupload.ErrInvalidAnswer}}
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://mmg.whatsapp.net@"+evilHost+"/", nil)
		_, _ = guard{http.NewFileTransport(http.Dir(t.TempDir())), s}.RoundTrip(req)
		if err := s.judge(download{}); err == nil || !strings.Contains(err.Error(), evilHost) {
			t.Errorf("got %v", err)
		}
	})
}

// TestLogKeepsSecrets looks for secrets in all that the demo prints with -v, whatever happens.
func TestLogKeepsSecrets(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			s, err := newStage(&out, f, true)
			if err != nil {
				t.Fatal(err)
			}
			if err = s.play(t.Context()); err != nil {
				t.Error(err)
			}
			lengthsFit(t, out.String())
			story := unwrap(out.String())
			if !strings.Contains(story, "  log         DEBUG Recv: ") || !strings.Contains(story, "Reupload: ") {
				t.Error("the log is not there")
			}
			for _, leak := range s.box.Leaks([]byte(story)) {
				t.Error(leak)
			}
			if t.Failed() {
				t.Logf("the story was\n%s", story)
			}
		})
	}
}

func TestUnknownFault(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := run(t.Context(), &out, "no-such-fault", false); !errors.Is(err, errUnknownFault) || out.Len() > 0 {
		t.Errorf("got %v, and %q", err, out.String())
	}
	list := listOfFaults()
	lengthsFit(t, list)
	if n := strings.Count(list, "\n"); n != len(faults) {
		t.Errorf("the list has %d lines for %d faults", n, len(faults))
	}
	for _, f := range faults {
		if !strings.Contains(list, f.name+" ") {
			t.Errorf("%s is not in the list", f.name)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"":                  {""},
		"one two three":     {"one two", "three"},
		"onetwo12 three":    {"onetwo12", "three"},
		"onetwothree four":  {"onetwoth", "ree four"},
		"one\n  two":        {"one", "  two"},
		"one\n  twothreexy": {"one", "  twothr", "eexy"},
		"äöü …→ ßßß":        {"äöü …→", "ßßß"},
	} {
		if got := wrap(text, 8); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	const line = `Get "https://mmg.whatsapp.net/v/x.enc?oh=1&oe=2&hash=3": EOF`
	if got := redact(line); got != `Get "https://mmg.whatsapp.net/v/x.enc?…": EOF` {
		t.Errorf("got %s", got)
	}
}

func TestNothingIsPrintedAfterTheEnd(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	n := newNarrator(&out)
	n.end()
	n.say("bot", "too late")
	if out.Len() > 0 {
		t.Errorf("got %s", out.String())
	}
}

func TestTimesAreRound(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	s := &stage{narrator: newNarrator(&out)}
	s.tell(download{err: errors.New("gone"), took: 1_234_567 * time.Nanosecond})
	if !strings.Contains(out.String(), "after 1.2ms:") {
		t.Errorf("it says %q", out.String())
	}
}
