package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload"
)

// This file decides when the phone may be asked, what follows from a failed try, and how long
// things take. It is pure: no clock, no lock, no I/O.

// A plan says how much the phone may be asked.
type plan struct {
	hours  hours
	perDay int           // requests; 0 for no limit
	pace   time.Duration // between two requests
}

// hours are a part of the day, by the clock on the wall. The zero value is all of it.
type hours struct{ from, to int }

// hoursOf reads the value of -hours, such as 1-6 or 22-6.
func hoursOf(text string) (h hours, err error) {
	if text == "" {
		return hours{}, nil
	}
	from, to, ok := strings.Cut(text, "-")
	h.from, err = strconv.Atoi(strings.TrimSpace(from))
	if err == nil {
		h.to, err = strconv.Atoi(strings.TrimSpace(to))
	}
	if !ok || err != nil || h.from < 0 || h.from > 23 || h.to < 0 || h.to > 24 {
		return hours{}, fmt.Errorf("-hours is %q; write it as 1-6, from one to six in the morning, or 22-6", text)
	}
	h.to %= 24
	return h, nil
}

func (h hours) isAlways() bool { return h.from == h.to }

// length is how many hours of a day there are.
func (h hours) length() int {
	if h.isAlways() {
		return 24
	}
	return (h.to - h.from + 24) % 24
}

// at reports whether a time is within the hours, and when that changes.
func (h hours) at(now time.Time) (open bool, changes time.Time) {
	if h.isAlways() {
		return true, now.AddDate(0, 0, 1)
	}
	hour := now.Hour()
	open = h.from < h.to && hour >= h.from && hour < h.to || h.from > h.to && (hour >= h.from || hour < h.to)
	if open {
		return true, nextHour(now, h.to)
	}
	return false, nextHour(now, h.from)
}

// nextHour returns when the clock next shows a full hour. The day on which clocks change has one
// hour less or more.
func nextHour(now time.Time, hour int) time.Time {
	for day := 0; ; day++ {
		at := time.Date(now.Year(), now.Month(), now.Day()+day, hour, 0, 0, 0, now.Location())
		if at.After(now) {
			return at
		}
	}
}

func midnight(now time.Time) time.Time {
	return time.Date(now.Year(), now.Month(), now.Day(), 0, 0, 0, 0, now.Location())
}

// mayAsk reports whether the phone may be asked now, after so many requests today, and when that
// changes. The reason says why it may not.
func (p plan) mayAsk(now time.Time, asked int) (ok bool, changes time.Time, reason string) {
	open, changes := p.hours.at(now)
	switch {
	case p.perDay > 0 && asked >= p.perDay:
		tomorrow := midnight(now).AddDate(0, 0, 1)
		if open, changes = p.hours.at(tomorrow); open {
			changes = tomorrow
		}
		return false, changes, fmt.Sprintf("the phone has been asked for %d files today (-per-day)", asked)
	case !open:
		return false, changes, fmt.Sprintf("the phone is asked between %d:00 and %d:00 only (-hours)", p.hours.from, p.hours.to)
	}
	return true, changes, ""
}

// timeFor returns how long it takes to ask the phone for so many files.
func (p plan) timeFor(files int) time.Duration {
	perDay := int(time.Duration(p.hours.length()) * time.Hour / max(p.pace, time.Millisecond))
	if p.perDay > 0 {
		perDay = min(perDay, p.perDay)
	}
	days, rest := files/perDay, files%perDay
	if rest == 0 && days > 0 {
		days, rest = days-1, perDay
	}
	return time.Duration(days)*24*time.Hour + time.Duration(rest)*p.pace
}

// A verdict is what follows from a try.
type verdict struct {
	state string // empty: as before, as if there had been no try
	cause string
	next  time.Time
	tried bool // it counts as a try
	asked bool // the phone may have been asked
}

// finalTries is after how many tries a file is lost whose key the phone disagrees about. The answer
// is final if it is sealed, which cannot be seen in the error.
const finalTries = 3

// The causes that are ours. The others are labels of reupload.
const (
	causeGone    = "gone"    // from a newsletter, for which no phone can be asked
	causeDamaged = "damaged" // what came is not the file
	causeNetwork = "network" // WhatsApp's servers or the way to them
)

