package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/types"
)

// A namer knows the names of the account and of everybody else. See [sender].
type namer interface {
	own() (pn, lid types.JID)
	canonical(ctx context.Context, jid types.JID) (types.JID, error)
	meet(chat types.JID) // the server may be asked about it: it was delivered, or the bot names it
}

// A catalog knows which messages a file was in: from the index, from Options.Lookup, and from what
// the caller says. It hands out each message once, whatever names it goes by.
type catalog struct {
	index  *guardedIndex
	names  namer
	recall func(identity, *Entry) (isFresh bool) // completes an entry with what this process knows of its requests
	lookup func(ctx context.Context, fileEncSHA256 []byte) ([]Request, error)
	asking *outside      // bounds the calls of lookup
	turn   chan struct{} // one place for each call of lookup that may run: the others wait for theirs
	report *reporter
}

const (
	lookupTimeout = 2 * time.Second
	// lookupPatience is how long a download waits for its turn to ask Lookup.
	lookupPatience = 30 * time.Second
	// lookupResults is how many of the messages that Options.Lookup returns are looked at. A
	// popular file is in thousands.
	lookupResults = 16
)

var errLookupBusy = errors.New("it was busy with other downloads all the time")

// named returns the message that a caller names, or the one that is meant by it: see among. Where
// that is doubtful, it comes before the one that the caller names. A request without a file is one
// message, and is remembered, so that a late answer can be opened.
func (c *catalog) named(ctx context.Context, e Entry) ([]candidate, error) {
	req, err := e.normalize()
	if err != nil {
		return nil, err
	}
	e.Request = req
	if e.CameWith != "" && checkDirectPath(e.CameWith) != nil {
		e.CameWith = ""
	}
	c.names.meet(req.Chat)
	known, err := c.index.byMessage(ctx, e.MessageID)
	if err != nil && ctx.Err() != nil {
		return nil, ctx.Err()
	}
	e.Request = completed(e.Request, known)
	found := c.candidateOf(ctx, e, byCaller)
	for _, other := range c.candidates(ctx, known, byCaller) {
		if other.key == found.key || other.key.withoutFile() == found.key.withoutFile() && (!hasFile(&other.entry) || !hasFile(&e)) {
			found.merge(other)
		}
	}
	if hasFile(&e) && err == nil && !slices.ContainsFunc(known, wasSeen) {
		switch meant, ok := found.among(c.seenOfFile(ctx, e.FileEncSHA256, byCaller)); {
		case ok && meant.isDoubtful():
			return []candidate{meant, found}, nil
		case ok:
			return []candidate{meant}, nil
		}
	}
	c.index.put(ctx, []Entry{found.entry})
	return []candidate{found}, nil
}

// seenOfFile returns the messages of a file that were seen.
func (c *catalog) seenOfFile(ctx context.Context, fileEncSHA256 []byte, r rank) []candidate {
	entries, _ := c.index.byFile(ctx, fileEncSHA256)
	var seen []Entry
	for _, e := range entries {
		if wasSeen(e) {
			seen = append(seen, e)
		}
	}
	found := c.candidates(ctx, seen, r)
	for i := range found {
		found[i].quoted = found[i].entry.Timestamp.IsZero()
	}
	return found
}

// among returns the one of some messages that a bot means by one that was never seen: it has the
// same file, in the same chat, from the same sender. Bots name an edit by the edit's own id, or
// have ids that are wrong. But if that one is doubtful, the bot may be right.
func (c *candidate) among(seen []candidate) (meant candidate, ok bool) {
	for _, other := range seen {
		a, b := other.key, c.key
		isLike := a.chat == b.chat && a.participant == b.participant && a.fromMe == b.fromMe && a.mediaKey == b.mediaKey
		if isLike && (!ok || meant.quoted && !other.quoted) {
			meant, ok = other, true
		}
	}
	return meant, ok
}

// isDoubtful reports whether a message that was seen need not be the one that the bot means, or
// would not help: it is known from a quote or an edit alone, or the phone was asked for it and
// stayed silent, or has lost its file.
func (c *candidate) isDoubtful() bool {
	o := c.entry.Asked.Outcome
	return c.quoted || o.isSilence() || o == outcomeNotFound || o == outcomeDecryption
}

// wasSeen reports whether a message was seen, itself or in a quote or an edit, and not only named
// by the bot.
func wasSeen(e Entry) bool { return !e.Timestamp.IsZero() || e.CameWith != "" }

// completed returns a request with the server of its participant, if it lacks that and one of the
// entries is for the same message. Otherwise one message would go by two names.
func completed(req Request, known []Entry) Request {
	if req.Participant.User == "" || req.Participant.Server != "" {
		return req
	}
	for _, e := range known {
		sameSender := e.Participant.User == req.Participant.User && e.Participant.Server != "" && e.IsFromMe == req.IsFromMe
		if sameSender && e.Chat == req.Chat && bytes.Equal(e.MediaKey, req.MediaKey) {
			e.Request.Paths = req.Paths
			return e.Request
		}
	}
	return req
}

