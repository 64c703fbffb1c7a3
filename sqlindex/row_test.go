package sqlindex_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

func entry(id string) reupload.Entry {
	return reupload.Entry{
		Request: reupload.Request{
			MessageID: id,
			Chat:      types.NewJID("491700000001", types.DefaultUserServer),
			MediaKey:  bytes.Repeat([]byte{7}, 32),
		},
		FileEncSHA256: bytes.Repeat([]byte{9}, 32),
		Timestamp:     time.Unix(1_700_000_000, 0),
	}
}

func FuzzJID(f *testing.F) {
	for _, jid := range []types.JID{
		types.EmptyJID, types.StatusBroadcastJID, types.NewJID("491700000001", types.DefaultUserServer),
		{User: "1-2", Server: types.InteropServer, Integrator: 3, Device: 4, RawAgent: 5}, types.NewJID("a@b%40", "c@d"),
	} {
		f.Add(jid.User, jid.Server, jid.RawAgent, jid.Device, jid.Integrator)
	}
	f.Fuzz(func(t *testing.T, user, server string, agent uint8, device, integrator uint16) {
		jid := types.JID{User: user, Server: server, RawAgent: agent, Device: device, Integrator: integrator}
		text := sqlindex.FormatJID(jid)
		if got, err := sqlindex.ParseJID(text); err != nil || got != jid {
			t.Errorf("%#v became %q and then %#v, %v", jid, text, got, err)
		}
		if strings.ContainsAny(text, "\"\\{}, '\x00") { // what an array of PostgreSQL could not have as it is
			t.Errorf("%#v became %q", jid, text)
		}
	})
}

func TestJIDIsReadable(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"491700000001@s.whatsapp.net", "491700000001-1600000000@g.us", "status@broadcast", "1@lid"} {
		jid, err := types.ParseJID(text)
		if got := sqlindex.FormatJID(jid); err != nil || got != text {
			t.Errorf("%q is stored as %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"a", "a@b@c@d", "%zz@b", "a@%zz", "a@b@1.2", "a@b@256.0.0", "a@b@x.0.0"} {
		if jid, err := sqlindex.ParseJID(text); err == nil {
			t.Errorf("%q was read as %#v", text, jid)
		}
	}
}

func TestMergedRowsAscendAndDiffer(t *testing.T) {
	t.Parallel()
	known, path, asked := entry("a"), entry("a"), entry("a")
	path.Timestamp, path.DirectPath = time.Time{}, "/path"
	asked.Timestamp, asked.Asked = time.Time{}, reupload.Asked{At: known.Timestamp, Outcome: 1, Failures: 1}
	path.CameWith, asked.CameWith = "/came", "/other"
	without := entry("a")
	without.FileEncSHA256 = nil
	for _, batch := range [][]reupload.Entry{
		{known, path, asked, without},
		{asked, path, without, known},
		{without, path, known, asked, known},
	} {
		merged, err := sqlindex.Merged(batch)
		if err != nil || len(merged) != 2 {
			t.Fatalf("%d rows, %v, want 2", len(merged), err)
		}
		if merged[0].FileEncSHA256 != nil { // which comes first is up to the hash
			merged[0], merged[1] = merged[1], merged[0]
		}
		wantCame := "/came"
		if batch[0].Asked.Failures == 1 {
			wantCame = "/other"
		}
		if got := merged[1]; got.CameWith != wantCame || got.DirectPath != "/path" || got.Asked != asked.Asked || !got.Timestamp.Equal(known.Timestamp) {
			t.Errorf("merged into %v", got)
		}
	}
}

func TestLengthsAreChecked(t *testing.T) {
	t.Parallel()
	key, file := entry("a"), entry("a")
	key.MediaKey = []byte("secret")
	file.FileEncSHA256 = file.FileEncSHA256[1:]
	id, chat, path := entry(strings.Repeat("x", 129)), entry("a"), entry("a")
	chat.Chat.User = strings.Repeat("x", 129)
	path.DirectPath = "/" + strings.Repeat("x", 2<<10)
	came := entry("a")
	came.CameWith = path.DirectPath
	for _, e := range []reupload.Entry{key, file, id, chat, path, came} {
		if _, err := sqlindex.Merged([]reupload.Entry{e}); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestArraysArePostgreSQLs(t *testing.T) {
	t.Parallel()
	e := entry(`a"\`)
	e.FileEncSHA256 = nil
	e.DirectPath = "/p"
	e.Asked = reupload.Asked{At: time.Unix(1_700_000_001, 0), Outcome: 6, Failures: 3}
	e.CameWith = "/c"
	args, err := sqlindex.ArrayArgs([]reupload.Entry{e})
	if err != nil {
		t.Fatal(err)
	}
	want := []any{`{0}`, `{1700000000}`, `{false}`, `{"\\x61225c"}`, `{"491700000001@s.whatsapp.net"}`, `{""}`,
		`{"\\x` + strings.Repeat("07", 32) + `"}`, `{NULL}`, `{"\\x2f63"}`, `{"\\x2f70"}`, `{1700000001}`, `{6}`, `{3}`}
	for i := range want {
		if got := args[4+i]; got != want[i] {
			t.Errorf("argument %d is %v, want %v", 4+i, got, want[i])
		}
	}
}

// Older versions of SQLite have no more than 999 parameters.
func TestParametersOfAStatement(t *testing.T) {
	t.Parallel()
	if one, many := strings.Count(sqlindex.PutOne, "?"), strings.Count(sqlindex.PutMany, "?"); many > 999 || many != one*sqlindex.SQLiteRows {
		t.Errorf("%d parameters for one row and %d for many", one, many)
	}
}

func TestBoundedDoesNotWaitForTheDriver(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	release := make(chan struct{})
	defer close(release)
	_, err := sqlindex.Bounded(ctx, func() (int, error) {
		<-release
		return 1, nil
	})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the error is %v", err)
	}
}

// A panic of a driver reaches the caller, as it would without the goroutine.
func TestBoundedPanics(t *testing.T) {
	t.Parallel()
	defer func() {
		if err := recover(); err != "driver" {
			t.Errorf("recovered %v", err)
		}
	}()
	_, _ = sqlindex.Bounded(t.Context(), func() (int, error) { panic("driver") })
}

type stateError string

func (e stateError) Error() string    { return "failed" }
func (e stateError) SQLState() string { return string(e) }

func TestConflicts(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]bool{"40001": true, "40P01": true, "23505": false, "": false} {
		if got := sqlindex.IsConflict(fmt.Errorf("wrapped: %w", stateError(state))); got != want {
			t.Errorf("%q is a conflict: %v", state, got)
		}
	}
	if sqlindex.IsConflict(errors.New("40001")) {
		t.Error("text is not a state")
	}
}
