package drivertest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

func countRows(t testing.TB, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM reupload_media").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// wantCounted checks that the accounts know how many rows they have.
func wantCounted(t testing.TB, db *sql.DB) {
	t.Helper()
	var wrong int
	err := db.QueryRow(`SELECT count(*) FROM reupload_account AS a
		WHERE entries <> (SELECT count(*) FROM reupload_media AS m WHERE m.account = a.id)`).Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d accounts do not know how many rows they have, %v", wrong, err)
	}
}

func TestPruneByNumber(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		fill(t, index, 3000)
		for n := 3000; n < 3010; n++ {
			put(t, index, media(n))
		}
		index.SetRetention(0, 5)
		n, err := index.Prune(t.Context())
		if err != nil || n != 3005 {
			t.Fatalf("Prune: %d, %v, want 3005", n, err)
		}
		if got := countRows(t, db); got != 5 {
			t.Fatalf("%d rows are left, want 5", got)
		}
		checkAll(t, index, 3005, 3010) // the newest
		wantCounted(t, db)
		if n, err = index.Prune(t.Context()); err != nil || n != 0 {
			t.Fatalf("another Prune: %d, %v", n, err)
		}
	})
}

func TestPruneByAge(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		fill(t, index, 2000)
		age := func(where string) {
			t.Helper()
			if _, err := db.Exec("UPDATE reupload_media SET stored = stored - 7200 WHERE " + where); err != nil {
				t.Fatal(err)
			}
		}
		age("id <= (SELECT min(id) FROM reupload_media) + 1199")
		index.SetRetention(3*time.Hour, 0)
		if n, err := index.Prune(t.Context()); err != nil || n != 0 {
			t.Fatalf("Prune with nothing to forget: %d, %v", n, err)
		}
		index.SetRetention(time.Hour, 0)
		if n, err := index.Prune(t.Context()); err != nil || n != 1200 {
			t.Fatalf("Prune: %d, %v, want 1200", n, err)
		}
		put(t, index, media(3000))
		age("id < (SELECT max(id) FROM reupload_media)")
		if n, err := index.Prune(t.Context()); err != nil || n != 800 {
			t.Fatalf("Prune: %d, %v, want 800", n, err)
		}
		checkAll(t, index, 3000, 3001)
	})
}

// Entries that replace others take no place of their own.
func TestReplacingPushesNothingOut(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		index.SetRetention(0, 1000)
		fill(t, index, 1000)
		for range 5 {
			put(t, index, mediaBatch(0, 600)...)
			for n := range 60 {
				put(t, index, media(n))
			}
		}
		if n, err := index.Prune(t.Context()); err != nil || n != 0 {
			t.Fatalf("Prune: %d, %v", n, err)
		}
		if got := countRows(t, db); got != 1000 {
			t.Fatalf("%d rows, want 1000", got)
		}
		wantCounted(t, db)
	})
}

// Put prunes by itself: this test does not call Prune.
func TestPutsPrune(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		index.SetRetention(0, 2000)
		const slack = 500
		batches := max(lots(20), 2)
		for n := range batches {
			put(t, index, mediaBatch(n*1000, 1000)...)
		}
		// A machine that has much else to do lets it fall behind, but not for good.
		if got := countRows(t, db); batches == 20 && got > 10_000 {
			t.Fatalf("%d rows after 20,000 were put in, want 2000 or little more", got)
		}
		for n := 20_000; n < 21_500 || n < 25_000 && countRows(t, db) > 2000+slack; n++ {
			put(t, index, media(n))
		}
		if got := countRows(t, db); got < 2000 || got > 2000+slack {
			t.Fatalf("%d rows, want 2000 or little more", got)
		}
		checkAll(t, index, 20_000, 21_500)
		// A table that is too large from the start becomes smaller little by little.
		index.SetRetention(0, 100)
		for n := 30_000; n < 32_000 || n < 36_000 && countRows(t, db) > 100+slack; n++ {
			put(t, index, media(n))
		}
		if got := countRows(t, db); got > 100+slack {
			t.Fatalf("%d rows, want 100 or little more", got)
		}
	})
}

func TestPruneLetsOthersWrite(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		index := newIndex(t, db, dialect)
		fill(t, index, lots(20_000))
		index.SetRetention(0, 10)
		var wg sync.WaitGroup
		pruned := make(chan struct{})
		wg.Go(func() {
			defer close(pruned)
			if _, err := index.Prune(t.Context()); err != nil {
				t.Error(err)
			}
		})
		live := newIndex(t, k.again(t, db), dialect) // in another process
		for n := 100_000; ; n++ {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			err := live.Put(ctx, account, []reupload.Entry{media(n)})
			cancel()
			if err != nil {
				t.Errorf("Put while another process prunes: %v", err)
				break
			}
			select {
			case <-pruned:
			default:
				continue
			}
			break
		}
		wg.Wait()
	})
}

