package simulation

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// workerVariable is set in the environment of processes in which worlds live. A bubble that cannot
// end takes its process along, so that the worlds have processes of their own.
const workerVariable = "SIMULATION_WORKER"

// IsWorker reports whether this process is one in which worlds live. It must then call Work.
func IsWorker() bool { return os.Getenv(workerVariable) != "" }

// An order is what a worker gets: one world to live in.
type order struct {
	Seed   uint64
	Limits Limits
	Tell   bool
	Still  time.Duration // after how much real time without anything the world stands still
	again  bool          // the second try, in a new process
}

// Work lives in one world after the other, as standard input says, and writes the reports to
// standard output. It does not return.
func Work() {
	all := func(string, string) (bool, error) { return true, nil }
	testing.Main(all, []testing.InternalTest{{Name: "worlds", F: work}}, nil, nil)
}

func work(t *testing.T) {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var heap growth
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			if err != io.EOF {
				fmt.Fprintln(os.Stderr, err)
			}
			return
		}
		c := Choose(o.Seed, o.Limits)
		report := func(r *Report) { _ = out.Encode(r) }
		last := func(r *Report) {
			report(r)
			os.Exit(0)
		}
		var verbose func(string)
		if o.Tell {
			verbose = func(line string) { fmt.Fprintln(os.Stderr, line) }
		}
		var done atomic.Bool
		go watch(&c, orDefault(o.Still, time.Minute), &done, last)
		var r *Report
		// Without a name of its own it would get one with a "#", which cuts the name of a database.
		t.Run(fmt.Sprint("world", heap.worlds), func(t *testing.T) { r = Live(t, c, verbose, last) })
		done.Store(true)
		if r == nil {
			os.Exit(1) // the test has said why
		}
		heap.look(r)
		report(r)
	}
}

// watch ends the process if the world's clock stands still: a goroutine in it waits for a lock that
// another one holds while it waits itself.
func watch(c *Choices, still time.Duration, done *atomic.Bool, last func(*Report)) {
	at, since := moved.Load(), time.Now()
	for !done.Load() {
		time.Sleep(time.Second)
		if now := moved.Load(); now != at {
			at, since = now, time.Now()
		} else if time.Since(since) > still && !done.Load() {
			v := Violation{Rule: "stands still", What: waiting()}
			last(&Report{Seed: c.Seed, Choices: c.String(), Violations: []Violation{v}})
		}
	}
}

// waiting returns the stacks of the goroutines that wait for locks, and of those that may hold
// them.
func waiting() string {
	buf := make([]byte, 8<<20)
	var locks, others []string
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		switch {
		case strings.Contains(head, "Mutex.Lock"), strings.Contains(head, "Mutex.RLock"), strings.Contains(head, "semacquire"):
			locks = append(locks, stack)
		case strings.Contains(stack, "go.mau.fi/whatsmeow.") || strings.Contains(stack, "plugins/reupload."):
			others = append(others, stack)
		}
	}
	return fmt.Sprintf("the clock stands still; %d goroutines wait for locks:\n%s\n\nand others:\n%s", len(locks), strings.Join(locks, "\n\n"), strings.Join(others, "\n\n"))
}

// A growth follows the heap of a worker, in which nothing of a world should be left.
type growth struct {
	worlds int
	first  uint64
}

// most is by how much the heap may have grown since the first worlds.
const most = 64 << 20

func (g *growth) look(r *Report) {
	const warm = 5
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	r.Heap = stats.HeapAlloc
	if g.worlds++; g.worlds == warm {
		g.first = stats.HeapAlloc
	} else if g.worlds > warm && stats.HeapAlloc > g.first+most {
		r.Violations = append(r.Violations, Violation{
			Rule: "leftovers", What: fmt.Sprintf("the heap has %d MB after %d worlds, and had %d after %d", stats.HeapAlloc>>20, g.worlds, g.first>>20, warm),
		})
	}
}
