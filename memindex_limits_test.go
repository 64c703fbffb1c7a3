package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// What every index must do is in indextest.

var memAccount = types.NewJID("15559999", types.DefaultUserServer)

func memPut(t testing.TB, index *reupload.MemoryIndex, entries ...reupload.Entry) {
	t.Helper()
	if err := index.Put(t.Context(), memAccount, entries); err != nil {
		t.Fatal(err)
	}
}

// alike returns entries of which each has something in common, the oldest first.
func alike(count int, common func(*reupload.Entry)) []reupload.Entry {
	entries := make([]reupload.Entry, count)
	for i := range entries {
		entries[i] = testEntry(i)
		common(&entries[i])
	}
	return entries
}

func TestPopularFilePushesNothingOut(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(100)
	other := testEntry(1_000_000)
	memPut(t, index, other)
	file := testEntry(0).FileEncSHA256
	memPut(t, index, alike(10_000, func(e *reupload.Entry) { e.FileEncSHA256 = file })...)
	found, err := index.ByFile(t.Context(), memAccount, file)
	if err != nil || len(found) != 16 || found[15].MessageID != testEntry(0).MessageID || found[0].MessageID != testEntry(9999).MessageID {
		t.Errorf("%d entries of the file, %v", len(found), err)
	}
	if found, err = index.ByFile(t.Context(), memAccount, other.FileEncSHA256); err != nil || len(found) != 1 {
		t.Errorf("%d entries of another file, %v", len(found), err)
	}
	if n := index.Len(); n != 17 {
		t.Errorf("%d entries in all", n)
	}
}

// A file that a stranger sends in the very second of the original is newer, since it came later.
func TestOriginalOfTheSameSecondStays(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(0)
	original := testEntry(0)
	strangers := alike(100, func(e *reupload.Entry) { e.FileEncSHA256 = original.FileEncSHA256 })
	strangers[1].Timestamp = original.Timestamp
	memPut(t, index, strangers...)
	found, _ := index.ByFile(t.Context(), memAccount, original.FileEncSHA256)
	if !slices.ContainsFunc(found, func(e reupload.Entry) bool { return e.MessageID == original.MessageID }) {
		t.Error("it is gone")
	}
}

func sameMessage(e *reupload.Entry) { e.MessageID = "3EB0" }

// That there are many makes each of them slow, up to a limit.
func TestManyFilesOfOneMessage(t *testing.T) {
	t.Parallel()
	const count, limit = 10_000, 25
	best := func(common func(*reupload.Entry)) (took time.Duration) { // the machine is not ours alone
		entries := alike(count, common)
		for range 3 {
			index := reupload.NewMemoryIndex(0)
			start := time.Now()
			memPut(t, index, entries...)
			if lasted := time.Since(start); took == 0 || lasted < took {
				took = lasted
			}
		}
		return took
	}
	different, same := best(func(*reupload.Entry) {}), best(sameMessage)
	t.Logf("%d files of one message take %v, of as many messages %v", count, same, different)
	if same > limit*different {
		t.Errorf("%d files of one message take %v, of as many messages %v", count, same, different)
	}
	index := reupload.NewMemoryIndex(0)
	entries := alike(1000, sameMessage)
	memPut(t, index, entries[500:]...)
	slices.Reverse(entries)
	memPut(t, index, entries...)
	found, err := index.ByMessage(t.Context(), memAccount, "3EB0")
	if err != nil || len(found) != 256 || index.Len() != 256 || !bytes.Equal(found[255].MediaKey, testEntry(0).MediaKey) {
		t.Errorf("%d entries are left, %v", len(found), err)
	}
}

func TestLargeBatchLetsOthersRead(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(0)
	memPut(t, index, testEntry(1_000_000))
	batch := alike(10_000, sameMessage)
	done := make(chan struct{})
	go func() {
		defer close(done)
		memPut(t, index, batch...)
	}()
	for reads := 0; ; reads++ {
		select {
		case <-done:
			if reads < 10 {
				t.Errorf("%d look-ups while a batch was put in", reads)
			}
			return
		default:
		}
		if found, err := index.ByFile(t.Context(), memAccount, testEntry(1_000_000).FileEncSHA256); err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
	}
}

// endingContext ends when it has been asked a few times.
type endingContext struct {
	context.Context
	left int
}

func (c *endingContext) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

func TestContextEndsABatch(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(0)
	err := index.Put(&endingContext{t.Context(), 3}, memAccount, alike(10_000, func(*reupload.Entry) {}))
	if n := index.Len(); !errors.Is(err, context.Canceled) || n == 0 || n > 5000 {
		t.Errorf("%d entries, %v", n, err)
	}
}

// Ids and JIDs that are as long as they can be, and no two alike, are forgotten like others.
func TestLongNamesAreForgotten(t *testing.T) {
	const capacity, limit = 5000, 1100
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	index := reupload.NewMemoryIndex(capacity)
	for i := range 5 * capacity {
		e := testEntry(i)
		e.MessageID = fmt.Sprintf("%0128d", i)
		e.Chat = types.NewJID(fmt.Sprintf("1%0122d", i), types.GroupServer)
		e.Participant = types.NewJID(fmt.Sprintf("2%0112d", i), types.DefaultUserServer)
		memPut(t, index, e)
	}
	perFile := float64(heap()-before) / capacity
	t.Logf("%.0f bytes per file", perFile)
	if index.Len() != capacity || perFile > limit {
		t.Errorf("%d files of %.0f bytes each", index.Len(), perFile)
	}
}

// What is remembered of a message does not keep the whole message in memory.
func TestIndexKeepsItsOwnStrings(t *testing.T) {
	const capacity, size = 100, 1 << 18
	var stats runtime.MemStats
	index := reupload.NewMemoryIndex(capacity)
	for i := range capacity {
		e := testEntry(i)
		large := strings.Repeat(fmt.Sprintf("%08d", i), size/8)
		e.MessageID, e.DirectPath = large[:20], large[:100]
		e.Chat.User, e.Participant.User = large[:15], large[:16]
		memPut(t, index, e)
	}
	runtime.GC()
	runtime.ReadMemStats(&stats)
	if stats.HeapAlloc > capacity*size/2 {
		t.Errorf("the heap has %d bytes", stats.HeapAlloc)
	}
	runtime.KeepAlive(index)
}
