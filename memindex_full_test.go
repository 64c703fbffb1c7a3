//go:build !race

package reupload_test

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// Tests of many entries on one goroutine, on which the race detector takes ten times as long and
// sees nothing.

// That there are many makes each of them slow, up to a limit.
func TestManyFilesOfOneMessage(t *testing.T) { // not in parallel: it measures time
	const count, limit = 5_000, 100
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
	different := best(func(*reupload.Entry) {})
	for name, common := range map[string]func(*reupload.Entry){
		"many senders": sameMessage,
		"one sender":   func(e *reupload.Entry) { sameMessage(e); e.Participant = memAccount },
	} {
		same := best(common)
		t.Logf("%d files of one message and %s take %v, of as many messages %v", count, name, same, different)
		if same > limit*different {
			t.Errorf("%d files of one message and %s take %v, of as many messages %v", count, name, same, different)
		}
	}
	index := reupload.NewMemoryIndex(0)
	entries := alike(1000, func(e *reupload.Entry) {
		sameMessage(e)
		e.Participant = testEntry(0).Participant
	})
	memPut(t, index, entries[500:]...)
	slices.Reverse(entries)
	memPut(t, index, entries...)
	found, err := index.ByMessage(t.Context(), memAccount, "3EB0")
	if err != nil || len(found) != 64 || index.Len() != 64 || !bytes.Equal(found[63].MediaKey, testEntry(0).MediaKey) {
		t.Errorf("%d entries of one sender are left, %v", len(found), err)
	}
}

// Ids, JIDs and paths that are as long as they can be, and no two alike, are forgotten like others.
func TestLongNamesAreForgotten(t *testing.T) {
	const capacity, limit = 5000, 1700
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
		e.CameWith = fmt.Sprintf("/%0*d", 510+i%4, i) // 511 to 514 bytes
		memPut(t, index, e)
	}
	perFile := float64(heap()-before) / capacity
	t.Logf("%.0f bytes per file", perFile)
	if index.Len() != capacity || perFile > limit {
		t.Errorf("%d files of %.0f bytes each", index.Len(), perFile)
	}
}

// A chat that sends as many files as the whole index holds takes a quarter of it, and not all.
func TestFloodDoesNotEmptyTheIndex(t *testing.T) {
	t.Parallel()
	const capacity = 10_000
	index := reupload.NewMemoryIndex(capacity)
	for i := range capacity / 2 {
		memPut(t, index, testEntry(i))
	}
	flood(t, index, capacity/2)
	if left := countLeft(index, capacity/2); left != capacity/2 || index.Len() != capacity {
		t.Fatalf("%d of %d files are left while there is room", left, capacity/2)
	}
	flood(t, index, 10*capacity)
	if left := countLeft(index, capacity/2); left < capacity/2*9/10 { // (1/2)^8 of the flood costs others a place
		t.Errorf("%d of %d files are left", left, capacity/2)
	}

	full := reupload.NewMemoryIndex(capacity)
	for i := range capacity {
		memPut(t, full, testEntry(i))
	}
	flood(t, full, capacity)
	if left := countLeft(full, capacity); left < capacity*65/100 || full.Len() != capacity {
		t.Errorf("%d of %d files are left", left, capacity)
	}
}

// Of chats that are alike, what is forgotten is old.
func TestOldFilesAreForgotten(t *testing.T) {
	t.Parallel()
	const capacity = 10_000
	index := reupload.NewMemoryIndex(capacity)
	for i := range 3 * capacity { // of a thousand chats
		memPut(t, index, testEntry(i))
	}
	newest := 0
	for i := 3*capacity - capacity/4; i < 3*capacity; i++ {
		if found, _ := index.ByFile(t.Context(), memAccount, testEntry(i).FileEncSHA256); len(found) > 0 {
			newest++
		}
	}
	if newest < capacity/4*95/100 {
		t.Errorf("of the newest quarter %d of %d are left", newest, capacity/4)
	}
	if left := countLeft(index, capacity); left > capacity/10 {
		t.Errorf("of the oldest third %d are left", left)
	}
}
