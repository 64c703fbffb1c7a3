package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A world is a stage in a test: its output is kept.
type world struct {
	*stage
	t   *testing.T
	all *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.out.String()
}

// inBubble runs a test in a bubble. At its end, whatsmeow's loop for the history, which waits for
// the next part, has the time to give up.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		t.Cleanup(func() { time.Sleep(10 * time.Minute) })
		test(t)
	})
}

// inWorld runs a test in a bubble, with a bot that has seen what the first function sends.
func inWorld(t *testing.T, before, test func(*world)) {
	inBubble(t, func(t *testing.T) {
		out := new(lockedBuffer)
		w := &world{newStage(wabox.Start(t), t.TempDir(), out), t, out}
		if before != nil {
			if err := w.asBot(w.t.Context(), func() error { before(w); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		test(w)
		if t.Failed() {
			t.Logf("the output was\n%s", out)
		}
	})
}

// must sends a picture.
func (w *world) must(in wabox.Incoming) types.MessageID {
	w.t.Helper()
	id, err := w.send(in)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

// run runs the doctor, and returns its record and what it has printed.
func (w *world) run(ctx context.Context) (*wabox.Record, string) {
	w.t.Helper()
	before := len(w.all.String())
	if err := run(ctx, w.out, w.cfg); err != nil {
		w.t.Fatalf("%v, after\n%s", err, w.all)
	}
	data, err := os.ReadFile(w.cfg.record)
	if err != nil {
		w.t.Fatal(err)
	}
	record, err := wabox.ReadRecord(bytes.NewReader(data))
	if err != nil {
		w.t.Fatal(err)
	}
	return record, w.all.String()[before:]
}

// want compares answers of the report.
func (w *world) want(r *wabox.Record, answers map[string]string) {
	w.t.Helper()
	for name, want := range answers {
		if r.Answers[name] != want {
			w.t.Errorf("the answer to %s is %q, want %q", name, r.Answers[name], want)
		}
	}
}

func fromAnna() wabox.Incoming { return wabox.Incoming{From: anna, Alt: annaLID} }

func TestDemo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		out := new(lockedBuffer)
		if err := demo(t.Context(), out); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"a bot has seen seven old files", "at most 7, one every 500ms", "demo: right: this is how it has to go"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("there is no %q", want)
			}
		}
		if t.Failed() {
			t.Errorf("the story was\n%s", out)
		}
		for line := range strings.Lines(out.String()) {
			// A directory of the machine can be as long as it likes.
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > 80 && !strings.Contains(line, "reupload-doctor-") {
				t.Errorf("a line has %d columns: %s", n, line)
			}
		}
	})
}

var update = flag.Bool("update", false, "write the record that testdata has")

// TestWholeRun has something of all that the doctor asks for. Its record is what the root module's
// tests replay; nothing secret is in it or anywhere that somebody sees.
func TestWholeRun(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		out := new(lockedBuffer)
		w := &world{newStage(wabox.Start(t), t.TempDir(), out), t, out}
		w.cfg.files = 7
		w.box.OnEvent(nil)
		if err := w.play(w.t.Context()); err != nil {
			t.Fatalf("%v, after\n%s", err, out)
		}
		time.Sleep(7 * 24 * time.Hour)
		w.cfg.yes, w.cfg.in = false, bufio.NewReader(strings.NewReader("yes\nno\n"))
		record, _ := w.run(w.t.Context())
		w.want(record, map[string]string{
			"address-form":   "to the number: 2 of 2 recognised; to the LID: 1 of 1 recognised; by numbers in groups: 0 of 2 recognised; by LIDs in groups: 2 of 2 recognised",
			"cdn-status":     "old paths: 6 x 410; new paths: 4 x 200; of 3 compared 3 had the same file", // the fourth was told late
			"new-key":        "the whole message, asked for again: 1 x came with another key",
			"group-status":   "older than a day: 1 x NOT_FOUND",
			"broadcast-list": "by the list 1 of 1 recognised, by the direct chat 0 of 0",
			"notification":   notSeen, // nothing was asked for in this run, and so not the person either
		})
		if !strings.Contains(strings.Join(strings.Fields(out.String()), " "), " runs 3, with 10 requests for 7 files ") {
			t.Errorf("it does not say what it has done:\n%s", out)
		}
		w.judgeSecrets(record)
		block := regexp.MustCompile(`(?s)\n-{10} reupload doctor -{10}\n.+\n-{10} end -{10}\n`)
		if n := len(block.FindAllString(out.String(), -1)); n != 1 {
			t.Errorf("there are %d blocks to copy from the last run in\n%s", n, out)
		}

		record.MadeWith = wabox.MadeWith{}
		var got bytes.Buffer
		if err := record.Write(&got); err != nil {
			t.Fatal(err)
		}
		const golden = "../../testdata/records/box.json"
		if *update {
			if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
				t.Error(err)
			}
		}
		if want, err := os.ReadFile(golden); err != nil || !isSameRecord(got.Bytes(), want) {
			t.Errorf("the record is not %s any more (%v); run this test with -update if that is right. It is\n%s", golden, err, got.Bytes())
		}
	})
}

