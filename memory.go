package reupload

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// memory is what the process remembers besides the index, none of which is worth keeping over a restart.
type memory struct {
	refusalPause, silencePause time.Duration

	mu       sync.RWMutex
	moves    *bounded[directPath, string] // dead paths and where their files are now
	wrong    *bounded[string, bool]       // new paths that have given other bytes
	outcomes *bounded[fileKey, outcome]   // how the last request for a message ended
	answers  *bounded[string, int]        // answers that were seen, to know them when they come again
}

// A fileKey tells one file of one message from another, as sameMessage does.
type fileKey struct {
	id       types.MessageID
	mediaKey [mediaKeySize]byte
}

func fileKeyOf(r Request) fileKey {
	key := fileKey{id: r.MessageID}
	copy(key.mediaKey[:], r.MediaKey)
	return key
}

// An outcome is how the last request for a message ended.
type outcome struct {
	path  string    // the new path, or empty
	err   error     // why there is none
	until time.Time // not to be asked for again by itself before
}

// Each costs some hundred bytes at the most.
const (
	maxMoves    = 8192
	maxWrong    = 1024
	maxOutcomes = 8192
	maxAnswers  = 1024
)

func newMemory(refusalPause, silencePause time.Duration) *memory {
	return &memory{
		refusalPause: refusalPause,
		silencePause: silencePause,
		moves:        newBounded[directPath, string](maxMoves),
		wrong:        newBounded[string, bool](maxWrong),
		outcomes:     newBounded[fileKey, outcome](maxOutcomes),
		answers:      newBounded[string, int](maxAnswers),
	}
}

// movedTo returns where the file of a dead path is now, or "".
func (m *memory) movedTo(dead directPath) string {
	m.mu.RLock()
	defer m.mu.RUnlock()
	path := m.moves.values[dead]
	if m.wrong.values[path] {
		return ""
	}
	return path
}

// setWrong remembers that a new path gives something else than the file.
func (m *memory) setWrong(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong.set(path, true)
	for key, o := range m.outcomes.values {
		if o.path == path { // the phone may well do the same again
			m.outcomes.values[key] = outcome{err: fmt.Errorf("%w: another file is under the new path", ErrInvalidAnswer), until: time.Now().Add(m.silencePause)}
		}
	}
}

func (m *memory) isWrong(path string) bool {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.wrong.values[path]
}

// move remembers where the file of dead paths is now.
func (m *memory) move(path string, dead ...directPath) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range dead {
		if d.String() != path {
			m.moves.set(d, path)
		}
	}
}

// settle remembers how a request ended, and tells whether that is news: a path that was not known. A late answer does not
// undo a path.
func (m *memory) settle(req Request, r Result, err error, late bool) bool {
	now := time.Now()
	o := outcome{path: r.DirectPath}
	if o.path == "" {
		if err == nil {
			err = r.Err()
		}
		switch o.err = err; {
		case errors.Is(err, whatsmeow.ErrNotConnected):
			return false // the time-out is the bot's own
		case errors.Is(err, ErrNotFound), errors.Is(err, ErrDecryption):
			o.until = now.Add(m.refusalPause)
		case errors.Is(err, ErrTimeout), errors.Is(err, ErrGeneral), errors.Is(err, ErrRejected), errors.Is(err, ErrInvalidAnswer):
			o.until = now.Add(m.silencePause)
		default:
			return false // it says nothing about the message: a context, the connection, Close
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	key := fileKeyOf(req)
	last := m.outcomes.values[key]
	if late && o.path == "" && last.path != "" {
		return false
	}
	m.outcomes.set(key, o)
	delete(m.wrong.values, o.path) // the phone stands by it
	return o.path != "" && o.path != last.path
}

// refusal returns why a message should not be asked for now, and until when, or nil.
func (m *memory) refusal(req Request) error {
	m.mu.RLock()
	o := m.outcomes.values[fileKeyOf(req)]
	m.mu.RUnlock()
	if o.err == nil || !time.Now().Before(o.until) {
		return nil
	}
	return fmt.Errorf("%w (remembered; not asked again by itself until %s)", o.err, o.until.Format(time.RFC3339))
}

// isNew tells whether an answer has not been seen before. One notification comes twice, from the tap and as an event, and a
// phone can send the same one again. A nonce is never used twice. An error has none, so that the phone can well give the same
// one to two requests: it is old only if it is the event of what came through the tap.
func (m *memory) isNew(a answer, tapped bool) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(a.envelope.iv) > 0 {
		key := a.id + "\x00" + string(a.envelope.iv) + "\x00" + string(a.envelope.ciphertext)
		seen := m.answers.values[key]
		m.answers.set(key, 1)
		return seen == 0
	}
	key := a.id + "\x00error" // not its code, of which whatsmeow's event has another reading
	due := m.answers.values[key]
	switch {
	case tapped:
		m.answers.set(key, due+1)
	case due > 0:
		m.answers.set(key, due-1)
		return false
	}
	return true
}

// A bounded map forgets what was put in first when it is full. It is not safe for concurrent use.
type bounded[K comparable, V any] struct {
	limit  int
	values map[K]V
	order  []K // a ring once it is full
	oldest int
}

func newBounded[K comparable, V any](limit int) *bounded[K, V] {
	return &bounded[K, V]{limit: limit, values: make(map[K]V)}
}

func (b *bounded[K, V]) set(key K, value V) {
	if _, known := b.values[key]; !known {
		if len(b.order) < b.limit {
			b.order = append(b.order, key)
		} else {
			delete(b.values, b.order[b.oldest])
			b.order[b.oldest] = key
			b.oldest = (b.oldest + 1) % b.limit
		}
	}
	b.values[key] = value
}
