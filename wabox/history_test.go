package wabox_test

import (
	"errors"
	"testing"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A part of the history that has expired comes again when the phone is asked as whatsmeow asks.
func TestHistoryPartComesAgain(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	a := box.NewAccount()
	b := login(t, a)
	b.ManualHistorySyncDownload = true
	part, err := a.UploadHistory(&waHistorySync.HistorySync{SyncType: waHistorySync.HistorySync_RECENT.Enum()})
	if err != nil {
		t.Fatal(err)
	}
	box.Expire(part.Media)
	notification := func(want string) *waE2E.HistorySyncNotification {
		t.Helper()
		n := next[*events.Message](t, b).Message.GetProtocolMessage().GetHistorySyncNotification()
		if n.GetOriginalMessageID() != want {
			t.Fatalf("got a part for %q, want %q", n.GetOriginalMessageID(), want)
		}
		return n
	}
	if err = part.Deliver(); err != nil {
		t.Fatal(err)
	}
	n := notification("")
	if _, err = b.DownloadHistorySync(t.Context(), n, true); !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
		t.Errorf("got %v, want 410", err)
	}
	a.Script(part.ID, wabox.Answer{Result: wabox.Success, Repeat: 1})
	if err = b.SendHistorySyncServerErrorReceipt(t.Context(), part.ID, n.GetMediaKey()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err = b.DownloadHistorySync(t.Context(), notification(part.ID), true); err != nil {
			t.Error(err)
		}
	}
	if r := a.Requests()[0]; r.Category != "peer" || r.Wrong != "" || r.StanzaID != part.ID || a.MaxWaiting() != 1 {
		t.Errorf("got %+v", r)
	}

	// What names no part is acknowledged, and nothing comes.
	if err = b.SendHistorySyncServerErrorReceipt(t.Context(), "3EB0NOPART", n.GetMediaKey()); err != nil {
		t.Fatal(err)
	}
	requests, err := a.WaitRequests(t.Context(), 2)
	if err != nil || requests[1].MediaKey != nil || requests[1].Wrong == "" {
		t.Errorf("got %+v, %v", requests[1], err)
	}
}