// A file that came with a great many messages takes no longer than another one.
func TestPopularFile(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		messages := lots(20_000)
		popular := mediaBatch(0, messages)
		for n := range popular {
			popular[n].FileEncSHA256 = media(1e6).FileEncSHA256
		}
		put(t, index, popular...)
		put(t, index, media(1e6+1))
		found, err := index.ByFile(t.Context(), account, media(1e6).FileEncSHA256)
		if err != nil || len(found) != 16 || found[0].MessageID != media(messages-1).MessageID || found[14].MessageID != media(messages-15).MessageID ||
			found[15].MessageID != media(0).MessageID { // of 500 chats, one each
			t.Fatalf("ByFile: %v, %v", found, err)
		}
		if k.name != "SQLite" {
			return
		}
		for _, order := range []string{"ORDER BY seconds DESC, id DESC LIMIT 16", "AND seconds > -62135596800 ORDER BY seconds, id LIMIT 1"} {
			rows, err := db.Query("EXPLAIN QUERY PLAN SELECT path FROM reupload_media WHERE file = 1 AND account = 1 AND file_hash = x'00' " + order)
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			for rows.Next() {
				var id, parent, unused int
				var detail string
				if err = rows.Scan(&id, &parent, &unused, &detail); err != nil || strings.Contains(detail, "SCAN") || strings.Contains(detail, "TEMP") {
					t.Errorf("ByFile reads or sorts all rows of a file: %s, %v", detail, err)
				}
			}
		}
	})
}

// Processes that end before they have put in much prune as well.
func TestShortRunsPrune(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		db, dialect := k.open(t)
		for run := range 10 {
			index := newIndex(t, db, dialect)
			index.SetRetention(0, 10)
			put(t, index, mediaBatch(run*20, 20)...)
		}
		if n := countRows(t, db); n > 30 {
			t.Errorf("%d rows are left, with a limit of 10", n)
		}
	})
}

// The limit holds where many write at once: each row counts.
func TestLimitWithManyWriters(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		index.SetRetention(0, 100)
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for n := range 50 {
					if err := index.Put(t.Context(), account, []reupload.Entry{media(w*1000 + n)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		writers.Wait()
		if _, err := index.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := countRows(t, db); n != 100 {
			t.Errorf("%d rows are left, want 100", n)
		}
		wantCounted(t, db)
	})
}

// One account that puts in a great many takes nothing from those that have few.
func TestFloodOfOneAccount(t *testing.T) {
	each(t, func(t *testing.T, k backend) {
		index, db := k.index(t)
		unit := 100
		if raceDetector { // which takes a SQLite without C thirty times as long
			unit = 10
		}
		index.SetRetention(0, 30*unit)
		of := func(n int) types.JID { return types.NewJID(fmt.Sprintf("4917000002%02d", n), types.DefaultUserServer) }
		putFor := func(account types.JID, from, count int) {
			t.Helper()
			if err := index.Put(t.Context(), account, mediaBatch(from, count)); err != nil {
				t.Fatal(err)
			}
		}
		count := func(account types.JID, from, to int) (n int) {
			t.Helper()
			for i := from; i < to; i++ {
				found, err := index.ByMessage(t.Context(), account, media(i).MessageID)
				if err != nil {
					t.Fatal(err)
				}
				n += len(found)
			}
			return n
		}
		few, share := unit, 7*unit
		putFor(of(1), 0, few)
		for n := 0; n < share; n += unit { // less than a third of the limit
			putFor(of(2), n, unit)
		}
		for n := range 10 {
			putFor(account, 10_000+10*unit*n, 10*unit)
		}
		if _, err := index.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		if a, b := count(of(1), 0, few), count(of(2), 0, share); a != few || b != share {
			t.Errorf("of what two others had put in %d of %d and %d of %d are left", a, few, b, share)
		}
		if n, newest := countRows(t, db), count(account, 10_000+95*unit, 10_000+100*unit); n != 30*unit || newest != 5*unit {
			t.Errorf("%d rows are left, and %d of the %d newest", n, newest, 5*unit)
		}
		// With a lower limit all come down to an even share, except one that has less.
		index.SetRetention(0, 9*unit)
		if _, err := index.Prune(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, b := count(of(1), 0, few), count(of(2), 0, share)
		c := countRows(t, db) - a - b
		if a != few || a+b+c != 9*unit || b < 3*unit || c < 3*unit {
			t.Errorf("the accounts have %d, %d and %d", a, b, c)
		}
		if n := count(of(2), share-b, share); n != b {
			t.Errorf("of the newest %d, %d are left", b, n)
		}
		wantCounted(t, db)
	})
}
