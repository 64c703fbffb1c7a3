package reupload

import (
	"time"

	"go.mau.fi/whatsmeow/types"
)

const (
	// maxVain is how many event handlers may wait for nothing, one after the other.
	maxVain = 3
	// vainPause is how long it takes until one more may.
	vainPause = time.Minute
	// leastShare is the share of a wait from which on it counts.
	leastShare = 0.05
	// maxTrusted is how many sources are remembered that are trusted.
	maxTrusted = 256
)

// Patience is how long event handlers wait for the phone. While one of them waits, whatsmeow keeps
// all that comes for the bot. So three may wait for nothing, and one more each minute, whatever the
// phone answers in between: somebody who sends dead files to many chats must not hold up a bot. A
// wait that ends before its time without a file, as with a refusal, counts in proportion.
//
// A source is trusted while the last wait about it has brought a file. As long as the phone sends
// anything, handlers wait for such a source in any case, so that dead files do not keep those of
// other chats from healing. That can cost one wait for nothing for each file that has healed.
type patience struct {
	vain    float64   // how many of the waits for nothing are used up,
	since   time.Time // and from when on the pause to the next one counts
	inRow   int       // waits for nothing since anything came from the phone
	trusted *bounded[types.JID, bool]
}

func newPatience() patience {
	return patience{trusted: newBounded[types.JID, bool](maxTrusted)}
}

// lasts reports whether a handler may wait for any source.
func (p *patience) lasts(now time.Time) bool {
	if n := now.Sub(p.since) / vainPause; n > 0 {
		p.vain = max(0, p.vain-float64(min(n, maxVain)))
		p.since = p.since.Add(n * vainPause)
	}
	return p.vain+1 <= maxVain
}

// trusts reports whether a handler may wait for a source even if patience does not last.
func (p *patience) trusts(source types.JID) bool { return p.inRow < maxVain && p.trusted.get(source) }

// heard notes that something has come from the phone.
func (p *patience) heard() { p.inRow = 0 }

// found notes that the phone has given back a file of a source.
func (p *patience) found(source types.JID) { p.trusted.set(source, true) }

// gaveUp notes that a handler has waited for a source for nothing.
func (p *patience) gaveUp(source types.JID, now time.Time) {
	p.waited(source, 1, now)
	p.inRow++
}

// waited notes that a handler has waited for a source for nothing, for a share of the time that it
// may. An instant does not count.
func (p *patience) waited(source types.JID, share float64, now time.Time) {
	p.trusted.remove(source)
	if share < leastShare {
		return
	}
	if p.lasts(now); p.vain == 0 {
		p.since = now
	}
	p.vain = min(p.vain+share, maxVain)
}

// runOut uses all of the patience up: the phone is silent.
func (p *patience) runOut(now time.Time) { p.vain, p.since = maxVain, now }
