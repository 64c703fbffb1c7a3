package indextest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// answersAreTheCallers writes into an answer, which must not change the index.
func answersAreTheCallers(c *checker) {
	e := entry(1)
	e.Asked = asked(1, 6, 1)
	c.put(e)
	for _, get := range []func() []reupload.Entry{
		func() []reupload.Entry { return c.byFile(e.FileEncSHA256) },
		func() []reupload.Entry { return c.byMessage(e.MessageID) },
	} {
		found := get()
		c.want("the index", found, e)
		_ = append(found[0].MediaKey, 1) // must not reach the hash behind it
		c.want("the index", found, e)
		clear(found[0].MediaKey)
		clear(found[0].FileEncSHA256)
		found[0].DirectPath, found[0].MessageID, found[0].Timestamp, found[0].Asked = "/mine", "mine", start, reupload.Asked{}
		c.wantEverywhere(e)
	}
}

// entriesAreCopied writes into the slice that was put in, which must be as it was. The media keys
// in it belong to the index, which may find one twice.
func entriesAreCopied(c *checker) {
	batch := []reupload.Entry{clone(entry(2)), clone(entry(3)), clone(entry(1))}
	batch[0].MediaKey = batch[2].MediaKey
	second := entry(2)
	second.MediaKey = entry(1).MediaKey
	_, err := within(c, c.Context(), func(ctx context.Context) ([]reupload.Entry, error) {
		return nil, c.index.Put(ctx, c.account, batch)
	})
	if err != nil {
		c.Fatalf("Put: %v", err)
	}
	for i, n := range []int{2, 3, 1} {
		if batch[i].MessageID != entry(n).MessageID {
			c.Fatalf("after Put, the slice has %v in place of %v", batch[i], entry(n))
		}
	}
	clear(batch)
	c.wantEverywhere(entry(1))
	c.wantEverywhere(second)
	c.wantEverywhere(entry(3))
}

// noUpdateIsLost has several writers change the same entry at once, each another part of it.
func noUpdateIsLost(c *checker) {
	for n := range 40 {
		want := entry(n)
		var parts [5]reupload.Entry
		for i := range parts {
			parts[i] = entry(n)
			parts[i].Timestamp = time.Time{}
		}
		parts[0].Timestamp = want.Timestamp
		parts[1].DirectPath = "/path"
		parts[2].Asked = asked(1, 6, 1)
		parts[3].Asked = asked(2, 1, 0)
		parts[4].CameWith = "/first"
		want.DirectPath, want.Asked, want.CameWith = parts[1].DirectPath, parts[3].Asked, parts[4].CameWith
		var wg sync.WaitGroup
		ready := make(chan struct{})
		for _, part := range parts {
			wg.Go(func() {
				<-ready
				if err := c.tryPut(part); err != nil {
					c.Errorf("Put: %v", err)
				}
			})
		}
		close(ready)
		wg.Wait()
		c.wantEverywhere(want)
	}
}

// concurrency has readers and writers of two accounts at work on the same entries.
func concurrency(c *checker) {
	const workers, rounds, shared = 8, 15, 10
	of := func(worker int) *checker {
		if worker%2 == 1 {
			return c.as(types.NewJID("491700000009", types.DefaultUserServer))
		}
		return c
	}
	own := func(worker, round int) reupload.Entry { return entry(1000 + worker*rounds + round) }
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			c := of(worker)
			for round := range rounds {
				batch := []reupload.Entry{own(worker, round)}
				for n := range shared { // each in an order of its own
					e := entry((n*7 + worker) % shared)
					e.DirectPath = fmt.Sprintf("/%d/%d", worker, round)
					batch = append(batch, e)
				}
				if err := c.tryPut(batch...); err != nil {
					c.Errorf("Put: %v", err)
					return
				}
				found, err := within(c, c.Context(), func(ctx context.Context) ([]reupload.Entry, error) {
					return c.index.ByFile(ctx, c.account, own(worker, round).FileEncSHA256)
				})
				if err != nil || len(found) != 1 || compare(found[0], own(worker, round)) != "" {
					c.Errorf("ByFile of what this goroutine has put in: %v, %v", found, err)
					return
				}
				found, err = within(c, c.Context(), func(ctx context.Context) ([]reupload.Entry, error) {
					return c.index.ByMessage(ctx, c.account, entry(round%shared).MessageID)
				})
				if err != nil || len(found) != 1 || found[0].DirectPath == "" {
					c.Errorf("ByMessage of what all have put in: %v, %v", found, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for worker := range workers {
		for round := range rounds {
			of(worker).wantEverywhere(own(worker, round))
		}
	}
}

// cancelledContext accepts an answer as well as the context's error, but no waiting.
func cancelledContext(c *checker) {
	c.put(entry(1))
	ctx, cancel := context.WithCancel(c.Context())
	cancel()
	for name, call := range map[string]func(context.Context) ([]reupload.Entry, error){
		"Put": func(ctx context.Context) ([]reupload.Entry, error) {
			return nil, c.index.Put(ctx, c.account, []reupload.Entry{entry(2)})
		},
		"ByFile": func(ctx context.Context) ([]reupload.Entry, error) {
			return c.index.ByFile(ctx, c.account, entry(1).FileEncSHA256)
		},
		"ByMessage": func(ctx context.Context) ([]reupload.Entry, error) {
			return c.index.ByMessage(ctx, c.account, entry(1).MessageID)
		},
	} {
		began := time.Now()
		found, err := within(c, ctx, call)
		if took := time.Since(began); took > c.timeout/2 {
			c.Fatalf("%s with a cancelled context took %v", name, took)
		}
		if name != "Put" && err == nil {
			c.want(name, found, entry(1))
		}
	}
	c.wantEverywhere(entry(1)) // and the index works on
	c.put(entry(3))
	c.wantEverywhere(entry(3))
}
