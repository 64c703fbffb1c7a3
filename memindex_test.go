package reupload

import (
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// An entry that had to go for others of its file is not forgotten once more when its slot is taken.
func TestMemoryIndexForgetsOnce(t *testing.T) {
	t.Parallel()
	const capacity = 50
	x := NewMemoryIndex(capacity)
	for i := range 4 * capacity {
		e := file(byte(i))
		if i%2 == 0 {
			e = file(1) // the file that everybody sends on
		}
		e.MessageID = fmt.Sprint(i)
		e.Chat = types.NewJID(fmt.Sprint(1000+i), types.DefaultUserServer)
		e.Timestamp = time.Unix(int64(i+1), 0)
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
		var found, uses int
		for n := range i + 1 {
			entries, _ := x.ByMessage(t.Context(), stageOwn, fmt.Sprint(n))
			found += len(entries)
			if len(entries) > 0 && entries[0].Chat.User != fmt.Sprint(1000+n) {
				t.Fatalf("after %d the message %d is in chat %v", i, n, entries[0].Chat)
			}
		}
		for _, n := range x.jids.uses {
			uses += n
		}
		if found != x.Len() || uses != 3*found { // account, chat, participant
			t.Fatalf("after %d it has %d entries with %d JIDs, and says %d", i, found, uses, x.Len())
		}
	}
	if n := len(x.jids.jids); n > 2*capacity {
		t.Errorf("the table of JIDs has grown to %d", n)
	}
}

// Of many messages with one file, the oldest that has a time stays, and those without one go first.
func TestMemoryIndexKeepsTheOldest(t *testing.T) {
	t.Parallel()
	const timeless = 4
	x := NewMemoryIndex(100)
	for i := range 2 * entriesPerFile {
		e := file(1)
		e.MessageID = fmt.Sprint(i)
		if i >= timeless {
			e.Timestamp = time.Unix(int64(i), 0)
		}
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	entries, _ := x.ByFile(t.Context(), stageOwn, file(1).FileEncSHA256)
	if len(entries) != entriesPerFile || entries[entriesPerFile-1].MessageID != fmt.Sprint(timeless) {
		t.Errorf("it keeps %v", entries)
	}
	if next := entries[entriesPerFile-2]; next.MessageID != fmt.Sprint(entriesPerFile+1) {
		t.Errorf("the next oldest is %v", next)
	}
}

func TestMemoryIndexUsesNumbersOfJIDsAgain(t *testing.T) {
	t.Parallel()
	x := NewMemoryIndex(1)
	for i := range 10 {
		e := file(byte(i))
		e.Chat.User = fmt.Sprint(i)
		if err := x.Put(t.Context(), stageOwn, []Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(x.jids.jids); n != 3 { // account, chat, and no participant
		t.Errorf("the table of JIDs has %d numbers, want 3", n)
	}
}
