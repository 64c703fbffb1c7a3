package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// A pair is two gateways on one database, in this process, that have an account each.
type pair struct {
	*stage
	gateways [2]*gateway
	servers  [2]string
}

const pairToken = "0123456789abcdef"

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{stage: newStage(t)}
	p.cfg.token, p.cfg.leases.beat = pairToken, 50*time.Millisecond
	for i := range p.gateways {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		cfg := p.cfg
		if cfg.peerURL, err = cfg.peer(listener.Addr()); err != nil {
			t.Fatal(err)
		}
		g, err := open(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		ended := make(chan error, 1)
		go func() { ended <- g.serve(ctx, listener) }()
		p.gateways[i], p.servers[i] = g, cfg.peerURL
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil && !errors.Is(err, errNoLease) {
				t.Error(err)
			}
			g.close()
		})
	}
	for deadline := time.Now().Add(time.Minute); !p.isShared(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the accounts are not shared: %v, %v", p.gateways[0].list(), p.gateways[1].list())
		}
	}
	return p
}

// isShared reports whether each gateway has an account, and knows what the other one has.
func (p *pair) isShared() bool {
	for _, g := range p.gateways {
		if own := g.own(); len(own) != 1 || !own[0].Connected {
			return false
		}
		for _, state := range g.list() {
			if !state.Connected || state.Gateway != p.servers[0] && state.Gateway != p.servers[1] {
				return false
			}
		}
		if present := g.leases.present(); present.count(g.leases.process) != 1 || len(present.processes) != 2 {
			return false
		}
	}
	return true
}

// of returns the number of the gateway that has an account.
func (p *pair) of(account string) int {
	if p.gateways[0].account(account) != nil {
		return 0
	}
	return 1
}

// do sends a request to one of the gateways.
func (p *pair) do(t *testing.T, gateway int, method, path, body string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, p.servers[gateway]+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("anybody", pairToken)
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength, body: got}
}

// TestPass asks each of two gateways for what the other one has.
func TestPass(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	path := func(id types.MessageID) string {
		return fmt.Sprintf("/accounts/%s/chats/%s/messages/%s/media", p.a, sender, id)
	}
	here := p.of(p.a)
	away := 1 - here
	content := strings.Repeat("0123456789", 100_000)
	media := p.upload(content)
	p.box.Expire(media)
	p.deliver(t, "FILE", &waE2E.Message{ImageMessage: media.Image()})
	p.g = p.gateways[0]
	p.waitRow(t, "FILE")

	got := p.do(t, away, http.MethodGet, path("FILE"), "")
	if got.status != http.StatusOK || string(got.body) != content || got.length != int64(len(content)) {
		t.Errorf("got %s", got)
	}
	if asked := p.phones[p.a].RequestCount(); asked != 1 {
		t.Errorf("the phone was asked %d times", asked)
	}
	if local := p.do(t, here, http.MethodGet, path("FILE"), ""); local.header.Get("ETag") != got.header.Get("ETag") ||
		local.header.Get("Content-Disposition") != got.header.Get("Content-Disposition") {
		t.Errorf("got %v, and without a detour %v", got.header, local.header)
	}
	etag := got.header.Get("ETag")
	for _, c := range []struct {
		method, header, value string
		status                int
		body                  string
	}{
		{http.MethodGet, "Range", "bytes=1-6", http.StatusPartialContent, "123456"},
		{http.MethodGet, "Range", "bytes=9999999-", http.StatusRequestedRangeNotSatisfiable, ""},
		{http.MethodGet, "If-None-Match", etag, http.StatusNotModified, ""},
		{http.MethodHead, "X-Nothing", "", http.StatusOK, ""},
	} {
		got := p.do(t, away, c.method, path("FILE"), "", c.header, c.value)
		if got.status != c.status || c.body != "" && string(got.body) != c.body {
			t.Errorf("%s with %s %s: got %s", c.method, c.header, c.value, got)
		}
	}
	for _, id := range []types.MessageID{"NONE", "A%2FB", "%FF", "'", "a%20b?c=d"} {
		if got := p.do(t, away, http.MethodGet, path(id), ""); got.status != http.StatusNotFound {
			t.Errorf("%s: got %s", id, got)
		}
	}
	lid := fmt.Sprintf("/accounts/%s/chats/%s/messages/FILE/media", p.a, senderLID)
	if got := p.do(t, away, http.MethodGet, lid, ""); got.status != http.StatusOK {
		t.Errorf("under the chat's other address: got %s", got)
	}
	// A request with a body that it does not need.
	if got := p.do(t, away, http.MethodGet, path("FILE"), "body"); got.status != http.StatusOK {
		t.Errorf("got %s", got)
	}
	// Callers do not see how gateways talk to each other, and cannot do it.
	if got.header.Get(answeredHeader) != "" {
		t.Errorf("got %v", got.header)
	}
	if got := p.do(t, here, http.MethodGet, path("FILE"), "", passedHeader, "1"); got.status != http.StatusUnauthorized {
		t.Errorf("got %s", got)
	}
	// Linking, too.
	if got := p.do(t, away, http.MethodPost, "/accounts", `{"phone": "+`+p.a+`"}`, "Origin", p.servers[away]); got.status != http.StatusConflict {
		t.Errorf("got %s", got)
	}
	// Both say who has what.
	want := map[string]string{p.a: p.servers[here], p.b: p.servers[away]}
	for i, g := range p.gateways {
		for _, state := range g.list() {
			if !state.Linked || !state.Connected || state.Gateway != want[state.Account] {
				t.Errorf("%d says %+v", i, state)
			}
		}
		text := string(p.do(t, i, http.MethodGet, "/metrics", "").body)
		for _, want := range []string{"gateway_leases 1\n", "gateway_accounts 2\n", "gateway_accounts_unleased 0\n", "gateway_processes 2\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%d: there is no %q", i, want)
			}
		}
		if passes := !strings.Contains(text, "gateway_passed_requests_total 0\n"); passes != (i == away) {
			t.Errorf("%d passes requests on: %v", i, passes)
		}
	}
}

