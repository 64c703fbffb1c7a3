package drivertest

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"flag"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

var account = types.NewJID("491700000001", types.DefaultUserServer)

// media returns the n-th of any number of entries, as they are in groups: 22 characters of id, a
// group and a sender.
func media(n int) reupload.Entry {
	var seed [8]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	file := sha256.Sum256(seed[:])
	key := sha256.Sum256(file[:])
	return reupload.Entry{
		Request: reupload.Request{
			MessageID:   fmt.Sprintf("3EB0%X", key[:9]),
			Chat:        types.NewJID(fmt.Sprintf("1203630%011d", n%500), types.GroupServer),
			MediaKey:    key[:],
			Participant: types.NewJID(fmt.Sprintf("4917%08d", n%5000), types.DefaultUserServer),
		},
		FileEncSHA256: file[:],
		Timestamp:     time.Unix(1_700_000_000+int64(n), 0),
	}
}

func mediaBatch(from, count int) []reupload.Entry {
	batch := make([]reupload.Entry, count)
	for i := range batch {
		batch[i] = media(from + i)
	}
	return batch
}

func put(t testing.TB, index reupload.Index, entries ...reupload.Entry) {
	t.Helper()
	if err := index.Put(context.Background(), account, entries); err != nil {
		t.Fatal(err)
	}
}

// fill puts in entries from 0 to count, a thousand at a time, as a history sync does.
func fill(t testing.TB, index reupload.Index, count int) {
	t.Helper()
	for n := 0; n < count; n += 1000 {
		put(t, index, mediaBatch(n, min(1000, count-n))...)
	}
}

// median calls f for each iteration of the benchmark, and reports the median in µs.
func median(b *testing.B, f func(n int)) {
	var took []time.Duration
	for n := 0; b.Loop(); n++ {
		start := time.Now()
		f(n)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds())/1000, "median-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds())/1000, "p99-µs")
}

// A backend opens databases.
type backend struct {
	name  string
	open  func(testing.TB) (db *sql.DB, dialect string) // an empty one
	again func(t testing.TB, db *sql.DB) *sql.DB        // the same with connections of its own, as another process has
}

var backends = []backend{
	{
		"SQLite",
		func(t testing.TB) (*sql.DB, string) { return openSQLite(t, dbFile(t), recommended...), "sqlite" },
		func(t testing.TB, db *sql.DB) *sql.DB {
			var path string
			if err := db.QueryRow("SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&path); err != nil {
				t.Fatal(err)
			}
			return openSQLite(t, path, recommended...)
		},
	},
	{
		"Postgres",
		func(t testing.TB) (*sql.DB, string) { return openDB(t, "pgx", newPostgres(t)), "pgx" },
		func(t testing.TB, db *sql.DB) *sql.DB {
			var name string
			if err := db.QueryRow("SELECT current_database()").Scan(&name); err != nil {
				t.Fatal(err)
			}
			return openDB(t, "pgx", server.dsn(name))
		},
	},
}

func (k backend) index(t testing.TB) (*sqlindex.Index, *sql.DB) {
	t.Helper()
	db, dialect := k.open(t)
	return newIndex(t, db, dialect), db
}

// BenchmarkHistory fills an empty table in batches. Small batches into a large table are the slow
// case, since nearly every row changes pages of the indexes that no other row of the batch does.
func BenchmarkHistory(b *testing.B) {
	for _, k := range backends {
		for _, c := range []struct{ total, batch int }{
			{1000, 1000}, {10_000, 10_000}, {100_000, 1000}, {100_000, 10_000}, {100_000, 100_000},
		} {
			b.Run(fmt.Sprintf("%s/%d-by-%d", k.name, c.total, c.batch), func(b *testing.B) {
				var spent time.Duration
				var db *sql.DB
				for b.Loop() {
					var index *sqlindex.Index
					index, db = k.index(b)
					for n := 0; n < c.total; n += c.batch {
						batch := mediaBatch(n, c.batch)
						start := time.Now()
						put(b, index, batch...)
						spent += time.Since(start)
					}
				}
				b.ReportMetric(float64(c.total)*float64(b.N)/spent.Seconds(), "rows/s")
				if k.name == "SQLite" {
					b.ReportMetric(fileSize(b, db)/float64(c.total), "bytes/message")
				}
			})
		}
	}
}

// BenchmarkLive puts one entry at a time into a table that is not small.
func BenchmarkLive(b *testing.B) {
	for _, k := range backends {
		b.Run(k.name, func(b *testing.B) {
			index, _ := k.index(b)
			fill(b, index, 10_000)
			b.Run("Put", func(b *testing.B) { median(b, func(n int) { put(b, index, media(1e9+n)) }) })
			b.Run("Renew", func(b *testing.B) {
				median(b, func(n int) {
					e := media(n % 10_000)
					e.DirectPath = "/v/t62.7118-24/renewed"
					put(b, index, e)
				})
			})
		})
	}
}

var rowsFlag = flag.String("rows", "10000,1000000", "how many rows BenchmarkLook has in its table, one number or more: 10000,10000000")

