package simulation

import (
	"fmt"
	"strings"
	"time"
)

const day = 24 * time.Hour

// Limits restrict a world. The zero value demands nothing.
type Limits struct {
	Without Set    `json:",omitempty"` // kinds that do not happen
	Bots    int    // at the most
	People  int    // at the most
	Steps   int    // at the most
	Skip    Ranges // steps in which nothing happens
	Length  string // "short" or "long"
	GoOn    bool   // after a violation

	// Sabotage names a fault that the world adds to the plugin, to see that the oracle notices it.
	Sabotage string `json:",omitempty"`
}

// Choices are the settings of a world, which the dice decide before it begins.
type Choices struct {
	Seed   uint64
	Limits Limits

	Long   bool // years with a few downloads a day; otherwise hours with many
	Steps  int
	Pause  time.Duration // between two steps, on average
	Bots   int
	People int

	Index     Kind // "" for one in memory that is large enough
	Capacity  int  // of one that is small
	Shared    bool // by all bots
	Lookup    Kind // "" for none
	Handlers  bool // the first bot downloads in its event handler
	Asks      bool // the last bot asks by itself when a download has failed
	HalfOpen  bool // connections can be half open, so that clients look after them
	Unstable  bool // chat connections stall
	Form      string
	Bad       float64       // how many messages the phone does not answer well for
	Answers   time.Duration // how long a phone takes, on average
	Life      time.Duration // for how long the CDN keeps a file, at least; twice that at the most
	CDN       float64       // how many uploads the CDN has a fault with
	Hosts     int
	FillPaths bool
	Stranger  float64 // how much of what happens is a stranger's doing

	Timeout, HandlerTimeout, Pace time.Duration
	MaxInFlight                   int
	NoPauses                      bool
}

// Choose throws the dice for a world.
func Choose(seed uint64, limits Limits) Choices {
	t := Dice{seed}.For("choices")
	c := Choices{Seed: seed, Limits: limits}
	may := func(kind Kind, p float64) bool { return t.Chance(p) && !limits.Without[kind] }
	c.Long = t.Chance(0.3)
	if limits.Length != "" {
		c.Long = limits.Length == "long"
	}
	c.Steps, c.Pause, c.Life = 150+t.IntN(350), t.Between(time.Second, 20*time.Second), t.Between(time.Minute, 20*time.Minute)
	if t := (Dice{seed}).For("long"); c.Long {
		c.Steps, c.Pause, c.Life = 300+t.IntN(700), t.Between(4*time.Hour, 36*time.Hour), t.Between(10*day, 18*day)
	}
	c.Bots = pickWeighted(t, []weighted[int]{{1, 6}, {2, 3}, {3, 1}})
	c.People = 3 + t.IntN(8)
	c.Index = pickWeighted(t, []weighted[Kind]{
		{"", 10}, {indexSmall, 4}, {indexSQLite, 6}, {indexSlow, 2}, {indexFails, 2}, {indexIgnores, 2}, {indexWipes, 2},
	})
	c.Capacity = 300 + t.IntN(1500)
	c.Shared = may(botShares, 0.7)
	c.Lookup = pickWeighted(t, []weighted[Kind]{
		{"", 10}, {lookupRight, 5}, {lookupRaw, 4}, {lookupLate, 2}, {lookupHangs, 2}, {lookupErrs, 2}, {lookupWrong, 2},
		{lookupMany, 2},
	})
	c.Handlers = may(botHandler, 0.35)
	c.Asks = may(botAsks, 0.15)
	c.HalfOpen = may(netHalfOpen, 0.15) && !c.Long
	c.Unstable = may(netStall, 0.1)
	form, formed := pick(t, "pn", "lid"), t.Chance(0.2)
	if formed && !limits.Without[phoneForm] {
		c.Form = form
	}
	c.Bad = pick(t, 0, 0.05, 0.2, 0.5)
	c.Answers = pick(t, 300*time.Millisecond, time.Second, 2*time.Second)
	c.CDN = pick(t, 0, 0.03, 0.15)
	c.Hosts = 1 + t.IntN(2)
	c.FillPaths = t.Chance(0.2)
	c.Stranger = pick(t, 0, 0.1, 0.3, 0.6)
	c.Timeout = pick(t, 0, 0, 20*time.Second, 10*time.Second)
	c.HandlerTimeout = pick(t, 0, 0, 5*time.Second)
	c.Pace = pick(t, 0, 0, 300*time.Millisecond)
	c.MaxInFlight = pick(t, 0, 0, 0, 8)
	c.NoPauses = t.Chance(0.15)

	if formed && c.Timeout == 10*time.Second {
		c.Timeout = 20 * time.Second // the second form goes out after eight
	}
	for _, kind := range []*Kind{&c.Index, &c.Lookup} {
		if limits.Without[*kind] {
			*kind = ""
		}
	}
	c.Steps = limited(c.Steps, limits.Steps)
	c.Bots = limited(c.Bots, limits.Bots)
	c.People = limited(c.People, limits.People)
	return c
}

func limited(n, most int) int {
	if most > 0 {
		return min(n, most)
	}
	return n
}

// timeout returns Options.Timeout, or its default.
func (c *Choices) timeout() time.Duration { return orDefault(c.Timeout, 30*time.Second) }

// handlerTimeout returns Options.HandlerTimeout, or its default.
func (c *Choices) handlerTimeout() time.Duration { return orDefault(c.HandlerTimeout, 5*time.Second) }

func (c *Choices) maxInFlight() int { return orDefault(c.MaxInFlight, 32) }

func orDefault[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// String tells all of the choices, a few on each line.
func (c *Choices) String() string {
	var s strings.Builder
	kind := "short"
	if c.Long {
		kind = "long"
	}
	fmt.Fprintf(&s, "  %s: %d steps, %v apart; %d bots (shared index %t), %d people, stranger %.1f\n",
		kind, c.Steps, c.Pause.Round(time.Second), c.Bots, c.Shared, c.People, c.Stranger)
	fmt.Fprintf(&s, "  index %q (capacity if small: %d), Lookup %q, in handlers %t, asks by itself %t\n",
		c.Index, c.Capacity, c.Lookup, c.Handlers, c.Asks)
	fmt.Fprintf(&s, "  phone: %.2f bad, answers in %v, form %q; CDN: keeps for %v, %.2f faulty, %d hosts\n",
		c.Bad, c.Answers, c.Form, c.Life.Round(time.Second), c.CDN, c.Hosts)
	fmt.Fprintf(&s, "  network: half-open %t, stalls %t\n", c.HalfOpen, c.Unstable)
	fmt.Fprintf(&s, "  options: Timeout %v, HandlerTimeout %v, MaxInFlight %d, pace %v, no pauses %t, FillMissingPaths %t\n",
		c.Timeout, c.HandlerTimeout, c.MaxInFlight, c.Pace, c.NoPauses, c.FillPaths)
	if len(c.Limits.Without) > 0 {
		fmt.Fprintf(&s, "  without %v\n", c.Limits.Without)
	}
	return s.String()
}
