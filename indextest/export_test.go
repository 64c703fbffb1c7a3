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

// Failures runs tests as Run does, and returns those that have failed and why.
func Failures(t *testing.T, open func() reupload.Index) map[string]string {
	failures := make(map[string]string)
	for _, test := range tests {
		if test.name == "LargeBatch" && len(failures) > 0 {
			continue // it takes as long as all others
		}
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			test.run(&checker{TB: r, index: open(), account: testAccount, timeout: 300 * time.Millisecond})
		}()
		<-done
		if r.failed != "" {
			failures[test.name] = r.failed
		}
	}
	return failures
}

// Names returns the names of all tests.
func Names() (names []string) {
	for _, test := range tests {
		names = append(names, test.name)
	}
	return names
}
