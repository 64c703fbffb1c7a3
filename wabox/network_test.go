package wabox_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// inBubble runs a test under a fake clock, with a box and a client that is logged in.
func inBubble(t *testing.T, test func(t *testing.T, box *wabox.Box, b *bot)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		box := newBox(t)
		b := login(t, box.NewAccount())
		// A frame that arrives while a client disconnects keeps a goroutine of whatsmeow's.
		synctest.Wait()
		t.Cleanup(func() { time.Sleep(time.Second) })
		test(t, box, b)
	})
}

// receive delivers a picture, and returns how long that took.
func (b *bot) receive(t *testing.T, m *wabox.Media) time.Duration {
	t.Helper()
	began := time.Now()
	id := deliver(t, b.account, wabox.Incoming{}, &waE2E.Message{ImageMessage: m.Image()})
	for {
		select {
		case evt := <-b.events:
			if msg, ok := evt.(*events.Message); ok && msg.Info.ID == id {
				return time.Since(began)
			}
		case <-time.After(24 * time.Hour):
			t.Fatal("the message has not come")
		}
	}
}

func (b *bot) download(t *testing.T, m *wabox.Media) (took time.Duration, err error) {
	t.Helper()
	began := time.Now()
	data, err := b.Download(t.Context(), m.Image())
	if err == nil && !bytes.Equal(data, m.Plaintext) {
		t.Error("other bytes came")
	}
	return time.Since(began), err
}

func TestBubble(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		for range 3 {
			media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
			b.receive(t, media)
			if _, err := b.download(t, media); err != nil {
				t.Fatal(err)
			}
			time.Sleep(8 * time.Hour)
		}
		if n := b.account.Logins(); n != 1 {
			t.Errorf("the client has logged in %d times in a day", n)
		}
	})
}

// forCDN plans the connections to the CDN alone.
func forCDN(plan wabox.Plan) func(wabox.Dial) wabox.Plan {
	return func(d wabox.Dial) wabox.Plan {
		if d.IsChat() {
			return wabox.Plan{}
		}
		return plan
	}
}

func TestLatency(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
		box.Network(forCDN(wabox.Plan{Latency: time.Second}))
		// There and back for the TLS handshake, and there and back again for the request.
		if took, err := b.download(t, media); took != 4*time.Second || err != nil {
			t.Errorf("the first download took %s (%v)", took, err)
		}
		if took, err := b.download(t, media); took != 2*time.Second || err != nil {
			t.Errorf("the next one took %s (%v)", took, err)
		}
	})
}

func TestRefusedDial(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
		var dials atomic.Int32
		box.Network(func(d wabox.Dial) wabox.Plan {
			dials.Add(1)
			return wabox.Plan{Refuse: dials.Load() < 3}
		})
		if _, err := b.download(t, media); err != nil { // whatsmeow tries again
			t.Error(err)
		}
		if n := dials.Load(); n != 3 {
			t.Errorf("the CDN was dialed %d times", n)
		}
		box.Network(func(d wabox.Dial) wabox.Plan { return wabox.Plan{Refuse: d.IsChat()} })
		b.account.Cut()
		time.Sleep(time.Minute)
		if b.IsConnected() {
			t.Error("the client is connected, although each dial is refused")
		}
		box.Network(nil)
		if err := b.account.WaitOnline(withPatience(t)); err != nil {
			t.Error(err)
		}
	})
}

func TestCutAtByte(t *testing.T) {
	for _, n := range []int64{1, 1000, 2000, 10_000} {
		t.Run("", func(t *testing.T) {
			inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
				media := box.Upload(make([]byte, 100_000), whatsmeow.MediaImage)
				var dials atomic.Int32
				box.Network(func(wabox.Dial) wabox.Plan {
					if dials.Add(1) > 1 {
						return wabox.Plan{}
					}
					return wabox.Plan{Fault: wabox.Cut, AfterBytes: n}
				})
				if _, err := b.download(t, media); err != nil {
					t.Error(err)
				}
				if n := dials.Load(); n != 2 {
					t.Errorf("the CDN was dialed %d times, want twice", n)
				}
			})
		})
	}
}

func TestCutIsSeen(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		media := box.Upload(make([]byte, 100_000), whatsmeow.MediaImage)
		box.Network(forCDN(wabox.Plan{Fault: wabox.Cut, AfterBytes: 20_000}))
		client := http.Client{Transport: box.Transport()}
		defer client.CloseIdleConnections()
		resp, err := client.Get("https://mmg.whatsapp.net" + media.DirectPath + "&hash=" + base64.URLEncoding.EncodeToString(media.FileEncSHA256))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); !errors.Is(err, syscall.ECONNRESET) || n < 10_000 || n > 20_000 {
			t.Errorf("%d bytes came, and then %v", n, err)
		}
	})
}

