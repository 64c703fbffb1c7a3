package reupload

import (
	"errors"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// An identity tells one file of one message of one account from any other: everything that a
// stranger could choose alike is in it. The file is zero where only the message is known.
type identity struct {
	account, chat, participant types.JID
	id                         types.MessageID
	fromMe                     bool
	mediaKey                   [mediaKeySize]byte
	file                       [fileHashSize]byte
}

func identityOf(account types.JID, e *Entry) identity {
	key := identity{account: account, chat: e.Chat, participant: e.Participant, id: e.MessageID, fromMe: e.IsFromMe}
	copy(key.mediaKey[:], e.MediaKey)
	copy(key.file[:], e.FileEncSHA256)
	return key
}

// withoutFile is the identity of a request that was made without knowing the file.
func (k identity) withoutFile() identity {
	k.file = [fileHashSize]byte{}
	return k
}

// An ending is how the last request for a file ended, as far as this process knows.
type ending struct {
	reading
	asked Asked
	at    time.Time // when, with the monotonic clock; zero while it has not ended
}

// A ledger is what the process knows of paths and requests. What is worth keeping over a restart is
// in the index too.
type ledger struct {
	mu      sync.RWMutex
	moves   *bounded[location, string]           // dead paths and where their files are now
	wrong   *bounded[location, bool]             // new paths that have given other bytes
	endings *bounded[identity, ending]           // how requests ended
	wires   *bounded[types.MessageID, wireUse]   // what was asked under a message id
	foreign *bounded[types.MessageID, time.Time] // what the bot has asked for by itself
	taken   *bounded[string, bool]               // sealed answers that were opened, by id and nonce
	named   types.JID                            // the account, if the phone has answered to the likeliest of its names
}

// A wireUse is what was asked under a message id, and has no answer yet. Nothing else tells which
// request an answer is for that is not sealed.
type wireUse struct {
	open  []identity
	last  identity // whose the last unsealed answer was that was taken,
	stamp string   // and which that was
}

// What is kept at the most, each some hundred bytes, but for paths, which have 2 KiB at the most.
const (
	maxMoves   = 8192
	maxWrong   = 1024
	maxEndings = 8192
	maxWires   = 4096
	maxForeign = 4096
	maxTaken   = 1024
	maxOpen    = 8 // under one message id
)

func newLedger() *ledger {
	return &ledger{
		moves:   newBounded[location, string](maxMoves),
		wrong:   newBounded[location, bool](maxWrong),
		endings: newBounded[identity, ending](maxEndings),
		wires:   newBounded[types.MessageID, wireUse](maxWires),
		foreign: newBounded[types.MessageID, time.Time](maxForeign),
		taken:   newBounded[string, bool](maxTaken),
	}
}

// movedTo returns where the file of a dead path is now, or "". It allocates nothing.
func (l *ledger) movedTo(dead location) string {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.moves.get(dead)
}

// move remembers where the file of a dead path is now.
func (l *ledger) move(dead location, path string) {
	if dead.path.size() > maxDirectPath || dead.path.String() == path {
		return
	}
	dead = dead.clone() // it is a part of a URL
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moves.set(dead, path)
}

// unmove forgets where the file of a dead path is, because it is not there.
func (l *ledger) unmove(dead location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.moves.remove(dead)
}

// setWrong remembers that a new path gives something else than the file.
func (l *ledger) setWrong(p location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong.set(p.clone(), true)
}

func (l *ledger) isWrong(p location) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.wrong.get(p)
}

// maxSkew is how far ahead the clock can be that the index has a time from. One that was farther
// off has noted nothing of use.
const maxSkew = time.Hour

// recall completes what an index knows of a file with what this process knows. An index can fail,
// or be slow.
func (l *ledger) recall(key identity, e *Entry) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, k := range [...]identity{key, key.withoutFile()} {
		o := l.endings.get(k)
		if e.DirectPath == "" {
			e.DirectPath = o.result.DirectPath
		}
		if k == key && (!o.asked.At.Before(e.Asked.At) || time.Until(e.Asked.At) > maxSkew) {
			e.Asked = o.asked
		}
	}
}

// since returns how a request for a file ended, if it did after a moment.
func (l *ledger) since(key identity, moment time.Time) (reading, bool) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	o := l.endings.get(key)
	return o.reading, o.at.After(moment)
}

// sent notes that a request is on the wire, and returns what is known of the file from then on.
func (l *ledger) sent(key identity, before Asked) Asked {
	asked := Asked{At: time.Now().Truncate(time.Second), Outcome: OutcomeUnknown, Vain: before.Vain}
	l.mu.Lock()
	defer l.mu.Unlock()
	o := l.endings.get(key)
	o.asked, o.at = asked, time.Time{}
	l.endings.set(key, o)
	use := l.wires.get(key.id)
	for _, open := range use.open {
		if open == key {
			return asked
		}
	}
	if len(use.open) < maxOpen {
		use.open = append(use.open[:len(use.open):len(use.open)], key)
		l.wires.set(key.id, use)
	}
	return asked
}

