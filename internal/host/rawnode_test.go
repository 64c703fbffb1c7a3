//go:build rawnodehandler

package host_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// These tests are for a whatsmeow with testdata/rawnodehandler.patch, and do not compile with
// another one: see scripts/test-next.

// A nodeCounter counts how often it gets each node, and how many come by the receive logger.
type nodeCounter struct {
	mu     sync.Mutex
	seen   map[*waBinary.Node]int
	logged int
}

func (c *nodeCounter) see(node *waBinary.Node) {
	pcs := make([]uintptr, 20)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.seen == nil {
		c.seen = make(map[*waBinary.Node]int)
	}
	c.seen[node]++
	for more := true; more; {
		var frame runtime.Frame
		if frame, more = frames.Next(); strings.HasSuffix(frame.Function, "(*Tap).Debugf") {
			c.logged++
		}
	}
}

// check returns how many nodes have come, each of them once.
func (c *nodeCounter) check(t *testing.T, logged bool) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.seen) == 0 || !logged && c.logged > 0 || logged && c.logged == 0 {
		t.Errorf("%d nodes have come, %d of them by the logger", len(c.seen), c.logged)
	}
	for node, n := range c.seen {
		if n != 1 {
			t.Errorf("%s has come %d times", node.Tag, n)
		}
	}
	c.seen, c.logged = nil, 0
}

func TestNodesComeByTheHook(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	var counter, own nodeCounter
	b.RawNodeHandler = func(_ context.Context, node *waBinary.Node) (*waBinary.Node, bool) {
		own.see(node)
		return nil, false
	}
	tap, err := host.InstallTap(b.Client, counter.see)
	if err != nil {
		t.Fatal(err)
	}
	b.connect()
	b.receive(func() {})
	b.Disconnect()
	counter.check(t, false)
	own.check(t, false)

	b.RawNodeHandler = nil // the bot has another idea
	b.connect()
	b.receive(func() {})
	b.Disconnect()
	counter.check(t, true)
	if !tap.IsLive() {
		t.Error("the tap is dead")
	}
}

func TestHookIsEnough(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	var counter nodeCounter
	tap, err := host.InstallTap(b.Client, counter.see)
	if err != nil {
		t.Fatal(err)
	}
	host.SetReceiveLogger(b.Client, waLog.Noop)
	b.connect()
	b.receive(func() {})
	b.Disconnect()
	if counter.check(t, false); !tap.IsLive() {
		t.Error("the tap is dead")
	}

	want := healthy
	want.Hidden = "recvLog"
	compare(t, liveWithout(t, field, "recvLog"), want)
}
