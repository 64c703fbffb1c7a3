package reupload_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// TestRecords lives what accounts have shown of WhatsApp, as examples/doctor has recorded it: each
// file heals of which the phone has told a good path, however late and in whatever form, and no
// other one does.
func TestRecords(t *testing.T) {
	t.Parallel()
	paths, err := filepath.Glob("testdata/records/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("there are no records: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			record, err := wabox.ReadRecord(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { liveRecord(t, record) })
		})
	}
}

// patienceOfRecords is how long the phone's late answers are waited for.
const patienceOfRecords = 30 * 24 * time.Hour

func liveRecord(t *testing.T, record *wabox.Record) {
	t.Cleanup(func() { time.Sleep(10 * time.Minute) }) // in which whatsmeow's loop for the history ends
	box := wabox.Start(t)
	account := box.NewAccount()
	files, err := account.Replay(record)
	if err != nil {
		t.Fatal(err)
	}
	parts := 0
	client := account.Login(t, func(client *whatsmeow.Client) {
		plugin, err := reupload.Register(client, &reupload.Options{RefusalPause: -1, SilencePause: -1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = plugin.Close() })
		client.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.HistorySync); ok {
				parts++
			}
		})
	})
	wantParts := 0
	for i, f := range files {
		if len(f.Old) == 0 { // the record does not say what the CDN has answered
			box.Expire(f.Media)
		}
		if err := f.Deliver(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if f.Kind == wabox.KindHistory {
			time.Sleep(lastOf(f))
			if f.Heals {
				wantParts++
			}
			continue
		}
		image := f.Message.GetImageMessage()
		if status := f.Message.GetGroupStatusMessageV2().GetMessage(); status != nil {
			image = status.GetImageMessage()
		}
		err := download(t, client, f, image)
		if err != nil && f.Heals && lastOf(f) < patienceOfRecords {
			time.Sleep(lastOf(f))
			err = download(t, client, f, image)
		}
		cause := reupload.Cause(err)
		if errors.Is(cause, reupload.ErrNotAsked) && f.Kind == wabox.KindGroupStatus {
			continue // the plugin does not ask for a status of yesterday
		}
		if (err == nil) != f.Heals {
			t.Errorf("file %d, %s: got %v (cause: %v), and heals should be %t", i+1, f.Kind, err, cause, f.Heals)
		}
		if err != nil && cause == nil {
			t.Errorf("file %d, %s: %v has no cause", i+1, f.Kind, err)
		}
	}
	if parts != wantParts {
		t.Errorf("%d parts of the history have come, want %d", parts, wantParts)
	}
	// Each download has two forms at the most, and there are two downloads of a file.
	if n := account.RequestCount(); n > 4*len(files) {
		t.Errorf("the phone was asked %d times for %d files", n, len(files))
	}
}

func download(t *testing.T, client *whatsmeow.Client, f *wabox.Replayed, image *waE2E.ImageMessage) error {
	data, err := client.Download(t.Context(), image)
	if err == nil && !bytes.Equal(data, f.Media.Plaintext) {
		t.Errorf("a %s is another file", f.Kind)
	}
	return err
}

// lastOf returns when the last of the phone's answers comes, with some time for its forms.
func lastOf(f *wabox.Replayed) time.Duration {
	last := time.Duration(0)
	for _, try := range f.Tries {
		for _, answer := range try.Answers {
			last = max(last, answer.After.Duration())
		}
		for _, part := range try.Parts {
			last = max(last, part.Duration())
		}
	}
	return last + 2*time.Minute
}
