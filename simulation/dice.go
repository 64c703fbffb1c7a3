package simulation

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"
)

// Dice make decisions from a seed. Each decision has a name, and depends only on the seed and the
// name, not on the order of decisions or on what is left out of the world. So a run can be
// repeated, and reduced.
type Dice struct{ seed uint64 }

// For returns the dice for something with a name.
func (d Dice) For(name ...any) *Throw {
	h := fnv.New64a()
	fmt.Fprintln(h, name...)
	return &Throw{rand.New(rand.NewPCG(d.seed, h.Sum64()))}
}

// A Throw is a sequence of random numbers. It is for one goroutine.
type Throw struct{ *rand.Rand }

// Chance reports true with a probability.
func (t *Throw) Chance(p float64) bool { return t.Float64() < p }

// Between returns a duration of at least from and less than to.
func (t *Throw) Between(from, to time.Duration) time.Duration {
	if to <= from {
		return from
	}
	return from + time.Duration(t.Int64N(int64(to-from)))
}

// Around returns a duration with an exponential distribution, of ten times the mean at the most.
func (t *Throw) Around(mean time.Duration) time.Duration {
	return time.Duration(min(t.ExpFloat64(), 10) * float64(mean))
}

// pick returns one of several things.
func pick[T any](t *Throw, of ...T) T { return of[t.IntN(len(of))] }

// A weighted thing is picked with a probability in proportion to its weight.
type weighted[T any] struct {
	what   T
	weight int
}

func pickWeighted[T any](t *Throw, of []weighted[T]) T {
	sum := 0
	for _, w := range of {
		sum += w.weight
	}
	n := t.IntN(sum)
	for _, w := range of {
		if n -= w.weight; n < 0 {
			return w.what
		}
	}
	panic("unreachable")
}
