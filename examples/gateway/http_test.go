package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// Whatever fails is told in JSON, also what net/http refuses by itself.
func TestFailuresAreJSON(t *testing.T) {
	t.Parallel()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /file", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"abc"`)
		w.Header().Set("Content-Disposition", "inline")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader("0123456789"))
	})
	mux.HandleFunc("GET /ours", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, failure{status: http.StatusNotFound, Error: "ours"})
	})
	g := &gateway{}
	handler := g.guard(orJSON(mux))
	for _, c := range []struct {
		method, path, header, value string
		status                      int
		says                        string
	}{
		{http.MethodGet, "/file", "", "", http.StatusOK, ""},
		{http.MethodGet, "/file", "Range", "bytes=2-3", http.StatusPartialContent, ""},
		{http.MethodGet, "/file", "Range", "bytes=90-", http.StatusRequestedRangeNotSatisfiable, "Range"},
		{http.MethodGet, "/file", "If-Match", `"other"`, http.StatusPreconditionFailed, "If-Match"},
		{http.MethodDelete, "/file", "", "", http.StatusMethodNotAllowed, "method"},
		{http.MethodGet, "/nowhere", "", "", http.StatusNotFound, "nothing under this path"},
		{http.MethodGet, "/ours", "", "", http.StatusNotFound, "ours"},
		{http.MethodPost, "/file", "Sec-Fetch-Site", "cross-site", http.StatusForbidden, "site"},
		{http.MethodPost, "/file", "Origin", "http://evil.example", http.StatusForbidden, "site"},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		var body failure
		err := json.Unmarshal(w.Body.Bytes(), &body)
		isJSON := err == nil && w.Header().Get("Content-Type") == "application/json"
		switch {
		case w.Code != c.status:
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		case c.status < 400 && w.Header().Get("Content-Disposition") != "inline":
			t.Errorf("%s %s: its headers are %v", c.method, c.path, w.Header())
		case c.status >= 400 && (!isJSON || !strings.Contains(body.Error, c.says) || body.Retry || w.Header().Get("Content-Disposition") != ""):
			t.Errorf("%s %s: got %d, %v, %q", c.method, c.path, w.Code, w.Header(), w.Body)
		case c.status == http.StatusMethodNotAllowed && w.Header().Get("Allow") != "GET, HEAD":
			t.Errorf("%s %s: allowed is %q", c.method, c.path, w.Header().Get("Allow"))
		case c.status == http.StatusRequestedRangeNotSatisfiable && w.Header().Get("Content-Range") != "bytes */10":
			t.Errorf("%s %s: the range is %q", c.method, c.path, w.Header().Get("Content-Range"))
		}
	}
}

// TestHandlerSpeaksJSON has what there is not from the gateway's own handler.
func TestHandlerSpeaksJSON(t *testing.T) {
	t.Parallel()
	g := &gateway{cfg: defaults(), cache: newTestCache(t, cacheConfig{}), responses: newResponses(), passed: newPassed(), timings: newTimings()}
	handler := g.handler()
	for request, want := range map[string]int{
		"GET /nowhere":     http.StatusNotFound,
		"DELETE /accounts": http.StatusMethodNotAllowed,
		"POST /accounts/491701234567/chats/1/messages/2/media": http.StatusMethodNotAllowed,
	} {
		method, path, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, "http://127.0.0.1:8080"+path, nil))
		var body failure
		err := json.Unmarshal(w.Body.Bytes(), &body)
		if w.Code != want || err != nil || body.Error == "" || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: got %d, %v, %q", request, w.Code, w.Header(), w.Body)
		}
		if want == http.StatusMethodNotAllowed && !strings.Contains(w.Header().Get("Allow"), http.MethodGet) {
			t.Errorf("%s: allowed is %q", request, w.Header().Get("Allow"))
		}
	}
}
