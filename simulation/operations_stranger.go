package simulation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// strangerChat returns a chat in which a stranger can write: his own, or a group.
func (b *bot) strangerChat(t *Throw) *chat {
	var his []*chat
	for _, c := range b.chats {
		if slices.Contains(c.bots, b) && slices.Contains(c.members, b.stranger) && (c.isGroup() && c.kind != hosted && c.kind != hostedLID || len(c.members) == 1) {
			his = append(his, c)
		}
	}
	return his[t.IntN(len(his))]
}

// invented returns 32 random bytes.
func (t *Throw) invented() []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, t.Uint64()))
	return sum[:]
}

// claim returns media in which a stranger claims another person's file: its hash, a key of his own
// or the right one, and some path.
func (b *bot) claim(t *Throw, f *file) (media *wabox.Media, why string) {
	media, why = f.media, "a stranger's claim"
	if !t.Chance(0.3) {
		media = withKey(media, t.invented())
	}
	switch t.IntN(4) {
	case 0:
		media = withPath(media, b.otherPath(t))
	case 1:
		media = withPath(media, fmt.Sprintf("/v/t62.7118-24/%d_n.enc?ccb=11-4&oh=01_stranger&oe=7FFFFFFF", t.Int64()))
	}
	return media, why
}

// junkPrefix begins the paths of large files that strangers have uploaded.
const junkPrefix = "/v/t62.7118-24/junk"

// strangerSends brings a stranger's message into one of his chats.
func (b *bot) strangerSends(t *Throw, id types.MessageID, media *wabox.Media, kind fileKind, f *file, why string) {
	c := b.strangerChat(t)
	in := b.stranger.incoming(c)
	in.ID = id
	m := b.newMessage(c, in, media, kind, f, why)
	b.deliver(t, m, in, m.content(), c.bots...)
}

// strangerHash sends a message with another person's hash.
func (b *bot) strangerHash(t *Throw) {
	for range 1 + t.IntN(3) {
		if m := b.victim(t); m != nil {
			media, why := b.claim(t, m.file)
			b.strangerSends(t, "", media, m.kind, m.file, why)
		}
	}
}

// strangerFlood sends many messages with the hash of one file.
func (b *bot) strangerFlood(t *Throw) {
	if m := b.victim(t); m != nil {
		hasJunk := t.Chance(0.2) && b.may(cdnJunk) != ""
		for range 10 + t.IntN(20) {
			media, why := b.claim(t, m.file)
			if hasJunk {
				media = withPath(media, fmt.Sprintf("%s%d_n.enc?ccb=11-4&oh=01_stranger&oe=7FFFFFFF", junkPrefix, t.Int64()))
			}
			b.strangerSends(t, "", media, m.kind, m.file, why)
		}
	}
}

// strangerID sends a message with the id of another person's.
func (b *bot) strangerID(t *Throw) {
	if m := b.victim(t); m != nil {
		media, why := b.claim(t, m.file)
		if t.Chance(0.5) {
			media = withKey(media, m.message.media.MediaKey)
		}
		if t.Chance(0.3) {
			other := *media
			other.FileEncSHA256 = t.invented()
			media = &other
			b.strangerSends(t, m.id, media, m.kind, nil, why)
			return
		}
		b.strangerSends(t, m.id, media, m.kind, m.file, why)
	}
}

// strangerInvents sends messages with files that never were, as many as make a phone look silent.
func (b *bot) strangerInvents(t *Throw) {
	for range 1 + t.IntN(8) {
		media := &wabox.Media{
			MediaKey: t.invented(), FileSHA256: t.invented(), FileEncSHA256: t.invented(), Length: 100,
			DirectPath: fmt.Sprintf("/v/t62.7118-24/%d_n.enc?ccb=11-4&oh=01_stranger&oe=7FFFFFFF", t.Int64()),
		}
		b.strangerSends(t, "", media, image, nil, "an invented file")
	}
}

// strangerQuotes quotes a message under senders that he makes up.
func (b *bot) strangerQuotes(t *Throw) {
	m := b.victim(t)
	if m == nil {
		return
	}
	c := b.strangerChat(t)
	for i := range 1 + t.IntN(30) {
		in := b.stranger.incoming(c)
		in.ID = fmt.Sprintf("SQ%d%s%s", i, m.id, time.Now().Format("150405.000"))
		media, why := b.claim(t, m.file)
		sender := types.NewJID(fmt.Sprint(499990000+t.IntN(1000)), types.DefaultUserServer)
		if t.Chance(0.2) {
			sender = pick(t, c.jid, types.NewJID("1@s.whatsapp.net", types.HiddenUserServer), types.NewJID("77", types.NewsletterServer))
		}
		quoted := b.newMessage(c, wabox.Incoming{ID: "LOST" + m.id, From: sender}, media, m.kind, m.file, why)
		for _, to := range c.bots {
			b.deliverTo(to, c, in, quoteOf(quoted.id, sender, quoted.content()))
		}
	}
}

// strangerEdits edits a message that is not his.
func (b *bot) strangerEdits(t *Throw) {
	m := b.victim(t)
	if m == nil {
		return
	}
	for range 1 + t.IntN(4) {
		c := b.strangerChat(t)
		in := b.stranger.incoming(c)
		in.ID = fmt.Sprintf("SE%d", b.messageCount.Add(1))
		edit := editOf(m.message, b.cards(t, 64, m.file))
		b.note("a stranger edits %v", m.message)
		for _, to := range c.bots {
			b.deliverTo(to, c, in, edit)
		}
	}
}

// cardPrefix begins the ids of messages with cards.
const cardPrefix = "SC"

// strangerCards sends messages with as many cards as there may be.
func (b *bot) strangerCards(t *Throw) {
	c := b.strangerChat(t)
	m := b.victim(t)
	for range 5 + t.IntN(25) {
		in := b.stranger.incoming(c)
		in.ID = fmt.Sprint(cardPrefix, b.messageCount.Add(1))
		var f *file
		if m != nil && t.Chance(0.3) {
			f = m.file
		}
		msg := b.cards(t, 64, f)
		for _, to := range c.bots {
			b.deliverTo(to, c, in, msg)
		}
	}
}

// cards returns a carousel with many pictures that never were, the first with the hash of a file.
func (w *World) cards(t *Throw, n int, f *file) *waE2E.Message {
	if f != nil {
		w.mu.Lock()
		w.carded[string(f.media.FileEncSHA256)] = true
		w.mu.Unlock()
	}
	var all []*waE2E.InteractiveMessage
	for i := range n {
		hash := t.invented()
		if i == 0 && f != nil {
			hash = f.media.FileEncSHA256
		}
		picture := &waE2E.ImageMessage{
			DirectPath: proto.String("/v/none_n.enc?oh=01_stranger&oe=7FFFFFFF"), MediaKey: t.invented(), FileSHA256: hash, FileEncSHA256: hash,
		}
		all = append(all, &waE2E.InteractiveMessage{Header: &waE2E.InteractiveMessage_Header{
			Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: picture},
		}})
	}
	return &waE2E.Message{InteractiveMessage: &waE2E.InteractiveMessage{InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{
		CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{Cards: all},
	}}}
}

// victim returns a mail that a stranger can be after.
func (b *bot) victim(t *Throw) *mail {
	return b.someMail(t, func(m *mail) bool { return m.file != nil && m.junk == "" && m.chat.kind != newsletter })
}
