package reupload

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

// No requests have no answers.
func TestRequestAllOfNothing(t *testing.T) {
	t.Parallel()
	for a := range new(Plugin).RequestAll(t.Context(), nil) {
		t.Errorf("got %v, %v", a.Request, a.Err)
	}
}

// RequestAll takes no more requests from its caller than can be in the air, and goes on when one of
// them is answered.
func TestRequestAllTakesWhatItAsksFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		p := newPlugin(whatsmeow.NewClient(new(store.Device), nil), &Options{MaxInFlight: 3, BackfillPace: -1})
		s.pending, s.queue, s.ledger = p.pending, p.queue, p.ledger
		p.pending.sender = s.line
		taken := 0
		requests := func(yield func(Request) bool) {
			for n := range byte(10) {
				if taken++; !yield(file(n).Request) {
					return
				}
			}
		}
		var healed []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for answer := range p.RequestAll(t.Context(), requests) {
				healed = append(healed, answer.Result.DirectPath)
				if len(healed) == 5 {
					return // what is in the air comes late
				}
			}
		}()
		for n := range byte(5) {
			synctest.Wait()
			if taken != 3+int(n) || s.waiting() != 3 {
				t.Fatalf("after %d answers it has taken %d requests, and %d are in the air", n, taken, s.waiting())
			}
			s.finds(file(n), "/"+file(n).MessageID)
		}
		<-done
		if len(slices.Compact(slices.Sorted(slices.Values(healed)))) != 5 {
			t.Errorf("healed are %v", healed)
		}
		pass(time.Hour)
		p.cancel(nil)
		p.pending.flying.Wait()
	})
}
