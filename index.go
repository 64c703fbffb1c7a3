package reupload

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// An Entry is what an [Index] remembers of one file in one message.
type Entry struct {
	Request
	// FileEncSHA256 is the SHA-256 of the encrypted file, 32 bytes, or nil where only the message is known.
	FileEncSHA256 []byte
	// Timestamp is when the message was sent. It is zero where that is not known, as for a quoted message.
	Timestamp time.Time
	// DirectPath is the path that the phone has told last, or empty if it was never asked.
	DirectPath string
}

// An Index remembers which message a file belongs to, for many accounts.
//
// An account is the phone-number JID of a user of this process, without device part; accounts never see each other's
// entries. All methods can be called concurrently. The plugin bounds the time of every call through its context and works
// on without an index that fails, so a method returns an error rather than waiting for long.
type Index interface {
	// Put remembers entries, each under its account, message id and file. Of one that is there already, it replaces the
	// DirectPath if the new one is not empty, and the rest unless
	//   - the entry that is there is newer (by Timestamp, in whole seconds), or
	//   - its Timestamp is known and its chat or participant is another: anyone can send a message with an id and a file
	//     that were there before, and must not be able to replace what is known of somebody else's.
	// Each entry's Request has been checked. The byte slices of the entries belong to the index from then on. After an
	// error the entries may or may not be remembered.
	Put(ctx context.Context, account types.JID, entries []Entry) error
	// ByFile returns the entries of a file, the newest message first. There may be a limit, of 16 or more.
	ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error)
	// ByMessage returns the entries with a message id, the newest first. There may be a limit, of 256 or more.
	ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]Entry, error)
}

// DefaultMemoryCapacity is how many files the index of a plugin remembers when Options.Index is nil: some 18 MB when full.
const DefaultMemoryCapacity = 100_000

// entriesPerFile bounds how many messages are remembered for one file. A popular sticker comes in thousands, and the phone
// is asked for a few at the most.
const entriesPerFile = 16

// MemoryIndex is an [Index] that forgets with the process. When it is full, what was remembered first is forgotten first.
type MemoryIndex struct {
	mu    sync.RWMutex
	seed  maphash.Seed
	limit int

	// Records lie in a ring of slots, cut into chunks so that growing it copies nothing. Slot numbers start at 1, so that
	// 0 ends a chain. Two hash tables lead to them, each a list of chain heads; the links are in the records.
	chunks  [][]record
	slots   int    // slots in use or freed, at most limit
	next    uint32 // the slot that is written next
	count   int
	files   []uint32
	ids     []uint32
	renewed map[uint32]string // direct paths, by slot: few entries ever have one
	jids    jidTable
}

var _ Index = (*MemoryIndex)(nil)

const chunkSize = 1024

// unknownTime is the time of a message of which it is not known.
var unknownTime = time.Time{}.Unix()

// A record is an Entry in 128 bytes, which are two lines of a cache.
type record struct {
	id                         string // empty: the slot is free
	seconds                    int64  // unix, or unknownTime
	mediaKey                   [mediaKeySize]byte
	file                       [32]byte
	account, chat, participant uint32 // in the table of JIDs
	idHash, fileHash           uint32
	nextID, nextFile           uint32
	fromMe, hasFile            bool
	_                          [8]byte
}

// A jidTable numbers JIDs, which are few and come often. It forgets those that no record has any more.
type jidTable struct {
	numbers map[types.JID]uint32
	jids    []types.JID
	uses    []int
	free    []uint32
}

// use returns the number of a JID for one more record.
func (t *jidTable) use(jid types.JID) uint32 {
	n, known := t.numbers[jid]
	if !known {
		jid.User, jid.Server = strings.Clone(jid.User), strings.Clone(jid.Server) // they may be parts of something large
		if last := len(t.free) - 1; last >= 0 {
			n, t.free = t.free[last], t.free[:last]
			t.jids[n] = jid
		} else {
			n = uint32(len(t.jids))
			t.jids, t.uses = append(t.jids, jid), append(t.uses, 0)
		}
		t.numbers[jid] = n
	}
	t.uses[n]++
	return n
}

// drop takes a use of a JID back.
func (t *jidTable) drop(n uint32) {
	if t.uses[n]--; t.uses[n] == 0 {
		delete(t.numbers, t.jids[n])
		t.jids[n] = types.EmptyJID
		t.free = append(t.free, n)
	}
}

