package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

func image(content string) *waE2E.ImageMessage {
	sum := sha256.Sum256([]byte(content))
	return &waE2E.ImageMessage{MediaKey: make([]byte, 32), FileEncSHA256: sum[:], FileSHA256: sum[:]}
}

func newTestCache(t *testing.T, cfg cacheConfig) *cache {
	t.Helper()
	if cfg.parallel == 0 {
		cfg.parallel = 8
	}
	if cfg.largest == 0 {
		cfg.largest = 1 << 20
	}
	cfg.patience = time.Minute
	c, err := newCache(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

// TestCacheForgetsOld has files of messages of several ages, one in two messages, one that is read,
// and one that an earlier process has left.
func TestCacheForgetsOld(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newTestCache(t, cacheConfig{dir: dir, limit: 1 << 20})
	start := time.Now()
	for _, content := range []string{"old", "new", "both", "read", "unknown"} {
		c.put(t, content)
	}
	for content, ages := range map[string][]time.Duration{"old": {2}, "new": {0}, "both": {0, 2}, "read": {2}} {
		for _, age := range ages {
			c.isOf(image(content), start.Add(-age*time.Hour))
		}
	}
	reading := c.lookUp(first(keyOf(image("read"))))
	c.forgetOld(start.Add(-time.Hour))
	left := func(c *cache) (left []string) {
		for _, content := range []string{"old", "new", "both", "read", "unknown"} {
			if c.entries[first(keyOf(image(content)))] != nil {
				left = append(left, content)
			}
		}
		return left
	}
	if got := left(c); !slices.Equal(got, []string{"new", "both", "read", "unknown"}) {
		t.Errorf("left are %v", got)
	}
	_ = reading.Close()
	if got := left(c); !slices.Equal(got, []string{"new", "both", "unknown"}) {
		t.Errorf("when it was read, left are %v", got)
	}
	c = newTestCache(t, cacheConfig{dir: dir, limit: 1 << 20})
	if c.forgetOld(start.Add(-time.Hour)); len(c.entries) != 3 {
		t.Errorf("after a restart, left are %v", left(c))
	}
	if c.forgetOld(time.Now().Add(time.Hour)); len(c.entries) != 0 {
		t.Errorf("in the end, left are %v", left(c))
	}
}

func first(key cacheKey, _ bool) cacheKey { return key }

// put downloads a file that has its name in it, and reports whether that was needed.
func (c *cache) put(t *testing.T, content string) (downloaded bool) {
	t.Helper()
	file, err := c.open(t.Context(), content, image(content), func(_ context.Context, f whatsmeow.File) error {
		downloaded = true
		_, err := io.WriteString(f, content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got, err := io.ReadAll(file); err != nil || string(got) != content {
		t.Fatalf("got %q, %v", got, err)
	}
	return downloaded
}

// waitWaiters waits until as many wait for the only download.
func (c *cache) waitWaiters(want int) {
	for waiters := -1; waiters != want; time.Sleep(time.Millisecond) {
		c.mu.Lock()
		for _, d := range c.downloads {
			waiters = d.waiters
		}
		c.mu.Unlock()
	}
}

func onDisk(t *testing.T, dir string) (bytes int64) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if info, err := file.Info(); err == nil {
			bytes += info.Size()
		}
	}
	return bytes
}

func TestCacheEvicts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newTestCache(t, cacheConfig{dir: dir, limit: 30})
	a, b, d, e := strings.Repeat("a", 10), strings.Repeat("b", 10), strings.Repeat("d", 10), strings.Repeat("e", 10)
	for _, next := range []struct {
		content    string
		downloaded bool
	}{
		{a, true}, {b, true}, {d, true}, {a, false}, // a was used last
		{e, true},              // b goes
		{a, false}, {d, false}, // these stay
		{b, true},                       // e goes
		{strings.Repeat("f", 31), true}, // is served, and does not stay
		{strings.Repeat("f", 31), true},
	} {
		if got := c.put(t, next.content); got != next.downloaded {
			t.Errorf("%.1s: downloaded %v, want %v", next.content, got, next.downloaded)
		}
		_, bytes, _ := c.usage()
		if disk := onDisk(t, dir); bytes > 30 || disk != bytes {
			t.Errorf("%.1s: the cache has %d bytes, and its directory %d", next.content, bytes, disk)
		}
	}
}

func TestCacheKeepsWhatIsRead(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, cacheConfig{limit: 10})
	a := strings.Repeat("a", 10)
	file, err := c.open(t.Context(), "a", image(a), func(_ context.Context, f whatsmeow.File) error {
		_, err := io.WriteString(f, a)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c.put(t, strings.Repeat("b", 10))
	if c.put(t, a) {
		t.Error("it was evicted while it was read")
	}
	if err = file.Close(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close() // twice is once
	if files, bytes, _ := c.usage(); files != 1 || bytes != 10 {
		t.Errorf("%d files with %d bytes are left", files, bytes)
	}
}

func TestCacheSharesDownloads(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, cacheConfig{limit: 100})
	var downloads atomic.Int32
	started, finish := make(chan struct{}, 8), make(chan struct{})
	download := func(ctx context.Context, f whatsmeow.File) error {
		downloads.Add(1)
		started <- struct{}{}
		select {
		case <-finish:
		case <-ctx.Done():
			return ctx.Err()
		}
		_, err := io.WriteString(f, "content")
		return err
	}
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			file, err := c.open(t.Context(), "name", image("content"), download)
			if err != nil {
				t.Error(err)
				return
			}
			defer file.Close()
			if got, err := io.ReadAll(file); err != nil || string(got) != "content" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	<-started
	impatient, leave := context.WithCancel(t.Context())
	all.Go(func() { // one that leaves does not end it for the others
		if _, err := c.open(impatient, "name", image("content"), download); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
	c.waitWaiters(6)
	leave()
	c.waitWaiters(5)
	close(finish)
	all.Wait()
	if n := downloads.Load(); n != 1 {
		t.Errorf("there were %d downloads", n)
	}
	for e := c.byUse.Front(); e != nil; e = e.Next() {
		if n := e.Value.(*entry).readers; n != 0 {
			t.Errorf("%d readers are left", n)
		}
	}
}

func TestCacheEndsWhatNobodyWaitsFor(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, cacheConfig{limit: 100, parallel: 1})
	ended := make(chan error, 1)
	started := make(chan struct{})
	ctx, leave := context.WithCancel(t.Context())
	go func() {
		<-started
		if _, err := c.open(t.Context(), "other", image("other"), nil); !errors.Is(err, errBusy) {
			t.Errorf("a second download at once: got %v", err)
		}
		leave()
	}()
	_, err := c.open(ctx, "name", image("content"), func(ctx context.Context, _ whatsmeow.File) error {
		close(started)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the download got %v", err)
	}
	c.work.Wait()
	if !c.put(t, "other") {
		t.Error("nothing was downloaded")
	}
	if disk := onDisk(t, c.dir); disk != int64(len("other")) {
		t.Errorf("%d bytes are left", disk)
	}
}

func TestCacheSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newTestCache(t, cacheConfig{dir: dir, limit: 100})
	c.put(t, "first")
	c.put(t, "second")
	c.close()
	foreign := filepath.Join(dir, "README")
	for _, name := range []string{foreign, filepath.Join(dir, partial+"1")} {
		if err := os.WriteFile(name, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	key, _ := keyOf(image("first"))
	if err := os.Chtimes(c.path(key), old, old); err != nil {
		t.Fatal(err)
	}
	again := newTestCache(t, cacheConfig{dir: dir, limit: 10}) // the older one goes
	if again.put(t, "second") || !again.put(t, "first") {
		t.Error("the wrong file was kept")
	}
	if _, err := os.Stat(foreign); err != nil {
		t.Errorf("it has removed a file that is not its own: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, partial+"*")); len(left) != 0 {
		t.Errorf("%v is left", left)
	}
	// Somebody else cleans the directory.
	again.put(t, "first")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if !again.put(t, "first") || again.put(t, "first") {
		t.Error("it does not recover")
	}
}

func TestCacheFails(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, cacheConfig{limit: 100, largest: 100})
	for name, download := range map[string]func(context.Context, whatsmeow.File) error{
		"error": func(context.Context, whatsmeow.File) error { return io.ErrUnexpectedEOF },
		"panic": func(context.Context, whatsmeow.File) error { panic("on purpose") },
		"large": func(_ context.Context, f whatsmeow.File) error {
			_, err := io.Copy(f, bytes.NewReader(make([]byte, 200)))
			return err
		},
	} {
		file, err := c.open(t.Context(), name, image(name), download)
		if err == nil {
			file.Close()
			t.Errorf("%s: no error", name)
		}
		if name == "large" && !errors.Is(err, errTooLarge) {
			t.Errorf("got %v", err)
		}
	}
	if disk := onDisk(t, c.dir); disk != 0 {
		t.Errorf("%d bytes are left", disk)
	}
}

// TestCacheSaysThatTheDiskFails has a directory that cannot be written to, and a device that
// is always full.
func TestCacheSaysThatTheDiskFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := newTestCache(t, cacheConfig{dir: filepath.Join(dir, "cache"), limit: 100})
	if err := errors.Join(os.RemoveAll(c.dir), os.WriteFile(c.dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.open(t.Context(), "name", image("content"), nil); !errors.Is(err, errDisk) {
		t.Errorf("no directory: got %v", err)
	}
	if err := os.Remove(c.dir); err != nil {
		t.Fatal(err)
	}
	_, err := c.open(t.Context(), "name", image("content"), func(_ context.Context, f whatsmeow.File) error {
		device, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer device.Close()
		target := f.(*limitedFile)
		file := target.File
		target.File = device
		_, err = f.Write([]byte("content"))
		target.File = file
		if network := net.Error(nil); err == nil || errors.As(err, &network) {
			t.Errorf("whatsmeow would try again after %v", err)
		}
		return whatsmeow.ErrInvalidMediaHMAC // as whatsmeow would say in the end
	})
	if !errors.Is(err, errDisk) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("full: got %v", err)
	}
	if disk := onDisk(t, c.dir); disk != 0 {
		t.Errorf("%d bytes are left", disk)
	}
}

// TestCacheIdentity has two messages that differ in one thing that it takes to get a file.
func TestCacheIdentity(t *testing.T) {
	t.Parallel()
	base, _ := keyOf(image("content"))
	for name, change := range map[string]func(*waE2E.ImageMessage){
		"key":       func(m *waE2E.ImageMessage) { m.MediaKey[0]++ },
		"file":      func(m *waE2E.ImageMessage) { m.FileSHA256 = make([]byte, 32) },
		"encrypted": func(m *waE2E.ImageMessage) { m.FileEncSHA256 = make([]byte, 32) },
		"boundary": func(m *waE2E.ImageMessage) {
			m.MediaKey, m.FileEncSHA256 = m.MediaKey[:31], append([]byte{0}, m.FileEncSHA256...)
		},
	} {
		other := image("content")
		change(other)
		if key, _ := keyOf(other); key == base {
			t.Errorf("%s: the same key", name)
		}
	}
	c := newTestCache(t, cacheConfig{limit: 100})
	unknown := &waE2E.ImageMessage{Mimetype: proto.String("image/jpeg")}
	for _, content := range []string{"one", "two"} { // that nothing is known of
		file, err := c.open(t.Context(), "name", unknown, func(_ context.Context, f whatsmeow.File) error {
			_, err := io.WriteString(f, content)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := io.ReadAll(file); string(got) != content {
			t.Errorf("got %q, want %q", got, content)
		}
		file.Close()
	}
	if files, _, _ := c.usage(); files != 0 {
		t.Errorf("%d files are left", files)
	}
}

// TestCacheIsClosed asks for a file while the cache waits for the last downloads, or later.
func TestCacheIsClosed(t *testing.T) {
	t.Parallel()
	c := newTestCache(t, cacheConfig{limit: 10})
	c.put(t, "b")
	e := c.byUse.Front().Value.(*entry)
	e.readers++
	c.close()
	if _, err := c.read(e); !errors.Is(err, context.Canceled) {
		t.Errorf("what was downloaded: got %v", err)
	}
	_, err := c.open(t.Context(), "a", new(waE2E.ImageMessage), func(context.Context, whatsmeow.File) error {
		t.Error("it downloads")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
