package wabox_test

import (
	"testing"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// The phone goes by its own messages, and by what others quote only where it has none.
func TestQuotedPlace(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	quote := func(id string, media *wabox.Media, participant, chat types.JID) *waE2E.Message {
		info := &waE2E.ContextInfo{
			StanzaID: &id, Participant: proto.String(participant.String()), QuotedMessage: &waE2E.Message{ImageMessage: media.Image()},
		}
		if !chat.IsEmpty() {
			info.RemoteJID = proto.String(chat.String())
		}
		return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("look"), ContextInfo: info}}
	}
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	key := media.MediaKey
	asks := func(id types.MessageID, f form, want waMmsRetry.MediaRetryNotification_ResultType) {
		t.Helper()
		if got := b.ask(t, id, key, f); got != want {
			t.Errorf("%s, %+v: got %v, want %v", id, f, got, want)
		}
	}
	deliver(t, b.account, wabox.Incoming{From: bert}, quote("OTHERS", media, bert, types.EmptyJID))
	asks("OTHERS", form{chat: bert}, wabox.Success)
	asks("OTHERS", form{chat: bert, fromMe: true}, mismatched)
	deliver(t, b.account, wabox.Incoming{From: bert}, quote("MINE", media, b.account.LID, types.EmptyJID))
	asks("MINE", form{chat: bert, fromMe: true}, wabox.Success)
	asks("MINE", form{chat: bert}, mismatched)
	deliver(t, b.account, wabox.Incoming{From: bert, Chat: numbers}, quote("STATUS", media, anna, types.StatusBroadcastJID))
	asks("STATUS", form{chat: types.StatusBroadcastJID, participant: anna}, wabox.Success)
	asks("STATUS", form{chat: numbers, participant: anna}, mismatched)

	// One that does not say who wrote what it quotes.
	deliver(t, b.account, wabox.Incoming{From: bert, Chat: numbers}, quote("NOBODY'S", media, types.EmptyJID, types.EmptyJID))
	asks("NOBODY'S", form{chat: numbers, participant: anna}, wabox.Success)
	asks("NOBODY'S", form{chat: numbers}, mismatched)

	// A forged quote, before and after the message itself.
	for range 2 {
		deliver(t, b.account, wabox.Incoming{From: bert}, quote("FORGED", media, bert, types.EmptyJID))
		b.account.KnowsMessage(wabox.Incoming{ID: "FORGED", From: anna, Chat: numbers}, &waE2E.Message{ImageMessage: media.Image()})
		asks("FORGED", form{chat: numbers, participant: anna}, wabox.Success)
		asks("FORGED", form{chat: bert}, mismatched)
	}
}

func TestHistoryPlace(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	message := func(id string, key *waCommon.MessageKey, participant string) *waHistorySync.HistorySyncMsg {
		key.ID = &id
		return &waHistorySync.HistorySyncMsg{Message: &waWeb.WebMessageInfo{
			Key: key, Participant: &participant, Message: &waE2E.Message{ImageMessage: media.Image()},
		}}
	}
	if err := b.account.DeliverHistory(&waHistorySync.HistorySync{
		SyncType:                 waHistorySync.HistorySync_RECENT.Enum(),
		PhoneNumberToLidMappings: []*waHistorySync.PhoneNumberToLIDMapping{{PnJID: proto.String(anna.String()), LidJID: proto.String(annaLID.String())}},
		Conversations: []*waHistorySync.Conversation{{
			ID: proto.String(bert.String()), LidJID: proto.String(bertLID.String()), PnJID: proto.String(bert.String()),
			Messages: []*waHistorySync.HistorySyncMsg{
				message("THEIRS", &waCommon.MessageKey{}, ""), message("MINE", &waCommon.MessageKey{FromMe: proto.Bool(true)}, ""),
			},
		}, {
			ID: proto.String(numbers.String()),
			Messages: []*waHistorySync.HistorySyncMsg{
				message("GROUP", &waCommon.MessageKey{RemoteJID: proto.String(numbers.String())}, anna.String()),
				message("LID", &waCommon.MessageKey{Participant: proto.String(annaLID.String())}, ""),
				message("OWN", &waCommon.MessageKey{FromMe: proto.Bool(true)}, ""),
			},
		}},
	}); err != nil {
		t.Fatal(err)
	}
	for id, forms := range map[types.MessageID][2][]form{
		"THEIRS": {{{chat: bert}, {chat: bertLID}}, {{chat: anna}, {chat: bert, fromMe: true}}},
		"MINE":   {{{chat: bert, fromMe: true}}, {{chat: bert}}},
		"GROUP":  {{{chat: numbers, participant: anna}, {chat: numbers, participant: annaLID}}, {{chat: numbers, participant: bert}}},
		"LID":    {{{chat: numbers, participant: annaLID}}, {{chat: numbers, participant: anna}}},
		"OWN":    {{{chat: numbers, participant: b.account.PN, fromMe: true}}, {{chat: numbers, fromMe: true}, {chat: numbers, participant: anna, fromMe: true}}},
	} {
		for i, want := range []waMmsRetry.MediaRetryNotification_ResultType{wabox.Success, mismatched} {
			for _, f := range forms[i] {
				if got := b.ask(t, id, media.MediaKey, f); got != want {
					t.Errorf("%s, %+v: got %v, want %v: %s", id, f, got, want, lastWrong(b))
				}
			}
		}
	}
}

