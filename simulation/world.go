// Package simulation lets bots live in a world that is made up at random, and looks at each step
// whether what must hold does hold. README.md says how to use it.
package simulation

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A World is all that is around some bots, and knows what is true: where each file is, what the
// phone has, and which messages are real.
type World struct {
	Choices
	Verbose func(line string) // gets what happens, if it is set
	stuck   func(*Report)     // ends the process, at the end of a world whose bubble cannot end

	t     *testing.T
	dice  Dice
	began time.Time
	box   *wabox.Box
	ctx   context.Context // ends with the world
	end   context.CancelFunc
	step  atomic.Int64

	bots      []*bot
	people    []*person
	stranger  *person
	chats     []*chat
	rests     []interface{ CloseIdleConnections() }
	databases []*sql.DB
	spawned   sync.WaitGroup
	secrets   secrets
	trace     trace

	reportMu sync.Mutex
	report   *Report

	fileCount, messageCount atomic.Int64

	mu        sync.Mutex // guards what follows, and what each bot has
	files     []*file
	uploads   map[string]*upload // by path, without its query
	uploadsOf map[*file]int
	byID      map[types.MessageID][]*message
	downloads int
	stored    int                    // entries that the indexes were given
	carded    map[string]bool        // hashes of files that a stranger's cards have
	ownAsks   map[askedFor]time.Time // by bots with a retry of their own
	explicit  map[askedFor]time.Time // by RequestReupload and RequestAll
	missed    map[askedFor]bool      // the server has lost the first request
	faulty    map[*file]time.Time    // when the CDN was last at fault
}

// Live lives through the world of some choices, in a bubble of its own, and reports what came of
// it. A world must not be run beside others in one process: whatsmeow's keep-alives are set for
// all.
func Live(t *testing.T, c Choices, verbose func(string), stuck func(*Report)) *Report {
	w := &World{
		Choices: c, Verbose: verbose, stuck: stuck, t: t, dice: Dice{c.Seed},
		uploads: make(map[string]*upload), uploadsOf: make(map[*file]int), byID: make(map[types.MessageID][]*message),
		carded:  make(map[string]bool),
		ownAsks: make(map[askedFor]time.Time), explicit: make(map[askedFor]time.Time), missed: make(map[askedFor]bool), faulty: make(map[*file]time.Time),
		report: &Report{Seed: c.Seed, Choices: c.String(), Counts: make(map[Kind]int)},
	}
	whatsmeow.KeepAliveIntervalMin, whatsmeow.KeepAliveIntervalMax = 100*day, 101*day
	if c.HalfOpen {
		whatsmeow.KeepAliveIntervalMin, whatsmeow.KeepAliveIntervalMax = 20*time.Second, 30*time.Second
	}
	began := time.Now()
	synctest.Test(t, func(t *testing.T) {
		w.live()
		w.report.Simulated = time.Since(w.began)
		w.leftovers()
	})
	w.report.Real = time.Since(began)
	return w.report
}

func (w *World) live() {
	w.began = time.Now()
	w.ctx, w.end = context.WithCancel(context.Background())
	var err error
	if w.box, err = wabox.New(); err != nil {
		panic(err)
	}
	w.box.RecordAsked(false)
	w.box.MediaTTL(200 * 365 * day)
	w.box.MediaHosts(cdnHosts[:w.Hosts]...)
	for n := range w.Bots {
		w.bots = append(w.bots, w.newBot(n))
	}
	w.populate()
	var shared *index
	for _, b := range w.bots {
		if w.Shared {
			if shared == nil {
				shared = w.newIndex(b)
			}
			b.index = shared
			if b.n > 0 {
				w.count(botShares)
			}
		}
		b.boot(false)
	}
	for step := range w.Steps {
		w.step.Store(int64(step))
		if w.ending() {
			break
		}
		w.take(step)
	}
	w.rest()
}

