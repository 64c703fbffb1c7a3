package simulation

import (
	"fmt"
	"maps"
	"time"
)

// reduceWorld looks for the smallest world that still fails by the same rule, and prints the
// command for it. As goroutines are not scheduled by the seed, each is tried several times.
func (c *command) reduceWorld(failed *Report) {
	const patience = 3 * time.Minute
	v := failed.Failed()
	h := new(hand)
	defer h.dismiss()
	deadline := time.Now().Add(patience)
	fails := func(l Limits) bool {
		for range 3 {
			if time.Now().After(deadline) {
				return false
			}
			if again := h.do(order{Seed: failed.Seed, Limits: l}).Failed(); again != nil && again.Rule == v.Rule {
				return true
			}
		}
		return false
	}
	l := c.limits
	if !fails(l) {
		fmt.Fprintf(c.out, "it does not fail again in three times; try: %s -times 20\n", commandLine(failed.Seed, l))
		return
	}
	try := func(change func(*Limits)) bool {
		smaller := l
		smaller.Without = maps.Clone(l.Without)
		change(&smaller)
		if !fails(smaller) {
			return false
		}
		l = smaller
		return true
	}
	try(func(l *Limits) { l.Steps = v.Step + 1 })
	try(func(l *Limits) { l.Bots = 1 })
	for _, group := range []string{"stranger:", "cdn:", "net:", "index:", "lookup:", "phone:", "bot:"} {
		kinds, _ := ParseSet(group)
		if try(func(l *Limits) { maps.Copy(l.Without, kinds) }) {
			continue
		}
		for kind := range kinds {
			try(func(l *Limits) { l.Without[kind] = true })
		}
	}
	ops, _ := ParseSet("op:")
	for kind := range ops {
		try(func(l *Limits) { l.Without[kind] = true })
	}
	if l.Steps > 0 {
		for size := l.Steps / 2; size > 0; size /= 2 {
			for from := 0; from < l.Steps && time.Now().Before(deadline); from += size {
				if !l.Skip.Has(from) {
					try(func(l *Limits) { l.Skip = l.Skip.With(Range{from, min(from+size, l.Steps) - 1}) })
				}
			}
		}
	}
	try(func(l *Limits) { l.People = 3 })
	fmt.Fprintf(c.out, "the smallest world found that fails so:\n  %s\n", commandLine(failed.Seed, l))
}
