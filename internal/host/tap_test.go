package host_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// A countingLog counts what is logged at Debug.
type countingLog struct {
	waLog.Logger
	lines int
}

func (l *countingLog) Debugf(string, ...any)   { l.lines++ }
func (l *countingLog) Sub(string) waLog.Logger { return l }

func TestTapSeesNodesAndPassesEverythingOn(t *testing.T) {
	t.Parallel()
	log := &countingLog{Logger: waLog.Noop}
	client := whatsmeow.NewClient(new(store.Device), log)
	seen := 0
	tap, err := host.InstallTap(client, func(*waBinary.Node) { seen++ })
	if err != nil {
		t.Fatal(err)
	}
	logger := host.ReceiveLogger(client)
	for _, args := range [][]any{{}, {"text"}, {(*waBinary.Node)(nil)}, {new(waBinary.Node), "text"}} {
		logger.Debugf("%v", args...)
	}
	if seen != 0 || tap.IsLive() {
		t.Errorf("before a node comes %d are seen, and the tap is live: %t", seen, tap.IsLive())
	}
	logger.Debugf("%s", new(waBinary.Node))
	if seen != 1 || !tap.IsLive() {
		t.Errorf("of a node %d are seen, and the tap is live: %t", seen, tap.IsLive())
	}
	tap.Mute()
	logger.Debugf("%s", new(waBinary.Node))
	if seen != 1 || log.lines != 6 {
		t.Errorf("a mute tap has seen %d nodes, want 1, and passed %d lines on, want 6", seen, log.lines)
	}
}

// whatsmeow reads the logger without a lock, so that a tap stays, and the next one takes it over.
func TestTapStaysAndIsTakenOver(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	var first, second atomic.Int32
	before := host.ReceiveLogger(b.Client)
	tap, err := host.InstallTap(b.Client, func(*waBinary.Node) { first.Add(1) })
	logger := host.ReceiveLogger(b.Client)
	if err != nil || logger == before {
		t.Fatalf("there is no tap: %v", err)
	}
	if other, err := host.InstallTap(b.Client, nil); other != nil || !errors.Is(err, host.ErrTapped) {
		t.Errorf("two at once: %v, %v", other, err)
	}
	b.connect()
	if first.Load() == 0 || !tap.IsLive() {
		t.Error("no node of a login is seen")
	}
	tap.Mute()
	if host.ReceiveLogger(b.Client) != logger {
		t.Error("the tap was taken away, though the reader of the socket may use it")
	}
	if again, err := host.InstallTap(b.Client, func(*waBinary.Node) { second.Add(1) }); again != tap || err != nil {
		t.Errorf("a mute tap is not taken over: %v", err)
	}
	seen := first.Load()
	b.receive(func() {})
	if first.Load() != seen || second.Load() == 0 {
		t.Errorf("after that the first sees %d nodes, and the second %d", first.Load()-seen, second.Load())
	}
}

// A node is seen while an event handler runs, behind which whatsmeow queues it.
func TestTapSeesNodesWhileAHandlerRuns(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	messages := make(chan struct{}, 10)
	if _, err := host.InstallTap(b.Client, func(node *waBinary.Node) {
		if node.Tag == "message" {
			messages <- struct{}{}
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.connect()
	b.receive(func() {
		<-messages // the one that is being handled
		b.deliver()
		select {
		case <-messages:
		case <-time.After(patience):
			t.Error("the second message is not seen before the handler of the first has returned")
		}
	})
}

func TestTapComesBeforeTheConnection(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	b.connect()
	tap, err := host.InstallTap(b.Client, func(*waBinary.Node) {})
	if tap != nil || !errors.Is(err, host.ErrConnected) {
		t.Errorf("while connected: %v, %v", tap, err)
	}
	b.Disconnect()
	if tap, err = host.InstallTap(b.Client, func(*waBinary.Node) {}); tap != nil || !errors.Is(err, host.ErrConnected) {
		t.Errorf("after that: %v, %v", tap, err)
	}
	tap.Mute()
	if tap.IsLive() {
		t.Error("no tap is live")
	}
}
