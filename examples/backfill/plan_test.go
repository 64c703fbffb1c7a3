package main

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	when, err := time.ParseInLocation("2006-01-02 15:04", text, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	return when
}

func TestHours(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]hours{
		"": {}, "1-6": {1, 6}, " 1 - 6 ": {1, 6}, "22-6": {22, 6}, "20-24": {20, 0}, "0-24": {0, 0}, "5-5": {5, 5},
	} {
		if got, err := hoursOf(text); err != nil || got != want {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"1", "1-", "-6", "25-3", "1-25", "one-two", "1:30-6", "24-3"} {
		if got, err := hoursOf(text); err == nil {
			t.Errorf("%q: got %v", text, got)
		}
	}
	for _, c := range []struct {
		hours, now string
		open       bool
		changes    string
	}{
		{"1-6", "2024-05-01 00:59", false, "2024-05-01 01:00"},
		{"1-6", "2024-05-01 01:00", true, "2024-05-01 06:00"},
		{"1-6", "2024-05-01 05:59", true, "2024-05-01 06:00"},
		{"1-6", "2024-05-01 06:00", false, "2024-05-02 01:00"},
		{"22-6", "2024-05-01 21:59", false, "2024-05-01 22:00"},
		{"22-6", "2024-05-01 23:00", true, "2024-05-02 06:00"},
		{"22-6", "2024-05-02 02:00", true, "2024-05-02 06:00"},
		{"22-6", "2024-05-02 06:00", false, "2024-05-02 22:00"},
		{"20-24", "2024-12-31 23:59", true, "2025-01-01 00:00"},
		{"", "2024-05-01 12:00", true, "2024-05-02 12:00"},
	} {
		h, err := hoursOf(c.hours)
		open, changes := h.at(at(t, c.now))
		if err != nil || open != c.open || !changes.Equal(at(t, c.changes)) {
			t.Errorf("-hours %s at %s: %t until %v, %v", c.hours, c.now, open, changes, err)
		}
	}
}

// In Berlin the clock goes from 2:00 to 3:00 on the last Sunday of March, and back in October.
func TestHoursWhenClocksChange(t *testing.T) {
	t.Parallel()
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip(err)
	}
	for _, c := range []struct {
		from time.Time
		want time.Duration // until 6:00
	}{
		{time.Date(2024, 3, 31, 1, 0, 0, 0, berlin), 4 * time.Hour},
		{time.Date(2024, 10, 27, 1, 0, 0, 0, berlin), 6 * time.Hour},
	} {
		if open, changes := (hours{1, 6}).at(c.from); !open || changes.Sub(c.from) != c.want {
			t.Errorf("from %v: %t, until %v", c.from, open, changes)
		}
	}
}

func TestMayAsk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan    plan
		now     string
		asked   int
		ok      bool
		changes string
	}{
		"without limits":            {plan{}, "2024-05-01 12:00", 1_000_000, true, "2024-05-02 12:00"},
		"one is left":               {plan{perDay: 10}, "2024-05-01 12:00", 9, true, "2024-05-02 12:00"},
		"none is left":              {plan{perDay: 10}, "2024-05-01 12:00", 10, false, "2024-05-02 00:00"},
		"none is left, with hours":  {plan{perDay: 10, hours: hours{1, 6}}, "2024-05-01 02:00", 10, false, "2024-05-02 01:00"},
		"and hours over midnight":   {plan{perDay: 10, hours: hours{22, 6}}, "2024-05-01 23:00", 10, false, "2024-05-02 00:00"},
		"outside of the hours":      {plan{perDay: 10, hours: hours{1, 6}}, "2024-05-01 12:00", 0, false, "2024-05-02 01:00"},
		"within them":               {plan{perDay: 10, hours: hours{1, 6}}, "2024-05-01 05:00", 0, true, "2024-05-01 06:00"},
		"after midnight, with none": {plan{perDay: 10, hours: hours{22, 6}}, "2024-05-01 05:00", 10, false, "2024-05-02 00:00"},
	} {
		ok, changes, reason := c.plan.mayAsk(at(t, c.now), c.asked)
		if ok != c.ok || !changes.Equal(at(t, c.changes)) || (reason == "") != ok {
			t.Errorf("%s: %t until %v: %q", name, ok, changes, reason)
		}
	}
}

