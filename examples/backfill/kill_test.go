package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A process is the backfill as one of its own: this program, see TestMain.
type process struct {
	*exec.Cmd
	out  lockedBuffer
	kill func() // kill -9
}

func (w *world) start(args ...string) *process {
	w.t.Helper()
	settings, err := json.Marshal(demoRun{w.box.Invitation(), demoScale.timeout})
	if err != nil {
		w.t.Fatal(err)
	}
	p := new(process)
	p.Cmd = exec.Command(os.Args[0], append([]string{"-db", w.cfg.db, "-dir", w.cfg.dir, "-json", "-quiet", "1s", "-pace", "0"}, args...)...)
	p.Env = append(os.Environ(), demoVariable+"="+string(settings))
	p.Stdout, p.Stderr = &p.out, &w.errs
	if err = p.Start(); err != nil {
		w.t.Fatal(err)
	}
	p.kill = sync.OnceFunc(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
	w.t.Cleanup(p.kill)
	return p
}

// TestKilledWhileThePhoneIsAsked kills it while it waits for the phone. The answer comes to the
// next process, which does not ask again.
func TestKilledWhileThePhoneIsAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wabox.Sockets())
	old, msg := w.picture()
	w.box.Expire(old)
	w.history(&post{chat: anna, age: 60 * day, msg: msg})
	answers := make(chan struct{})
	w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: answers}} })
	first := w.start()
	w.phone.AwaitRequests(t, 1)
	first.kill()
	close(answers)
	second := w.start()
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, parse(t, second.out.String())); got != "saved 1" || w.phone.RequestCount() != 1 {
		t.Errorf("the summary is %s, after %d requests", got, w.phone.RequestCount())
	}
	w.has(map[*wabox.Media]string{old: "Anna (447700900101)"})
}

// TestKilledBeforeTheHistoryIsRead kills it between the announcement of a part of the history and
// its download.
func TestKilledBeforeTheHistoryIsRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t, wabox.Sockets())
	picture, msg := w.picture()
	stalled := make(chan struct{})
	reads := make(chan struct{}, 10)
	w.box.OnEvent(func(e wabox.Event) {
		if e.What == wabox.NodeIn && e.Node.Tag == "iq" && e.Node.Attrs["xmlns"] == "w:m" { // it is about to download
			reads <- struct{}{}
			<-stalled
		}
	})
	w.history(&post{chat: anna, age: time.Hour, msg: msg})
	first := w.start()
	<-reads
	first.kill()
	close(stalled)
	second := w.start()
	if err := second.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, parse(t, second.out.String())); got != "saved 1" {
		t.Errorf("the summary is %s", got)
	}
	w.has(map[*wabox.Media]string{picture: "Anna (447700900101)"})
}

// TestInterrupted ends it by Ctrl+C while a file is on its way. That is still saved, the rest is
// for the next run.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent Ctrl+C there")
	}
	w := newWorld(t, wabox.Sockets())
	var posts []*post
	release := make(chan struct{})
	var first *wabox.Media
	for n := range 3 * runWorkers {
		media, msg := w.picture()
		if first == nil {
			first = media
		}
		w.box.Stall(media.DirectPath, release)
		posts = append(posts, &post{chat: anna, age: time.Hour * time.Duration(n+1), msg: msg})
	}
	w.history(posts...)
	p := w.start()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		parts, err := filepath.Glob(filepath.Join(w.cfg.dir, ".*.part"))
		if err != nil || time.Now().After(deadline) {
			t.Fatal("no download has begun")
		}
		if len(parts) == runWorkers {
			break
		}
	}
	if err := p.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // it must wait
	close(release)
	err := p.Wait()
	if failed := new(exec.ExitError); !errors.As(err, &failed) || failed.ExitCode() != exitInterrupted {
		t.Errorf("it has ended with %v", err)
	}
	if got := summary(t, parse(t, p.out.String())); got != "new 16, saved 8" {
		t.Errorf("the summary is %s", got)
	}
	if n := len(w.saved()); n != runWorkers || w.box.Hits(first.DirectPath) != 1 {
		t.Errorf("%d files are there", n)
	}
	p = w.start()
	if err = p.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := summary(t, parse(t, p.out.String())); got != "saved 24" {
		t.Errorf("then the summary is %s", got)
	}
}