// BenchmarkLook looks up random entries in tables of several sizes: see the flag -rows.
func BenchmarkLook(b *testing.B) {
	var sizes []int
	for size := range strings.SplitSeq(*rowsFlag, ",") {
		rows, err := strconv.Atoi(size)
		if err != nil {
			b.Fatal(err)
		}
		sizes = append(sizes, rows)
	}
	for _, k := range backends {
		b.Run(k.name, func(b *testing.B) {
			for _, rows := range sizes {
				b.Run(fmt.Sprint(rows), func(b *testing.B) { benchmarkLook(b, k, rows) })
			}
		})
	}
}

func benchmarkLook(b *testing.B, k backend, rows int) {
	start := time.Now()
	index, db := k.filled(b, rows)
	rate := float64(rows) / time.Since(start).Seconds()
	if k.name == "Postgres" { // which does that by itself within a minute
		if _, err := db.Exec("VACUUM ANALYZE"); err != nil {
			b.Fatal(err)
		}
	}
	look := func(n int) reupload.Entry { return media(n * 7919 % rows) }
	b.Run("ByFile", func(b *testing.B) {
		median(b, func(n int) {
			e := look(n)
			if found, err := index.ByFile(b.Context(), account, e.FileEncSHA256); err != nil || len(found) != 1 {
				b.Fatal(found, err)
			}
		})
		b.ReportMetric(rate, "filled-rows/s")
		b.ReportMetric(databaseSize(b, k, db)/float64(rows), "bytes/row")
	})
	b.Run("ByMessage", func(b *testing.B) {
		median(b, func(n int) {
			e := look(n)
			if found, err := index.ByMessage(b.Context(), account, e.MessageID); err != nil || len(found) != 1 {
				b.Fatal(found, err)
			}
		})
	})
}

// filled returns an index with so many rows. What is looked up is as it is in a bot; the rows are
// put in as no bot may: SQLite then has a cache for all of them, and nothing that saves them from a
// crash.
func (k backend) filled(b *testing.B, rows int) (*sqlindex.Index, *sql.DB) {
	b.Helper()
	var index *sqlindex.Index
	var db *sql.DB
	path := dbFile(b)
	if k.name == "SQLite" {
		db = openSQLite(b, path, "busy_timeout(5000)", "journal_mode(OFF)", "synchronous(OFF)", "cache_size(-4000000)")
		db.SetMaxOpenConns(1)
		index = newIndex(b, db, "sqlite")
	} else {
		index, db = k.index(b)
	}
	index.SetRetention(sqlindex.DefaultMaxAge, rows)
	const batch = 100_000
	for n := 0; n < rows; n += batch {
		put(b, index, mediaBatch(n, min(batch, rows-n))...)
	}
	if k.name == "SQLite" {
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		db = openSQLite(b, path, recommended...)
		index = newIndex(b, db, "sqlite")
	}
	return index, db
}

// databaseSize returns how many bytes a database has, indexes included.
func databaseSize(t testing.TB, k backend, db *sql.DB) (bytes float64) {
	if k.name == "SQLite" {
		return fileSize(t, db)
	}
	if err := db.QueryRow("SELECT pg_database_size(current_database())").Scan(&bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// fileSize returns how many bytes the file of a SQLite database has when all of its log is in it.
func fileSize(t testing.TB, db *sql.DB) (bytes float64) {
	t.Helper()
	const query = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
	if err := db.QueryRow(query).Scan(&bytes); err != nil {
		t.Fatal(err)
	}
	return bytes
}

// TestSize is about messages with ids of 22 characters in groups. Ids of Android have 32, which are
// 10 bytes more.
func TestSize(t *testing.T) {
	t.Parallel()
	const limit = 300
	rows := lots(100_000)
	index, db := backends[0].index(t)
	put(t, index, mediaBatch(0, rows)...)
	perMessage := fileSize(t, db) / float64(rows)
	t.Logf("%.1f bytes per message", perMessage)
	if perMessage > limit {
		t.Errorf("%.1f bytes per message, want %d or less", perMessage, limit)
	}
}

// How long somebody else waits for SQLite's write lock while a history sync of 100,000 is put in,
// in batches as the plugin gives them. A busy_timeout makes SQLite look for the lock now and then
// only, so that this one asks without.
func BenchmarkWriteLock(b *testing.B) {
	path := dbFile(b)
	index := newIndex(b, openSQLite(b, path, recommended...), "sqlite")
	other := openSQLite(b, path, "journal_mode(WAL)", "busy_timeout(0)")
	other.SetMaxOpenConns(1)
	for b.Loop() {
		done := make(chan struct{})
		go func() {
			defer close(done)
			fill(b, index, 100_000)
		}()
		var longest time.Duration
		var free int
		start := time.Now()
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			default:
				if _, err := other.Exec("BEGIN IMMEDIATE; ROLLBACK"); err == nil {
					free++
					start = time.Now()
				} else {
					longest = max(longest, time.Since(start))
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
		b.ReportMetric(float64(longest.Milliseconds()), "longest-ms")
		b.ReportMetric(float64(free), "times-free")
	}
}
