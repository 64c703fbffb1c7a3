package reupload

import (
	"context"
	"errors"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
)

// Stats counts what a plugin has done since Register.
type Stats struct {
	Healthy uint64 // downloads that were answered at once
	Failed  uint64 // downloads whose file had expired
	Asked   uint64 // requests sent to the phone
	Healed  uint64 // failed downloads that got their file all the same
	Late    uint64 // new paths that came when nobody was waiting any more
	// Refused counts the failed downloads that got nothing, by cause: one of this package's errors, the context's or
	// whatsmeow's connection errors.
	Refused map[error]uint64
	Waiting int // requests that wait for the phone now, or to be sent
}

// causes are the keys of Stats.Refused. An error that wraps two of them counts as the first.
var causes = [...]error{
	ErrNotFound, ErrDecryption, ErrGeneral, ErrTimeout, ErrRejected, ErrInvalidAnswer, ErrUnknownMessage, ErrHandlerBlocked,
	ErrReplayFailed, ErrNewsletter, ErrInvalidRequest, ErrClosed, whatsmeow.ErrNotLoggedIn, whatsmeow.ErrNotConnected,
	context.Canceled, context.DeadlineExceeded,
}

type counters struct {
	healthy, failed, healed, late atomic.Uint64
	refused                       [len(causes)]atomic.Uint64
}

func (c *counters) refuse(cause error) {
	for i, known := range causes {
		if errors.Is(cause, known) {
			c.refused[i].Add(1)
			return
		}
	}
}

// Stats returns the counts so far.
func (p *Plugin) Stats() Stats {
	s := Stats{
		Healthy: p.stats.healthy.Load(),
		Failed:  p.stats.failed.Load(),
		Asked:   p.sender.sent.Load(),
		Healed:  p.stats.healed.Load(),
		Late:    p.stats.late.Load(),
		Refused: make(map[error]uint64),
		Waiting: p.pending.waiting(),
	}
	for i, cause := range causes {
		if n := p.stats.refused[i].Load(); n > 0 {
			s.Refused[cause] = n
		}
	}
	return s
}
