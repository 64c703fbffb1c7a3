package simulation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
)

// A way is how a bot downloads.
type way struct {
	inHandler bool
	patience  time.Duration // 0 for more than the plugin can take
	named     bool          // plugin.Download, with the message
	row       bool          // WithRequest, as a database has it
	oddRow    bool          // with the sender in one of its other forms
	silent    bool          // WithoutAsking
	backfill  bool
	stripped  bool // the path has lost its query
	pathless  bool
}

// A download is a download of a bot, with all that the world needs to judge it.
type download struct {
	*mail
	way
	n         int
	path      string // that it was made with
	began     time.Time
	life      int
	memory    int
	disturbed time.Time
	running   int
	silences  int
	exchanges []exchange // guarded by w.mu
	receipts  int        // that the bot had sent before
	unnoticed bool       // the plugin had not noticed the media client
}

// longestPatience is more than any promise needs.
const longestPatience = 8 * time.Minute

// bound is the time in which a download must heal if the bot is owed its file: a time-out for each
// of the four messages that may be asked for, and some more for the CDN.
func (c *Choices) bound() time.Duration { return 4*c.timeout() + 20*time.Second }

// download makes a download and judges it.
func (b *bot) download(m *mail, how way) {
	client, plugin := b.current()
	d := b.begin(m, how)
	patience := orDefault(how.patience, longestPatience)
	ctx, cancel := context.WithTimeout(context.WithValue(b.ctx, downloadKey{}, d), patience)
	defer cancel()
	if how.patience > 0 && d.n%2 == 0 { // some users cancel
		defer time.AfterFunc(how.patience-time.Millisecond, cancel).Stop()
	}
	if how.inHandler {
		b.count(botHandler)
	}
	var media whatsmeow.DownloadableMessage = m.media
	if how.stripped || how.pathless {
		media = repathed{media, d.path}
	}
	if how.silent {
		ctx = reupload.WithoutAsking(ctx)
	}
	if how.backfill {
		ctx = reupload.WithBackfill(ctx)
	}
	var data []byte
	var err error
	switch {
	case how.named || how.pathless:
		data, err = plugin.Download(ctx, &m.info, media)
	case how.row:
		req := m.request()
		if how.oddRow {
			req = b.raw(req)
			b.gaveOdd([]reupload.Request{req})
		}
		data, err = client.Download(reupload.WithRequest(ctx, req, media.GetFileEncSHA256()), media)
	default:
		data, err = client.Download(ctx, media)
	}
	if b.Limits.Sabotage != "" {
		data, err = b.sabotaged(d, data, err)
	}
	b.judge(d, data, err, ctx.Err())
	if err != nil && b.asks && reupload.Cause(err) != nil && m.junk == "" && ctx.Err() == nil && !how.inHandler {
		b.askItself(m, client)
	}
}

// A repathed message has a path that it did not come with.
type repathed struct {
	whatsmeow.DownloadableMessage
	path string
}

func (m repathed) GetDirectPath() string { return m.path }

func (m repathed) GetMediaType() whatsmeow.MediaType {
	return whatsmeow.GetMediaType(m.DownloadableMessage)
}

func (b *bot) begin(m *mail, how way) *download {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.downloads++
	d := &download{
		mail: m, way: how, n: b.downloads, path: m.media.GetDirectPath(), began: time.Now(), life: b.life, memory: b.memory,
		disturbed: b.disturbed, running: b.running, silences: b.silences, receipts: len(b.receipts), unnoticed: b.unnoticed.Load(),
	}
	switch {
	case how.stripped:
		d.path = bare(d.path)
	case how.pathless:
		d.path = ""
	}
	if how.named || how.row || how.pathless {
		m.given = time.Now()
	}
	b.running++
	return d
}

func (w *World) exchanged(d *download, e exchange) {
	w.mu.Lock()
	d.exchanges = append(d.exchanges, e)
	switch e.fault {
	case "", cdnEmpty, cdnLate, cdnOther, cdnRedirect:
	case cdnForbids:
		// One that is new may be so in the case of this download, which others share.
		if u := w.uploads[e.path]; u == nil || u.at.After(d.began.Add(-time.Minute)) {
			w.faulty[d.file] = time.Now()
		}
	default:
		w.faulty[d.file] = time.Now()
	}
	w.mu.Unlock()
	w.checkHost(d, e)
}

// lives reports whether the CDN has the file of a download under the path that the caller has, and
// without any fault. It needs w.mu.
func (d *download) lives(at time.Time) bool {
	u := d.bot.uploads[bare(d.path)]
	return u != nil && !d.stripped && at.Before(u.dies) && bytes.Equal(u.media.FileEncSHA256, d.media.GetFileEncSHA256())
}

func (d *download) String() string {
	s := fmt.Sprintf("download %d of %v (%s), by bot %d", d.n, d.message, d.mail.how, d.bot.n)
	w := d.way
	for _, flag := range []struct {
		set  bool
		name string
	}{
		{w.inHandler, "in a handler"}, {w.named, "by Plugin.Download"}, {w.row, "WithRequest"}, {w.oddRow, "as a row has the sender"},
		{w.silent, "WithoutAsking"}, {w.backfill, "WithBackfill"}, {w.stripped, "without the path's query"}, {w.pathless, "without a path"},
	} {
		if flag.set {
			s += ", " + flag.name
		}
	}
	if w.patience > 0 {
		s += fmt.Sprintf(", with %v of patience", w.patience.Round(time.Millisecond))
	}
	return s
}

// tell lists the exchanges of a download.
func (d *download) tell() string {
	var s strings.Builder
	for _, e := range d.exchanges {
		fmt.Fprintf(&s, " %v:%s…%s=%d%s", e.at.Sub(d.began).Round(time.Millisecond), e.host[:3], tail(e.path), e.status, e.fault)
	}
	return s.String()
}

// tail returns enough of a path to tell it from others.
func tail(path string) string {
	path = strings.TrimSuffix(path, "_n.enc")
	return path[max(0, len(path)-6):]
}

// askItself does what a bot with a retry of its own does.
func (b *bot) askItself(m *mail, client *whatsmeow.Client) {
	b.count(botAsks)
	info := m.info
	b.mu.Lock()
	b.ownAsks[askedFor{b.n, m.id}] = time.Now()
	b.mu.Unlock()
	if err := client.SendMediaRetryReceipt(b.ctx, &info, m.media.GetMediaKey()); err != nil {
		b.note("bot %d cannot ask by itself: %v", b.n, err)
	}
}

type askedFor struct {
	bot int
	id  string
}

// labelOf returns the label that the end of a download counts under.
func labelOf(d *download, err error) Kind {
	switch {
	case err == nil && d.healed():
		return "end:healed"
	case err == nil:
		return "end:healthy"
	case errors.Is(err, context.Canceled):
		return "end:canceled"
	case errors.Is(err, context.DeadlineExceeded) && reupload.Cause(err) == nil:
		return "end:deadline_exceeded"
	}
	return "end:" + Kind(orDefault(reupload.Label(reupload.Cause(err)), "none"))
}

// healed reports whether a download that has succeeded would have failed without the plugin.
func (d *download) healed() bool {
	for _, e := range d.exchanges {
		if e.path == bare(d.path) && e.status == 200 {
			return false
		}
	}
	return true
}
