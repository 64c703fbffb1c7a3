package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestDemo(t *testing.T) {
	t.Parallel()
	of, files, asked := demoScale, "1,840", 620
	if raceDetector { // under which SQLite takes ten times as long
		of, files, asked = scale{400, 5 * time.Second}, "368", 124
	}
	var out lockedBuffer
	dir, box := t.TempDir(), wabox.Start(t, wabox.Sockets())
	if err := demoIn(t.Context(), &out, dir, box, of); err != nil {
		t.Error(err)
	}
	story := out.String()
	for _, want := range []string{
		"killed, as by kill -9", "the phone goes off", "the phone is on again", "the phone is asked for older messages of a chat",
		files + " files are there, each once in each chat", fmt.Sprintf("the phone was asked for the %d files that only it could have", asked),
		"\nSaved                " + files + " files, ", "files: no longer on the phone", "are in two chats",
		"right: nothing is there twice, and nothing is lost",
	} {
		if !strings.Contains(story, want) {
			t.Errorf("there is no %q", want)
		}
	}
	at := 0
	for _, next := range []string{"the second run", "the phone goes off", "the phone is on again", "the third run"} {
		if i := strings.Index(story[at:], next); i < 0 {
			t.Errorf("%q does not come next", next)
		} else {
			at += i
		}
	}
	for _, leak := range box.Leaks([]byte(story + report(t, filepath.Join(dir, "media")))) {
		t.Error(leak)
	}
	if strings.Contains(story, " error ") || t.Failed() {
		t.Errorf("the story was\n%s", story)
	}
}

// TestDemoLeavesFilesAlone does not begin where files of somebody's are.
func TestDemoLeavesFilesAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := emptyDirectory(filepath.Join(dir, "a", "b")); err != nil {
		t.Error(err)
	}
	var out lockedBuffer
	if err := demo(t.Context(), &out, dir); err == nil || !strings.Contains(err.Error(), "-dir") || out.String() != "" {
		t.Errorf("got %v and %q", err, out.String())
	}
}

// report returns the pages of the report that is among the files in a directory.
func report(t *testing.T, dir string) string {
	t.Helper()
	pages, err := filepath.Glob(filepath.Join(dir, reportFolder, "*"))
	if err != nil || len(pages) < 2 {
		t.Fatalf("the report is %v, %v", pages, err)
	}
	var report strings.Builder
	for _, page := range pages {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		report.Write(data)
	}
	return report.String()
}

// TestAllKinds has a file for each way that it can be had, and for each in which it can not.
func TestAllKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	there, thereMsg := w.picture()
	old, oldMsg := w.picture()
	lost, lostMsg := w.picture()
	pathless, pathlessMsg := w.picture()
	document := w.box.Upload([]byte("an offer"), whatsmeow.MediaDocument)
	offer := document.Document()
	offer.FileName, offer.Mimetype = proto.String("../Offer.pdf"), proto.String("application/pdf")
	w.box.Expire(old)
	w.box.Expire(lost)
	pathlessMsg.ImageMessage.DirectPath = nil
	gone := &post{chat: ben, age: 90 * day, msg: lostMsg}
	w.history(
		&post{chat: anna, age: time.Hour, msg: thereMsg},
		&post{chat: anna, age: 60 * day, msg: &waE2E.Message{EphemeralMessage: &waE2E.FutureProofMessage{Message: oldMsg}}},
		gone,
		&post{chat: ben, age: 60 * day, msg: pathlessMsg},
		&post{chat: ben, age: 60 * day, msg: &waE2E.Message{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{DocumentMessage: offer}}}},
		&post{chat: ben, age: 60 * day, msg: &waE2E.Message{Conversation: proto.String("hello")}},
	)
	w.phone.Forget(gone.id)
	events := w.run()
	if got := summary(t, events); got != "lost 1 not_found, saved 4" {
		t.Errorf("the summary is %s", got)
	}
	w.has(map[*wabox.Media]string{there: "Anna (447700900101)", old: "Anna (447700900101)", pathless: "Ben (447700900102)", document: "Ben (447700900102)"})
	asked := w.phone.RequestCount()
	if asked != 2 { // what has a URL is had from there
		t.Errorf("the phone was asked %d times", asked)
	}
	for name := range w.saved() {
		month := strings.Split(name, "/")[1]
		if base := filepath.Base(name); !strings.HasPrefix(base, month) || strings.Contains(base, "..") || strings.Contains(base, "Offer") != strings.HasSuffix(base, ".pdf") {
			t.Errorf("there is %s", name)
		}
	}
	for path, mode := range map[string]os.FileMode{w.cfg.db: 0o600, w.cfg.dir: 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s is %v, %v", path, info.Mode(), err)
		}
	}

	// A second run has nothing to do, and does nothing.
	hits := w.box.Hits(there.DirectPath)
	if got := summary(t, w.run()); got != "lost 1 not_found, saved 4" {
		t.Errorf("the second summary is %s", got)
	}
	if w.phone.RequestCount() != asked || w.box.Hits(there.DirectPath) != hits {
		t.Error("it has asked or downloaded again")
	}

	// The sender has sent the file again, to the phone. One need not wait for a day to be over.
	w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success}} })
	if got := summary(t, w.run(func(cfg *config) { cfg.retry = stateLost })); got != "saved 5" {
		t.Errorf("with -retry lost the summary is %s", got)
	}
}

