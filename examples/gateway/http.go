package main

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// handler returns the endpoints.
func (g *gateway) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /accounts/{account}/chats/{chat}/messages/{id}/media", g.counted(g.serveMedia))
	mux.HandleFunc("GET /accounts", g.serveList)
	mux.HandleFunc("POST /accounts", g.servePair)
	mux.HandleFunc("GET /{$}", g.servePage)
	mux.Handle("GET /metrics", g.metricsHandler())
	mux.HandleFunc("GET /livez", g.serveLive)
	mux.HandleFunc("GET /readyz", g.serveReady)
	return g.guard(mux)
}

// servePair begins to link an account.
func (g *gateway) servePair(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Phone string `json:"phone"`
	}
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<10)).Decode(&body)
	phone := notDigits.ReplaceAllString(body.Phone, "")
	if err != nil || len(phone) < 7 || len(phone) > 15 || phone[0] == '0' {
		fail(w, failure{status: http.StatusBadRequest, Error: `send {"phone": "+491701234567"}, with the number in international form`})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	code, err := g.pair(ctx, phone)
	switch {
	case errors.Is(err, errLinked):
		fail(w, failure{status: http.StatusConflict, Error: errLinked.Error()})
	case err != nil:
		g.log.Warn("An account was not linked", "account", phone, "error", err)
		fail(w, failure{status: http.StatusBadGateway, Error: errNoCode.Error(), Retry: true, after: 5 * time.Minute})
	default:
		writeJSON(w, http.StatusAccepted, map[string]any{
			"code": code, "expires_in": pairingTime.Seconds(),
			"hint": "type the code on the phone: WhatsApp > Linked devices > Link a device > Link with phone number",
		})
	}
}

var notDigits = regexp.MustCompile(`[^0-9]`)

func (g *gateway) serveList(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"accounts": g.list()})
}

func fail(w http.ResponseWriter, what failure) {
	w.Header().Set("Cache-Control", "no-store")
	if what.after > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(what.after.Seconds())))
	}
	writeJSON(w, what.status, what)
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false) // what is said has > in it, and is read by people too
	_ = encoder.Encode(body)     // it fails only if the caller has gone
}
