package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
)

// keep saves the media of a message that has just come.
func (b *bot) keep(ctx context.Context, evt *events.Message, file attachment) {
	name, err := b.save(ctx, file)
	switch {
	case err == nil:
		b.log.Infof("Saved %s from %s", name, evt.Info.SourceString())
	case ctx.Err() != nil:
		b.log.Warnf("Not saved, because the bot ends: the file of message %q from %s; reply !get to it", evt.Info.ID, evt.Info.SourceString())
	default:
		b.log.Warnf("Not saved: the file of message %q from %s: %s", evt.Info.ID, evt.Info.SourceString(), why(err))
		b.warnOwner(ctx, err)
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
	name, err := b.save(ctx, file)
	switch {
	case err == nil:
		b.answer(ctx, evt, "Saved as "+name+".")
	case ctx.Err() == nil:
		b.log.Warnf("Not saved: the file of message %q in %s: %s", quote.GetStanzaID(), evt.Info.Chat, why(err))
		b.answer(ctx, evt, explain(err))
		b.warnOwner(ctx, err)
	}
}

// command returns what a message replies !get to, and whether it says that at all.
func command(msg *waE2E.Message) (*waE2E.ContextInfo, bool) {
	text := msg.GetConversation()
	if text == "" {
		text = msg.GetExtendedTextMessage().GetText()
	}
	return msg.GetExtendedTextMessage().GetContextInfo(), strings.EqualFold(strings.TrimSpace(text), "!get")
}

func (b *bot) answer(ctx context.Context, to *events.Message, text string) {
	b.log.Infof("Answering in %s: %s", to.Info.Chat, text)
	err := b.send(ctx, to.Info.Chat, &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: &text,
		ContextInfo: &waE2E.ContextInfo{
			StanzaID:      &to.Info.ID,
			Participant:   proto.String(to.Info.Sender.ToNonAD().String()),
			QuotedMessage: &waE2E.Message{Conversation: proto.String("!get")},
		},
	}})
	if err != nil {
		b.log.Warnf("The answer could not be sent: %v", err)
	}
}

// warnInterval is the least time between two warnings of a full disk, which each file runs into.
const warnInterval = time.Hour

// warnOwner tells the owner, in the chat with oneself, if a file could not be saved because
// the disk is full. It is his to do something about, and he is not always the one who asked
// for the file.
func (b *bot) warnOwner(ctx context.Context, err error) {
	if !isDiskFull(err) {
		return
	}
	b.mu.Lock()
	again := time.Since(b.warned) < warnInterval
	if !again {
		b.warned = time.Now()
	}
	b.mu.Unlock()
	if again {
		return
	}
	const warning = "The bot's disk is full, so that it cannot save files. Make room; then reply !get to what is missing."
	b.log.Errorf("%s", warning)
	owner := b.client.Store.GetJID().ToNonAD()
	if err = b.send(ctx, owner, &waE2E.Message{Conversation: proto.String(warning)}); err != nil {
		b.log.Warnf("The owner could not be told: %v", err)
	}
}

func (b *bot) sendMessage(ctx context.Context, to types.JID, msg *waE2E.Message) error {
	_, err := b.client.SendMessage(ctx, to, msg)
	return err
}

// explain tells the people in a chat what a failed download means for them.
func explain(err error) string {
	if isDiskFull(err) {
		return "My disk is full, so that I cannot save this. Reply !get again when my owner has made room."
	}
	// The download has failed because the file has expired: why was it not healed?
	if cause := reupload.Cause(err); cause != nil {
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
