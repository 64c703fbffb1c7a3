package reupload

import (
	"cmp"
	"context"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// DefaultMemoryCapacity is how many files the index of a plugin remembers when Options.Index is
// nil: some 18 MB of them.
const DefaultMemoryCapacity = 100_000

const (
	// entriesPerFile bounds how many messages are remembered for one file. A popular sticker comes
	// in thousands, and the phone is asked for a few at the most.
	entriesPerFile = 16
	// entriesPerID bounds how many files are remembered under one message id, which any number of
	// senders can choose.
	entriesPerID = 256
)

// MemoryIndex is an [Index] that forgets with the process. When it is full, what was remembered
// first is forgotten first.
type MemoryIndex struct {
	mu    sync.RWMutex
	seed  maphash.Seed // that nobody knows, since who sends a message chooses its id and bits of its file's hash
	limit int

	// Records lie in a ring of slots, cut into chunks so that growing it copies nothing. Slot
	// numbers start at 1. Two maps lead from a hash to the first of the slots that share it, each
	// of which names the next; 0 ends the chain.
	chunks  [][]record
	next    uint32 // the slot that is written next
	count   int
	files   map[uint32]uint32
	ids     map[uint32]uint32
	renewed map[uint32]renewal // by slot: few entries ever have one
	jids    jidTable
}

var _ Index = (*MemoryIndex)(nil)

const (
	chunkSize = 1024
	// putAtOnce is for how many entries of a batch readers and other writers wait.
	putAtOnce = 256
)

// unknownTime is the time of a message of which it is not known.
var unknownTime = time.Time{}.Unix()

// A record is an Entry but for what few entries have.
type record struct {
	id                         string
	seconds                    int64 // unix, or unknownTime
	mediaKey                   [mediaKeySize]byte
	file                       [fileHashSize]byte
	account, chat, participant uint32 // in the table of JIDs
	nextID, nextFile           uint32
	used, fromMe, hasFile      bool
}

// A renewal is what the phone has made of an entry.
type renewal struct {
	path  string
	asked Asked
}

// NewMemoryIndex returns an empty index for up to capacity files. One takes about 180 bytes; 1,100
// at the most, if somebody sends message ids and JIDs that are as long as they can be and all
// different. The capacity defaults to DefaultMemoryCapacity.
func NewMemoryIndex(capacity int) *MemoryIndex {
	if capacity <= 0 {
		capacity = DefaultMemoryCapacity
	}
	return &MemoryIndex{
		seed:    maphash.MakeSeed(),
		limit:   capacity,
		next:    1,
		files:   make(map[uint32]uint32),
		ids:     make(map[uint32]uint32),
		renewed: make(map[uint32]renewal),
		jids:    jidTable{numbers: make(map[types.JID]uint32)},
	}
}

// Len returns how many files are remembered.
func (x *MemoryIndex) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.count
}

// Put implements [Index]. Its error is the context's.
func (x *MemoryIndex) Put(ctx context.Context, account types.JID, entries []Entry) error {
	for some := range slices.Chunk(entries, putAtOnce) {
		if err := ctx.Err(); err != nil {
			return err
		}
		x.putSome(account, some)
	}
	return nil
}

func (x *MemoryIndex) putSome(account types.JID, entries []Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	owner := x.jids.use(account) // so that it stays while its entries come
	defer x.jids.drop(owner)
	for i := range entries {
		x.put(owner, &entries[i])
	}
}

func (x *MemoryIndex) put(owner uint32, e *Entry) {
	slot, full := x.find(owner, e)
	if slot == 0 {
		if full != 0 {
			if age(e.Timestamp.Unix()) >= age(x.at(full).seconds) {
				return
			}
			x.remove(full)
		}
		if slot = x.add(owner, e); slot == 0 {
			return
		}
	}
	if r := x.at(slot); r.seconds == unknownTime {
		r.seconds = e.Timestamp.Unix()
	}
	renewed := x.renewed[slot]
	asked := e.Asked.At.Unix()
	newPath, newAsked := e.DirectPath != "", asked != unknownTime && asked >= renewed.asked.At.Unix()
	if newPath {
		renewed.path = strings.Clone(e.DirectPath)
	}
	if newAsked {
		renewed.asked = Asked{time.Unix(asked, 0), e.Asked.Outcome, e.Asked.Vain}
	}
	if newPath || newAsked {
		x.renewed[slot] = renewed
	}
}

