package main

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// TestPoison has messages that cannot be handled. Each comes a bounded number of times, and does
// not stop others.
func TestPoison(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	db, err := sql.Open(driver, s.cfg.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err = db.ExecContext(t.Context(), "ALTER TABLE gateway_message ADD CHECK (id <> 'REFUSED')"); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	seen := make(map[types.MessageID]int)
	s.cfg.wrapStore = func(next storeFunc) storeFunc {
		return func(ctx context.Context, account string, evt *events.Message) error {
			mu.Lock()
			seen[evt.Info.ID]++
			mu.Unlock()
			switch evt.Info.ID {
			case "PANIC":
				panic("on purpose")
			case "FAILS":
				return errors.New("for a reason that nobody knows")
			}
			return next(ctx, account, evt)
		}
	}
	err = s.withGateway(t.Context(), func(ctx context.Context) error {
		for _, id := range []types.MessageID{"PANIC", "REFUSED", "FAILS"} {
			s.deliver(t, id, &waE2E.Message{ImageMessage: s.upload(string(id)).Image()})
		}
		for _, after := range []types.MessageID{"AFTER1", "AFTER2", "AFTER3", "AFTER4", "AFTER5"} {
			s.deliver(t, after, &waE2E.Message{ImageMessage: s.upload(string(after)).Image()})
			s.waitRow(t, after)
			s.phones[s.a].Cut() // what was not acknowledged comes again
			if err := s.phones[s.a].WaitOnline(ctx); err != nil {
				return err
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for id, want := range map[types.MessageID]int{"PANIC": 1, "REFUSED": 1, "FAILS": strikes} {
			if seen[id] != want {
				t.Errorf("%s came %d times, want %d", id, seen[id], want)
			}
		}
		if n := s.g.intake.dropped.Load(); n != 3 {
			t.Errorf("%d are said to be dropped", n)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestIsPoison(t *testing.T) {
	t.Parallel()
	var i intake
	for range 10 * strikes { // the database is away
		if i.isPoison("a", errors.New("connection refused")) || i.isPoison("b", &pgconn.PgError{Code: "57P03"}) || i.isPoison("c", &pgconn.PgError{Code: "42P01"}) {
			t.Fatal("a message is lost because the database is away")
		}
	}
	for _, code := range []string{"22021", "23514", "54000"} {
		if !i.isPoison("d", &pgconn.PgError{Code: code}) {
			t.Errorf("%s comes again", code)
		}
	}
	i.succeeded("a") // which has no strikes any more
	for n := 1; n <= strikes; n++ {
		if got := i.isPoison("a", errors.New("again")); got != (n == strikes) {
			t.Errorf("strike %d: got %v", n, got)
		}
		i.succeeded("other")
	}
	for n := range 2 * mostFailed {
		i.isPoison(string(rune(n)), errors.New("each another"))
	}
	if len(i.failed) > mostFailed {
		t.Errorf("%d are remembered", len(i.failed))
	}
}