var duration = regexp.MustCompile(`(_ms": )(\d+)|([\d.]+)( m?s\b)`)

// isSameRecord compares records. The database can make the clock wait for some milliseconds.
func isSameRecord(a, b []byte) bool {
	if !bytes.Equal(duration.ReplaceAll(a, []byte("$1$4")), duration.ReplaceAll(b, []byte("$1$4"))) {
		return false
	}
	milliseconds := func(found [][]byte) float64 {
		n, _ := strconv.ParseFloat(string(found[2])+string(found[3]), 64)
		if string(found[4]) == " s" {
			n *= 1000
		}
		return n
	}
	as, bs := duration.FindAllSubmatch(a, -1), duration.FindAllSubmatch(b, -1)
	for i := range as {
		x, y := milliseconds(as[i]), milliseconds(bs[i])
		most := 20.0
		if string(as[i][4]) == " s" { // a tenth of a second is the last digit
			most = 110
		}
		if max(x-y, y-x) > most {
			return false
		}
	}
	return true
}

// judgeSecrets looks for secrets in all that somebody sees, and for keys in what the doctor keeps.
func (w *world) judgeSecrets(record *wabox.Record) {
	t := w.t
	t.Helper()
	file, err := os.ReadFile(w.cfg.record)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(w.cfg.state)
	if err != nil {
		t.Fatal(err)
	}
	if len(record.Files) == 0 || len(w.sent) == 0 {
		t.Fatal("there is nothing to look at")
	}
	keys := map[string][]byte{}
	shown := map[string]string{"a text": "private", "a name": "Anna"}
	for _, jid := range []types.JID{anna, annaLID, ben, benLID, family, list, w.phone.PN, w.phone.LID} {
		shown["the user "+jid.String()] = jid.User
	}
	for id, media := range w.sent {
		shown["the message id "+id] = id
		shown["the path of "+id] = media.Path()
		keys["the key of "+id], keys["the hash of "+id] = media.MediaKey, media.FileEncSHA256
	}
	for _, asked := range w.box.Asked() {
		shown["the path "+asked.Path] = asked.Path
	}
	for what, key := range keys {
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawURLEncoding} {
			shown[what+" in base64"] = encoding.EncodeToString(key)
		}
		shown[what+" in hex"] = hex.EncodeToString(key)
		shown[what+" as bytes"] = string(key)
	}
	for where, text := range map[string]string{"the output": w.all.String(), "the record": string(file)} {
		for _, leak := range w.box.Leaks([]byte(text)) {
			t.Errorf("%s has %s", where, leak)
		}
	}
	for _, leak := range w.box.Leaks(kept) { // paths are in there
		if !strings.HasPrefix(leak, "the query of a URL") {
			t.Errorf("the state has %s", leak)
		}
	}
	for what, secret := range shown {
		for where, text := range map[string]string{"the output": w.all.String(), "the record": string(file)} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
				t.Errorf("%s has %s", where, what)
			}
		}
		if strings.Contains(what, "the key of") && strings.Contains(string(kept), secret) {
			t.Errorf("the state has %s", what)
		}
	}
	for _, text := range []string{w.all.String(), string(file)} {
		if found := regexp.MustCompile(`oh=|oe=|hash=|@s\.whatsapp|@lid|@g\.us|\+?[0-9]{11,}`).FindAllString(strings.ReplaceAll(text, "v0.0.0-20260821141805", ""), -1); found != nil {
			t.Errorf("there is %q", found)
		}
	}
	for path, mode := range map[string]os.FileMode{w.cfg.state: 0o600, w.cfg.db: 0o600, w.cfg.record: 0o644} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s is %v, %v", filepath.Base(path), info.Mode(), err)
		}
	}
}

