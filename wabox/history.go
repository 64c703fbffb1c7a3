package wabox

import (
	"bytes"
	"compress/zlib"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"google.golang.org/protobuf/proto"
)

// DeliverHistory sends the client a history sync: a blob on the CDN, and a message about it
// from the own phone. The phone knows all files that the history speaks of, each under the id
// of its message.
func (a *Account) DeliverHistory(hs *waHistorySync.HistorySync) error {
	data, err := proto.Marshal(hs)
	if err != nil {
		return fmt.Errorf("wabox: failed to marshal history: %w", err)
	}
	var compressed bytes.Buffer
	w := zlib.NewWriter(&compressed)
	if _, err := w.Write(data); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	a.phone.knowsAll("", place{}, hs.ProtoReflect())
	m := a.box.Upload(compressed.Bytes(), whatsmeow.MediaHistory)
	msg := &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_HISTORY_SYNC_NOTIFICATION.Enum(),
		HistorySyncNotification: &waE2E.HistorySyncNotification{
			FileSHA256: m.FileSHA256, FileEncSHA256: m.FileEncSHA256, FileLength: proto.Uint64(uint64(m.Length)),
			MediaKey: m.MediaKey, DirectPath: proto.String(m.DirectPath),
			SyncType:   waE2E.HistorySyncType(hs.GetSyncType()).Enum(), // the two enums have the same numbers
			ChunkOrder: proto.Uint32(hs.GetChunkOrder()), Progress: proto.Uint32(hs.GetProgress()),
		},
	}}
	id := newMessageID()
	a.phone.knowsAll(id, place{chat: a.PN, sender: a.PN, fromMe: true}, msg.ProtoReflect())
	return a.sendEncrypted(original{sender: a.PN, alt: a.LID, msg: msg, node: waBinary.Node{
		Tag: "message",
		Attrs: waBinary.Attrs{
			"id": id, "t": time.Now().Unix(), "from": a.PN, "type": "text", "category": "peer",
		},
	}})
}
