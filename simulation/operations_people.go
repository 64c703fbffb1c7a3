package simulation

import (
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// someChat returns a chat that a bot is in, of those that the server delivers.
func (b *bot) someChat(t *Throw) *chat {
	var mine []weighted[*chat]
	for _, c := range b.chats {
		for _, other := range c.bots {
			if other != b {
				continue
			}
			weight := 2
			switch c.kind {
			case groupPN, groupLID, migrating:
				weight = 10
			case hosted, hostedLID, newsletter, list:
				weight = 3
			case status:
				weight = 4
			}
			if c.members[0] != b.stranger || c.isGroup() || c.kind == status {
				mine = append(mine, weighted[*chat]{c, weight})
			}
		}
	}
	return pickWeighted(t, mine)
}

// writer returns the author of a new message in a chat, and how that comes: a person or, now and
// then, the account itself.
func (b *bot) writer(t *Throw, c *chat) (in wabox.Incoming) {
	members := c.members
	if c.isGroup() || c.kind == status {
		members = members[1:]
	}
	if len(members) == 0 {
		members = c.members
	}
	p := members[t.IntN(len(members))]
	in = p.incoming(c)
	switch {
	case c.kind == hosted && t.Chance(0.6):
		in.From = types.JID{User: p.pn.User, Device: 99, Server: types.HostedServer}
		in.Alt = types.EmptyJID
	case c.kind == hostedLID && t.Chance(0.6):
		in.From = types.JID{User: p.lid.User, Device: 99, Server: types.HostedLIDServer}
		in.Alt = types.EmptyJID
	case c.kind != newsletter && c.kind != status && c.kind != list && len(c.bots) == 1 && t.Chance(0.1):
		in.FromMe = true
		own, other := b.account.PN, b.account.LID
		if c.lids || c.kind == directLID {
			own, other = other, own
		}
		if in.From = own; c.isGroup() {
			in.Alt = other
		}
	}
	return in
}

// receive brings a file into a chat of a bot's.
func (b *bot) receive(t *Throw, c *chat, f *file, media *wabox.Media) *message {
	in := b.writer(t, c)
	if c.kind == newsletter {
		media = b.newsMedia(f)
	}
	m := b.newMessage(c, in, media, f.kind, f, "")
	b.deliver(t, m, in, m.content(), c.bots...)
	return m
}

// opReceive brings new files.
func (b *bot) opReceive(t *Throw) {
	for range 1 + t.IntN(4) {
		f := b.newFile(t)
		b.receive(t, b.someChat(t), f, f.media)
	}
}

// opOld brings a file whose path is dead already, as in a forward of a forward.
func (b *bot) opOld(t *Throw) {
	for range 1 + t.IntN(3) {
		f := b.newFile(t)
		b.mu.Lock()
		f.own.dies = time.Now()
		b.mu.Unlock()
		b.receive(t, b.someChat(t), f, f.media)
	}
}

// opForward sends a file again, in another message.
func (b *bot) opForward(t *Throw) {
	if m := b.someMail(t, nil); m != nil && m.file != nil && m.junk == "" {
		b.receive(t, b.someChat(t), m.file, m.file.media)
	}
}

// opSame is one file in many messages, which the bot then downloads at once.
func (b *bot) opSame(t *Throw) {
	f := b.newFile(t)
	b.mu.Lock()
	f.own.dies = time.Now()
	b.mu.Unlock()
	for range 5 + t.IntN(20) {
		b.receive(t, b.someChat(t), f, f.media)
	}
}

// opText brings a text, which waits behind the bot's handlers.
func (b *bot) opText(t *Throw) {
	c := b.someChat(t)
	in := b.writer(t, c)
	in.ID = "TEXT" + time.Now().Format("150405.000000000")
	for _, to := range c.bots {
		b.deliverTo(to, c, in, &waE2E.Message{Conversation: proto.String("hello")})
	}
}

// opQuote brings a quote of a file, which the bot has or has not.
func (b *bot) opQuote(t *Throw) {
	c := b.someChat(t)
	if c.kind == newsletter || c.kind == list || c.kind == status {
		return
	}
	f := b.newFile(t)
	in := b.writer(t, c)
	m := b.newMessage(c, in, f.media, f.kind, f, "")
	in.ID, in.Timestamp = m.id, m.at
	for _, to := range c.bots {
		to.account.KnowsMessage(in, m.content())
		quoter := b.writer(t, c)
		quoter.ID = "QUOTE" + m.id
		sender := in.From.ToNonAD()
		if in.FromMe {
			sender = to.account.PN
		}
		b.deliverTo(to, c, quoter, quoteOf(m.id, sender, m.content()))
	}
}

// opEdit brings an edit, which puts another file into an earlier message.
func (b *bot) opEdit(t *Throw) {
	old := b.someMail(t, func(m *mail) bool {
		return m.junk == "" && m.how == "delivered" && !m.own && !m.oddNames && m.chat.kind != newsletter
	})
	if old == nil {
		return
	}
	f := b.newFile(t)
	in := wabox.Incoming{ID: old.id, Chat: old.chat.jid, From: old.from, LIDMode: old.chat.lids}
	m := b.newMessage(old.chat, in, f.media, f.kind, f, "")
	edit := in
	edit.ID = "EDIT" + m.id + time.Now().Format("150405.000000")
	envelope := b.newMessage(old.chat, edit, f.media, f.kind, f, "")
	envelope.envelope = true
	for _, to := range old.chat.bots {
		to.account.KnowsMessage(in, m.content())
		b.deliverTo(to, old.chat, edit, editOf(m, m.content()))
	}
}

// opHistory brings a part of the history: chats of all kinds, and files that are old.
func (b *bot) opHistory(t *Throw) {
	sync := &waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum(), ChunkOrder: proto.Uint32(1), Progress: proto.Uint32(100)}
	for range 1 + t.IntN(6) {
		c := b.historyChat(t)
		conv := &waHistorySync.Conversation{ID: proto.String(c.jid.String())}
		for range 1 + t.IntN(3) {
			f := b.newFile(t)
			p := c.members[t.IntN(len(c.members))]
			in := p.incoming(c)
			in.Timestamp = time.Now().Add(-t.Between(time.Hour, 20*day))
			switch {
			case c.kind == legacy || c.kind == assistant:
				in.From, in.LIDMode = c.jid, false
			case c.isGroup() && t.Chance(0.3):
				in.From = p.pn // whatever the group's mode is
			case !c.isGroup() && t.Chance(0.2):
				in.FromMe, in.From = true, b.account.PN
			}
			b.mu.Lock()
			f.own.dies = time.Now()
			b.mu.Unlock()
			m := b.newMessage(c, in, f.media, f.kind, f, "")
			m.from = in.From
			info := &waWeb.WebMessageInfo{
				Key: m.key(), Message: m.content(), MessageTimestamp: proto.Uint64(uint64(m.at.Unix())),
			}
			if c.isGroup() || c.jid.Server == types.BroadcastServer {
				info.Participant = proto.String(in.From.String())
			}
			conv.Messages = append(conv.Messages, &waHistorySync.HistorySyncMsg{Message: info})
		}
		sync.Conversations = append(sync.Conversations, conv)
	}
	if err := b.account.DeliverHistory(sync); err != nil {
		b.violate(Violation{Rule: "messages", What: "the box does not deliver a history", Err: err})
	}
}

