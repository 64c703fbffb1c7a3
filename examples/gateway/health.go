package main

import (
	"context"
	"net/http"
	"time"
)

// serveLive says that the process answers. A supervisor that gets no answer may restart it.
// Accounts do not matter: a restart does not bring back a phone.
func (g *gateway) serveLive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
}

// serveReady says whether requests should be sent here: the database is there, and the gateway is
// not about to end.
func (g *gateway) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	what, status := "ready", http.StatusOK
	if g.draining.Load() {
		what, status = "shutting down", http.StatusServiceUnavailable
	} else if err := g.db.PingContext(ctx); err != nil {
		what, status = "the database does not answer", http.StatusServiceUnavailable
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, status, map[string]string{"status": what})
}
