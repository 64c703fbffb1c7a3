package main

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestUsualTimes has the promises that the README makes.
func TestUsualTimes(t *testing.T) {
	t.Parallel()
	if lost := usualTimes.life + usualTimes.doubt() + 2*usualTimes.beat; lost > 30*time.Second {
		t.Errorf("a process that is killed has its accounts for %v", lost)
	}
	if spare := usualTimes.life - usualTimes.trust; spare < 5*time.Second || usualTimes.trust < 3*statementTime {
		t.Errorf("%v to stop in, after %v without a beat", spare, usualTimes.trust)
	}
}

func TestShare(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		processes []int64
		accounts  int
		want      []int
	}{
		{[]int64{7}, 3, []int{3}},
		{[]int64{1, 2}, 3, []int{2, 1}},
		{[]int64{1, 5, 9}, 4, []int{2, 1, 1}},
		{[]int64{1, 2, 3}, 2, []int{1, 1, 0}},
		{[]int64{1, 2}, 0, []int{0, 0}},
	} {
		for i, process := range c.processes {
			if got := share(process, c.processes, c.accounts); got != c.want[i] {
				t.Errorf("%d of %v, %d accounts: got %d, want %d", process, c.processes, c.accounts, got, c.want[i])
			}
		}
	}
	if got := share(4, []int64{1, 2}, 6); got != 0 {
		t.Errorf("a process that is not there gets %d", got)
	}
}

// TestDecide has what processes do next. A digit is an account of the process with that number, 0
// one that no process has; the accounts are called a, b, c…
func TestDecide(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		leases  string
		me      int64
		of      []int64
		leaving int
		take    string
		give    int
	}{
		{"000", 1, []int64{1}, 0, "abc", 0},
		{"111", 1, []int64{1}, 0, "", 0},
		{"1111", 1, []int64{1, 2}, 0, "", 2},
		{"1111", 1, []int64{1, 2}, 1, "", 1}, // one is on its way
		{"1111", 1, []int64{1, 2}, 3, "", 0},
		{strings.Repeat("1", 40), 1, []int64{1, 2}, 0, "", connectsAtOnce},
		{strings.Repeat("1", 40), 1, []int64{1, 2}, 3, "", connectsAtOnce - 3},
		{"1111", 2, []int64{1, 2}, 0, "", 0}, // none is free yet
		{"1101", 2, []int64{1, 2}, 0, "c", 0},
		{"0000", 1, []int64{1, 2}, 0, "ab", 0}, // they take different ones
		{"0000", 2, []int64{1, 2}, 0, "cd", 0},
		{"00000", 3, []int64{1, 2, 3}, 0, "e", 0},
		{"1020", 1, []int64{1, 2}, 0, "b", 0},
		{"1020", 2, []int64{1, 2}, 0, "d", 0},
		{"1110", 1, []int64{1, 2}, 0, "", 1},
		{"1110", 2, []int64{1, 2}, 0, "d", 0},
		{"1133", 2, []int64{1, 2}, 0, "", 0}, // 3 is dead, and not buried yet
		{"0033", 1, []int64{1, 2}, 0, "ab", 0},
		{"", 1, []int64{1}, 0, "", 0},
		{"00", 9, []int64{1, 2}, 0, "", 0}, // buried
	} {
		var leases []lease
		for i, digit := range c.leases {
			leases = append(leases, lease{account: string(rune('a' + i)), process: int64(digit - '0')})
		}
		take, give := decide(c.me, c.of, leases, c.leaving)
		if got := strings.Join(take, ""); got != c.take || give != c.give {
			t.Errorf("%s, %d of %v: takes %q and gives %d, want %q and %d", c.leases, c.me, c.of, got, give, c.take, c.give)
		}
	}
}

// TestSharesSettle lets processes come and go, and each decide by what it has read. All accounts
// end with somebody, as many with each as is fair, and what need not move stays.
func TestSharesSettle(t *testing.T) {
	t.Parallel()
	for _, accounts := range []int{0, 1, 2, 5, 12} {
		leases := make([]lease, accounts)
		for i := range leases {
			leases[i].account = fmt.Sprintf("%02d", i)
		}
		for _, processes := range [][]int64{{1}, {1, 2}, {1, 2, 3}, {2, 3}, {2, 3, 4}, {4}} {
			before := slices.Clone(leases)
			for i := range leases {
				if !slices.Contains(processes, leases[i].process) {
					leases[i].process = 0
				}
			}
			for range 4 {
				for _, me := range processes {
					take, give := decide(me, processes, leases, 0)
					for i := range leases {
						if slices.Contains(take, leases[i].account) && leases[i].process == 0 {
							leases[i].process = me
						} else if leases[i].process == me && give > 0 {
							leases[i].process = 0
							give--
						}
					}
				}
			}
			has := make(map[int64]int)
			moved := 0
			for i, l := range leases {
				has[l.process]++
				if l.process != before[i].process && slices.Contains(processes, before[i].process) {
					moved++
				}
			}
			for _, process := range processes {
				if want := share(process, processes, accounts); has[process] != want {
					t.Errorf("%d accounts, %v: %d has %d, want %d", accounts, processes, process, has[process], want)
				}
			}
			if most := accounts/len(processes) + 1; moved > most {
				t.Errorf("%d accounts, %v: %d have moved, and %d were enough", accounts, processes, moved, most)
			}
		}
	}
}

