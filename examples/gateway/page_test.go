package main

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// TestPage looks at the page of a gateway that has something to tell, as a browser does that
// knows the token.
func TestPage(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	s := newStage(t)
	err := s.withGateway(t.Context(), func(context.Context) error {
		heals, lost := s.upload("heals"), s.upload("lost")
		for id, media := range map[types.MessageID]*waE2E.ImageMessage{"HEALS": heals.Image(), "LOST": lost.Image()} {
			s.deliver(t, id, &waE2E.Message{ImageMessage: media})
			s.waitRow(t, id)
		}
		s.box.Expire(heals)
		s.box.Expire(lost)
		s.phones[s.a].Forget("LOST")
		s.ask(t, http.MethodGet, "HEALS")
		s.ask(t, http.MethodGet, "LOST")
		s.phones[s.b].Logout()
		s.waitState(t, accountState{Account: s.b, Linked: false, Connected: false})

		b.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true})
		b.open(s.base + "/")
		for selector, want := range map[string]string{
			"h1":         "Media gateway",
			"#connected": "1 of 2", "#healed": "1 of 2 expired", "#waiting": "0",
			"#a" + s.a + " .state": "connected", "#a" + s.a + " .cause": "not_found 1", "#a" + s.a + " [data-name=Healed]": "1",
			"#a" + s.b + " .state": "unlinked", "#a" + s.b + " .none": "none",
		} {
			if got := b.text(selector); got != want {
				t.Errorf("%s: got %q, want %q", selector, got, want)
			}
		}
		if got := b.complaints(); len(got) > 0 {
			t.Errorf("the browser complains: %v", got)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// full is a page with all that can be on it.
func full() pageView {
	causes := []pageCause{{"phone_silent", 1234}, {"timeout", 321}, {"not_found", 48}, {"handler_blocked", 12}, {"deadline_exceeded", 3}, {"<b>other", 1}}
	return pageView{
		Style: template.CSS(pageCSS), Now: time.Date(2026, 7, 1, 12, 30, 0, 0, time.UTC), Up: 1234*time.Hour + 5*time.Second,
		Connected: 1, Healed: 91_234, Expired: 99_876, Waiting: 32, Dropped: 2, CacheFiles: 812, CacheBytes: 3021, CacheLimit: 4096, Downloads: 7,
		Accounts: []pageAccount{
			{accountState{Account: "4915112345678", Linked: true, Connected: true}, "", reupload.Stats{Healthy: 1_234_567, Expired: 98_765, Healed: 91_200, Late: 321, Waiting: 30}, causes},
			{accountState{Account: "447700900123", Linked: true, Connected: false}, "", reupload.Stats{Healthy: 4321, Expired: 111, Healed: 34, Waiting: 2}, causes[:1]},
			{accountState{Account: "15550000001", Linked: false, Connected: false}, "", reupload.Stats{}, nil},
			{accountState{Account: "15550000002", Linked: true, Connected: true, Gateway: "http://gateway-2.media.example.org:8080"}, "gateway-2.media.example.org:8080", reupload.Stats{}, nil},
			{accountState{Account: "15550000003", Linked: true}, "no gateway", reupload.Stats{}, nil},
		},
	}
}

// TestPageLayout looks at a full page and at an empty one, on a phone and on a desk, by day and by
// night. With SCREENSHOTS=dir it writes down what it sees.
func TestPageLayout(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	empty := pageView{Style: template.CSS(pageCSS), Now: time.Unix(0, 0).UTC(), CacheLimit: 4096}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/full" {
			writePage(w, full())
		} else {
			writePage(w, empty)
		}
	}))
	t.Cleanup(server.Close)
	for _, width := range []int{320, 390, 760, 970, 1280} {
		for _, name := range []string{"full", "empty"} {
			b.resize(width, width == 390 || width == 1280 && name == "empty")
			b.open(server.URL + "/" + name)
			if got := b.eval("document.documentElement.scrollWidth"); got != float64(width) {
				t.Errorf("%s in %d: it is %v wide", name, width, got)
			}
			// No text may stick out of what it is in.
			if got := b.eval(`[...document.querySelectorAll("dd, td, th, .cause, h1, header p")].filter(e =>
				e.getClientRects().length && e.closest("thead") === null && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== "inline").map(e => e.innerText).join("; ")`); got != "" {
				t.Errorf("%s in %d: too narrow for %v", name, width, got)
			}
			// The style is used, although nothing else may be.
			if got := b.eval(`getComputedStyle(document.querySelector(".totals")).display`); got != "grid" {
				t.Errorf("%s in %d: the style is not used: %v", name, width, got)
			}
			if got := b.complaints(); len(got) > 0 {
				t.Errorf("%s in %d: the browser complains: %v", name, width, got)
			}
			if dir := os.Getenv("SCREENSHOTS"); dir != "" {
				b.screenshot(filepath.Join(dir, fmt.Sprintf("%s-%d.png", name, width)))
			}
		}
	}
	b.open(server.URL + "/full")
	if got := b.text("#a4915112345678 .cause:last-child"); got != "<b>other 1" {
		t.Errorf("a label is taken for HTML: %q", got)
	}
	if got := b.text("#dropped"); got != "2" {
		t.Errorf("dropped: %q", got)
	}
	b.open(server.URL + "/empty")
	if got := b.text(".empty"); !strings.Contains(got, "POST /accounts") {
		t.Errorf("got %q", got)
	}
}

// TestPageInABrowserWithToken has a browser that sends the token as a password.
func TestPageInABrowserWithToken(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	g := &gateway{cfg: defaults(), started: time.Now(), cache: newTestCache(t, cacheConfig{}), responses: newResponses(), passed: newPassed(), timings: newTimings()}
	g.cfg.token = "0123456789abcdef"
	server := httptest.NewServer(g.handler())
	t.Cleanup(server.Close)
	with, _ := url.Parse(server.URL)
	with.User = url.UserPassword("anybody", g.cfg.token)
	b.open(with.String())
	if got := b.text("h1"); got != "Media gateway" {
		t.Errorf("got %q", got)
	}
}