// ByFile implements [Index]. It returns at most 16 entries and never fails.
func (x *MemoryIndex) ByFile(_ context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	owner, known := x.jids.numbers[account]
	if !known || len(fileEncSHA256) != fileHashSize {
		return nil, nil
	}
	var found []Entry
	for slot := x.files[x.hashFile(owner, fileEncSHA256)]; slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); r.account == owner && r.isFile(fileEncSHA256) {
			found = append(found, x.entry(slot))
		}
	}
	return newestFirst(found), nil
}

// ByMessage implements [Index]. It returns at most 256 entries and never fails.
func (x *MemoryIndex) ByMessage(_ context.Context, account types.JID, id types.MessageID) ([]Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	owner, known := x.jids.numbers[account]
	if !known {
		return nil, nil
	}
	var found []Entry
	for slot := x.ids[x.hashID(owner, id)]; slot != 0; slot = x.at(slot).nextID {
		if r := x.at(slot); r.account == owner && r.id == id {
			found = append(found, x.entry(slot))
		}
	}
	return newestFirst(found), nil
}

func newestFirst(entries []Entry) []Entry {
	if len(entries) > 1 {
		slices.SortStableFunc(entries, func(a, b Entry) int { return b.Timestamp.Compare(a.Timestamp) })
	}
	return entries
}

func hasFile(e *Entry) bool { return len(e.FileEncSHA256) > 0 }

func (r *record) isFile(fileEncSHA256 []byte) bool {
	return r.hasFile && string(r.file[:]) == string(fileEncSHA256)
}

func (x *MemoryIndex) at(slot uint32) *record {
	return &x.chunks[(slot-1)/chunkSize][(slot-1)%chunkSize]
}

func (x *MemoryIndex) entry(slot uint32) Entry {
	r, renewed := x.at(slot), x.renewed[slot]
	secrets := make([]byte, 0, len(r.mediaKey)+len(r.file)) // one allocation for both, and never the record's own bytes
	secrets = append(append(secrets, r.mediaKey[:]...), r.file[:]...)
	e := Entry{
		Request: Request{
			MessageID:   r.id,
			Chat:        x.jids.jids[r.chat],
			MediaKey:    secrets[:mediaKeySize:mediaKeySize],
			IsFromMe:    r.fromMe,
			Participant: x.jids.jids[r.participant],
		},
		DirectPath: renewed.path,
		Asked:      renewed.asked,
	}
	if r.hasFile {
		e.FileEncSHA256 = secrets[mediaKeySize:]
	}
	if r.seconds != unknownTime {
		e.Timestamp = time.Unix(r.seconds, 0)
	}
	return e
}

// find returns the slot of an entry. If it is not there, and there are as many entries of its id as
// there may be, full is the slot of the one of them that goes first: one without a time or else the
// newest, since a stranger can send an id that was there before, but not before it was.
func (x *MemoryIndex) find(owner uint32, e *Entry) (slot, full uint32) {
	sharing := 0
	for slot = x.ids[x.hashID(owner, e.MessageID)]; slot != 0; slot = x.at(slot).nextID {
		r := x.at(slot)
		if r.account != owner || r.id != e.MessageID {
			continue
		}
		if string(r.mediaKey[:]) == string(e.MediaKey) && r.hasFile == hasFile(e) && (!r.hasFile || r.isFile(e.FileEncSHA256)) &&
			x.jids.jids[r.chat] == e.Chat && x.jids.jids[r.participant] == e.Participant && r.fromMe == e.IsFromMe {
			return slot, 0
		}
		if sharing++; full == 0 || age(r.seconds) > age(x.at(full).seconds) {
			full = slot
		}
	}
	if sharing < entriesPerID {
		full = 0
	}
	return 0, full
}

// age is for comparing times where one that is not known counts as later than all others.
func age(seconds int64) int64 {
	if seconds == unknownTime {
		return math.MaxInt64
	}
	return seconds
}

