package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// explain says a cause in plain words.
func explain(cause string) string {
	switch cause {
	case "not_found":
		return "no longer on the phone; only the sender can send it again"
	case "decryption":
		return "phone and computer disagree about the key"
	case "timeout", "phone_silent", "server_silent":
		return "the phone did not answer (it has to be on, and online)"
	case "general", "invalid_answer":
		return "the phone could not upload it"
	case "rejected", "invalid_request":
		return "WhatsApp has refused the request"
	case "busy", "not_connected", "not_asked", "handler_blocked":
		return "its turn did not come"
	case "forbidden":
		return "WhatsApp's servers have refused the download"
	case "replay_failed", causeNetwork:
		return "the download has failed"
	case causeGone:
		return "no longer on WhatsApp's servers, and for a newsletter no phone can be asked"
	case causeDamaged:
		return "what came was not the file"
	case "":
		return ""
	}
	return "of another kind: " + cause
}

// A line is one line of the summary.
type line struct {
	what  string
	count count
	note  string
}

// lines returns the summary.
func lines(counts []count) (all []line) {
	order := []struct{ state, what string }{
		{stateSaved, "Saved"}, {stateLost, "Lost"}, {stateFailed, "Later"}, {stateExpired, "Waits for the phone"}, {stateNew, "Not yet tried"},
	}
	for _, o := range order {
		for _, n := range counts {
			if n.state != o.state {
				continue
			}
			l := line{what: o.what, count: n, note: explain(n.cause)}
			switch {
			case n.state == stateSaved || n.state == stateNew || n.state == stateExpired:
				l.note = ""
			case n.state == stateLost:
				l.note += "; not tried again, unless you run it with -retry lost"
			case !n.next.IsZero():
				l.note += "; tried again by a run after " + n.next.Local().Format("2006-01-02 15:04")
			}
			all = append(all, l)
		}
	}
	return all
}

// printSummary prints what has become of everything.
func printSummary(out io.Writer, counts []count, report string) {
	fmt.Fprintln(out)
	for _, l := range lines(counts) {
		fmt.Fprintf(out, "%-20s %s", l.what, number(l.count.files, "file"))
		if l.count.state == stateSaved && l.count.bytes > 0 {
			fmt.Fprintf(out, ", %s", size(l.count.bytes))
		}
		if l.note != "" {
			fmt.Fprintf(out, ": %s", l.note)
		}
		fmt.Fprintln(out)
	}
	if len(counts) == 0 {
		fmt.Fprintln(out, "There is nothing to fetch.")
	}
	if report != "" {
		fmt.Fprintf(out, "\nLook at them: %s\n", report)
	}
}

// An estimate is what a run would do.
type estimate struct {
	Files   int            `json:"files"`
	Bytes   int64          `json:"bytes"` // as far as the senders say
	Saved   int            `json:"saved"`
	Lost    int            `json:"lost"`
	Servers int            `json:"servers"` // WhatsApp's servers are likely to have
	Phone   int            `json:"phone"`   // the phone is likely to be asked for
	Asking  time.Duration  `json:"-"`       // how long that takes
	Seconds int64          `json:"asking_seconds"`
	Chats   int            `json:"chats_with_older_messages"`
	Kinds   map[string]int `json:"kinds"`
}

func estimateOf(ctx context.Context, list *catalog, cfg config) (e estimate, err error) {
	e.Kinds = make(map[string]int)
	now := time.Now()
	err = list.all(ctx, cfg.wanted, func(f *file, _ string) error {
		e.Files++
		e.Kinds[string(f.kind)]++
		switch {
		case f.state == stateSaved:
			e.Saved++
			return nil
		case f.state == stateLost:
			e.Lost++
			return nil
		case f.isNewsletter() || f.state != stateExpired && isLikelyThere(f.sent, f.path, now):
			e.Servers++
		default:
			e.Phone++
		}
		e.Bytes += f.size
		return nil
	})
	if err != nil {
		return e, err
	}
	e.Asking = cfg.plan.timeFor(e.Phone)
	e.Seconds = int64(e.Asking / time.Second)
	e.Chats, err = list.withOlder(ctx)
	return e, err
}

func printEstimate(out io.Writer, e estimate, p plan) {
	fmt.Fprintf(out, "\n%s", number(e.Files, "file"))
	var kinds []string
	for _, kind := range []string{"image", "video", "audio", "document", "sticker", "sticker-pack", "other"} {
		if n := e.Kinds[kind]; n > 0 {
			kinds = append(kinds, number(n, strings.ReplaceAll(kind, "-", " ")))
		}
	}
	if len(kinds) > 0 {
		fmt.Fprintf(out, ": %s", strings.Join(kinds, ", "))
	}
	fmt.Fprintln(out)
	if e.Saved+e.Lost > 0 {
		fmt.Fprintf(out, "%s saved already, %s lost\n", number(e.Saved, "file"), number(e.Lost, "file"))
	}
	fmt.Fprintf(out, "%s to fetch, as far as their senders say\n", size(e.Bytes))
	fmt.Fprintf(out, "%s that WhatsApp's servers are likely to have: as fast as your line, at 1 MB a second %s\n",
		number(e.Servers, "file"), roughly(time.Duration(e.Bytes)*time.Second/1e6*time.Duration(e.Servers)/time.Duration(max(1, e.Servers+e.Phone))))
	fmt.Fprintf(out, "%s that are older, for which the phone has to be asked: %s if it is online and has them\n", number(e.Phone, "file"), roughly(e.Asking))
	fmt.Fprintf(out, "    (one each %v", p.pace)
	if p.perDay > 0 {
		fmt.Fprintf(out, ", and %d a day: -per-day", p.perDay)
	}
	if !p.hours.isAlways() {
		fmt.Fprintf(out, ", between %d:00 and %d:00: -hours", p.hours.from, p.hours.to)
	}
	fmt.Fprintln(out, ")")
	if e.Chats > 0 {
		fmt.Fprintf(out, "Of %s the phone says that it has older messages. A run asks for them, and they are not counted here.\n", number(e.Chats, "chat"))
	}
	fmt.Fprintln(out, "This is a guess: when a server forgets a file, and what the phone still has, shows only when it is asked.")
}

// roughly says a duration as people do.
func roughly(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return number(int(d.Round(time.Minute)/time.Minute), "minute")
	case d < 48*time.Hour:
		return number(int(d.Round(time.Hour)/time.Hour), "hour")
	}
	return number(int(d.Round(24*time.Hour)/(24*time.Hour)), "day")
}

var english = message.NewPrinter(language.English)

// number writes a number of things: "1 file", "1,234 files".
func number(n int, of string) string {
	if n != 1 {
		of += "s"
	}
	return english.Sprintf("%d %s", n, of)
}

// size writes a number of bytes.
func size(bytes int64) string {
	units := []string{"bytes", "kB", "MB", "GB", "TB"}
	value, unit := float64(bytes), 0
	for value >= 1000 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 || value >= 100 {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
