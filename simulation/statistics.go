package simulation

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// statistics are what came of many worlds.
type statistics struct {
	worlds int
	counts map[Kind]int
	years  float64
	busy   time.Duration // real time in worlds
	heap   uint64
	failed *Report // the first
	found  map[string]*finding
	began  time.Time
}

// A finding is a kind of violation, and where it was seen first.
type finding struct {
	name  string
	times int
	seed  uint64
	after time.Duration // real time since the beginning
	first Violation
}

func newStatistics() *statistics {
	return &statistics{counts: make(map[Kind]int), found: make(map[string]*finding), began: time.Now()}
}

func (s *statistics) add(r *Report) {
	s.worlds++
	for kind, n := range r.Counts {
		s.counts[kind] += n
	}
	s.years += r.Simulated.Hours() / 24 / 365
	s.busy += r.Real
	s.heap = max(s.heap, r.Heap)
	if r.Failed() != nil && s.failed == nil {
		s.failed = r
	}
	for _, v := range r.Violations {
		name := fmt.Sprintf("%s (%s) %v", v.Rule, v.Cause, v.Facts)
		f := s.found[name]
		if f == nil {
			f = &finding{name: name, seed: r.Seed, after: time.Since(s.began), first: v}
			s.found[name] = f
		}
		f.times++
	}
}

// missing returns the kinds that have not happened, although they were not left out.
func (s *statistics) missing(l Limits) (kinds []Kind) {
	for _, kind := range append(Kinds(), outcomes...) {
		if s.counts[kind] == 0 && !l.Without[kind] {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

func (s *statistics) print(out io.Writer, took time.Duration) {
	heals := s.counts["end:healed"]
	fmt.Fprintf(out, "\n%d worlds, %.1f years, %d heals in %v (%.0f a second); %d downloads were owed a heal; %d receipts; the heap had %d MB at the most\n",
		s.worlds, s.years, heals, took.Round(time.Second), float64(heals)/took.Seconds(), s.counts["owed"], s.counts["receipt"], s.heap>>20)
	var line strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(s.counts)) {
		fmt.Fprintf(&line, " %s=%d", kind, s.counts[kind])
	}
	fmt.Fprintln(out, line.String())
	found := slices.Collect(maps.Values(s.found))
	slices.SortFunc(found, func(a, b *finding) int { return int(a.after - b.after) })
	for _, f := range found {
		fmt.Fprintf(out, "violation: %s: rule %q in %d worlds, first with seed %d, after %v, at %v: %s\n",
			f.name, f.first.Rule, f.times, f.seed, f.after.Round(100*time.Millisecond), f.first.At.Round(time.Second), cut(f.first.What, 500))
	}
}

func cut(s string, most int) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
