package wabox

import (
	"bytes"
	"cmp"
	"compress/zlib"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// A HistoryPart is a part of the account's history that its phone has put on the CDN, for the
// client to download.
type HistoryPart struct {
	ID      types.MessageID // of the message about it
	Media   *Media          // the blob, which can expire as any file
	Message *waE2E.Message  // what the phone sends the client about it

	account *Account
}

// DeliverHistory sends the client a history sync: a blob on the CDN, and a message about it
// from the own phone. The phone knows all files that the history speaks of, each under the id
// of its message.
func (a *Account) DeliverHistory(hs *waHistorySync.HistorySync) error {
	part, err := a.UploadHistory(hs)
	if err != nil {
		return err
	}
	return part.Deliver()
}

// UploadHistory is [Account.DeliverHistory] without the message, for a client that gets that only
// when the blob has expired.
//
// The phone answers a request for a part, which is a receipt of category "peer", with a new
// [HistoryPart] that names the message of the old one. An [Answer] that is no success, or that has
// an error code, is a notification as for any file. What real phones do then is not known.
func (a *Account) UploadHistory(hs *waHistorySync.HistorySync) (*HistoryPart, error) {
	return a.uploadHistory(hs, "")
}

func (a *Account) uploadHistory(hs *waHistorySync.HistorySync, original types.MessageID) (*HistoryPart, error) {
	data, err := proto.Marshal(hs)
	if err != nil {
		return nil, fmt.Errorf("wabox: failed to marshal history: %w", err)
	}
	var compressed bytes.Buffer
	w := zlib.NewWriter(&compressed)
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	a.phone.knowsAll("", place{}, hs.ProtoReflect())
	m := a.box.Upload(compressed.Bytes(), whatsmeow.MediaHistory)
	n := &waE2E.HistorySyncNotification{
		FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
		MediaKey: m.MediaKey, DirectPath: proto.String(m.DirectPath),
		SyncType:   waE2E.HistorySyncType(hs.GetSyncType()).Enum(), // the two enums have the same numbers
		ChunkOrder: proto.Uint32(hs.GetChunkOrder()), Progress: proto.Uint32(hs.GetProgress()),
	}
	if original != "" {
		n.OriginalMessageID = &original
	}
	part := &HistoryPart{ID: newMessageID(), Media: m, account: a, Message: &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(), HistorySyncNotification: n,
	}}}
	a.phone.knowsAll(part.ID, place{chat: a.PN, sender: a.PN, fromMe: true}, part.Message.ProtoReflect())
	a.mu.Lock()
	defer a.mu.Unlock()
	a.phone.histories[part.ID] = hs
	return part, nil
}

// Deliver sends the client the message about a part. It can be called again.
func (p *HistoryPart) Deliver() error {
	return p.account.sendPeer(p.Message, p.ID)
}

// sendPeer sends the client a message of its own phone that is for it alone.
func (a *Account) sendPeer(msg *waE2E.Message, id types.MessageID) error {
	return a.sendEncrypted(original{sender: a.PN, alt: a.LID, msg: msg, node: waBinary.Node{
		Tag: "message",
		Attrs: waBinary.Attrs{
			"id": cmp.Or(id, newMessageID()), "t": time.Now().Unix(), "from": a.PN, "type": "text", "category": "peer",
		},
	}})
}

// sendAgain sends the client a part of the history again.
func (p *phone) sendAgain(r Request) error {
	p.account.mu.Lock()
	hs := p.histories[r.ID]
	p.account.mu.Unlock()
	part, err := p.account.uploadHistory(hs, r.ID)
	if err != nil {
		return err
	}
	return part.Deliver()
}
