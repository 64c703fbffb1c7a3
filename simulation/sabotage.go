package simulation

import (
	"errors"
	"time"

	"go.mau.fi/whatsmeow"
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
	case b.Limits.Sabotage == "leftovers":
		go func() { select {} }()
	}
	return data, err
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
