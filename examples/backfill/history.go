package main

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
)

// A history puts what WhatsApp sends into the catalog. The past comes in parts: a message of the
// phone announces each, and the part itself is a file on WhatsApp's servers. whatsmeow would read
// it by itself, and lose it if the process is killed meanwhile. So the announcement is stored at
// once, and deleted in the transaction that has the part's messages; only then the phone hears that
// the part was read.
type history struct {
	account  *account
	catalog  *catalog
	progress progress
	log      waLog.Logger

	mu       sync.Mutex
	last     time.Time      // when something of it has come last; zero before all that has waited has come
	unstored []announcement // which the catalog did not take
}

// An announcement of a part of the history.
type announcement struct {
	id   types.MessageID
	part *waE2E.HistorySyncNotification
}

// take stores what a message brings, and reports whether it may be acknowledged. Otherwise it comes
// again after the next login; but an announcement may not, since whatsmeow tells the phone in any
// case that it has come, and so is kept for run.
func (h *history) take(ctx context.Context, evt *events.Message) bool {
	var err error
	if part := evt.Message.GetProtocolMessage().GetHistorySyncNotification(); part != nil && isOwnPhone(&evt.Info) {
		h.touch()
		if err = h.catalog.announce(ctx, evt.Info.ID, part); err != nil {
			h.mu.Lock()
			h.unstored = append(h.unstored, announcement{evt.Info.ID, part})
			h.mu.Unlock()
			h.catalog.tell()
		}
	} else if files := filesOf(&evt.Info, evt.RawMessage); len(files) > 0 {
		_, err = h.catalog.add(ctx, found{files: files, chats: []chat{{jid: files[0].request.Chat}}}, "")
	}
	if err != nil {
		h.log.Errorf("Message %q could not be stored, and will come again: %v", evt.Info.ID, err)
	}
	return err == nil
}

// storeAgain stores the announcements that could not be stored.
func (h *history) storeAgain(ctx context.Context) error {
	h.mu.Lock()
	all := h.unstored
	h.unstored = nil
	h.mu.Unlock()
	for i, a := range all {
		if err := h.catalog.announce(ctx, a.id, a.part); err != nil {
			h.mu.Lock()
			h.unstored = append(h.unstored, all[i:]...)
			h.mu.Unlock()
			return err
		}
	}
	return nil
}

// isOwnPhone reports whether a message is from the account's own phone, which is device 0.
func isOwnPhone(info *types.MessageInfo) bool { return info.IsFromMe && info.Sender.Device == 0 }

// filesOf returns the rows for the files of a message.
func filesOf(info *types.MessageInfo, msg *waE2E.Message) (files []*file) {
	for _, media := range reupload.MediaOf(info, msg) {
		if f, ok := newFile(media, info.Timestamp); ok {
			files = append(files, f)
		}
	}
	return files
}

