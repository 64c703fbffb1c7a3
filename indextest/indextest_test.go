package indextest_test

import (
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
	for _, wrong := range []map[string]func() reupload.Index{wrongEntries, wrongCalls} {
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
