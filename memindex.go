package reupload

import (
	"context"
	"hash/maphash"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// DefaultMemoryCapacity is how many files the index of a plugin remembers when Options.Index is
// nil: some 38 MB of them.
const DefaultMemoryCapacity = 100_000

// MemoryIndex is an [Index] that forgets with the process. When it is full, it forgets an old file
// of a chat that has many for each new one, so that no chat can empty it: of eight files taken at
// random, the oldest of the chat that has most of them.
type MemoryIndex struct {
	mu      sync.RWMutex
	limit   int
	*tables // nil while the index is empty
}

// tables are what is in a [MemoryIndex].
type tables struct {
	seed maphash.Seed // a secret, since the sender of a message chooses its id and bits of its file's hash

	// Records lie in slots, cut into chunks so that growing copies nothing. Slot numbers start at
	// 1. Two maps lead from a hash to the first of the slots that share it, each of which names the
	// next; 0 ends the chain.
	chunks  [][]record
	next    uint32   // the first slot that was never used
	free    []uint32 // slots that are free again
	born    uint32   // counts the records that were ever added
	files   map[uint32]uint32
	ids     map[uint32]uint32
	renewed map[uint32]renewal // by slot: few entries ever have one
	origins numbering[origin]  // whose uses say how many records an origin has
	jids    numbering[types.JID]
}

var _ Index = (*MemoryIndex)(nil)

const (
	chunkSize = 1024
	// putAtOnce is for how many entries of a batch readers and other writers wait.
	putAtOnce = 256
)

// An origin is a chat of an account, by their numbers.
type origin struct{ account, chat uint32 }

// A record is an Entry without what few entries have.
type record struct {
	text             string // the message id, and then the path that the message came with
	seconds          int64  // unix, or unknownTime
	mediaKey         [mediaKeySize]byte
	file             [fileHashSize]byte
	origin           uint32 // in the table of origins
	participant      uint32 // in the table of JIDs
	nextID, nextFile uint32
	born             uint32
	idSize           uint8
	fromMe, hasFile  bool
	isStatus         bool
}

// textOf returns the text of a record in memory of its own: the entry's can be parts of something
// large.
func textOf(e *Entry) string {
	if e.CameWith == "" || len(e.CameWith) > longestCameWith {
		return strings.Clone(e.MessageID)
	}
	return e.MessageID + e.CameWith
}

func (r *record) id() string       { return r.text[:r.idSize] }
func (r *record) cameWith() string { return r.text[r.idSize:] }

// A renewal is what the phone has made of an entry.
type renewal struct {
	path  string
	asked Asked
}

// NewMemoryIndex returns an empty index for up to capacity files. One takes about 380 bytes, of
// which some 200 are the path that it came with, so that a full one of 100,000 files takes 38 MB.
// Senders who make their message ids, JIDs and paths as long as they can be and all different get
// it up to 1,700 bytes each: longer paths than 512 bytes are not kept. The capacity defaults to
// DefaultMemoryCapacity.
func NewMemoryIndex(capacity int) *MemoryIndex {
	if capacity <= 0 {
		capacity = DefaultMemoryCapacity
	}
	return &MemoryIndex{limit: capacity}
}

func newTables() *tables {
	return &tables{
		seed:    maphash.MakeSeed(),
		next:    1,
		files:   make(map[uint32]uint32),
		ids:     make(map[uint32]uint32),
		renewed: make(map[uint32]renewal),
		origins: newNumbering[origin](nil),
		jids:    newNumbering(ownJID),
	}
}

// Len returns how many files are remembered.
func (x *MemoryIndex) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.tables == nil {
		return 0
	}
	return int(x.next) - 1 - len(x.free)
}

// Put implements [Index]. Its error is the context's. It leaves entries out whose message id is
// longer than it can be.
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
	if x.tables == nil {
		x.tables = newTables()
	}
	owner := x.jids.use(account) // so that it stays while its entries come
	defer x.jids.drop(owner)
	for i := range entries {
		x.put(owner, &entries[i])
	}
}