// ofFile returns the messages of a file that the index knows, the likeliest first. The path is the
// one that is being downloaded. The error is the index's or the context's.
func (c *catalog) ofFile(ctx context.Context, fileEncSHA256 []byte, path string) ([]candidate, error) {
	if len(fileEncSHA256) == 0 {
		return nil, nil
	}
	entries, err := c.index.byFile(ctx, fileEncSHA256)
	if err != nil {
		return nil, err
	}
	entries = slices.DeleteFunc(entries, func(e Entry) bool { return e.isPart() }) // a part is no message's media
	found := c.candidates(ctx, entries, byDelivery)
	for i := range found {
		switch e := &found[i].entry; {
		case path != "" && e.CameWith == path && !e.Timestamp.IsZero():
			found[i].rank = byPath
		case e.Timestamp.IsZero():
			found[i].rank, found[i].quoted = byQuote, true
		}
	}
	likeliestFirst(found)
	return found, nil
}

// lookUp asks Options.Lookup for the messages of a file. The error says what is wrong with it or
// with what it returns; messages that are right are returned besides.
func (c *catalog) lookUp(ctx context.Context, fileEncSHA256 []byte) ([]candidate, error) {
	if c.lookup == nil || len(fileEncSHA256) == 0 {
		return nil, nil
	}
	select { // a long queue is not Lookup's fault
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-time.After(lookupPatience):
		return nil, errLookupBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	requests, err := call(c.asking, ctx, lookupTimeout, "Options.Lookup", func(ctx context.Context) ([]Request, error) {
		return c.lookup(ctx, bytes.Clone(fileEncSHA256))
	})
	if err != nil {
		if ctx.Err() == nil {
			c.report.badLookup(err)
		}
		return nil, err
	}
	var found []candidate
	var wrong error
	seen := c.seenOfFile(ctx, fileEncSHA256, byLookup)
	for _, req := range requests[:min(len(requests), lookupResults)] {
		req, err := req.normalize()
		if err != nil {
			c.report.badLookup(err)
			wrong = errors.Join(wrong, fmt.Errorf("it returned what cannot be asked for: %w", err))
			continue
		}
		c.names.meet(req.Chat)
		known, err := c.index.byMessage(ctx, req.MessageID)
		e := Entry{Request: completed(req, known), FileEncSHA256: fileEncSHA256}
		next := c.candidateOf(ctx, e, byLookup)
		for _, other := range c.candidates(ctx, known, byLookup) {
			if other.key == next.key || !hasFile(&other.entry) && other.key == next.key.withoutFile() {
				next.merge(other)
			}
		}
		if !slices.ContainsFunc(known, wasSeen) {
			if meant, ok := next.among(seen); ok && err == nil && !meant.isDoubtful() {
				next = meant
			}
		}
		if !slices.ContainsFunc(found, func(other candidate) bool { return other.key == next.key }) {
			found = append(found, next)
			c.index.put(ctx, []Entry{next.entry}) // so that what comes of it is remembered
		}
	}
	return found, wrong
}

// underID returns what the index knows under a message id.
func (c *catalog) underID(ctx context.Context, id types.MessageID) []candidate {
	entries, _ := c.index.byMessage(ctx, id)
	return c.candidates(ctx, entries, byDelivery)
}

// candidates returns each message of some entries once, with the newer of what is known under its
// names.
func (c *catalog) candidates(ctx context.Context, entries []Entry, r rank) []candidate {
	var all []candidate
	ctx, cancel := context.WithTimeout(ctx, indexTimeout) // for all of them
	defer cancel()
	for _, e := range entries {
		if !e.Timestamp.IsZero() { // it was delivered, before a restart perhaps
			c.names.meet(e.Chat)
		}
		next := c.candidateOf(ctx, e, r)
		if i := slices.IndexFunc(all, func(other candidate) bool { return other.key == next.key }); i >= 0 {
			all[i].merge(next)
		} else {
			all = append(all, next)
		}
	}
	return all
}

// candidateOf returns what there is to know of an entry.
func (c *catalog) candidateOf(ctx context.Context, e Entry, r rank) candidate {
	pn, _ := c.names.own()
	found := candidate{entry: e, key: identityOf(pn, &e), rank: r}
	var errChat, errSender error
	found.key.chat, errChat = c.names.canonical(ctx, e.Chat)
	if e.IsFromMe && e.Participant.User == "" && hasParticipant(e.Chat) {
		found.key.participant = pn
	} else {
		found.key.participant, errSender = c.names.canonical(ctx, e.Participant)
	}
	found.uncertain = errChat != nil || errSender != nil
	found.fresh = c.recall(found.key, &found.entry)
	return found
}
