package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
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
	return g.guard(orJSON(mux))
}

// orJSON serves what mux does, and answers in JSON where mux or net/http would in plain text: for a
// path or a method that there is not, and for a part of a file that cannot be had.
func orJSON(mux *http.ServeMux) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mux.ServeHTTP(&plainless{ResponseWriter: w}, r)
	})
}

// A plainless writer puts a failure in the place of a plain text.
type plainless struct {
	http.ResponseWriter
	replaced bool
}

// plain are the failures that net/http answers by itself.
var plain = map[int]string{
	http.StatusNotFound:                     "there is nothing under this path",
	http.StatusMethodNotAllowed:             "this path does not have this method; Allow says which it has",
	http.StatusPreconditionFailed:           "the file is not the one that If-Match names",
	http.StatusRequestedRangeNotSatisfiable: "the file does not have the part that Range names; Content-Range says how long it is",
}

func (w *plainless) WriteHeader(status int) {
	text, ours := plain[status]
	if w.replaced = ours && w.Header().Get("Content-Type") != "application/json"; !w.replaced {
		w.ResponseWriter.WriteHeader(status)
		return
	}
	for _, name := range []string{"Content-Disposition", "Content-Length", "ETag", "Last-Modified"} {
		w.Header().Del(name)
	}
	fail(w.ResponseWriter, failure{status: status, Error: text})
}

func (w *plainless) Write(p []byte) (int, error) {
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom lets the file go to the socket without a detour.
func (w *plainless) ReadFrom(r io.Reader) (int64, error) {
	if w.replaced {
		return io.Copy(io.Discard, r)
	}
	return io.Copy(w.ResponseWriter, r)
}

func (w *plainless) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// longestBody is what a request may have, in bytes.
const longestBody = 1 << 10

// servePair begins to link an account.
func (g *gateway) servePair(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Phone string `json:"phone"`
	}
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, longestBody))
	if err == nil {
		err = json.Unmarshal(raw, &body)
	}
	phone := notDigits.ReplaceAllString(body.Phone, "")
	if err != nil || len(phone) < 7 || len(phone) > 15 || phone[0] == '0' {
		fail(w, failure{status: http.StatusBadRequest, Error: `send {"phone": "+491701234567"}, with the number in international form`})
		return
	}
	if g.pass(w, r, phone, raw) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	code, err := g.pair(ctx, phone)
	switch {
	case errors.Is(err, errLinked):
		fail(w, failure{status: http.StatusConflict, Error: errLinked.Error()})
	case errors.Is(err, errAway), errors.Is(err, errDatabase), errors.Is(err, errNoLease):
		g.log.Warn("An account was not linked", "account", phone, "error", err)
		fail(w, failureOf(err))
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
