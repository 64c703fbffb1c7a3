package wabox_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

// shown has one file of most kinds: the phone answers to LIDs alone in groups, and has lost the
// third file.
const shown = `{
  "version": 1, "made_with": {"go": "go1.26"}, "platform": "android", "has_lid": true, "migrated": true,
  "answers": {"address-form": "lid"},
  "files": [
    {"kind": "direct", "chat": 1, "age_s": 5000000, "old": [{"after_ms": 0, "status": 410}],
     "new": [{"after_ms": 0, "status": 404}, {"after_ms": 200, "status": 200}, {"after_ms": 864000000, "status": 410}],
     "tries": [{"to": "lid", "chat": "lid", "after_ms": 0, "acked": true, "ack_after_ms": 40, "watched_ms": 30000,
       "answers": [{"after_ms": 1500, "said_after_ms": 1000, "result": "SUCCESS", "sealed": true, "has_path": true}]}]},
    {"kind": "group", "chat": 1, "sender": 2, "by_lid": true, "age_s": 6000000,
     "old": [{"after_ms": 0, "status": 403, "says_expired": true}],
     "tries": [
       {"to": "number", "participant": "number", "after_ms": 0, "acked": true, "ack_after_ms": 40, "watched_ms": 30000,
        "answers": [{"after_ms": 300, "said_after_ms": 0, "result": "NOT_FOUND"}]},
       {"to": "lid", "participant": "lid", "after_ms": 31000, "acked": true, "ack_after_ms": 60, "watched_ms": 100000000,
        "answers": [{"after_ms": 90000000, "said_after_ms": 90000000, "queued": true, "result": "SUCCESS", "sealed": true, "has_path": true}]}]},
    {"kind": "direct", "chat": 1, "from_me": true, "age_s": 7000000, "old": [{"after_ms": 0, "status": 404}],
     "tries": [{"to": "number", "chat": "number", "after_ms": 0, "acked": true, "ack_after_ms": 40, "watched_ms": 30000,
       "answers": [{"after_ms": 200, "said_after_ms": 0, "result": "NOT_FOUND", "sealed": true}]}]},
    {"kind": "list", "chat": 1, "sender": 3, "age_s": 4000000,
     "tries": [
       {"to": "number", "participant": "number", "after_ms": 0, "acked": true, "ack_after_ms": 5, "watched_ms": 30000},
       {"to": "number", "chat": "number", "after_ms": 30000, "acked": true, "ack_after_ms": 5, "watched_ms": 30000,
        "answers": [{"after_ms": 700, "said_after_ms": 1000, "result": "DECRYPTION_ERROR", "sealed": true}]}],
     "resent": "other-key"},
    {"kind": "direct", "chat": 2, "age_s": 4000000, "old": [{"after_ms": 0, "status": 410}],
     "tries": [{"to": "lid", "chat": "lid", "after_ms": 0, "acked": true, "ack_after_ms": 7, "refused": 479, "watched_ms": 30000}]},
    {"kind": "history", "age_s": 4000000, "old": [{"after_ms": 0, "status": 410}],
     "tries": [{"to": "lid", "after_ms": 0, "acked": true, "ack_after_ms": 7, "watched_ms": 30000, "parts_ms": [12000]}]}
  ]
}`

