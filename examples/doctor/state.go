package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A state is what was seen so far, over all runs. Its file has addresses and paths, and is secret;
// it has no keys, which stay in the index.
type state struct {
	Version  int
	Account  types.JID // of which it is
	Linked   bool      // the doctor has linked the session, and no bot has it
	Platform string
	HasLID   bool
	Migrated bool
	Runs     int
	Watched  time.Time // until when what comes was heard: the last moment of the last connection
	// Shown is what the person says of the phone: whether it has shown anything.
	Shown string
	// Labels has a number for each chat and contact, so that it can be told apart without its name.
	Labels map[string]int
	// Others has the name that a person has in Labels, by the other one that he has.
	Others map[string]string
	Files  []*file
	// Alive is how many old paths the CDN still had: these files were not asked for.
	Alive int
}

const stateVersion = 1

// A file is one that the phone was asked for.
type file struct {
	ID           types.MessageID
	Kind         string // see wabox.RecordedFile
	Chat, Sender types.JID
	FromMe       bool
	ByLID        bool
	Hash         []byte // of the encrypted file
	Sent         time.Time
	Path         string   `json:",omitempty"` // that the message came with
	Old          []status `json:",omitempty"` // of Path
	Told         string   `json:",omitempty"` // the first path that the phone has told
	ToldAt       time.Time
	New          []status `json:",omitempty"` // of Told
	SameFile     string   `json:",omitempty"` // "yes" or "no": whether the file under Told was the right one
	Tries        []*try
	Resent       string `json:",omitempty"`
}

// A status is what the CDN has said.
type status struct {
	At          time.Time
	Status      int
	SaysExpired bool `json:",omitempty"`
}

// A try is one request.
type try struct {
	wabox.Form
	At      time.Time
	Ack     time.Time // zero without one
	Refused int
	Answers []answer    `json:",omitempty"`
	Parts   []time.Time `json:",omitempty"`
}

// An answer is one of the phone's.
type answer struct {
	At, Said time.Time // when it came, and when the phone gave it
	Queued   bool      // WhatsApp has kept it for us
	Result   string
	Sealed   bool
	HasPath  bool
	Stamp    string // tells it from the same answer, delivered again
}

// hasAnswer reports whether the phone has said anything.
func (t *try) hasAnswer() bool { return len(t.Answers) > 0 || len(t.Parts) > 0 }

// isNamedRightly reports whether the phone has shown that it knows the message.
func (t *try) isNamedRightly() bool {
	return len(t.Parts) > 0 || slices.ContainsFunc(t.Answers, func(a answer) bool { return a.Sealed })
}

func (f *file) hasAnswer() bool { return slices.ContainsFunc(f.Tries, (*try).hasAnswer) }

// find returns the file that was asked for under a message id, or nil.
func (s *state) find(id types.MessageID) *file {
	for _, f := range s.Files {
		if f.ID == id {
			return f
		}
	}
	return nil
}

// readState reads the file, or returns a new state if there is none.
func readState(path string) (*state, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &state{Version: stateVersion, Labels: make(map[string]int), Others: make(map[string]string)}, nil
	}
	s := new(state)
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err == nil && s.Version != stateVersion {
		err = fmt.Errorf("it has version %d, and this doctor reads %d", s.Version, stateVersion)
	}
	if err != nil {
		return nil, fmt.Errorf("what was seen so far cannot be read; name another file with -state: %w", err)
	}
	if s.Labels == nil {
		s.Labels = make(map[string]int)
	}
	if s.Others == nil {
		s.Others = make(map[string]string)
	}
	return s, nil
}

func (s *state) write(path string) error {
	data, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return err
	}
	return replaceFile(path, data, 0o600)
}

// replaceFile writes a file so that it is there as a whole, the old one or the new one.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	temp, err := os.CreateTemp(filepath.Dir(path), ".doctor-*")
	if err != nil {
		return err
	}
	_, err = temp.Write(data)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		_ = os.Remove(temp.Name())
	}
	return err
}

// number returns the number by which a chat or contact is told apart, which it keeps for good.
func (s *state) number(kind string, jid types.JID) int {
	if first := s.Others[jid.String()]; first != "" {
		jid, _ = types.ParseJID(first)
	}
	key := kind + " " + jid.String()
	if s.Labels[key] == 0 {
		last := 0
		for other, n := range s.Labels {
			if len(other) > len(kind) && other[:len(kind)+1] == kind+" " {
				last = max(last, n)
			}
		}
		s.Labels[key] = last + 1
	}
	return s.Labels[key]
}