// TestPassNeedsAnAccount asks for accounts that no gateway has.
func TestPassNeedsAnAccount(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	db := p.gateways[0].leases.db
	if _, err := db.ExecContext(t.Context(), `
INSERT INTO gateway_process (url, until) VALUES ('http://127.0.0.1:1', now() + '1 hour')`); err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), `
INSERT INTO gateway_lease (account, process) SELECT '4915550000001', max(id) FROM gateway_process`); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); len(p.gateways[0].list()) < 3 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	path := fmt.Sprintf("/accounts/4915550000001/chats/%s/messages/FILE/media", sender)
	got := p.do(t, 0, http.MethodGet, path, "")
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" || !strings.Contains(string(got.body), `"retry":true`) {
		t.Errorf("where nothing listens: got %s, %v", got, got.header)
	}
	got = p.do(t, 0, http.MethodPost, "/accounts", `{"phone": "+4915550000001"}`)
	if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
		t.Errorf("linking where nothing listens: got %s, %v", got, got.header)
	}
}

// TestPassLeavesTheStopped has a gateway that accepts requests and says nothing, until it loses the
// account to the one that was asked.
func TestPassLeavesTheStopped(t *testing.T) {
	t.Parallel()
	l := &leases{process: 1, times: leaseTimes{beat: 5 * time.Millisecond}}
	g := &gateway{log: slog.New(slog.DiscardHandler), leases: l, accounts: make(map[string]*account), passed: newPassed(), timings: newTimings(), responses: newResponses()}
	g.cfg.token = pairToken
	asked := make(chan struct{}, 1)
	stopped := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" || r.Header.Get(passedHeader) == "" ||
			strings.Contains(fmt.Sprint(r.Header), pairToken) {
			t.Errorf("got %v", r.Header)
		}
		asked <- struct{}{}
		<-r.Context().Done()
	}))
	defer stopped.Close()
	l.board = board{processes: []int64{1, 2}, urls: map[int64]string{2: stopped.URL}, leases: []lease{{account: "1", process: 2, linked: true}}}
	go func() {
		<-asked
		g.mu.Lock()
		g.accounts["1"] = new(account)
		g.mu.Unlock()
		l.mu.Lock()
		l.board = board{processes: []int64{1}, leases: []lease{{account: "1", process: 1, linked: true}}}
		l.mu.Unlock()
	}()
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Authorization", "Bearer "+pairToken)
	r.Header.Set("Cookie", "a=b")
	w := httptest.NewRecorder()
	if g.pass(w, r, "1", nil) || w.Body.Len() > 0 {
		t.Errorf("it has answered: %d %s", w.Code, w.Body)
	}
}

// TestLeavesAtOnce ends one of two gateways: the other one has its account without waiting for
// leases to run out.
func TestLeavesAtOnce(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	if n := len(p.gateways[1].own()); n != 1 {
		t.Fatalf("it has %d accounts", n)
	}
	p.gateways[1].close()
	begin := time.Now()
	for len(p.gateways[0].own()) < 2 {
		if time.Sleep(10 * time.Millisecond); time.Since(begin) > p.cfg.leases.life/2 {
			t.Fatal("the account is not taken over")
		}
	}
}

