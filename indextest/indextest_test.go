package indextest_test

import (
	"os"
	"runtime/debug"
	"testing"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
)

// TestMain lets more garbage gather: what is left of a hundred indexes is much of what the tests
// cost.
func TestMain(m *testing.M) {
	debug.SetGCPercent(400)
	os.Exit(m.Run())
}

func TestMemoryIndex(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return reupload.NewMemoryIndex(0) })
}

// An index that is full from the start has grown into all of its chunks.
func TestMemoryIndexThatIsJustLargeEnough(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return reupload.NewMemoryIndex(6100) })
}

// What the wrong indexes are made of is right.
func TestNaiveIndex(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return newNaive() })
}

// An index that returns no more than it must is right as well.
func TestLimitedIndex(t *testing.T) {
	t.Parallel()
	indextest.Run(t, func(*testing.T) reupload.Index { return limitedIndex(func(_, _ *limits) {})() })
}

func TestWrongIndexesFail(t *testing.T) {
	t.Parallel()
	for _, wrong := range []map[string]func() reupload.Index{wrongEntries, wrongCalls, wrongLimits, wrongCameWith, wrongFuture} {
		for name, open := range wrong {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test, why := indextest.Failure(t, open)
				if test == "" {
					t.Error("the index passes")
				}
				t.Logf("%s: %.200s", test, why)
			})
		}
	}
}
