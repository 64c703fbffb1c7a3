package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
)

// TestStartAsksAgain has a round that has read the table before the account was given away.
func TestStartAsksAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	here := p.of(p.a)
	away := p.gateways[1-here]
	if err := away.start(t.Context(), []string{p.a}); err != nil {
		t.Fatal(err)
	}
	if away.account(p.a) != nil {
		t.Error("it starts an account that another process has")
	}
}

// TestStartWithoutSessions has a lease for an account, and no table of sessions.
func TestStartWithoutSessions(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	away := p.gateways[1-p.of(p.a)]
	exec := func(statement string) {
		t.Helper()
		if _, err := away.leases.db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	exec("ALTER TABLE whatsmeow_device RENAME TO hidden")
	defer exec("ALTER TABLE hidden RENAME TO whatsmeow_device")
	for deadline := time.Now().Add(10 * time.Second); ; {
		exec("INSERT INTO gateway_lease (account) VALUES ('447700900199') ON CONFLICT DO NOTHING")
		if err := away.start(t.Context(), []string{"447700900199"}); err != nil { // otherwise the other gateway was quicker
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("it says nothing")
		}
	}
}

// TestStrays changes the table of leases by hand.
func TestStrays(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	here, away := p.gateways[p.of(p.a)], p.gateways[1-p.of(p.a)]
	until := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %v, %v", what, here.list(), away.list())
			}
		}
	}
	stray := here.account(p.a)
	if _, err := here.leases.db.ExecContext(t.Context(), "UPDATE gateway_lease SET process = $1, term = term + 1 WHERE account = $2", away.leases.process, p.a); err != nil {
		t.Fatal(err)
	}
	until("it goes on without the lease", func() bool { return !stray.gate.isOpen() })
	until("they are not shared again", p.isShared)

	// A row of an account that has no session.
	if _, err := here.leases.db.ExecContext(t.Context(), "INSERT INTO gateway_lease (account) VALUES ('')"); err != nil {
		t.Fatal(err)
	}
	until("an account that there is not stays", func() bool { return whoHas(t, away.leases, "")[0] == -1 })

	logins := p.phones[p.a].Logins()
	if _, err := here.leases.db.ExecContext(t.Context(), "DELETE FROM gateway_lease WHERE account = $1", p.a); err != nil {
		t.Fatal(err)
	}
	until("an account without a row does not come back", func() bool { return p.phones[p.a].Logins() > logins && p.isShared() })
}

// TestReplaced uses the session of an account elsewhere, for a moment.
func TestReplaced(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.leases.beat = 20 * time.Millisecond
	err := s.withGateway(t.Context(), func(context.Context) error {
		s.waitState(t, accountState{Account: s.a, Linked: true, Connected: true})
		device := *s.g.account(s.a).client.Store
		other := whatsmeow.NewClient(&device, nil)
		other.SetWebsocketHTTPClient(&http.Client{Transport: s.cfg.transport})
		other.EnableAutoReconnect = false
		if err := other.Connect(); err != nil {
			return err
		}
		s.waitState(t, accountState{Account: s.a, Linked: true, Connected: false})
		s.waitState(t, accountState{Account: s.a, Linked: true, Connected: true})
		other.Disconnect()
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRefusedConnection has a WhatsApp that refuses the first connections, which whatsmeow does not
// take for a reason to try again.
func TestRefusedConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.leases.beat = 20 * time.Millisecond
	var tries atomic.Int32
	whatsApp := s.cfg.transport
	s.cfg.transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.Header.Get("Upgrade") == "" || tries.Add(1) > 4 {
			return whatsApp.RoundTrip(r)
		}
		return &http.Response{StatusCode: http.StatusTooManyRequests, Header: make(http.Header), Body: http.NoBody, Request: r}, nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := s.withGateway(ctx, func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestTwins has a process at the same URL: one that was killed goes, another gateway stays.
func TestTwins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		g := &gateway{log: slog.New(slog.NewTextHandler(&out, nil)), twins: make(map[int64]time.Time)}
		g.cfg.peerURL, g.leases = "http://1", &leases{process: 1, times: usualTimes}
		twins := board{urls: map[int64]string{1: "http://1", 2: "http://1", 3: "http://3"}}
		for range 30 {
			g.warnOfTwins(twins)
			time.Sleep(time.Second)
		}
		if out.Len() > 0 {
			t.Errorf("it takes one that was killed for another gateway: %s", out.String())
		}
		for range 60 {
			g.warnOfTwins(twins)
			time.Sleep(time.Second)
		}
		if got := out.String(); strings.Count(got, "-peer-url") != 1 {
			t.Errorf("got %q", got)
		}
	})
}

// still are the times of a process in whose database nothing happens by itself.
var still = leaseTimes{life: time.Hour, trust: time.Hour, beat: time.Hour}

// TestPairWaitsForTheSession asks for a code for an account that this process is about to connect.
func TestPairWaitsForTheSession(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.leases = still
	err := s.withGateway(t.Context(), func(context.Context) error {
		const phone = "4915550000001"
		if err := s.g.leases.know(t.Context(), []string{phone}); err != nil {
			return err
		}
		if _, err := s.g.leases.take(t.Context(), []string{phone}); err != nil {
			return err
		}
		if _, err := s.g.pair(t.Context(), phone); !errors.Is(err, errAway) {
			t.Errorf("got %v", err)
		}
		if got := whoHas(t, s.g.leases, phone); got[0] != s.g.leases.process {
			t.Errorf("it is with %v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPairKeepsTheRow has an account that was not linked as far as this process knows, and has a
// session all the same.
func TestPairKeepsTheRow(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.leases = still
	err := s.withGateway(t.Context(), func(context.Context) error {
		const phone = "4915550000001"
		claimed, ok, err := s.g.leases.claim(t.Context(), phone)
		if !ok || err != nil {
			t.Fatal(err)
		}
		s.g.notLinked(claimed, phone)
		if got := whoHas(t, s.g.leases, phone); got[0] != 0 {
			t.Errorf("it is with %v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPairWithoutADatabase does not blame WhatsApp.
func TestPairWithoutADatabase(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.leases = still
	err := s.withGateway(t.Context(), func(context.Context) error {
		_ = s.g.leases.db.Close()
		if got := s.post(t, `{"phone": "+4915550000001"}`, ""); got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
			t.Errorf("got %s", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSpawn begins something while the gateway ends, which has ceased to count what it waits for.
func TestSpawn(t *testing.T) {
	t.Parallel()
	g := new(gateway)
	ran := false
	if !g.spawn(func() { ran = true }) {
		t.Error("it does not begin")
	}
	if g.background.Wait(); !ran {
		t.Error("it does not run")
	}
	g.closed = true
	if g.spawn(func() { t.Error("it runs") }) {
		t.Error("it begins")
	}
}

func TestLeaving(t *testing.T) {
	t.Parallel()
	g := &gateway{leases: &leases{process: 1}, busy: map[string]activity{"a": giving, "b": starting, "c": giving, "e": giving}}
	present := board{leases: []lease{{account: "a", process: 1}, {account: "b", process: 1}, {account: "c", process: 2}, {account: "d", process: 1}}}
	if n := g.leaving(present); n != 1 {
		t.Errorf("it gives away %d accounts that are its own", n)
	}
}