func TestStoppedAndRunAgain(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		off := make(chan struct{})
		w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: off}} })
		ctx, cancel := context.WithCancel(w.t.Context())
		time.AfterFunc(10*time.Second, cancel)
		record, output := w.run(ctx)
		if !strings.Contains(output, "Stopped.") || len(record.Files) != 1 || w.phone.RequestCount() != 1 {
			w.t.Errorf("after %d requests there are %d files, and the output is\n%s", w.phone.RequestCount(), len(record.Files), output)
		}
		w.want(record, map[string]string{"offline-queue": notSeen, "server-keeps": notSeen, "path-life": notSeen})

		time.Sleep(3 * time.Hour)
		close(off)
		time.Sleep(5 * time.Hour)
		w.cfg.files = 0
		record, output = w.run(w.t.Context())
		if !strings.Contains(output, "1 answer had come meanwhile") || !strings.Contains(output, "SUCCESS, given 3 h after it was asked for, was kept for 5 h") {
			w.t.Errorf("the output is\n%s", output)
		}
		w.want(record, map[string]string{
			"offline-queue": "yes: 1 had waited, the longest for 5 h",
			"server-keeps":  "the phone has answered after 3 h",
			"address-form":  "to the number: 1 of 1 recognised",
		})
		time.Sleep(7 * 24 * time.Hour)
		record, output = w.run(w.t.Context())
		if !strings.Contains(output, "file 1: its new path, 7 days old: 200") || w.phone.RequestCount() != 1 {
			w.t.Errorf("after %d requests the output is\n%s", w.phone.RequestCount(), output)
		}
		w.want(record, map[string]string{"path-life": "good after 7 days"})
		state, err := readState(w.cfg.state)
		if err != nil {
			w.t.Fatal(err)
		}
		w.box.SetStatus(state.Files[0].Told, http.StatusGone, "")
		time.Sleep(14 * 24 * time.Hour)
		record, _ = w.run(w.t.Context())
		w.want(record, map[string]string{"path-life": "good after 7 days, one 410 after 21 days"})
		if got := record.Files[0]; len(got.Tries) != 1 || len(got.Tries[0].Answers) != 1 || !got.Tries[0].Answers[0].Queued ||
			len(got.New) != 3 || got.New[2].Status != http.StatusGone || got.New[2].After.Duration().Round(time.Hour) != 21*24*time.Hour {
			w.t.Errorf("the record has %+v", got)
		}
	})
}

// TestPhoneThatIsOff is asked for as little as possible.
func TestPhoneThatIsOff(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 5 {
			w.must(fromAnna())
		}
	}, func(w *world) {
		w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
		record, output := w.run(w.t.Context())
		if n := w.phone.RequestCount(); n != 3 || !strings.Contains(output, "the phone is silent, and may be off") {
			w.t.Errorf("after %d requests the output is\n%s", n, output)
		}
		w.want(record, map[string]string{
			"address-form": "to the number: 0 of 1 recognised; to the LID: 0 of 2 recognised",
			"how-many":     "3 requests, at most 3 in an hour: 0 refused, 0 without an ack",
		})
		requests := w.phone.Requests()
		if apart := requests[2].At.Sub(requests[1].At); apart < w.cfg.wait+w.cfg.pause {
			w.t.Errorf("the second file was asked for %v after the first", apart)
		}
		w.cfg.files = 0
		time.Sleep(48 * time.Hour)
		record, _ = w.run(w.t.Context())
		w.want(record, map[string]string{"server-keeps": "one has had no answer after 2 days"})
	})
}

func TestAccountThatAnswersToItsLIDAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.must(fromAnna())
		w.must(fromAnna())
	}, func(w *world) {
		w.phone.Phone(func(r wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, None: r.To.Server == types.DefaultUserServer}}
		})
		record, _ := w.run(w.t.Context())
		w.want(record, map[string]string{"address-form": "to the number: 0 of 1 recognised; to the LID: 2 of 2 recognised"})
		if n := w.phone.RequestCount(); n != 3 {
			w.t.Errorf("there were %d requests", n)
		}
		for _, r := range w.phone.Requests() {
			if r.Wrong != "" || r.Chat.Server != r.To.Server || r.StanzaID != r.ID {
				w.t.Errorf("a request is wrong: %q, to %s, chat %s, sealed for %q", r.Wrong, r.To.Server, r.Chat.Server, r.StanzaID)
			}
		}
	})
}

func TestAccountWithoutLID(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		w := &world{newStage(wabox.Start(t), t.TempDir(), new(lockedBuffer)), t, new(lockedBuffer)}
		w.out = w.all
		w.cfg.newClient = func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
			client, err := w.newClient(device, log)
			if err == nil {
				w.phone.HideLID()
				device.LID = types.EmptyJID
			}
			return client, err
		}
		if err := w.asBot(w.t.Context(), func() error {
			w.must(wabox.Incoming{From: anna})
			w.must(wabox.Incoming{From: anna})
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		record, _ := w.run(w.t.Context())
		if record.HasLID {
			t.Error("the record says that it has a LID")
		}
		w.want(record, map[string]string{"address-form": "to the number: 2 of 2 recognised"})
	})
}

func TestRefusal(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()); w.must(fromAnna()) }, func(w *world) {
		w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Ack: wabox.AckError("479")}} })
		record, output := w.run(w.t.Context())
		w.want(record, map[string]string{"how-many": "2 requests, at most 2 in an hour: 2 refused, 0 without an ack"})
		if !strings.Contains(output, "refused with error 479") || record.Files[0].Tries[0].Refused != 479 {
			w.t.Errorf("the record has %+v, the output is\n%s", record.Files[0], output)
		}
	})
}

// TestDecryption has a phone that cannot decrypt a request, and sends the message again with the
// same key, with another one or not at all. It knows each by the names of its chat and sender.
func TestDecryption(t *testing.T) {
	var first, second types.MessageID
	mine, theirs := wabox.Incoming{FromMe: true, Chat: anna}, wabox.Incoming{Chat: family, From: annaLID, Alt: anna}
	inWorld(t, func(w *world) {
		first, second = w.must(fromAnna()), w.must(fromAnna())
		mine.ID, theirs.ID = w.must(mine), w.must(theirs)
		w.must(fromAnna())
		if _, err := w.phone.Deliver(wabox.Incoming{FromMe: true}, &waE2E.Message{Conversation: proto.String("a private note")}); err != nil {
			w.t.Fatal(err)
		}
	}, func(w *world) {
		code := "3"
		w.phone.Phone(func(r wabox.Request) []wabox.Answer {
			switch r.ID {
			case first, mine.ID, theirs.ID:
				return []wabox.Answer{{ErrorCode: &code}}
			case second:
				return []wabox.Answer{{Result: wabox.Success, WrongKey: true}}
			}
			return []wabox.Answer{{Result: wabox.Success}}
		})
		w.phone.Resend(wabox.Incoming{ID: first, From: anna}, &waE2E.Message{ImageMessage: w.sent[first].Image()})
		for _, in := range []wabox.Incoming{mine, theirs} {
			w.phone.Resend(in, &waE2E.Message{ImageMessage: w.box.Upload([]byte("again"), whatsmeow.MediaImage).Image()})
		}
		record, output := w.run(w.t.Context())
		w.want(record, map[string]string{
			"new-key": "the whole message, asked for again: 1 x came with the same key, 1 x did not come, 2 x came with another key",
		})
		if !strings.Contains(output, "UNREADABLE") {
			w.t.Errorf("the output is\n%s", output)
		}
	})
}

