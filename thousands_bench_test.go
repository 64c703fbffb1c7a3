package reupload_test

import (
	"bytes"
	"fmt"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Thousands of clients, files and callers. With -short there are hundreds.

// thousands returns so many, or with -short a tenth.
func thousands(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// inUse returns how many bytes of the heap are in use, and how many goroutines there are.
func inUse() (heap, goroutines float64) {
	runtime.GC()
	runtime.GC() // what finalizers have freed
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc), float64(runtime.NumGoroutine())
}

// What a client that does nothing costs, and what the plugin adds to it.
func BenchmarkIdleClients(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkIdleClients(b, n, false) })
	}
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprintf("connected/%d", n), func(b *testing.B) { benchmarkIdleClients(b, n, true) })
	}
}

func benchmarkIdleClients(b *testing.B, n int, connected bool) {
	if testing.Short() && n > 100 {
		b.Skip("-short")
	}
	box := newBenchBox(b)
	clients := make([]*whatsmeow.Client, n)
	accounts := make([]*wabox.Account, n)
	before, _ := inUse()
	for i := range clients {
		accounts[i] = box.NewAccount()
		clients[i] = accounts[i].NewClient(nil)
	}
	bare, _ := inUse()
	plugins := make([]*reupload.Plugin, n)
	start := time.Now()
	for i, client := range clients {
		var err error
		if plugins[i], err = reupload.Register(client, nil); err != nil {
			b.Fatal(err)
		}
	}
	spent := time.Since(start)
	with, _ := inUse()
	if connected {
		for i, client := range clients {
			if err := client.Connect(); err != nil {
				b.Fatal(err)
			}
			defer client.Disconnect()
			if err := accounts[i].WaitOnline(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		time.Sleep(time.Second) // what a login brings is over
	}
	for b.Loop() { // there is nothing to repeat
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric((bare-before)/float64(n), "client-B")
	b.ReportMetric((with-bare)/float64(n), "added-B/client")
	b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "register-ns/client")
	_, all := inUse()
	for _, plugin := range plugins {
		plugin.Close()
	}
	_, left := inUse()
	b.ReportMetric((all-left)/float64(n), "added-goroutines/client")
}

// Heals at once: from one to a thousand, with a phone that takes 20 ms, against bots that do
// nothing but ask and download from the new path. Each has as many places as heals.
func BenchmarkHealsAtOnce(b *testing.B) {
	for _, n := range []int{1, 3, 10, 32, 100, 300, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			if testing.Short() && n > 100 {
				b.Skip("-short")
			}
			opts := quickly()
			opts.MaxInFlight = n + 1
			newRace(b, opts, n, n).run(b, max(2*n, 64), 4*time.Second)
		})
	}
}

// Ten thousand distinct files, with as many requests in the air as there are by default.
func BenchmarkManyFiles(b *testing.B) {
	const places = 32
	newRace(b, quickly(), places, 4*places).run(b, thousands(1000), longEnough)
}

// A race is between a bot with the plugin and one that does nothing but ask and download.
type race struct {
	bots       [2]*benchBot
	goroutines int
}

func newRace(b *testing.B, opts *reupload.Options, places, goroutines int) *race {
	box := newBenchBox(b)
	r := &race{bots: [2]*benchBot{newBenchBot(b, box, opts), newBenchBot(b, box, nil)}, goroutines: goroutines}
	r.bots[1].places = make(chan struct{}, places)
	answersAfter(20*time.Millisecond, r.bots[:]...)
	return r
}

// run lets the bots download so many files each, in turn and more than once.
func (r *race) run(b *testing.B, files int, bound time.Duration) {
	var rates [2][]time.Duration // the time of one file
	for i := range atMost(b, bound) {
		for _, side := range [2]int{i & 1, 1 - i&1} {
			bot := r.bots[side]
			all := bot.pictures(b, files)
			runtime.GC()
			start := time.Now()
			each(b, r.goroutines, all, func(p benchPicture) error {
				if side == 0 {
					return bot.get(b.Context(), p)
				}
				_, err := bot.askAndDownload(b.Context(), p)
				return err
			})
			rates[side] = append(rates[side], time.Since(start)/time.Duration(files))
		}
	}
	ours, theirs := median(rates[0]), median(rates[1])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1e9/ours, "ours-heals/s")
	b.ReportMetric(1e9/theirs, "theirs-heals/s")
	b.ReportMetric(theirs/ours, "rate-ratio")
}

// Ten thousand callers of one file: requests, memory and connections, against as many downloads of
// a file that is healthy.
func BenchmarkOneFile(b *testing.B) {
	callers := thousands(10_000)
	var peaks [2][]time.Duration // in bytes
	var requests, dialsBefore, dialsAfter, healthyDials int64
	var rounds float64
	for i := range atMost(b, longEnough) {
		for _, side := range [2]int{i & 1, 1 - i&1} {
			b.StopTimer()
			box := newBenchBox(b)
			bot := newBenchBot(b, box, quickly())
			var dials, atAnswer atomic.Int64
			box.Network(func(wabox.Dial) wabox.Plan { dials.Add(1); return wabox.Plan{} })
			media := bot.pictures(b, 1)[0]
			if side == 1 {
				healthy := box.Upload(bytes.Repeat(content()[:20], 500), whatsmeow.MediaImage)
				media.image = healthy.Image()
			}
			told := make(chan struct{})
			bot.account.Phone(func(wabox.Request) []wabox.Answer {
				<-told
				atAnswer.Store(dials.Load())
				return []wabox.Answer{{Result: wabox.Success}}
			})
			peak := watchMemory()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					if _, err := bot.client.Download(b.Context(), media.image); err != nil {
						b.Error(err)
					}
				})
			}
			if side == 0 {
				for bot.plugin.Stats().Expired < uint64(callers) {
					time.Sleep(time.Millisecond)
				}
				for last := int64(-1); last != dials.Load(); time.Sleep(100 * time.Millisecond) {
					last = dials.Load() // dials that were begun before all callers had their answers
				}
			}
			close(told)
			wg.Wait()
			peaks[side] = append(peaks[side], time.Duration(peak()))
			if side == 0 {
				requests += int64(bot.account.RequestCount())
				dialsBefore += atAnswer.Load()
				dialsAfter += dials.Load() - atAnswer.Load()
				rounds++
			} else {
				healthyDials += dials.Load()
			}
			bot.plugin.Close()
			bot.client.Disconnect()
			box.Close()
			b.StartTimer()
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(requests)/rounds, "requests")
	b.ReportMetric(median(peaks[0])/float64(callers), "ours-B/caller")
	b.ReportMetric(median(peaks[1])/float64(callers), "healthy-B/caller")
	b.ReportMetric(median(peaks[0])/median(peaks[1]), "memory-ratio")
	b.ReportMetric(float64(dialsBefore)/rounds, "dials-before")
	b.ReportMetric(float64(dialsAfter)/rounds, "dials-after")
	b.ReportMetric(float64(healthyDials)/rounds, "healthy-dials")
}

// watchMemory returns a function that ends the watch and returns by how much more memory was in use
// than at its beginning, at most.
func watchMemory() (peak func() uint64) {
	samples := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/memory/classes/heap/stacks:bytes"},
	}
	now := func() uint64 {
		metrics.Read(samples)
		return samples[0].Value.Uint64() + samples[1].Value.Uint64()
	}
	inUse()
	before, most := now(), uint64(0)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			most = max(most, now())
			select {
			case <-done:
				return
			case <-time.After(2 * time.Millisecond):
			}
		}
	})
	return func() uint64 {
		close(done)
		wg.Wait()
		return most - min(before, most)
	}
}
