package reupload_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
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
		CameWith:      testPath(hash),
	}
}

// testPath returns a direct path as messages have them, of 160 to 200 bytes.
func testPath(hash [32]byte) string {
	numbers := fmt.Sprintf("%d_%d_%d", binary.BigEndian.Uint32(hash[:]), binary.BigEndian.Uint64(hash[4:]), binary.BigEndian.Uint64(hash[12:]))
	name := base64.RawURLEncoding.EncodeToString(hash[:])
	if hash[31]%2 == 0 {
		return fmt.Sprintf("/v/t62.7118-24/%s_n.enc?ccb=11-4&oh=01_Q5AaI%s&oe=%X&_nc_sid=5e03e0", numbers, name, hash[20:24])
	}
	return fmt.Sprintf("/o1/v/t24/f2/m238/AQO%s%s?ccb=9-4&oh=01_Q5Aa1Q%s&oe=%X&_nc_sid=e6ed6c", name, name[:20], name, hash[20:24])
}

var rowsFlag = flag.String("rows", "10000,1000000", "how many files BenchmarkMemoryIndex has in its index, one number or more")

// The memory index with thousands and with a million files: time of an insertion and a look-up, and
// heap per file.
func BenchmarkMemoryIndex(b *testing.B) {
	account := types.NewJID("15559999", types.DefaultUserServer)
	for size := range strings.SplitSeq(*rowsFlag, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(size, func(b *testing.B) {
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
			b.Run("insert", func(b *testing.B) { // into a full index, which forgets an old one for it
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
	var times []time.Duration
	i := 0
	for b.Loop() {
		start := time.Now()
		for range group {
			call(i)
			i++
		}
		times = append(times, time.Since(start))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(times)/group, "median-ns")
}
