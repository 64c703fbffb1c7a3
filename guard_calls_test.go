package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// A scripted index does what a test says.
type scripted struct {
	put       func(context.Context, []Entry) error
	byFile    func(context.Context, []byte) ([]Entry, error)
	byMessage func(context.Context, types.MessageID) ([]Entry, error)
}

func (x *scripted) Put(ctx context.Context, _ types.JID, entries []Entry) error {
	return x.put(ctx, entries)
}

func (x *scripted) ByFile(ctx context.Context, _ types.JID, file []byte) ([]Entry, error) {
	return x.byFile(ctx, file)
}

func (x *scripted) ByMessage(ctx context.Context, _ types.JID, id types.MessageID) ([]Entry, error) {
	return x.byMessage(ctx, id)
}

// A lines logger keeps what is said, without the debugging.
type lines struct {
	waLog.Logger
	mu   sync.Mutex
	said []string
}

func (l *lines) Warnf(format string, args ...any) { l.say(format, args...) }
func (l *lines) Infof(format string, args ...any) { l.say(format, args...) }

func (l *lines) say(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

func guarding(index Index) (*guardedIndex, *lines) {
	log := &lines{Logger: waLog.Noop}
	return newGuardedIndex(index, func() types.JID { return stageOwn }, log), log
}

// An index that ignores its context costs a call its time, a few goroutines, and no more.
func TestGuardOfAnIndexThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		var running, most atomic.Int32
		g, log := guarding(&scripted{byFile: func(context.Context, []byte) ([]Entry, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-release
			return nil, nil
		}})
		began := time.Now()
		_, err := g.byFile(t.Context(), file(1).FileEncSHA256)
		if took := time.Since(began); !errors.Is(err, context.DeadlineExceeded) || took != indexTimeout+callGrace {
			t.Errorf("after %v: %v", took, err)
		}
		for range 100 {
			_, err = g.byFile(t.Context(), file(1).FileEncSHA256)
		}
		if took := time.Since(began); !errors.Is(err, errHangs) || took > 4*time.Second {
			t.Errorf("a hundred calls took %v: %v", took, err)
		}
		if n := most.Load(); n != callsAtOnce {
			t.Errorf("%d calls are outstanding", n)
		}
		close(release)
		synctest.Wait()
		if _, err = g.byFile(t.Context(), file(1).FileEncSHA256); err != nil {
			t.Errorf("when it returns again: %v", err)
		}
		if len(log.said) != 2 || !strings.Contains(log.said[0], "The index fails (reads)") || !strings.Contains(log.said[1], "works again (reads)") {
			t.Errorf("said: %q", log.said)
		}
	})
}

// Many calls at once of an index that works only wait for each other.
func TestGuardOfManyCalls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, log := guarding(&scripted{byMessage: func(context.Context, types.MessageID) ([]Entry, error) {
			time.Sleep(time.Millisecond)
			return nil, nil
		}})
		var calls sync.WaitGroup
		for i := range 1000 {
			calls.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if i%2 == 0 {
					time.AfterFunc(time.Microsecond, cancel) // which is nothing that the index has done
				}
				if _, err := g.byMessage(ctx, "A"); err != nil && (i%2 != 0 || !errors.Is(err, context.Canceled)) {
					t.Errorf("call %d: %v", i, err)
				}
			})
		}
		calls.Wait()
		if len(log.said) != 0 {
			t.Errorf("said: %q", log.said)
		}
		time.Sleep(time.Second)
	})
}

