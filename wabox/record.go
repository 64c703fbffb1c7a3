package wabox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"time"
)

// A Record is what one account has shown of how WhatsApp answers requests for old files:
// examples/doctor writes it, as JSON. It does not say whose account it is: people, groups and
// broadcast lists are numbers. [Account.Replay] makes an account of a box behave like it.
type Record struct {
	Version  int      `json:"version"`   // RecordVersion
	MadeWith MadeWith `json:"made_with"` // may be empty
	// Platform is what the phone says it is, such as "android" or "iphone"; may be empty.
	Platform string `json:"platform,omitempty"`
	// HasLID tells that the client knows a LID of the account, and Migrated that the account has
	// gone over to LIDs.
	HasLID   bool `json:"has_lid"`
	Migrated bool `json:"migrated"`
	// Answers are the answers of examples/doctor to its questions, by their names, in words.
	Answers map[string]string `json:"answers,omitempty"`
	Files   []RecordedFile    `json:"files"`
}

// RecordVersion is that of the records which this package reads.
const RecordVersion = 1

// MadeWith has the versions that a record was made with.
type MadeWith struct {
	Reupload  string `json:"reupload,omitempty"`
	Whatsmeow string `json:"whatsmeow,omitempty"`
	Go        string `json:"go,omitempty"`
}

// The kinds of a [RecordedFile]: what its message was in.
const (
	KindDirect      = "direct"       // a chat with one user
	KindGroup       = "group"        // a group
	KindList        = "list"         // a broadcast list of somebody else
	KindGroupStatus = "group-status" // the status of a group
	KindHistory     = "history"      // a part of the account's history, which is no message
)

// A RecordedFile is one file, and what became of the requests for it.
type RecordedFile struct {
	Kind   string `json:"kind"`
	Chat   int    `json:"chat,omitempty"`   // its number, counted from 1 for each kind of chat
	Sender int    `json:"sender,omitempty"` // the number of the contact; none for own messages
	FromMe bool   `json:"from_me,omitempty"`
	ByLID  bool   `json:"by_lid,omitempty"` // the sender was named by LID when the message came
	// Age is how old the message was when the phone was first asked. It is in seconds, as WhatsApp
	// has the times of messages.
	Age Seconds `json:"age_s"`
	// Old is what the CDN said of the path that the message came with, with times from the first of
	// them, and New what it said of the first path that the phone told, with times from when it
	// did. A path does what the last one before says.
	Old []RecordedStatus `json:"old,omitempty"`
	New []RecordedStatus `json:"new,omitempty"`
	// Tries are the requests for the file, in order.
	Tries []RecordedTry `json:"tries"`
	// Resent is what came when the phone was asked for the whole message again: "same-key",
	// "other-key", or "nothing". It is empty if that was not asked for.
	Resent string `json:"resent,omitempty"`
}

// A RecordedStatus is an answer of the CDN.
type RecordedStatus struct {
	After  Millis `json:"after_ms"`
	Status int    `json:"status"`
	// SaysExpired tells that the body of a 403 has "URL signature expired".
	SaysExpired bool `json:"says_expired,omitempty"`
}

// A Form is how a request names the message. Each is [ByNumber] or [ByLID]. Chat is empty where the
// chat is not a user, and Participant in chats that have none.
type Form struct {
	To          string `json:"to"`
	Chat        string `json:"chat,omitempty"`
	Participant string `json:"participant,omitempty"`
}

// The two names that a person has.
const (
	ByNumber = "number"
	ByLID    = "lid"
)

// A RecordedTry is one request. All its times but its own are from when it was sent.
type RecordedTry struct {
	Form
	After    Millis           `json:"after_ms"`           // the first request for the file
	Acked    bool             `json:"acked"`              // by the server
	AckAfter Millis           `json:"ack_after_ms"`       // 0 if it was not acknowledged
	Refused  int              `json:"refused,omitempty"`  // the ack's error code
	Watched  Millis           `json:"watched_ms"`         // for how long an answer was waited for, over all runs
	Answers  []RecordedAnswer `json:"answers,omitempty"`  // of the phone
	Parts    []Millis         `json:"parts_ms,omitempty"` // when the part of the history has come again
}

// A RecordedAnswer is one answer of the phone.
type RecordedAnswer struct {
	After   Millis `json:"after_ms"`         // when it came
	Said    Millis `json:"said_after_ms"`    // when the phone gave it, by the server's clock, in whole seconds
	Queued  bool   `json:"queued,omitempty"` // the server had kept it for a client that was away
	Result  string `json:"result"`           // the protocol's name, such as "SUCCESS"; "UNREADABLE" if no key opens it
	Sealed  bool   `json:"sealed,omitempty"` // it was encrypted, and not an <error> node
	HasPath bool   `json:"has_path,omitempty"`
}