// TestPace keeps the pace between two requests, and no pace at all if it is 0.
func TestPace(t *testing.T) {
	t.Parallel()
	for pace, holds := range map[time.Duration]func(took time.Duration) bool{
		time.Second / 2: func(took time.Duration) bool { return took >= time.Second*3/2-10*time.Millisecond },
		0:               func(took time.Duration) bool { return took < 2*time.Second }, // the library's own is a second
	} {
		t.Run(pace.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var posts []*post
			for range 4 {
				media, msg := w.picture()
				w.box.Expire(media)
				posts = append(posts, &post{chat: anna, age: 60 * day, msg: msg})
			}
			w.history(posts...)
			if got := summary(t, w.run(func(cfg *config) { cfg.plan.pace = pace })); got != "saved 4" {
				t.Errorf("the summary is %s", got)
			}
			requests := w.phone.Requests()
			if took := requests[3].At.Sub(requests[0].At); len(requests) != 4 || !holds(took) {
				t.Errorf("%d requests took %s", len(requests), took)
			}
		})
	}
}

func TestMessagesThatComeMeanwhile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	if _, err := w.phone.Deliver(wabox.Incoming{From: anna}, msg); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, w.run()); got != "saved 1" {
		t.Errorf("the summary is %s", got)
	}
	w.has(map[*wabox.Media]string{picture: "447700900101"})
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var posts []*post
	for range 3 {
		_, msg := w.picture()
		posts = append(posts, &post{chat: anna, age: 60 * day, msg: msg})
	}
	_, fresh := w.picture()
	w.history(append(posts, &post{chat: anna, age: day, msg: fresh})...)
	events := w.run(func(cfg *config) { cfg.dryRun, cfg.older, cfg.plan = true, true, plan{pace: time.Minute, perDay: 2} })
	var e *estimate
	for _, event := range events {
		if event.Estimate != nil {
			e = event.Estimate
		}
		if event.Event == "summary" || event.Event == "file" {
			t.Errorf("there is %+v", event)
		}
	}
	if e == nil || e.Files != 4 || e.Servers != 1 || e.Phone != 3 || e.Kinds["image"] != 4 || e.Bytes == 0 || e.Seconds != 24*3600+60 {
		t.Errorf("the estimate is %+v", e)
	}
	if n := len(w.saved()); n > 0 || w.phone.RequestCount() > 0 {
		t.Errorf("it has saved %d files, and asked %d times", n, w.phone.RequestCount())
	}
	if got := summary(t, w.run()); got != "saved 4" {
		t.Errorf("then the summary is %s", got)
	}
}

