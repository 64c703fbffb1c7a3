package reupload

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
)

// A memory puts the media of messages and history syncs into the index.
type memory struct {
	index  *guardedIndex
	walker walker               // copied for each message
	meet   func(chat types.JID) // notes that the account has received something in a chat
	doubt  func(chat types.JID) // notes that a message in a group goes by LIDs
	parse  func(chat types.JID, msg *waWeb.WebMessageInfo) (*events.Message, error)
	report *reporter
	closed *atomic.Bool
}

// messageOf returns the message of an event, with everything that it was wrapped in.
func messageOf(evt *events.Message) *waE2E.Message {
	if evt.RawMessage != nil {
		return evt.RawMessage
	}
	return evt.Message
}

// remember puts the media of a message into the index.
func (m *memory) remember(ctx context.Context, info *types.MessageInfo, msg *waE2E.Message) error {
	found := m.walker.mediaOf(info, msg)
	if len(found) > 0 {
		m.meet(info.Chat)
	}
	if info.AddressingMode == types.AddressingModeLID && info.Chat.Server == types.GroupServer {
		m.doubt(info.Chat)
	}
	if len(found) == 0 {
		return nil
	}
	return m.index.putFor(ctx, m.index.timeout(), found)
}

// patientFailures is how many batches of a history sync may fail before the rest is given up: the
// bot's own handlers wait behind us.
const patientFailures = 2

// rememberHistory remembers the media of all conversations in a history sync. It runs on the
// goroutine that whatsmeow has for history syncs, not on its handler queue.
func (m *memory) rememberHistory(ctx context.Context, data *waHistorySync.HistorySync) error {
	batch := make([]Entry, 0, historyBatch) // an index keeps nothing of it
	var failures int
	var failed error
	flush := func() {
		if err := m.index.putMany(ctx, batch); err != nil && !m.closed.Load() {
			failures++
			failed = errors.Join(failed, err)
		}
		batch = batch[:0]
	}
	add := func(chat types.JID, msg *waWeb.WebMessageInfo) {
		if msg.GetMessage() == nil || m.closed.Load() || failures >= patientFailures {
			return
		}
		info, content, err := m.parseHistory(chat, msg)
		if err != nil {
			m.report.log.Debugf("Not remembering a message of the history sync: %v", err)
			return
		}
		before := len(batch)
		if batch = m.walker.appendMedia(batch, info, content); len(batch) > before {
			m.meet(chat)
		}
		if len(batch) >= historyBatch {
			flush()
		}
	}
	for _, conversation := range data.GetConversations() {
		chat, err := parseName(conversation.GetID(), canonicalChat)
		if err != nil {
			continue
		}
		for _, msg := range conversation.GetMessages() {
			add(chat, msg.GetMessage())
		}
	}
	for _, msg := range data.GetStatusV3Messages() {
		add(types.StatusBroadcastJID, msg)
	}
	flush()
	return failed
}

// parseHistory reads a message of a history sync. whatsmeow finds no sender in a chat with a bot or
// with a user of another network; where a chat has one person, none is needed.
func (m *memory) parseHistory(chat types.JID, msg *waWeb.WebMessageInfo) (*types.MessageInfo, *waE2E.Message, error) {
	parsed, err := m.parse(chat, msg)
	switch {
	case err == nil:
		return &parsed.Info, messageOf(parsed), nil
	case hasParticipant(chat):
		return nil, nil, err
	}
	return &types.MessageInfo{
		MessageSource: types.MessageSource{Chat: chat, IsFromMe: msg.GetKey().GetFromMe()},
		ID:            msg.GetKey().GetID(),
		Timestamp:     time.Unix(int64(msg.GetMessageTimestamp()), 0),
	}, msg.GetMessage(), nil
}