func TestNetworkStall(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		media := box.Upload(make([]byte, 100_000), whatsmeow.MediaImage)
		box.Network(forCDN(wabox.Plan{Fault: wabox.Stall, AfterBytes: 30_000, For: time.Hour}))
		if took, err := b.download(t, media); took != time.Hour || err != nil {
			t.Errorf("the download took %s (%v)", took, err)
		}

		// A chat that stalls for less time than keep-alives need to notice.
		if err := b.account.Disturb(wabox.Stall, 9*time.Second); err != nil {
			t.Fatal(err)
		}
		if took := b.receive(t, media); took != 9*time.Second {
			t.Errorf("the message came after %s", took)
		}
	})
}

// A client that does not learn that its connection has ended finds it out by itself, and gets what
// it has missed.
func TestClientUnaware(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
		if err := b.account.Disturb(wabox.ClientUnaware, 0); err != nil {
			t.Fatal(err)
		}
		if !b.IsConnected() {
			t.Error("the client has learned of it")
		}
		if took := b.receive(t, media); took < whatsmeow.KeepAliveMaxFailTime || took > whatsmeow.KeepAliveMaxFailTime+time.Minute {
			t.Errorf("the message came after %s", took)
		}
		if n := b.account.Logins(); n != 2 {
			t.Errorf("the client has logged in %d times", n)
		}
	})
}

// A server that does not learn that its client has gone sends again what it has sent to it since.
func TestServerUnaware(t *testing.T) {
	inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
		if err := b.account.Disturb(wabox.ServerUnaware, 0); err != nil {
			t.Fatal(err)
		}
		media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
		b.receive(t, media)
		if n := b.account.Logins(); n != 2 {
			t.Errorf("the client has logged in %d times", n)
		}
	})
}

// To hang up takes no time, whatever the state of the connection: whatsmeow holds a lock meanwhile.
func TestHangsUpAtOnce(t *testing.T) {
	for _, fault := range []wabox.Fault{wabox.NoFault, wabox.Stall, wabox.ClientUnaware} {
		t.Run("", func(t *testing.T) {
			inBubble(t, func(t *testing.T, box *wabox.Box, b *bot) {
				if err := b.account.Disturb(fault, 0); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				b.Disconnect()
				if took := time.Since(began); took != 0 {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestNetworkOfSockets(t *testing.T) {
	t.Parallel()
	box := wabox.Start(t, wabox.Sockets())
	b := login(t, box.NewAccount())
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	if _, err := b.download(t, media); err != nil {
		t.Error(err)
	}
	if err := b.account.Disturb(wabox.Cut, 0); err == nil {
		t.Error("a socket was disturbed")
	}
	proxy, err := box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	if host := proxy.URL().Hostname(); host != "127.0.0.1" {
		t.Errorf("the proxy is at %s", host)
	}
	defer func() {
		if recover() == nil {
			t.Error("a network of sockets was planned")
		}
	}()
	box.Network(func(wabox.Dial) wabox.Plan { return wabox.Plan{} })
}

// A client in a bubble cannot use a box from outside, and is told why.
func TestBoxOutsideTheBubble(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	synctest.Test(t, func(t *testing.T) {
		err := account.NewClient(nil).Connect()
		if err == nil || !strings.Contains(err.Error(), "outside the testing/synctest bubble") {
			t.Errorf("got %v", err)
		}
	})
}

// In a bubble, a box with sockets would stop the clock.
func TestSocketsInABubble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		if _, err := wabox.New(wabox.Sockets()); err == nil || !strings.Contains(err.Error(), "without Sockets") {
			t.Errorf("got %v", err)
		}
	})
}

// A slowReader is a log that keeps a client 2 ms with each node that it gets.
type slowReader struct {
	waLog.Logger
	reads bool
}

func (l slowReader) Sub(module string) waLog.Logger { return slowReader{l.Logger, module == "Recv"} }
func (l slowReader) Debugf(string, ...any) {
	if l.reads {
		time.Sleep(2 * time.Millisecond)
	}
}

// Whatever is on its way to a client when a test ends, the bubble ends well.
func TestEndsInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, latency := range []time.Duration{0, 25 * time.Millisecond, 2 * time.Second} {
		for range 5 { // each can go well by chance
			synctest.Test(t, func(t *testing.T) {
				box := wabox.Start(t)
				box.Network(func(wabox.Dial) wabox.Plan { return wabox.Plan{Latency: latency} })
				account := box.NewAccount()
				account.Connect(t, account.NewClient(slowReader{Logger: waLog.Noop}))
				time.Sleep(time.Minute)
				chat := account.Chat(t, wabox.Incoming{})
				for range 3 {
					chat.Say("hello")
				}
			})
		}
	}
}
