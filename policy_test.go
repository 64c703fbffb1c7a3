package reupload

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
)

var allOutcomes = [...]Outcome{
	outcomeUnknown, outcomeFound, outcomeNotFound, outcomeDecryption, outcomeUnreadable,
	outcomeGeneral, outcomeSilence, outcomeRejected, outcomeInvalid, outcomeOutage, outcomeUnacked, outcomePartial,
}

// TestPauses is the policy as a table: for how long a file is not asked for again, by how the last
// request has ended and how many in a row have failed.
func TestPauses(t *testing.T) {
	t.Parallel()
	const h = time.Hour
	failures := [...]int{0, 1, 2, 3, 4, 5, 6, 7, 1000}
	type pauses = [len(failures)]time.Duration
	all := func(d time.Duration) (p pauses) {
		for i := range p {
			p[i] = d
		}
		return p
	}
	minutes := func(longest time.Duration) pauses {
		const m = time.Minute
		return pauses{m, m, 2 * m, 4 * m, 8 * m, 16 * m, 32 * m, min(64*m, longest), longest}
	}
	for _, test := range []struct {
		name            string
		policy          policy
		final           time.Duration
		unknown, others pauses
		short           pauses
	}{
		{
			"defaults", policy{24 * h, h}, 24 * h,
			// One that has not ended counts as one more failure.
			pauses{h, 2 * h, 4 * h, 8 * h, 16 * h, 24 * h, 24 * h, 24 * h, 24 * h},
			pauses{h, h, 2 * h, 4 * h, 8 * h, 16 * h, 24 * h, 24 * h, 24 * h},
			minutes(24 * h),
		},
		{"none at all", policy{0, 0}, 0, pauses{}, pauses{}, pauses{}},
		{"none after silence", policy{24 * h, 0}, 24 * h, pauses{}, pauses{}, pauses{}},
		{
			"none after refusals", policy{0, 10 * h}, 0,
			pauses{10 * h, 20 * h, 24 * h, 24 * h, 24 * h, 24 * h, 24 * h, 24 * h, 24 * h},
			pauses{10 * h, 10 * h, 20 * h, 24 * h, 24 * h, 24 * h, 24 * h, 24 * h, 24 * h},
			minutes(24 * h),
		},
		{"silence is longer than refusals", policy{h, 5 * h}, h, all(h), all(h), minutes(h)},
		{"long ones", policy{48 * h, 30 * h}, 48 * h,
			pauses{30 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h},
			pauses{30 * h, 30 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h, 48 * h},
			minutes(48 * h)},
	} {
		for _, outcome := range allOutcomes {
			want := test.others
			switch outcome {
			case outcomeFound, outcomeOutage:
				want = pauses{}
			case outcomeNotFound, outcomeDecryption:
				want = all(test.final)
			case outcomeUnknown:
				want = test.unknown
			case outcomePartial, outcomeUnacked:
				want = test.short
			}
			for i, n := range failures {
				if pause := test.policy.pause(Asked{Outcome: outcome, Failures: n}); pause != want[i] {
					t.Errorf("%s: after outcome %d and %d failures %s, want %s", test.name, outcome, n, pause, want[i])
				}
			}
		}
	}
}

func TestOptionsMakeThePolicy(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		refusal, silence time.Duration
		want             policy
	}{
		{0, 0, policy{24 * time.Hour, time.Hour}},
		{-1, 0, policy{0, time.Hour}},
		{0, -1, policy{24 * time.Hour, 0}},
		{time.Minute, time.Second, policy{time.Minute, time.Second}},
	} {
		p := assemble(whatsmeow.NewClient(new(store.Device), nil), &Options{RefusalPause: test.refusal, SilencePause: test.silence})
		p.cancel(nil)
		if p.policy != test.want {
			t.Errorf("RefusalPause %s and SilencePause %s make %v, want %v", test.refusal, test.silence, p.policy, test.want)
		}
	}
}