// TestFilters asks for one thing after the other. What is not asked for stays in the catalog.
func TestFilters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	newest, newestMsg := w.picture()
	old, oldMsg := w.picture()
	bens, bensMsg := w.picture()
	status, statusMsg := w.picture()
	plain := w.box.UploadPlain(draw(1000), whatsmeow.MediaImage)
	news := plain.Image()
	news.Mimetype = proto.String("image/png")
	audio := w.box.Upload([]byte("a voice"), whatsmeow.MediaAudio)
	w.history(
		&post{chat: anna, age: time.Hour, msg: newestMsg},
		&post{chat: anna, age: 100 * day, msg: oldMsg},
		&post{chat: anna, age: 50 * day, msg: &waE2E.Message{AudioMessage: audio.Audio()}},
		&post{chat: ben, age: 2 * time.Hour, msg: bensMsg},
		&post{chat: types.StatusBroadcastJID, sender: ben, age: time.Hour, msg: statusMsg},
		&post{chat: channl, age: time.Hour, msg: &waE2E.Message{ImageMessage: news}},
	)
	have := make(map[*wabox.Media]string)
	for _, step := range []struct {
		name   string
		args   []string
		media  *wabox.Media
		folder string
	}{
		{"the chat of a number", []string{"-chat", "+44 7700 900102"}, bens, "Ben (447700900102)"},
		{"a kind", []string{"-types", "audio"}, audio, "Anna (447700900101)"},
		{"before a day", []string{"-chat", "ANN", "-before", time.Now().Add(-99 * day).Format(time.DateOnly)}, old, "Anna (447700900101)"},
		{"since a day", []string{"-since", time.Now().Add(-day).Format(time.DateOnly)}, newest, "Anna (447700900101)"},
		{"all that is left without asking for it", nil, nil, ""},
		{"status", []string{"-status"}, status, "Status"},
		{"newsletters", []string{"-newsletters"}, plain, "News (120363144038483540)"},
	} {
		cfg, _, err := configOf(step.args, &w.errs)
		if err != nil {
			t.Fatal(err)
		}
		w.run(func(c *config) { c.wanted = cfg.wanted })
		if step.media != nil {
			have[step.media] = step.folder
		}
		if w.has(have); t.Failed() {
			t.Fatalf("after %s", step.name)
		}
	}
}

// TestOneFileInTwoChats downloads it once.
func TestOneFileInTwoChats(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.history(&post{chat: anna, age: time.Hour, msg: msg})
	w.run()
	w.history(&post{chat: ben, age: time.Minute, msg: proto.CloneOf(msg)})
	w.run()
	if n := len(w.saved()); n != 2 || w.box.Hits(picture.DirectPath) != 1 {
		t.Errorf("%d files are there, after %d downloads", n, w.box.Hits(picture.DirectPath))
	}
	// If the first is broken by somebody, the second is not a copy of that.
	for name := range w.saved() {
		if err := os.WriteFile(filepath.Join(w.cfg.dir, name), []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	carl := types.NewJID("447700900103", types.DefaultUserServer)
	w.history(&post{chat: carl, age: time.Second, msg: proto.CloneOf(msg)})
	w.run()
	for name, data := range w.saved() {
		if strings.HasPrefix(name, "447700900103/") && !bytes.Equal(data, picture.Plaintext) {
			t.Error("it is a copy of the broken one")
		}
	}
	if n := len(w.saved()); n != 3 {
		t.Errorf("%d files are there", n)
	}
}

// TestLimits has phones that may be asked for a part of the files only: in some hours, or for some
// a day.
func TestLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var posts []*post
	for range 3 {
		media, msg := w.picture()
		w.box.Expire(media)
		posts = append(posts, &post{chat: anna, age: 60 * day, msg: msg})
	}
	there, msg := w.picture()
	w.history(append(posts, &post{chat: anna, age: time.Hour, msg: msg})...)
	closed := (time.Now().Hour() + 2) % 24
	until := func(limit plan, wait string) []event {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var out lockedBuffer
		cfg := w.cfg
		cfg.plan = limit
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, &out, &w.errs, cfg) }()
		for !strings.Contains(out.String(), wait) {
			select {
			case err := <-ended:
				t.Fatalf("it has ended: %v", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
		time.Sleep(2 * w.cfg.quiet) // it must not end, and not ask
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		return parse(t, out.String())
	}
	events := until(plan{hours: hours{closed, (closed + 1) % 24}}, "-hours")
	if got := summary(t, events); got != "expired 3, saved 1" || w.phone.RequestCount() > 0 {
		t.Errorf("outside of the hours the summary is %s, and the phone was asked %d times", got, w.phone.RequestCount())
	}
	w.has(map[*wabox.Media]string{there: "Anna (447700900101)"})
	for range 2 { // what was asked is remembered
		if got := summary(t, until(plan{perDay: 2}, "-per-day")); got != "expired 1, saved 3" || w.phone.RequestCount() != 2 {
			t.Errorf("with two a day the summary is %s, and the phone was asked %d times", got, w.phone.RequestCount())
		}
	}
	if got := summary(t, w.run()); got != "saved 4" {
		t.Errorf("without limits the summary is %s", got)
	}
}

// TestPhoneWaitsForTheHistory has a file that expired, and then, in the next part of the history,
// where it still is.
func TestPhoneWaitsForTheHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.box.Expire(picture)
	forwarded := proto.CloneOf(msg)
	forwarded.ImageMessage.DirectPath = proto.String(w.box.Reupload(picture))
	expired := make(chan struct{}, 10)
	w.box.OnEvent(func(e wabox.Event) {
		if e.What == wabox.CDN && e.Asked.Status == http.StatusGone {
			expired <- struct{}{}
		}
	})
	w.history(&post{chat: anna, age: 60 * day, msg: msg})
	go func() {
		<-expired
		w.history(&post{chat: ben, age: 50 * day, msg: forwarded})
	}()
	if got := summary(t, w.run(func(cfg *config) { cfg.quiet = 8 * time.Second })); got != "saved 2" || w.phone.RequestCount() > 0 {
		t.Errorf("the summary is %s, and the phone was asked %d times", got, w.phone.RequestCount())
	}
}

// TestEndsWhenAllIsDone has downloads that take longer than the history is waited for.
func TestEndsWhenAllIsDone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	for range 3 {
		media, msg := w.picture()
		w.box.Stall(media.DirectPath, release)
		w.history(&post{chat: anna, age: time.Hour, msg: msg})
	}
	time.AfterFunc(5*w.cfg.quiet, func() { close(release) })
	if got := summary(t, w.run(func(cfg *config) { cfg.workers = 1 })); got != "saved 3" {
		t.Errorf("the summary is %s", got)
	}
}

