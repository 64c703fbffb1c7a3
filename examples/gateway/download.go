package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.mau.fi/whatsmeow"
)

// A sharedDownload ends when it has, or when everybody who waited for it has left.
type sharedDownload struct {
	name    string
	cancel  context.CancelFunc
	waiters int
	done    chan struct{}
	entry   *entry // after done, unless there is an error; it has a reader for each who waited
	err     error
}

var (
	errBusy     = errors.New("the gateway has too much to do; ask again in a few seconds")
	errTooLarge = errors.New("the file is larger than the gateway allows (-max-file)")
	errDisk     = errors.New("the gateway cannot write to its disk, which may be full")
)

func diskError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errDisk, err)
}

// join waits for a download that runs, or starts one.
func (c *cache) join(name string, e *entry, download func(context.Context, whatsmeow.File) error) (*sharedDownload, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.root.Err(); err != nil { // close waits already
		return nil, err
	}
	d := c.downloads[name]
	if d == nil {
		if len(c.downloads) >= c.parallel {
			return nil, errBusy
		}
		ctx, cancel := context.WithTimeout(c.root, c.patience)
		d = &sharedDownload{name: name, cancel: cancel, done: make(chan struct{})}
		c.downloads[name] = d
		c.work.Go(func() {
			defer cancel()
			path, err := c.fetch(ctx, e, download)
			c.end(d, e, path, err)
		})
	}
	d.waiters++
	return d, nil
}

// leave says that one caller waits no longer.
func (c *cache) leave(d *sharedDownload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if d.entry != nil {
		c.release(d.entry)
		return
	}
	if d.waiters--; d.waiters == 0 {
		d.cancel()
		c.remove(d)
	}
}

func (c *cache) remove(d *sharedDownload) {
	if c.downloads[d.name] == d { // and not the next one
		delete(c.downloads, d.name)
	}
}

// fetch downloads a file under a temporary name, which the cache does not serve.
func (c *cache) fetch(ctx context.Context, e *entry, download func(context.Context, whatsmeow.File) error) (path string, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("the download panicked: %v", what)
		}
	}()
	if err = os.MkdirAll(c.dir, 0o700); err != nil {
		return "", diskError(err)
	}
	file, err := os.CreateTemp(c.dir, partial)
	if err != nil {
		return "", diskError(err)
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = diskError(closeErr)
		}
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	target := &limitedFile{File: file, limit: c.largest}
	if err = download(ctx, target); target.err != nil {
		err = target.err
	}
	if err != nil {
		return "", err
	}
	info, err := file.Stat()
	if err != nil {
		return "", diskError(err)
	}
	e.size = info.Size()
	return file.Name(), diskError(file.Sync()) // before it gets the name of a complete file
}

// end hands a download to the callers that wait for it.
func (c *cache) end(d *sharedDownload, e *entry, path string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(d.done)
	c.remove(d)
	if err == nil && d.waiters == 0 {
		_ = os.Remove(path)
		return
	}
	if err == nil {
		if err = diskError(os.Rename(path, c.path(e.key))); err != nil {
			_ = os.Remove(path)
		}
	}
	if d.err = err; err != nil {
		return
	}
	if other := c.entries[e.key]; other != nil { // in another account's name
		e = other.Value.(*entry)
	} else {
		c.insert(e)
	}
	e.readers += d.waiters
	d.entry = e
	c.trim()
}

// A limitedFile is a file that refuses to become larger than it may: what WhatsApp says of that is
// the sender's word. It keeps what the disk says, as whatsmeow takes an error of the operating
// system for one of the network: it tries again for a quarter of a minute, and then reports that
// the file is damaged.
type limitedFile struct {
	whatsmeow.File // without ReadFrom, which would go past Write
	limit          int64
	at             int64
	err            error
}

// ciphertextMore is how much longer a file is while it is encrypted, with its MAC.
const ciphertextMore = 16 + 10

func (f *limitedFile) Write(p []byte) (int, error) {
	if f.at+int64(len(p)) > f.limit+ciphertextMore {
		return 0, errTooLarge
	}
	n, err := f.File.Write(p)
	f.at += int64(n)
	if err != nil {
		f.err = diskError(err)
		err = errDisk // which ends the download
	}
	return n, err
}

func (f *limitedFile) Seek(offset int64, whence int) (int64, error) {
	at, err := f.File.Seek(offset, whence)
	f.at = at
	return at, err
}