// settle notes how a request ended. It returns what is known of the file from then on, and reports
// whether that is worth keeping and whether there is a path that was not known. A late answer does
// not undo a path.
func (l *ledger) settle(key identity, before Entry, r reading, late bool) (asked Asked, keep, isNews bool) {
	kind, tells := outcomeOf(r)
	l.mu.Lock()
	defer l.mu.Unlock()
	last := l.endings.get(key)
	if !tells { // it is not about the file: a context, the connection, Close
		if !isOutage(r.err) || last.asked.At.IsZero() || !last.at.IsZero() {
			return before.Asked, false, false
		}
		last.asked = Asked{At: time.Now().Truncate(time.Second), Outcome: OutcomeOutage, Vain: before.Asked.Vain}
		l.endings.set(key, last) // what sent has noted has not happened
		l.close(key)
		return last.asked, true, false
	}
	if late && !r.bringsPath() && last.bringsPath() {
		return last.asked, false, false
	}
	asked = Asked{At: time.Now().Truncate(time.Second), Outcome: kind}
	if !kind.isFinal() {
		asked.Vain = before.Asked.Vain + 1
	}
	known := before.DirectPath
	if last.bringsPath() {
		known = last.result.DirectPath
	}
	l.endings.set(key, ending{r, asked, time.Now()})
	if kind != OutcomeSilence {
		l.close(key)
	}
	return asked, true, r.bringsPath() && r.result.DirectPath != known
}

// isOutage reports whether a request has ended because the bot's own connection went before the
// server had it.
func isOutage(err error) bool {
	return errors.Is(err, whatsmeow.ErrNotConnected) && err != errAway
}

// clearWrong notes that the phone has named a path, so that it is tried even if it has given
// other bytes before.
func (l *ledger) clearWrong(p location) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrong.remove(p)
}

// close notes that a request has its answer. It needs l.mu.
func (l *ledger) close(key identity) {
	use := l.wires.get(key.id)
	if len(use.open) == 0 {
		return
	}
	var open []identity
	for _, other := range use.open {
		if other != key {
			open = append(open, other)
		}
	}
	use.open = open
	l.wires.set(key.id, use)
}

// claim reports whether an unsealed answer under a message id must be the one to a request: no
// other one under the id is without an answer, and it is not the answer to another one once more.
func (l *ledger) claim(key identity, stamp string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	use := l.wires.get(key.id)
	again := use.stamp == stamp && use.last != key
	if again || len(use.open) > 1 || len(use.open) == 1 && use.open[0] != key {
		return false
	}
	use.last, use.stamp = key, stamp
	l.wires.set(key.id, use)
	return true
}

// take notes that a sealed answer was opened. One that comes again is not the answer to
// the next request.
func (l *ledger) take(a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken.set(a.id+"\x00"+a.stamp, true)
}

// wasTaken reports whether a sealed answer was opened before: a nonce is never used twice.
func (l *ledger) wasTaken(a answer) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.taken.get(a.id + "\x00" + a.stamp)
}

// isOwn reports whether a request under a message id was sent that has no answer yet.
func (l *ledger) isOwn(id types.MessageID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.wires.get(id).open) > 0
}

// askedByBot notes that the bot itself has asked for a message, or that it has its answer.
func (l *ledger) askedByBot(id types.MessageID, asked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if asked {
		l.foreign.set(strings.Clone(id), time.Now())
	} else {
		l.foreign.remove(id)
	}
}

// botAsked returns when the bot has asked for a message by itself, and waits for the answer.
func (l *ledger) botAsked(id types.MessageID) time.Time {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.foreign.get(id)
}

// answersTo notes that the phone has answered to the likeliest name of an account, so that the
// other need not be tried.
func (l *ledger) answersTo(account types.JID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.named = account
}

func (l *ledger) isNamed(account types.JID) bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.named == account
}

// A bounded map forgets what was put in first when it is full. It is not safe for concurrent use.
type bounded[K comparable, V any] struct {
	limit  int
	values map[K]slotted[V]
	order  []K // a ring once it is full; it can hold keys that were removed
	oldest int
}

type slotted[V any] struct {
	value V
	slot  int // in the ring
}

func newBounded[K comparable, V any](limit int) *bounded[K, V] {
	return &bounded[K, V]{limit: limit, values: make(map[K]slotted[V])}
}

func (b *bounded[K, V]) get(key K) V { return b.values[key].value }

func (b *bounded[K, V]) set(key K, value V) {
	if p, known := b.values[key]; known {
		b.values[key] = slotted[V]{value, p.slot}
		return
	}
	slot := len(b.order)
	if slot < b.limit {
		b.order = append(b.order, key)
	} else {
		slot = b.oldest
		b.oldest = (b.oldest + 1) % b.limit
		if first := b.order[slot]; b.values[first].slot == slot { // and not put in anew elsewhere
			delete(b.values, first)
		}
		b.order[slot] = key
	}
	b.values[key] = slotted[V]{value, slot}
}

func (b *bounded[K, V]) remove(key K) { delete(b.values, key) }