// TestFence has the clock of a process whose beats stop.
func TestFence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := fence{trust: 12 * time.Second}
		if f.holds() {
			t.Error("it holds before the first beat")
		}
		if !f.renew(now()) || !f.holds() {
			t.Error("it does not hold")
		}
		time.Sleep(12*time.Second - 1)
		if !f.holds() {
			t.Error("it ends too early")
		}
		sent := now()
		time.Sleep(time.Second - 1)
		if f.renew(sent) {
			t.Error("a beat that was sent in time and answered late counts")
		}
		f = fence{trust: 12 * time.Second}
		f.renew(now())
		time.Sleep(10 * time.Second)
		sent = now()
		time.Sleep(time.Second)
		if !f.renew(sent) {
			t.Error("a beat in time does not count")
		}
		time.Sleep(11*time.Second + 1)
		if f.holds() {
			t.Error("it counts from when the answer came, and not from when the beat was sent")
		}
		if f.renew(now()) || f.holds() {
			t.Error("a beat that is late counts")
		}
		f = fence{trust: 12 * time.Second}
		f.renew(now())
		f.drop()
		if f.holds() || f.renew(now()) {
			t.Error("it holds after it was dropped")
		}
		f = fence{trust: 12 * time.Second}
		sent = now()
		time.Sleep(12 * time.Second)
		if f.renew(sent) {
			t.Error("a first beat that took too long counts")
		}
	})
}

// TestPulse looks at a process every second, whose leases last for 20 seconds, by a database whose
// clock can be set.
func TestPulse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		read func(second int) (until string, late bool)
		want int // the second in which it is dead; 0 for never
	}{
		{"it lives", func(s int) (string, bool) { return fmt.Sprint(s), false }, 0},
		{"it dies in second 5", func(s int) (string, bool) { return fmt.Sprint(min(s, 5)), s > 25 }, 25},
		{"it died long ago", func(int) (string, bool) { return "0", true }, 3},
		{"the clock is set forward", func(s int) (string, bool) { return fmt.Sprint(s, s >= 30), s == 30 }, 0},
		{"and a beat is missed", func(s int) (string, bool) { return fmt.Sprint(min(s, 29) + max(0, s-31)), s == 30 || s == 31 }, 0},
		{"and more were missed before", func(s int) (string, bool) { return fmt.Sprint(min(s, 26) + max(0, s-31)), s == 30 || s == 31 }, 0},
		{"the clock is set back, and it dies", func(s int) (string, bool) { return fmt.Sprint(min(s, 5)), false }, 25},
	} {
		p, _ := c.read(0)
		seen := pulse{until: p}
		got := 0
		for second := 0; second < 120 && got == 0; second++ {
			until, late := c.read(second)
			at := time.Duration(second) * time.Second
			if seen = seen.feel(until, late, at); seen.isDead(at, usualTimes) {
				got = second
			}
		}
		if got != c.want {
			t.Errorf("%s: it is dead in second %d, want %d", c.what, got, c.want)
		}
	}
}

// TestSince has clocks that go apart: the machine slept, or its clock was set back.
func TestSince(t *testing.T) {
	t.Parallel()
	then := reading{mono: time.Hour, wall: time.Hour}
	for _, c := range []struct {
		mono, wall, want time.Duration
	}{
		{time.Second, time.Second, time.Second},
		{0, time.Minute, time.Minute},
		{time.Minute, -time.Hour, time.Minute},
	} {
		if got := (reading{then.mono + c.mono, then.wall + c.wall}).since(then); got != c.want {
			t.Errorf("%+v: got %v", c, got)
		}
	}
}

// TestGate has a connection that there is when the leases are lost.
func TestGate(t *testing.T) {
	t.Parallel()
	holds := true
	var base pipes
	g := newGate(&base, func() bool { return holds })
	open := func() (io.ReadWriteCloser, error) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://web.whatsapp.com/ws/chat", nil)
		resp, err := g.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		return resp.Body.(io.ReadWriteCloser), nil
	}
	stream, err := open()
	if err != nil {
		t.Fatal(err)
	}
	if _, err = stream.Write([]byte("a")); err != nil {
		t.Error(err)
	}
	holds = false
	if _, err = stream.Write([]byte("b")); err != errNoLease || base.wrote != "a" || base.closed != 1 {
		t.Errorf("got %v, %q went through, %d closed", err, base.wrote, base.closed)
	}
	if _, err = stream.Read(make([]byte, 1)); err != errNoLease {
		t.Errorf("what came is read: %v", err)
	}
	if _, err = open(); err != errNoLease || base.opened != 1 {
		t.Errorf("got %v, opened %d", err, base.opened)
	}
	holds = true
	if stream, err = open(); err != nil {
		t.Fatal(err)
	}
	base.closed = 0
	g.shut()
	if base.closed != 1 {
		t.Error("the connection is not broken")
	}
	if _, err = stream.Write([]byte("c")); err != errNoLease {
		t.Errorf("got %v", err)
	}
	if _, err = open(); err != errNoLease {
		t.Errorf("it opens again: %v", err)
	}
	// While the connection is being made.
	g = newGate(&base, func() bool { return true })
	base.closed, base.during = 0, g.shut
	if _, err = open(); err != errNoLease || base.closed != 1 {
		t.Errorf("got %v, %d closed", err, base.closed)
	}
}

// pipes are connections that take all that is written, and give one byte for each read.
type pipes struct {
	opened, closed int
	wrote          string
	during         func()
}

func (p *pipes) RoundTrip(*http.Request) (*http.Response, error) {
	p.opened++
	if p.during != nil {
		p.during()
	}
	return &http.Response{StatusCode: http.StatusSwitchingProtocols, Body: p}, nil
}

func (p *pipes) Read(b []byte) (int, error)  { return 1, nil }
func (p *pipes) Write(b []byte) (int, error) { p.wrote += string(b); return len(b), nil }
func (p *pipes) Close() error                { p.closed++; return nil }
