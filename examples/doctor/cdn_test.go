package main

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestLooks asks the CDN for one byte of a path, and for a whole file only to compare it. It does
// not look through all of an account whose files are there.
func TestLooks(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 2 * looksPerFile {
			id := w.must(fromAnna())
			w.box.SetStatus(w.sent[id].DirectPath, 0, "")
		}
	}, func(w *world) {
		w.cfg.files = 1
		w.run(w.t.Context())
		asked := w.box.Asked()
		if len(asked) != looksPerFile {
			w.t.Errorf("it has looked %d times", len(asked))
		}
		for _, media := range w.sent {
			w.box.Expire(media)
		}
		w.run(w.t.Context())
		var looks []string
		for i, a := range w.box.Asked() {
			if i < len(asked) {
				continue
			}
			looks = append(looks, fmt.Sprint(a.Status, " ", a.Header.Get("Range")))
		}
		if got := strings.Join(looks, ", "); got != "410 bytes=0-0, 206 bytes=0-0, 200 " {
			w.t.Errorf("it has looked %s", got)
		}
	})
}

// TestCDNIsAway has a network in which every error names the URL, which is worth the file.
func TestCDNIsAway(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()); w.must(fromAnna()) }, func(w *world) {
		old := make(map[string]bool)
		for _, media := range w.sent {
			path, _, _ := strings.Cut(media.DirectPath, "?")
			old[path] = true
		}
		base := w.cfg.media
		w.cfg.media = roundTripper(func(r *http.Request) (*http.Response, error) {
			if old[r.URL.Path] {
				return base.RoundTrip(r)
			}
			return nil, fmt.Errorf("no route to %s", r.URL)
		})
		w.cfg.files = 1
		_, first := w.run(w.t.Context())
		w.cfg.files = 0
		_, second := w.run(w.t.Context())
		for output, want := range map[string]string{
			first: "the new path could not be looked at: the CDN cannot be reached", second: "file 1: its new path could not be looked at: the CDN cannot be reached",
		} {
			if !strings.Contains(output, want) {
				w.t.Errorf("there is no %q in\n%s", want, output)
			}
		}
		clear(old)
		w.cfg.files = 1
		err := run(w.t.Context(), w.out, w.cfg)
		if err == nil {
			w.t.Fatal("it does not say that it cannot look at old paths")
		}
		for _, leak := range w.box.Leaks([]byte(w.all.String() + err.Error())) {
			w.t.Error(leak)
		}
	})
}

// TestForbidden has a refusal that is not about the age of the URL.
func TestForbidden(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		for _, media := range w.sent {
			w.box.SetStatus(media.DirectPath, http.StatusForbidden, "Bad URL hash")
		}
		record, _ := w.run(w.t.Context())
		w.want(record, map[string]string{"cdn-status": "old paths: 1 x 403; new paths: 1 x 200; of 1 compared 1 had the same file"})
	})
}

// TestLargeFile is not compared, whether or not the CDN says before how large it is.
func TestLargeFile(t *testing.T) {
	for name, change := range map[string]func(*http.Response){
		"says so": func(r *http.Response) { r.ContentLength = largestFile + 1 },
		"is so": func(r *http.Response) {
			r.ContentLength = -1
			r.Body = io.NopCloser(io.MultiReader(r.Body, io.LimitReader(zeros{}, largestFile)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
				base := w.cfg.media
				w.cfg.media = roundTripper(func(r *http.Request) (*http.Response, error) {
					resp, err := base.RoundTrip(r)
					if err == nil && r.Header.Get("Range") == "" {
						change(resp)
					}
					return resp, err
				})
				record, _ := w.run(w.t.Context())
				w.want(record, map[string]string{"cdn-status": "old paths: 1 x 410; new paths: 1 x 200"})
			})
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