// TestBotHasAskedBefore asks first for a file that the bot could not make the phone understand, and
// not at all for one that the phone has lost.
func TestBotHasAskedBefore(t *testing.T) {
	ids := make(map[types.MessageID]string)
	inWorld(t, func(w *world) {
		ids[w.must(fromAnna())] = "not asked for"
		ids[w.must(fromAnna())] = "unreadable"
		ids[w.must(fromAnna())] = "lost"
	}, func(w *world) {
		a, err := openAccount(w.t.Context(), w.cfg, logger{&doctor{out: w.out}}, bot{func(any) {}})
		if err != nil {
			w.t.Fatal(err)
		}
		own, _ := a.own()
		for id, what := range ids {
			entries, err := entriesOf(w.t.Context(), a, id)
			if err != nil {
				w.t.Fatal(err)
			}
			switch what {
			case "unreadable":
				entries[0].Asked = reupload.Asked{At: time.Now(), Outcome: outcomeDecryption}
			case "lost":
				entries[0].Asked = reupload.Asked{At: time.Now(), Outcome: 2}
			}
			if err = a.index.Put(w.t.Context(), own, entries); err != nil {
				w.t.Fatal(err)
			}
		}
		a.close()
		w.run(w.t.Context())
		var asked []string
		for _, r := range w.phone.Requests() {
			asked = append(asked, ids[r.ID])
		}
		if fmt.Sprint(asked) != "[unreadable not asked for]" {
			w.t.Errorf("it has asked for %q", asked)
		}
	})
}

func TestHistoryPart(t *testing.T) {
	inWorld(t, func(w *world) {
		if _, err := w.sendHistory(); err != nil {
			w.t.Fatal(err)
		}
	}, func(w *world) {
		w.phone.Phone(func(r wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, Delay: 20 * time.Second}}
		})
		record, _ := w.run(w.t.Context())
		w.want(record, map[string]string{"history-part": "1 of 1 have come, after 20.0 s"})
		if got := record.Files[0]; got.Kind != wabox.KindHistory || len(got.Tries) != 1 || len(got.Tries[0].Parts) != 1 {
			w.t.Errorf("the record has %+v", got)
		}
		if r := w.phone.Requests()[0]; r.Category != "peer" || r.Wrong != "" {
			w.t.Errorf("the request was %s, %s", r.Node, r.Wrong)
		}
	})
}

// TestFilesThatAreThere are not asked for.
func TestFilesThatAreThere(t *testing.T) {
	inWorld(t, func(w *world) {
		for range 3 {
			id := w.must(fromAnna())
			w.box.SetStatus(w.sent[id].DirectPath, 0, "")
		}
	}, func(w *world) {
		record, output := w.run(w.t.Context())
		if w.phone.RequestCount() != 0 || len(record.Files) != 0 || !strings.Contains(output, "no file was found that has expired") {
			w.t.Errorf("after %d requests the output is\n%s", w.phone.RequestCount(), output)
		}
		w.want(record, map[string]string{"cdn-status": "old paths: 3 x 200, and not asked for; new paths: none"})
	})
}

// TestLooksAreFew has many such files, and looks at five for each that it may ask for.
func TestLooksAreFew(t *testing.T) {
	inWorld(t, func(w *world) {
		w.cfg.files = 1
		for range 7 {
			id := w.must(fromAnna())
			w.box.SetStatus(w.sent[id].DirectPath, 0, "")
		}
	}, func(w *world) {
		record, _ := w.run(w.t.Context())
		w.want(record, map[string]string{"cdn-status": "old paths: 5 x 200, and not asked for; new paths: none"})
	})
}

