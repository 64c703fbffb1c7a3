package indextest

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

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
