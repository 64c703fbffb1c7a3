package main

import (
	"fmt"
	"regexp"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// width is that of the terminals for which the output is made.
const width = 79

func (d *doctor) say(format string, args ...any) { fmt.Fprintf(d.out, format+"\n", args...) }

// step and detail tell what has happened, with and without the time of day.
func (d *doctor) step(format string, args ...any) {
	d.say("%s  %s", time.Now().Format("15:04:05"), fmt.Sprintf(format, args...))
}

func (d *doctor) detail(format string, args ...any) {
	d.say("%s", wrap("", fmt.Sprintf(format, args...), 12))
}

// wrap writes a text beside its name, in lines that fit a terminal.
func wrap(name, text string, indent int) string {
	var out strings.Builder
	column := 0
	for i, word := range strings.Fields(text) {
		switch {
		case i == 0:
			fmt.Fprintf(&out, "%-*s%s", indent, name, word)
			column = indent + len(word)
		case column+1+len(word) > width:
			fmt.Fprintf(&out, "\n%*s%s", indent, "", word)
			column = indent + len(word)
		default:
			out.WriteString(" " + word)
			column += 1 + len(word)
		}
	}
	return out.String()
}

func number(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// reportsTo is where a person sends a report.
const reportsTo = "https://github.com/whatsmeow-plugins/reupload/issues/new/choose"

// report writes the block that a person puts into a report.
func (d *doctor) report(r *wabox.Record) {
	s := d.state
	d.say("\nFor a report, copy what is between the lines, and attach this file:\n%s\nReports go to %s\n", d.cfg.record, reportsTo)
	d.say("---------- reupload doctor ----------")
	row := func(name, text string) { d.say("%s", wrap(name, text, 16)) }
	row("reupload", r.MadeWith.Reupload)
	row("whatsmeow", r.MadeWith.Whatsmeow)
	row("go", r.MadeWith.Go)
	phone := r.Platform
	if phone == "" {
		phone = "of a kind that it does not say"
	}
	lid := "no LID"
	switch {
	case r.Migrated:
		lid = "has a LID, has gone over to LIDs"
	case r.HasLID:
		lid = "has a LID, goes by its number"
	}
	row("account", fmt.Sprintf("phone is %s; %s", phone, lid))
	row("runs", fmt.Sprintf("%d, with %s for %s", s.Runs, number(len(s.tries()), "request"), number(len(s.Files), "file")))
	d.say("")
	var open []question
	for _, q := range questions {
		if text := r.Answers[q.name]; text != notSeen {
			row(q.name, text)
		} else {
			open = append(open, q)
		}
	}
	d.say("---------- end ----------")
	if len(open) == 0 {
		return
	}
	d.say("\nNot seen yet:\n")
	for _, q := range open {
		row(q.name, q.asks+" To see it, "+q.how+".")
	}
}

// versions returns what the program is built of.
func versions() wabox.MadeWith {
	info, _ := debug.ReadBuildInfo()
	return versionsOf(info)
}

// versionsOf reads build information, which can be nil. A checkout is not named by its directory,
// which says whose machine it is, but by its commit: go build knows that, and go run does not.
func versionsOf(info *debug.BuildInfo) wabox.MadeWith {
	made := wabox.MadeWith{Reupload: "unknown", Whatsmeow: "unknown", Go: runtime.Version()}
	if info == nil {
		return made
	}
	commit, changed := "", ""
	for _, setting := range info.Settings {
		switch {
		case setting.Key == "vcs.revision":
			commit = ", commit " + setting.Value[:min(12, len(setting.Value))]
		case setting.Key == "vcs.modified" && setting.Value == "true":
			changed = ", changed"
		}
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/whatsmeow-plugins/reupload":
			made.Reupload = dep.Version
			if dep.Replace != nil {
				made.Reupload += " (a checkout" + commit + changed + ")"
			}
		case "go.mau.fi/whatsmeow":
			made.Whatsmeow = dep.Version
			if dep.Replace != nil {
				made.Whatsmeow += " (replaced)"
			}
		}
	}
	return made
}

// What is secret in the errors and logs of others: queries of URLs, paths of the CDN, addresses,
// phone numbers, and whatever is as long as a key or an id.
var secrets = []struct {
	is   *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`\?[^\s"'<>]+`), "?..."},
	{regexp.MustCompile(`/v/t[^\s"'<>]+`), "/..."},
	{regexp.MustCompile(`[\w.:+-]+@(?:s\.whatsapp\.net|lid|g\.us|c\.us|broadcast|hosted|hosted\.lid|newsletter)\b`), "(address)"},
	{regexp.MustCompile(`\b[A-Za-z0-9+/_-]{18,}={0,2}`), "(key)"},
	{regexp.MustCompile(`\+?\d{7,}`), "(number)"},
}

func redact(line string) string {
	for _, s := range secrets {
		line = s.is.ReplaceAllString(line, s.with)
	}
	return line
}

// A logger shows the errors of whatsmeow and the plugin, and nothing else of theirs.
type logger struct{ *doctor }

func (logger) Debugf(string, ...any) {}
func (logger) Infof(string, ...any)  {}
func (logger) Warnf(string, ...any)  {}
func (l logger) Errorf(format string, args ...any) {
	l.step("error: %s", redact(fmt.Sprintf(format, args...)))
}
func (l logger) Sub(string) waLog.Logger { return l }
