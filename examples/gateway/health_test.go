package main

import (
	"context"
	"database/sql"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

func status(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// TestHealth needs no token, and no database to be alive.
func TestHealth(t *testing.T) {
	t.Parallel()
	db, err := sql.Open(driver, "host=/nonexistent")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	g := &gateway{cfg: defaults(), db: db, cache: newTestCache(t, cacheConfig{}), responses: newResponses(), passed: newPassed(), timings: newTimings()}
	g.cfg.token = "0123456789abcdef"
	server := httptest.NewServer(g.handler())
	t.Cleanup(server.Close)
	for path, want := range map[string]int{
		"/livez": http.StatusOK, "/readyz": http.StatusServiceUnavailable, "/accounts": http.StatusUnauthorized,
	} {
		if got := status(t, server.URL+path); got != want {
			t.Errorf("%s: got %d, want %d", path, got, want)
		}
	}
}

// TestDrains ends a gateway whose load balancer needs a moment to see it.
func TestDrains(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.drain = 5 * time.Second
	g, err := open(t.Context(), s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer g.close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	base := "http://" + listener.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.serve(ctx, listener) }()
	if got := status(t, base+"/readyz"); got != http.StatusOK {
		t.Errorf("it is not ready: %d", got)
	}
	stop()
	for deadline := time.Now().Add(s.cfg.drain - time.Second); status(t, base+"/readyz") == http.StatusOK; {
		if time.Now().After(deadline) {
			t.Fatal("it is still ready")
		}
		time.Sleep(time.Millisecond)
	}
	if got := status(t, base+"/accounts"); got != http.StatusOK {
		t.Errorf("requests are not taken any more: %d", got)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
