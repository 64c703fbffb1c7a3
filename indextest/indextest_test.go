package indextest_test

import (
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/indextest"
)

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

func TestWrongIndexesFail(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	useful := make(map[string]bool)
	t.Run("wrong", func(t *testing.T) {
		for name, open := range wrongIndexes {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				failures := indextest.Failures(t, open)
				if len(failures) == 0 {
					t.Error("the index passes")
				}
				mu.Lock()
				defer mu.Unlock()
				for test, failure := range failures {
					useful[test] = true
					t.Logf("%s: %.200s", test, failure)
				}
			})
		}
	})
	for _, name := range indextest.Names() {
		if !useful[name] && !t.Failed() {
			t.Errorf("%s finds no fault with any wrong index", name)
		}
	}
	t.Logf("%d wrong indexes, found by %v", len(wrongIndexes), slices.Sorted(maps.Keys(useful)))
}