func (x *MemoryIndex) put(owner uint32, e *Entry) {
	if len(e.MessageID) > maxMessageID {
		return
	}
	hash := x.hashID(owner, e.MessageID)
	first := x.ids[hash]
	slot := x.find(first, owner, e)
	if slot == 0 {
		if slot = x.add(first, hash, owner, e); slot == 0 {
			return
		}
	}
	r := x.at(slot)
	if r.seconds == unknownTime {
		r.seconds, r.isStatus = e.Timestamp.Unix(), e.IsStatus
	}
	if r.cameWith() == "" && e.CameWith != "" {
		r.text = textOf(e)
	}
	newPath, newAsked := e.DirectPath != "", !e.Asked.At.IsZero()
	if !newPath && !newAsked {
		return
	}
	renewed := x.renewed[slot]
	if newPath {
		renewed.path = strings.Clone(e.DirectPath)
	}
	if newAsked {
		renewed.asked.replace(e.Asked)
	}
	x.renewed[slot] = renewed
}

// replace takes a newer Asked over, in whole seconds. One of a wrong clock counts as none.
func (a *Asked) replace(with Asked) {
	with.At = time.Unix(with.At.Unix(), 0)
	limit := time.Now().Add(maxSkew)
	if !with.At.After(limit) && (a.At.After(limit) || !with.At.Before(a.At)) {
		*a = with
	}
}

// ByFile implements [Index]. It returns at most 16 entries and never fails.
func (x *MemoryIndex) ByFile(_ context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	owner, known := x.ownerOf(account)
	if !known || len(fileEncSHA256) != fileHashSize {
		return nil, nil
	}
	var found []Entry
	for slot := x.files[x.hashFile(owner, fileEncSHA256)]; slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); r.isFile(fileEncSHA256) && x.account(r) == owner {
			found = append(found, x.entry(slot))
		}
	}
	return newestFirst(found), nil
}

// ByMessage implements [Index]. It returns at most 256 entries and never fails.
func (x *MemoryIndex) ByMessage(_ context.Context, account types.JID, id types.MessageID) ([]Entry, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	owner, known := x.ownerOf(account)
	if !known {
		return nil, nil
	}
	var found []Entry
	for slot := x.ids[x.hashID(owner, id)]; slot != 0; slot = x.at(slot).nextID {
		if r := x.at(slot); r.id() == id && x.account(r) == owner {
			found = append(found, x.entry(slot))
		}
	}
	return newestFirst(found), nil
}

// ownerOf returns the number of an account that has entries.
func (x *MemoryIndex) ownerOf(account types.JID) (owner uint32, known bool) {
	if x.tables == nil {
		return 0, false
	}
	owner, known = x.jids.numbers[account]
	return owner, known
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
			MessageID:   r.id(),
			Chat:        x.jids.values[x.origins.values[r.origin].chat],
			MediaKey:    secrets[:mediaKeySize:mediaKeySize],
			IsFromMe:    r.fromMe,
			Participant: x.jids.values[r.participant],
		},
		CameWith:   r.cameWith(),
		IsStatus:   r.isStatus,
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

func (x *MemoryIndex) account(r *record) uint32 { return x.origins.values[r.origin].account }

func (x *MemoryIndex) chat(r *record) types.JID {
	return x.jids.values[x.origins.values[r.origin].chat]
}

// find returns the slot of an entry in the chain of its message id, or 0.
func (x *MemoryIndex) find(first, owner uint32, e *Entry) uint32 {
	for slot := first; slot != 0; slot = x.at(slot).nextID {
		r := x.at(slot)
		if r.id() == e.MessageID && string(r.mediaKey[:]) == string(e.MediaKey) &&
			r.hasFile == hasFile(e) && (!r.hasFile || r.isFile(e.FileEncSHA256)) && r.fromMe == e.IsFromMe &&
			x.account(r) == owner && x.chat(r) == e.Chat && x.jids.values[r.participant] == e.Participant {
			return slot
		}
	}
	return 0
}

// newcomer stands for the slot of the entry that is to be added.
const newcomer = 0

