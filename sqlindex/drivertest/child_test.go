package drivertest

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// The test binary runs itself as a child that only writes, if these are set.
const (
	childEnv      = "REUPLOAD_TEST_CHILD" // the driver's name
	childDSNEnv   = "REUPLOAD_TEST_DSN"
	childStartEnv = "REUPLOAD_TEST_START" // the number of the first entry
)

// runChild puts in history batches, live messages and what has healed until it is killed, and tells
// of each Put that has returned.
func runChild(driver string) {
	err := func() error {
		ctx := context.Background()
		db, err := sql.Open(driver, os.Getenv(childDSNEnv))
		if err != nil {
			return err
		}
		index, err := sqlindex.New(ctx, db, driver)
		if err != nil {
			return err
		}
		var n int
		if _, err = fmt.Sscan(os.Getenv(childStartEnv), &n); err != nil {
			return err
		}
		for round := 0; ; round++ {
			count := 1
			if round%5 == 0 {
				count = 500
			}
			if err = index.Put(ctx, account, mediaBatch(n, count)); err != nil {
				return err
			}
			for i := n; i < n+count; i++ {
				if healed, ok := healed(i); ok {
					if err = index.Put(ctx, account, []reupload.Entry{healed}); err != nil {
						return err
					}
				}
			}
			fmt.Println(n, count)
			n += count
		}
	}()
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// healed returns the n-th entry with a new path, if it is one of those that have healed.
func healed(n int) (reupload.Entry, bool) {
	e := media(n)
	e.DirectPath = fmt.Sprintf("/v/t62.7118-24/healed-%d.enc?ccb=11-4", n)
	return e, n%40 == 0
}

// killChild runs a child until it is killed at some moment, and returns up to where it has
// reported its entries.
func killChild(t *testing.T, driver, dsn string, start int) (end int) {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(os.Environ(), childEnv+"="+driver, childDSNEnv+"="+dsn, fmt.Sprintf("%s=%d", childStartEnv, start))
	child.Stderr = os.Stderr
	pipe, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = child.Start(); err != nil {
		t.Fatal(err)
	}
	reports := bufio.NewReader(pipe)
	end = start
	for killed := false; ; {
		line, err := reports.ReadString('\n')
		if err == io.EOF {
			break // what was written before it died is all read
		}
		var n, count int
		if _, err = fmt.Sscan(line, &n, &count); err != nil || n != end {
			t.Fatalf("the child reported %q: %v", line, err)
		}
		if end += count; !killed {
			killed = true
			time.AfterFunc(rand.N(200*time.Millisecond), func() { _ = child.Process.Kill() })
		}
	}
	if err = child.Wait(); child.ProcessState.ExitCode() != -1 {
		t.Fatalf("the child was not killed: %v", err)
	}
	return end
}

// checkAll looks for entries by file and, now and then, by message.
func checkAll(t *testing.T, index *sqlindex.Index, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		e := media(n)
		found, err := index.ByFile(t.Context(), account, e.FileEncSHA256)
		if err != nil || len(found) != 1 || found[0].MessageID != e.MessageID {
			t.Fatalf("entry %d was put in and is not there: %v, %v", n, found, err)
		}
		if n%50 != 0 {
			continue
		}
		if found, err = index.ByMessage(t.Context(), account, e.MessageID); err != nil || len(found) != 1 {
			t.Fatalf("entry %d has no message: %v, %v", n, found, err)
		}
	}
}

// checkHealed looks for the new paths that the child has put in.
func checkHealed(t *testing.T, index *sqlindex.Index, from, to int) {
	t.Helper()
	for n := from; n < to; n++ {
		want, ok := healed(n)
		if !ok {
			continue
		}
		found, err := index.ByFile(t.Context(), account, want.FileEncSHA256)
		if err != nil || len(found) != 1 || found[0].DirectPath != want.DirectPath {
			t.Fatalf("entry %d has healed, and there is %v, %v", n, found, err)
		}
	}
}

func TestKilledSQLite(t *testing.T) {
	t.Parallel()
	rounds := max(lots(20), 5)
	for name, pragmas := range map[string][]string{"WAL": recommended, "RollbackJournal": {"busy_timeout(1000)"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := sqliteDSN(dbFile(t), pragmas...)
			start := 0
			for range rounds {
				end := killChild(t, "sqlite", dsn, start)
				db := openDB(t, "sqlite", dsn)
				var verdict string
				if err := db.QueryRow("PRAGMA integrity_check").Scan(&verdict); err != nil || verdict != "ok" {
					t.Fatalf("integrity_check: %q, %v", verdict, err)
				}
				index := newIndex(t, db, "sqlite")
				checkAll(t, index, start, end)
				checkHealed(t, index, start, end)
				if err := db.Close(); err != nil {
					t.Fatal(err)
				}
				start = end + 1000 // the last batch may be there too, unreported
			}
		})
	}
}

func TestKilledPostgresClient(t *testing.T) {
	t.Parallel()
	dsn := newPostgres(t)
	index := newIndex(t, openDB(t, "pgx", dsn), "pgx")
	start := 0
	for range 8 {
		end := killChild(t, "pgx", dsn, start)
		checkAll(t, index, start, end)
		checkHealed(t, index, start, end)
		start = end + 1000
	}
}
