package reupload

import "time"

const (
	// burst is how many live requests may go out at once before they keep the pace.
	burst = 60
	// maxPace keeps sums of a burst of paces far away from the end of time.Duration.
	maxPace = 365 * 24 * time.Hour
)

// A budget is how many receipts may go out: what the phone's owner sees. It has 60, and is refilled
// with one each pace. Backfill keeps the pace besides, and half of it until the budget is whole
// again, so that live requests find something in it.
//
// The busiest minute at a pace of one second is one in which live requests spend the whole budget
// and then all that comes back: 60 at once and 60 paced.
type budget struct {
	pace   time.Duration // zero for none
	whole  time.Time     // when it is whole again, if nothing more is spent
	unsent int           // what is paid for and has not gone out
	paced  time.Time     // when backfill has sent last
}

// newBudget returns a budget that is whole. A pace that is not positive is none.
func newBudget(pace time.Duration) budget { return budget{pace: min(max(0, pace), maxPace)} }

// readyAt returns from when on a lane may send.
func (b *budget) readyAt(l lane) time.Time {
	paid := b.whole.Add(-(burst - 1) * b.pace)
	if l == live {
		return paid
	}
	next := b.paced.Add(b.pace)
	if b.whole.After(next) {
		next = earliest(b.whole, next.Add(b.pace))
	}
	return latest(next, paid)
}

// take pays for the first receipt of a ticket, which is about to go out.
func (b *budget) take(l lane, now time.Time) {
	b.pay(now)
	b.unsent++
	if l == backfill {
		b.paced = now
	}
}

// sent notes that a receipt went out. One that no ticket has paid for, such as a second form or a
// repeat, is paid now.
func (b *budget) sent(now time.Time) {
	if b.unsent > 0 {
		b.unsent--
	} else {
		b.pay(now)
	}
}

// leave notes that only so many tickets have not sent their receipt yet.
func (b *budget) leave(tickets int) { b.unsent = min(b.unsent, tickets) }

// pay takes one receipt off. Receipts that do not wait for the budget can overdraw it, by at most a
// burst.
func (b *budget) pay(now time.Time) {
	b.whole = earliest(latest(b.whole, now).Add(b.pace), now.Add(2*burst*b.pace))
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
