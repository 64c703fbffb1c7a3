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
	indextest.Run(t, func(*testing.T) reupload.Index { return reupload.NewMemoryIndex(2500) })
}
