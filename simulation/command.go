package simulation

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"time"
)

// Flags defines the flags of the command, and returns the function that runs it, which reports
// whether all was well.
func Flags(flags *flag.FlagSet) (run func(out io.Writer) (ok bool, err error)) {
	var c command
	flags.Uint64Var(&c.seed, "seed", 0, "the first `seed`; 0 for one that is new, and printed")
	flags.IntVar(&c.worlds, "worlds", 0, "how many worlds, with the seeds after the first; 0 for as many as -for allows, or one")
	flags.DurationVar(&c.lasts, "for", 0, "for how much real time to begin new worlds")
	flags.IntVar(&c.jobs, "jobs", runtime.NumCPU(), "how many worlds at once")
	flags.IntVar(&c.times, "times", 1, "how often to live through each world: goroutines are not scheduled by the seed")
	without := flags.String("without", "", "`kinds` to leave out, such as cdn:,op:edit")
	skip := flags.String("skip", "", "`steps` in which nothing happens, such as 3-7,12")
	flags.IntVar(&c.limits.Bots, "bots", 0, "how many bots at the most")
	flags.IntVar(&c.limits.People, "people", 0, "how many people at the most")
	flags.IntVar(&c.limits.Steps, "steps", 0, "how many steps at the most")
	flags.StringVar(&c.limits.Length, "length", "", "short or long worlds only")
	flags.BoolVar(&c.limits.GoOn, "go-on", false, "go on after a violation, and count them all")
	flags.BoolVar(&c.reduce, "reduce", true, "reduce a world that fails")
	flags.BoolVar(&c.tell, "tell", false, "tell what happens, on standard error")
	flags.BoolVar(&c.list, "kinds", false, "list the kinds that there are")
	return func(out io.Writer) (bool, error) {
		var err error
		if c.limits.Without, err = ParseSet(*without); err != nil {
			return false, err
		}
		if c.limits.Skip, err = ParseRanges(*skip); err != nil {
			return false, err
		}
		c.out = out
		return c.run(), nil
	}
}

// enough is how many worlds must have seen everything that there is.
const enough = 80

// A command is what the flags say.
type command struct {
	out          io.Writer
	seed         uint64
	worlds       int
	lasts        time.Duration
	jobs, times  int
	limits       Limits
	reduce, tell bool
	list         bool
}

func (c *command) run() bool {
	if c.list {
		for _, kind := range Kinds() {
			fmt.Fprintln(c.out, kind)
		}
		return true
	}
	if c.seed == 0 {
		c.seed = 1 + rand.Uint64N(1_000_000)
		fmt.Fprintf(c.out, "seed %d\n", c.seed)
	}
	if c.worlds == 0 && c.lasts == 0 {
		c.worlds = 1
	}
	s := newStatistics()
	began, given := time.Now(), 0
	farm := &Farm{Jobs: c.jobs, Limits: c.limits, Tell: c.tell, Done: func(r *Report) {
		s.add(r)
		if v := r.Failed(); v != nil && (!c.limits.GoOn) {
			c.tellViolation(r)
		}
	}}
	farm.Next = func() *uint64 {
		if c.lasts > 0 && time.Since(began) >= c.lasts || c.worlds > 0 && given >= c.worlds*c.times || s.failed != nil && !c.limits.GoOn {
			return nil
		}
		seed := c.seed + uint64(given/c.times)
		given++
		return &seed
	}
	farm.Run()
	s.print(c.out, time.Since(began))
	ok := s.failed == nil
	if s.worlds >= enough && ok {
		if missing := s.missing(c.limits); len(missing) > 0 {
			fmt.Fprintf(c.out, "FAILED: these have not happened: %v\n", missing)
			ok = false
		}
	}
	if s.failed != nil && c.reduce && !c.limits.GoOn {
		c.reduceWorld(s.failed)
	}
	return ok
}

// tellViolation prints what is wrong in a world, and what happened before.
func (c *command) tellViolation(r *Report) {
	v := r.Failed()
	fmt.Fprintf(c.out, "\nFAILED: seed %d\n%s", r.Seed, r.Choices)
	fmt.Fprintf(c.out, "what happened before:\n")
	const shown = 40
	for _, line := range r.Trace[max(0, len(r.Trace)-shown):] {
		fmt.Fprintln(c.out, "  "+line)
	}
	fmt.Fprintf(c.out, "rule %q at %v, step %d:\n  %s\n  %v\n", v.Rule, v.At, v.Step, v.What, v.Facts)
	fmt.Fprintf(c.out, "again: %s\n", commandLine(r.Seed, c.limits))
}

// commandLine returns the command that lives through a world.
func commandLine(seed uint64, l Limits) string {
	s := fmt.Sprintf("scripts/simulate -seed %d", seed)
	add := func(set bool, format string, args ...any) {
		if set {
			s += fmt.Sprintf(format, args...)
		}
	}
	add(len(l.Without) > 0, " -without %v", l.Without)
	add(len(l.Skip) > 0, " -skip %v", l.Skip)
	add(l.Bots > 0, " -bots %d", l.Bots)
	add(l.People > 0, " -people %d", l.People)
	add(l.Steps > 0, " -steps %d", l.Steps)
	add(l.Length != "", " -length %s", l.Length)
	return s
}
