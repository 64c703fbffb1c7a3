package simulation

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A bot is a whatsmeow client with the plugin, and what the world knows of it. w.mu guards all
// fields that change.
type bot struct {
	*World
	n          int
	account    *wabox.Account
	inHandlers bool // it downloads in its event handler
	asks       bool // it asks by itself when a download has failed

	client *whatsmeow.Client
	plugin *reupload.Plugin
	cdn    *cdn
	index  *index

	unregistered bool      // for the moment, so that the plugin does not see what comes
	life         int       // counts the registrations of the plugin
	memory       int       // counts the indexes that it has had
	disturbed    time.Time // when its connection was last touched, or will be well again

	mails     []*mail
	byHash    map[string][]*mail
	unnoticed atomic.Bool          // a media client that was set later
	hanging   atomic.Int32         // calls of Lookup
	junk      atomic.Bool          // it has had junk
	wanted    map[letter]time.Time // messages that have not come, since when
	receipts  []receipt
	inHandler []stay
	answered  map[*chat]bool       // chats about which the phone has answered
	healed    map[string]time.Time // by hash
	silences  int                  // requests since then that the phone was right to leave without an answer
	silenced  map[*file]silenced
	running   int // downloads and requests
}

// A letter names a message uniquely.
type letter struct {
	id   types.MessageID
	chat types.JID
}

func (w *World) newBot(n int) *bot {
	b := &bot{
		World: w, n: n, account: w.box.NewAccount(),
		wanted: make(map[letter]time.Time), byHash: make(map[string][]*mail), healed: make(map[string]time.Time),
		answered: make(map[*chat]bool),
	}
	b.inHandlers = w.Handlers && n == 0
	b.asks = w.Asks && n == w.Bots-1
	b.account.Phone(func(r wabox.Request) []wabox.Answer { return w.answer(b, r) })
	b.account.OnReceipt(func(r wabox.Request) bool { return w.receipt(b, r) })
	return b
}

// boot starts a bot's process, with the index that it has or an empty one.
func (b *bot) boot(forgets bool) {
	if forgets || b.memory == 0 {
		b.memory++
		if b.index == nil || !b.Shared {
			b.index = b.newIndex(b)
		}
	}
	b.client = whatsmeow.NewClient(b.account.Device, waLog.Noop)
	b.account.Configure(b.client)
	b.newMediaClient()
	b.register()
	b.client.AddEventHandler(b.handle)
	b.connect()
}

func (b *bot) newMediaClient() {
	old := b.cdn
	b.cdn = &cdn{world: b.World, bot: b, base: b.box.Transport()}
	b.cdn.base.IdleConnTimeout, b.cdn.base.MaxIdleConnsPerHost = 0, 64 // a handshake is a fifth of what a download costs
	b.client.SetMediaHTTPClient(&http.Client{Transport: b.cdn})
	if old != nil {
		old.CloseIdleConnections()
		b.rests = append(b.rests, old)
	}
}

func (b *bot) register() {
	var err error
	plugin, err := reupload.Register(b.client, b.options())
	if err != nil {
		b.violate(Violation{Rule: "register", What: "Register failed", Err: err})
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.plugin, b.unregistered = plugin, false
	b.life++
}

func (b *bot) options() *reupload.Options {
	o := &reupload.Options{
		Timeout: b.Timeout, HandlerTimeout: b.HandlerTimeout, MaxInFlight: b.MaxInFlight, FillMissingPaths: b.FillPaths,
		Index: b.index, Log: &log{World: b.World}, Lookup: b.lookup(),
		OnReupload: func(r reupload.Reupload) { b.look("OnReupload", r) },
	}
	o.Pace = b.Pace
	if b.NoPauses {
		o.SilencePause, o.RefusalPause = -1, -1
	}
	return o
}

// connect logs in, and makes the client's queries now for which it would hold a lock later.
func (b *bot) connect() {
	b.touch(5 * time.Second)
	if err := b.client.Connect(); err != nil && !errors.Is(err, whatsmeow.ErrAlreadyConnected) {
		b.note("bot %d cannot connect: %v", b.n, err)
		return
	}
	b.comeOnline()
}

func (b *bot) comeOnline() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err := b.account.WaitOnline(ctx); err != nil {
		b.violate(Violation{Rule: "messages", What: "the client does not log in", Err: err})
		return
	}
	internals := b.client.DangerousInternals() //lint:ignore SA1019 there is no other way to ask for the hosts
	_, _ = internals.RefreshMediaConn(ctx, false)
	if b.HalfOpen || b.Unstable {
		for _, c := range b.chats {
			if c.isGroup() {
				_, _ = b.client.GetGroupInfo(ctx, c.jid)
			}
		}
	}
}

// touch notes that the connection is disturbed, and for how long.
func (b *bot) touch(lasts time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if until := time.Now().Add(lasts); until.After(b.disturbed) {
		b.disturbed = until
	}
	for i := len(b.receipts) - 1; i >= 0 && time.Since(b.receipts[i].at) <= b.timeout(); i-- {
		b.receipts[i].disturbed = true
	}
}

// stop ends a bot's process, in order or as a kill does.
func (b *bot) stop(kill bool) {
	b.touch(5 * time.Second)
	b.mu.Lock()
	b.life++ // what is under way is not owed
	b.mu.Unlock()
	if kill {
		b.account.Offline(true)
	}
	time.Sleep(100 * time.Millisecond)
	b.client.Disconnect()
	if kill {
		b.account.Offline(false)
	}
	b.mu.Lock()
	b.unregistered = true // what is still in whatsmeow's queue comes to the bot alone
	b.mu.Unlock()
	_ = b.plugin.Close()
	time.Sleep(100 * time.Millisecond)
	b.cdn.CloseIdleConnections()
}