func TestPersonIsAsked(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		w.cfg.yes = false
		for _, answers := range []string{"no\n", "\n", "", "y\n"} {
			w.cfg.in = bufio.NewReader(strings.NewReader(answers))
			if err := run(w.t.Context(), w.out, w.cfg); (err != nil) != (answers == "") {
				w.t.Errorf("the answer %q gives %v", answers, err)
			}
		}
		if w.phone.RequestCount() != 0 || w.phone.Logins() != 1 {
			w.t.Error("it went on without a yes")
		}
		if _, err := os.Stat(w.cfg.state); err == nil {
			w.t.Error("it has written something")
		}
		w.cfg.in = bufio.NewReader(strings.NewReader("yes\nwhat?\n"))
		record, output := w.run(w.t.Context())
		w.want(record, map[string]string{"notification": notSeen})
		// It has said first what it will do.
		said, _, asked := strings.Cut(output, "Go on? Type yes: ")
		for _, want := range []string{
			w.cfg.db, "at most 5, one every 30s; that takes up to 5 min", "should be on and online", "may see a notice", "must not run meanwhile",
			w.cfg.state + ": secret", w.cfg.record + ": no numbers",
		} {
			if !asked || !strings.Contains(strings.Join(strings.Fields(said), " "), want) {
				w.t.Errorf("before it asked, it did not say %q:\n%s", want, said)
			}
		}
		w.cfg.files = 0
		w.cfg.in = bufio.NewReader(strings.NewReader("yes\nuns\n"))
		record, output = w.run(w.t.Context())
		w.want(record, map[string]string{"notification": "unsure, on android"})
		if !strings.Contains(output, "none: it only looks whether paths are good") {
			w.t.Errorf("it does not say that it asks for nothing:\n%s", output)
		}
		if !strings.Contains(output, "Has the phone shown a notice") || w.phone.RequestCount() != 1 {
			w.t.Errorf("after %d requests the output is\n%s", w.phone.RequestCount(), output)
		}
		w.cfg.yes, w.cfg.in = true, bufio.NewReader(strings.NewReader("yes\nyes\n"))
		if _, output = w.run(w.t.Context()); strings.Contains(output, "Go on?") || strings.Contains(output, "Has the phone shown") {
			w.t.Errorf("with -yes it asks all the same:\n%s", output)
		}
	})
}

// TestBotMissesNothing: what comes while the doctor is there comes to the bot, a message and the
// answer to a request of the bot's.
func TestBotMissesNothing(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		var part *wabox.HistoryPart // which the bot is to download, and not the doctor
		time.AfterFunc(5*time.Second, func() {
			_, _ = w.phone.Deliver(fromAnna(), &waE2E.Message{Conversation: proto.String("a private question")})
			part, _ = w.sendHistory()
		})
		w.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, Delay: 10 * time.Second}}
		})
		w.box.OnEvent(func(evt wabox.Event) {
			if evt.What == wabox.NodeIn && evt.Node.Tag == "receipt" && evt.Node.Attrs["type"] == "hist_sync" {
				w.t.Error("it says that the bot has the history")
			}
		})
		w.run(w.t.Context())
		w.box.OnEvent(nil)
		if part == nil || w.box.Hits(part.Media.DirectPath) != 0 {
			w.t.Error("it has downloaded the bot's history")
		}
		var got []string
		a, err := openAccount(w.t.Context(), w.cfg, logger{&doctor{out: w.out}}, bot{func(evt any) {
			if evt, ok := evt.(*events.Message); ok {
				got = append(got, evt.Message.GetConversation())
			}
		}})
		if err != nil {
			w.t.Fatal(err)
		}
		defer a.close()
		if err := a.connect(w.t.Context(), w.out, ""); err != nil {
			w.t.Fatal(err)
		}
		synctest.Wait()
		if fmt.Sprint(got) != "[a private question]" {
			w.t.Errorf("the bot has got %q", got)
		}
		for _, r := range w.phone.Requests() {
			entries, err := entriesOf(w.t.Context(), a, r.ID)
			if err != nil || len(entries) != 1 || entries[0].DirectPath == "" {
				w.t.Errorf("the bot's index has %v, %v", entries, err)
			}
		}
	})
}

func TestAnotherAccount(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		w.run(w.t.Context())
		w.cfg.db += ".other"
		if err := w.asBot(w.t.Context(), func() error { w.count = 0; return nil }); err != nil {
			w.t.Fatal(err)
		}
		if err := run(w.t.Context(), w.out, w.cfg); err == nil || !strings.Contains(err.Error(), "is about another account") {
			w.t.Errorf("got %v", err)
		}
	})
}