// add puts an entry into a slot of its own, or returns 0 if it is not one of those that stay of its
// message id, whose hash and chain it is given, and of its file.
func (x *MemoryIndex) add(sameID, hash, owner uint32, e *Entry) uint32 {
	ofID, fullID := x.leavesID(sameID, owner, e)
	if fullID && ofID == newcomer {
		return 0
	}
	var hashOfFile, sameFile uint32
	if hasFile(e) {
		hashOfFile = x.hashFile(owner, e.FileEncSHA256)
		sameFile = x.files[hashOfFile]
	}
	ofFile, fullFile := x.leavesFile(sameFile, owner, e, ofID)
	if fullFile && ofFile == newcomer {
		return 0
	}
	if fullID {
		x.remove(ofID)
	}
	if fullFile {
		x.remove(ofFile)
	}
	slot := x.freeSlot()
	r := x.at(slot)
	x.born++
	*r = record{
		text:    textOf(e),
		seconds: e.Timestamp.Unix(),
		origin:  x.useSource(owner, e.Chat), participant: x.jids.use(e.Participant),
		born: x.born, idSize: uint8(len(e.MessageID)),
		fromMe: e.IsFromMe, hasFile: hasFile(e), isStatus: e.IsStatus,
	}
	copy(r.mediaKey[:], e.MediaKey)
	copy(r.file[:], e.FileEncSHA256)
	r.nextID, x.ids[hash] = x.ids[hash], slot
	if r.hasFile {
		r.nextFile, x.files[hashOfFile] = x.files[hashOfFile], slot
	}
	return slot
}

// freeSlot returns a slot that is free, if need be because its record has just been forgotten.
func (x *MemoryIndex) freeSlot() (slot uint32) {
	if len(x.free) == 0 && int(x.next) > x.limit {
		x.remove(x.victim())
	}
	if last := len(x.free) - 1; last >= 0 {
		slot, x.free = x.free[last], x.free[:last]
		return slot
	}
	slot = x.next
	x.next++
	if chunk := int(slot-1) / chunkSize; chunk == len(x.chunks) {
		x.chunks = append(x.chunks, make([]record, min(chunkSize, x.limit-chunk*chunkSize)))
	}
	return slot
}

// victim returns the slot that is forgotten when all are used: of some taken at random, the oldest
// of the origin that has most. Sources of which one has less than twice as many as the other count
// as equal, so that among many chats that are alike the oldest goes.
func (x *MemoryIndex) victim() (victim uint32) {
	var slots [8]uint32
	most := uint32(0)
	for i := range slots {
		slots[i] = 1 + rand.Uint32N(uint32(x.limit))
		most = max(most, x.origins.uses[x.at(slots[i]).origin])
	}
	for _, slot := range slots {
		r := x.at(slot)
		if x.origins.uses[r.origin] <= most/2 {
			continue
		}
		if victim == 0 || int32(r.born-x.at(victim).born) < 0 { // the count may have run over
			victim = slot
		}
	}
	return victim
}

// leavesID reports whether there are as many entries of a message id, or of its sender, as there
// may be, and returns the slot of the one that has to go for another one, or newcomer.
func (x *MemoryIndex) leavesID(first, owner uint32, e *Entry) (slot uint32, full bool) {
	if first == 0 {
		return 0, false
	}
	sender := x.senderOf(e)
	sharing, ofSender := 0, 0
	for slot := first; slot != 0; slot = x.at(slot).nextID {
		if r := x.at(slot); r.id() == e.MessageID && x.account(r) == owner {
			sharing++
			if x.sender(r) == sender {
				ofSender++
			}
		}
	}
	if ofSender < entriesPerSender && sharing < idCrowd.places() {
		return 0, false
	}
	g := gather(sharing + 1)
	for slot := first; slot != 0; slot = x.at(slot).nextID {
		if r := x.at(slot); r.id() == e.MessageID && x.account(r) == owner && (ofSender < entriesPerSender || x.sender(r) == sender) {
			g.add(slot, member{x.sender(r), r.seconds})
		}
	}
	g.complete(member{sender, e.Timestamp.Unix()})
	if ofSender >= entriesPerSender {
		return g.slots[leavesOfSender(g.members)], true
	}
	return g.slots[idCrowd.leaves(g.members)], true
}

