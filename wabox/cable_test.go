package wabox

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// onCable runs a test with the two ends of a connection in memory, whose plan has begun.
func onCable(t *testing.T, plan Plan, test func(t *testing.T, client, server *memoryConn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client, server := newCable(new(memory), plan, memoryAddr("server"))
		client.cable.begin()
		test(t, client, server)
		client.Close()
		server.Close()
	})
}

// reads checks what one Read returns.
func reads(t *testing.T, c net.Conn, want string) {
	t.Helper()
	p := make([]byte, 16)
	if n, err := c.Read(p); err != nil || string(p[:n]) != want {
		t.Errorf("Read gives %q and %v, want %q", p[:n], err, want)
	}
}

// What [net.Conn] promises about bytes, the end, and times.
func TestConnInMemory(t *testing.T) {
	onCable(t, Plan{Latency: time.Second}, func(t *testing.T, client, server *memoryConn) {
		for _, text := range []string{"", "a", "bcd"} {
			if n, err := client.Write([]byte(text)); n != len(text) || err != nil {
				t.Errorf("Write(%q) = %d, %v", text, n, err)
			}
		}
		began := time.Now()
		reads(t, server, "a")
		if d := time.Since(began); d != time.Second {
			t.Errorf("it took %v", d)
		}
		part := make([]byte, 2)
		if n, err := server.Read(part); n != 2 || err != nil || string(part) != "bc" {
			t.Errorf("a part is %q, %v", part[:n], err)
		}
		reads(t, server, "d")
		if n, err := server.Read(nil); n != 0 || err != nil {
			t.Errorf("Read(nil) = %d, %v", n, err)
		}
		server.Close()
		if n, err := client.Read(part); n != 0 || err != io.EOF {
			t.Errorf("at the end, Read gives %d and %v", n, err)
		}
		if _, err := client.Write(part); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("Write to a peer that has closed: %v", err)
		}
		for name, use := range map[string]func([]byte) (int, error){"Read": server.Read, "Write": server.Write} {
			if _, err := use(part); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s after Close: %v", name, err)
			}
		}
	})
}

// A deadline ends what waits, holds for what comes after it, and can be taken back.
func TestDeadlinesInMemory(t *testing.T) {
	onCable(t, Plan{}, func(t *testing.T, client, server *memoryConn) {
		p := make([]byte, 1)
		began := time.Now()
		_ = client.SetReadDeadline(began.Add(time.Second))
		_ = client.SetWriteDeadline(began.Add(2 * time.Second))
		if _, err := client.Read(p); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if _, err := client.Write(p); err != nil {
			t.Errorf("Write before its deadline: %v", err)
		}
		time.Sleep(time.Second)
		if n, err := client.Write(p); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Write at its deadline: %d, %v", n, err)
		}
		_ = client.SetDeadline(time.Time{})
		if _, err := client.Write(p); err != nil {
			t.Errorf("Write without a deadline: %v", err)
		}
		var timeout net.Error
		_ = server.SetDeadline(began) // one that is over
		for name, use := range map[string]func([]byte) (int, error){"Read": server.Read, "Write": server.Write} {
			if _, err := use(p); !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("%s: %v", name, err)
			}
		}
		_ = server.SetDeadline(time.Now().Add(time.Second))
		reads(t, server, "\x00")
		reads(t, server, "\x00")
		go func() {
			time.Sleep(500 * time.Millisecond)
			_ = server.SetReadDeadline(time.Now().Add(time.Minute)) // a Read that waits sees it
			time.Sleep(time.Second)
			_, _ = client.Write([]byte("late"))
		}()
		reads(t, server, "late")
	})
}

// A socket that does not linger is reset by Close, and what was on its way is lost.
func TestResetInMemory(t *testing.T) {
	onCable(t, Plan{Latency: time.Second}, func(t *testing.T, client, server *memoryConn) {
		_, _ = server.Write([]byte("lost"))
		_ = server.SetLinger(0)
		server.Close()
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("Read after a reset: %v", err)
		}
	})
}
