package main

import (
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgconn"
	"go.mau.fi/whatsmeow/types/events"
)

// strikes is how often a message may fail while others do not.
const strikes = 3

// intake counts what comes in, and tells messages that can never be stored from those that the
// database has no time for. The former would come again for ever, as WhatsApp sends again what
// is not acknowledged.
type intake struct {
	stored, dropped atomic.Uint64

	mu     sync.Mutex
	failed map[string]strike // by message
}

type strike struct {
	count  int
	stored uint64 // how many messages had been stored by then
}

// mostFailed bounds the memory. A message that is forgotten starts again with no strikes.
const mostFailed = 10_000

// errPanic means that a message made its handling panic. It would do so each time.
var errPanic = errors.New("the handling of the message panicked")

// take stores a message, whatever is in it. It returns false for one that should come again.
func (g *gateway) take(a *account, evt *events.Message) bool {
	err := g.contained(a, evt)
	key := strings.Join([]string{a.phone(), evt.Info.Chat.String(), evt.Info.ID}, "\x00")
	switch {
	case err == nil:
		g.intake.succeeded(key)
	case g.intake.isPoison(key, err):
		g.intake.dropped.Add(1)
		g.log.Error("A message was dropped, as it cannot be stored", about(a, &evt.Info, "error", err)...)
	default:
		g.log.Error("A message was not stored, and will come again", about(a, &evt.Info, "error", err)...)
		return false
	}
	return true
}

func (g *gateway) contained(a *account, evt *events.Message) (err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("%w: %v", errPanic, what)
			g.log.Error("Panic", about(a, &evt.Info, "panic", fmt.Sprint(what), "stack", string(debug.Stack()))...)
		}
	}()
	if !g.cfg.isKept(evt.Info.Timestamp) {
		return nil
	}
	return g.store(g.root, a.phone(), evt)
}

func (i *intake) succeeded(key string) {
	i.stored.Add(1)
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.failed, key)
}

// isPoison reports whether a message fails because of itself: it panics, the database refuses the
// values in it, or it has failed several times while others were stored between. When the database
// as a whole fails, no message is lost.
func (i *intake) isPoison(key string, err error) bool {
	if errors.Is(err, errPanic) {
		return true
	}
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch refused.Code[:min(2, len(refused.Code))] {
		case "22", "23", "54": // data exceptions, constraints, and sizes: https://www.postgresql.org/docs/current/errcodes-appendix.html
			return true
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.failed == nil || len(i.failed) >= mostFailed {
		i.failed = make(map[string]strike)
	}
	last, known := i.failed[key]
	stored := i.stored.Load()
	if known && stored == last.stored { // nothing else got through either
		return false
	}
	if last.count+1 >= strikes {
		delete(i.failed, key)
		return true
	}
	i.failed[key] = strike{last.count + 1, stored}
	return false
}
