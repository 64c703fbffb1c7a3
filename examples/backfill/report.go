package main

import (
	"context"
	_ "embed"
	"fmt"
	"html/template"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// The report is pages of a few hundred files each, chat by chat, that open from the disk: they have
// no script, and ask for nothing from anywhere. Pictures load as one scrolls.

// perPage is how many files a page has.
const perPage = 300

const reportFolder = "report"

var (
	//go:embed report.html
	reportHTML string
	//go:embed report.css
	reportCSS string

	reportTemplate = template.Must(template.New("").Funcs(template.FuncMap{
		"css": func() template.CSS { return template.CSS(reportCSS) }, "number": number,
	}).Parse(reportHTML))
)

// An index is the first page.
type index struct {
	Made   string
	Lines  []reportLine
	Chats  []*reportChat
	Filter bool // not all files are in it
}

type reportLine struct{ What, Class, Files, Size, Note string }

type reportChat struct {
	Name                string
	Anchor              string
	Page                string
	Saved, Lost, Others int
}

// A page is one of the others.
type page struct {
	Number, Last, Title string
	Before, After       string // the names of the pages around it; empty for none
	Sections            []*section
}

type section struct {
	Name, Anchor string
	Items        []item
}

// An item is a file as the report shows it.
type item struct {
	Link           string // empty: it is not saved
	Shows          string // "image", "video", "audio" or nothing
	Name, Ext, At  string
	Class, Missing string // why it is not there
}

// A reporter writes pages as files come.
type reporter struct {
	w     *writer
	index index
	page  page
	items int
	pages int
}

// writeReport writes the report, and returns where it begins.
func writeReport(ctx context.Context, list *catalog, w *writer, cfg config, counts []count) (begins string, err error) {
	r := &reporter{w: w}
	if err = w.root.MkdirAll(reportFolder, 0o700); err != nil {
		return "", err
	}
	if err = list.all(ctx, cfg.wanted, r.add); err == nil && r.items > 0 {
		err = r.flush(true)
	}
	if err != nil {
		return "", err
	}
	r.index.Made = time.Now().Format("2006-01-02 15:04")
	_, args := cfg.wanted.where()
	r.index.Filter = len(args) > 0
	for _, l := range lines(counts) {
		size := ""
		if l.count.state == stateSaved {
			size = sizeOf(l.count.bytes)
		}
		r.index.Lines = append(r.index.Lines, reportLine{l.what, l.count.state, number(l.count.files, "file"), size, l.note})
	}
	if err = r.write("index.html", "index", r.index); err == nil {
		err = r.removeOlder()
	}
	if err != nil {
		return "", err
	}
	begins, err = filepath.Abs(filepath.Join(cfg.dir, reportFolder, "index.html"))
	return begins, err
}

func sizeOf(bytes int64) string {
	if bytes == 0 {
		return ""
	}
	return size(bytes)
}

// add adds a file, which is of the same chat as the one before or of the next.
func (r *reporter) add(f *file, chat string) error {
	if r.items == perPage {
		if err := r.flush(false); err != nil {
			return err
		}
	}
	chats := r.index.Chats
	if len(chats) == 0 || chats[len(chats)-1].Name != chat {
		r.index.Chats = append(chats, &reportChat{Name: chat, Page: pageName(r.pages + 1), Anchor: fmt.Sprintf("chat-%d", len(chats)+1)})
	}
	last := r.index.Chats[len(r.index.Chats)-1]
	if n := len(r.page.Sections); n == 0 || r.page.Sections[n-1].Anchor != last.Anchor {
		r.page.Sections = append(r.page.Sections, &section{Name: chat, Anchor: last.Anchor})
	}
	s := r.page.Sections[len(r.page.Sections)-1]
	s.Items = append(s.Items, itemOf(f))
	r.items++
	switch f.state {
	case stateSaved:
		last.Saved++
	case stateLost:
		last.Lost++
	default:
		last.Others++
	}
	return nil
}

func itemOf(f *file) item {
	i := item{Name: f.name, At: "undated", Class: f.state}
	if !f.sent.IsZero() {
		i.At = f.sent.Local().Format("2006-01-02 15:04")
	}
	if i.Name = clean(f.name); i.Name == "" {
		i.Name = capital(strings.ReplaceAll(string(f.kind), "-", " "))
	}
	if f.state == stateSaved {
		i.Link, i.Shows, i.Ext = linkTo(f.saved), f.shows(), strings.TrimPrefix(path.Ext(f.saved), ".")
		return i
	}
	switch f.state {
	case stateNew:
		i.Missing = "not yet tried"
	case stateExpired:
		i.Missing = "waits for the phone"
	default:
		i.Missing = explain(f.cause)
	}
	if f.state == stateFailed && !f.next.IsZero() {
		i.Missing += "; tried again after " + f.next.Local().Format("2006-01-02 15:04")
	}
	return i
}

// linkTo returns the link to a file under the directory for media.
func linkTo(saved string) string {
	parts := strings.Split(saved, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "../" + strings.Join(parts, "/")
}

func pageName(n int) string { return fmt.Sprintf("page-%04d.html", n) }

// flush writes the page that is full.
func (r *reporter) flush(isLast bool) error {
	r.pages++
	r.page.Number = fmt.Sprint(r.pages)
	r.page.Title = r.page.Sections[0].Name
	if r.pages > 1 {
		r.page.Before = pageName(r.pages - 1)
	}
	if !isLast {
		r.page.After = pageName(r.pages + 1)
	}
	err := r.write(pageName(r.pages), "page", r.page)
	r.page, r.items = page{}, 0
	return err
}

func (r *reporter) write(name, with string, data any) error {
	return r.w.replace(path.Join(reportFolder, name), func(f *os.File) error {
		return reportTemplate.ExecuteTemplate(f, with, data)
	})
}

var pageNames = regexp.MustCompile(`^page-\d{4,}\.html$`)

// removeOlder removes pages of an earlier report that had more.
func (r *reporter) removeOlder() error {
	entries, err := fs.ReadDir(r.w.root.FS(), reportFolder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var n int
		if pageNames.MatchString(entry.Name()) {
			_, _ = fmt.Sscanf(entry.Name(), "page-%d.html", &n)
			if n > r.pages {
				if err = r.w.root.Remove(path.Join(reportFolder, entry.Name())); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
