package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mdp/qrterminal/v3"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
	_ "modernc.org/sqlite"

	"github.com/whatsmeow-plugins/reupload"
)

// dialect is SQLite's name in whatsmeow's sqlstore and in sqlindex. The driver has another one.
const (
	dialect = "sqlite3"
	driver  = "sqlite"
)

// parallel is how many files are downloaded at once. One that has expired can wait for the phone for half a minute.
const parallel = 4

// A bot is one run of the bot.
type bot struct {
	client   *whatsmeow.Client
	plugin   *reupload.Plugin
	db       *sql.DB
	sessions *sqlstore.Container // in db
	media    *os.Root            // the directory that media is saved in; nothing that a message says leads out of it
	naming   sync.Mutex
	log      waLog.Logger
	// send sends an answer. It is client.SendMessage, but in the demo, where there is nobody to send to.
	send func(ctx context.Context, evt *events.Message, answer *waE2E.Message) error

	ended     chan error // gets the reason when WhatsApp has ended the connection for good
	handlerID uint32
	slots     chan struct{}
	work      sync.WaitGroup
	cancel    context.CancelFunc
}

// openBot prepares everything but the connection. Downloads end with the context, or with close.
func openBot(ctx context.Context, cfg config) (_ *bot, err error) {
	b := &bot{log: cfg.log, ended: make(chan error, 1), slots: make(chan struct{}, parallel)}
	ctx, b.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if err = os.MkdirAll(cfg.dir, 0o700); err == nil {
		b.media, err = os.OpenRoot(cfg.dir)
	}
	if err != nil {
		return nil, fmt.Errorf("the directory for media cannot be used; name another one with -dir: %w", err)
	}
	if b.db, err = openDB(cfg.db); err != nil {
		return nil, fmt.Errorf("the database cannot be used; name another file with -db: %w", err)
	}
	b.sessions = sqlstore.NewWithDB(b.db, dialect, cfg.log.Sub("Store"))
	if err = b.sessions.Upgrade(ctx); err != nil {
		return nil, fmt.Errorf("the database %s cannot be used; name another file with -db: %w", cfg.db, err)
	}
	device, err := b.sessions.GetFirstDevice(ctx)
	if err != nil {
		return nil, fmt.Errorf("the session in %s cannot be read; restore the file, or link anew with another -db: %w", cfg.db, err)
	}
	if cfg.newClient == nil {
		b.client = whatsmeow.NewClient(device, cfg.log.Sub("Client"))
	} else if b.client, err = cfg.newClient(device, cfg.log.Sub("Client")); err != nil {
		return nil, err
	}
	b.send = b.sendMessage
	if b.plugin, err = install(ctx, b.client, b.db); err != nil {
		return nil, err
	}
	b.handlerID = b.client.AddEventHandler(func(evt any) { b.handle(ctx, evt) })
	return b, nil
}

// openDB opens the SQLite file, and creates it for the user alone: it has the keys of the account and of its media.
func openDB(path string) (*sql.DB, error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err = file.Close(); err != nil {
		return nil, err
	}
	escaped := (&url.URL{Path: filepath.ToSlash(path)}).EscapedPath()
	return sql.Open(driver, "file:"+escaped+"?"+
		"_pragma=foreign_keys(1)&"+ // whatsmeow's tables rely on it
		"_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_pragma=busy_timeout(5000)&"+
		"_txlock=immediate") // a transaction that begins by reading would fail, and not wait, if another one writes
}

// close ends what runs, and leaves the database closed. It can be called on a bot that was opened in part.
func (b *bot) close() {
	if b.client != nil {
		b.client.Disconnect()
		b.client.RemoveEventHandler(b.handlerID) // from here on, no work is added
	}
	b.cancel()
	b.work.Wait()
	if b.plugin != nil {
		_ = b.plugin.Close()
	}
	if b.db != nil {
		if err := b.db.Close(); err != nil {
			b.log.Errorf("Closing the database: %v", err)
		}
	}
	if b.media != nil {
		_ = b.media.Close()
	}
}