// A write that fails is not hidden by reads that work, nor the other way round.
func TestGuardTellsReadsFromWrites(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		readOnly, gone := errors.New("attempt to write a readonly database"), errors.New("gone")
		var errRead error
		g, log := guarding(&scripted{
			put: func(ctx context.Context, _ []Entry) error {
				<-ctx.Done()
				return readOnly
			},
			byFile: func(context.Context, []byte) ([]Entry, error) { return nil, errRead },
		})
		for range 3 {
			began := time.Now()
			if err := g.putFor(t.Context(), g.timeout(), []Entry{file(1)}); !errors.Is(err, readOnly) {
				t.Errorf("the error is %v", err)
			}
			if took := time.Since(began); took != indexTimeout && took != failingIndexTimeout {
				t.Errorf("it took %v", took)
			}
			if _, err := g.byFile(t.Context(), nil); err != nil {
				t.Error(err)
			}
		}
		if want := "The index fails (writes), so that media that arrives now may not heal later: " + readOnly.Error(); len(log.said) != 1 || log.said[0] != want {
			t.Errorf("said: %q", log.said)
		}
		errRead = gone
		if _, err := g.byFile(t.Context(), nil); !errors.Is(err, gone) || len(log.said) != 2 {
			t.Errorf("%v; said: %q", err, log.said)
		}
	})
}

// That the caller has given up says nothing about the index.
func TestGuardOfACancelledContext(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, log := guarding(&scripted{
			put:       func(ctx context.Context, _ []Entry) error { <-ctx.Done(); return errors.New("interrupted") },
			byFile:    func(context.Context, []byte) ([]Entry, error) { time.Sleep(time.Second); return nil, nil },
			byMessage: func(ctx context.Context, _ types.MessageID) ([]Entry, error) { return nil, ctx.Err() },
		})
		check := func(what string, call func(context.Context) error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			began := time.Now()
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Millisecond {
				t.Errorf("%s, after %v: %v", what, time.Since(began), err)
			}
			if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s again: %v", what, err)
			}
		}
		check("a write", func(ctx context.Context) error { return g.putFor(ctx, time.Minute, []Entry{file(1)}) })
		check("a read", func(ctx context.Context) error { _, err := g.byFile(ctx, nil); return err })
		if g.reads.failing.Load() || g.writes.failing.Load() || len(log.said) != 0 {
			t.Errorf("it is said to fail: %q", log.said)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestGuardContainsPanics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		g, log := guarding(&scripted{
			put:    func(context.Context, []Entry) error { panic("driver") },
			byFile: func(context.Context, []byte) ([]Entry, error) { panic(errors.New("driver")) },
		})
		err := g.putFor(t.Context(), time.Second, []Entry{file(1)})
		if p := (*panicError)(nil); !errors.As(err, &p) || err.Error() != "the index has panicked: driver" || !bytes.Contains(p.stack, []byte("guard_calls_test.go")) {
			t.Errorf("the error is %v", err)
		}
		if _, err = g.byFile(t.Context(), nil); err == nil || len(log.said) != 2 {
			t.Errorf("the error is %v, and %q is said", err, log.said)
		}
	})
}

// What the index does with what it is given and has returned is its own affair.
func TestGuardCopies(t *testing.T) {
	t.Parallel()
	wiped := func(entries []Entry) {
		for i := range entries {
			clear(entries[i].MediaKey)
			clear(entries[i].FileEncSHA256)
			entries[i] = Entry{}
		}
	}
	returns := []Entry{file(1)}
	g, _ := guarding(&scripted{
		put: func(_ context.Context, entries []Entry) error { wiped(entries); return nil },
		byFile: func(_ context.Context, hash []byte) ([]Entry, error) {
			clear(hash)
			return returns, nil
		},
	})
	given := []Entry{file(1), file(2)}
	g.put(t.Context(), given)
	for i, want := range []Entry{file(1), file(2)} {
		if !given[i].same(&want) {
			t.Errorf("entry %d has become %v", i, given[i])
		}
	}
	hash := file(1).FileEncSHA256
	found, err := g.byFile(t.Context(), hash)
	if want := file(1); err != nil || len(found) != 1 || !bytes.Equal(hash, want.FileEncSHA256) {
		t.Fatalf("%v, %v", found, err)
	}
	wiped(returns)
	if want := file(1); !found[0].same(&want) {
		t.Errorf("what it has returned has become %v", found[0])
	}
}

