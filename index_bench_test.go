package reupload_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// testEntry returns an entry like those of a busy bot: a thousand chats, each with its members.
func testEntry(i int) reupload.Entry {
	hash := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return reupload.Entry{
		Request: reupload.Request{
			MessageID:   fmt.Sprintf("3EB0%018X", i),
			Chat:        types.NewJID(fmt.Sprintf("12036304023%07d", i%1000), types.GroupServer),
			MediaKey:    append([]byte(nil), hash[:]...),
			Participant: types.NewJID(fmt.Sprintf("1555%07d", i%1000*7+i%7), types.DefaultUserServer),
		},
		FileEncSHA256: append([]byte(nil), hash[:]...),
		Timestamp:     time.Unix(1_700_000_000+int64(i), 0),
	}
}

// The memory index with 10,000 and with 1,000,000 files: time of an insertion and a look-up, and
// heap per file.
func BenchmarkMemoryIndex(b *testing.B) {
	account := types.NewJID("15559999", types.DefaultUserServer)
	for _, n := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			index := reupload.NewMemoryIndex(n)
			batch := make([]reupload.Entry, 0, 1000)
			for i := range n {
				if batch = append(batch, testEntry(i)); len(batch) == cap(batch) {
					if err := index.Put(b.Context(), account, batch); err != nil {
						b.Fatal(err)
					}
					batch = batch[:0]
				}
			}
			clear(batch[:cap(batch)])
			runtime.GC()
			runtime.ReadMemStats(&after)
			if index.Len() != n {
				b.Fatalf("%d files", index.Len())
			}
			perFile := float64(after.HeapAlloc-before.HeapAlloc) / float64(n)

			b.Run("look-up", func(b *testing.B) {
				hashes := make([][]byte, 4096)
				for i := range hashes {
					hashes[i] = testEntry(rand.IntN(n)).FileEncSHA256
				}
				measure(b, func(i int) {
					if found, _ := index.ByFile(context.Background(), account, hashes[i%len(hashes)]); len(found) != 1 {
						b.Fatal("not found")
					}
				})
				b.ReportMetric(perFile, "heap-B/file")
			})
			b.Run("insert", func(b *testing.B) { // into a full index, which forgets the oldest for it
				entries := make([]reupload.Entry, 4096)
				for i := range entries {
					entries[i] = testEntry(n + i)
				}
				measure(b, func(i int) {
					if i%len(entries) == 0 {
						for k := range entries {
							entries[k].MessageID = fmt.Sprintf("3EB0%018X", n+i+k)
							binary.BigEndian.PutUint64(entries[k].FileEncSHA256, uint64(n+i+k))
						}
					}
					k := i % len(entries)
					_ = index.Put(context.Background(), account, entries[k:k+1])
				})
			})
			runtime.KeepAlive(index)
		})
	}
}

// measure reports the median time of a call, over groups of calls.
func measure(b *testing.B, call func(i int)) {
	const group = 64
	var medians []time.Duration
	i := 0
	for b.Loop() {
		start := time.Now()
		for range group {
			call(i)
			i++
		}
		medians = append(medians, time.Since(start))
	}
	slices.Sort(medians)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(medians[len(medians)/2])/group, "median-ns")
}