// TestRefusals asks at the edges of the pauses, for every outcome, in every kind of chat.
func TestRefusals(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := policy{24 * time.Hour, time.Hour}
	status, group := types.StatusBroadcastJID, types.NewJID("1", types.GroupServer)
	causes := map[Outcome]error{
		outcomeUnknown: ErrTimeout, outcomeNotFound: ErrNotFound, outcomeDecryption: ErrDecryption, outcomeUnreadable: ErrDecryption,
		outcomeGeneral: ErrGeneral, outcomeSilence: ErrTimeout, outcomePartial: ErrTimeout, outcomeUnacked: ErrServerSilent, outcomeRejected: ErrRejected, outcomeInvalid: ErrInvalidAnswer,
	}
	for _, chat := range []types.JID{stageChat, group, status} {
		ages := []time.Duration{0, statusLife, 100 * statusLife}
		if chat == status {
			ages = ages[:2]
		}
		for _, age := range ages {
			e := Entry{Request: Request{Chat: chat}, Timestamp: now.Add(-age)}
			if err := p.refusal(&e, now, now); err != nil {
				t.Errorf("never asked for, %s old, in %s: %v", age, chat, err)
			}
			for _, outcome := range allOutcomes {
				asked := Asked{Outcome: outcome, Failures: 1}
				pause := p.pause(asked)
				asked.At = now.Add(-pause)
				e.Asked = asked
				if err := p.refusal(&e, now, now); err != nil {
					t.Errorf("outcome %d, %s ago: %v", outcome, pause, err)
				}
				e.Asked.At = asked.At.Add(time.Second)
				err := p.refusal(&e, now, now)
				if cause := causes[outcome]; !errors.Is(err, cause) || (cause == nil) != (err == nil) {
					t.Errorf("outcome %d, %s ago less a second: %v, want %v", outcome, pause, err, cause)
				}
				e.Asked.At = now.Add(pause + heldLife) // by a clock that was wrong
				if err = p.refusal(&e, now, now); err != nil {
					t.Errorf("outcome %d, in the future: %v", outcome, err)
				}
			}
		}
	}
	old := Entry{Request: Request{Chat: status}, Timestamp: now.Add(-statusLife - time.Second)}
	if err := p.refusal(&old, now, now); err != errStatusGone || !errors.Is(err, ErrNotFound) {
		t.Errorf("a status that is too old: %v", err)
	}
	old.Timestamp = time.Time{}
	if err := p.refusal(&old, now, now); err != errStatusGone {
		t.Errorf("a status of which nobody knows how old it is: %v", err)
	}
}

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	wrapped := func(err error) error { return fmt.Errorf("more: %w", err) }
	for name, test := range map[string]struct {
		reading
		outcome Outcome
		tells   bool
	}{
		"path":                     {reading{result: Result{Status: StatusSuccess, DirectPath: "/a"}}, outcomeFound, true},
		"path without success":     {reading{result: Result{Status: StatusNotFound, DirectPath: "/a"}}, outcomeFound, true},
		"lost":                     {reading{result: Result{Status: StatusNotFound}}, outcomeNotFound, true},
		"lost, unsealed":           {reading{result: Result{Status: StatusNotFound, unsealed: true}}, outcomeGeneral, true},
		"could not decrypt":        {reading{result: Result{Status: StatusDecryptionError}}, outcomeDecryption, true},
		"cannot be decrypted":      {reading{result: Result{Status: StatusDecryptionError, cause: errUndecryptable}}, outcomeDecryption, true},
		"could not, unsealed":      {reading{result: Result{Status: StatusDecryptionError, unsealed: true}}, outcomeUnreadable, true},
		"general":                  {reading{result: Result{Status: StatusGeneralError}}, outcomeGeneral, true},
		"general, unsealed":        {reading{result: Result{Status: StatusGeneralError, unsealed: true}}, outcomeGeneral, true},
		"silence":                  {reading{err: ErrTimeout}, outcomeSilence, true},
		"silence about one name":   {reading{err: ErrTimeout, partial: true}, outcomePartial, true},
		"silence of the server":    {reading{err: ErrServerSilent}, outcomeUnacked, true},
		"no network":               {reading{err: errNoNetwork}, 0, false},
		"not connected":            {reading{err: whatsmeow.ErrNotConnected}, 0, false},
		"phone silent, not asked":  {reading{err: ErrPhoneSilent}, 0, false},
		"busy":                     {reading{err: ErrBusy}, 0, false},
		"nobody waits":             {reading{err: errNobodyWaits}, 0, false},
		"rejected":                 {reading{err: wrapped(ErrRejected)}, outcomeRejected, true},
		"nonsense":                 {reading{err: wrapped(ErrInvalidAnswer)}, outcomeInvalid, true},
		"nonsense that has a path": {reading{err: ErrInvalidAnswer, result: Result{DirectPath: "/a"}}, outcomeInvalid, true},
		"closed":                   {reading{err: ErrClosed}, 0, false},
		"logged out":               {reading{err: whatsmeow.ErrNotLoggedIn}, 0, false},
		"context":                  {reading{err: context.Canceled}, 0, false},
	} {
		if outcome, tells := outcomeOf(test.reading); outcome != test.outcome || tells != test.tells {
			t.Errorf("%s: outcome %d, %t, want %d, %t", name, outcome, tells, test.outcome, test.tells)
		}
	}
}

// A request that the phone has not answered is still on its way to it, until it has
// answered anything else.
func TestRequestThatIsHeld(t *testing.T) {
	t.Parallel()
	now := time.Now()
	p := policy{24 * time.Hour, time.Hour}
	at := now.Add(-heldLife + time.Hour)
	for _, outcome := range allOutcomes {
		e := Entry{Asked: Asked{At: at, Outcome: outcome, Failures: 1}}
		held := outcome == outcomeSilence || outcome == outcomePartial || outcome == outcomeUnknown
		for _, heard := range []time.Time{{}, at.Add(-time.Hour), at} {
			if err := p.refusal(&e, now, heard); errors.Is(err, ErrPhoneSilent) != held || !held && err != nil {
				t.Errorf("outcome %d, nothing heard since: %v", outcome, err)
			}
		}
		if err := p.refusal(&e, now, at.Add(time.Second)); err != nil {
			t.Errorf("outcome %d, something heard since: %v", outcome, err)
		}
		if err := p.refusal(&e, at.Add(heldLife), time.Time{}); err != nil {
			t.Errorf("outcome %d, %s ago: %v", outcome, heldLife, err)
		}
	}
	if err := (policy{24 * time.Hour, 0}).refusal(&Entry{Asked: Asked{At: at, Outcome: outcomeSilence}}, now, time.Time{}); err != nil {
		t.Errorf("with no pause after silence: %v", err)
	}
}