// What an index returns is used only if it can be an answer.
func TestGuardChecksAnswers(t *testing.T) {
	t.Parallel()
	var returns []Entry
	g, _ := guarding(&scripted{
		byFile:    func(context.Context, []byte) ([]Entry, error) { return returns, nil },
		byMessage: func(context.Context, types.MessageID) ([]Entry, error) { return returns, nil },
	})
	long := strings.Repeat("x", 200)
	for name, change := range map[string]func(*Entry){
		"a short key":        func(e *Entry) { e.MediaKey = e.MediaKey[1:] },
		"no key":             func(e *Entry) { e.MediaKey = nil },
		"a long hash":        func(e *Entry) { e.FileEncSHA256 = append(e.FileEncSHA256, 1) },
		"another file":       func(e *Entry) { e.FileEncSHA256 = file(9).FileEncSHA256 },
		"no message id":      func(e *Entry) { e.MessageID = "" },
		"a long message id":  func(e *Entry) { e.MessageID = long },
		"a long chat":        func(e *Entry) { e.Chat.User = long },
		"a long participant": func(e *Entry) { e.Participant.Server = long },
	} {
		e := file(1)
		change(&e)
		returns = []Entry{file(1), e}
		if found, err := g.byFile(t.Context(), file(1).FileEncSHA256); err != nil || len(found) != 1 {
			t.Errorf("with %s: %v, %v", name, found, err)
		}
		if name == "another file" {
			continue
		}
		if found, _ := g.byMessage(t.Context(), file(1).MessageID); len(found) != 1 {
			t.Errorf("with %s under its id: %v", name, found)
		}
	}
	odd := file(1)
	odd.DirectPath, odd.CameWith = "@example.com/", "//example.com"
	odd.Asked = Asked{At: time.Now().Add(2 * time.Hour), Outcome: outcomeNotFound}
	fine := file(1)
	fine.MessageID, fine.DirectPath, fine.CameWith, fine.Asked = "B", "/new?a=b", "/old", Asked{At: time.Now().Add(50 * time.Minute), Failures: 3}
	returns = []Entry{odd, fine}
	found, _ := g.byFile(t.Context(), file(1).FileEncSHA256)
	if len(found) != 2 || found[0].DirectPath != "" || found[0].CameWith != "" || found[0].Asked != (Asked{}) {
		t.Errorf("it returns %+v", found)
	} else if e := found[1]; e.DirectPath != fine.DirectPath || e.CameWith != fine.CameWith || e.Asked != fine.Asked {
		t.Errorf("it returns %v, %q, %q, %v", e, e.DirectPath, e.CameWith, e.Asked)
	}
	empty := file(1)
	empty.FileEncSHA256 = []byte{}
	returns = []Entry{empty}
	if found, _ = g.byMessage(t.Context(), empty.MessageID); len(found) != 1 || found[0].FileEncSHA256 != nil {
		t.Errorf("without a file it returns %v", found)
	}
	returns = nil
	for i := range 1000 {
		e := file(1)
		e.Chat.User, e.Timestamp = fmt.Sprint(i), time.Unix(int64(5000-i), 0)
		returns = append(returns, e)
	}
	if found, _ = g.byFile(t.Context(), file(1).FileEncSHA256); len(found) != 16 || found[15].Chat.User != "999" {
		t.Errorf("of a thousand it returns %d", len(found))
	}
	if found, _ = g.byMessage(t.Context(), file(1).MessageID); len(found) != 256 {
		t.Errorf("of a thousand under an id it returns %d", len(found))
	}
}

func TestNilIndexIsRefused(t *testing.T) {
	t.Parallel()
	for _, index := range []Index{(*MemoryIndex)(nil), (*scripted)(nil)} {
		client := whatsmeow.NewClient(&store.Device{}, nil)
		if _, err := Register(client, &Options{Index: index}); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("Options.Index is a nil %T", index)) {
			t.Errorf("the error is %v", err)
		}
	}
	for value, want := range map[any]bool{nil: true, (*int)(nil): true, 0: false, "": false, new(int): false, [0]int{}: false} {
		if isNil(value) != want {
			t.Errorf("isNil(%#v) is %v", value, !want)
		}
	}
	if !isNil((func())(nil)) || !isNil(map[int]int(nil)) || isNil(func() {}) {
		t.Error("isNil is wrong about functions or maps")
	}
}
