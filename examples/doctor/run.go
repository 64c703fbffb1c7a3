package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A doctor is one run.
type doctor struct {
	cfg     config
	out     io.Writer
	account *account
	ear     *ear // guards the state
	state   *state
	cdn     *cdn
}

const (
	// silentFiles is after how many silent files in a row the phone counts as off.
	silentFiles = 2
	// looksPerFile is how many old paths are looked at for each file that may be asked for.
	looksPerFile = 5
	// lookPause is between two looks at the CDN.
	lookPause = time.Second
)

// run asks, and tells what was seen. That the context ends is no error: the next run goes on.
func run(ctx context.Context, out io.Writer, cfg config) (err error) {
	d := &doctor{cfg: cfg, out: out}
	if d.state, err = readState(cfg.state); err != nil {
		return err
	}
	d.ear = newEar(d.state)
	d.explain()
	if !cfg.yes {
		answer, ok := d.read(ctx, "Go on? Type yes: ")
		if !ok && ctx.Err() == nil {
			return errors.New("there is no person to answer, and nothing was done; scripts use -yes")
		}
		if answer != "yes" {
			d.say("Nothing was done.")
			return nil
		}
	}
	if d.account, err = openAccount(ctx, cfg, logger{d}, d.ear); err != nil {
		return err
	}
	defer func() {
		d.account.close()
		err = errors.Join(err, d.save())
	}()
	media := cfg.media
	if media == nil {
		media = http.DefaultTransport
	}
	d.cdn = newCDN(d.account, media)
	err = d.examine(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	if ctx.Err() != nil {
		d.say("\nStopped. What was asked for is kept; run it again later to see what has come.")
	}
	return d.finish()
}

// explain says what the run will do, before it does any of it.
func (d *doctor) explain() {
	d.say(strings.TrimLeft(`
This asks your own phone for a few old files, slowly, and writes down what
WhatsApp does. It sends nothing to anybody but your own account. It saves no
file and shows no message.
`, "\n"))
	row := func(name, text string) { d.say("%s", wrap(name, text, 10)) }
	if _, err := os.Stat(d.cfg.db); err != nil {
		row("session", fmt.Sprintf("%s is not there yet: this will be linked as a new device, which the phone will list", d.cfg.db))
	} else {
		row("session", d.cfg.db)
	}
	if n := d.cfg.files; n == 0 {
		row("files", "none: it only looks whether paths are good, and hears what comes")
	} else {
		row("files", fmt.Sprintf("at most %d, one every %v; that takes up to %s", n, d.cfg.pause, span(d.longest())))
		row("phone", "should be on and online; it uploads these files again, which costs it traffic")
		row("names", "an account and each person have a phone number and a LID, which is a hidden number; a request goes by one or the other")
		row("owner", "may see a notice on the phone for each file, such as that something is being synchronised")
	}
	row("bot", "must not run meanwhile; messages that come are left for it")
	row("keeps", fmt.Sprintf("%s: secret, for the next run", d.cfg.state))
	row("shows", fmt.Sprintf("%s: no numbers, names, keys, paths or texts, for a report", d.cfg.record))
	d.say("")
}

// longest is how long the run takes if the phone is silent about every second file.
func (d *doctor) longest() time.Duration {
	return time.Duration(d.cfg.files) * (d.cfg.pause + d.cfg.wait)
}

// read asks the person. It is not ok if no line comes, or the context has ended.
func (d *doctor) read(ctx context.Context, prompt string) (answer string, ok bool) {
	if d.cfg.in == nil {
		return "", false
	}
	fmt.Fprint(d.out, prompt)
	line := make(chan string, 1)
	go func() {
		text, err := d.cfg.in.ReadString('\n')
		if err != nil {
			text = ""
		}
		line <- text
	}()
	select {
	case text := <-line:
		if text == "" {
			d.say("")
		}
		return strings.ToLower(strings.TrimSpace(text)), text != ""
	case <-ctx.Done():
		d.say("")
		return "", false
	}
}

// examine is all that needs the connection.
func (d *doctor) examine(ctx context.Context) error {
	start, isNew := time.Now(), d.account.client.Store.ID == nil
	if isNew {
		d.ear.locked(func() { d.state.Linked = true })
	} else if err := d.loadKeys(ctx); err != nil { // before anything comes
		return err
	}
	if err := d.account.connect(ctx, d.out, d.cfg.phone); err != nil {
		return err
	}
	if err := d.introduce(); err != nil {
		return err
	}
	if isNew {
		d.awaitHistory(ctx)
	}
	var waited int
	d.ear.locked(func() {
		waited = d.ear.heard
		d.ear.queue = false
	})
	if len(d.state.Files) > 0 {
		had := "nothing"
		if waited > 0 {
			had = number(waited, "answer")
		}
		d.step("connected; %s had come meanwhile", had)
		d.tellOfQueue(start)
	} else {
		d.step("connected")
	}
	if err := d.lookAgain(ctx); err != nil {
		return err
	}
	return d.askAll(ctx)
}

// tellOfQueue tells of the answers that WhatsApp has kept for this run.
func (d *doctor) tellOfQueue(start time.Time) {
	var lines []string
	d.ear.locked(func() {
		for i, f := range d.state.Files {
			for _, t := range f.Tries {
				for _, a := range t.Answers {
					if a.Queued && !a.At.Before(start) {
						lines = append(lines, fmt.Sprintf("file %d: %s, given %s after it was asked for, was kept for %s",
							i+1, a.Result, span(a.Said.Sub(t.At.Truncate(time.Second))), span(a.At.Sub(a.Said))))
					}
				}
			}
		}
	})
	for _, line := range lines {
		d.detail("%s", line)
	}
}

// introduce notes what is known of the account. The state must not be that of another one.
func (d *doctor) introduce() (err error) {
	pn, lid := d.account.own()
	device := d.account.client.Store
	d.ear.locked(func() {
		if !d.state.Account.IsEmpty() && d.state.Account != pn {
			err = fmt.Errorf("%s is about another account; name another file with -state", d.cfg.state)
			return
		}
		d.state.Account = pn
		d.state.Runs++
		d.state.Platform = platforms[device.Platform]
		d.state.HasLID, d.state.Migrated = !lid.IsEmpty(), device.LIDMigrationTimestamp > 0 && !lid.IsEmpty()
	})
	return err
}

// platforms are what phones say that they are. Anything else is not repeated.
var platforms = map[string]string{"android": "android", "iphone": "iphone", "ipad": "ipad", "smba": "android business", "smbi": "iphone business"}

// loadKeys gets the keys of the files of earlier runs, whose answers may be waiting.
func (d *doctor) loadKeys(ctx context.Context) error {
	if pn, _ := d.account.own(); !d.state.Account.IsEmpty() && d.state.Account != pn {
		return d.introduce()
	}
	for _, f := range d.state.Files {
		d.ear.keys[f.ID] = keyOf(ctx, d.account, f)
	}
	return nil
}

// awaitHistory waits until nothing of the history has come for a while.
func (d *doctor) awaitHistory(ctx context.Context) {
	d.step("linked; waiting for the history, which has the old files")
	for {
		var before int
		d.ear.locked(func() { before = d.ear.history })
		if !d.ear.until(ctx, d.cfg.quiet, func() bool { return d.ear.history > before }) {
			return
		}
	}
}

// lookAgain looks whether the paths that the phone has told in earlier runs are still good.
func (d *doctor) lookAgain(ctx context.Context) error {
	for i, f := range d.state.Files {
		var told string
		d.ear.locked(func() { told = f.Told })
		if told == "" || ctx.Err() != nil {
			continue
		}
		st, err := d.cdn.look(ctx, told, f.Hash)
		if err != nil {
			d.step("file %d: its new path could not be looked at: %v", i+1, err)
			continue
		}
		d.ear.locked(func() {
			if len(f.New) < 100 {
				f.New = append(f.New, st)
			}
		})
		d.step("file %d: its new path, %s old: %s", i+1, span(st.At.Sub(f.ToldAt)), st.text())
		if !d.pause(ctx, lookPause) {
			break
		}
	}
	return d.save()
}

// pause waits, and reports whether the run goes on.
func (d *doctor) pause(ctx context.Context, pause time.Duration) bool {
	return d.account.await(ctx, nil, pause) == nil
}

// askAll asks for files until it has asked for enough of them.
func (d *doctor) askAll(ctx context.Context) error {
	if d.cfg.files == 0 {
		return nil
	}
	rows, err := choose(ctx, d.account, func(id string) bool { return d.state.find(id) != nil })
	if err != nil {
		return err
	}
	asked, silent, looks := 0, 0, 0
	for _, r := range rows {
		if asked == d.cfg.files || looks == d.cfg.files*looksPerFile {
			break
		}
		f, key := fileOf(ctx, d.account, r)
		if f == nil {
			continue
		}
		looks++
		gone, err := d.isGone(ctx, f)
		if err != nil {
			return err
		}
		if !gone {
			if !d.pause(ctx, lookPause) {
				return d.why(ctx)
			}
			continue
		}
		if asked > 0 && !d.pause(ctx, d.cfg.pause) {
			return d.why(ctx)
		}
		asked++
		answered, err := d.examineFile(ctx, f, key, silent > 0)
		if err != nil || ctx.Err() != nil {
			return err
		}
		if silent++; answered {
			silent = 0
		}
		if silent == silentFiles {
			d.step("the phone is silent, and may be off: that is enough. Run again when it\n          has been on, and later")
			return nil
		}
	}
	if asked == 0 {
		d.step("no file was found that has expired: nothing was asked for")
	}
	return nil
}

// why returns why a pause has ended early.
func (d *doctor) why(ctx context.Context) error {
	select {
	case err := <-d.account.ended:
		return err
	default:
		return ctx.Err()
	}
}

// isGone reports whether a file has expired on the CDN, as far as it has a path.
func (d *doctor) isGone(ctx context.Context, f *file) (bool, error) {
	if f.Path == "" {
		return true, nil
	}
	st, err := d.cdn.look(ctx, f.Path, f.Hash)
	if err != nil {
		return false, err
	}
	d.ear.locked(func() {
		f.Old = append(f.Old, st)
		if st.Status == http.StatusOK {
			d.state.Alive++
		}
	})
	return st.isGone(), nil
}

// examineFile asks for one file, and looks at what has come of it. It reports whether the phone has
// answered. About a silent phone it asks only once.
func (d *doctor) examineFile(ctx context.Context, f *file, key []byte, once bool) (answered bool, err error) {
	var label string
	ofKind, at := 0, 0
	chatOther, senderOther := d.account.otherName(ctx, f.Chat), d.account.otherName(ctx, f.Sender)
	d.ear.locked(func() {
		for _, other := range d.state.Files {
			if other.Kind == f.Kind {
				ofKind++
			}
		}
		d.state.Files = append(d.state.Files, f)
		d.state.know(f.Chat, chatOther)
		d.state.know(f.Sender, senderOther)
		d.ear.keys[f.ID] = key
		at, label = len(d.state.Files), d.label(f)
	})
	d.step("file %d: %s, %s old", at, label, span(time.Since(f.Sent)))
	if len(f.Old) > 0 {
		d.detail("old path: %s", f.Old[0].text())
	}
	for i, n := range d.account.namings(ctx, f, ofKind%2 == 0) {
		if i > 0 && once {
			break
		}
		heard, err := d.ask(ctx, f, key, n)
		if err != nil {
			return false, err
		}
		answered = answered || heard
		var line string
		right := false
		d.ear.locked(func() {
			t := f.Tries[len(f.Tries)-1]
			line = fmt.Sprintf("asked %s: %s", n.text(), d.outcome(t))
			for _, t := range f.Tries {
				right = right || t.isNamedRightly() || t.Refused > 0
			}
		})
		d.detail("%s", line)
		if right || ctx.Err() != nil {
			break
		}
	}
	d.lookAtNew(ctx, f)
	var again bool
	d.ear.locked(func() { again = f.wantsAgain() })
	if again && ctx.Err() == nil {
		resent := d.askAgain(ctx, f, key)
		d.ear.locked(func() { f.Resent = resent })
		d.detail("the whole message, asked for again: %s", orNothing(resent))
	}
	return answered, d.save()
}

func orNothing(resent string) string {
	switch resent {
	case "":
		return "could not be asked for"
	case "nothing":
		return "did not come"
	case "same-key":
		return "came with the same key"
	}
	return "came with another key"
}

// wantsAgain reports whether the phone has said that it cannot decrypt the request, or has sealed
// its answer with another key.
func (f *file) wantsAgain() bool {
	if f.Kind == wabox.KindHistory || f.Resent != "" || f.Told != "" {
		return false
	}
	for _, t := range f.Tries {
		for _, a := range t.Answers {
			if a.Result == wabox.DecryptionError.String() || a.Result == wabox.Unreadable {
				return true
			}
		}
	}
	return false
}

// names are the words for the two names that a person has.
var names = map[string]string{wabox.ByNumber: "number", wabox.ByLID: "LID"}

// text names a form.
func (n naming) text() string {
	text := "by " + names[n.To]
	if n.Chat != "" && n.Chat != n.To {
		text += ", chat by " + names[n.Chat]
	}
	if n.Participant != "" {
		text += ", participant by " + names[n.Participant]
	}
	return text
}

// outcome says what became of a request, and when.
func (d *doctor) outcome(t *try) string {
	var parts []string
	if !t.Ack.IsZero() {
		parts = append(parts, "ack "+span(t.Ack.Sub(t.At)))
	}
	said := describe(t)
	switch {
	case len(t.Parts) > 0:
		said += " after " + span(t.Parts[0].Sub(t.At))
	case len(t.Answers) > 0:
		said += " after " + span(t.Answers[0].At.Sub(t.At))
	case said == "silence":
		said = "silence for " + span(time.Since(t.At))
	}
	return strings.Join(append(parts, said), ", ")
}

// label names a file's chat and sender by their numbers. The state is locked.
func (d *doctor) label(f *file) string {
	switch kind, n := d.state.chatLabel(f); f.Kind {
	case wabox.KindHistory:
		return "part of the history"
	case wabox.KindGroupStatus:
		return fmt.Sprintf("status of %s %d", kind, n)
	case wabox.KindDirect:
		if f.FromMe {
			return fmt.Sprintf("own message to %s %d", kind, n)
		}
		return fmt.Sprintf("message of %s %d", kind, n)
	default:
		if f.FromMe {
			return fmt.Sprintf("own message in %s %d", kind, n)
		}
		return fmt.Sprintf("message of contact %d in %s %d", d.state.number(contactLabel, f.Sender), kind, n)
	}
}

// newPathPauses are between the looks at a path that the phone has just told: the CDN can have it a
// little late.
var newPathPauses = []time.Duration{0, 300 * time.Millisecond, time.Second, 3 * time.Second}

// lookAtNew looks at the path that the phone has told.
func (d *doctor) lookAtNew(ctx context.Context, f *file) {
	var told string
	d.ear.locked(func() { told = f.Told })
	if told == "" {
		return
	}
	for _, pause := range newPathPauses {
		if pause > 0 && !d.pause(ctx, pause) {
			return
		}
		st, err := d.cdn.look(ctx, told, f.Hash)
		if err != nil {
			d.detail("the new path could not be looked at: %v", err)
			return
		}
		d.ear.locked(func() { f.New = append(f.New, st) })
		d.detail("new path after %s: %s", span(st.At.Sub(f.ToldAt)), st.text())
		if st.Status == http.StatusOK {
			same := d.cdn.compare(ctx, told, f.Hash)
			d.ear.locked(func() { f.SameFile = same })
			if same != "" {
				d.detail("it is the same file: %s", same)
			}
			return
		}
	}
}

// save writes what was seen so far. While the client is connected, all is heard.
func (d *doctor) save() (err error) {
	d.ear.locked(func() {
		if d.account.client.IsLoggedIn() {
			d.state.Watched = time.Now()
		}
		err = d.state.write(d.cfg.state)
	})
	if err != nil {
		return fmt.Errorf("what was seen cannot be kept; name another file with -state: %w", err)
	}
	return nil
}

// finish asks the person, and writes the report.
func (d *doctor) finish() error {
	if err := d.askPerson(); err != nil {
		return err
	}
	if err := d.save(); err != nil {
		return err
	}
	var record *wabox.Record
	d.ear.locked(func() { record = d.state.toRecord(versions()) })
	var file bytes.Buffer
	if err := record.Write(&file); err != nil {
		return err
	}
	if err := replaceFile(d.cfg.record, file.Bytes(), 0o644); err != nil {
		return fmt.Errorf("the record cannot be written; name another file with -record: %w", err)
	}
	d.report(record)
	return nil
}

// askPerson asks what the phone has shown, if it was asked for anything in this run.
func (d *doctor) askPerson() error {
	var asked bool
	d.ear.locked(func() {
		for _, t := range d.state.tries() {
			asked = asked || time.Since(t.At) < time.Hour
		}
	})
	if d.cfg.yes || !asked {
		return nil
	}
	// An interrupted run asks too: its context has ended, and the person has not.
	answer, ok := d.read(context.Background(), "\nHas the phone shown a notice while this ran? Type yes, no or unsure: ")
	if !ok {
		return nil
	}
	for _, known := range []string{"yes", "no", "unsure"} {
		if strings.HasPrefix(known, answer) && answer != "" {
			d.ear.locked(func() { d.state.Shown = known })
		}
	}
	return nil
}