// TestLinks links the doctor by QR code, or by a code that is typed. It then has the files of the
// history.
func TestLinks(t *testing.T) {
	typed := regexp.MustCompile(`(?m)^ +[0-9A-Z]{4}-[0-9A-Z]{4}$`)
	for _, byCode := range []bool{false, true} {
		t.Run(fmt.Sprintf("by a code that is typed: %t", byCode), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				out := new(lockedBuffer)
				w := &world{newStage(wabox.Start(t), t.TempDir(), out), t, out}
				w.phone = w.box.NewPhone()
				prompt := "Scan this on your phone"
				if byCode {
					w.cfg.phone, prompt = "+"+w.phone.PN.User, "Type this on your phone"
				}
				link := func(code string) {
					var err error
					if byCode {
						for typed.FindString(out.String()) == "" && t.Context().Err() == nil {
							time.Sleep(100 * time.Millisecond)
						}
						err = w.phone.EnterCode(t.Context(), strings.TrimSpace(typed.FindString(out.String())))
					} else {
						err = w.phone.Scan(t.Context(), code)
					}
					if err != nil {
						t.Error(err)
					}
				}
				var once sync.Once
				w.cfg.newClient = func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
					client := whatsmeow.NewClient(device, log)
					w.phone.Configure(client)
					client.AddEventHandler(func(evt any) {
						switch evt := evt.(type) {
						case *events.QR:
							once.Do(func() { go link(evt.Codes[0]) })
						case *events.PairSuccess:
							time.AfterFunc(3*time.Second, func() {
								for range 2 {
									w.must(fromAnna())
								}
								w.sendHistory()
							})
						}
					})
					return client, nil
				}
				w.cfg.files = 2
				record, output := w.run(w.t.Context())
				if !strings.Contains(output, prompt) || !strings.Contains(output, "waiting for the history") || len(record.Files) != 2 {
					t.Errorf("the record has %d files, and the output is\n%s", len(record.Files), output)
				}
				if !strings.Contains(output, "will be linked as a new device") {
					t.Error("it does not say that it will be linked")
				}
			})
		})
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                 "",
		"-files 20":        "",
		"-files 21":        "-files is 21; it goes from 0 to 20",
		"-files -1":        "it goes from 0 to 20",
		"-pause 1s":        "-pause is 1s; it must be 5s or more",
		"-wait 1s":         "-wait is 1s; it must be 10s or more",
		"bot.db":           `"bot.db" is no flag`,
		"-demo -yes":       "",
		"-record x -db y":  "",
		"-what":            "not defined",
		"-pause 5s -wait ": "flag needs an argument",
	} {
		_, _, err := configOf(strings.Fields(args), new(bytes.Buffer))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q gives %v, want %q", args, err, want)
		}
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7, 200}, 16))
	for line, want := range map[string]string{
		"failed to get https://mmg.whatsapp.net/v/t62.7118-24/1_2_n.enc?oh=01_Q5&oe=6A: 410": "failed to get https://mmg.whatsapp.net/... 410",
		"message 3EB0C0FFEE00112233AA from 447700900123:12@s.whatsapp.net":                   "message (key) from (address)",
		"call +447700900123, or 200000000000123@lid":                                         "call (number), or (address)",
		"the key " + key + " is wrong":                                                       "the key (key) is wrong",
		"context canceled":                                                                   "context canceled",
	} {
		if got := redact(line); got != want {
			t.Errorf("%q becomes %q, want %q", line, got, want)
		}
	}
}

// TestLateAnswers has a phone that was off while a file was asked for by both names, and answers
// both requests, twice each. Each answer is booked once, on its own request.
func TestLateAnswers(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		off := make(chan struct{})
		w.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, Hold: off, Repeat: 1}}
		})
		w.run(w.t.Context())
		time.Sleep(time.Hour)
		close(off)
		time.Sleep(time.Hour)
		w.cfg.files = 0
		record, output := w.run(w.t.Context())
		if tries := record.Files[0].Tries; len(tries) != 2 || len(tries[0].Answers) != 1 || len(tries[1].Answers) != 1 {
			w.t.Errorf("the record has %+v", tries)
		}
		if !strings.Contains(output, "2 answers had come meanwhile") {
			w.t.Errorf("the output is\n%s", output)
		}
		w.want(record, map[string]string{"offline-queue": "yes: 2 had waited, the longest for 1 h"})
	})
}