// connect connects to WhatsApp. It links the bot to an account first if that has not been done.
func (b *bot) connect(ctx context.Context, out io.Writer, phone string) error {
	if b.client.Store.ID != nil {
		b.client.InitialAutoReconnect = true // do not give up because the network comes up after the bot
		return b.client.Connect()
	}
	codes, err := b.client.GetQRChannel(ctx)
	if err != nil {
		return err
	}
	if err = b.client.Connect(); err != nil {
		return fmt.Errorf("WhatsApp cannot be reached; check the network: %w", err)
	}
	asked := false
	for item := range codes {
		switch {
		case item.Event == whatsmeow.QRChannelEventCode && phone == "":
			fmt.Fprintln(out, "Scan this on your phone: WhatsApp > Linked devices > Link a device. Or run with -phone.")
			qrterminal.GenerateHalfBlock(item.Code, qrterminal.L, out)
		case item.Event == whatsmeow.QRChannelEventCode:
			if asked {
				continue // the code stays good while new QR codes come
			}
			asked = true
			code, err := b.client.PairPhone(ctx, phone, true, whatsmeow.PairClientChrome, "Chrome (Linux)")
			if err != nil {
				return fmt.Errorf("there is no code for %s; write the number as +491701234567, and wait some minutes after several tries: %w", phone, err)
			}
			fmt.Fprintf(out, "Type this on your phone: WhatsApp > Linked devices > Link a device > Link with phone number:\n\n    %s\n\n", code)
		case item == whatsmeow.QRChannelSuccess:
			return nil
		case item == whatsmeow.QRChannelTimeout:
			return errors.New("nobody has linked the bot in time; run it again")
		case item == whatsmeow.QRChannelClientOutdated:
			return errors.New("WhatsApp no longer accepts this version; run go get go.mau.fi/whatsmeow@latest and build again")
		case item.Error != nil:
			return fmt.Errorf("linking has failed; run the bot again: %w", item.Error)
		default:
			return fmt.Errorf("linking has failed with %q; run the bot again", item.Event)
		}
	}
	return errors.New("linking has ended; run the bot again")
}

// handle starts what is to do about an event. Downloads would heal right in here, too; they have goroutines of their own so that
// one that waits for the phone does not keep the messages after it from being handled.
func (b *bot) handle(ctx context.Context, rawEvt any) {
	switch evt := rawEvt.(type) {
	case *events.Message:
		if file := attachmentOf(evt.Message); file != nil {
			b.spawn(ctx, func() { b.keep(ctx, evt, file) })
		}
		if quote, ok := command(evt.Message); ok {
			b.spawn(ctx, func() { b.get(ctx, evt, quote) })
		}
	case *events.Connected:
		b.log.Infof("Connected as %s", b.client.Store.GetJID())
	case *events.LoggedOut:
		b.forgetSession(ctx)
		b.end(errors.New("the phone has unlinked the bot; run it again to link it anew"))
	case events.PermanentDisconnect:
		b.end(fmt.Errorf("WhatsApp has ended the connection for good: %s; fix that, and run the bot again", evt.PermanentDisconnectDescription()))
	}
}

// forgetSession deletes the session, so that the next run links the bot anew. whatsmeow does that as well, but need not be
// through with it when the bot ends.
func (b *bot) forgetSession(ctx context.Context) {
	devices, err := b.sessions.GetAllDevices(ctx)
	for _, device := range devices {
		err = errors.Join(err, b.sessions.DeleteDevice(ctx, device))
	}
	if err != nil {
		b.log.Errorf("The session could not be deleted: %v", err)
	}
}

func (b *bot) end(reason error) {
	select {
	case b.ended <- reason:
	default: // there was a first reason
	}
}

func (b *bot) spawn(ctx context.Context, work func()) {
	b.work.Go(func() {
		select {
		case b.slots <- struct{}{}:
			defer func() { <-b.slots }()
			work()
		case <-ctx.Done():
		}
	})
}

