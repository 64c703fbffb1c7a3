package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// All methods here but usage, forget, isOf and forgetOld need c.mu.

func (c *cache) path(key cacheKey) string { return filepath.Join(c.dir, key.String()) }

func (c *cache) insert(e *entry) {
	c.entries[e.key] = c.byUse.PushFront(e)
	c.size += e.size
}

// drop forgets an entry, whatever has become of its file.
func (c *cache) drop(e *entry) {
	if e.gone {
		return
	}
	e.gone = true
	c.byUse.Remove(c.entries[e.key])
	delete(c.entries, e.key)
	c.size -= e.size
}

// release is for a reader who is through.
func (c *cache) release(e *entry) {
	if e.readers--; e.readers == 0 && e.once {
		c.evict(e)
	}
	c.trim()
}

// evict removes an entry with its file.
func (c *cache) evict(e *entry) {
	if e.gone {
		return
	}
	if err := os.Remove(c.path(e.key)); err == nil || errors.Is(err, fs.ErrNotExist) {
		c.drop(e)
	}
}

// trim removes the files that were not used for the longest time, until all is within the limit.
func (c *cache) trim() {
	for at := c.byUse.Back(); at != nil && c.size > c.limit; {
		e := at.Value.(*entry)
		at = at.Prev()
		if e.readers == 0 {
			c.evict(e)
		}
	}
}

// usage returns how much is in the cache, and how many downloads run.
func (c *cache) usage() (files int, bytes int64, downloads int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.entries), c.size, len(c.downloads)
}

// forget removes the file of a message, now or when its last reader has finished.
func (c *cache) forget(m media) {
	key, known := keyOf(m)
	if !known {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.entries[key]; found != nil {
		e := found.Value.(*entry)
		if e.once = true; e.readers == 0 {
			c.evict(e)
		}
	}
}

// isOf says when a message was sent that a file is of.
func (c *cache) isOf(m media, sent time.Time) {
	key, _ := keyOf(m)
	c.mu.Lock()
	defer c.mu.Unlock()
	if found := c.entries[key]; found != nil {
		if e := found.Value.(*entry); e.sent.Before(sent) {
			e.sent = sent
		}
	}
}

// forgetOld removes the files of messages that were sent before a time, also of those that another
// gateway has deleted.
func (c *cache) forgetOld(before time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := c.byUse.Front(); at != nil; {
		e := at.Value.(*entry)
		at = at.Next()
		if !e.sent.IsZero() && e.sent.Before(before) {
			if e.once = true; e.readers == 0 {
				c.evict(e)
			}
		}
	}
}
