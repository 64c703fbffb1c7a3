//go:build linux

package main

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var idleAccounts = flag.Int("idle-accounts", 21, "how many accounts BenchmarkIdleAccounts has")

// idleTime is how long a gateway is watched that does nothing. It looks through the sessions once a
// minute.
const idleTime = 20 * time.Second

// A weight is what a gateway takes: for itself, and of the database in each second.
type weight struct {
	goroutines, files, heap, resident float64
	transactions, rows, carried, busy float64 // busy is the part of a processor
}

func (w weight) minus(other weight) weight {
	return weight{
		w.goroutines - other.goroutines, w.files - other.files, w.heap - other.heap, w.resident - other.resident,
		w.transactions - other.transactions, w.rows - other.rows, w.carried - other.carried, w.busy - other.busy,
	}
}

// metrics are those of a gateway that has cleaned up.
func (f *fleet) metrics(p *process) map[string]*dto.MetricFamily {
	f.Helper()
	p.signal(syscall.SIGUSR1)
	time.Sleep(time.Second) // until it has
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	defer cancel()
	got, err := f.request(ctx, p, "/metrics")
	if err != nil {
		f.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	metrics, err := parser.TextToMetricFamilies(bytes.NewReader(got.body))
	if err != nil {
		f.Fatal(err)
	}
	return metrics
}

// weigh watches an idle gateway.
func (f *fleet) weigh(p *process) (w weight) {
	f.Helper()
	db, err := sql.Open(driver, f.dsn)
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	read := func() (n weight) {
		gauge := f.metrics(p)
		err := db.QueryRowContext(f.Context(), "SELECT xact_commit, tup_returned FROM pg_stat_database WHERE datname = current_database()").Scan(&n.transactions, &n.rows)
		if err != nil {
			f.Fatal(err)
		}
		n.carried = float64(p.db.carried.Load())
		n.busy = gauge["process_cpu_seconds_total"].GetMetric()[0].GetCounter().GetValue()
		value := func(name string) float64 { return gauge[name].GetMetric()[0].GetGauge().GetValue() }
		n.goroutines, n.files, n.resident = value("go_goroutines"), value("process_open_fds"), value("process_resident_memory_bytes")
		n.heap = value("go_memstats_heap_inuse_bytes") + value("go_memstats_stack_inuse_bytes")
		return n
	}
	time.Sleep(15 * time.Second) // what only the start took is over, and in the statistics
	first, begin := read(), time.Now()
	time.Sleep(idleTime)
	last := read()
	took := time.Since(begin).Seconds()
	w, change := last, last.minus(first)
	w.transactions, w.rows, w.carried, w.busy = change.transactions/took, change.rows/took, change.carried/took, change.busy/took
	return w
}

func (w weight) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f files, %.1f MB of heap and stacks, %.1f MB resident, %.1f %% of a processor; database: %.1f transactions/s, %.0f rows/s, %.1f kB/s",
		w.goroutines, w.files, w.heap/1e6, w.resident/1e6, 100*w.busy, w.transactions, w.rows, w.carried/1e3)
}

// BenchmarkIdleAccounts has what an account takes that does nothing: the difference between a
// gateway with one account and one with many. capacity.md has the figures. The beat is the usual
// one.
func BenchmarkIdleAccounts(b *testing.B) {
	for b.Loop() {
		var weights [2]weight
		for i, n := range []int{1, *idleAccounts} {
			f := newFleet(b, n)
			f.times = usualTimes
			begin := time.Now()
			p := f.start(fmt.Sprint(n))
			f.settle()
			b.Logf("%d accounts, connected after %v", n, time.Since(begin).Round(100*time.Millisecond))
			weights[i] = f.weigh(p)
			b.Log(weights[i])
			p.kill()
			if strings.Contains(p.out.String(), "level=ERROR") {
				b.Errorf("it has trouble:\n%s", p.out)
			}
		}
		each, n := weights[1].minus(weights[0]), float64(*idleAccounts-1)
		for unit, value := range map[string]float64{
			"goroutines/account": each.goroutines, "files/account": each.files, "heap-B/account": each.heap, "resident-B/account": each.resident,
			"rows/s/account": each.rows, "database-B/s/account": each.carried, "cpu-µs/s/account": 1e6 * each.busy,
		} {
			b.ReportMetric(value/n, unit)
		}
		b.ReportMetric(weights[1].transactions, "transactions/s")
	}
}