// keep saves the media of a message that has just come.
func (b *bot) keep(ctx context.Context, evt *events.Message, file attachment) {
	name, err := b.save(ctx, evt.Info.ID, file)
	switch {
	case err == nil:
		b.log.Infof("Saved %s from %s", name, evt.Info.SourceString())
	case ctx.Err() != nil:
		b.log.Warnf("Not saved, because the bot ends: %s from %s; reply !get to it", fileName(evt.Info.ID, file), evt.Info.SourceString())
	default:
		b.log.Warnf("Not saved: %s from %s: %s", fileName(evt.Info.ID, file), evt.Info.SourceString(), why(err))
	}
}

// get saves the media that somebody has replied !get to, and tells the chat what came of it.
func (b *bot) get(ctx context.Context, evt *events.Message, quote *waE2E.ContextInfo) {
	// A quote has the whole message that it quotes, wrapped as that was.
	quoted := (&events.Message{RawMessage: quote.GetQuotedMessage()}).UnwrapRaw()
	file := attachmentOf(quoted.Message)
	if file == nil {
		b.answer(ctx, evt, "Reply !get to a picture, a video, an audio or a document.")
		return
	}
	name, err := b.save(ctx, quote.GetStanzaID(), file)
	switch {
	case err == nil:
		b.answer(ctx, evt, "Saved as "+name+".")
	case ctx.Err() == nil:
		b.log.Warnf("Not saved: %s from %s: %s", fileName(quote.GetStanzaID(), file), evt.Info.Chat, why(err))
		b.answer(ctx, evt, explain(err))
	}
}

// command tells whether a message is !get, and what it replies to.
func command(msg *waE2E.Message) (*waE2E.ContextInfo, bool) {
	text := msg.GetConversation()
	if text == "" {
		text = msg.GetExtendedTextMessage().GetText()
	}
	return msg.GetExtendedTextMessage().GetContextInfo(), strings.EqualFold(strings.TrimSpace(text), "!get")
}

func (b *bot) answer(ctx context.Context, to *events.Message, text string) {
	b.log.Infof("Answering in %s: %s", to.Info.Chat, text)
	err := b.send(ctx, to, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: &text,
		ContextInfo: &waE2E.ContextInfo{
			StanzaID:      &to.Info.ID,
			Participant:   proto.String(to.Info.Sender.ToNonAD().String()),
			QuotedMessage: &waE2E.Message{Conversation: proto.String("!get")},
		},
	}})
	if err != nil {
		b.log.Warnf("The answer could not be sent: %s", redact(err.Error()))
	}
}

func (b *bot) sendMessage(ctx context.Context, to *events.Message, answer *waE2E.Message) error {
	_, err := b.client.SendMessage(ctx, to.Info.Chat, answer)
	return err
}

// explain tells the people in a chat what a failed download means for them.
func explain(err error) string {
	if cause := reupload.Cause(err); cause != nil { // the download has failed because the file has expired: why was it not healed?
		err = cause
	}
	switch {
	case errors.Is(err, reupload.ErrNotFound):
		return "The phone no longer has this file either. Ask whoever sent it to send it again."
	case errors.Is(err, reupload.ErrDecryption):
		return "The phone no longer has the key of this file. Ask whoever sent it to send it again."
	case errors.Is(err, reupload.ErrTimeout):
		return "The phone does not answer. Switch it on, open WhatsApp, and reply !get again."
	case errors.Is(err, reupload.ErrUnknownMessage):
		return "This file has expired, and I cannot ask the phone for it: I do not know the message that it came with."
	case errors.Is(err, errTaken):
		return "Another file has been saved under the name of this message."
	}
	return "It did not work this time. Reply !get again in a few minutes."
}

// why describes a failed download for the log.
func why(err error) string {
	if cause := reupload.Cause(err); cause != nil {
		err = fmt.Errorf("%w: %w", err, cause)
	}
	return redact(err.Error())
}
