package main

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The lines have a column for the time, one for the actor, and one for what he does.
const (
	width   = 80
	margin  = 24 // of the last column
	columns = "%5d ms  %-12s  %s\n"
)

// A narrator prints what happens, with the time since it began. It can be used from any goroutine.
type narrator struct {
	mu    sync.Mutex
	out   io.Writer // nil when it has ended
	start time.Time
	short *strings.Replacer // gives short names to addresses
}

func newNarrator(out io.Writer) *narrator {
	return &narrator{out: out, start: time.Now(), short: strings.NewReplacer()}
}

func (n *narrator) say(who, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out == nil {
		return
	}
	lines := wrap(redact(fmt.Sprintf(format, args...)), width-margin)
	fmt.Fprintf(n.out, columns, time.Since(n.start).Milliseconds(), who, lines[0])
	for _, line := range lines[1:] {
		fmt.Fprintf(n.out, "%*s%s\n", margin, "", line)
	}
}

// wrap breaks text into lines of at most so many characters: between words, or in one that is
// longer than a line.
func wrap(text string, width int) (lines []string) {
	for line := range strings.SplitSeq(text, "\n") {
		rest := []rune(line)
		for len(rest) > width {
			at := width
			for at > 0 && rest[at] != ' ' {
				at--
			}
			if len(strings.TrimSpace(string(rest[:at]))) == 0 {
				at = width
			}
			lines = append(lines, strings.TrimRight(string(rest[:at]), " "))
			rest = []rune(strings.TrimLeft(string(rest[at:]), " "))
		}
		lines = append(lines, string(rest))
	}
	return lines
}

// query is that of a URL, or of a direct path. It is a key to the file, and stays out of everything
// that is printed.
var query = regexp.MustCompile(`\?[^\s"'<>]+`)

func redact(line string) string { return query.ReplaceAllString(line, "?…") }

// end keeps what is still running from writing to out.
func (n *narrator) end() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.out = nil
}

// watch prints the events of a box that have to do with the story.
func (n *narrator) watch(evt wabox.Event) {
	switch evt.What {
	case wabox.CDN:
		if evt.Asked.Method == http.MethodGet {
			n.say("bot → CDN", "GET %s: %d %s", shortPath(evt.Asked.Path), evt.Asked.Status, http.StatusText(evt.Asked.Status))
		}
	case wabox.NodeIn:
		if evt.Node.Tag == "receipt" && evt.Node.Attrs["type"] == "server-error" {
			n.say("bot → server", "%s", n.describe(evt.Node))
		}
	case wabox.NodeOut:
		if isPartOfStory(evt.Node) {
			n.say("server → bot", "%s", n.describe(evt.Node))
		}
	}
}

func isPartOfStory(node *waBinary.Node) bool {
	switch node.Tag {
	case "success", "message":
		return true
	case "ack": // the delivery receipt of the message gets one with the same id, and without a type
		return node.Attrs["type"] == "server-error"
	case "notification":
		return node.Attrs["type"] == "mediaretry"
	}
	return false
}

// shown are the attributes that matter, in the order in which they are printed.
var shown = []string{"type", "id", "from", "to", "jid", "from_me", "participant", "code", "error"}

// describe puts a node into one line, and each of its children into one of its own.
func (n *narrator) describe(node *waBinary.Node) string {
	lines := n.tag(node)
	for _, child := range node.GetChildren() {
		lines += "\n  " + n.line(&child)
	}
	return lines
}

// line puts a node into one line with all that is in it.
func (n *narrator) line(node *waBinary.Node) string {
	line := n.tag(node)
	for _, child := range node.GetChildren() {
		line += " " + n.line(&child)
	}
	return line
}

// tag describes a node without its children. Of bytes it tells the length.
func (n *narrator) tag(node *waBinary.Node) string {
	var tag strings.Builder
	tag.WriteString("<" + node.Tag)
	for _, name := range shown {
		if value, ok := node.Attrs[name]; ok {
			fmt.Fprintf(&tag, " %s=%s", name, n.short.Replace(fmt.Sprint(value)))
		}
	}
	tag.WriteString(">")
	if content, ok := node.Content.([]byte); ok {
		fmt.Fprintf(&tag, "%dB", len(content))
	}
	return tag.String()
}

// shortPath leaves of a path on the CDN what tells it from another one.
func shortPath(path string) string {
	const kept = len("1234_n.enc")
	return "/v/…" + path[max(len(path)-kept, 0):]
}

// logger passes whatsmeow's own log on to a narrator.
type logger struct {
	*narrator
	module string
}

var _ waLog.Logger = logger{}

// maxLog bounds the characters of a logged line: some nodes are kilobytes long.
const maxLog = 240

func (l logger) log(level, format string, args []any) {
	line := []rune(fmt.Sprintf(format, args...))
	if len(line) > maxLog {
		line = append(line[:maxLog:maxLog], '…')
	}
	l.say("  log", "%-5s %s: %s", level, l.module, strings.ReplaceAll(string(line), "\n", " "))
}

func (l logger) Debugf(format string, args ...any) { l.log("DEBUG", format, args) }
func (l logger) Infof(format string, args ...any)  { l.log("INFO", format, args) }
func (l logger) Warnf(format string, args ...any)  { l.log("WARN", format, args) }
func (l logger) Errorf(format string, args ...any) { l.log("ERROR", format, args) }
func (l logger) Sub(module string) waLog.Logger {
	return logger{l.narrator, strings.TrimPrefix(l.module+"/"+module, "/")}
}
