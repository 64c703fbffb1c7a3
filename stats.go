package reupload

import (
	"sync"
	"sync/atomic"
)

// Stats counts what a plugin has done since Register. It can be encoded as JSON. A
// [Plugin.FreshPath] counts as a download.
type Stats struct {
	Healthy uint64 // downloads that were answered at once
	Expired uint64 // downloads whose file had expired
	Asked   uint64 // requests sent to the phone
	Healed  uint64 // downloads that had failed, and got the file all the same
	Late    uint64 // new paths that came when no caller was waiting any more
	// Unhealed counts the downloads that failed and were not healed, by the [Label] of their cause.
	// Those that are "forbidden" had not expired.
	Unhealed map[string]uint64
	Waiting  int // requests that wait for the phone now, or to be sent
}

type counters struct {
	healthy, expired, healed, late atomic.Uint64

	mu       sync.Mutex
	unhealed map[string]uint64
}

// fail counts a download that was not healed, and reports whether it is the first one
// with this cause.
func (c *counters) fail(cause error) (first bool) {
	label := Label(cause)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.unhealed == nil {
		c.unhealed = make(map[string]uint64)
	}
	c.unhealed[label]++
	return c.unhealed[label] == 1
}

// snapshot returns the counts so far.
func (c *counters) snapshot() Stats {
	s := Stats{
		Healthy:  c.healthy.Load(),
		Expired:  c.expired.Load(),
		Healed:   c.healed.Load(),
		Late:     c.late.Load(),
		Unhealed: make(map[string]uint64),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for label, n := range c.unhealed {
		s.Unhealed[label] = n
	}
	return s
}
