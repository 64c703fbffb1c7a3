package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/whatsmeow-plugins/reupload"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string

	page = template.Must(template.New("page").Parse(pageHTML))
	// styleHash lets the browser use this style, and nothing else.
	styleHash = func() string {
		sum := sha256.Sum256([]byte(pageCSS))
		return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}()
)

// A pageView is what the status page shows.
type pageView struct {
	Style     template.CSS
	Now       time.Time
	Up        time.Duration
	Accounts  []pageAccount
	Connected int
	Healed    uint64
	Expired   uint64
	Waiting   int
	Dropped   uint64

	CacheFiles, Downloads  int
	CacheBytes, CacheLimit int64 // MB
}

type pageAccount struct {
	accountState
	At string // which gateway has it, if that is another one; its page has the numbers
	reupload.Stats
	Causes []pageCause // the most frequent first
}

type pageCause struct {
	Label string
	Count uint64
}

func (g *gateway) view() pageView {
	files, bytes, downloads := g.cache.usage()
	v := pageView{
		Style: template.CSS(pageCSS), Now: time.Now().UTC(), Up: time.Since(g.started).Truncate(time.Second), Dropped: g.intake.dropped.Load(),
		CacheFiles: files, Downloads: downloads, CacheBytes: (bytes + 1<<20 - 1) >> 20, CacheLimit: g.cache.limit >> 20,
	}
	stats := g.stats()
	for _, state := range g.list() {
		a := pageAccount{accountState: state, Stats: stats[state.Account]}
		if at, err := url.Parse(state.Gateway); err == nil && g.account(state.Account) == nil {
			a.At = cmp.Or(at.Host, "no gateway")
		}
		for label, count := range a.Unhealed {
			a.Causes = append(a.Causes, pageCause{label, count})
		}
		slices.SortFunc(a.Causes, func(x, y pageCause) int {
			return cmp.Or(-cmp.Compare(x.Count, y.Count), cmp.Compare(x.Label, y.Label))
		})
		if state.Connected {
			v.Connected++
		}
		v.Healed += a.Healed
		v.Expired += a.Expired
		v.Waiting += a.Waiting
		v.Accounts = append(v.Accounts, a)
	}
	return v
}

// servePage serves the status page. It needs no script, and may run none.
func (g *gateway) servePage(w http.ResponseWriter, _ *http.Request) {
	writePage(w, g.view())
}

func writePage(w http.ResponseWriter, v pageView) {
	var out bytes.Buffer
	if err := page.Execute(&out, v); err != nil {
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store")
	header.Set("Content-Security-Policy", "default-src 'none'; img-src data:; style-src "+styleHash+"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	_, _ = out.WriteTo(w)
}