// take takes one step.
func (w *World) take(step int) {
	t := w.dice.For("step", step)
	kind := pickWeighted(t, w.operations())
	b := w.bots[t.IntN(len(w.bots))]
	pause := t.Around(w.Pause)
	if !w.Limits.Skip.Has(step) {
		if op := operationOf(kind); w.may(kind) != "" {
			w.note("%s by bot %d", kind, b.n)
			w.count(kind)
			op.do(b, t)
		}
	}
	if !w.ending() {
		time.Sleep(pause)
	}
}

// rest lets all that is under way end, takes everything down, and looks at what must hold in the
// end.
func (w *World) rest() {
	if !w.ending() {
		for range 20 {
			time.Sleep(time.Minute)
			if w.quiet() {
				break
			}
		}
		w.checkMessages()
	}
	w.end()
	w.spawned.Wait()
	for _, b := range w.bots {
		b.checkWaiting()
		b.stop(false)
	}
	for _, rest := range w.rests {
		rest.CloseIdleConnections()
	}
	time.Sleep(3 * time.Minute)
	for _, db := range w.databases {
		_ = db.Close()
	}
	w.box.Close()
	time.Sleep(time.Minute)
}

// quiet reports whether no bot downloads, and no message is on its way.
func (w *World) quiet() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.bots {
		if b.running > 0 || len(b.wanted) > 0 {
			return false
		}
	}
	return true
}

// checkMessages looks whether every message has come.
func (w *World) checkMessages() {
	w.mu.Lock()
	var missing []string
	for _, b := range w.bots {
		for l := range b.wanted {
			missing = append(missing, fmt.Sprintf("%s in %s to bot %d", l.id, l.chat, b.n))
		}
	}
	w.mu.Unlock()
	if len(missing) > 0 {
		w.violate(Violation{Rule: "messages", What: fmt.Sprintf("%d messages have not come: %s", len(missing), missing[0])})
	}
}

// checkWaiting looks whether the plugin still waits for something after the last call.
func (b *bot) checkWaiting() {
	_, plugin := b.current()
	if n := plugin.Stats().Waiting; n > 0 && b.report.Failed() == nil && !b.cut() {
		time.Sleep(10 * time.Minute)
		if n = plugin.Stats().Waiting; n > 0 {
			b.violate(Violation{Rule: "leftovers", What: fmt.Sprintf("%d requests wait, long after the last call", n)})
		}
	}
}

// cut reports whether the world ended before its time.
func (w *World) cut() bool { return w.report.Failed() != nil }

func (w *World) ending() bool { return w.ctx.Err() != nil }

// may returns a kind, or "" if it is left out.
func (w *World) may(kind Kind) Kind {
	if w.Limits.Without[kind] {
		return ""
	}
	return kind
}

// spawn runs a function on a goroutine that the end of the world waits for.
func (w *World) spawn(f func()) { w.spawned.Go(f) }

// notOurs are functions of whatsmeow's whose goroutines can be left over through no fault of the
// plugin's.
var notOurs = []string{"(*FrameSocket).frameComplete"}

// leftovers looks for goroutines that are left in the bubble. A bubble with one cannot end, so that
// the process does not go on to the next world.
func (w *World) leftovers() {
	synctest.Wait()
	buf := make([]byte, 8<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	var ours, theirs []string
	for _, stack := range stacks[1:] {
		head, _, _ := strings.Cut(stack, "\n")
		if !strings.Contains(head, "synctest bubble") || strings.Contains(stack, "testing/synctest.testingSynctestTest(0x") || strings.Contains(stack, "\ninternal/synctest.Run(") {
			continue
		}
		isTheirs := false
		for _, function := range notOurs {
			isTheirs = isTheirs || strings.Contains(stack, function)
		}
		if isTheirs {
			theirs = append(theirs, stack)
		} else {
			ours = append(ours, stack)
		}
	}
	if len(ours) > 0 {
		w.violate(Violation{Rule: "leftovers", What: fmt.Sprintf("%d goroutines are left:\n%s", len(ours), ours[0])})
	}
	if len(ours)+len(theirs) > 0 && w.stuck != nil {
		w.stuck(w.report) // does not return
	}
}
