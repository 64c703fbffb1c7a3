package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCurvesAreCurrent draws the curves again from the results that are kept with them.
func TestCurvesAreCurrent(t *testing.T) {
	t.Parallel()
	const dir = "../../docs/curves"
	results, err := os.ReadFile(filepath.Join(dir, resultsFile))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range drawAll(parse(string(results))) {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s is not what the results say (%v): run scripts/curves -draw", name, err)
		}
		if n := strings.Count(want, "<polyline"); n < 2 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	r := parse("goos: linux\nBenchmarkLook/SQLite/1000/ByFile-2   30   55 ns/op   31.5 median-µs\n" +
		"BenchmarkLook/SQLite/100/ByFile-16   30   44 ns/op   21 median-µs\nBenchmarkLook/SQLite/100/ByMessage-2   30   9 median-µs\nPASS\n")
	got := r.points("BenchmarkLook/SQLite/", "/ByFile", "median-µs")
	if len(got) != 2 || got[0] != (point{100, 21}) || got[1] != (point{1000, 31.5}) {
		t.Errorf("got %v", got)
	}
}
