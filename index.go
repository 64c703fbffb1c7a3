package reupload

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// An Entry is what an [Index] remembers of one file in one message.
//
// Its identity is all of its Request and FileEncSHA256: two entries are the same only if they agree
// in message id, chat, participant, direction, media key and file. Whoever sends or quotes a
// message chooses some of these, and can make entries that are alike in a part of them, but none
// that is the same as somebody else's and says something different.
type Entry struct {
	Request
	// FileEncSHA256 is the SHA-256 of the encrypted file, 32 bytes, or nil where only the
	// message is known.
	FileEncSHA256 []byte
	// Timestamp is when the message was sent, in whole seconds. It is zero where that is not known,
	// as for a quoted message.
	Timestamp time.Time
	// DirectPath is the path that the phone has told last, or empty.
	DirectPath string
	// Asked is what became of the requests for the file.
	Asked Asked
}

// Asked is what became of the requests for one file, so that a phone is not asked again for what it
// has just been asked for, after a restart either.
type Asked struct {
	// At is when the phone was asked last or, once that has ended, when it ended, in whole seconds.
	// It is zero if the phone was never asked; the other fields are zero then.
	At time.Time
	// Outcome is how the last request ended.
	Outcome Outcome
	// Vain is how many requests in a row have brought neither a path nor a refusal.
	Vain int
}

// An Outcome is how a request ended. Its numbers can be stored.
type Outcome int

const (
	OutcomeUnknown    Outcome = 0 // it has not ended yet, or the process did before it
	OutcomeFound      Outcome = 1 // a path, which is the entry's DirectPath
	OutcomeNotFound   Outcome = 2 // the phone's sealed word that it has lost the file
	OutcomeDecryption Outcome = 3 // an answer that could not be decrypted, or the phone's sealed word that it could not
	OutcomeUnreadable Outcome = 4 // the phone's unsealed word that it could not decrypt the request
	OutcomeGeneral    Outcome = 5 // a general error, or any other unsealed one
	OutcomeSilence    Outcome = 6 // no answer in time
	OutcomeRejected   Outcome = 7 // the server refused the receipt
	OutcomeInvalid    Outcome = 8 // an answer that makes no sense, or leads nowhere
	OutcomeOutage     Outcome = 9 // the bot's own connection went before the server had the request
)

// An Index remembers which message a file belongs to, for many accounts.
//
// An account is the phone-number JID of a user of this process, without device part; accounts never
// see each other's entries. All methods can be called concurrently. The plugin bounds the time of
// every call through its context and works on without an index that fails, so a method returns an
// error rather than waiting for long.
//
// Message ids and JIDs have 128 bytes at the most, direct paths 2 KiB, file hashes 32 bytes or
// none, and media keys 32: the plugin keeps out what does not.
type Index interface {
	// Put remembers entries one after the other, and leaves the slice as it is. Of one that is
	// there already, see [Entry] for what that means,
	//   - the Timestamp changes if it was not known,
	//   - the DirectPath changes if the new one is not empty, and
	//   - Asked changes if the new one's time is not zero and not before the old one's,
	// whatever the order in which they come. The byte slices of the entries belong to the index
	// from then on. After an error any of the entries may or may not be remembered.
	Put(ctx context.Context, account types.JID, entries []Entry) error
	// ByFile returns the entries of a file, the newest message first and those without a time
	// last. There may be a limit of 16 or more; what it leaves out are those without a time
	// first, of which the last to be put in stay, and then the oldest ones, but never the very
	// oldest of those with a time: anyone can send a file once more that was there before, but
	// not before it was.
	ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error)
	// ByMessage returns the entries with a message id, the newest first and those without a time
	// last. There may be a limit of 256 or more; what it leaves out are those without a time first,
	// and then the newest ones: anyone can send an id once more.
	ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]Entry, error)
}

// same reports whether two entries have the same identity.
func (e *Entry) same(other *Entry) bool {
	return e.MessageID == other.MessageID && e.Chat == other.Chat && e.Participant == other.Participant &&
		e.IsFromMe == other.IsFromMe && string(e.MediaKey) == string(other.MediaKey) &&
		string(e.FileEncSHA256) == string(other.FileEncSHA256)
}