// NewMemoryIndex returns an empty index for up to capacity files, of about 180 bytes each. The capacity defaults to
// DefaultMemoryCapacity.
func NewMemoryIndex(capacity int) *MemoryIndex {
	if capacity <= 0 {
		capacity = DefaultMemoryCapacity
	}
	x := &MemoryIndex{seed: maphash.MakeSeed(), limit: capacity, next: 1, renewed: make(map[uint32]string)}
	x.jids.numbers = make(map[types.JID]uint32)
	x.rehash(64)
	return x
}

// Len returns how many files are remembered.
func (x *MemoryIndex) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.count
}

// Put implements [Index]. It never fails.
func (x *MemoryIndex) Put(_ context.Context, account types.JID, entries []Entry) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	owner := x.jids.use(account)
	for i := range entries {
		x.put(owner, &entries[i])
	}
	x.jids.drop(owner)
	return nil
}

func (x *MemoryIndex) put(owner uint32, e *Entry) {
	id, file := x.hashID(e.MessageID), uint32(0)
	if e.FileEncSHA256 != nil {
		file = x.hashFile(e.FileEncSHA256)
	}
	slot := x.find(owner, e, id)
	isNew := slot == 0
	if isNew {
		slot = x.allocate(owner, e, id, file)
	}
	if e.DirectPath != "" {
		x.renewed[slot] = strings.Clone(e.DirectPath)
	}
	r := x.at(slot)
	if !isNew {
		if !x.yields(r, e) {
			return
		}
		x.jids.drop(r.chat)
		x.jids.drop(r.participant)
	}
	r.chat, r.participant = x.jids.use(e.Chat), x.jids.use(e.Participant)
	r.fromMe, r.seconds = e.IsFromMe, e.Timestamp.Unix()
	copy(r.mediaKey[:], e.MediaKey)
}

// yields tells whether what is known of a message is replaced by an entry, see [Index].
func (x *MemoryIndex) yields(r *record, e *Entry) bool {
	same := x.jids.jids[r.chat] == e.Chat && x.jids.jids[r.participant] == e.Participant
	return e.Timestamp.Unix() >= r.seconds && (same || r.seconds == unknownTime)
}

// ByFile implements [Index]. It returns at most 16 entries and never fails.
func (x *MemoryIndex) ByFile(_ context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error) {
	hash := x.hashFile(fileEncSHA256)
	x.mu.RLock()
	defer x.mu.RUnlock()
	var found []Entry
	for slot := *x.fileHead(hash); slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); r.fileHash == hash && r.isFile(fileEncSHA256) && x.jids.jids[r.account] == account {
			found = append(found, x.entry(slot))
		}
	}
	return newestFirst(found), nil
}