// judge says what follows from a failed try of a file.
func judge(err error, on lane, f *file, now time.Time) verdict {
	var paused *reupload.PausedError
	cause := reupload.Cause(err)
	if cause == nil && (reupload.Label(err) != "other" || errors.As(err, &paused)) { // of a request, not of a download
		cause = err
	}
	label := reupload.Label(cause)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded),
		errors.Is(cause, context.Canceled), errors.Is(cause, context.DeadlineExceeded),
		errors.Is(cause, reupload.ErrClosed), errors.Is(err, whatsmeow.ErrNotConnected), errors.Is(cause, whatsmeow.ErrNotConnected),
		errors.Is(err, whatsmeow.ErrNotLoggedIn), errors.Is(cause, whatsmeow.ErrNotLoggedIn):
		return verdict{}
	case f.isNewsletter() && isGone(err):
		return verdict{state: stateLost, cause: causeGone, tried: true}
	case on == free && (errors.Is(cause, reupload.ErrNotAsked) || errors.Is(cause, reupload.ErrUnknownMessage)):
		return verdict{state: stateExpired}
	case errors.Is(cause, reupload.ErrNotFound):
		return verdict{state: stateLost, cause: label, tried: true, asked: !errors.As(cause, &paused)}
	case errors.Is(cause, reupload.ErrDecryption) && f.tries+1 >= finalTries:
		return verdict{state: stateLost, cause: label, tried: true, asked: true}
	case errors.As(cause, &paused):
		return verdict{state: stateFailed, cause: label, next: paused.Until, tried: true}
	case errors.Is(cause, reupload.ErrPhoneSilent), errors.Is(cause, reupload.ErrBusy): // not sent
		return verdict{state: stateFailed, cause: label, next: now.Add(pause(0, silencePause)), tried: true}
	case cause != nil:
		return verdict{state: stateFailed, cause: label, next: now.Add(pause(f.tries, silencePause)), tried: true, asked: on == phone}
	case errors.Is(err, whatsmeow.ErrInvalidMediaSHA256), errors.Is(err, whatsmeow.ErrInvalidMediaEncSHA256),
		errors.Is(err, whatsmeow.ErrInvalidMediaHMAC), errors.Is(err, whatsmeow.ErrInvalidUnencryptedMediaSHA256):
		return verdict{state: stateFailed, cause: causeDamaged, next: now.Add(pause(f.tries, silencePause)), tried: true}
	}
	return verdict{state: stateFailed, cause: causeNetwork, next: now.Add(pause(f.tries, networkPause)), tried: true}
}

// bearsInsisting reports whether -retry should ask the phone for a file although the plugin leaves
// it alone, for a cause. It should not if the phone has said meanwhile, late, that it does not have
// the file: that is news to a file that has failed otherwise before.
func bearsInsisting(cause error, before string) bool {
	var paused *reupload.PausedError
	if !errors.As(cause, &paused) {
		return false
	}
	isFinal := errors.Is(cause, reupload.ErrNotFound) || errors.Is(cause, reupload.ErrDecryption)
	return !isFinal || reupload.Label(cause) == before
}

func isGone(err error) bool {
	return errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith404) || errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410)
}

// How long a file is left alone after its first failure. That doubles with each further one.
const (
	silencePause = time.Hour
	networkPause = 30 * time.Second
	longestPause = 24 * time.Hour
)

func pause(tries int, first time.Duration) time.Duration {
	for ; tries > 0 && first < longestPause; tries-- {
		first *= 2
	}
	return min(first, longestPause)
}

// keptFor is for how long WhatsApp's servers are taken to keep a file: they forget it after two to
// three weeks.
const keptFor = 15 * 24 * time.Hour

// isLikelyThere reports whether WhatsApp's servers still have a file, as far as one can tell by its
// age and by the end of its link.
func isLikelyThere(sent time.Time, directPath string, now time.Time) bool {
	if _, query, ok := strings.Cut(directPath, "?"); ok {
		values, err := url.ParseQuery(query)
		if err == nil {
			if ends, err := strconv.ParseInt(values.Get("oe"), 16, 64); err == nil && time.Unix(ends, 0).Before(now) {
				return false
			}
		}
	}
	return directPath != "" && now.Sub(sent) < keptFor
}