// Unreadable is the Result of an answer that the key of the file does not open.
const Unreadable = "UNREADABLE"

// Millis is a time in milliseconds, and Seconds in seconds.
type (
	Millis  int64
	Seconds int64
)

// Duration returns the time as Go has it.
func (m Millis) Duration() time.Duration { return time.Duration(m) * time.Millisecond }

// Duration returns the time as Go has it.
func (s Seconds) Duration() time.Duration { return time.Duration(s) * time.Second }

// Limits of a record. One account is asked for a few files.
const (
	maxRecord    = 1 << 20 // bytes
	maxFiles     = 200
	maxTries     = 16 // of a file, and answers of a try
	maxStatuses  = 200
	maxText      = 400
	longestMilli = Millis(2 * 366 * 24 * time.Hour / time.Millisecond)
	oldest       = Seconds(50 * 366 * 24 * time.Hour / time.Second)
)

// ReadRecord reads a record, and checks all of it: a person who has the account has sent it in.
// The error says what is wrong, and where.
func ReadRecord(r io.Reader) (*Record, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxRecord+1))
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to read the record: %w", err)
	}
	if len(data) > maxRecord {
		return nil, fmt.Errorf("wabox: the record has more than %d bytes", maxRecord)
	}
	// Another version has other fields, which would be the error otherwise.
	var version struct {
		Version *int `json:"version"`
	}
	if err = json.Unmarshal(data, &version); err != nil {
		return nil, fmt.Errorf("wabox: this is no record: %w", err)
	}
	switch {
	case version.Version == nil:
		return nil, errors.New("wabox: this is no record: it has no version")
	case *version.Version != RecordVersion:
		return nil, fmt.Errorf("wabox: the record has version %d, and this package reads %d", *version.Version, RecordVersion)
	}
	record := new(Record)
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err = decoder.Decode(record); err != nil {
		return nil, fmt.Errorf("wabox: the record cannot be read: %w", err)
	}
	if err = record.Check(); err != nil {
		return nil, err
	}
	return record, nil
}

