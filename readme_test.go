package reupload_test

import (
	"context"
	"strings"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
)

// readmeBot is the code that the README shows first, word for word, in a bot that has what it
// names.
func readmeBot(ctx context.Context, device *store.Device, log waLog.Logger, msg *waE2E.Message) error {
	client := whatsmeow.NewClient(device, log)
	plugin, err := reupload.Register(client, nil) // best before Connect
	if err != nil {
		return err
	}
	defer plugin.Close()

	// Your bot, unchanged. An expired file heals in here:
	data, err := client.Download(ctx, msg.GetImageMessage())
	if err != nil {
		log.Warnf("no picture: %v (%v)", err, reupload.Cause(err))
	}
	_ = data
	return nil
}

// TestReadme compiles the code of the README, and runs it as far as that is possible without a
// WhatsApp: there is no picture. Example has one that heals.
func TestReadme(t *testing.T) {
	t.Parallel()
	needsCheckout(t)
	plain := func(code string) (lines string) {
		for line := range strings.Lines(code) {
			lines += strings.TrimSpace(line) + "\n"
		}
		return lines
	}
	source := plain(readDocument(t, "readme_test.go"))
	blocks := strings.Split(readDocument(t, "README.md"), "```go\n")[1:]
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(source, plain(block)) {
			t.Errorf("no test has what the README shows:\n%s", block)
		}
	}
	if len(blocks) == 0 {
		t.Error("the README shows no code")
	}
	log := new(logRecorder)
	if err := readmeBot(t.Context(), new(store.Device), log, &waE2E.Message{ImageMessage: new(waE2E.ImageMessage)}); err != nil {
		t.Error(err)
	}
	if log.count("WARN", "no picture: ") != 1 {
		t.Errorf("the log is\n%s", log.all())
	}
}
