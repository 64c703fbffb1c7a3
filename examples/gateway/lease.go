package main

import (
	"slices"
	"sync/atomic"
	"time"
)

// Several gateways on one database share its accounts. An account is connected by the one process
// that has a lease of it, and a process has its leases for as long as its heartbeat is in time:
//
//	by the database's clock   until now + life, renewed with each beat
//	by the process's own      until trust has passed since it sent the last beat that succeeded
//
// The second ends life-trust before the first can, so that a process which is paused, or cut off
// from the database, has stopped its clients before another one may start them. What a process does
// next is decided here, without I/O; leases.go has the database's side.
type leaseTimes struct {
	life  time.Duration // of a lease in the database after the last beat
	trust time.Duration // for which a process relies on a beat
	beat  time.Duration // from one beat to the next
}

// doubt is how long another process must see that leases have run out, and are not renewed. If it
// is the database's clock that was set forward, those that live renew theirs before that.
func (t leaseTimes) doubt() time.Duration { return 3 * t.beat }

// usualTimes let another process have the accounts of one that was killed after 21 to 24 seconds.
var usualTimes = leaseTimes{life: 20 * time.Second, trust: 12 * time.Second, beat: time.Second}

// A fence says whether a process can rely on its leases. Once it cannot, it never can again: the
// process gives everything up, and joins as a new one.
type fence struct {
	trust  time.Duration
	beaten atomic.Pointer[reading] // when the last beat that succeeded was sent; nil without leases
}

// left returns for how long the process may still rely on its leases, if nothing renews them.
func (f *fence) left() time.Duration {
	if beaten := f.beaten.Load(); beaten != nil {
		return f.trust - now().since(*beaten)
	}
	return 0
}

// holds reports whether the process may act for its accounts. It asks the clock each time, so that
// the answer is right in the first moment after a pause.
func (f *fence) holds() bool { return f.left() > 0 }

// renew is told when a beat was sent that has succeeded. It reports false if that is too late.
func (f *fence) renew(sent reading) bool {
	beaten := f.beaten.Load()
	if beaten != nil && !f.holds() {
		return false
	}
	return f.beaten.CompareAndSwap(beaten, &sent) && f.holds()
}

// drop ends the reliance for good.
func (f *fence) drop() { f.beaten.Store(&reading{mono: now().mono - f.trust}) }

// A reading is what the two clocks of a process say, counted from its start.
type reading struct{ mono, wall time.Duration }

var epoch = time.Now()

func now() reading {
	t := time.Now()
	return reading{t.Sub(epoch), t.Round(0).Sub(epoch.Round(0))}
}

// since returns the time from another reading, by the clock that has gone further. The monotonic
// one stands still while the machine sleeps, and the wall clock can be set back.
func (r reading) since(then reading) time.Duration {
	return max(r.mono-then.mono, r.wall-then.wall)
}

// A lease is a row of the table: an account, the process that has it, and what that says of it.
type lease struct {
	account           string
	process           int64 // 0 for none
	term              int64 // of this lease: another one of the same account has a higher number
	linked, connected bool
}

// A pulse is what the table says of a process, and since when, by the monotonic clock of the one
// that looks.
type pulse struct {
	until string // in the database's own words
	late  bool   // by the database's clock
	since time.Duration
}

// feel returns what is known of a process now that it was read again.
func (p pulse) feel(until string, late bool, at time.Duration) pulse {
	if p.until == until && p.late == late {
		at = p.since
	}
	return pulse{until, late, at}
}

// isDead reports whether a process has lost its leases: they have run out by the database's clock
// and were not renewed since that was seen, or they were not renewed for a whole life, whatever
// that clock says. It may have been set.
func (p pulse) isDead(at time.Duration, times leaseTimes) bool {
	return at-p.since >= times.life || p.late && at-p.since >= times.doubt()
}

// share returns how many accounts a process should have, of those that there are. The oldest
// processes have one more than the others if they cannot all have the same.
func share(process int64, processes []int64, accounts int) int {
	rank := slices.Index(processes, process)
	if rank < 0 {
		return 0
	}
	n := accounts / len(processes)
	if rank < accounts%len(processes) {
		n++
	}
	return n
}

// decide returns which accounts a process should take, and how many it should give. The processes
// are in the order of their ids. leaving is how many of its accounts it is giving already: few at
// once, as each is with no process until another one has connected it. All that see the same table
// take different accounts.
func decide(me int64, processes []int64, leases []lease, leaving int) (take []string, give int) {
	var free []string
	has := make(map[int64]int)
	for _, l := range leases {
		if has[l.process]++; l.process == 0 {
			free = append(free, l.account)
		}
	}
	slices.Sort(free)
	first := 0 // of the free ones that are mine: those before are for the processes before me
	for _, process := range processes {
		short := share(process, processes, len(leases)) - has[process]
		if process == me {
			if short < 0 {
				return nil, max(0, min(-short, connectsAtOnce)-leaving)
			}
			first = min(first, len(free))
			return free[first:min(first+short, len(free))], 0
		}
		first += max(0, short)
	}
	return nil, 0 // I am not among the processes
}
