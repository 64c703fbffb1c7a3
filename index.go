package reupload

import (
	"context"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// An Entry is what an [Index] remembers of one file in one message.
//
// Its identity is all of its Request and FileEncSHA256: two entries are the same only if they agree
// in message id, chat, participant, direction, media key and file. The sender of a message or a
// quote chooses some of these, and can make entries that agree with another sender's in a part of
// them, but none that agrees in all and says something different.
type Entry struct {
	Request
	// FileEncSHA256 is the SHA-256 of the encrypted file, 32 bytes, or nil where only the
	// message is known.
	FileEncSHA256 []byte
	// Timestamp is when the message was sent, in whole seconds. It is zero where that is not known,
	// as for a quoted message.
	Timestamp time.Time
	// CameWith is the direct path, with its query, that the message itself came with, or empty.
	CameWith string
	// IsStatus tells that the message is a status, which lives for a day, in another chat than
	// status@broadcast: a group has some of its own.
	IsStatus bool
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
	// Failures is how many requests in a row have brought neither a path nor a refusal.
	Failures int
}

// An Outcome is how a request ended. An index stores it as a number, from 0 to 11 today and with
// room for more, and need not know what it means.
type Outcome int

const (
	outcomeUnknown    Outcome = 0  // it has not ended yet, or the process did before it
	outcomeFound      Outcome = 1  // a path, which is the entry's DirectPath
	outcomeNotFound   Outcome = 2  // the phone's sealed word that it has lost the file
	outcomeDecryption Outcome = 3  // an answer that could not be decrypted, or the phone's sealed word that it could not
	outcomeUnreadable Outcome = 4  // the phone's unsealed word that it could not decrypt the request
	outcomeGeneral    Outcome = 5  // a general error, or any other unsealed one
	outcomeSilence    Outcome = 6  // no answer in time
	outcomeRejected   Outcome = 7  // the server refused the receipt
	outcomeInvalid    Outcome = 8  // an answer that makes no sense, or leads nowhere
	outcomeOutage     Outcome = 9  // the bot's own connection went before the server had the request
	outcomeUnacked    Outcome = 10 // the server has not acknowledged the request
	outcomePartial    Outcome = 11 // no answer in time, but another name was not tried, or the bot was away
)

// An Index remembers which message a file belongs to, for many accounts.
//
// An account is the phone-number JID of a user of this process, without device part; accounts never
// see each other's entries. All methods can be called concurrently. The plugin does not wait for an
// index that is slow, and works on without one that fails, so a method returns an error when its
// context ends rather than waiting for long.
//
// Message ids and JIDs have 128 bytes at the most, paths 2 KiB, file hashes 32 bytes or none, and
// media keys 32: the plugin keeps out what does not.
//
// # Fairness
//
// Anyone can send a file or a message id that was there before, and in any number. An index can
// remember and return all of them; one that has limits shares its places like this. Entries with a
// time were delivered, those without were quoted, which is easier to invent.
//
//   - Of one file there are 16 places or more: 12 for entries with a time, and 4 for those without
//     one. Either kind can use what the other leaves free. The very oldest entry with a time always
//     stays. The other places of a kind are shared by the chats: a chat never loses one while
//     another chat has more. Of one chat the newest entries stay, and of those without a time the
//     last that were put in.
//   - Of one message id there are 256 places or more: 192 for entries with a time, and 64 for those
//     without one, with the same exchange. They are shared by the senders in the same way, and a
//     sender can have a limit of its own, of 64 or more. Of one sender the entries without a time
//     go first, and then the newest ones. The sender is the participant, or the chat where there is
//     none; the account's own messages have one sender.
//   - What is forgotten to make room for other files should be the oldest of a chat, and of an
//     account, that has more than others have.
type Index interface {
	// Put remembers entries one after the other, and leaves the slice as it is. Of one that is
	// there already, see [Entry] for what that means,
	//   - the Timestamp changes if it was not known, and IsStatus with it,
	//   - CameWith changes if it was empty,
	//   - the DirectPath changes if the new one is not empty, and
	//   - Asked changes if the new one's time is not zero and not before the old one's,
	// whatever the order in which they come. An Asked whose time is more than an hour ahead counts
	// as none, the new one as well as the old one: it was noted by a wrong clock. A CameWith of
	// more than 512 bytes can be left out. The byte slices of the entries belong to the index from
	// then on. After an error any of the entries may or may not be remembered.
	Put(ctx context.Context, account types.JID, entries []Entry) error
	// ByFile returns the entries of a file, the newest message first and those without a time
	// last. There may be a limit, of 16 or more, under the rules above.
	ByFile(ctx context.Context, account types.JID, fileEncSHA256 []byte) ([]Entry, error)
	// ByMessage returns the entries with a message id, the newest first and those without a time
	// last. There may be a limit, of 256 or more, under the rules above.
	ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]Entry, error)
}

// partChat is the chat of the entries for parts of the account's history: see [parts]. It is on no
// server of WhatsApp's, so that no message, quote or request of a bot can be in it.
var partChat = types.JID{User: "part", Server: "history"}

func (e *Entry) isPart() bool { return e.Chat == partChat }

// longestCameWith is the largest CameWith that an index keeps. Real paths have some 200 bytes.
const longestCameWith = 512

// same reports whether two entries have the same identity.
func (e *Entry) same(other *Entry) bool {
	return e.MessageID == other.MessageID && e.Chat == other.Chat && e.Participant == other.Participant &&
		e.IsFromMe == other.IsFromMe && string(e.MediaKey) == string(other.MediaKey) &&
		string(e.FileEncSHA256) == string(other.FileEncSHA256)
}

// maxSkew is how far ahead of now a time in the index can be. A time that is farther ahead comes
// from a wrong clock, and is useless.
const maxSkew = time.Hour