// TestPeerURL has what a gateway tells the others of itself.
func TestPeerURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ flag, listening, want string }{
		{"", "127.0.0.1:8080", "http://127.0.0.1:8080"},
		{"", "[::1]:8080", "http://[::1]:8080"},
		{"http://gateway-1:8080/", "0.0.0.0:80", "http://gateway-1:8080"},
		{"https://gateway-1", "0.0.0.0:80", "https://gateway-1"},
		{"gateway-1:8080", "0.0.0.0:80", ""},
		{"http://user:secret@gateway-1", "0.0.0.0:80", ""},
		{"http://gateway-1/path", "0.0.0.0:80", ""},
		{"ftp://gateway-1", "0.0.0.0:80", ""},
	} {
		address, err := net.ResolveTCPAddr("tcp", c.listening)
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&config{peerURL: c.flag}).peer(address)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
	all := &net.TCPAddr{IP: net.IPv6unspecified, Port: 8080}
	if got, err := new(config).peer(all); err != nil || !strings.HasSuffix(got, ":8080") || strings.Contains(got, "[") {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestPageTellsWhoHasWhat looks at the pages of two gateways.
func TestPageTellsWhoHasWhat(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for i := range p.gateways {
		page := string(p.do(t, i, http.MethodGet, "/", "").body)
		other := p.servers[1-i]
		if want := fmt.Sprintf(`at <a href="%s/">%s</a>`, other, strings.TrimPrefix(other, "http://")); strings.Count(page, want) != 1 {
			t.Errorf("%d: there is not one %s", i, want)
		}
		if strings.Contains(page, `<a href="`+p.servers[i]) || !strings.Contains(page, `2 <small>of 2</small>`) {
			t.Errorf("%d: got\n%s", i, page)
		}
	}
}

// TestLinkIsLeased links an account at one of two gateways: no other one may connect it, neither
// while that goes on nor after it.
func TestLinkIsLeased(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	phone := p.box.NewPhone()
	link := fmt.Sprintf(`{"phone": "+%s"}`, phone.PN.User)
	got := p.do(t, 0, http.MethodPost, "/accounts", link)
	var body struct{ Code string }
	if err := json.Unmarshal(got.body, &body); err != nil || got.status != http.StatusAccepted {
		t.Fatalf("got %s, %v", got, err)
	}
	if _, mine, err := p.gateways[1].leases.claim(t.Context(), phone.PN.User); mine || err != nil {
		t.Errorf("another one can claim it: %v", err)
	}
	for _, state := range p.gateways[0].list() {
		if state.Account == phone.PN.User {
			t.Errorf("it is listed before the code was typed: %+v", state)
		}
	}
	if err := phone.EnterCode(t.Context(), body.Code); err != nil {
		t.Fatal(err)
	}
	for _, g := range p.gateways {
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			if i := slices.Index(g.list(), accountState{phone.PN.User, true, true, p.servers[0]}); i >= 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s says %v", g.cfg.peerURL, g.list())
			}
		}
	}
	if n := phone.Logins(); n != 1 {
		t.Errorf("it has logged in %d times", n)
	}
	if got := p.do(t, 1, http.MethodPost, "/accounts", link); got.status != http.StatusConflict {
		t.Errorf("got %s", got)
	}
}