// TestLateAnswer has a phone that answers when the backfill no longer waits.
func TestLateAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.box.Expire(picture)
	w.history(&post{chat: anna, age: 60 * day, msg: msg})
	late := make(chan struct{})
	w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: late}} })
	if got := summary(t, w.run()); got != "failed 1 timeout" {
		t.Errorf("the summary is %s", got)
	}
	if got := summary(t, w.run()); got != "failed 1 timeout" || w.phone.RequestCount() != 1 {
		t.Errorf("soon after it is %s, and the phone was asked %d times", got, w.phone.RequestCount())
	}
	close(late)
	if got := summary(t, w.run()); got != "saved 1" || w.phone.RequestCount() != 1 {
		t.Errorf("after the answer it is %s, and the phone was asked %d times", got, w.phone.RequestCount())
	}
}

// TestLateWithinARun has an answer that comes soon after it is no longer waited for. The same run
// uses it.
func TestLateWithinARun(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.box.Expire(picture)
	w.history(&post{chat: anna, age: 60 * day, msg: msg})
	w.phone.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.Success, Delay: 31 * w.cfg.timeout / 5}}
	})
	if got := summary(t, w.run(func(cfg *config) { cfg.quiet = 6 * cfg.timeout })); got != "saved 1" || w.phone.RequestCount() != 1 {
		t.Errorf("the summary is %s, after %d requests", got, w.phone.RequestCount())
	}
}

// TestLateRefusal has a phone that says late that it has lost the file. -retry failed takes its
// word, and does not ask again.
func TestLateRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.box.Expire(picture)
	w.history(&post{chat: anna, age: 60 * day, msg: msg})
	late := make(chan struct{})
	w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.NotFound, Hold: late}} })
	if got := summary(t, w.run()); got != "failed 1 timeout" {
		t.Errorf("the summary is %s", got)
	}
	close(late)
	w.run() // hears of it
	if got := summary(t, w.run(func(cfg *config) { cfg.retry = stateFailed })); got != "lost 1 not_found" || w.phone.RequestCount() != 1 {
		t.Errorf("then the summary is %s, after %d requests", got, w.phone.RequestCount())
	}
}

func TestRetryFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.box.Expire(picture)
	w.history(&post{chat: anna, age: 60 * day, msg: msg})
	w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.GeneralError}} })
	events := w.run()
	if got := summary(t, events); got != "failed 1 general" {
		t.Errorf("the summary is %s", got)
	}
	for _, e := range events {
		if e.Event == "summary" && (e.Counts[0].Next == nil || time.Until(*e.Counts[0].Next) < 50*time.Minute || time.Until(*e.Counts[0].Next) > 70*time.Minute) {
			t.Errorf("it is tried again at %v", e.Counts[0].Next)
		}
	}
	w.phone.Phone(nil)
	if got := summary(t, w.run()); got != "failed 1 general" {
		t.Errorf("without -retry it is %s", got)
	}
	if got := summary(t, w.run(func(cfg *config) { cfg.retry = stateFailed })); got != "saved 1" {
		t.Errorf("with -retry failed it is %s", got)
	}
}

