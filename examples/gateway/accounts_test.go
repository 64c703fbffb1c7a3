package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
)

func testAccounts(t *testing.T, s *stage) {
	for _, phone := range []string{s.a, s.b} {
		s.waitState(t, accountState{Account: phone, Linked: true, Connected: true})
	}
	for _, c := range []struct {
		body, site string
		want       int
	}{
		{`{"phone": "+` + s.a + `"}`, "", http.StatusConflict},
		{`{"phone": "0170 1234567"}`, "", http.StatusBadRequest},
		{`{"phone": ""}`, "", http.StatusBadRequest},
		{`phone`, "", http.StatusBadRequest},
		{`{"phone": "+491701234567"}`, "cross-site", http.StatusForbidden},
	} {
		if got := s.post(t, c.body, c.site); got.status != c.want {
			t.Errorf("%s: got %s, want %d", c.body, got, c.want)
		}
	}
}

// testLoggedOut must be the last one.
func testLoggedOut(t *testing.T, s *stage) {
	media := s.upload("later")
	s.box.Expire(media)
	s.deliver(t, "LATER", &waE2E.Message{ImageMessage: media.Image()})
	s.waitRow(t, "LATER")
	s.phones[s.a].Logout()
	s.waitState(t, accountState{Account: s.a, Linked: false, Connected: false})
	got := s.waitStored(t, "LATER")
	if got.status != http.StatusServiceUnavailable || !strings.Contains(string(got.body), `"retry":false`) {
		t.Errorf("got %s", got)
	}
}

// TestFollowsTheConnection has what an account is after each event, for a client that believes to
// be connected all the time.
func TestFollowsTheConnection(t *testing.T) {
	t.Parallel()
	ended, end := context.WithCancel(t.Context())
	end()
	g := &gateway{log: slog.New(slog.DiscardHandler), running: ended, leases: &leases{times: usualTimes}}
	defer g.background.Wait()
	a := &account{settle: func() {}}
	for _, c := range []struct {
		evt              any
		online, unlinked bool
	}{
		{&events.Connected{}, true, false},
		{&events.StreamReplaced{}, false, false},
		{&events.Connected{}, true, false},
		{&events.LoggedOut{}, false, true},
	} {
		g.handle(a, c.evt)
		if online, unlinked := a.online.Load(), a.unlinked.Load(); online != c.online || unlinked != c.unlinked {
			t.Errorf("after %T: online %v, unlinked %v", c.evt, online, unlinked)
		}
	}
}

