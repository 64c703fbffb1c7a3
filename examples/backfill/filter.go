package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/whatsmeow-plugins/reupload"
)

// A filter says which files are wanted. The catalog has all of them, so that a later run with
// another filter finds the rest.
type filter struct {
	chat          string // a part of a name, a number or an address; empty: every chat
	since, before time.Time
	kinds         []reupload.Kind // empty: every kind
	statuses      bool
	newsletters   bool
}

// kindsOf reads the value of -types.
func kindsOf(list string) (kinds []reupload.Kind, err error) {
	known := []reupload.Kind{
		reupload.KindImage, reupload.KindVideo, reupload.KindAudio, reupload.KindDocument, reupload.KindSticker, reupload.KindStickerPack, reupload.KindOther,
	}
	for name := range strings.SplitSeq(list, ",") {
		kind := reupload.Kind(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(name)), "s"))
		switch {
		case kind == "":
		case slices.Contains(known, kind):
			kinds = append(kinds, kind)
		default:
			return nil, fmt.Errorf("-types has %q; it is a list such as image,video, of %s", name, join(known))
		}
	}
	return kinds, nil
}

func join(kinds []reupload.Kind) string {
	var names []string
	for _, kind := range kinds {
		names = append(names, string(kind))
	}
	return strings.Join(names, ", ")
}

// dayOf reads a date, which begins at midnight in the zone of this machine.
func dayOf(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	day, err := time.ParseInLocation(time.DateOnly, text, time.Local)
	if err != nil {
		return time.Time{}, fmt.Errorf("%q is no date; write it as 2024-12-31", text)
	}
	return day, nil
}

// check returns what is wrong with a filter.
func (f filter) check() error {
	if !f.since.IsZero() && !f.before.IsZero() && !f.since.Before(f.before) {
		return errors.New("-since has to be a day before -before")
	}
	return nil
}

// where returns the filter as a condition on backfill_files.
func (f filter) where() (condition string, args []any) {
	conditions := []string{"TRUE"}
	add := func(condition string, values ...any) {
		conditions = append(conditions, condition)
		args = append(args, values...)
	}
	if f.chat != "" {
		add("chat IN (SELECT jid FROM backfill_chats WHERE "+chatMatches+")", f.chatArgs()...)
	}
	if !f.since.IsZero() {
		add("sent >= ?", f.since.Unix())
	}
	if !f.before.IsZero() {
		add("sent < ? AND sent > 0", f.before.Unix())
	}
	if len(f.kinds) > 0 {
		var kinds []any
		for _, kind := range f.kinds {
			kinds = append(kinds, string(kind))
		}
		add("kind IN (?"+strings.Repeat(", ?", len(kinds)-1)+")", kinds...)
	}
	if !f.statuses {
		add("NOT is_status")
	}
	if !f.newsletters {
		add("chat NOT LIKE '%@newsletter'")
	}
	return strings.Join(conditions, " AND "), args
}

const chatMatches = "jid = ? OR number = ? OR instr(lower(name), ?) > 0"

// chatArgs are the arguments of chatMatches.
func (f filter) chatArgs() []any {
	number := strings.TrimPrefix(strings.ReplaceAll(f.chat, " ", ""), "+")
	return []any{f.chat, number, strings.ToLower(f.chat)}
}