// TestForgottenKey: an answer that nothing can open says nothing of the phone.
func TestForgottenKey(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		off := make(chan struct{})
		w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: off}} })
		w.run(w.t.Context())
		close(off)
		time.Sleep(time.Minute)
		db, err := openDB(w.cfg.db)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, err = db.Exec(`DELETE FROM reupload_media`); err != nil {
			w.t.Error(err)
		}
		if err = db.Close(); err != nil {
			w.t.Error(err)
		}
		record, _ := w.run(w.t.Context())
		for _, try := range record.Files[0].Tries {
			if len(try.Answers) > 0 {
				w.t.Errorf("the record has %+v", try)
			}
		}
	})
}

// TestPathToAnotherHost is not looked at.
func TestPathToAnotherHost(t *testing.T) {
	for _, path := range []string{"@other.example/v/t62", "//other.example/v/t62", "x"} {
		t.Run(path, func(t *testing.T) {
			inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
				w.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, DirectPath: path}} })
				record, _ := w.run(w.t.Context())
				if f := record.Files[0]; f.Tries[0].Answers[0].HasPath || len(f.New) > 0 {
					w.t.Errorf("the record has %+v", f)
				}
				for _, asked := range w.box.Asked() {
					if !strings.HasSuffix(asked.Host, ".whatsapp.net") {
						w.t.Errorf("%s was asked", asked.Host)
					}
				}
			})
		})
	}
}

// TestWhatTheCDNSays has a path that says that it has expired, and a new one with a spoilt file.
func TestWhatTheCDNSays(t *testing.T) {
	inWorld(t, func(w *world) { w.must(fromAnna()) }, func(w *world) {
		w.phone.Phone(func(r wabox.Request) []wabox.Answer {
			media := w.sent[r.ID]
			path := w.box.Reupload(media)
			w.box.Corrupt(path)
			return []wabox.Answer{{Result: wabox.Success, DirectPath: path}}
		})
		for _, media := range w.sent {
			w.box.SetStatus(media.DirectPath, http.StatusForbidden, "URL signature expired")
		}
		record, output := w.run(w.t.Context())
		w.want(record, map[string]string{"cdn-status": "old paths: 1 x 403 (says expired); new paths: 1 x 200; of 1 compared 0 had the same file"})
		if !strings.Contains(output, "it is the same file: no") || !record.Files[0].Old[0].SaysExpired {
			w.t.Errorf("the record has %+v, and the output is\n%s", record.Files[0], output)
		}
	})
}

// TestNotAskedFor has files for which no phone is to be asked.
func TestNotAskedFor(t *testing.T) {
	inWorld(t, func(w *world) {
		for _, in := range []wabox.Incoming{
			{Chat: types.StatusBroadcastJID, From: anna}, // gone after a day
			{Chat: list, FromMe: true},
		} {
			w.must(in)
		}
		status := wabox.Incoming{Chat: family, From: annaLID, Alt: anna, Timestamp: time.Now()}
		if _, err := w.send(status, asGroupStatus); err != nil {
			w.t.Fatal(err)
		}
	}, func(w *world) {
		w.run(w.t.Context())
		if n := w.phone.RequestCount(); n != 0 {
			w.t.Errorf("the phone was asked %d times", n)
		}
		time.Sleep(26 * time.Hour)
		record, _ := w.run(w.t.Context())
		w.want(record, map[string]string{"group-status": "older than a day: 1 x SUCCESS"})
	})
}

func TestStateOfAnotherVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{`{"Version": 2}`: "it has version 2", "{": "cannot be read"} {
		path := filepath.Join(t.TempDir(), "doctor.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readState(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s gives %v", text, err)
		}
	}
}