// TestOlderHistory has a phone that sends older messages when it is asked, one that is silent, and
// a chat of which it has none.
func TestOlderHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	asked := make(chan struct{}, 10)
	w.box.OnEvent(func(e wabox.Event) {
		if e.What == wabox.NodeIn && e.Node.Tag == "message" && e.Node.Attrs["category"] == "peer" {
			asked <- struct{}{}
		}
	})
	send := func(kind waHistorySync.HistorySync_HistorySyncType, more *waHistorySync.Conversation_EndOfHistoryTransferType, chat types.JID, age time.Duration) {
		_, msg := w.picture()
		s := stage{}
		if err := w.phone.DeliverHistory(&waHistorySync.HistorySync{SyncType: kind.Enum(), Conversations: []*waHistorySync.Conversation{{
			ID: proto.String(chat.String()), EndOfHistoryTransferType: more,
			Messages: []*waHistorySync.HistorySyncMsg{s.message("3EB0"+age.String(), demoChat{jid: chat}, int(age/(8*time.Hour)), msg)},
		}}}); err != nil {
			t.Error(err)
		}
	}
	more, none := waHistorySync.Conversation_COMPLETE_BUT_MORE_MESSAGES_REMAIN_ON_PRIMARY, waHistorySync.Conversation_COMPLETE_AND_NO_MORE_MESSAGE_REMAIN_ON_PRIMARY
	send(waHistorySync.HistorySync_FULL, &more, anna, 10*day)
	send(waHistorySync.HistorySync_FULL, &none, ben, 20*day)
	withOlder := func(cfg *config) { cfg.older = true }
	if got := summary(t, w.run(withOlder)); got != "saved 2" || len(asked) != 1 { // the phone is silent
		t.Errorf("the summary is %s, after %d requests", got, len(asked))
	}
	<-asked
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-asked
		send(waHistorySync.HistorySync_ON_DEMAND, &more, anna, 30*day)
		<-asked
		send(waHistorySync.HistorySync_ON_DEMAND, &none, anna, 60*day)
	}()
	if got := summary(t, w.run(withOlder)); got != "saved 4" {
		t.Errorf("then the summary is %s", got)
	}
	<-done
	if w.run(withOlder); len(asked) != 0 {
		t.Error("it has asked although the phone has no more")
	}
}

// TestHistoryThatExpired asks the phone for the part again, once.
func TestHistoryThatExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receipts := make(chan string, 10)
	w.box.OnEvent(func(e wabox.Event) {
		switch {
		case e.What == wabox.NodeIn && e.Node.Tag == "receipt" && e.Node.Attrs["type"] == "server-error":
			receipts <- e.Node.AttrGetter().String("id")
		case e.What == wabox.CDN && strings.Contains(e.Asked.RawQuery, "md-msg-hist") && e.Asked.Status == 200:
			t.Errorf("the part was there")
		}
	})
	_, msg := w.picture()
	list, err := openTestCatalog(t, w.cfg.db)
	if err != nil {
		t.Fatal(err)
	}
	part := w.box.Upload([]byte("a part"), whatsmeow.MediaHistory)
	w.box.Expire(part)
	err = list.announce(t.Context(), "3EB0PART", &waE2E.HistorySyncNotification{
		FileSHA256: part.FileSHA256, FileEncSHA256: part.FileEncSHA256, MediaKey: part.MediaKey, DirectPath: &part.DirectPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = list.db.Close()
	_ = msg
	w.run()
	if len(receipts) != 1 || <-receipts != "3EB0PART" {
		t.Errorf("the phone was asked %d times", len(receipts))
	}
	if w.run(); len(receipts) != 0 {
		t.Error("the next run has asked again")
	}
}

func TestAnotherAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	list, err := openTestCatalog(t, w.cfg.db)
	if err != nil {
		t.Fatal(err)
	}
	if err = list.claim(t.Context(), types.NewJID("4911111", types.DefaultUserServer)); err != nil {
		t.Fatal(err)
	}
	_ = list.db.Close()
	if _, err = w.try(t.Context()); err == nil || !strings.Contains(err.Error(), "name another file with -db") {
		t.Errorf("got %v", err)
	}
}

func TestUnlinked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cfg.quiet = time.Hour
	go func() {
		if err := w.phone.WaitOnline(t.Context()); err == nil {
			w.phone.Logout()
		}
	}()
	if _, err := w.try(t.Context()); err == nil || !strings.Contains(err.Error(), "the phone has unlinked the backfill") {
		t.Errorf("got %v", err)
	}
}