// Write writes a record so that ReadRecord reads it. It writes none that is wrong.
func (r *Record) Write(w io.Writer) error {
	if err := r.Check(); err != nil {
		return err
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if len(data) > maxRecord {
		return fmt.Errorf("wabox: the record has more than %d bytes", maxRecord)
	}
	_, err = w.Write(append(data, '\n'))
	return err
}

var (
	plainText = regexp.MustCompile(`^[ -~]*$`) // for terminals
	shortName = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// Check returns what is wrong with a record, or nil.
func (r *Record) Check() error {
	if r.Version != RecordVersion {
		return fmt.Errorf("wabox: the record has version %d, want %d", r.Version, RecordVersion)
	}
	for what, text := range map[string]string{
		"made_with.reupload": r.MadeWith.Reupload, "made_with.whatsmeow": r.MadeWith.Whatsmeow, "made_with.go": r.MadeWith.Go, "platform": r.Platform,
	} {
		if err := checkText(text); err != nil {
			return fmt.Errorf("wabox: %s of the record %w", what, err)
		}
	}
	if r.Migrated && !r.HasLID {
		return errors.New("wabox: the account of the record has migrated to LIDs and has none")
	}
	if len(r.Files) > maxFiles || len(r.Answers) > maxFiles {
		return fmt.Errorf("wabox: the record has %d files and %d answers, more than %d", len(r.Files), len(r.Answers), maxFiles)
	}
	for name, text := range r.Answers {
		err := checkText(text)
		if !shortName.MatchString(name) || len(name) > maxText {
			err = errors.New("does not have a name as questions have it")
		}
		if err != nil {
			return fmt.Errorf("wabox: the answer %.40q of the record %w", name, err)
		}
	}
	for i := range r.Files {
		if err := r.Files[i].check(); err != nil {
			return fmt.Errorf("wabox: file %d of the record: %w", i+1, err)
		}
	}
	return nil
}

func checkText(text string) error {
	switch {
	case len(text) > maxText:
		return fmt.Errorf("has %d bytes, more than %d", len(text), maxText)
	case !plainText.MatchString(text):
		return errors.New("has other characters than printable ASCII")
	}
	return nil
}

func (f *RecordedFile) check() error {
	isOneOf := func(what, value string, of ...string) error {
		if !slices.Contains(of, value) {
			return fmt.Errorf("%s is %.40q; it can be one of %q", what, value, of)
		}
		return nil
	}
	if err := errors.Join(
		isOneOf("kind", f.Kind, KindDirect, KindGroup, KindList, KindGroupStatus, KindHistory),
		isOneOf("resent", f.Resent, "", "same-key", "other-key", "nothing"),
	); err != nil {
		return err
	}
	switch {
	case f.Chat < 0 || f.Chat > maxFiles || f.Sender < 0 || f.Sender > maxFiles:
		return fmt.Errorf("the numbers of chat and sender are %d and %d; they go from 0 to %d", f.Chat, f.Sender, maxFiles)
	case f.Age < 0 || f.Age > oldest:
		return fmt.Errorf("the age is %d seconds; it goes from 0 to %d", f.Age, oldest)
	case f.FromMe && f.Kind == KindList:
		return errors.New("an own message is in a broadcast list of somebody else")
	case len(f.Tries) == 0 || len(f.Tries) > maxTries:
		return fmt.Errorf("there are %d tries; there can be 1 to %d", len(f.Tries), maxTries)
	}
	for _, statuses := range [][]RecordedStatus{f.Old, f.New} {
		if len(statuses) > maxStatuses {
			return fmt.Errorf("there are %d statuses of a path, more than %d", len(statuses), maxStatuses)
		}
		if !slices.IsSortedFunc(statuses, func(a, b RecordedStatus) int { return int(a.After - b.After) }) {
			return errors.New("the statuses of a path are not in the order of time")
		}
		for _, s := range statuses {
			if s.Status < 200 || s.Status > 599 {
				return fmt.Errorf("a status of the CDN is %d; it goes from 200 to 599", s.Status)
			}
			if err := checkTimes(s.After); err != nil {
				return err
			}
		}
	}
	for i, t := range f.Tries {
		if err := t.check(f.Kind); err != nil {
			return fmt.Errorf("try %d: %w", i+1, err)
		}
	}
	return nil
}

func (t *RecordedTry) check(kind string) error {
	isName := func(s string) bool { return s == ByNumber || s == ByLID }
	wantsParticipant := kind == KindGroup || kind == KindGroupStatus || kind == KindList && t.Chat == ""
	switch {
	case !isName(t.To):
		return fmt.Errorf("to is %.40q; it can be %q or %q", t.To, ByNumber, ByLID)
	case t.Chat != "" && !isName(t.Chat) || (t.Chat != "") != (kind == KindDirect) && kind != KindList:
		return fmt.Errorf("the chat is named by %.40q, in a file of kind %s", t.Chat, kind)
	case t.Participant != "" && !isName(t.Participant) || (t.Participant != "") != wantsParticipant:
		return fmt.Errorf("the participant is named by %.40q, in a file of kind %s", t.Participant, kind)
	case len(t.Answers) > maxTries || len(t.Parts) > maxTries:
		return fmt.Errorf("there are %d answers and %d parts, more than %d", len(t.Answers), len(t.Parts), maxTries)
	case t.Refused < 0 || t.Refused > 999 || t.Refused > 0 && !t.Acked:
		return fmt.Errorf("it was refused with %d", t.Refused)
	case !t.Acked && t.AckAfter != 0:
		return errors.New("it was not acknowledged, and has a time for that")
	case len(t.Parts) > 0 && kind != KindHistory:
		return fmt.Errorf("a part of the history has come for it, in %s", kind)
	}
	last := Millis(0)
	for i, a := range t.Answers {
		switch {
		case !slices.Contains([]string{Unreadable, GeneralError.String(), Success.String(), NotFound.String(), DecryptionError.String()}, a.Result):
			return fmt.Errorf("answer %d has the result %.40q", i+1, a.Result)
		case a.Result == Unreadable && !a.Sealed || a.HasPath && (!a.Sealed || a.Result == Unreadable):
			return fmt.Errorf("answer %d is %s, sealed %t, has a path %t: that cannot be", i+1, a.Result, a.Sealed, a.HasPath)
		case a.After < last:
			return fmt.Errorf("answer %d is not in the order of time", i+1)
		}
		last = a.After
		if err := checkTimes(a.After, a.Said); err != nil {
			return err
		}
	}
	return errors.Join(checkTimes(t.After, t.AckAfter, t.Watched), checkTimes(t.Parts...))
}

func checkTimes(times ...Millis) error {
	for _, t := range times {
		if t < 0 || t > longestMilli {
			return fmt.Errorf("a time is %d ms; it goes from 0 to %d", t, longestMilli)
		}
	}
	return nil
}
