package reupload

import (
	"bytes"
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"time"
	"unique"

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
	// Put remembers entries, each under its account, message id and file. An entry that is there already is replaced,
	// except that a newer one (by Timestamp) stays, and that an empty DirectPath does not erase one that is known.
	// Each entry's Request has been checked, and belongs to the index from then on.
	Put(ctx context.Context, account types.JID, entries []Entry) error
	// ByFile returns the entries of a file, the newest message first. There may be a limit, of 16 or more.
	ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error)
	// ByMessage returns the entries with a message id, the newest first.
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
}

var _ Index = (*MemoryIndex)(nil)

const chunkSize = 1024

// A record is an Entry in 128 bytes. JIDs are few and come often, so the runtime keeps one of each.
type record struct {
	account, chat, participant unique.Handle[types.JID]
	id                         string // empty: the slot is free
	mediaKey                   [mediaKeySize]byte
	file                       [32]byte
	seconds                    int64 // unix; unknown: the zero time's
	nextFile, nextID           uint32
	fromMe, hasFile            bool
}

// NewMemoryIndex returns an empty index for up to capacity files, of about 180 bytes each. The capacity defaults to
// DefaultMemoryCapacity.
func NewMemoryIndex(capacity int) *MemoryIndex {
	if capacity <= 0 {
		capacity = DefaultMemoryCapacity
	}
	x := &MemoryIndex{seed: maphash.MakeSeed(), limit: capacity, next: 1, renewed: make(map[uint32]string)}
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
	owner := unique.Make(account)
	x.mu.Lock()
	defer x.mu.Unlock()
	for i := range entries {
		x.put(owner, &entries[i])
	}
	return nil
}

func (x *MemoryIndex) put(owner unique.Handle[types.JID], e *Entry) {
	slot := x.find(owner, e)
	if slot == 0 {
		slot = x.allocate(owner, e)
	} else if e.Timestamp.Unix() < x.at(slot).seconds {
		if e.DirectPath != "" {
			x.renewed[slot] = e.DirectPath
		}
		return
	}
	r := x.at(slot)
	r.chat, r.participant = unique.Make(e.Chat), unique.Make(e.Participant)
	r.fromMe, r.seconds = e.IsFromMe, e.Timestamp.Unix()
	copy(r.mediaKey[:], e.MediaKey)
	if e.DirectPath != "" {
		x.renewed[slot] = strings.Clone(e.DirectPath)
	}
}

// ByFile implements [Index]. It returns at most 16 entries and never fails.
func (x *MemoryIndex) ByFile(_ context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var found []Entry
	for slot := *x.fileHead(fileEncSHA256); slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); r.account.Value() == account && r.isFile(fileEncSHA256) {
			found = append(found, x.entry(slot))
		}
	}
	return newestFirst(found), nil
}

// ByMessage implements [Index]. It never fails.
func (x *MemoryIndex) ByMessage(_ context.Context, account types.JID, id types.MessageID) ([]Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var found []Entry
	for slot := *x.idHead(id); slot != 0; slot = x.at(slot).nextID {
		if r := x.at(slot); r.account.Value() == account && r.id == id {
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
			Chat:        r.chat.Value(),
			MediaKey:    secrets[:mediaKeySize:mediaKeySize],
			IsFromMe:    r.fromMe,
			Participant: r.participant.Value(),
		},
		DirectPath: x.renewed[slot],
	}
	if r.hasFile {
		e.FileEncSHA256 = secrets[mediaKeySize:]
	}
	if unknown := (time.Time{}).Unix(); r.seconds != unknown {
		e.Timestamp = time.Unix(r.seconds, 0)
	}
	return e
}

// find returns the slot of an entry's account, message id and file, or 0.
func (x *MemoryIndex) find(owner unique.Handle[types.JID], e *Entry) uint32 {
	for slot := *x.idHead(e.MessageID); slot != 0; slot = x.at(slot).nextID {
		r := x.at(slot)
		if r.account == owner && r.id == e.MessageID && r.hasFile == (e.FileEncSHA256 != nil) &&
			(!r.hasFile || r.isFile(e.FileEncSHA256)) {
			return slot
		}
	}
	return 0
}

// allocate makes room for an entry and links it into both tables.
func (x *MemoryIndex) allocate(owner unique.Handle[types.JID], e *Entry) uint32 {
	if e.FileEncSHA256 != nil {
		x.trim(owner, e.FileEncSHA256)
	}
	slot := x.next
	if x.slots < x.limit {
		if x.slots++; (x.slots-1)/chunkSize == len(x.chunks) {
			x.chunks = append(x.chunks, make([]record, min(chunkSize, x.limit-x.slots+1)))
		}
		if x.slots > len(x.ids) {
			x.rehash(2 * len(x.ids))
		}
	} else {
		x.remove(slot)
	}
	if x.next++; int(x.next) > x.limit {
		x.next = 1
	}
	r := x.at(slot)
	r.account, r.id, r.hasFile = owner, strings.Clone(e.MessageID), e.FileEncSHA256 != nil
	copy(r.file[:], e.FileEncSHA256)
	x.link(slot)
	x.count++
	return slot
}

// trim forgets the oldest message of a file that has as many as are remembered.
func (x *MemoryIndex) trim(owner unique.Handle[types.JID], fileEncSHA256 []byte) {
	var n int
	var oldest uint32
	for slot := *x.fileHead(fileEncSHA256); slot != 0; slot = x.at(slot).nextFile {
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
	head := x.idHead(r.id)
	r.nextID, *head = *head, slot
	if r.hasFile {
		head = x.fileHead(r.file[:])
		r.nextFile, *head = *head, slot
	}
}

// remove unlinks a slot from both tables and frees it. A slot that is free already is left alone.
func (x *MemoryIndex) remove(slot uint32) {
	r := x.at(slot)
	if r.id == "" {
		return
	}
	link := x.idHead(r.id)
	for *link != slot {
		link = &x.at(*link).nextID
	}
	*link = r.nextID
	if r.hasFile {
		link = x.fileHead(r.file[:])
		for *link != slot {
			link = &x.at(*link).nextFile
		}
		*link = r.nextFile
	}
	delete(x.renewed, slot)
	*r = record{}
	x.count--
}

func (x *MemoryIndex) idHead(id string) *uint32 {
	return &x.ids[maphash.String(x.seed, id)&uint64(len(x.ids)-1)]
}

// fileHead hashes the hash once more, since who sends a file can choose bits of it.
func (x *MemoryIndex) fileHead(fileEncSHA256 []byte) *uint32 {
	return &x.files[maphash.Bytes(x.seed, fileEncSHA256)&uint64(len(x.files)-1)]
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
