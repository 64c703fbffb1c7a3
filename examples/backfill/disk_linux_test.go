package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// openFull opens a device that is always full: each write gets ENOSPC.
func openFull(string) (*os.File, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }

// A target must not give whatsmeow an error that it takes for one of the network. If it did, it
// would read the device in the end, which never ends.
func TestTargetOnAFullDisk(t *testing.T) {
	t.Parallel()
	full, err := openFull("")
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	target := &target{File: full}
	_, err = target.Write([]byte("anything"))
	if network := net.Error(nil); err == nil || errors.As(err, &network) {
		t.Errorf("whatsmeow would try again after %v", err)
	}
	if !isDiskFull(target.err) {
		t.Errorf("it has kept %v", target.err)
	}
}

// TestFullDisk has a disk on which files can be made, and nothing be written to them.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	there, thereMsg := w.picture()
	old, oldMsg := w.picture()
	w.box.Expire(old)
	w.history(&post{chat: anna, age: time.Hour, msg: thereMsg}, &post{chat: ben, age: 60 * day, msg: oldMsg})
	events, err := w.try(t.Context(), func(cfg *config) { cfg.writer = func(w *writer) { w.create = openFull } })
	if err == nil || !strings.Contains(err.Error(), makeRoom) {
		t.Errorf("got %v", err)
	}
	if n := len(w.saved()); n > 0 {
		t.Errorf("it has left %d files", n)
	}
	for _, e := range events {
		if e.Event == "file" {
			t.Errorf("a file is %s: %s", e.State, e.Cause)
		}
	}
	if got := summary(t, w.run()); got != "saved 2" {
		t.Errorf("with room the summary is %s", got)
	}
	w.has(map[*wabox.Media]string{there: "Anna (447700900101)", old: "Ben (447700900102)"})
}

// TestDiskThatFailsAtTheEnd has one that takes everything, and then does not keep it.
func TestDiskThatFailsAtTheEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, msg := w.picture()
	w.history(&post{chat: anna, age: time.Hour, msg: msg})
	failing := errors.New("input/output error")
	_, err := w.try(t.Context(), func(cfg *config) {
		cfg.writer = func(w *writer) { w.sync = func(*os.File) error { return failing } }
	})
	if !errors.Is(err, failing) || !strings.Contains(err.Error(), "check the directory of -dir") || len(w.saved()) > 0 {
		t.Errorf("got %v, and %d files", err, len(w.saved()))
	}
}

// A power cut takes no name of a file or a new folder away: what has the name is brought to the
// disk.
func TestNamesAreOnTheDisk(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	w, err := openWriter(root)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	var synced []string
	w.sync = func(f *os.File) error {
		if info, err := f.Stat(); err == nil && info.IsDir() {
			name, _ := filepath.Rel(root, f.Name())
			synced = append(synced, name)
		}
		return nil
	}
	for _, save := range []struct{ name, synced string }{
		{"a/b/1.jpg", "a/b a ."}, // the name of the file, and those of both folders
		{"a/b/2.jpg", "a/b"},
		{"a/c/3.jpg", "a/c a"},
		{"4.txt", "."},
	} {
		synced = nil
		if err := w.save(save.name, make([]byte, 32), func(*os.File) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(synced, " "); got != save.synced {
			t.Errorf("for %s the names in %s are on the disk, not those in %s", save.name, got, save.synced)
		}
	}
}

func TestFullDatabase(t *testing.T) {
	t.Parallel()
	list := newTestCatalog(t)
	list.db.SetMaxOpenConns(1)
	if _, err := list.db.Exec("PRAGMA max_page_count = 1"); err != nil { // of which there are more: no further ones
		t.Fatal(err)
	}
	var err error
	for n := 0; err == nil && n < 1000; n++ {
		f := testFile(1, anna)
		f.request.MessageID, f.path = fmt.Sprint(n), string(bytes.Repeat([]byte("x"), 1000))
		_, err = list.add(t.Context(), found{files: []*file{f}}, "")
	}
	if err == nil || !strings.Contains(inDatabase(err).Error(), makeRoom) {
		t.Errorf("got %v", err)
	}
}

// TestLeftovers has files of a run that was killed, broken ones, and some of somebody else's.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	picture, msg := w.picture()
	w.history(&post{chat: anna, age: time.Hour, msg: msg})
	if err := os.MkdirAll(w.cfg.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{".ABCDEFGHIJKLMNOPQRSTUVWXYZ.part", ".hidden.part", "notes.txt"} {
		if err := os.WriteFile(w.cfg.dir+"/"+name, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.run()
	for _, name := range []string{".hidden.part", "notes.txt"} {
		if err := os.Remove(w.cfg.dir + "/" + name); err != nil {
			t.Error(err)
		}
	}
	w.has(map[*wabox.Media]string{picture: "Anna (447700900101)"})
}
