package main

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWhoMayAsk(t *testing.T) {
	t.Parallel()
	g := &gateway{cfg: config{host: "media.example.org"}}
	handler := g.ownHostOnly(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []struct {
		host, site string
		want       int
	}{
		{"127.0.0.1:8080", "", http.StatusOK},
		{"localhost:8080", "same-origin", http.StatusOK},
		{"[::1]:8080", "", http.StatusOK},
		{"media.example.org", "", http.StatusOK},
		{"evil.example:8080", "", http.StatusForbidden},
		{"127.0.0.1.evil.example", "same-origin", http.StatusForbidden},
		{"127.0.0.1:8080", "cross-site", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodGet, "/accounts", nil)
		r.Host = c.host
		r.Header.Set("Sec-Fetch-Site", c.site)
		local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, local)))
		if w.Code != c.want {
			t.Errorf("%s, %s: %d, want %d", c.host, c.site, w.Code, c.want)
		}
	}
}

// TestOtherSitesMayNotPost, whatever a browser says of where it comes from.
func TestOtherSitesMayNotPost(t *testing.T) {
	t.Parallel()
	g := &gateway{}
	handler := g.guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, c := range []struct {
		header, value string
		want          int
	}{
		{"Origin", "http://127.0.0.1:8080", http.StatusOK},
		{"Origin", "http://evil.example", http.StatusForbidden},
		{"Origin", "null", http.StatusForbidden},
		{"Sec-Fetch-Site", "same-origin", http.StatusOK},
		{"Sec-Fetch-Site", "same-site", http.StatusForbidden}, // localhost:3000
		{"Sec-Fetch-Site", "cross-site", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodPost, "/accounts", nil)
		r.Host = "127.0.0.1:8080"
		r.Header.Set(c.header, c.value)
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.header, c.value, w.Code, c.want)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	g := &gateway{cfg: config{token: token}, log: slog.New(slog.DiscardHandler), cache: newTestCache(t, cacheConfig{}), responses: newResponses(), passed: newPassed(), timings: newTimings()}
	server := httptest.NewServer(g.handler())
	t.Cleanup(server.Close)
	for _, c := range []struct {
		header, user, password string
		want                   int
	}{
		{"", "", "", http.StatusUnauthorized},
		{"Bearer", "", "", http.StatusUnauthorized},
		{"Bearer ", "", "", http.StatusUnauthorized},
		{"Bearer 0123456789abcdeX", "", "", http.StatusUnauthorized},
		{"Bearer 0123456789abcdef0", "", "", http.StatusUnauthorized},
		{token, "", "", http.StatusUnauthorized},
		{"Bearer " + token, "", "", http.StatusOK},
		{"bearer  " + token, "", "", http.StatusOK},
		{"", "anybody", token, http.StatusOK},
		{"", token, "", http.StatusUnauthorized},
	} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/accounts", nil)
		if c.header != "" {
			req.Header.Set("Authorization", c.header)
		} else if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.want || strings.Contains(string(body), token) {
			t.Errorf("%+v: got %d %s, want %d", c, resp.StatusCode, body, c.want)
		}
		if c.want == http.StatusUnauthorized && len(resp.Header.Values("WWW-Authenticate")) != 2 {
			t.Errorf("%+v: a browser is not told to ask for a password", c)
		}
	}
}

func TestAddress(t *testing.T) {
	t.Parallel()
	const token = "0123456789abcdef"
	for _, c := range []struct{ listen, token, complaint string }{
		{"127.0.0.1:8080", "", ""},
		{"localhost:8080", "", ""},
		{"[::1]:8080", "", ""},
		{":8080", "", "GATEWAY_TOKEN"},
		{"0.0.0.0:8080", "", "GATEWAY_TOKEN"},
		{"[::]:8080", "", "GATEWAY_TOKEN"},
		{"192.0.2.1:8080", "", "GATEWAY_TOKEN"},
		{":8080", token, ""},
		{":8080", "short", "GATEWAY_TOKEN"},
		{"127.0.0.1:8080", "short", "GATEWAY_TOKEN"},
		{":8080", token + "\n", "GATEWAY_TOKEN"},
		{"8080", "", "-listen"},
	} {
		cfg := config{listen: c.listen, token: c.token}
		address, err := cfg.address()
		if (err == nil) != (c.complaint == "") || err == nil && address == nil || err != nil && !strings.Contains(err.Error(), c.complaint) {
			t.Errorf("%+v: got %v, %v", c, address, err)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("%+v: the error has the token: %v", c, err)
		}
	}
	// Before it opens a database, or anything else.
	if err := run(t.Context(), config{listen: ":0"}); err == nil || !strings.Contains(err.Error(), "GATEWAY_TOKEN") {
		t.Errorf("got %v", err)
	}
}
