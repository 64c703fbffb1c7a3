package faults

import (
	"bytes"
	"os"
	"slices"
	"sync"
	"testing"
)

// TestMatrix lives through all cells, and compares what comes of them with docs/faults.md. With
// -update it writes the page; with -cell it lives through some and tells what happens.
func TestMatrix(t *testing.T) {
	if replays() {
		cells, err := parseCells(*cellFlag)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cells {
			t.Run(c.String(), func(t *testing.T) { t.Logf("%v: %v", c, c.run(t, !*askFlag)) })
		}
		return
	}
	text, err := os.ReadFile(pageFile)
	if err != nil && !*update {
		t.Fatal(err)
	}
	said, err := parsePage(string(text))
	if err != nil && !*update {
		t.Fatal(err)
	}
	is := make(page)
	cells := allCells()
	for _, c := range cells { // those that are not run
		is[c.String()] = said[c.String()]
	}
	var mu sync.Mutex
	t.Run("cells", func(t *testing.T) {
		for _, c := range some(cells) {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				r := c.check(t, said)
				mu.Lock()
				defer mu.Unlock()
				is[c.String()] = r
			})
		}
	})
	if t.Failed() {
		return
	}
	if made := is.render(); *update {
		if err = os.WriteFile(pageFile, made, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if !bytes.Equal(made, text) {
		t.Errorf("%s is not what the test makes of it; go test -run TestMatrix -update writes it again", pageFile)
	}
}

// some returns all cells or, where they would take minutes, an eighth of them: each place in the
// tables for one or two of the bots.
func some(cells []cell) (chosen []cell) {
	if *update || !raceDetector && !testing.Short() {
		return cells
	}
	const share = 8
	place, first := "", 0
	for i, c := range cells {
		if c.place() != place {
			place, first = c.place(), first+1
		}
		if (i+first)%share == 0 {
			chosen = append(chosen, c)
		}
	}
	return chosen
}

// check lives through a cell, and returns what the page is to say of it.
func (c cell) check(t *testing.T, said page) record {
	r := c.run(t, true)
	switch s, ok := said[c.String()]; {
	case *update:
	case ok && r.fits(s):
		r.took = s.took // which allows it
	default:
		t.Errorf("%v, and the page says %v; to see it happen:\ngo test -v -run TestMatrix -cell '%v'", r, s, c)
	}
	if c.variant != standard() || !slices.ContainsFunc(pauses, func(p pause) bool { return p.name == r.then }) {
		return r
	}
	if c.run(t, false).then != asked {
		t.Errorf("RequestReupload does not help, though it always asks; to see it:\ngo test -v -run TestMatrix -ask -cell '%v'", c)
	}
	return r
}

// TestPage reads a page that it has written.
func TestPage(t *testing.T) {
	p := make(page)
	outcomes := []string{"healed", "timeout", "HTTP 503", "cut short"}
	for i, c := range allCells() {
		p[c.String()] = record{outcomes[i%len(outcomes)], 0, i % 3, pauses[i%len(pauses)].name}
	}
	text := p.render()
	again, err := parsePage(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range allCells() {
		if p[c.String()] != again[c.String()] {
			t.Errorf("%v: %v was written, and %v is read", c, p[c.String()], again[c.String()])
		}
	}
	if len(p) != len(again) {
		t.Errorf("of %d cells, %d are read", len(p), len(again))
	}
}
