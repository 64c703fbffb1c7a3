package reupload

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// Whatever comes in whatever order, the places are shared as the rules say.
func TestCrowdIsFair(t *testing.T) {
	t.Parallel()
	for _, c := range []crowd{fileCrowd, idCrowd, {timed: 3, untimed: 2, forFile: true}, {timed: 2, untimed: 1}} {
		for seed := range fewer(60) {
			dice := rand.New(rand.NewPCG(seed, 0))
			sources := 1 + dice.IntN(6)
			var kept, all []member
			for range 3 * c.places() {
				m := member{uint64(dice.IntN(sources) * dice.IntN(2)), unknownTime} // half of all are of source 0
				if dice.IntN(4) > 0 {
					m.seconds = int64(dice.IntN(100))
				}
				all, kept = append(all, m), append(kept, m)
				if len(kept) > c.places() {
					i := c.leaves(kept)
					kept = slices.Delete(kept, i, i+1)
				}
				checkCrowd(t, c, all, kept)
			}
		}
	}
}

func checkCrowd(t *testing.T, c crowd, all, kept []member) {
	t.Helper()
	count := func(of []member, timed bool) (n int, bySource map[uint64]int) {
		bySource = make(map[uint64]int)
		for _, m := range of {
			if (m.seconds != unknownTime) == timed {
				n++
				bySource[m.origin]++
			}
		}
		return n, bySource
	}
	if len(kept) != min(len(all), c.places()) {
		t.Fatalf("of %d members %d are left", len(all), len(kept))
	}
	for _, timed := range [...]bool{false, true} {
		places := c.untimed
		if timed {
			places = c.timed
		}
		came, cameOf := count(all, timed)
		left, leftOf := count(kept, timed)
		if left < min(came, places) {
			t.Fatalf("of %d of a kind (with a time: %v) %d are left, want %d", came, timed, left, places)
		}
		for one := range cameOf {
			for other := range leftOf {
				most := leftOf[one] + 1
				if timed && c.forFile {
					most++ // one of the two may have the oldest
				}
				if cameOf[one] > leftOf[one] && leftOf[other] > most {
					t.Fatalf("source %d has %d of %d left, and source %d has %d", one, leftOf[one], cameOf[one], other, leftOf[other])
				}
			}
		}
	}
	if oldest := oldestOf(all); c.forFile && oldest >= 0 && !slices.Contains(kept, all[oldest]) {
		t.Fatalf("the oldest, %v, is gone", all[oldest])
	}
}

func TestCrowdCutsAnswers(t *testing.T) {
	t.Parallel()
	entries := func(timed, untimed int) (all []Entry) {
		for i := range timed + untimed {
			e := Entry{Request: Request{MessageID: fmt.Sprint(i), Chat: types.NewJID("1", types.GroupServer)}}
			if i < timed {
				e.Timestamp = time.Unix(int64(10_000-i), 0)
			}
			all = append(all, e)
		}
		return all
	}
	for _, test := range []struct {
		timed, untimed         int
		leftTimed, leftUntimed int
	}{
		{0, 0, 0, 0}, {16, 0, 16, 0}, {12, 4, 12, 4}, {0, 40, 0, 16}, {40, 0, 16, 0}, {13, 4, 12, 4}, {20, 10, 12, 4}, {3, 200, 3, 13}, {2000, 10, 16, 0},
	} {
		all := entries(test.timed, test.untimed)
		cut := fileCrowd.cut(slices.Clone(all))
		timed := 0
		for _, e := range cut {
			if !e.Timestamp.IsZero() {
				timed++
			}
		}
		if timed != test.leftTimed || len(cut)-timed != test.leftUntimed {
			t.Errorf("of %d and %d without a time there are %d and %d", test.timed, test.untimed, timed, len(cut)-timed)
		}
		for i, e := range cut {
			switch {
			case i < timed-1 && e.MessageID != all[i].MessageID,
				i == timed-1 && e.MessageID != all[test.timed-1].MessageID,
				i >= timed && e.MessageID != all[test.timed+i-timed].MessageID:
				t.Errorf("of %d and %d without a time, entry %d is %q", test.timed, test.untimed, i, e.MessageID)
			}
		}
	}
	if n := len(idCrowd.cut(entries(2000, 10))); n != 256 {
		t.Errorf("of a message id there are %d", n)
	}
	all := entries(300, 0) // of one sender, in a group, and older than what two others have sent
	for i, sender := range []types.JID{types.NewJID("2", types.DefaultUserServer), types.EmptyJID} {
		all[i].Participant, all[i].IsFromMe = sender, sender.IsEmpty()
	}
	for i := range all[2:] {
		all[2+i].Participant = types.NewJID("3", types.DefaultUserServer)
	}
	if cut := idCrowd.cut(slices.Clone(all)); len(cut) < 2 || cut[0].MessageID != all[0].MessageID || cut[1].MessageID != all[1].MessageID {
		t.Error("a sender with many files took the places of others")
	}
}