// historyChat returns a chat as histories have them.
func (b *bot) historyChat(t *Throw) *chat {
	switch t.IntN(6) {
	case 0:
		return &chat{kind: assistant, jid: types.NewMetaAIJID, members: b.people[1:2], bots: []*bot{b}}
	case 1:
		p := b.someone(t)
		return &chat{kind: legacy, jid: types.NewJID(p.pn.User, types.LegacyUserServer), members: []*person{p}, bots: []*bot{b}}
	}
	for {
		if c := b.someChat(t); c.kind != newsletter && c.kind != status {
			return c
		}
	}
}

// opTable makes a message that only the phone and the bot's own database have.
func (b *bot) opTable(t *Throw) {
	c := b.someChat(t)
	if c.kind == newsletter || c.kind == hosted || c.kind == hostedLID || c.kind == status {
		return
	}
	f := b.newFile(t)
	in := b.writer(t, c)
	m := b.newMessage(c, in, f.media, f.kind, f, "")
	in.ID, in.Timestamp = m.id, m.at
	b.account.KnowsMessage(in, m.content())
	info := types.MessageInfo{ID: m.id, Timestamp: m.at}
	info.Chat, info.Sender, info.IsFromMe, info.IsGroup = c.jid, in.From.ToNonAD(), in.FromMe, c.isGroup()
	b.mu.Lock()
	defer b.mu.Unlock()
	media := parts(m.content())[0].media
	b.have(&mail{message: m, bot: b, info: info, media: media, came: time.Now(), how: "table"})
}

// opMigrate lets a group go over to LIDs.
func (b *bot) opMigrate(*Throw) {
	for _, c := range b.chats {
		if c.kind == migrating && !c.lids {
			b.mu.Lock()
			c.lids, c.migrated = true, time.Now()
			b.mu.Unlock()
			b.announce(c)
		}
	}
}
