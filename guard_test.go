package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
)

// A lockedIndex is an index whose database is locked: every call waits as long as it may.
type lockedIndex struct {
	reupload.Index
	locked atomic.Bool
	calls  atomic.Int32
}

func (x *lockedIndex) wait(ctx context.Context) error {
	x.calls.Add(1)
	if !x.locked.Load() {
		return nil
	}
	<-ctx.Done()
	return errors.Join(errors.New("database is locked"), ctx.Err())
}

func (x *lockedIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if err := x.wait(ctx); err != nil {
		return err
	}
	return x.Index.Put(ctx, account, entries)
}

func (x *lockedIndex) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	if err := x.wait(ctx); err != nil {
		return nil, err
	}
	return x.Index.ByFile(ctx, account, hash)
}

func (x *lockedIndex) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	if err := x.wait(ctx); err != nil {
		return nil, err
	}
	return x.Index.ByMessage(ctx, account, id)
}

func TestLockedIndexDoesNotHoldUpTheBot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		index := &lockedIndex{Index: reupload.NewMemoryIndex(100)}
		r := newRig(t, &reupload.Options{Index: index})
		before := r.receivePicture()

		index.locked.Store(true)
		start := time.Now()
		const n = 20
		for range n {
			r.receivePicture()
		}
		// Two seconds for the first, a tenth of one for each further one.
		if took := time.Since(start); took > 2*time.Second+(n-1)*time.Second/10 {
			t.Errorf("%d messages took %v", n, took)
		}
		if _, err := r.client.Download(r.ctx(), before.image); !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		// A caller that names the message does not depend on it.
		data, err := r.plugin.Download(r.ctx(), &before.evt.Info, before.image)
		if err != nil || len(data) == 0 {
			t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
		}
		if n := r.log.count("WARN", "The index fails"); n != 2 { // of its reads and of its writes
			t.Errorf("said %d times that the index fails", n)
		}

		index.locked.Store(false)
		after := r.receivePicture()
		r.heals(after)
		if n := r.log.count("INFO", "The index works again"); n == 0 {
			t.Error("it was not said that the index works again")
		}
	})
}

func TestHealthyDownloadAsksNoIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		index := &lockedIndex{Index: reupload.NewMemoryIndex(100)}
		r := newRig(t, &reupload.Options{Index: index})
		p := r.receivePicture()
		r.heals(p)
		synctest.Wait() // for the new path to be stored, which comes after the download
		calls := index.calls.Load()
		for range 10 {
			r.heals(p) // from the new path
		}
		if n := index.calls.Load() - calls; n != 0 {
			t.Errorf("the index was asked %d times", n)
		}
	})
}

// A slowIndex takes no batch of more than a thousand entries in the time that it gets.
type slowIndex struct{ reupload.Index }

func (x slowIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if len(entries) > 1000 {
		<-ctx.Done()
		return ctx.Err()
	}
	return x.Index.Put(ctx, account, entries)
}

func TestHistorySyncInASlowIndexIsRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 2500
		index := reupload.NewMemoryIndex(2 * n)
		r := newUnregisteredRig(t)
		r.register(&reupload.Options{Index: slowIndex{index}})
		messages := make([]*waWeb.WebMessageInfo, n)
		for i := range messages {
			m := image(0)
			m.FileEncSHA256 = fmt.Appendf(nil, "%032d", i)
			messages[i] = &waWeb.WebMessageInfo{
				Key:     &waCommon.MessageKey{ID: proto.String(fmt.Sprintf("3EB0%d", i)), RemoteJID: proto.String(alice.String())},
				Message: &waE2E.Message{ImageMessage: m},
			}
		}
		//lint:ignore SA1019 there is no other way to a handler without a network
		r.client.DangerousInternals().DispatchEvent(&events.HistorySync{Data: history(alice, messages...)})
		if index.Len() != n {
			t.Errorf("%d of %d files are remembered", index.Len(), n)
		}
	})
}

// A download that begins when the answer has just come does not ask again.
func TestOneRequestForEachFileWithASlowIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(&reupload.Options{Index: laggingIndex{reupload.NewMemoryIndex(100)}})
		r.connect()
		const files, downloads = 30, 4
		var wg sync.WaitGroup
		for range files {
			p := r.receivePicture()
			for i := range downloads {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * time.Millisecond)
					if _, err := r.client.Download(r.ctx(), p.image); err != nil {
						t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
					}
				})
			}
		}
		wg.Wait()
		r.asked(files)
	})
}

// A laggingIndex takes some milliseconds for each call, as a database does.
type laggingIndex struct{ *reupload.MemoryIndex }

func (x laggingIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	time.Sleep(5 * time.Millisecond)
	return x.MemoryIndex.Put(ctx, account, entries)
}

func (x laggingIndex) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	found, err := x.MemoryIndex.ByFile(ctx, account, hash)
	time.Sleep(5 * time.Millisecond)
	return found, err
}

// An answer that comes in time is the caller's, however long the index takes to keep it.
func TestAnswerInTimeIsNotLateForTheIndex(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.register(&reupload.Options{Index: slowPuts{reupload.NewMemoryIndex(100)}})
		r.connect()
		p := r.receivePicture()
		start := time.Now()
		r.requests(p.request()).succeeds(t)
		if took := time.Since(start); took > 0 {
			t.Errorf("it took %s", took)
		}
	})
}

type slowPuts struct{ *reupload.MemoryIndex }

func (x slowPuts) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if entries[0].DirectPath != "" || !entries[0].Asked.At.IsZero() {
		time.Sleep(time.Second)
	}
	return x.MemoryIndex.Put(ctx, account, entries)
}
