package reupload

import (
	"slices"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// A rank says how likely it is that the phone has a file under a message: the lower, the likelier.
// Of several media keys for one file hash only one is right, and only decrypting the file shows
// which. So the rank goes by what a stranger cannot choose.
type rank int

const (
	byCaller   rank = iota // the caller names the message
	byPath                 // the message came with the very path that is being downloaded
	byLookup               // Options.Lookup names it
	byDelivery             // the server has delivered it, or the phone's history has it
	byQuote                // it was quoted, or edited without our knowing the original
)

// A candidate is a message that a file may belong to: what is known of it, under whichever of its
// names, and which other paths there are for the file.
type candidate struct {
	entry Entry
	key   identity
	rank  rank
	// quoted means that the message is known from a quote or an edit alone, whose sender chooses
	// the id, the chat and the sender that it says.
	quoted bool
	// fresh means that the phone has just told the path of the entry, which was not given its time
	// so far.
	fresh bool
	// uncertain reports whether the client's store has failed, so that the message may have another
	// key, too.
	uncertain bool
}

// An identity tells one file of one message of one account from any other: everything that a
// stranger could choose alike is in it. People go by phone number where the client knows it. The
// file is zero where only the message is known.
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

// source returns whose share of the phone a request takes: the chat's. In a quote or an edit the
// sender chooses the chat, so these have a share of their own, and cannot make the phone count as
// silent about the chat that they name.
func (c *candidate) source() types.JID {
	if c.quoted {
		return types.JID{User: c.key.chat.User, Server: "quoted." + c.key.chat.Server}
	}
	return c.key.chat
}

// likeliestFirst sorts candidates by rank, and those of one rank the oldest first, because a
// stranger can send a copy of a file only after the original. Messages that the bot names stay in
// the bot's own order.
func likeliestFirst(all []candidate) {
	slices.SortStableFunc(all, func(a, b candidate) int {
		if a.rank != b.rank {
			return int(a.rank - b.rank)
		}
		if a.rank == byLookup || a.rank == byCaller {
			return 0
		}
		return a.entry.Timestamp.Compare(b.entry.Timestamp)
	})
}

// merge adds what is known of the same message under another name.
func (c *candidate) merge(other candidate) {
	e, o := &c.entry, &other.entry
	newer := o.Asked.At.After(e.Asked.At) && time.Until(o.Asked.At) <= maxSkew
	if e.DirectPath == "" || newer && o.DirectPath != "" {
		e.DirectPath, c.fresh = o.DirectPath, other.fresh
	}
	if newer {
		e.Asked = o.Asked
	}
	if e.Timestamp.IsZero() {
		e.Timestamp, e.IsStatus = o.Timestamp, o.IsStatus
	}
	if e.CameWith == "" {
		e.CameWith = o.CameWith
	}
	if !hasFile(e) && hasFile(o) {
		e.FileEncSHA256, c.key.file = o.FileEncSHA256, other.key.file
	}
}

// paths returns where the file of a candidate may be without a request: where its message said that
// it is, where the bot says so, and where the phone has said so.
func (c *candidate) paths() []string {
	all := append(make([]string, 0, 2+len(c.entry.Paths)), c.entry.CameWith)
	for _, kept := range c.entry.Paths[:min(len(c.entry.Paths), maxPaths)] {
		all = append(all, pathOf(kept))
	}
	return append(all, c.entry.DirectPath)
}

// isNamed reports whether the bot has named the message.
func (c *candidate) isNamed() bool { return !c.quoted && (c.rank == byCaller || c.rank == byLookup) }

// vouches reports whether a path of a candidate leads to the file as far as the bot or its phone
// can know: the bot has named the path, or the phone has told it for the message that the bot has
// named. What a message itself came with, or a quote of it, says what its sender likes.
func (c *candidate) vouches(path string) bool { return c.isNamed() && path != c.entry.CameWith }

// maxPaths is how many paths of one request are tried.
const maxPaths = 8
