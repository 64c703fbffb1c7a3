package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
)

// patience is how long it may take to get a file: some time for the phone, which can be asked more
// than once, and for a large file to be downloaded.
func (cfg *config) patience() time.Duration { return 4*cfg.timeout + 10*time.Minute }

// serveMedia serves the file of a message.
func (g *gateway) serveMedia(w http.ResponseWriter, r *http.Request) {
	select {
	case g.requests <- struct{}{}:
		defer func() { <-g.requests }()
	default:
		fail(w, failureOf(errBusy))
		return
	}
	phone := strings.TrimPrefix(r.PathValue("account"), "+")
	chat, ok := parseChat(r.PathValue("chat"))
	if !ok {
		fail(w, failure{status: http.StatusBadRequest, Error: "the chat is no JID such as 447700900123@s.whatsapp.net or 120363000000000000@g.us"})
		return
	}
	if g.pass(w, r, phone, nil) {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.cfg.patience())
	defer cancel()
	m, err := g.find(ctx, phone, chat, r.PathValue("id"))
	if errors.Is(err, errUnknown) && g.account(phone) == nil && errors.Is(g.whyNotHere(phone), errAway) {
		err = errAway // which may know the chat by its other address
	}
	if err == nil {
		err = g.serveFile(ctx, w, r, phone, m)
	}
	if err == nil {
		return
	}
	what := failureOf(err)
	if what.status == http.StatusBadGateway || errors.Is(err, errDatabase) || errors.Is(err, errDisk) {
		g.log.Warn("A file could not be had", "account", phone, "chat", chat.String(), "id", r.PathValue("id"),
			"error", err, "cause", reupload.Cause(err))
	}
	fail(w, what)
}

// serveFile answers from the cache. The file needs to be there as a whole first: only then is it
// known to be the right one.
func (g *gateway) serveFile(ctx context.Context, w http.ResponseWriter, r *http.Request, phone string, m *message) error {
	if hasAlready(r, etagOf(m)) {
		setHeaders(w.Header(), m)
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if m.media.GetFileLength() > uint64(g.cache.largest) {
		return errTooLarge
	}
	name := strings.Join([]string{phone, m.info.Chat.String(), m.info.ID}, "/")
	file, err := g.cache.open(ctx, name, m.media, func(ctx context.Context, file whatsmeow.File) error {
		a := g.account(phone)
		if a == nil {
			return g.whyNotHere(phone)
		}
		return g.timings.heal(ctx, func(ctx context.Context) error { return a.download(ctx, m, file) })
	})
	if err != nil {
		return err
	}
	defer file.Close()
	g.cache.isOf(m.media, m.info.Timestamp)
	setHeaders(w.Header(), m)
	http.ServeContent(w, r, "", m.info.Timestamp, file) // with Content-Length, and in parts if the caller wants that
	return nil
}

// whyNotHere returns why an account is not here: another process may have it, or none, or it is not
// linked.
func (g *gateway) whyNotHere(phone string) error {
	if l, ok := g.leases.present().of(phone); ok && l.linked {
		return errAway
	}
	return errNotLinked
}

// find returns a message under either address of its chat: WhatsApp uses phone numbers and LIDs.
func (g *gateway) find(ctx context.Context, phone string, chat types.JID, id types.MessageID) (*message, error) {
	m, err := g.messages.get(ctx, phone, chat, id)
	if a := g.account(phone); a != nil && errors.Is(err, errUnknown) {
		if other, altErr := a.client.Store.GetAltJID(ctx, chat); altErr == nil && !other.IsEmpty() {
			m, err = g.messages.get(ctx, phone, other, id)
		}
	}
	if err != nil && !errors.Is(err, errUnknown) && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", errDatabase, err)
	}
	return m, err
}

var userOfJID = regexp.MustCompile(`^[0-9A-Za-z._-]{1,64}$`)

// parseChat parses the JID of something that has messages.
func parseChat(s string) (types.JID, bool) {
	chat, err := types.ParseJID(s)
	if err != nil || !userOfJID.MatchString(chat.User) {
		return types.EmptyJID, false
	}
	switch chat.Server {
	case types.DefaultUserServer, types.HiddenUserServer, types.GroupServer, types.BroadcastServer, types.NewsletterServer:
		return chat.ToNonAD(), true
	}
	return types.EmptyJID, false
}