// TestConnectedIsLoggedIn connects an account again that was connected, as whatsmeow does after it
// has heard nothing for minutes: without an event. Until it is logged in, it can turn out that it
// was unlinked.
func TestConnectedIsLoggedIn(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	err := s.withGateway(t.Context(), func(context.Context) error {
		s.waitState(t, accountState{Account: s.a, Linked: true, Connected: true})
		a := s.g.account(s.a)
		a.client.Disconnect()
		a.ear.Lock() // so that it is not known when it is logged in
		asked := make(chan bool, 1)
		opening := a.gate.opening
		a.gate.opening = func() {
			go func() { asked <- a.connected() }()
			for !isBlocked("TestConnectedIsLoggedIn", "IsConnected") {
				time.Sleep(time.Millisecond)
			}
			opening()
		}
		if err := a.client.Connect(); err != nil {
			return err
		}
		if <-asked {
			t.Error("it is connected while the connection is made")
		}
		if a.connected() {
			t.Error("it is connected before it is logged in")
		}
		a.ear.Unlock()
		s.waitState(t, accountState{Account: s.a, Linked: true, Connected: true})
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// isBlocked reports whether a goroutine has both names on its stack, and waits for a lock.
func isBlocked(names ...string) bool {
	all := make([]byte, 4<<20)
	for stack := range strings.SplitSeq(string(all[:runtime.Stack(all, true)]), "\n\n") {
		if first, _, _ := strings.Cut(stack, "\n"); strings.Contains(first, "Lock") && !slices.ContainsFunc(names, func(name string) bool { return !strings.Contains(stack, name) }) {
			return true
		}
	}
	return false
}

// TestConnectsInParallel has accounts that WhatsApp is slow to answer: none may wait for another.
func TestConnectsInParallel(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var dialing atomic.Int32
	both, gaveUp := make(chan struct{}), make(chan struct{})
	giveUp := sync.OnceFunc(func() { close(gaveUp) })
	s.cfg.transport = roundTripper(func(r *http.Request) (*http.Response, error) {
		if dialing.Add(1) == 2 {
			close(both)
		}
		<-r.Context().Done()
		giveUp()
		return nil, r.Context().Err()
	})
	g, err := open(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-both:
	case <-gaveUp:
		t.Error("the second account does not connect while the first one does")
	case <-time.After(time.Minute):
		t.Error("nobody connects, or only one does")
	}
	for _, a := range g.list() {
		if a.Connected {
			t.Errorf("%s is said to be connected", a.Account)
		}
	}
	// Nor does anything else wait for it.
	for _, a := range g.here() {
		a.online.Store(true)
	}
	owning := make(chan struct{})
	go func() {
		g.own()
		close(owning)
	}()
	for range 50 {
		g.account("")
		time.Sleep(time.Millisecond)
	}
	defer func() { <-owning }()
	start := time.Now()
	g.close() // a connection that is slow to come up does not keep it
	if took := time.Since(start); took > 3*closeTime {
		t.Errorf("it took %v", took)
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// waitState waits until the list of accounts says something of one of them.
func (s *stage) waitState(t *testing.T, want accountState) {
	t.Helper()
	var list struct{ Accounts []accountState }
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		resp, err := http.Get(s.base + "/accounts")
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(json.NewDecoder(resp.Body).Decode(&list), resp.Body.Close())
		if err != nil {
			t.Fatal(err)
		}
		for _, got := range list.Accounts {
			if got.Gateway = ""; got == want {
				return
			}
		}
	}
	t.Fatalf("got %v, want %v", list.Accounts, want)
}

// post asks for a code.
func (s *stage) post(t *testing.T, body, site string) answer {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, s.base+"/accounts", strings.NewReader(body))
	req.Header.Set("Sec-Fetch-Site", site)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: got}
}

// TestClosedAccountTakesNothing lets whatsmeow hand on a message when the account was closed. If
// that counted as handled, the process that has the account next would not get it.
func TestClosedAccountTakesNothing(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	err := s.withGateway(t.Context(), func(context.Context) error {
		a := s.g.account(s.a)
		a.close()
		//lint:ignore SA1019 there is no other way to a handler without a network
		if failed := a.client.DangerousInternals().DispatchEvent(&events.Message{Message: &waE2E.Message{}}); !failed {
			t.Error("whatsmeow takes it for handled")
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestRetire has an account that goes only when no request needs it, and takes none after that.
func TestRetire(t *testing.T) {
	t.Parallel()
	a := new(account)
	for range 2 {
		if !a.begin() || a.retire() {
			t.Error("it goes while it is used")
		}
	}
	a.end()
	if a.retire() {
		t.Error("it goes while it is used by another one")
	}
	if a.end(); !a.retire() {
		t.Error("it does not go")
	}
	if a.begin() {
		t.Error("it is used after it has gone")
	}
	if err := a.download(t.Context(), nil, nil); !errors.Is(err, errAway) {
		t.Errorf("got %v", err)
	}
}

// TestDownloadsWaitForWhatHasWaited has an account that has just come: the phone may have answered
// what another process has asked.
func TestDownloadsWaitForWhatHasWaited(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.settle = time.Hour
	err := s.withGateway(t.Context(), func(context.Context) error {
		s.waitState(t, accountState{Account: s.a, Linked: true, Connected: true})
		a := s.g.account(s.a)
		select {
		case <-a.settled.Done():
			if err := context.Cause(a.settled); !errors.Is(err, context.Canceled) {
				t.Errorf("nothing but time has ended it: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("it waits although everything has come")
		}
		a.settled = t.Context()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := a.download(ctx, nil, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