// current returns the parts that one call of the bot uses, even if they are replaced meanwhile.
func (b *bot) current() (*whatsmeow.Client, *reupload.Plugin) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.client, b.plugin
}

// handle is the bot's event handler.
func (b *bot) handle(evt any) {
	b.unnoticed.Store(false)
	if b.Limits.Sabotage != "" && b.sabotageHandler() {
		return
	}
	switch evt := evt.(type) {
	case *events.Message:
		b.handleMessage(evt)
	case *events.HistorySync:
		for _, conv := range evt.Data.GetConversations() {
			jid, err := types.ParseJID(conv.GetID())
			if err != nil {
				continue
			}
			for _, m := range conv.GetMessages() {
				if parsed, err := b.client.ParseWebMessage(jid, m.GetMessage()); err == nil {
					b.arrived(parsed, "history")
				}
			}
		}
	}
}

func (b *bot) handleMessage(evt *events.Message) {
	how := "delivered"
	mails := b.arrived(evt, how)
	for _, m := range mails {
		if m.how == "table" || b.ending() {
			continue
		}
		if b.inHandlers {
			b.download(m, way{inHandler: true})
		} else {
			b.spawn(func() { b.download(m, way{}) })
		}
	}
}

// arrived notes that a message has come, and returns the mails that it makes.
func (b *bot) arrived(evt *events.Message, how string) (mails []*mail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.count("come:" + Kind(how))
	info := evt.Info
	l := letter{info.ID, info.Chat.ToNonAD()}
	since, wanted := b.wanted[l]
	if wanted {
		delete(b.wanted, l)
		b.checkDelay(info, since)
	}
	for _, part := range parts(evt.Message) {
		id := orDefault(part.id, info.ID)
		if m := b.messageOf(id, part, info); m != nil {
			x := &mail{message: m, bot: b, info: info, media: part.media, came: time.Now(), memory: b.memory, stored: b.stored, life: b.life, how: how}
			x.info.ID = id
			if b.unregistered {
				x.memory = 0
			}
			if part.how != "" {
				x.how = part.how
			}
			if part.how == "quoted" {
				x.info.Sender, x.info.IsFromMe = part.sender, b.account.PN.User == part.sender.User || b.account.LID.User == part.sender.User
			}
			b.have(x)
			mails = append(mails, x)
		}
	}
	return mails
}

// messageOf returns the message that a part belongs to: of those with its id, key and file, the one
// in its chat and from its sender, if there is one. Strangers quote one message from any number of
// senders. It needs w.mu.
func (b *bot) messageOf(id types.MessageID, p part, info types.MessageInfo) (found *message) {
	sender := info.Sender
	if p.how == "quoted" {
		sender = p.sender
	}
	best := -1
	for _, m := range b.byID[id] {
		if !m.is(p.media.GetMediaKey()) || string(m.media.FileEncSHA256) != string(p.media.GetFileEncSHA256()) {
			continue
		}
		rank := 0
		if m.chat.jid == info.Chat || m.chat.has(info.Chat) {
			rank += 2
		}
		if b.isSame(m.from, sender) {
			rank++
		}
		if rank > best {
			found, best = m, rank
		}
	}
	return found
}

// have notes a mail. It needs w.mu.
func (b *bot) have(m *mail) {
	b.mails = append(b.mails, m)
	hash := string(m.message.media.FileEncSHA256)
	b.byHash[hash] = append(b.byHash[hash], m)
	if m.junk != "" {
		b.junk.Store(true)
	}
}

// same returns the mails with the file of a message. It needs w.mu.
func (b *bot) same(m *message) []*mail {
	if m == nil {
		return nil
	}
	return b.byHash[string(m.media.FileEncSHA256)]
}

// A part is one file of a message, or of one that it quotes.
type part struct {
	media  whatsmeow.DownloadableMessage
	id     types.MessageID // of the message that is quoted or edited
	sender types.JID       // of the message that is quoted
	how    string
}

func parts(msg *waE2E.Message) (all []part) {
	if edited := msg.GetProtocolMessage().GetEditedMessage(); edited != nil {
		for _, p := range parts(edited) {
			all = append(all, part{media: p.media, id: msg.GetProtocolMessage().GetKey().GetID(), how: "edited"})
		}
		msg = edited
	}
	if quoted := msg.GetExtendedTextMessage().GetContextInfo(); quoted.GetQuotedMessage() != nil {
		sender, _ := types.ParseJID(quoted.GetParticipant())
		for _, p := range parts(quoted.GetQuotedMessage()) {
			all = append(all, part{p.media, quoted.GetStanzaID(), sender, "quoted"})
		}
	}
	switch {
	case msg.GetImageMessage() != nil:
		all = append(all, part{media: msg.ImageMessage})
	case msg.GetVideoMessage() != nil:
		all = append(all, part{media: msg.VideoMessage})
	case msg.GetAudioMessage() != nil:
		all = append(all, part{media: msg.AudioMessage})
	case msg.GetDocumentMessage() != nil:
		all = append(all, part{media: msg.DocumentMessage})
	case msg.GetStickerMessage() != nil:
		all = append(all, part{media: msg.StickerMessage})
	}
	return all
}
