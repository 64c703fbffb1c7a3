package reupload

import (
	"go.mau.fi/whatsmeow/types"
	"math"
	"time"
)

// A crowd is the rule for entries that have a file or a message id in common. Anyone can send more
// of them, so only so many are kept, and no kind of entry and no origin takes the places of others.
// It is pure.
type crowd struct {
	timed, untimed int // places for entries with a time and for those without; either kind can use what the other leaves free
	// forFile chooses what stays of one origin: of a file the newest entries, and always the very
	// oldest, which may be the original; of a message id the oldest ones, since anyone can send an
	// id again, but not before it was sent. Of those without a time it is the last or the first
	// that were put in.
	forFile bool
}

var (
	// A popular sticker comes in thousands of messages, and the phone is asked for a few at the
	// most.
	fileCrowd = crowd{timed: 12, untimed: 4, forFile: true}
	// A message has 64 files at the most, and any number of senders can choose its id.
	idCrowd = crowd{timed: 192, untimed: 64}
)

// entriesPerSender is how many entries of one sender are kept under a message id.
const entriesPerSender = filesPerMessage

// filesPerMessage is how many files of one message are remembered. A sticker pack has thirty.
const filesPerMessage = 64

func (c crowd) places() int { return c.timed + c.untimed }

// A member is the part of an entry that the rule looks at. Its origin is the chat in a crowd of a
// file, and the sender in a crowd of a message id.
type member struct {
	origin  uint64
	seconds int64 // unix, or unknownTime
}

// senderOf returns the sender of an entry: the participant, or the chat where there is none. The
// account's own messages have one sender, whose JID is empty.
func senderOf(e *Entry) types.JID {
	switch {
	case e.IsFromMe:
		return types.EmptyJID
	case e.Participant != types.EmptyJID:
		return e.Participant
	}
	return e.Chat
}

// leaves returns which one of too many members has to go. They are in the order in which they came.
func (c crowd) leaves(all []member) int {
	timed := 0
	for _, m := range all {
		if m.seconds != unknownTime {
			timed++
		}
	}
	ofTimed := timed > c.timed // otherwise there are too many without a time
	oldest := -1
	if c.forFile && ofTimed {
		oldest = oldestOf(all)
	}
	var counts tally
	most := uint16(0)
	for i, m := range all {
		if i != oldest && (m.seconds != unknownTime) == ofTimed {
			n := counts.of(m.origin)
			*n++
			most = max(most, *n)
		}
	}
	leaves := -1
	for i, m := range all {
		if i == oldest || (m.seconds != unknownTime) != ofTimed || *counts.of(m.origin) < most {
			continue
		}
		if leaves < 0 || c.goesBefore(m, all[leaves]) {
			leaves = i
		}
	}
	return leaves
}

// A tally counts by origin: a map takes ten times as long for the few hundred that there are at the
// most.
type tally struct {
	origins [1024]uint64 // each plus one, so that 0 is none
	counts  [1024]uint16
}

// of returns the count of an origin.
func (t *tally) of(origin uint64) *uint16 {
	i := origin * hashSpread % uint64(len(t.origins))
	for t.origins[i] != 0 && t.origins[i] != origin+1 {
		i = (i + 1) % uint64(len(t.origins))
	}
	t.origins[i] = origin + 1
	return &t.counts[i]
}

// goesBefore reports whether a member has to go in place of one that came before it.
func (c crowd) goesBefore(m, earlier member) bool {
	if c.forFile {
		return m.seconds < earlier.seconds
	}
	return m.seconds >= earlier.seconds
}

// leavesOfSender returns which one of too many members of one sender has to go: one without a time
// if there is one, and otherwise the newest.
func leavesOfSender(all []member) int {
	leaves := 0
	for i, m := range all {
		if age(m.seconds) >= age(all[leaves].seconds) {
			leaves = i
		}
	}
	return leaves
}

// oldestOf returns the oldest member that has a time, or -1.
func oldestOf(all []member) int {
	oldest := -1
	for i, m := range all {
		if m.seconds != unknownTime && (oldest < 0 || m.seconds < all[oldest].seconds) {
			oldest = i
		}
	}
	return oldest
}

// unknownTime is the time of a message of which it is not known.
var unknownTime = time.Time{}.Unix()

// hashSpread is an odd number, so that no two accounts have the same multiple of it, and neighbours
// differ in many bits.
const hashSpread = 0x9E3779B1

// age returns a time for comparing, in which an unknown time is later than all others.
func age(seconds int64) int64 {
	if seconds == unknownTime {
		return math.MaxInt64
	}
	return seconds
}