// TestSecrets looks for keys and queries in everything that a run prints and logs, and in the names
// of what it saves, of a file that heals and of one that does not.
func TestSecrets(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old, oldMsg := w.picture()
	fails, failsMsg := w.picture()
	w.box.Expire(old)
	w.box.Expire(fails)
	failing := &post{chat: anna, age: 61 * day, msg: failsMsg}
	w.history(&post{chat: anna, age: 60 * day, msg: oldMsg}, failing)
	w.phone.Phone(func(r wabox.Request) []wabox.Answer {
		return []wabox.Answer{{Result: wabox.Success, Garbage: r.ID == failing.id}}
	})
	var out lockedBuffer
	cfg := w.cfg
	cfg.verbose = true
	if err := run(t.Context(), &out, &w.errs, cfg); err != nil {
		t.Fatal(err)
	}
	files := strings.Join(slices.Collect(maps.Keys(w.saved())), "\n")
	if w.phone.RequestCount() < 2 || !strings.Contains(files, ".png") || strings.Contains(files, "\n") {
		t.Errorf("after %d requests there is %q", w.phone.RequestCount(), files)
	}
	for what, text := range map[string]string{"events": out.String(), "log": w.errs.String(), "report": report(t, cfg.dir), "names of files": files} {
		for _, leak := range w.box.Leaks([]byte(text)) {
			t.Errorf("in the %s: %s", what, leak)
		}
	}
}

// TestLinks begins with nothing: the backfill is linked by QR code or by a code that is typed, and
// fetches what the phone sends then. It has asked for as much history as there is.
func TestLinks(t *testing.T) {
	t.Parallel()
	typed := regexp.MustCompile(`(?m)^ +([0-9A-Z]{4}-[0-9A-Z]{4})$`)
	for _, byCode := range []bool{false, true} {
		t.Run(fmt.Sprintf("by a code that is typed: %t", byCode), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.phone = w.box.NewPhone()
			w.cfg.db += ".new"
			w.cfg.quiet = 5 * time.Second
			old, msg := w.picture()
			w.box.Expire(old)
			if byCode {
				w.cfg.phone = "+" + w.phone.PN.User
			}
			var out lockedBuffer
			link := func(code string) {
				var err error
				if byCode {
					wait(t, "the code", func() bool { return typed.MatchString(w.errs.String()) })
					err = w.phone.EnterCode(t.Context(), typed.FindStringSubmatch(w.errs.String())[1])
				} else {
					err = w.phone.Scan(t.Context(), code)
				}
				if err == nil {
					err = w.phone.WaitOnline(t.Context())
				}
				if err != nil {
					t.Error(err)
					return
				}
				w.history(&post{chat: anna, age: 60 * day, msg: msg})
			}
			var once sync.Once
			w.cfg.newClient = func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
				client := whatsmeow.NewClient(device, log)
				w.phone.Configure(client)
				client.AddEventHandler(func(evt any) {
					if evt, ok := evt.(*events.QR); ok {
						once.Do(func() { go link(evt.Codes[0]) })
					}
				})
				return client, nil
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := run(ctx, &out, &w.errs, w.cfg); err != nil || ctx.Err() != nil {
				t.Fatalf("%v, %v, after\n%s", err, ctx.Err(), out.String())
			}
			parse(t, out.String()) // what is for the person is not among the events
			w.has(map[*wabox.Media]string{old: "Anna (447700900101)"})
			if w.phone.RequestCount() != 1 {
				t.Errorf("there were %d requests", w.phone.RequestCount())
			}
			props := store.DeviceProps
			if !props.GetRequireFullSync() || props.GetHistorySyncConfig().GetFullSyncDaysLimit() < 10_000 || !props.GetHistorySyncConfig().GetOnDemandReady() {
				t.Errorf("it has asked for %v", props)
			}
		})
	}
}

func TestDemoNeedsSomewhereToWrite(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if err := demo(t.Context(), io.Discard, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// What the demo cannot read does not count as nothing.
func TestDemoReadsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for range 2 { // without a folder, and with a file that leads nowhere
		if files, err := (&stage{dir: dir}).saved(); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%d files, error %v", len(files), err)
		}
		if err := os.MkdirAll(filepath.Join(dir, "media"), 0o700); err != nil {
			t.Fatal(err)
		}
		_ = os.Symlink("nowhere", filepath.Join(dir, "media", "link"))
	}
}