// leavesFile reports whether there are as many entries of a file as there may be, without the one
// in a slot that is going already, and returns the slot of the one that has to go for another one,
// or newcomer. That a file comes over and over pushes no other file out.
func (x *MemoryIndex) leavesFile(first, owner uint32, e *Entry, going uint32) (slot uint32, full bool) {
	sharing := 0
	for slot := first; slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); slot != going && r.isFile(e.FileEncSHA256) && x.account(r) == owner {
			sharing++
		}
	}
	if sharing < fileCrowd.places() {
		return 0, false
	}
	g := gather(sharing + 1)
	for slot := first; slot != 0; slot = x.at(slot).nextFile {
		if r := x.at(slot); slot != going && r.isFile(e.FileEncSHA256) && x.account(r) == owner {
			g.add(slot, member{uint64(r.origin), r.seconds})
		}
	}
	g.complete(member{x.sourceOf(owner, e.Chat), e.Timestamp.Unix()})
	return g.slots[fileCrowd.leaves(g.members)], true
}

// gathered are the members of a crowd, and the slots that they are in.
type gathered struct {
	members []member
	slots   []uint32
}

func gather(most int) gathered {
	return gathered{make([]member, 0, most), make([]uint32, 0, most)}
}

func (g *gathered) add(slot uint32, m member) {
	g.members, g.slots = append(g.members, m), append(g.slots, slot)
}

// complete adds the newcomer, and brings all into the order in which they came: chains have the
// last one first.
func (g *gathered) complete(m member) {
	slices.Reverse(g.members)
	slices.Reverse(g.slots)
	g.add(newcomer, m)
}

// unknownSource is the origin of a newcomer whose origin has no number: no other entry has it.
const unknownSource = math.MaxUint32 + 1

func (x *MemoryIndex) sourceOf(owner uint32, chat types.JID) uint64 {
	if n, known := x.jids.numbers[chat]; known {
		if n, known = x.origins.numbers[origin{owner, n}]; known {
			return uint64(n)
		}
	}
	return unknownSource
}

// ownSender stands for the account in the place of a sender's number.
const ownSender = math.MaxUint32 + 2

// sender returns the sender of a record: the number of a JID.
func (x *MemoryIndex) sender(r *record) uint64 {
	switch {
	case r.fromMe:
		return ownSender
	case x.jids.values[r.participant] != types.EmptyJID:
		return uint64(r.participant)
	}
	return uint64(x.origins.values[r.origin].chat)
}

func (x *MemoryIndex) senderOf(e *Entry) uint64 {
	sender := senderOf(e)
	if sender == types.EmptyJID {
		return ownSender
	}
	if n, known := x.jids.numbers[sender]; known {
		return uint64(n)
	}
	return unknownSource
}

// ownJID returns a JID whose text is not part of something large.
func ownJID(jid types.JID) types.JID {
	jid.User, jid.Server = strings.Clone(jid.User), strings.Clone(jid.Server)
	return jid
}

// useSource returns the number of an origin for one more record. An origin uses its account and
// chat once.
func (x *MemoryIndex) useSource(owner uint32, chat types.JID) uint32 {
	number := x.jids.use(chat)
	n := x.origins.use(origin{owner, number})
	if x.origins.uses[n] > 1 {
		x.jids.drop(number)
	} else {
		x.jids.uses[owner]++
	}
	return n
}

func (x *MemoryIndex) dropSource(n uint32) {
	if s := x.origins.values[n]; x.origins.drop(n) {
		x.jids.drop(s.account)
		x.jids.drop(s.chat)
	}
}

// remove unlinks a slot from both chains and frees it.
func (x *MemoryIndex) remove(slot uint32) {
	r := x.at(slot)
	x.unlink(x.ids, x.hashID(x.account(r), r.id()), slot, func(r *record) *uint32 { return &r.nextID })
	if r.hasFile {
		x.unlink(x.files, x.hashFile(x.account(r), r.file[:]), slot, func(r *record) *uint32 { return &r.nextFile })
	}
	delete(x.renewed, slot)
	x.dropSource(r.origin)
	x.jids.drop(r.participant)
	*r = record{}
	x.free = append(x.free, slot)
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
