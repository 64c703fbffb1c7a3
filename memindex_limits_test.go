package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

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
	hasOriginal := slices.ContainsFunc(found, func(e reupload.Entry) bool { return e.MessageID == testEntry(0).MessageID })
	if err != nil || len(found) != 16 || !hasOriginal || found[0].MessageID != testEntry(9999).MessageID {
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

func TestLongestPathIsKept(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(0)
	for i, size := range []int{0, 1, 511, 512, 513, 2048} {
		e := testEntry(i)
		e.CameWith = strings.Repeat("/", size)
		memPut(t, index, e)
		want := e.CameWith
		if size > 512 {
			want = ""
		}
		if found, _ := index.ByMessage(t.Context(), memAccount, e.MessageID); len(found) != 1 || found[0].CameWith != want || found[0].MessageID != e.MessageID {
			t.Errorf("of a path of %d bytes it returns %v", size, found)
		}
		// One that comes later is kept as well, up to the same size.
		e = testEntry(100 + i)
		path := e.CameWith
		e.CameWith = ""
		memPut(t, index, e)
		e.CameWith = path + strings.Repeat("/", max(0, size-len(path)))
		memPut(t, index, e)
		if found, _ := index.ByMessage(t.Context(), memAccount, e.MessageID); len(found) != 1 || len(found[0].CameWith) > 512 ||
			len(e.CameWith) <= 512 && found[0].CameWith != e.CameWith {
			t.Errorf("of a path of %d bytes that comes later it returns %v", len(e.CameWith), found)
		}
	}
}

// An id that is longer than WhatsApp has them does not become another one.
func TestTooLongIDIsLeftOut(t *testing.T) {
	t.Parallel()
	index := reupload.NewMemoryIndex(0)
	e := testEntry(1)
	e.MessageID = strings.Repeat("x", 256+8)
	memPut(t, index, e)
	if found, _ := index.ByFile(t.Context(), memAccount, e.FileEncSHA256); len(found) != 0 {
		t.Errorf("it returns %v", found)
	}
}

// flood puts in so many files of one chat, as messages of 64 cards do.
func flood(t testing.TB, index *reupload.MemoryIndex, count int) {
	t.Helper()
	entries := make([]reupload.Entry, count)
	for i := range entries {
		entries[i] = testEntry(10_000_000 + i)
		entries[i].Chat = types.NewJID("15557777", types.DefaultUserServer)
		entries[i].Participant = types.EmptyJID
	}
	memPut(t, index, entries...)
}

func countLeft(index *reupload.MemoryIndex, count int) (left int) {
	for i := range count {
		if found, _ := index.ByFile(context.Background(), memAccount, testEntry(i).FileEncSHA256); len(found) > 0 {
			left++
		}
	}
	return left
}

// The flood of one account's chat costs another account nothing that it did not have too much of.
func TestFloodOfAnotherAccount(t *testing.T) {
	t.Parallel()
	const capacity = 2000
	index := reupload.NewMemoryIndex(capacity)
	for i := range 1000 {
		memPut(t, index, testEntry(i))
	}
	other := types.NewJID("15551111", types.DefaultUserServer)
	for i := range 5 * capacity {
		e := testEntry(i) // the same chats and files, but one source each
		e.Chat = testEntry(0).Chat
		if err := index.Put(t.Context(), other, []reupload.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if left := countLeft(index, 1000); left < 900 {
		t.Errorf("%d of 1000 files are left", left)
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
