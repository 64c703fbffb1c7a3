package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

func TestRetention(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.keep = time.Hour
	err := s.withGateway(t.Context(), func(ctx context.Context) error {
		put := func(store storeFunc, id types.MessageID, age time.Duration) {
			info := types.MessageInfo{ID: id, Timestamp: time.Now().Add(-age), MessageSource: types.MessageSource{Chat: sender, Sender: sender}}
			if err := store(ctx, s.a, &events.Message{Info: info, Message: &waE2E.Message{ImageMessage: s.upload(string(id)).Image()}}); err != nil {
				t.Fatal(err)
			}
		}
		put(s.g.messages.put, "OLD1", 61*time.Minute)
		put(s.g.messages.put, "OLD2", 61*time.Minute)
		put(s.g.messages.put, "NEW", 59*time.Minute)
		put(func(_ context.Context, _ string, evt *events.Message) error {
			return s.g.contained(s.g.account(s.a), evt)
		}, "ALREADYOLD", 61*time.Minute)
		for id, want := range map[types.MessageID]int{"OLD1": http.StatusOK, "NEW": http.StatusOK, "ALREADYOLD": http.StatusNotFound} {
			if got := s.ask(t, http.MethodGet, id); got.status != want {
				t.Errorf("%s: got %s", id, got)
			}
		}
		if n, err := s.g.sweep(ctx); err != nil || n != 2 {
			t.Errorf("deleted %d, %v", n, err)
		}
		for id, want := range map[types.MessageID]int{"OLD1": http.StatusNotFound, "OLD2": http.StatusNotFound, "NEW": http.StatusOK} {
			if got := s.ask(t, http.MethodGet, id); got.status != want {
				t.Errorf("%s: got %s", id, got)
			}
		}
		if files, _, _ := s.g.cache.usage(); files != 1 {
			t.Errorf("%d files are in the cache", files)
		}
		put(s.g.messages.put, "ELSEWHERE", 61*time.Minute)
		if got := s.ask(t, http.MethodGet, "ELSEWHERE"); got.status != http.StatusOK {
			t.Errorf("got %s", got)
		}
		// As another gateway does.
		if _, _, err := s.g.messages.deleteOld(ctx, time.Now().Add(-s.cfg.keep), 1000); err != nil {
			t.Fatal(err)
		}
		if n, err := s.g.sweep(ctx); err != nil || n != 0 {
			t.Errorf("deleted %d, %v", n, err)
		}
		if files, _, _ := s.g.cache.usage(); files != 1 {
			t.Errorf("%d files are in the cache", files)
		}
		if _, more, err := s.g.messages.deleteOld(ctx, time.Now(), 1); err != nil || !more {
			t.Errorf("with a limit: more %v, %v", more, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSweepsByItself starts with what has become old while the gateway was away.
func TestSweepsByItself(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	put := func(context.Context) error {
		s.deliver(t, "OLD", &waE2E.Message{ImageMessage: s.upload("old").Image()})
		s.waitRow(t, "OLD")
		return nil
	}
	if err := s.withGateway(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	s.cfg.keep = time.Nanosecond
	err := s.withGateway(t.Context(), func(context.Context) error {
		for range 1000 {
			if got := s.ask(t, http.MethodHead, "OLD"); got.status == http.StatusNotFound {
				return nil
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("it is still there")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestSweepIsInParts counts in the database how many messages each statement deletes.
func TestSweepIsInParts(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.keep = time.Hour
	err := s.withGateway(t.Context(), func(ctx context.Context) error {
		info := types.MessageInfo{ID: "OLD", Timestamp: time.Now().Add(-61 * time.Minute), MessageSource: types.MessageSource{Chat: sender, Sender: sender}}
		if err := s.g.messages.put(ctx, s.a, &events.Message{Info: info, Message: &waE2E.Message{ImageMessage: s.upload("one").Image()}}); err != nil {
			return err
		}
		db, err := sql.Open(driver, s.cfg.dsn)
		if err != nil {
			return err
		}
		defer db.Close()
		for _, statement := range []string{
			"INSERT INTO gateway_message SELECT account, chat, id || n, sender, from_me, sent, media FROM gateway_message, generate_series(1, 1499) AS n",
			"CREATE TABLE swept (n bigint)",
			"CREATE FUNCTION sweeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO swept SELECT count(*) FROM gone; RETURN NULL; END'",
			"CREATE TRIGGER sweeps AFTER DELETE ON gateway_message REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION sweeps()",
		} {
			if _, err := db.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("%s: %w", statement, err)
			}
		}
		n, err := s.g.sweep(ctx)
		if err != nil || n != 1500 {
			t.Errorf("deleted %d, %v", n, err)
		}
		var most, all int
		if err := db.QueryRowContext(ctx, "SELECT max(n), sum(n) FROM swept").Scan(&most, &all); err != nil || most != 1000 || all != 1500 {
			t.Errorf("of %d messages %d were deleted at once, %v", all, most, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
