package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// asksPerDownload is for how many messages the phone is asked for one download at the most. Anybody
// can send a file once more.
const asksPerDownload = 4

// heal gets a file that has expired: from a path that is known already, or else by asking
// the phone for one message after the other that the file was in. The error is the cause
// that [Cause] reports.
func (t *transport) heal(req *http.Request, file download) (*http.Response, error) {
	h := healing{transport: t, plugin: t.plugin, req: req, file: file, began: time.Now()}
	resp, cause := h.run()
	if cause != nil && file.isStripped() {
		t.plugin.warnStripped()
		cause = fmt.Errorf("%w: %w", ErrStrippedPath, cause)
	}
	return resp, cause
}

// A healing is what is done about one download.
type healing struct {
	*transport
	plugin *Plugin
	req    *http.Request
	file   download
	began  time.Time
}

func (h *healing) run() (*http.Response, error) {
	ctx, p := h.req.Context(), h.plugin
	candidates, err := p.messagesOf(ctx, h.file)
	if resp, err := h.fromKnownPaths(candidates); resp != nil || err != nil {
		return resp, err
	}
	switch {
	case len(candidates) == 0:
		return nil, err
	case ctx.Value(silentKey{}) != nil:
		return nil, ErrNotAsked
	}
	var cause error
	for asked := 0; len(candidates) > 0 && asked < asksPerDownload; candidates = candidates[1:] {
		c := candidates[0]
		err := p.policy.refusal(&c.entry, time.Now(), p.queue.lastHeard())
		if err == nil || p.pending.knows(c.key, h.began) {
			asked++
			var resp *http.Response
			if resp, err = h.ask(ctx, c); err == nil {
				return resp, nil
			}
			if !isAboutMessage(err) {
				return nil, err // nobody answers, and would not about the next message either
			}
		}
		if cause == nil || isFinal(cause) { // the file is lost only if it is lost in every message
			cause = err
		}
	}
	return nil, cause
}

// fromKnownPaths downloads the file from where the phone has said before that it is. The error is
// one that asking for a new path would not help against.
func (h *healing) fromKnownPaths(candidates []candidate) (*http.Response, error) {
	tried := map[string]bool{"": true, h.file.path.String(): true}
	for _, c := range candidates {
		path := c.entry.DirectPath
		if tried[path] || checkDirectPath(path) != nil || h.plugin.ledger.isWrong(h.file.at(path)) {
			continue
		}
		tried[path] = true
		resp, err := h.fetch(h.req, h.file, path, func() {})
		if err == nil {
			h.healed(c, path)
			return resp, nil
		}
		if !errors.Is(err, ErrInvalidAnswer) {
			return nil, err
		}
	}
	return nil, nil
}

// ask asks the phone for the file of one message, and downloads what it has uploaded.
func (h *healing) ask(ctx context.Context, c candidate) (*http.Response, error) {
	p := h.plugin
	result, err := p.pending.ask(ctx, question{entry: c.entry, key: c.key, lane: laneOf(ctx), since: h.began, patience: p.patience(h.began)})
	if err != nil {
		return nil, err
	}
	if result.DirectPath == "" {
		return nil, result.Err()
	}
	p.ledger.clearWrong(h.file.at(result.DirectPath))
	useless := func(err error) { p.pending.settle(c.entry, c.key, reading{err: err}) } // or each download would ask again
	resp, err := h.fetch(h.req, h.file, result.DirectPath, func() { useless(errOtherFile) })
	if err != nil {
		if errors.Is(err, ErrInvalidAnswer) {
			useless(err)
		}
		if refused := result.Err(); refused != nil { // the path was worth a try, no more
			err = refused
		}
		return nil, err
	}
	h.healed(c, result.DirectPath)
	return resp, nil
}

func (h *healing) healed(c candidate, path string) {
	h.plugin.ledger.move(h.file.location(), path)
	h.plugin.say(&h.plugin.saidHealed, "Healed a download of %v after %s", c.entry.Request, time.Since(h.began).Round(time.Millisecond))
}

var errOtherFile = fmt.Errorf("%w: another file is under the new path", ErrInvalidAnswer)