// know notes that two names are one person's, who has one number then.
func (s *state) know(jid, other types.JID) {
	if jid.IsEmpty() || other.IsEmpty() || s.Others[jid.String()] != "" || s.Others[other.String()] != "" {
		return
	}
	if s.Labels[contactLabel+" "+other.String()] != 0 {
		jid, other = other, jid
	}
	s.Others[other.String()] = jid.String()
}

// The kinds of labels.
const (
	contactLabel = "contact"
	groupLabel   = "group"
	listLabel    = "list"
)

// chatLabel returns the kind and number of a file's chat, or zero for the history.
func (s *state) chatLabel(f *file) (kind string, n int) {
	switch f.Kind {
	case wabox.KindDirect:
		kind = contactLabel
	case wabox.KindGroup, wabox.KindGroupStatus:
		kind = groupLabel
	case wabox.KindList:
		kind = listLabel
	default:
		return "", 0
	}
	return kind, s.number(kind, f.Chat)
}

// record returns what may be shown.
func (s *state) toRecord(made wabox.MadeWith) *wabox.Record {
	r := &wabox.Record{
		Version: wabox.RecordVersion, MadeWith: made, Platform: s.Platform, HasLID: s.HasLID, Migrated: s.Migrated,
		Answers: make(map[string]string), Files: []wabox.RecordedFile{},
	}
	for _, q := range questions {
		r.Answers[q.name] = q.answerOf(s)
	}
	for _, f := range s.Files {
		if len(f.Tries) > 0 {
			r.Files = append(r.Files, s.recorded(f))
		}
	}
	return r
}

func (s *state) recorded(f *file) wabox.RecordedFile {
	start := f.Tries[0].At
	r := wabox.RecordedFile{
		Kind: f.Kind, FromMe: f.FromMe, ByLID: f.ByLID, Resent: f.Resent,
		Age: wabox.Seconds(max(0, start.Sub(f.Sent).Truncate(time.Hour)/time.Second)), // no more of it than is needed
	}
	_, r.Chat = s.chatLabel(f)
	if f.Kind != wabox.KindDirect && f.Kind != wabox.KindHistory && !f.FromMe {
		r.Sender = s.number(contactLabel, f.Sender)
	}
	r.Old, r.New = statusesSince(f.Old, time.Time{}), statusesSince(f.New, f.ToldAt)
	for _, t := range f.Tries {
		rt := wabox.RecordedTry{
			Form: t.Form, After: millis(t.At.Sub(start)), Acked: !t.Ack.IsZero(), Refused: t.Refused,
			Watched: millis(s.Watched.Sub(t.At)),
		}
		if rt.Acked {
			rt.AckAfter = millis(t.Ack.Sub(t.At))
		}
		for _, a := range t.Answers {
			rt.Answers = append(rt.Answers, wabox.RecordedAnswer{
				After: millis(a.At.Sub(t.At)), Said: millis(a.Said.Sub(t.At.Truncate(time.Second))), Queued: a.Queued,
				Result: a.Result, Sealed: a.Sealed, HasPath: a.HasPath,
			})
		}
		for _, at := range t.Parts {
			rt.Parts = append(rt.Parts, millis(at.Sub(t.At)))
		}
		r.Tries = append(r.Tries, rt)
	}
	return r
}

// statusesSince returns statuses with times from start, or from the first of them if that is zero.
func statusesSince(statuses []status, start time.Time) (recorded []wabox.RecordedStatus) {
	for _, st := range statuses {
		if start.IsZero() {
			start = st.At
		}
		recorded = append(recorded, wabox.RecordedStatus{After: millis(st.At.Sub(start)), Status: st.Status, SaysExpired: st.SaysExpired})
	}
	slices.SortStableFunc(recorded, func(a, b wabox.RecordedStatus) int { return cmp.Compare(a.After, b.After) })
	return recorded
}

// millis returns a time as records have it. A clock that was set back makes it 0.
func millis(d time.Duration) wabox.Millis { return wabox.Millis(max(0, d.Milliseconds())) }