// run reads the parts that have been announced, one after the other, until the context ends.
func (h *history) run(ctx context.Context) {
	select {
	case <-h.account.caughtUp:
		h.touch()
	case <-ctx.Done():
		return
	}
	for tries := 0; ; {
		changed := h.catalog.change()
		unstored := h.storeAgain(ctx)
		id, part, err := h.catalog.nextPart(ctx)
		wait := time.Hour
		if part != nil {
			wait = 0
			if err = h.read(ctx, id, part); err != nil {
				wait = pause(tries, time.Second)
				tries++
			} else {
				tries = 0
			}
			h.touch()
		}
		if unstored != nil {
			wait = min(wait, time.Second)
		}
		if err != nil && ctx.Err() == nil {
			h.log.Warnf("A part of the history could not be read, and is tried again in %v: %s", wait, redact(err.Error()))
		}
		if part != nil && err != nil {
			changed = nil
		}
		select {
		case <-changed:
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// read reads one part.
func (h *history) read(ctx context.Context, id types.MessageID, part *waE2E.HistorySyncNotification) error {
	if err := h.account.waitConnected(ctx); err != nil {
		return err
	}
	client := h.account.client
	data, err := client.DownloadHistorySync(ctx, part, true)
	if isGone(err) {
		return h.askAgain(ctx, id, part, err)
	}
	if err != nil {
		return err
	}
	if err = h.account.plugin.RememberHistory(ctx, data); err != nil {
		return err
	}
	f := h.find(ctx, data)
	added, err := h.catalog.add(ctx, f, id)
	if err != nil {
		return err
	}
	h.progress.history(int(data.GetProgress()), len(f.chats), int(added))
	// The phone may forget the part now. If it does not hear of that, it sends it again at most.
	if err = client.SendProtocolMessageReceipt(ctx, id, types.ReceiptTypeHistorySync); err == nil {
		err = client.DeleteMedia(ctx, whatsmeow.MediaHistory, part.GetDirectPath(), part.GetFileEncSHA256(), part.GetEncHandle())
	}
	if err != nil {
		h.log.Debugf("After a part of the history: %s", redact(err.Error()))
	}
	return nil
}

// askAgain asks the phone for a part that has expired, unless the plugin has done so. The part
// comes under another id, as any part does.
func (h *history) askAgain(ctx context.Context, id types.MessageID, part *waE2E.HistorySyncNotification, expired error) error {
	if reupload.Label(reupload.Cause(expired)) != "history_asked" {
		if err := h.account.client.SendHistorySyncServerErrorReceipt(ctx, id, part.GetMediaKey()); err != nil {
			return err
		}
	}
	h.log.Infof("A part of the history has expired, and the phone was asked to send it again")
	_, err := h.catalog.add(ctx, found{}, id)
	return err
}

// find returns what is in a part.
func (h *history) find(ctx context.Context, data *waHistorySync.HistorySync) (f found) {
	read := func(jid types.JID, msg *waWeb.WebMessageInfo) *types.MessageInfo {
		evt, err := h.account.client.ParseWebMessage(jid, msg)
		if err != nil {
			h.log.Debugf("A message of the history makes no sense: %v", err)
			return nil
		}
		f.files = append(f.files, filesOf(&evt.Info, evt.RawMessage)...)
		return &evt.Info
	}
	for _, conversation := range data.GetConversations() {
		jid, err := types.ParseJID(conversation.GetID())
		if err != nil {
			continue
		}
		c := chat{jid: jid.ToNonAD(), name: firstOf(conversation.GetName(), conversation.GetDisplayName())}
		c.number = h.numberOf(ctx, c.jid, conversation)
		for _, msg := range conversation.GetMessages() {
			info := read(jid, msg.GetMessage())
			if info != nil && (c.oldest == nil || info.Timestamp.Before(c.oldest.Timestamp)) {
				c.oldest = info
			}
		}
		c.hasOlder = hasOlder(data.GetSyncType(), conversation)
		f.chats = append(f.chats, c)
	}
	for _, msg := range data.GetStatusV3Messages() {
		read(types.StatusBroadcastJID, msg)
	}
	return f
}

// numberOf returns the phone number of a chat that is named by a LID, or "".
func (h *history) numberOf(ctx context.Context, jid types.JID, conversation *waHistorySync.Conversation) string {
	if jid.Server != types.HiddenUserServer {
		return ""
	}
	if pn, err := types.ParseJID(conversation.GetPnJID()); err == nil && pn.User != "" {
		return pn.User
	}
	if pn, err := h.account.client.Store.LIDs.GetPNForLID(ctx, jid); err == nil {
		return pn.User
	}
	return ""
}

// hasOlder reports whether the phone says that it has older messages of a chat than those that came
// so far. It is nil if the phone does not say.
func hasOlder(kind waHistorySync.HistorySync_HistorySyncType, c *waHistorySync.Conversation) *bool {
	if c.EndOfHistoryTransferType == nil {
		if kind == waHistorySync.HistorySync_ON_DEMAND && len(c.GetMessages()) == 0 {
			return proto.Bool(false)
		}
		return nil
	}
	switch c.GetEndOfHistoryTransferType() {
	case waHistorySync.Conversation_COMPLETE_BUT_MORE_MESSAGES_REMAIN_ON_PRIMARY, waHistorySync.Conversation_COMPLETE_ON_DEMAND_SYNC_BUT_MORE_MSG_REMAIN_ON_PRIMARY:
		return proto.Bool(true)
	}
	return proto.Bool(false)
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// touch notes that something of the history has come.
func (h *history) touch() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = time.Now()
}

// isQuiet reports whether nothing of the history has come for a while.
func (h *history) isQuiet(quiet time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.last.IsZero() && time.Since(h.last) >= quiet
}

// settled returns a channel that is closed when the history has been quiet for a while, once. What
// it brings next can have another path for a file that is about to be asked for.
func (h *history) settled(ctx context.Context, quiet time.Duration) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		for !h.isQuiet(quiet) {
			select {
			case <-time.After(min(quiet, pollPause)):
			case <-ctx.Done():
				return
			}
		}
		close(done)
	}()
	return done
}

// announce stores that there is a part of the history.
func (c *catalog) announce(ctx context.Context, id types.MessageID, part *waE2E.HistorySyncNotification) error {
	data, err := proto.Marshal(part)
	if err == nil {
		_, err = c.db.ExecContext(ctx, `INSERT INTO backfill_parts (message, notification) VALUES (?, ?) ON CONFLICT DO NOTHING`, id, data)
	}
	if err == nil {
		c.tell()
	}
	return err
}

// nextPart returns a part of the history that was announced, or nil.
func (c *catalog) nextPart(ctx context.Context) (id types.MessageID, part *waE2E.HistorySyncNotification, err error) {
	var data []byte
	err = c.db.QueryRowContext(ctx, `SELECT message, notification FROM backfill_parts ORDER BY rowid LIMIT 1`).Scan(&id, &data)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil, nil
	}
	if err == nil {
		part = new(waE2E.HistorySyncNotification)
		err = proto.Unmarshal(data, part)
	}
	if err != nil {
		return "", nil, inDatabase(err)
	}
	return id, part, nil
}