func TestReadRecord(t *testing.T) {
	t.Parallel()
	record, err := wabox.ReadRecord(strings.NewReader(shown))
	if err != nil {
		t.Fatal(err)
	}
	var written bytes.Buffer
	if err = record.Write(&written); err != nil {
		t.Fatal(err)
	}
	again, err := wabox.ReadRecord(&written)
	if err != nil || len(again.Files) != 6 || again.Files[1].Tries[1].Answers[0] != record.Files[1].Tries[1].Answers[0] {
		t.Errorf("read again it is %+v, %v", again, err)
	}
	swap := func(old, with string) string {
		if !strings.Contains(shown, old) {
			t.Fatalf("there is no %s", old)
		}
		return strings.Replace(shown, old, with, 1)
	}
	for name, c := range map[string]struct{ text, want string }{
		"empty":                {"", "this is no record"},
		"no JSON":              {"<html>", "this is no record"},
		"no version":           {`{"files": []}`, "it has no version"},
		"another version":      {`{"version": 2, "what": "ever"}`, "version 2, and this package reads 1"},
		"an unknown field":     {swap(`"has_lid"`, `"key": "secret", "has_lid"`), `unknown field "key"`},
		"another type":         {swap(`"age_s": 5000000`, `"age_s": "old"`), "age_s"},
		"too large":            {shown + strings.Repeat(" ", 1<<20), "more than 1048576 bytes"},
		"what follows":         {shown + `{"version": 1}`, "this is no record"},
		"migrated without":     {swap(`"has_lid": true`, `"has_lid": false`), "has none"},
		"control characters":   {swap(`"android"`, `"\u001b[2J"`), "platform of the record has other characters"},
		"a long text":          {swap(`"android"`, `"`+strings.Repeat("a", 401)+`"`), "platform of the record has 401 bytes"},
		"a question's name":    {swap(`"address-form"`, `"Is it you?"`), "name as questions have it"},
		"an answer's text":     {swap(`"address-form": "lid"`, `"address-form": "\n"`), `the answer "address-form"`},
		"a kind":               {swap(`"kind": "list"`, `"kind": "newsletter"`), `file 4 of the record: kind is "newsletter"`},
		"a number":             {swap(`"chat": 1`, `"chat": -1`), "file 1 of the record: the numbers of chat and sender are -1 and 0"},
		"an own list":          {swap(`"kind": "list"`, `"kind": "list", "from_me": true`), "list of somebody else"},
		"an age":               {swap(`"age_s": 5000000`, `"age_s": 5000000000`), "the age is 5000000000 seconds"},
		"a time of years":      {swap(`"watched_ms": 100000000`, `"watched_ms": 63244800001`), "a time is 63244800001 ms"},
		"no tries":             {`{"version": 1, "files": [{"kind": "direct", "tries": []}]}`, "there are 0 tries"},
		"too many files":       {`{"version": 1, "files": [` + strings.Repeat(`{},`, 200) + `{}]}`, "201 files"},
		"too many statuses":    {swap(`"old": [`, `"old": [`+strings.Repeat(`{"status": 410},`, 200)), "201 statuses"},
		"statuses in disorder": {swap(`"after_ms": 200, "status": 200`, `"after_ms": 864000001, "status": 200`), "not in the order of time"},
		"a status":             {swap(`"status": 404}, {`, `"status": 99}, {`), "a status of the CDN is 99"},
		"a time":               {swap(`"ack_after_ms": 40`, `"ack_after_ms": -1`), "try 1: a time is -1 ms"},
		"a late time":          {swap(`"watched_ms": 30000`, `"watched_ms": 99999999999999`), "a time is 99999999999999 ms"},
		"to":                   {swap(`"to": "lid"`, `"to": "447700900123"`), `to is "447700900123"`},
		"no chat":              {swap(`"chat": "lid"`, `"chat": ""`), `the chat is named by "", in a file of kind direct`},
		"no participant":       {swap(`"participant": "number"`, `"participant": ""`), `the participant is named by "", in a file of kind group`},
		"an ack that is none":  {swap(`"acked": true`, `"acked": false`), "not acknowledged, and has a time"},
		"a refusal":            {swap(`"refused": 479`, `"refused": 4790`), "refused with 4790"},
		"a part of no history": {swap(`"watched_ms": 30000,`, `"watched_ms": 30000, "parts_ms": [1],`), "a part of the history has come for it"},
		"a result":             {swap(`"SUCCESS"`, `"FINE"`), `answer 1 has the result "FINE"`},
		"a path that is none":  {swap(`"result": "NOT_FOUND"`, `"result": "NOT_FOUND", "has_path": true`), "that cannot be"},
		"too many tries":       {swap(`"tries": [`, `"tries": [`+strings.Repeat(`{},`, 16)), "there are 17 tries"},
		"a resent message":     {swap(`"other-key"`, `"a key"`), "resent is"},
		"answers out of order": {swap(`"answers": [`, `"answers": [{"after_ms": 1501, "said_after_ms": 0, "result": "GENERAL_ERROR", "sealed": true}, `), "answer 2 is not in the order"},
	} {
		if _, err := wabox.ReadRecord(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: the error is %v, want one with %q", name, err, c.want)
		}
	}
	record.Files[0].Tries = nil
	if record.Write(&written) == nil {
		t.Error("a record that cannot be read was written")
	}
}

