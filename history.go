package reupload

import (
	"context"
	"fmt"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types"
)

// Remember puts the media of a message into the index by hand. Messages and history syncs
// that arrive while the plugin is registered are remembered without. A message without media,
// or with media that cannot be requested, is no error. With Options.FillMissingPaths it fills
// them in the message.
//
// The error wraps ErrInvalidRequest, or is ErrClosed, whatsmeow.ErrNotLoggedIn, the context's or
// the index's own.
func (p *Plugin) Remember(ctx context.Context, info *types.MessageInfo, msg *waE2E.Message) error {
	if info == nil || info.ID == "" || info.Chat.IsEmpty() {
		return fmt.Errorf("%w: Remember needs the message's id and chat", ErrInvalidRequest)
	}
	if err := p.canRemember(); err != nil {
		return err
	}
	return p.memory.remember(ctx, info, msg)
}

// RememberHistory puts the media of a history sync into the index, for bots that set
// client.ManualHistorySyncDownload, where no event comes: call it with what
// client.DownloadHistorySync returns. Messages without media are no error.
//
// The error is as of [Plugin.Remember].
func (p *Plugin) RememberHistory(ctx context.Context, data *waHistorySync.HistorySync) error {
	if err := p.canRemember(); err != nil {
		return err
	}
	return p.memory.rememberHistory(ctx, data)
}

func (p *Plugin) canRemember() error {
	switch pn, _ := p.sender.own(); {
	case p.closed.Load():
		return ErrClosed
	case pn.IsEmpty():
		return errNotLoggedIn
	}
	return nil
}