// add puts an entry into a slot of its own, or returns 0 if it is none of those that stay of its
// file.
func (x *MemoryIndex) add(owner uint32, e *Entry) uint32 {
	slot, full := x.placeOfFile(owner, e)
	if !full {
		slot = x.nextSlot()
	}
	if slot == 0 {
		return 0
	}
	x.remove(slot)
	r := x.at(slot)
	x.jids.uses[owner]++
	*r = record{
		id: strings.Clone(e.MessageID), seconds: e.Timestamp.Unix(),
		account: owner, chat: x.jids.use(e.Chat), participant: x.jids.use(e.Participant),
		used: true, fromMe: e.IsFromMe, hasFile: hasFile(e),
	}
	copy(r.mediaKey[:], e.MediaKey)
	copy(r.file[:], e.FileEncSHA256)
	hash := x.hashID(owner, r.id)
	r.nextID, x.ids[hash] = x.ids[hash], slot
	if r.hasFile {
		hash = x.hashFile(owner, r.file[:])
		r.nextFile, x.files[hash] = x.files[hash], slot
	}
	x.count++
	return slot
}

func (x *MemoryIndex) nextSlot() uint32 {
	slot := x.next
	if x.next++; int(x.next) > x.limit {
		x.next = 1
	}
	if chunk := int(slot-1) / chunkSize; chunk == len(x.chunks) {
		x.chunks = append(x.chunks, make([]record, min(chunkSize, x.limit-chunk*chunkSize)))
	}
	return slot
}

// placeOfFile reports whether there are as many entries of a file as there may be, and returns the
// slot of the one that has to go for another one, or 0 if that is the new one itself. It is the
// oldest but one: the oldest that has a time stays, since it may well be the original. That a file
// comes over and over pushes nothing else out.
func (x *MemoryIndex) placeOfFile(owner uint32, e *Entry) (slot uint32, full bool) {
	if !hasFile(e) {
		return 0, false
	}
	type aged struct {
		slot    uint32
		seconds int64
	}
	all := make([]aged, 0, entriesPerFile+1)
	for slot := x.files[x.hashFile(owner, e.FileEncSHA256)]; slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); r.account == owner && r.isFile(e.FileEncSHA256) {
			all = append(all, aged{slot, r.seconds})
		}
	}
	if len(all) < entriesPerFile {
		return 0, false
	}
	slices.Reverse(all) // what came first, of those of the same second, counts as the older
	all = append(all, aged{0, e.Timestamp.Unix()})
	slices.SortStableFunc(all, func(a, b aged) int { return cmp.Compare(a.seconds, b.seconds) })
	if all[0].seconds == unknownTime {
		return all[0].slot, true
	}
	return all[1].slot, true
}

// remove unlinks a slot from both chains and frees it. It leaves a slot alone that is free.
func (x *MemoryIndex) remove(slot uint32) {
	r := x.at(slot)
	if !r.used {
		return
	}
	x.unlink(x.ids, x.hashID(r.account, r.id), slot, func(r *record) *uint32 { return &r.nextID })
	if r.hasFile {
		x.unlink(x.files, x.hashFile(r.account, r.file[:]), slot, func(r *record) *uint32 { return &r.nextFile })
	}
	delete(x.renewed, slot)
	x.jids.drop(r.account)
	x.jids.drop(r.chat)
	x.jids.drop(r.participant)
	*r = record{}
	x.count--
}

// unlink takes a slot out of the chain that starts at heads[hash].
func (x *MemoryIndex) unlink(heads map[uint32]uint32, hash, slot uint32, next func(*record) *uint32) {
	after := *next(x.at(slot))
	switch {
	case heads[hash] != slot:
		before := heads[hash]
		for *next(x.at(before)) != slot {
			before = *next(x.at(before))
		}
		*next(x.at(before)) = after
	case after != 0:
		heads[hash] = after
	default:
		delete(heads, hash)
	}
}

// Accounts share nothing, not even chains. Half of a 64-bit hash is enough: those that meet by
// chance are told apart by what is in the records.

func (x *MemoryIndex) hashID(account uint32, id string) uint32 {
	return uint32(maphash.String(x.seed, id)) ^ account*hashSpread
}

func (x *MemoryIndex) hashFile(account uint32, fileEncSHA256 []byte) uint32 {
	return uint32(maphash.Bytes(x.seed, fileEncSHA256)) ^ account*hashSpread
}

// hashSpread is an odd number, so that no two accounts have the same multiple of it, and neighbours
// differ in many bits.
const hashSpread = 0x9E3779B1