func TestTimeFor(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		plan  plan
		files int
		want  time.Duration
	}{
		"nothing":                {plan{pace: time.Second}, 0, 0},
		"ten thousand":           {plan{pace: time.Second}, 10_000, 10_000 * time.Second},
		"all of a day":           {plan{pace: time.Second, perDay: 2000}, 2000, 2000 * time.Second},
		"one more":               {plan{pace: time.Second, perDay: 2000}, 2001, day + time.Second},
		"five hours a day":       {plan{pace: time.Second, hours: hours{1, 6}}, 20_000, day + 2000*time.Second},
		"hours over midnight":    {plan{pace: time.Minute, hours: hours{23, 1}}, 121, day + time.Minute},
		"without a pace":         {plan{}, 1000, 0},
		"the hours are the less": {plan{pace: time.Minute, perDay: 100, hours: hours{1, 2}}, 61, day + time.Minute},
	} {
		if got := c.plan.timeFor(c.files); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

// A failure is an error with a cause, as reupload makes it for a request.
func failure(cause error) error { return fmt.Errorf("it has failed: %w", cause) }

func TestJudge(t *testing.T) {
	t.Parallel()
	now := at(t, "2024-05-01 12:00")
	in := func(d time.Duration) time.Time { return now.Add(d) }
	until := in(3 * time.Hour)
	plain, newsletter := file{}, file{request: reupload.Request{Chat: types.NewJID("1", types.NewsletterServer)}}
	tried := func(n int) file { return file{tries: n} }
	for name, c := range map[string]struct {
		err  error
		on   lane
		file file
		want verdict
	}{
		"interrupted":                      {context.Canceled, phone, plain, verdict{}},
		"the hours have ended":             {context.DeadlineExceeded, phone, plain, verdict{}},
		"the plugin is closed":             {failure(reupload.ErrClosed), phone, plain, verdict{}},
		"not connected":                    {failure(whatsmeow.ErrNotConnected), phone, plain, verdict{}},
		"not connected, for long":          {fmt.Errorf("%w: %w", reupload.ErrTimeout, whatsmeow.ErrNotConnected), phone, plain, verdict{}},
		"not asked":                        {failure(reupload.ErrNotAsked), free, plain, verdict{state: stateExpired}},
		"not asked, and stripped":          {fmt.Errorf("%w: %w", reupload.ErrStrippedPath, reupload.ErrNotAsked), free, plain, verdict{state: stateExpired}},
		"not in the index":                 {reupload.ErrIndexFailed, free, plain, verdict{state: stateExpired}},
		"not found":                        {failure(reupload.ErrNotFound), phone, plain, verdict{state: stateLost, cause: "not_found", tried: true, asked: true}},
		"the key is wrong":                 {reupload.ErrDecryption, phone, plain, verdict{state: stateFailed, cause: "decryption", next: in(time.Hour), tried: true, asked: true}},
		"the key is wrong, for good":       {reupload.ErrDecryption, phone, tried(2), verdict{state: stateLost, cause: "decryption", tried: true, asked: true}},
		"no answer":                        {reupload.ErrTimeout, phone, plain, verdict{state: stateFailed, cause: "timeout", next: in(time.Hour), tried: true, asked: true}},
		"no answer, for the third time":    {reupload.ErrTimeout, phone, tried(2), verdict{state: stateFailed, cause: "timeout", next: in(4 * time.Hour), tried: true, asked: true}},
		"no answer, for the hundredth":     {reupload.ErrTimeout, phone, tried(99), verdict{state: stateFailed, cause: "timeout", next: in(24 * time.Hour), tried: true, asked: true}},
		"the phone is silent":              {reupload.ErrPhoneSilent, phone, tried(5), verdict{state: stateFailed, cause: "phone_silent", next: in(time.Hour), tried: true}},
		"forbidden":                        {reupload.ErrForbidden, free, plain, verdict{state: stateFailed, cause: "forbidden", next: in(time.Hour), tried: true}},
		"a newsletter's, gone":             {whatsmeow.ErrMediaDownloadFailedWith410, free, newsletter, verdict{state: stateLost, cause: causeGone, tried: true}},
		"a newsletter's, forbidden":        {whatsmeow.ErrMediaDownloadFailedWith403, free, newsletter, verdict{state: stateFailed, cause: causeNetwork, next: in(30 * time.Second), tried: true}},
		"another file":                     {whatsmeow.ErrInvalidMediaSHA256, free, plain, verdict{state: stateFailed, cause: causeDamaged, next: in(time.Hour), tried: true}},
		"the network":                      {errors.New("EOF"), free, plain, verdict{state: stateFailed, cause: causeNetwork, next: in(30 * time.Second), tried: true}},
		"the network, for the fourth time": {errors.New("EOF"), free, tried(3), verdict{state: stateFailed, cause: causeNetwork, next: in(4 * time.Minute), tried: true}},
		"a pause":                          {&reupload.PausedError{Until: until}, phone, plain, verdict{state: stateFailed, cause: "other", next: until, tried: true}},
	} {
		if got := judge(c.err, c.on, &c.file, now); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestIsLikelyThere(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	for name, c := range map[string]struct {
		age  time.Duration
		path string
		want bool
	}{
		"of yesterday":             {24 * time.Hour, "/v/1?oe=7FFFFFFF", true},
		"of last month":            {30 * 24 * time.Hour, "/v/1?oe=7FFFFFFF", false},
		"with a link that is over": {24 * time.Hour, "/v/1?oh=1&oe=60000000", false},
		"without a query":          {24 * time.Hour, "/v/1", true},
		"without a path":           {24 * time.Hour, "", false},
	} {
		if got := isLikelyThere(now.Add(-c.age), c.path, now); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
