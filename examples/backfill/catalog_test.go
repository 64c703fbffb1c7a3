package main

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
)

func openTestCatalog(t *testing.T, path string) (*catalog, error) {
	t.Helper()
	db, err := openDB(path)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = db.Close() })
	return openCatalog(t.Context(), db)
}

func newTestCatalog(t *testing.T, files ...*file) *catalog {
	t.Helper()
	list, err := openTestCatalog(t, filepath.Join(t.TempDir(), "a catalog?.db"))
	if err == nil {
		_, err = list.add(t.Context(), found{files: files}, "")
	}
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// testFile makes the file number n of a chat: the higher, the newer.
func testFile(n byte, chat types.JID) *file {
	return &file{
		request: reupload.Request{MessageID: fmt.Sprintf("3EB0%02X", n), Chat: chat, MediaKey: bytes.Repeat([]byte{n}, 32)},
		sent:    time.Unix(1_700_000_000+int64(n), 0), kind: reupload.KindImage, mediaType: whatsmeow.MediaImage, mime: "image/png", size: int64(n),
		path: "/v/1?oh=1", checksum: bytes.Repeat([]byte{n, 1}, 16), encFileSHA256: bytes.Repeat([]byte{n, 2}, 16), state: stateNew,
	}
}

func ids(files []*file) (ids []string) {
	for _, f := range files {
		ids = append(ids, f.request.MessageID)
	}
	return ids
}

func TestCatalogGivesEachFileOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	list := newTestCatalog(t, testFile(1, anna), testFile(3, anna), testFile(2, ben))
	if added, err := list.add(ctx, found{files: []*file{testFile(1, anna), testFile(4, anna)}}, ""); err != nil || added != 1 {
		t.Errorf("%d were added, %v", added, err)
	}
	now := time.Now()
	take := func(l lane, n int) []*file {
		t.Helper()
		files, err := list.take(ctx, l, filter{}, n, now)
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	first, rest := take(free, 1), take(free, 10)
	if got := ids(append(first, rest...)); !slices.Equal(got, []string{"3EB004", "3EB003", "3EB002", "3EB001"}) {
		t.Fatalf("got %v", got)
	}
	if f := first[0]; fmt.Sprint(f.request) != fmt.Sprint(testFile(4, anna).request) || !f.sent.Equal(testFile(4, anna).sent) || f.GetMediaType() != whatsmeow.MediaImage ||
		!bytes.Equal(f.GetMediaKey(), testFile(4, anna).request.MediaKey) || f.GetDirectPath() != "/v/1?oh=1" || !bytes.Equal(f.GetFileEncSHA256(), testFile(4, anna).encFileSHA256) {
		t.Errorf("got %+v", *f)
	}
	settle := func(f *file, v verdict) {
		t.Helper()
		if err := list.settle(ctx, f, v); err != nil {
			t.Fatal(err)
		}
	}
	settle(first[0], verdict{state: stateSaved})
	settle(rest[0], verdict{state: stateExpired})
	settle(rest[1], verdict{state: stateFailed, next: now.Add(time.Hour), tried: true})
	settle(rest[2], verdict{}) // as if it had not been tried
	if got := ids(take(free, 10)); !slices.Equal(got, []string{"3EB001"}) {
		t.Errorf("then got %v", got)
	}
	if got := ids(take(phone, 10)); !slices.Equal(got, []string{"3EB003"}) {
		t.Errorf("for the phone got %v", got)
	}
	now = now.Add(2 * time.Hour)
	if got := take(free, 10); len(got) != 1 || got[0].request.MessageID != "3EB002" || got[0].tries != 1 {
		t.Errorf("after an hour got %v", ids(got))
	}
}

// The phone's lane spreads over the chats.
func TestCatalogSpreadsOverChats(t *testing.T) {
	t.Parallel()
	var files []*file
	for n := range byte(10) {
		f := testFile(n+10, anna)
		f.state = stateExpired
		files = append(files, f)
	}
	other := testFile(1, ben)
	other.state = stateExpired
	list := newTestCatalog(t, append(files, other)...)
	var got []string
	for range 4 {
		taken, err := list.take(t.Context(), phone, filter{}, 1, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, ids(taken)...)
	}
	if want := []string{"3EB013", "3EB012", "3EB001"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A new path that comes late makes a file due, whether it has failed already or is about to.
func TestCatalogRevives(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	list := newTestCatalog(t, testFile(1, anna), testFile(2, anna), testFile(3, anna))
	files, err := list.take(ctx, free, filter{}, 3, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	failed := verdict{state: stateFailed, cause: "timeout", next: time.Now().Add(time.Hour), tried: true}
	revive := func(f *file) {
		if err := list.revive(ctx, f.encFileSHA256); err != nil {
			t.Error(err)
		}
	}
	settle := func(f *file, v verdict) {
		if err := list.settle(ctx, f, v); err != nil {
			t.Error(err)
		}
	}
	revive(files[0]) // before
	settle(files[0], failed)
	settle(files[1], failed)
	revive(files[1]) // after
	revive(files[2])
	settle(files[2], verdict{state: stateLost, cause: "not_found", tried: true}) // not this one
	again, err := list.take(ctx, free, filter{}, 3, time.Now())
	if err != nil || len(again) != 2 {
		t.Errorf("got %v, %v", ids(again), err)
	}
}

// What was asked counts for the day, whatever becomes of the process.
func TestCatalogCountsRequests(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	one, two := testFile(1, anna), testFile(2, ben)
	one.state, two.state = stateExpired, stateExpired
	list := newTestCatalog(t, one, two)
	now := time.Now()
	files, err := list.take(ctx, phone, filter{}, 2, now)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	asked := func() int {
		t.Helper()
		n, err := list.askedSince(ctx, now.Add(-time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, f := range files {
		if err = list.asks(ctx, f, now); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked(); n != 2 { // as it is after a kill
		t.Errorf("%d were asked for", n)
	}
	for i, v := range []verdict{{state: stateFailed}, {}} { // what was broken off may have been asked for
		if err = list.settle(ctx, files[i], v); err != nil {
			t.Fatal(err)
		}
	}
	if n := asked(); n != 1 {
		t.Errorf("%d were asked for in the end", n)
	}
	if n, err := list.askedSince(ctx, now.Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d were asked for in the future, %v", n, err)
	}
}

// A chat keeps its folder, and two addresses of a person share one.
func TestCatalogFolders(t *testing.T) {
	t.Parallel()
	list := newTestCatalog(t)
	lid := types.NewJID("200000000000101", types.HiddenUserServer)
	called := "Anna"
	look := func(jid types.JID) func(number, name string) (string, string) {
		return func(number, name string) (string, string) {
			if jid == lid {
				number = anna.User
			}
			return number, called
		}
	}
	for _, step := range []struct {
		jid    types.JID
		called string
		want   string
	}{
		{anna, "Anna", "Anna (447700900101)"},
		{anna, "Anna Miller", "Anna (447700900101)"},
		{lid, "A. Miller", "Anna (447700900101)"},
		{ben, "Anna", "Anna (447700900102)"},
	} {
		called = step.called
		if got, err := list.folder(t.Context(), step.jid, look(step.jid)); err != nil || got != step.want {
			t.Errorf("%v, called %s: %q, %v", step.jid, step.called, got, err)
		}
	}
}

// A part of the history is there until what it brings is.
func TestCatalogReadsPartsOnce(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	list := newTestCatalog(t)
	for _, id := range []string{"A", "B", "A"} {
		if err := list.announce(ctx, id, new(waE2E.HistorySyncNotification)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"A", "B", ""} {
		id, part, err := list.nextPart(ctx)
		if err != nil || id != want || (part == nil) != (want == "") {
			t.Fatalf("got %q, %v, want %q", id, err, want)
		}
		if done, err := list.isDone(ctx, filter{}, time.Now()); done != (want == "") || err != nil {
			t.Errorf("done: %t, %v", done, err)
		}
		canceled, cancel := context.WithCancel(ctx)
		cancel()
		if _, err = list.add(canceled, found{}, id); err == nil {
			t.Error("it was added after the end")
		}
		if _, err = list.add(ctx, found{}, id); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEstimateOfABrokenCatalog(t *testing.T) {
	t.Parallel()
	list := newTestCatalog(t, testFile(1, types.NewJID("1", types.DefaultUserServer)))
	if e, err := estimateOf(t.Context(), list, config{}); err != nil || e.Files != 1 {
		t.Errorf("got %+v, %v", e, err)
	}
	if err := list.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := estimateOf(t.Context(), list, config{}); err == nil {
		t.Error("a catalog that cannot be read is estimated")
	}
}

// TestPartThatIsAnnouncedAgain has a database that cannot be written when the phone announces a
// part of the history.
func TestPartThatIsAnnouncedAgain(t *testing.T) {
	t.Parallel()
	list := newTestCatalog(t)
	list.db.SetMaxOpenConns(1)
	writable := func(is string) {
		if _, err := list.db.Exec("PRAGMA query_only = " + is); err != nil {
			t.Fatal(err)
		}
	}
	writable("ON")
	ctx, cancel := context.WithCancel(t.Context())
	h := &history{account: &account{caughtUp: make(chan struct{})}, catalog: list, log: waLog.Noop}
	close(h.account.caughtUp)
	var running sync.WaitGroup
	running.Go(func() { h.run(ctx) })
	defer running.Wait()
	defer cancel()
	own := types.MessageInfo{ID: "3EB0PART", MessageSource: types.MessageSource{IsFromMe: true}}
	announcement := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{HistorySyncNotification: new(waE2E.HistorySyncNotification)}}
	if h.take(ctx, &events.Message{Info: own, Message: announcement}) {
		t.Error("it counts as stored")
	}
	time.Sleep(100 * time.Millisecond) // in which run tries and fails
	writable("OFF")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		id, part, err := list.nextPart(t.Context())
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the part does not come: %v", err)
		}
		if part != nil && id == own.ID {
			return
		}
	}
}

func TestCatalogThatCannotBeRead(t *testing.T) {
	t.Parallel()
	f := testFile(1, anna)
	list := newTestCatalog(t, f)
	if err := list.db.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, now := t.Context(), time.Now()
	for name, use := range map[string]func() error{
		"claim":      func() error { return list.claim(ctx, anna) },
		"add":        func() error { _, err := list.add(ctx, found{files: []*file{f}}, ""); return err },
		"take":       func() error { _, err := list.take(ctx, free, filter{}, 1, now); return err },
		"wakeDue":    func() error { return list.wakeDue(ctx, now) },
		"asks":       func() error { return list.asks(ctx, f, now) },
		"askedSince": func() error { _, err := list.askedSince(ctx, now); return err },
		"settle":     func() error { return list.settle(ctx, f, verdict{state: stateSaved}) },
		"revive":     func() error { return list.revive(ctx, f.encFileSHA256) },
		"retry":      func() error { _, err := list.retry(ctx, "failed", filter{}); return err },
		"copyOf":     func() error { _, err := list.copyOf(ctx, f); return err },
		"counts":     func() error { _, err := list.counts(ctx, filter{}); return err },
		"isDone":     func() error { _, err := list.isDone(ctx, filter{}, now); return err },
		"all":        func() error { return list.all(ctx, filter{}, func(*file, string) error { return nil }) },
		"announce":   func() error { return list.announce(ctx, "part", new(waE2E.HistorySyncNotification)) },
		"nextPart":   func() error { _, _, err := list.nextPart(ctx); return err },
		"oldest":     func() error { _, err := list.oldest(ctx, filter{}, nil); return err },
		"oldestOf":   func() error { _, _, err := list.oldestOf(ctx, anna); return err },
		"withOlder":  func() error { _, err := list.withOlder(ctx); return err },
		"folder": func() error {
			_, err := list.folder(ctx, anna, func(number, name string) (string, string) { return number, name })
			return err
		},
	} {
		if err := use(); err == nil {
			t.Errorf("%s says nothing of a database that is closed", name)
		}
	}
}

func TestOldest(t *testing.T) {
	t.Parallel()
	list := newTestCatalog(t)
	older, day := true, 24*time.Hour
	first := time.Unix(1_700_000_000, 0)
	var chats []chat
	for i, jid := range []types.JID{anna, ben} {
		chats = append(chats, chat{
			jid: jid, number: jid.User, hasOlder: &older,
			oldest: &types.MessageInfo{ID: fmt.Sprint("3EB0", i), Timestamp: first.Add(time.Duration(i) * day), MessageSource: types.MessageSource{Chat: jid}},
		})
	}
	if _, err := list.add(t.Context(), found{chats: chats}, ""); err != nil {
		t.Fatal(err)
	}
	without := map[string]bool{ben.String(): true}
	for name, test := range map[string]struct {
		wanted  filter
		without map[string]bool
		want    types.JID
	}{
		"the latest":               {filter{}, nil, ben},
		"without it":               {filter{}, without, anna},
		"of a chat":                {filter{chat: anna.User}, nil, anna},
		"of a chat, without it":    {filter{chat: ben.User}, without, types.EmptyJID},
		"before it there is more":  {filter{since: first.Add(day / 2)}, nil, ben},
		"without it there is none": {filter{since: first.Add(day / 2)}, without, types.EmptyJID},
	} {
		info, err := list.oldest(t.Context(), test.wanted, test.without)
		var got types.JID
		if info != nil {
			got = info.Chat
		}
		if got != test.want || err != nil {
			t.Errorf("%s: it is of %s, not of %s; %v", name, got, test.want, err)
		}
	}
}
