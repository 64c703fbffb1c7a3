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
