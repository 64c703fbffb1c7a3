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

// A narrator prints what happens, one line each, with the time since it began. It can be used from any goroutine.
type narrator struct {
	mu    sync.Mutex
	out   io.Writer // nil when it has ended
	start time.Time
}

func newNarrator(out io.Writer) *narrator { return &narrator{out: out, start: time.Now()} }

func (n *narrator) say(who, format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.out != nil {
		elapsed := float64(time.Since(n.start).Microseconds()) / 1000
		fmt.Fprintf(n.out, "%8.1f ms  %-12s  %s\n", elapsed, who, redact(fmt.Sprintf(format, args...)))
	}
}

// query is that of a URL, or of a direct path. It is a key to the file, and stays out of everything that is printed.
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
			n.say("bot → CDN", "GET %s%s: %d %s", evt.Asked.Host, evt.Asked.Path, evt.Asked.Status, http.StatusText(evt.Asked.Status))
		}
	case wabox.NodeIn:
		if evt.Node.Tag == "receipt" && evt.Node.Attrs["type"] == "server-error" {
			n.say("bot → server", "%s", describe(evt.Node))
		}
	case wabox.NodeOut:
		if isPartOfStory(evt.Node) {
			n.say("server → bot", "%s", describe(evt.Node))
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

// describe puts a node into one line. Of bytes it tells the length.
func describe(node *waBinary.Node) string {
	var line strings.Builder
	line.WriteString("<" + node.Tag)
	for _, name := range shown {
		if value, ok := node.Attrs[name]; ok {
			fmt.Fprintf(&line, " %s=%v", name, value)
		}
	}
	line.WriteString(">")
	for _, child := range node.GetChildren() {
		line.WriteString(" " + describe(&child))
	}
	if content, ok := node.Content.([]byte); ok {
		fmt.Fprintf(&line, "%dB", len(content))
	}
	return line.String()
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
