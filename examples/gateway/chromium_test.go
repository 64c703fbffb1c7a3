package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// A browser is a tab of a headless Chromium. It is spoken to in the DevTools protocol.
type browser struct {
	t       *testing.T
	ctx     context.Context
	conn    *websocket.Conn
	last    int
	session string
	events  []devToolsMessage // that have come and were not read yet
}

// newBrowser starts Chromium. A test is skipped where there is none, except in CI.
func newBrowser(t *testing.T) *browser {
	t.Helper()
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		const missing = "no Chromium is installed (apt install chromium)"
		if os.Getenv("CI") == "true" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	profile, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	args := []string{
		"--headless", "--remote-debugging-port=0", "--user-data-dir=" + profile, "--disable-gpu", "--disable-dev-shm-usage",
		"--no-first-run", "--disable-background-networking", "--hide-scrollbars", "about:blank",
	}
	if os.Getuid() == 0 {
		args = append(args, "--no-sandbox") // which root cannot have
	}
	command := exec.Command(path, args...)
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Process.Kill()
		_ = command.Wait()
		for range 100 { // its children still write to its directory
			if os.RemoveAll(profile) == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
	var url string
	for lines := bufio.NewScanner(stderr); url == "" && lines.Scan(); {
		_, url, _ = strings.Cut(lines.Text(), "DevTools listening on ")
	}
	if url == "" {
		t.Fatal("Chromium does not start")
	}
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	b := &browser{t: t, ctx: ctx}
	if b.conn, _, err = websocket.Dial(ctx, url, nil); err != nil {
		t.Fatal(err)
	}
	b.conn.SetReadLimit(-1)
	t.Cleanup(func() { _ = b.conn.CloseNow() })
	target := b.call("Target.createTarget", map[string]any{"url": "about:blank"})
	b.session, _ = b.call("Target.attachToTarget", map[string]any{"targetId": target["targetId"], "flatten": true})["sessionId"].(string)
	for _, domain := range []string{"Page", "Log", "Runtime"} {
		b.call(domain+".enable", nil)
	}
	return b
}

// A devToolsMessage is a call, an answer or an event.
type devToolsMessage struct {
	ID        int            `json:"id,omitempty"`
	SessionID string         `json:"sessionId,omitempty"`
	Method    string         `json:"method,omitempty"`
	Params    map[string]any `json:"params,omitempty"`
	Result    map[string]any `json:"result,omitempty"`
	Error     map[string]any `json:"error,omitempty"`
}

func (b *browser) read() (m devToolsMessage) {
	b.t.Helper()
	if err := wsjson.Read(b.ctx, b.conn, &m); err != nil {
		b.t.Fatal(err)
	}
	return m
}

func (b *browser) call(method string, params map[string]any) map[string]any {
	b.t.Helper()
	b.last++
	if err := wsjson.Write(b.ctx, b.conn, devToolsMessage{ID: b.last, SessionID: b.session, Method: method, Params: params}); err != nil {
		b.t.Fatal(err)
	}
	for {
		m := b.read()
		if m.ID == b.last {
			if m.Error != nil {
				b.t.Fatalf("%s: %v", method, m.Error)
			}
			return m.Result
		}
		b.events = append(b.events, m)
	}
}

// open opens a page, and waits until it is there.
func (b *browser) open(url string) {
	b.t.Helper()
	b.events = nil
	if result := b.call("Page.navigate", map[string]any{"url": url}); result["errorText"] != nil {
		b.t.Fatalf("the page does not open: %v", result["errorText"])
	}
	for {
		for _, m := range b.events {
			if m.Method == "Page.loadEventFired" {
				return
			}
		}
		b.events = append(b.events, b.read())
	}
}

// complaints returns what the browser finds wrong with the page, such as a style that it
// may not use.
func (b *browser) complaints() (all []string) {
	for _, m := range b.events {
		if m.Method == "Log.entryAdded" || m.Method == "Runtime.exceptionThrown" {
			all = append(all, fmt.Sprint(m.Params))
		}
	}
	return all
}

// resize makes the window as wide as a screen.
func (b *browser) resize(width int, dark bool) {
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600})
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []any{map[string]any{"name": "prefers-color-scheme", "value": scheme}}})
}

// eval returns what an expression is. It is the debugger's: the page itself may run no script.
func (b *browser) eval(expression string) any {
	b.t.Helper()
	result := b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true})
	if result["exceptionDetails"] != nil {
		b.t.Fatalf("%s: %v", expression, result["exceptionDetails"])
	}
	return result["result"].(map[string]any)["value"]
}

func (b *browser) text(selector string) string {
	b.t.Helper()
	return fmt.Sprint(b.eval(fmt.Sprintf("document.querySelector(%q)?.innerText.trim()", selector)))
}

// screenshot writes what can be seen to a file, to be looked at.
func (b *browser) screenshot(path string) {
	b.t.Helper()
	data, err := base64.StdEncoding.DecodeString(b.call("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true})["data"].(string))
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}