// TestReplay lets the plugin have what the record shows.
func TestReplay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		record, err := wabox.ReadRecord(strings.NewReader(shown))
		if err != nil {
			t.Fatal(err)
		}
		box := wabox.Start(t)
		account := box.NewAccount()
		files, err := account.Replay(record)
		if err != nil {
			t.Fatal(err)
		}
		var synced int
		client := account.Login(t, func(client *whatsmeow.Client) {
			if plugin, err := reupload.Register(client, nil); err != nil {
				t.Error(err)
			} else {
				t.Cleanup(func() { _ = plugin.Close() })
			}
			client.AddEventHandler(func(evt any) {
				if _, ok := evt.(*events.HistorySync); ok {
					synced++
				}
			})
		})
		for _, f := range files {
			if err := f.Deliver(); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second) // the part of the history is asked for meanwhile, and comes after 12 s
		if synced != 0 {
			t.Error("the part of the history has come too early")
		}
		download := func(f *wabox.Replayed) (time.Duration, error) {
			start := time.Now()
			data, err := client.Download(t.Context(), f.Media.Image())
			if err == nil && !bytes.Equal(data, f.Media.Plaintext) {
				t.Errorf("%s is another file", f.Kind)
			}
			return time.Since(start).Round(100 * time.Millisecond), err
		}
		direct, group, lost, list, refused := files[0], files[1], files[2], files[3], files[4]
		if took, err := download(direct); err != nil || took != 1800*time.Millisecond { // after a 404 of the new path
			t.Errorf("the file in a direct chat took %v: %v", took, err)
		}
		if r := account.Requests(); r[len(r)-1].To != account.LID {
			t.Errorf("an account that has migrated was named by %s", r[len(r)-1].To)
		}
		if _, err := download(group); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
			t.Errorf("the file in the group has the cause %v", reupload.Cause(err))
		}
		if took, err := download(lost); !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith404) || !errors.Is(reupload.Cause(err), reupload.ErrNotFound) || took != 200*time.Millisecond {
			t.Errorf("the file that is lost took %v: %v (cause: %v)", took, err, reupload.Cause(err))
		}
		box.Expire(list.Media) // the record does not say how the CDN has answered
		if _, err := download(list); !errors.Is(reupload.Cause(err), reupload.ErrDecryption) {
			t.Errorf("the file in a broadcast list has the cause %v", reupload.Cause(err))
		}
		var rejected *reupload.RejectedError
		if _, err := download(refused); !errors.As(reupload.Cause(err), &rejected) || rejected.Code != 479 {
			t.Errorf("the file that is refused has the cause %v", reupload.Cause(err))
		}
		if synced != 1 {
			t.Errorf("%d parts of the history have come", synced)
		}
		time.Sleep(26 * time.Hour)
		if took, err := download(group); err != nil || took > time.Second {
			t.Errorf("the late answer healed it in %v: %v", took, err)
		}
		asked := account.RequestCount()
		time.Sleep(10 * 24 * time.Hour)
		if _, err := download(direct); err != nil || account.RequestCount() != asked+1 {
			t.Errorf("when its path has died, %d requests bring %v", account.RequestCount()-asked, err)
		}
		heals := slices.Collect(func(yield func(bool) bool) {
			for _, f := range files {
				if !yield(f.Heals) {
					return
				}
			}
		})
		if !slices.Equal(heals, []bool{true, true, false, false, false, true}) {
			t.Errorf("those that heal are %v", heals)
		}
	})
}

// TestReplayOfForms asks in forms that the record has no request in, with a client that names the
// account as the test wants.
func TestReplayOfForms(t *testing.T) {
	t.Parallel()
	record := &wabox.Record{Version: wabox.RecordVersion, HasLID: true, Files: []wabox.RecordedFile{
		{Kind: wabox.KindDirect, Chat: 1, Tries: []wabox.RecordedTry{{Form: wabox.Form{To: wabox.ByNumber, Chat: wabox.ByNumber}, Acked: true}}},
		{Kind: wabox.KindDirect, Chat: 2, Tries: []wabox.RecordedTry{{
			Form: wabox.Form{To: wabox.ByLID, Chat: wabox.ByLID}, Acked: true,
			Answers: []wabox.RecordedAnswer{{After: 100, Result: "SUCCESS", Sealed: true, HasPath: true}},
		}}},
	}}
	synctest.Test(t, func(t *testing.T) {
		box := wabox.Start(t)
		account := box.NewAccount()
		files, err := account.Replay(record)
		if err != nil {
			t.Fatal(err)
		}
		client := account.Login(t, func(client *whatsmeow.Client) {
			plugin, err := reupload.Register(client, nil)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = plugin.Close() })
		})
		f := files[1]
		box.Expire(f.Media)
		if err := f.Deliver(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if _, err := client.Download(t.Context(), f.Media.Image()); err != nil {
			t.Errorf("it did not heal by its LID: %v (cause: %v)", err, reupload.Cause(err))
		}
		var to []string
		for _, r := range account.Requests() {
			to = append(to, r.To.Server)
		}
		if !slices.Equal(to, []string{types.DefaultUserServer, types.HiddenUserServer}) {
			t.Errorf("it was asked for by %v", to)
		}
	})
}