// TestNotLinkedIsFree has a code that is never typed.
func TestNotLinkedIsFree(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	phone := s.box.NewPhone().PN.User
	err := s.withGateway(t.Context(), func(context.Context) error {
		pairing, cancel := context.WithCancel(t.Context())
		if _, err := s.g.pair(pairing, phone); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := s.g.pair(t.Context(), phone); !errors.Is(err, errAway) {
			t.Errorf("it is linked twice at once: %v", err)
		}
		if got := whoHas(t, s.g.leases, phone); got[0] != s.g.leases.process {
			t.Errorf("it is with %v", got)
		}
		claimed, ok, err := s.g.leases.claim(t.Context(), phone)
		if !ok || err != nil {
			t.Fatal(err)
		}
		s.g.notLinked(claimed, phone)
		for deadline := time.Now().Add(time.Minute); whoHas(t, s.g.leases, phone)[0] != -1; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it is with %v", whoHas(t, s.g.leases, phone))
			}
		}
		s.g.notLinked(lease{account: s.a, term: s.g.account(s.a).term}, s.a) // which was linked before
		if got := whoHas(t, s.g.leases, s.a); got[0] != s.g.leases.process {
			t.Errorf("it is with %v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// A peer is what a gateway of a test takes for another one.
type peer struct {
	*gateway
	url   string
	asked atomic.Int32
}

// newPeer serves requests that are passed on to process 2.
func newPeer(t *testing.T, token string, handler http.HandlerFunc) *peer {
	t.Helper()
	p := &peer{gateway: &gateway{cfg: config{token: token}}}
	guarded := p.withToken(handler)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.asked.Add(1)
		guarded.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	return p
}

// passingTo returns process 1, which knows that process 2 has the account 1, at a URL.
func passingTo(url string) *gateway {
	return &gateway{log: slog.New(slog.DiscardHandler), passed: newPassed(), cfg: config{token: pairToken}, leases: &leases{
		process: 1, times: leaseTimes{beat: time.Millisecond},
		board: board{processes: []int64{1, 2}, urls: map[int64]string{2: url}, leases: []lease{{account: "1", process: 2, linked: true}}},
	}}
}

// TestPassTriesAgain has a gateway that has just taken an account, and not begun to serve it.
func TestPassTriesAgain(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ method, body string }{{http.MethodGet, ""}, {http.MethodPost, "body"}} {
		asked := 0
		taking := newPeer(t, pairToken, func(w http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err != nil || string(body) != c.body {
				t.Errorf("got %q, %v", body, err)
			}
			if asked++; asked < 3 {
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		})
		r, w := httptest.NewRequest(c.method, "/", strings.NewReader(c.body)), httptest.NewRecorder()
		if !passingTo(taking.url).pass(w, r, "1", []byte(c.body)) || w.Code != http.StatusOK || asked != 3 {
			t.Errorf("got %d, it was asked %d times", w.Code, asked)
		}
	}
}

// TestPassSendsOnce has a gateway that hangs up on what it may have done already.
func TestPassSendsOnce(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]int32{http.MethodGet: passTries, http.MethodPost: 1} {
		broken := newPeer(t, pairToken, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
		r, w := httptest.NewRequest(method, "/", strings.NewReader("body")), httptest.NewRecorder()
		if passingTo(broken.url).pass(w, r, "1", []byte("body")) || broken.asked.Load() != want {
			t.Errorf("%s was sent %d times, want %d", method, broken.asked.Load(), want)
		}
	}
}

// TestPassNotToItself has a process that was killed, and whose URL is that of its successor.
func TestPassNotToItself(t *testing.T) {
	t.Parallel()
	twin := newPeer(t, pairToken, func(http.ResponseWriter, *http.Request) {})
	g := passingTo(twin.url)
	g.cfg.peerURL = twin.url
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	if g.pass(w, r, "1", nil) || twin.asked.Load() > 0 {
		t.Errorf("it asked itself %d times", twin.asked.Load())
	}
}

// TestPassKnowsStrangers has other programs at a URL that the database names. What they say of a
// file counts for nothing, neither that it is gone nor a file of theirs.
func TestPassKnowsStrangers(t *testing.T) {
	t.Parallel()
	hello := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }
	stranger := httptest.NewServer(http.HandlerFunc(hello))
	defer stranger.Close()
	lost := httptest.NewServer(http.NotFoundHandler())
	defer lost.Close()
	for what, url := range map[string]string{
		"a server that says hello": stranger.URL, "one that has nothing": lost.URL,
		"a gateway with another token": newPeer(t, "another token of some length", hello).url,
		"a gateway without a token":    newPeer(t, "", hello).url,
	} {
		r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
		if passingTo(url).pass(w, r, "1", nil) || w.Body.Len() > 0 {
			t.Errorf("%s answers: %d %s", what, w.Code, w.Body)
		}
	}
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	if !passingTo(newPeer(t, pairToken, hello).url).pass(w, r, "1", nil) || w.Body.String() != "hello" {
		t.Errorf("a gateway does not answer: %d %s", w.Code, w.Body)
	}
}

// TestPassIsForOneRequest takes the mark of a request that was passed on, and puts it on others.
func TestPassIsForOneRequest(t *testing.T) {
	t.Parallel()
	l := &leases{process: 2}
	g := &gateway{cfg: config{token: pairToken}, leases: l, accounts: map[string]*account{"1": new(account)}}
	handler := g.withToken(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.pass(w, r, "1", nil) {
			fmt.Fprint(w, "answered")
		}
	}))
	marked := func(to int64, method, uri, body string) string {
		r := httptest.NewRequest(method, uri, nil)
		newPassing(to).sign(pairToken, r, []byte(body))
		return r.Header.Get(passedHeader)
	}
	good := marked(2, http.MethodGet, "/file?a=b", "")
	for _, c := range []struct {
		what, mark, method, uri, body string
		want                          int
	}{
		{"the request", good, http.MethodGet, "/file?a=b", "", http.StatusOK},
		{"another path", good, http.MethodGet, "/other?a=b", "", http.StatusUnauthorized},
		{"another query", good, http.MethodGet, "/file?a=c", "", http.StatusUnauthorized},
		{"another method", good, http.MethodPost, "/file?a=b", "", http.StatusUnauthorized},
		{"another body", good, http.MethodGet, "/file?a=b", "body", http.StatusUnauthorized},
		{"another process", strings.Replace(good, "2", "3", 1), http.MethodGet, "/file?a=b", "", http.StatusUnauthorized},
		{"a process that was here before", marked(1, http.MethodGet, "/file", ""), http.MethodGet, "/file", "", http.StatusMisdirectedRequest},
		{"no proof", "2 nonce", http.MethodGet, "/file?a=b", "", http.StatusUnauthorized},
		{"no number", "x y z", http.MethodGet, "/file?a=b", "", http.StatusUnauthorized},
		{"a body without an end", good, http.MethodGet, "/file?a=b", strings.Repeat("x", longestBody+1), http.StatusUnauthorized},
	} {
		r, w := httptest.NewRequest(c.method, c.uri, strings.NewReader(c.body)), httptest.NewRecorder()
		r.Header.Set(passedHeader, c.mark)
		if handler.ServeHTTP(w, r); w.Code != c.want {
			t.Errorf("%s: got %d %s", c.what, w.Code, w.Body)
		}
	}
}

