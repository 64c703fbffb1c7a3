package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// A gallery is a directory of files of every kind and state, with a report.
type gallery struct {
	dir   string
	index string
}

// newGallery has so many pictures, in two chats, and one of everything else.
func newGallery(t *testing.T, pictures int) gallery {
	t.Helper()
	g := gallery{dir: filepath.Join(t.TempDir(), "media #1")}
	w, err := openWriter(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	list := newTestCatalog(t)
	n := 0
	add := func(in types.JID, f *file) {
		t.Helper()
		n++
		f.request = reupload.Request{MessageID: fmt.Sprintf("3EB0%06X", n), Chat: in, MediaKey: make([]byte, 32)}
		f.sent = time.Date(2024, 5, 1, 12, 0, 0, 0, time.Local).Add(-time.Duration(n) * 7 * time.Hour)
		f.checksum = fmt.Appendf(make([]byte, 0, 32), "%032d", n)
		if f.kind == "" {
			f.kind = reupload.KindImage
		}
		if f.state == stateSaved {
			f.size = 20_000
			f.saved = f.pathOf(folderOf(names[in], in.User))
			if err := w.root.MkdirAll(filepath.Dir(f.saved), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := w.root.WriteFile(f.saved, draw(n), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := list.add(t.Context(), found{files: []*file{f}, chats: []chat{{jid: in, name: names[in]}}}, ""); err != nil {
			t.Fatal(err)
		}
		if _, err := list.db.Exec(`UPDATE backfill_files SET cause = ?, next = ?, saved = ? WHERE message = ?`,
			f.cause, unix(f.next), f.saved, f.request.MessageID); err != nil {
			t.Fatal(err)
		}
	}
	for i := range pictures {
		add([]types.JID{anna, ben}[i%2], &file{state: stateSaved, mime: "image/png"})
	}
	add(ben, &file{state: stateSaved, kind: reupload.KindDocument, mime: "application/pdf", name: `<script>alert("100%?#").pdf`})
	add(ben, &file{state: stateSaved, kind: reupload.KindVideo, mime: "video/mp4"})
	add(ben, &file{state: stateSaved, kind: reupload.KindAudio, mime: "audio/ogg"})
	add(ben, &file{state: stateLost, cause: "not_found"})
	add(ben, &file{state: stateFailed, cause: "timeout", next: time.Date(2024, 5, 2, 3, 4, 0, 0, time.Local)})
	add(ben, &file{state: stateExpired})
	add(ben, &file{state: stateNew, kind: reupload.KindDocument, name: strings.Repeat("a long name ", 30)})
	counts, err := list.counts(t.Context(), filter{})
	if err == nil {
		g.index, err = writeReport(t.Context(), list, w, config{dir: g.dir}, counts)
	}
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// page returns the text of a page.
func (g gallery) page(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(filepath.Dir(g.index), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestReport(t *testing.T) {
	t.Parallel()
	g := newGallery(t, 2*perPage)
	pages, err := filepath.Glob(filepath.Join(filepath.Dir(g.index), "*"))
	if err != nil || len(pages) != 4 {
		t.Errorf("there is %v, %v", pages, err)
	}
	for _, page := range pages {
		if info, err := os.Stat(page); err != nil || info.Size() > 300_000 {
			t.Errorf("%s has %d bytes", page, info.Size())
		}
	}
	first, second, last := g.page(t, "page-0001.html"), g.page(t, "page-0002.html"), g.page(t, "page-0003.html")
	for text, times := range map[string]int{`loading="lazy"`: perPage, "<h2>Anna": 1, "<script": 0, `href="page-0002.html" rel="next"`: 2, "http": 0} {
		if n := strings.Count(first, text); n != times {
			t.Errorf("the first page has %s %d times, want %d times", text, n, times)
		}
	}
	if !strings.Contains(second, "<h2>Ben") || !strings.Contains(second, `rel="prev"`) || strings.Contains(last, `rel="next"`) {
		t.Error("the pages do not follow each other")
	}
	for _, want := range []string{
		"no longer on the phone", "tried again after 2024-05-02 03:04", "waits for the phone", "not yet tried",
		"<video ", "<audio ", "script alert( 100% # ).pdf", "100%25%20%23",
	} {
		if !strings.Contains(last+second, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if index := g.page(t, "index.html"); !strings.Contains(index, "603 files") || !strings.Contains(index, size(603*20_000)) || !strings.Contains(index, "1 lost, 3 not yet") || !strings.Contains(index, `href="page-0002.html#chat-2"`) {
		t.Errorf("the index is %s", index)
	}
}

// TestReportEscapesNames has a chat and a document whose names would be HTML.
func TestReportEscapesNames(t *testing.T) {
	t.Parallel()
	g := gallery{dir: t.TempDir()}
	w, err := openWriter(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	list := newTestCatalog(t)
	const name = `Ben & <img src=x onerror="alert(1)">`
	f := &file{
		request: reupload.Request{MessageID: "3EB0", Chat: ben, MediaKey: make([]byte, 32)}, sent: time.Now(), checksum: make([]byte, 32),
		kind: reupload.KindDocument, name: name, state: stateNew,
	}
	_, err = list.add(t.Context(), found{files: []*file{f}, chats: []chat{{jid: ben, name: name}}}, "")
	if err == nil {
		g.index, err = writeReport(t.Context(), list, w, config{dir: g.dir}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range []string{"index.html", "page-0001.html"} {
		if text := g.page(t, page); strings.Contains(text, "<img") || strings.Contains(text, "Ben & ") || !strings.Contains(text, "Ben &amp; ") {
			t.Errorf("%s is %s", page, text)
		}
	}
}

// TestReportGetsShorter leaves no pages of a longer one behind.
func TestReportGetsShorter(t *testing.T) {
	t.Parallel()
	g := newGallery(t, 0)
	w, err := openWriter(g.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for _, name := range []string{"page-0007.html", "page-12345.html", "notes.html"} {
		if err = w.replace("report/"+name, func(f *os.File) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = writeReport(t.Context(), newTestCatalog(t), w, config{dir: g.dir}, nil); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(g.dir, reportFolder, "*"))
	if err != nil || len(pages) != 2 || !strings.HasSuffix(pages[1], "notes.html") {
		t.Errorf("there is %v, %v", pages, err)
	}
	if index := g.page(t, "index.html"); !strings.Contains(index, "There is nothing to fetch.") {
		t.Errorf("the index is %s", index)
	}
}

// TestReportInABrowser opens the pages from the disk. With SCREENSHOTS set to a directory it writes
// there what they look like.
func TestReportInABrowser(t *testing.T) {
	t.Parallel()
	b := newBrowser(t)
	g := newGallery(t, perPage)
	base := "file://" + strings.ReplaceAll(filepath.ToSlash(filepath.Dir(g.index)), "#", "%23") + "/"
	for _, page := range []string{"index.html", "page-0001.html", "page-0002.html"} {
		for _, width := range []int{400, 1280} {
			for _, dark := range []bool{false, true} {
				b.resize(width, dark)
				b.open(base + page)
				what := fmt.Sprintf("%s at %d px, dark: %t", page, width, dark)
				if all := b.complaints(); len(all) > 0 {
					t.Errorf("%s: %v", what, all)
				}
				if wide := b.eval("document.documentElement.scrollWidth"); wide.(float64) > float64(width) {
					t.Errorf("%s is %v px wide", what, wide)
				}
				if background := b.eval("getComputedStyle(document.documentElement).colorScheme + matchMedia('(prefers-color-scheme: dark)').matches"); background != fmt.Sprintf("light dark%t", dark) {
					t.Errorf("%s has %v", what, background)
				}
				if foreign := b.eval("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('file:')).length"); foreign.(float64) > 0 {
					t.Errorf("%s loads %v from elsewhere", what, foreign)
				}
				if dir := os.Getenv("SCREENSHOTS"); dir != "" {
					b.screenshot(filepath.Join(dir, fmt.Sprintf("%s-%d-%t.png", strings.TrimSuffix(page, ".html"), width, dark)))
				}
			}
		}
	}

	// Pictures load as one scrolls.
	b.resize(400, false)
	b.open(base + "page-0001.html")
	loaded := func() float64 {
		return b.eval("[...document.images].filter(i => i.complete && i.naturalWidth > 0).length").(float64)
	}
	wait(t, "the first picture", func() bool { return loaded() > 0 }) // which the load event does not wait for
	if n := loaded(); n > perPage/2 {
		t.Errorf("%v of %d pictures are loaded at once", n, perPage)
	}
	b.eval("document.images[document.images.length-1].scrollIntoView()")
	wait(t, "the last picture", func() bool { return b.eval("[...document.images].at(-1).naturalWidth").(float64) == 48 })

	// The links lead to files, whatever they are called.
	b.open(base + "page-0002.html")
	links := b.eval("[...document.querySelectorAll('.files a')].map(a => decodeURIComponent(new URL(a.href).pathname)).join('\\n')").(string)
	for link := range strings.Lines(links) {
		if _, err := os.Stat(strings.TrimSpace(link)); err != nil {
			t.Error(err)
		}
	}
	if !strings.Contains(links, "script alert( 100% # )") {
		t.Errorf("the links are\n%s", links)
	}
	b.open(base + "index.html")
	b.eval("document.querySelector('.chats a').click()")
	wait(t, "the page of the chat", func() bool { return strings.Contains(fmt.Sprint(b.eval("document.title")), "page 1") })
}

// wait waits for a condition.
func wait(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("this has not come: ", what)
		}
	}
}
