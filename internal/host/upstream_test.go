//go:build upstream

package host_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// These tests are for a whatsmeow with the patches of docs/upstream: see scripts/test-next.

func TestObserverTakesThePlaceOfTheLogger(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	logger := host.ReceiveLogger(b.Client)
	b.connect() // before there is a tap
	var first, second atomic.Int32
	tap, err := host.InstallTap(b.Client, func(*waBinary.Node) { first.Add(1) })
	if err != nil || !tap.IsLive() || host.ReceiveLogger(b.Client) != logger {
		t.Fatalf("after Connect: %v, live %t", err, tap.IsLive())
	}
	if other, err := host.InstallTap(b.Client, nil); other != nil || !errors.Is(err, host.ErrTapped) {
		t.Errorf("two at once: %v, %v", other, err)
	}
	b.receive(func() {})
	tap.Mute()
	seen := first.Load()
	again, err := host.InstallTap(b.Client, func(*waBinary.Node) { second.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	tap.Mute() // which is no longer the one
	if other, err := host.InstallTap(b.Client, nil); other != nil || !errors.Is(err, host.ErrTapped) {
		t.Errorf("after the first is mute for a second time: %v, %v", other, err)
	}
	b.receive(func() {})
	if again.Mute(); seen == 0 || first.Load() != seen || second.Load() == 0 {
		t.Errorf("the first sees %d nodes, then %d, and the second %d", seen, first.Load()-seen, second.Load())
	}
}

func TestRegisterAfterConnectIsNotDegraded(t *testing.T) {
	t.Parallel()
	b := newBot(t)
	b.connect()
	plugin, err := reupload.Register(b.Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	if err = plugin.Degraded(); err != nil {
		t.Error(err)
	}
}

func TestMediaClientIsShown(t *testing.T) {
	t.Parallel()
	client := newClient()
	if media := host.MediaClient(client); media == nil || media != client.MediaHTTPClient() {
		t.Error("it is another one")
	}
	for hidden, where := range map[string]string{"mediaHTTP": field, "recvLog": field} {
		want := healthy
		want.Hidden = hidden
		compare(t, liveWithout(t, where, hidden), want)
	}
	media := new(http.Client)
	client.SetMediaHTTPClient(media)
	if host.MediaClient(client) != media {
		t.Error("it is not the one that was set")
	}
}