// ByMessage implements [Index]. It never fails.
func (x *MemoryIndex) ByMessage(_ context.Context, account types.JID, id types.MessageID) ([]Entry, error) {
	hash := x.hashID(id)
	x.mu.RLock()
	defer x.mu.RUnlock()
	var found []Entry
	for slot := *x.idHead(hash); slot != 0; slot = x.at(slot).nextID {
		if r := x.at(slot); r.idHash == hash && r.id == id && x.jids.jids[r.account] == account {
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

func (r *record) isFile(fileEncSHA256 []byte) bool {
	return r.hasFile && string(r.file[:]) == string(fileEncSHA256)
}

func (x *MemoryIndex) at(slot uint32) *record {
	return &x.chunks[(slot-1)/chunkSize][(slot-1)%chunkSize]
}

func (x *MemoryIndex) entry(slot uint32) Entry {
	r := x.at(slot)
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
		DirectPath: x.renewed[slot],
	}
	if r.hasFile {
		e.FileEncSHA256 = secrets[mediaKeySize:]
	}
	if r.seconds != unknownTime {
		e.Timestamp = time.Unix(r.seconds, 0)
	}
	return e
}

// find returns the slot of an entry's account, message id and file, or 0.
func (x *MemoryIndex) find(owner uint32, e *Entry, idHash uint32) uint32 {
	for slot := *x.idHead(idHash); slot != 0; slot = x.at(slot).nextID {
		r := x.at(slot)
		if r.idHash == idHash && r.account == owner && r.id == e.MessageID && r.hasFile == (e.FileEncSHA256 != nil) &&
			(!r.hasFile || r.isFile(e.FileEncSHA256)) {
			return slot
		}
	}
	return 0
}

// allocate makes room for an entry and links it into both tables.
func (x *MemoryIndex) allocate(owner uint32, e *Entry, idHash, fileHash uint32) uint32 {
	if e.FileEncSHA256 != nil {
		x.trim(owner, e.FileEncSHA256, fileHash)
	}
	slot := x.next
	if x.slots < x.limit {
		if x.slots++; (x.slots-1)/chunkSize == len(x.chunks) {
			x.chunks = append(x.chunks, make([]record, min(chunkSize, x.limit-x.slots+1)))
		}
		if 2*x.slots > len(x.ids) { // short chains: each record on the way costs a visit to memory
			x.rehash(2 * len(x.ids))
		}
	} else {
		x.remove(slot)
	}
	if x.next++; int(x.next) > x.limit {
		x.next = 1
	}
	r := x.at(slot)
	x.jids.uses[owner]++
	r.account, r.id, r.hasFile = owner, strings.Clone(e.MessageID), e.FileEncSHA256 != nil
	r.idHash, r.fileHash = idHash, fileHash
	copy(r.file[:], e.FileEncSHA256)
	x.link(slot)
	x.count++
	return slot
}

// trim forgets the oldest message of a file that has as many as are remembered.
func (x *MemoryIndex) trim(owner uint32, fileEncSHA256 []byte, fileHash uint32) {
	var n int
	var oldest uint32
	for slot := *x.fileHead(fileHash); slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); r.account == owner && r.isFile(fileEncSHA256) {
			if n++; oldest == 0 || r.seconds <= x.at(oldest).seconds {
				oldest = slot
			}
		}
	}
	if n >= entriesPerFile {
		x.remove(oldest)
	}
}

func (x *MemoryIndex) link(slot uint32) {
	r := x.at(slot)
	head := x.idHead(r.idHash)
	r.nextID, *head = *head, slot
	if r.hasFile {
		head = x.fileHead(r.fileHash)
		r.nextFile, *head = *head, slot
	}
}

// remove unlinks a slot from both tables and frees it. A slot that is free already is left alone.
func (x *MemoryIndex) remove(slot uint32) {
	r := x.at(slot)
	if r.id == "" {
		return
	}
	link := x.idHead(r.idHash)
	for *link != slot {
		link = &x.at(*link).nextID
	}
	*link = r.nextID
	if r.hasFile {
		link = x.fileHead(r.fileHash)
		for *link != slot {
			link = &x.at(*link).nextFile
		}
		*link = r.nextFile
	}
	delete(x.renewed, slot)
	x.jids.drop(r.account)
	x.jids.drop(r.chat)
	x.jids.drop(r.participant)
	*r = record{}
	x.count--
}

func (x *MemoryIndex) idHead(hash uint32) *uint32   { return &x.ids[hash&uint32(len(x.ids)-1)] }
func (x *MemoryIndex) fileHead(hash uint32) *uint32 { return &x.files[hash&uint32(len(x.files)-1)] }

// The hashes have a seed that nobody knows, since who sends a message chooses its id and bits of its file's hash.

func (x *MemoryIndex) hashID(id string) uint32 { return uint32(maphash.String(x.seed, id)) }
func (x *MemoryIndex) hashFile(fileEncSHA256 []byte) uint32 {
	return uint32(maphash.Bytes(x.seed, fileEncSHA256))
}

// rehash gives both tables size heads, a power of two, and links every record anew, the oldest first.
func (x *MemoryIndex) rehash(size int) {
	x.ids, x.files = make([]uint32, size), make([]uint32, size)
	for slot := uint32(1); slot < x.next; slot++ {
		if r := x.at(slot); r.id != "" {
			r.nextID, r.nextFile = 0, 0
			x.link(slot)
		}
	}
}

// sameMessage tells whether two requests are about the same file of the same message. A message can hold several files,
// each with its own media key.
func sameMessage(a, b Request) bool {
	return a.MessageID == b.MessageID && bytes.Equal(a.MediaKey, b.MediaKey)
}
