package simulation

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Each sabotage is named after the rule that it breaks.

// sabotaged returns what comes of a download when a world is sabotaged.
func (b *bot) sabotaged(d *download, data []byte, err error) ([]byte, error) {
	switch {
	case b.Limits.Sabotage == "right-bytes" && len(data) > 0:
		data[0] ^= 1
	case b.Limits.Sabotage == "no-worse" && err == nil && !d.healed():
		err = errors.New("sabotage")
	case b.Limits.Sabotage == "heals" && err == nil && d.healed():
		err = whatsmeow.ErrMediaDownloadFailedWith410
	case b.Limits.Sabotage == "secrets":
		(&log{b.World}).Infof("the key is %x", d.message.media.MediaKey)
	case b.Limits.Sabotage == "context" && d.patience > 0:
		time.Sleep(time.Minute)
	case b.Limits.Sabotage == "hosts":
		b.checkHost(d, exchange{host: "evil.example"})
	case b.Limits.Sabotage == "names":
		b.receipt(b, wabox.Request{ID: d.id, Chat: types.NewJID("1", types.HostedServer)})
	case b.Limits.Sabotage == "policy":
		for i := range 1000 { // no pace allows so many
			b.receipt(b, wabox.Request{ID: fmt.Sprint(d.id, i), Chat: d.chat.jid})
		}
	case b.Limits.Sabotage == "leftovers":
		go func() { select {} }()
	}
	return data, err
}

// requestReupload asks for a file, or says that it does.
func (b *bot) requestReupload(ctx context.Context, plugin *reupload.Plugin, req reupload.Request) (reupload.Result, error) {
	if b.Limits.Sabotage == "asks" {
		return reupload.Result{}, reupload.ErrTimeout
	}
	return plugin.RequestReupload(ctx, req)
}

// sabotageHandler does in an event handler what a plugin must not, and reports whether the event is
// lost.
func (b *bot) sabotageHandler() (lost bool) {
	switch b.Limits.Sabotage {
	case "messages":
		return b.messageCount.Load()%7 == 0
	case "handler":
		time.Sleep(20 * time.Second)
	case "stands still":
		b.mu.Lock()
		time.Sleep(time.Second)
		b.mu.Unlock()
	}
	return false
}
