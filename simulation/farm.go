package simulation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
)

// A Farm runs worlds in worker processes.
type Farm struct {
	Jobs   int            // at once
	Limits Limits         // of every world
	Tell   bool           // what happens, on standard error
	Done   func(*Report)  // is called with each report, one at a time
	Next   func() *uint64 // returns the next seed, or nil at the end. It is called by one goroutine at a time
}

// Run runs the worlds.
func (f *Farm) Run() {
	var wg sync.WaitGroup
	var mu sync.Mutex
	for range max(1, f.Jobs) {
		wg.Go(func() {
			h := new(hand)
			defer h.dismiss()
			for {
				mu.Lock()
				seed := f.Next()
				mu.Unlock()
				if seed == nil {
					return
				}
				r := h.do(order{Seed: *seed, Limits: f.Limits, Tell: f.Tell})
				mu.Lock()
				f.Done(r)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// A hand is one worker process at a time.
type hand struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr *bytes.Buffer
	dir    string // for what the process leaves when it ends in the middle
}

// hire starts a process.
func (h *hand) hire(tell bool) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if h.dir, err = os.MkdirTemp("", "simulation"); err != nil {
		return err
	}
	h.cmd = exec.Command(self)
	h.cmd.Env = append(os.Environ(), workerVariable+"=1", "GOMAXPROCS=1", "GOGC=200", "TMPDIR="+h.dir)
	h.stderr = new(bytes.Buffer)
	h.cmd.Stderr = h.stderr
	if tell {
		h.cmd.Stderr = io.MultiWriter(h.stderr, os.Stderr)
	}
	if h.in, err = h.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	h.out = json.NewDecoder(out)
	return h.cmd.Start()
}

func (h *hand) dismiss() {
	if h.cmd != nil {
		_ = h.in.Close()
		_ = h.cmd.Wait()
		h.cmd = nil
		_ = os.RemoveAll(h.dir)
	}
}

// do runs one world. A process that ends without a report has crashed.
func (h *hand) do(o order) *Report {
	if h.cmd == nil {
		if err := h.hire(o.Tell); err != nil {
			return crashed(o, err.Error())
		}
	}
	err := json.NewEncoder(h.in).Encode(o)
	if err != nil { // it ended with the world before
		h.dismiss()
		if err = h.hire(o.Tell); err == nil {
			err = json.NewEncoder(h.in).Encode(o)
		}
	}
	r := new(Report)
	if err == nil {
		err = h.out.Decode(r)
	}
	if err != nil {
		h.dismiss() // and with that, standard error is complete
		if h.stderr.Len() > 0 || o.again {
			return crashed(o, h.stderr.String())
		}
		o.again = true // it had come to its end
		return h.do(o)
	}
	return r
}

func crashed(o order, why string) *Report {
	c := Choose(o.Seed, o.Limits)
	lines := strings.Split(why, "\n")
	return &Report{Seed: o.Seed, Choices: c.String(), Violations: []Violation{{
		Rule: "crash", What: fmt.Sprintf("the process has ended without a report:\n%s", strings.Join(lines[:min(len(lines), 60)], "\n")),
	}}}
}
