package indextest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// A recorder takes failures down instead of failing.
type recorder struct {
	testing.TB
	mu     sync.Mutex
	failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failed == "" {
		r.failed = fmt.Sprintf(format, args...)
	}
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

// Failure runs the tests as Run does, one after the other, and returns the name of the first that
// has failed and why, or "" if none has.
func Failure(t *testing.T, open func() reupload.Index) (name, why string) {
	for _, test := range tests {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			test.run(&checker{TB: r, index: open(), account: testAccount, timeout: 300 * time.Millisecond})
		}()
		<-done
		if r.failed != "" {
			return test.name, r.failed
		}
	}
	return "", ""
}

// A Workload is how much the tests ask of an index: calls of Put, the entries in them, those with a
// time, of how many message ids they are, and look-ups.
type Workload struct{ Puts, Entries, Timed, IDs, Looks int }

// counted is an index that counts what is asked of it.
type counted struct {
	reupload.Index
	mu  sync.Mutex
	ids map[types.MessageID]bool
	Workload
}

func (x *counted) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	x.mu.Lock()
	x.Puts, x.Entries = x.Puts+1, x.Entries+len(entries)
	for _, e := range entries {
		x.ids[e.MessageID] = true
		if !e.Timestamp.IsZero() {
			x.Timed++
		}
	}
	x.IDs = len(x.ids)
	x.mu.Unlock()
	return x.Index.Put(ctx, account, entries)
}

func (x *counted) looks() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.Looks++
}

func (x *counted) ByFile(ctx context.Context, account types.JID, file []byte) ([]reupload.Entry, error) {
	x.looks()
	return x.Index.ByFile(ctx, account, file)
}

func (x *counted) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	x.looks()
	return x.Index.ByMessage(ctx, account, id)
}

// Workloads returns how much each test asks.
func Workloads(t *testing.T) map[string]Workload {
	all := make(map[string]Workload)
	for _, test := range tests {
		x := &counted{Index: reupload.NewMemoryIndex(0), ids: make(map[types.MessageID]bool)}
		test.run(&checker{TB: t, index: x, account: testAccount, timeout: time.Minute})
		all[test.name] = x.Workload
	}
	return all
}