// isAboutMessage reports whether the phone or the server has answered, so that another message
// may fare better.
func isAboutMessage(cause error) bool {
	for _, answer := range [...]error{ErrNotFound, ErrDecryption, ErrGeneral, ErrRejected, ErrInvalidAnswer} {
		if errors.Is(cause, answer) {
			return true
		}
	}
	return false
}

// isFinal reports whether a cause says that the file is lost.
func isFinal(cause error) bool {
	return errors.Is(cause, ErrNotFound) || errors.Is(cause, ErrDecryption)
}

// A candidate is a message that the file may belong to.
type candidate struct {
	entry Entry
	key   identity
}

// messagesOf returns the messages that a file was in, the likeliest first: the one that the caller
// names, those that the index knows, or else those that Options.Lookup does. If there is none, the
// error tells why.
func (p *Plugin) messagesOf(ctx context.Context, file download) ([]candidate, error) {
	hash := file.fileEncSHA256()
	var found []Entry
	if hash != nil {
		found = likeliestFirst(p.index.byFile(ctx, hash))
	}
	cause := ErrUnknownMessage
	named, ok := ctx.Value(messageKey{}).(*Entry)
	switch {
	case ok && bytes.Equal(named.FileEncSHA256, hash):
		first := *named
		var err error
		if first.Request, err = named.normalize(); err != nil {
			cause = err
			break
		}
		first.Request = p.complete(ctx, first.Request)
		p.index.put(ctx, []Entry{first}) // so that a late answer can be opened
		for _, e := range p.index.byMessage(ctx, first.MessageID) {
			if e.FileEncSHA256 == nil { // it may have been asked for without its file
				e.FileEncSHA256 = first.FileEncSHA256
			}
			if e.same(&first) {
				first.DirectPath, first.Asked = orElse(e.DirectPath, first.DirectPath), later(e.Asked, first.Asked)
			}
		}
		found = append([]Entry{first}, found...)
	case len(found) == 0 && hash != nil:
		found = p.lookUp(ctx, hash)
	}
	return p.candidates(ctx, found), cause
}

// complete returns a request with the server of its participant, if it lacks that and the index
// knows the message. Else the phone could be asked for one message by two names.
func (p *Plugin) complete(ctx context.Context, req Request) Request {
	if req.Participant.User == "" || req.Participant.Server != "" {
		return req
	}
	for _, e := range p.index.byMessage(ctx, req.MessageID) {
		sameSender := e.Participant.User == req.Participant.User && e.Participant.Server != "" && e.IsFromMe == req.IsFromMe
		if sameSender && e.Chat == req.Chat && bytes.Equal(e.MediaKey, req.MediaKey) {
			return e.Request
		}
	}
	return req
}

// candidates returns what there is to know of entries, each message once: it can be known in both
// of its forms.
func (p *Plugin) candidates(ctx context.Context, entries []Entry) []candidate {
	ctx, cancel := context.WithTimeout(ctx, indexTimeout) // for all of them
	defer cancel()
	var all []candidate
	for _, e := range entries {
		c := candidate{e, p.keyOf(ctx, &e)}
		if !slices.ContainsFunc(all, func(other candidate) bool { return other.key == c.key }) {
			p.ledger.recall(c.key, &c.entry)
			all = append(all, c)
		}
	}
	return all
}

// keyOf returns the identity of an entry with users named by phone number, where the client knows
// it. It waits for the client's store for as long as the context lasts.
func (p *Plugin) keyOf(ctx context.Context, e *Entry) identity {
	pn, _ := p.sender.own()
	key := identityOf(pn, e)
	key.chat, key.participant = p.sender.canonical(ctx, e.Chat), p.sender.canonical(ctx, e.Participant)
	return key
}

// likeliestFirst moves the oldest message behind the newest. The newest is the likeliest to be on
// the phone still; the oldest is the original, whatever others have sent since.
func likeliestFirst(newestFirst []Entry) []Entry {
	for i := len(newestFirst) - 1; i > 1; i-- {
		if !newestFirst[i].Timestamp.IsZero() {
			oldest := newestFirst[i]
			return slices.Insert(slices.Delete(newestFirst, i, i+1), 1, oldest)
		}
	}
	return newestFirst
}

func orElse(path, otherwise string) string {
	if path == "" {
		return otherwise
	}
	return path
}

func later(a, b Asked) Asked {
	if a.At.Before(b.At) {
		return b
	}
	return a
}