// TestReplayInTurn asks twice in one form, and gets what the record has for the first request and
// the second.
func TestReplayInTurn(t *testing.T) {
	t.Parallel()
	form := wabox.Form{To: wabox.ByNumber, Chat: wabox.ByNumber}
	record := &wabox.Record{Version: wabox.RecordVersion, Files: []wabox.RecordedFile{{Kind: wabox.KindDirect, Chat: 1, Tries: []wabox.RecordedTry{
		{Form: form, Acked: true, Answers: []wabox.RecordedAnswer{{Result: "NOT_FOUND", Sealed: true}}},
		{Form: form, Acked: true, Answers: []wabox.RecordedAnswer{{Result: "SUCCESS", Sealed: true, HasPath: true}}},
	}}}}
	box := newBox(t)
	account := box.NewAccount()
	files, err := account.Replay(record)
	if err != nil {
		t.Fatal(err)
	}
	b := newBot(t, account)
	plugin, err := reupload.Register(b.Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	b.connect(t)
	f := files[0]
	req := reupload.Request{MessageID: f.ID, Chat: f.In.From, MediaKey: f.Media.MediaKey}
	for _, want := range []reupload.Status{reupload.StatusNotFound, reupload.StatusSuccess, reupload.StatusSuccess} {
		if result, err := plugin.RequestReupload(withPatience(t), req); result.Status != want {
			t.Errorf("got %v, %v, want %v", result, err, want)
		}
	}
}

func TestReplayWithoutLID(t *testing.T) {
	t.Parallel()
	account := newBox(t).NewAccount()
	if _, err := account.Replay(&wabox.Record{Version: wabox.RecordVersion}); err != nil {
		t.Fatal(err)
	}
	if b := login(t, account); !b.Store.GetLID().IsEmpty() {
		t.Errorf("the client has the LID %s", b.Store.GetLID())
	}
	if _, err := account.Replay(new(wabox.Record)); err == nil {
		t.Error("a record that is wrong was replayed")
	}
	if _, err := newBox(t).NewPhone().Replay(&wabox.Record{Version: wabox.RecordVersion}); err == nil {
		t.Error("an account without a device was given a record")
	}
}

// TestResend asks for messages again by wrong names, about which the phone is silent, and then by
// the right ones.
func TestResend(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	box.Link(anna, annaLID)
	ask := func(chat, sender types.JID, id types.MessageID) types.MessageID {
		t.Helper()
		sent, err := b.SendPeerMessage(t.Context(), b.BuildUnavailableMessageRequest(chat, sender, id))
		if err != nil {
			t.Fatal(err)
		}
		return sent.ID
	}
	if _, err := b.account.Deliver(wabox.Incoming{FromMe: true}, &waE2E.Message{Conversation: proto.String("a note")}); err != nil {
		t.Fatal(err)
	}
	next[*events.Message](t, b) // which begins the phone's session with the client
	ask(anna, anna, "3EB0AA")   // for a message that the phone is silent about
	own := b.account.PN
	for i, test := range []struct {
		in     wabox.Incoming
		wrong  [][2]types.JID // chat and sender
		chat   types.JID
		sender types.JID
	}{
		{wabox.Incoming{From: anna}, [][2]types.JID{{anna, own}, {anna, {}}, {bert, bert}}, anna, anna},
		{wabox.Incoming{From: anna}, nil, annaLID, annaLID},
		{wabox.Incoming{From: anna, Chat: lids}, [][2]types.JID{{lids, bert}, {anna, anna}, {lids, own}}, lids, annaLID},
		{wabox.Incoming{FromMe: true, Chat: anna}, [][2]types.JID{{anna, anna}}, anna, own},
	} {
		test.in.ID = fmt.Sprint("3EB0A", i)
		now := box.Upload(fmt.Append(nil, "picture ", i), whatsmeow.MediaImage)
		b.account.Resend(test.in, &waE2E.Message{ImageMessage: now.Image()})
		for _, names := range test.wrong {
			ask(names[0], names[1], test.in.ID)
		}
		request := ask(test.chat, test.sender, test.in.ID)
		evt := next[*events.Message](t, b)
		for evt.UnavailableRequestID == "" {
			evt = next[*events.Message](t, b)
		}
		if evt.UnavailableRequestID != request || evt.Info.ID != test.in.ID || !bytes.Equal(evt.Message.GetImageMessage().GetMediaKey(), now.MediaKey) {
			t.Errorf("%d: what has come is %v, and not what %s asked for", i, evt, request)
		}
	}
}

// FuzzReadRecord replays whatever ReadRecord takes.
func FuzzReadRecord(f *testing.F) {
	f.Add([]byte(shown))
	f.Add([]byte(`{"version": 1, "files": [{"kind": "group-status", "from_me": true, "tries": [{"to": "lid", "participant": "lid"}]}]}`))
	f.Add([]byte(`{"version": 1, "files": [{"kind": "history", "tries": [{"to": "number", "acked": true, "answers": [{"result": "UNREADABLE", "sealed": true}]}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		record, err := wabox.ReadRecord(bytes.NewReader(data))
		if err != nil {
			return
		}
		var written bytes.Buffer
		if err = record.Write(&written); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if _, err = wabox.ReadRecord(&written); err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		files, err := newBox(t).NewAccount().Replay(record)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if err := file.Deliver(); err != nil {
				t.Fatal(err)
			}
		}
	})
}
