package main

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
)

// A cacheKey names a file by all that it takes to get it. So a sender who knows only a part of
// that, such as the hash, cannot get another sender's file out of the gateway with a message that
// claims to be about it.
type cacheKey [sha256.Size]byte

func (k cacheKey) String() string { return hex.EncodeToString(k[:]) }

// keyOf returns the key of a message's file. Without a hash of what is in it, nothing says that two
// are the same.
func keyOf(m media) (key cacheKey, ok bool) {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(whatsmeow.GetMediaType(m)), m.GetMediaKey(), m.GetFileEncSHA256(), m.GetFileSHA256()} {
		_ = binary.Write(h, binary.BigEndian, uint64(len(part)))
		h.Write(part)
	}
	return cacheKey(h.Sum(nil)), len(m.GetFileSHA256()) == sha256.Size
}

// A cache keeps the files that were asked for last in a directory, up to a limit. Those who ask for
// the same file while it is downloaded share one download. Files that are being read stay, even if
// that is over the limit.
type cache struct {
	cacheConfig
	temporary bool
	root      context.Context // of downloads
	cancel    context.CancelFunc
	work      sync.WaitGroup // downloads
	hits      atomic.Uint64

	mu        sync.Mutex
	entries   map[cacheKey]*list.Element
	byUse     list.List // of *entry, the one used last in front
	size      int64
	downloads map[string]*sharedDownload // by the name and the key, see open
}

type cacheConfig struct {
	dir      string // "" for a temporary one
	limit    int64  // bytes of all files
	largest  int64  // bytes of one file
	parallel int    // downloads at once
	patience time.Duration
}

type entry struct {
	key     cacheKey
	size    int64
	readers int
	sent    time.Time // of the last message with it that was asked for, or later; zero at first
	once    bool      // it goes when its last reader has finished
	gone    bool
}

// partial begins the names of files that are not complete.
const partial = "partial-"

// newCache returns a cache with what an earlier one has left in the directory.
func newCache(ctx context.Context, cfg cacheConfig) (c *cache, err error) {
	c = &cache{cacheConfig: cfg, entries: make(map[cacheKey]*list.Element), downloads: make(map[string]*sharedDownload)}
	if c.dir == "" {
		c.temporary = true
		c.dir, err = os.MkdirTemp("", "reupload-gateway-")
	} else {
		err = c.load()
	}
	if err != nil {
		return nil, fmt.Errorf("the cache cannot be used; name another directory with -cache-dir: %w", err)
	}
	c.root, c.cancel = context.WithCancel(ctx)
	return c, nil
}

func (c *cache) load() error {
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(c.dir)
	if err != nil {
		return err
	}
	type found struct {
		entry
		used time.Time
	}
	var all []found
	for _, file := range files {
		if strings.HasPrefix(file.Name(), partial) { // of a process that was killed
			_ = os.Remove(filepath.Join(c.dir, file.Name()))
			continue
		}
		name, err := hex.DecodeString(file.Name())
		info, infoErr := file.Info()
		if err == nil && infoErr == nil && len(name) == sha256.Size && info.Mode().IsRegular() {
			all = append(all, found{entry{key: cacheKey(name), size: info.Size(), sent: info.ModTime()}, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b found) int { return a.used.Compare(b.used) })
	for i := range all {
		c.insert(&all[i].entry)
	}
	c.trim()
	return nil
}

// close ends all downloads.
func (c *cache) close() {
	c.mu.Lock()
	c.cancel()
	c.mu.Unlock()
	c.work.Wait()
	if c.temporary {
		_ = os.RemoveAll(c.dir)
	}
}

// open returns a file out of the cache, or downloads it first. Callers with the same name and key
// share a download: name says in whose name it happens, as what one account cannot get another one
// can. The error is the download's, the context's, or errBusy.
func (c *cache) open(ctx context.Context, name string, m media, download func(context.Context, whatsmeow.File) error) (*cachedFile, error) {
	key, known := keyOf(m)
	if known {
		if file := c.lookUp(key); file != nil {
			return file, nil
		}
	} else {
		key = sha256.Sum256(fmt.Append(nil, name, time.Now())) // of this download alone
	}
	d, err := c.join(name+"\x00"+key.String(), &entry{key: key, once: !known}, download)
	if err != nil {
		return nil, err
	}
	select {
	case <-d.done:
	case <-ctx.Done():
		c.leave(d)
		return nil, ctx.Err()
	}
	if d.err != nil {
		return nil, d.err
	}
	return c.read(d.entry)
}

func (c *cache) lookUp(key cacheKey) *cachedFile {
	c.mu.Lock()
	found := c.entries[key]
	if found == nil {
		c.mu.Unlock()
		return nil
	}
	e := found.Value.(*entry)
	e.readers++
	c.byUse.MoveToFront(found)
	c.mu.Unlock()
	file, err := c.read(e)
	if err != nil { // the file was deleted from outside
		return nil
	}
	c.hits.Add(1)
	now := time.Now()
	_ = os.Chtimes(file.Name(), now, now) // for the order after a restart
	return file
}

// A cachedFile stays in the cache until it is closed.
type cachedFile struct {
	*os.File
	release func()
}

func (f *cachedFile) Close() error {
	defer f.release()
	return f.File.Close()
}

// read opens an entry that has a reader more for it.
func (c *cache) read(e *entry) (*cachedFile, error) {
	release := sync.OnceFunc(func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.release(e)
	})
	file, err := os.Open(c.path(e.key))
	if err != nil {
		c.mu.Lock()
		c.drop(e)
		c.mu.Unlock()
		release()
		return nil, cmp.Or(c.root.Err(), err) // close removes the files
	}
	return &cachedFile{file, release}, nil
}