// Of a file that is somewhere, requests name what they like; but they have to go to the account.
func TestKnows(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	b.account.Knows("SOMEWHERE", media)
	for _, f := range []form{{chat: anna}, {chat: numbers, participant: bert, fromMe: true}, {}} {
		if got := b.ask(t, "SOMEWHERE", media.MediaKey, f); got != wabox.Success {
			t.Errorf("%+v: got %v: %s", f, got, lastWrong(b))
		}
	}
	if got := b.ask(t, "SOMEWHERE", media.MediaKey, form{chat: anna, to: types.NewADJID(b.account.PN.User, 0, 3)}); got != mismatched {
		t.Errorf("to a device: got %v", got)
	}
}

// A person who gets another address loses the old one.
func TestLink(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	msg := &waE2E.Message{ImageMessage: media.Image()}
	byLID, byNumber := b.account.KnowsMessage(wabox.Incoming{From: annaLID}, msg), b.account.KnowsMessage(wabox.Incoming{From: anna}, msg)
	for _, test := range []struct {
		pn, lid types.JID
		want    waMmsRetry.MediaRetryNotification_ResultType
	}{{anna, annaLID, wabox.Success}, {anna, bertLID, mismatched}, {anna, annaLID, wabox.Success}, {bert, annaLID, mismatched}} {
		box.Link(test.pn, test.lid)
		if got := b.ask(t, byLID, media.MediaKey, form{chat: anna}); got != test.want {
			t.Errorf("%v is %v: got %v by number, want %v", test.pn, test.lid, got, test.want)
		}
		if got := b.ask(t, byNumber, media.MediaKey, form{chat: annaLID}); got != test.want {
			t.Errorf("%v is %v: got %v by LID, want %v", test.pn, test.lid, got, test.want)
		}
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	in, msg := wabox.Incoming{ID: "FORGOTTEN", From: anna}, &waE2E.Message{ImageMessage: media.Image()}
	b.account.KnowsMessage(in, msg)
	b.account.Forget(in.ID)
	if got := b.ask(t, in.ID, media.MediaKey, form{chat: anna}); got != wabox.NotFound {
		t.Errorf("got %v", got)
	}
	b.account.KnowsMessage(in, msg)
	if got := b.ask(t, in.ID, media.MediaKey, form{chat: anna}); got != wabox.Success {
		t.Errorf("got %v from a phone that has it again", got)
	}
}

// Of several files under one id, a request gets the one that it names, or the one that it
// is encrypted for.
func TestSameID(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	b.account.Mismatch(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: mismatched}} })
	var media []*wabox.Media
	for i, from := range []types.JID{anna, bert, anna} {
		media = append(media, box.Upload([]byte{byte(i)}, whatsmeow.MediaImage))
		b.account.KnowsMessage(wabox.Incoming{ID: "SAME", From: from}, &waE2E.Message{ImageMessage: media[i].Image()})
	}
	for i, want := range []types.JID{anna, bert, anna} {
		for _, chat := range []types.JID{anna, bert} {
			b.request(t, "SAME", media[i].MediaKey, form{chat: chat})
			evt := next[*events.MediaRetry](t, b)
			answer, err := whatsmeow.DecryptMediaRetryNotification(evt, media[i].MediaKey)
			if chat == want && (err != nil || answer.GetResult() != wabox.Success) {
				t.Errorf("file %d in %v: got %v, %v", i, chat, answer, err)
			}
			if chat != want && err == nil && answer.GetResult() == wabox.Success {
				t.Errorf("file %d in %v: it was uploaded", i, chat)
			}
		}
	}
}
