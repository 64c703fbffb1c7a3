package simulation

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Report is what came of a world.
type Report struct {
	Seed      uint64
	Choices   string
	Counts    map[Kind]int
	Simulated time.Duration
	Real      time.Duration
	Heap      uint64 // of the process afterwards, in bytes
	// Violations are the first of each kind.
	Violations []Violation
	// Trace is what happened last before the first.
	Trace []string `json:",omitempty"`
}

// Failed returns the first violation, or nil.
func (r *Report) Failed() *Violation {
	if len(r.Violations) == 0 {
		return nil
	}
	return &r.Violations[0]
}

func (r *Report) add(v Violation) {
	for _, other := range r.Violations {
		if other.Rule == v.Rule && other.Cause == v.Cause && slices.Equal(other.Facts, v.Facts) {
			return
		}
	}
	r.Violations = append(r.Violations, v)
}

// traced is how many things the trace keeps.
const traced = 400

// A trace is what happened last.
type trace struct {
	mu    sync.Mutex
	lines [traced]string
	n     int
}

// moved counts whatever happens in any world of this process, so that a watchdog sees when nothing
// does.
var moved atomic.Int64

// note writes a line of the trace.
func (w *World) note(format string, args ...any) {
	moved.Add(1)
	line := fmt.Sprintf("%v step %d: ", time.Since(w.began).Round(time.Millisecond), w.step.Load()) + fmt.Sprintf(format, args...)
	if w.Verbose != nil {
		w.Verbose(line)
	}
	w.trace.mu.Lock()
	defer w.trace.mu.Unlock()
	w.trace.lines[w.trace.n%traced] = line
	w.trace.n++
}

func (t *trace) last() (lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := max(0, t.n-traced); i < t.n; i++ {
		lines = append(lines, t.lines[i%traced])
	}
	return lines
}

// count counts something that happens.
func (w *World) count(kind Kind) {
	if kind == "" {
		return
	}
	w.reportMu.Lock()
	defer w.reportMu.Unlock()
	w.report.Counts[kind]++
}