// TestPassKeepsWhatHasBegun moves an account while another gateway sends a file of it.
func TestPassKeepsWhatHasBegun(t *testing.T) {
	t.Parallel()
	var g *gateway
	slow := newPeer(t, pairToken, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "begin")
		_ = http.NewResponseController(w).Flush()
		for !g.isHere("1") {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * g.leases.times.beat)
		fmt.Fprint(w, " end")
	})
	g = passingTo(slow.url)
	g.accounts = make(map[string]*account)
	w := &beginning{ResponseRecorder: httptest.NewRecorder(), begun: make(chan struct{})}
	go func() {
		<-w.begun
		g.leases.mu.Lock()
		g.leases.board = board{}
		g.leases.mu.Unlock()
		g.mu.Lock()
		g.accounts["1"] = new(account)
		g.mu.Unlock()
	}()
	if !g.pass(w, httptest.NewRequest(http.MethodGet, "/", nil), "1", nil) || w.Body.String() != "begin end" {
		t.Errorf("got %d %q", w.Code, w.Body)
	}
}

type beginning struct {
	*httptest.ResponseRecorder
	once  sync.Once
	begun chan struct{}
}

func (b *beginning) WriteHeader(status int) {
	b.ResponseRecorder.WriteHeader(status)
	b.once.Do(func() { close(b.begun) })
}

// TestStallingBody has a gateway that stops in the middle of a file.
func TestStallingBody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		from, to := io.Pipe()
		body := &stallingBody{from, func() { to.CloseWithError(errStalled) }}
		go func() {
			for range 3 {
				time.Sleep(stallTime - time.Second)
				_, _ = to.Write([]byte("a"))
			}
		}()
		got, err := io.ReadAll(body)
		if string(got) != "aaa" || err != errStalled {
			t.Errorf("got %q, %v", got, err)
		}
		time.Sleep(time.Hour)
	})
}

// TestPassLooksAgain asks for an account that another gateway has linked a moment ago.
func TestPassLooksAgain(t *testing.T) {
	t.Parallel()
	dsn := newDatabase(t)
	other := newPeer(t, pairToken, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	l1, _ := joined(t, dsn, "http://1")
	l2, _ := joined(t, dsn, other.url)
	if _, ok, err := l2.claim(t.Context(), "1"); !ok || err != nil {
		t.Fatal(err)
	}
	g := &gateway{log: slog.New(slog.DiscardHandler), passed: newPassed(), cfg: config{token: pairToken}, leases: l1}
	r, w := httptest.NewRequest(http.MethodGet, "/", nil), httptest.NewRecorder()
	if !g.pass(w, r, "1", nil) || w.Body.String() != "hello" {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
}
