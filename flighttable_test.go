package reupload

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"go.mau.fi/whatsmeow"
)

var update = flag.Bool("update", false, "rewrite the tables that tests make")

// TestFlightTableIsTheMachine compares the table above the type flight with what a flight does:
// every event in every state that a flight can get into, and so every cell. With -update it writes
// the table.
func TestFlightTableIsTheMachine(t *testing.T) {
	const file = "flight.go"
	source, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	from := bytes.Index(source, []byte("//\twhat happens"))
	if from < 0 {
		t.Fatalf("%s has no table", file)
	}
	size := bytes.Index(source[from:], []byte("\n//\n")) + 1
	table := strings.Split(strings.TrimSpace(tableOf(everyStep(t))), "\n")
	said := strings.Split(strings.TrimSpace(string(source[from:from+size])), "\n")
	if slices.Equal(table, said) {
		return
	}
	if *update {
		rest := string(source[from+size:])
		if err = os.WriteFile(file, []byte(string(source[:from])+strings.Join(table, "\n")+"\n"+rest), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	for i := range max(len(table), len(said)) {
		switch {
		case i >= len(said):
			t.Errorf("the table has no line\n%s", table[i])
		case i >= len(table):
			t.Errorf("the machine knows nothing of the line\n%s", said[i])
		case table[i] != said[i]:
			t.Errorf("the table says\n%s\nand the machine does\n%s", said[i], table[i])
		}
	}
	t.Log("go test -run TestFlightTableIsTheMachine -update . makes the table what the machine does")
}

// A cell is what can come of an event in a phase: each of it that occurs in some state.
type cell map[string]bool

type cellKey struct {
	what happening
	in   phase
}

// everyStep takes every event in every state that a flight can get into, and checks what the
// comment below the table says.
func everyStep(t *testing.T) map[cellKey]cell {
	cells := make(map[cellKey]cell)
	events := slices.DeleteFunc(everything(), func(e event) bool { return e.what == named || e.what == down || e.what == refused })
	events = append(events,
		event{what: named, forms: 1}, event{what: named, forms: 2}, event{what: named, forms: 2, alike: true},
		event{what: down, err: whatsmeow.ErrNotConnected}, event{what: refused, err: ErrRejected})
	seen := map[string]bool{stateOf(&flight{}): true}
	for states := []flight{{}}; len(states) > 0; states = states[1:] {
		for _, e := range events {
			before := states[0]
			if e.what == named && before.forms > 0 {
				continue // they are named once
			}
			after := before
			after.stamps = slices.Clone(before.stamps)
			a := after.step(e)
			if before.phase == ended {
				if effectOf(&before, &after, e, a) != nothing {
					t.Errorf("%v in %s: something happens after the end", e.what, stateOf(&before))
				}
				continue
			}
			key := cellKey{e.what, before.phase}
			if cells[key] == nil {
				cells[key] = make(cell)
			}
			cells[key][effectOf(&before, &after, e, a)] = true
			if err := checkNotes(&before, &after, e, a); err != nil {
				t.Errorf("%v in %s: %v", e.what, stateOf(&before), err)
			}
			if name := stateOf(&after); !seen[name] {
				seen[name] = true
				states = append(states, after)
			}
		}
	}
	t.Logf("%d states", len(seen))
	return cells
}

// stateOf tells states apart.
func stateOf(f *flight) string {
	standing := "nothing"
	if f.standing != nil {
		standing = fmt.Sprintf("%s%v", f.standing.stamp, f.standing.err)
	}
	return fmt.Sprintf("%v, form %d of %d (alike %t), %d settled, %s stands, stamps %q, grace %t, written %t",
		f.phase, f.form, f.forms, f.alike, f.settled, standing, f.stamps, f.grace, f.written)
}

// What can come of an event, besides a change of phase and an end.
const (
	sends   = "send"  // the same form
	nexts   = "next"  // the next one
	graces  = "grace" // the time that the server has after a login
	notes   = "note"  // and nothing to do about it
	nothing = "–"
	ends    = "end"
)

// reasons are why a flight ends by itself.
var reasons = []struct {
	err  error
	name string
}{
	{ErrBusy, "busy"}, {ErrServerSilent, "no ack"}, {errNotNamed, "no names"}, {errAway, "away"}, {errNoNetwork, "no net"}, {ErrTimeout, "silence"},
}

// effectOf says what has come of an event.
func effectOf(before, after *flight, e event, a actions) string {
	switch {
	case a.end != nil:
		for _, r := range reasons {
			if a.end.err == r.err && before.standing == nil {
				return ends + ": " + r.name
			}
		}
		return ends
	case a.send && after.form != before.form:
		return nexts
	case a.send:
		return sends
	case a.startGrace:
		return graces
	case after.phase != before.phase:
		return "→ " + after.phase.String()
	}
	same := *after
	if before.phase != sent { // where it says nothing
		same.written = before.written
	}
	if !reflect.DeepEqual(before, &same) {
		return notes
	}
	return nothing
}

// checkNotes checks what the comment says besides the table.
func checkNotes(before, after *flight, e event, a actions) error {
	bringsPath := e.what == answered && e.reading.bringsPath()
	switch {
	case a.startForm != (after.phase == acked && (before.phase == held || e.what == acknowledged && before.phase == sent)):
		return fmt.Errorf("the time until formDue begins: %t", a.startForm)
	case a.send && after.written:
		return errors.New("what is sent counts as written")
	case a.send && after.phase != sent:
		return fmt.Errorf("it sends and is %v", after.phase)
	case a.end == nil:
		return nil
	case bringsPath && a.end.stamp != e.reading.stamp:
		return fmt.Errorf("it ends with %q, not with the path", a.end.stamp)
	case bringsPath, e.what == aborted:
		return nil
	case before.standing != nil && before.standing.err == nil && a.end.stamp != before.standing.stamp:
		return fmt.Errorf("it ends with %q, and %q stood", a.end.stamp, before.standing.stamp)
	case e.what == deadline && before.standing == nil && before.phase == sent && before.written != (a.end.err == ErrServerSilent):
		return fmt.Errorf("written %t, it ends with %v", before.written, a.end.err)
	}
	return nil
}

// tableOf writes a table as it stands in the comment.
func tableOf(cells map[cellKey]cell) string {
	rows := [][]string{{"what happens"}}
	for p := queued; p < ended; p++ {
		rows[0] = append(rows[0], p.String())
	}
	for what := placed; what <= aborted; what++ {
		row := []string{what.String()}
		for p := queued; p < ended; p++ {
			row = append(row, cells[cellKey{what, p}].String())
		}
		rows = append(rows, row)
	}
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		var line, rule []string
		for i, text := range row {
			line = append(line, text+strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)))
			rule = append(rule, strings.Repeat("-", widths[i]))
		}
		fmt.Fprintf(&b, "//\t%s\n", strings.TrimRight(strings.Join(line, " | "), " "))
		if n == 0 {
			fmt.Fprintf(&b, "//\t%s\n", strings.Join(rule, "-+-"))
		}
	}
	return b.String()
}

// String lists what can come of an event, the end last.
func (c cell) String() string {
	var all, why []string
	for effect := range c {
		if reason, ok := strings.CutPrefix(effect, ends+": "); ok {
			why = append(why, reason)
		} else if effect != ends {
			all = append(all, effect)
		}
	}
	slices.Sort(all)
	slices.Sort(why)
	switch {
	case len(why) > 0:
		all = append(all, ends+": "+strings.Join(why, "/"))
	case c[ends]:
		all = append(all, ends)
	}
	if len(all) == 1 && all[0] == nothing {
		return ""
	}
	return strings.Join(all, ", ")
}
