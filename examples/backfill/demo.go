package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The demo runs the backfill, unchanged, as processes of their own, with a WhatsApp that is in this
// one. It kills the first of them.

const (
	demoTime = 5 * time.Minute // bounds the whole demo
	// demoVariable is the environment variable by which a process learns that it is the demo's.
	demoVariable = "BACKFILL_DEMO"
)

// A scale is how large the demo is.
type scale struct {
	files   int
	timeout time.Duration // how long the backfill waits for the phone
}

var demoScale = scale{2000, time.Second}

// A fate is what has become of a file in the meantime.
type fate int

const (
	alive     fate = iota // WhatsApp's servers still have it
	moved                 // only under the path of another message, to which it was forwarded
	expired               // only the phone has it
	answered              // the same, and the phone takes longer than it is waited for
	forgotten             // nor does the phone
)

// fateOf spreads the fates over the files.
func fateOf(i int) fate {
	switch i % 100 {
	case 7, 57:
		return moved
	case 3, 13, 23, 33, 43, 53, 63, 73, 83, 93, 8, 18, 28, 38, 48, 58, 68, 78, 88, 98:
		return expired
	case 91:
		return answered
	case 5, 15, 25, 35, 45, 55, 65, 75, 85, 95:
		return forgotten
	}
	return alive
}

// A demoFile is a file of the demo, and where it belongs.
type demoFile struct {
	*wabox.Media
	id   types.MessageID
	fate fate
}

// A stage is the world around the backfill: a WhatsApp with the user's phone, and ten chats.
type stage struct {
	box     *wabox.Box
	account *wabox.Account
	dir     string
	out     io.Writer
	scale   scale
	files   []demoFile
	byID    map[types.MessageID]demoFile
	told    map[string]int               // how often it was said that a file was saved, by its path
	older   []*waHistorySync.HistorySync // what the phone sends only when it is asked

	mu    sync.Mutex
	off   chan struct{} // the phone is off until it is closed; nil if it is on
	goOff int           // the number of requests at which the phone goes off
}

// demo runs the whole of it, in a directory that is new or empty, and then stays; or in one that
// goes, if it has no name. The error tells what went other than it has to.
func demo(ctx context.Context, out io.Writer, dir string) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTime, fmt.Errorf("the demo was not through after %v", demoTime))
	defer cancel()
	stays := dir != ""
	if !stays {
		if dir, err = os.MkdirTemp("", "reupload-backfill-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	} else if dir, err = emptyDirectory(dir); err != nil {
		return fmt.Errorf("the demo needs an empty directory; name another one with -dir: %w", err)
	}
	box, err := wabox.New(wabox.Sockets())
	if err != nil {
		return err
	}
	defer box.Close()
	if err = demoIn(ctx, out, dir, box, demoScale); err == nil && stays {
		fmt.Fprintf(out, "\nLook at them: %s\n", filepath.Join(dir, "media", reportFolder, "index.html"))
	}
	return err
}

// emptyDirectory makes a directory unless it is there, and returns its absolute name.
func emptyDirectory(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(dir)
	if err == nil && len(entries) > 0 {
		err = fmt.Errorf("%s has something in it", dir)
	}
	if err != nil {
		return "", err
	}
	return filepath.Abs(dir)
}

func demoIn(ctx context.Context, out io.Writer, dir string, box *wabox.Box, of scale) error {
	box.RecordAsked(false)
	s := &stage{box: box, dir: dir, out: out, scale: of, byID: make(map[types.MessageID]demoFile), told: make(map[string]int)}
	if err := s.play(ctx); err != nil {
		s.say("WRONG: %v", err)
		return err
	}
	s.say("right: nothing is there twice, and nothing is lost")
	return nil
}

func (s *stage) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "demo  %s\n", redact(fmt.Sprintf(format, args...)))
}

func (s *stage) play(ctx context.Context) error {
	if err := s.link(ctx); err != nil {
		return err
	}
	s.say("an account with %s in ten chats, of which WhatsApp's servers have forgotten a third", number(s.scale.files, "file"))
	if err := s.deliver(); err != nil {
		return err
	}
	s.account.Phone(s.answer)
	go s.sendOlder(ctx)

	killAfter := s.scale.files * 35 / 100
	s.say("the first run: it will be killed after %s", number(killAfter, "file"))
	if _, err := s.run(ctx, killAfter); err != nil {
		return err
	}
	before, err := s.saved()
	if err != nil {
		return err
	}
	hits := s.hits()
	s.say("killed, as by kill -9; %s are there, all of them whole", number(len(before), "file"))
	if err = s.judgeFiles(before, false); err != nil {
		return fmt.Errorf("after the kill: %w", err)
	}

	s.mu.Lock()
	s.goOff = s.account.RequestCount() + s.scale.files*7/100
	s.mu.Unlock()
	s.say("the second run: it goes on; the phone will be off for a while in the middle of it")
	if _, err = s.run(ctx, 0); err != nil {
		return err
	}
	s.say("the third run, with -retry failed: what the phone has said meanwhile of files that it does not have")
	last, err := s.run(ctx, 0, "-retry", "failed")
	if err != nil {
		return err
	}
	s.show(last)
	after, err := s.saved()
	if err != nil {
		return err
	}
	return errors.Join(s.judgeFiles(after, true), s.judgeCounts(last), s.judgeRequests(), s.judgeDownloads(before, hits), s.judgeReport())
}

// link links the backfill to the account before it is started: the session is in its database.
func (s *stage) link(ctx context.Context) error {
	db, err := openDB(filepath.Join(s.dir, "backfill.db"))
	if err != nil {
		return err
	}
	defer db.Close()
	sessions := sqlstore.NewWithDB(db, dialect, nil)
	if err = sessions.Upgrade(ctx); err != nil {
		return err
	}
	device := sessions.NewDevice()
	s.account = s.box.Pair(device)
	if err = device.Save(ctx); err != nil {
		return err
	}
	return device.LIDs.PutLIDMapping(ctx, s.account.LID, s.account.PN)
}

// A demoChat is a chat of the demo.
type demoChat struct {
	jid     types.JID
	pn      *string // of a chat whose address is a LID
	name    string
	members []types.JID
}

func (s *stage) chats() (chats []demoChat) {
	anna, ben := types.NewJID("447700900101", types.DefaultUserServer), types.NewJID("447700900102", types.DefaultUserServer)
	for i, name := range []string{"Anna", "Ben: work/home", "Carla", "Dürer & Söhne", ""} {
		chats = append(chats, demoChat{jid: types.NewJID(fmt.Sprintf("4477009001%02d", i+1), types.DefaultUserServer), name: name})
	}
	dora := types.NewJID("200000000000106", types.HiddenUserServer)
	number := types.NewJID("447700900106", types.DefaultUserServer)
	s.box.Link(number, dora)
	chats = append(chats, demoChat{jid: dora, pn: proto.String(number.String()), name: "Dora"})
	for i, name := range []string{"Family 🏖", "Choir", "Neighbours", "Class of 2009"} {
		group := types.NewJID(fmt.Sprintf("12036304023799050%d", i), types.GroupServer)
		s.account.Group(group, types.AddressingModePN, anna, ben)
		chats = append(chats, demoChat{jid: group, name: name, members: []types.JID{anna, ben}})
	}
	return chats
}

// deliver puts all files on WhatsApp's servers, lets a part of them expire, and sends the history.
// The last messages of the first chat come only when the phone is asked for them.
func (s *stage) deliver() error {
	const parts = 5
	chats := s.chats()
	conversations := make([][]*waHistorySync.HistorySyncMsg, len(chats))
	for i := range s.scale.files {
		f, msg := s.file(i)
		c := (i + i/len(chats)) % len(chats)
		conversations[c] = append(conversations[c], s.message(f.id, chats[c], i, msg))
		if f.fate == moved { // forwarded to another chat, under a path that lives
			forwarded := proto.CloneOf(msg)
			forwarded.ImageMessage.DirectPath = proto.String(s.box.Reupload(f.Media))
			c = (c + parts) % len(chats) // which comes in the same part of the history
			conversations[c] = append(conversations[c], s.message(f.id+"F", chats[c], i+1, forwarded))
		}
		s.files, s.byID[f.id] = append(s.files, f), f
	}
	for part := range parts {
		var sync []*waHistorySync.Conversation
		for c := part; c < len(chats); c += parts {
			messages, more := conversations[c], waHistorySync.Conversation_COMPLETE_AND_NO_MORE_MESSAGE_REMAIN_ON_PRIMARY
			if c == 0 {
				more = waHistorySync.Conversation_COMPLETE_BUT_MORE_MESSAGES_REMAIN_ON_PRIMARY
				s.keepBack(chats[c], messages[len(messages)*7/10:])
				messages = messages[:len(messages)*7/10]
			}
			sync = append(sync, conversation(chats[c], more, messages))
		}
		err := s.account.DeliverHistory(&waHistorySync.HistorySync{
			SyncType: waHistorySync.HistorySync_FULL.Enum(), ChunkOrder: proto.Uint32(uint32(part)), Progress: proto.Uint32(uint32(100 * (part + 1) / parts)),
			Conversations: sync,
		})
		if err != nil {
			return err
		}
	}
	for _, f := range s.files {
		if f.fate == forgotten {
			s.account.Forget(f.id)
		}
	}
	return nil
}

func conversation(c demoChat, more waHistorySync.Conversation_EndOfHistoryTransferType, messages []*waHistorySync.HistorySyncMsg) *waHistorySync.Conversation {
	return &waHistorySync.Conversation{
		ID: proto.String(c.jid.String()), PnJID: c.pn, Name: proto.String(c.name), EndOfHistoryTransferType: more.Enum(), Messages: messages,
	}
}

// keepBack prepares what the phone sends when it is asked: 50 messages, and the rest.
func (s *stage) keepBack(c demoChat, messages []*waHistorySync.HistorySyncMsg) {
	for batch := range slices.Chunk(messages, olderCount) {
		more := waHistorySync.Conversation_COMPLETE_ON_DEMAND_SYNC_BUT_MORE_MSG_REMAIN_ON_PRIMARY
		if len(batch) < olderCount {
			more = waHistorySync.Conversation_COMPLETE_AND_NO_MORE_MESSAGE_REMAIN_ON_PRIMARY
		}
		s.older = append(s.older, &waHistorySync.HistorySync{
			SyncType: waHistorySync.HistorySync_ON_DEMAND.Enum(), Conversations: []*waHistorySync.Conversation{conversation(c, more, batch)},
		})
	}
}

// sendOlder sends older messages when it is asked: a message to the own phone is such a request.
func (s *stage) sendOlder(ctx context.Context) {
	asked := make(chan struct{}, 100)
	s.box.OnEvent(func(e wabox.Event) {
		if e.What == wabox.NodeIn && e.Node.Tag == "message" && e.Node.Attrs["category"] == "peer" {
			asked <- struct{}{}
		}
	})
	for _, history := range s.older {
		select {
		case <-asked:
		case <-ctx.Done():
			return
		}
		s.say("the phone is asked for older messages of a chat, and sends %d", len(history.Conversations[0].Messages))
		if err := s.account.DeliverHistory(history); err != nil {
			s.say("WRONG: %v", err)
		}
	}
}

// file makes a file, and the message that has it.
func (s *stage) file(i int) (demoFile, *waE2E.Message) {
	f := demoFile{id: fmt.Sprintf("3EB0%08X", i), fate: fateOf(i)}
	msg := new(waE2E.Message)
	switch {
	case i%50 == 1:
		f.Media = s.box.Upload(fmt.Appendf(nil, "the minutes of meeting %d\n", i), whatsmeow.MediaDocument)
		msg.DocumentMessage = f.Document()
		msg.DocumentMessage.FileName, msg.DocumentMessage.Mimetype = proto.String(fmt.Sprintf("minutes #%d.txt", i)), proto.String("text/plain")
	case i%50 == 2:
		f.Media = s.box.Upload(fmt.Appendf(nil, "OggS, or nearly: %d\n", i), whatsmeow.MediaAudio)
		msg.AudioMessage = f.Audio()
		msg.AudioMessage.Mimetype = proto.String("audio/ogg; codecs=opus")
	default:
		f.Media = s.box.Upload(draw(i), whatsmeow.MediaImage)
		msg.ImageMessage = f.Image()
		msg.ImageMessage.Mimetype = proto.String("image/png")
	}
	if f.fate != alive {
		s.box.Expire(f.Media)
	}
	return f, msg
}

// message wraps a message as a history has it: the higher its number, the older it is.
func (s *stage) message(id types.MessageID, c demoChat, i int, msg *waE2E.Message) *waHistorySync.HistorySyncMsg {
	web := &waWeb.WebMessageInfo{
		Key:              &waCommon.MessageKey{ID: &id, RemoteJID: proto.String(c.jid.String()), FromMe: proto.Bool(false)},
		Message:          msg,
		MessageTimestamp: proto.Uint64(uint64(time.Now().Add(-time.Duration(i) * 8 * time.Hour).Unix())),
	}
	if len(c.members) > 0 {
		web.Participant = proto.String(c.members[i%len(c.members)].String())
	}
	return &waHistorySync.HistorySyncMsg{Message: web}
}

// draw makes a small picture, another one for each number.
func draw(i int) []byte {
	const size = 48
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for x := range size {
		for y := range size {
			dx, dy := x-i%size, y-i/size
			ring := uint8((dx*dx + dy*dy) / 12)
			img.Set(x, y, color.RGBA{uint8(i*37) ^ ring, uint8(i*11) + ring/2, uint8(80+i*7) - ring/3, 255})
		}
	}
	var file bytes.Buffer
	_ = png.Encode(&file, img) // which a buffer does not let fail
	return file.Bytes()
}

// answer is what the phone does about a request.
func (s *stage) answer(r wabox.Request) []wabox.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.goOff > 0 && s.account.RequestCount() >= s.goOff && s.off == nil {
		off := make(chan struct{})
		s.off, s.goOff = off, 0
		fmt.Fprintln(s.out, "demo  the phone goes off")
		time.AfterFunc(3*s.scale.timeout, func() {
			s.say("the phone is on again, and answers what it was asked meanwhile")
			close(off)
			s.mu.Lock()
			s.off = nil
			s.mu.Unlock()
		})
	}
	a := wabox.Answer{Result: wabox.Success}
	switch s.byID[r.ID].fate {
	case forgotten:
		a.Result = wabox.NotFound
	case answered:
		a.Delay = 3 * s.scale.timeout / 2
	}
	if s.off != nil {
		a.Hold = s.off
	}
	return []wabox.Answer{a}
}

// A demoRun is what a process of the demo needs to know.
type demoRun struct {
	Invitation string
	Timeout    time.Duration
}

// run runs the backfill as a process, to its end or until it has saved so many files: then it is
// killed. It returns the counts of its summary.
func (s *stage) run(ctx context.Context, killAfter int, args ...string) (last []counted, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	settings, err := json.Marshal(demoRun{s.box.Invitation(), s.scale.timeout})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	backfill := exec.CommandContext(ctx, self, append([]string{
		"-db", filepath.Join(s.dir, "backfill.db"), "-dir", filepath.Join(s.dir, "media"), "-json", "-quiet", (3 * s.scale.timeout).String(), "-pace", "1ms", "-per-day", "0",
	}, args...)...)
	backfill.Env = append(os.Environ(), demoVariable+"="+string(settings))
	backfill.Stderr = s.out
	events, err := backfill.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err = backfill.Start(); err != nil {
		return nil, err
	}
	saved := 0
	for lines := bufio.NewScanner(events); lines.Scan(); {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			cancel()
			_ = backfill.Wait()
			return nil, fmt.Errorf("an event is no JSON: %q", lines.Text())
		}
		switch {
		case e.Event == "summary":
			last = e.Counts
		case e.Event == "file" && e.State == stateSaved:
			if s.told[e.File]++; s.told[e.File] > 1 {
				s.say("saved twice: %s", e.File)
			}
			if saved++; len(s.told)%500 == 0 {
				s.say("%s saved", number(len(s.told), "file"))
			}
		}
		if killAfter > 0 && saved == killAfter {
			_ = backfill.Process.Kill()
		}
	}
	err = backfill.Wait()
	switch {
	case killAfter > 0 && saved >= killAfter:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("the backfill has failed: %w", err)
	case last == nil:
		return nil, errors.New("the backfill has ended without a summary")
	}
	return last, nil
}

// runOfDemo is a process that the demo has started.
func runOfDemo(ctx context.Context, cfg config, settings string) error {
	var d demoRun
	if err := json.Unmarshal([]byte(settings), &d); err != nil {
		return err
	}
	remote, err := wabox.Join(d.Invitation)
	if err != nil {
		return err
	}
	cfg.timeout = d.Timeout
	cfg.newClient = func(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
		client := whatsmeow.NewClient(device, log)
		remote.Configure(client)
		return client, nil
	}
	return run(ctx, os.Stdout, os.Stderr, cfg)
}

// saved returns the content of each file that is there, by its path.
func (s *stage) saved() (map[string]string, error) {
	files := make(map[string]string)
	root := filepath.Join(s.dir, "media")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Base(filepath.Dir(path)) == reportFolder || leftover.MatchString(entry.Name()) {
			return err
		}
		data, err := os.ReadFile(path)
		files[path] = string(data)
		return err
	})
	return files, err
}

// judgeFiles wants each file to be there as often as it was sent, and nothing that was not.
func (s *stage) judgeFiles(saved map[string]string, all bool) error {
	times := make(map[string]int)
	for _, content := range saved {
		times[content]++
	}
	for _, f := range s.files {
		n, want := times[string(f.Plaintext)], 1
		delete(times, string(f.Plaintext))
		switch f.fate {
		case moved:
			want = 2 // in both chats
		case forgotten:
			want = 0
		}
		if n > want || all && n != want {
			return fmt.Errorf("file %s is there %d times, and should be %d times", f.id, n, want)
		}
	}
	if len(times) > 0 {
		return fmt.Errorf("%s is not what was sent, or is broken", number(len(times), "file"))
	}
	for path, n := range s.told {
		if n > 1 {
			return fmt.Errorf("%s was saved %d times", path, n)
		}
	}
	if all {
		s.say("%s are there, each once in each chat that it was sent to, and each is the original", number(len(saved), "file"))
	}
	return nil
}

// judgeCounts wants the summary to say the same.
func (s *stage) judgeCounts(last []counted) error {
	want := map[string]int{stateSaved: 0, stateLost: 0}
	for _, f := range s.files {
		switch f.fate {
		case forgotten:
			want[stateLost]++
		case moved:
			want[stateSaved] += 2
		default:
			want[stateSaved]++
		}
	}
	got := make(map[string]int)
	for _, n := range last {
		got[n.State] += n.Files
	}
	if !maps.Equal(got, want) {
		return fmt.Errorf("the summary should say %v, and says %v", want, got)
	}
	s.say("the summary says so; %s are in two chats", number(s.count(moved), "file"))
	return nil
}

// show shows the summary of a run as its user has it.
func (s *stage) show(last []counted) {
	var counts []count
	for _, n := range last {
		counts = append(counts, count{state: n.State, cause: n.Cause, files: n.Files, bytes: n.Bytes})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	printSummary(s.out, counts, "")
	fmt.Fprintln(s.out)
}

// judgeRequests wants the phone to have been asked once for each file that only it could have. It
// may be asked again for what was on its way when the process was killed, or the phone went off.
func (s *stage) judgeRequests() error {
	asked, again := make(map[types.MessageID]int), 0
	for _, r := range s.account.Requests() {
		asked[r.ID]++
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.files {
		n := asked[f.id]
		delete(asked, f.id)
		switch {
		case f.fate == alive || f.fate == moved:
			if n > 0 {
				return fmt.Errorf("the phone was asked for %s, which it need not have been", f.id)
			}
		case n == 0:
			return fmt.Errorf("the phone was never asked for %s", f.id)
		case n > 1:
			again++
		}
	}
	if len(asked) > 0 {
		return fmt.Errorf("the phone was asked for %v", slices.Collect(maps.Keys(asked)))
	}
	if most := 2 * runWorkers; again > most {
		return fmt.Errorf("the phone was asked twice for %d files, and %d could be on their way at the kill", again, most)
	}
	times := "once for each"
	if again > 0 {
		times = fmt.Sprintf("twice for %d that were on their way at the kill", again)
	}
	fmt.Fprintf(s.out, "demo  the phone was asked for the %d files that only it could have, %s\n", s.count(expired, answered, forgotten), times)
	return nil
}

func (s *stage) count(fates ...fate) (n int) {
	for _, f := range s.files {
		if slices.Contains(fates, f.fate) {
			n++
		}
	}
	return n
}

// hits returns how often each file that lives was downloaded.
func (s *stage) hits() map[types.MessageID]int {
	hits := make(map[types.MessageID]int)
	for _, f := range s.files {
		if f.fate == alive {
			hits[f.id] = s.box.Hits(f.DirectPath)
		}
	}
	return hits
}

// judgeDownloads wants nothing to have been downloaded again that was there at the kill.
func (s *stage) judgeDownloads(before map[string]string, hits map[types.MessageID]int) error {
	there := make(map[string]bool)
	for _, content := range before {
		there[content] = true
	}
	again := 0
	for id, n := range s.hits() {
		if there[string(s.byID[id].Plaintext)] && n > hits[id] {
			return fmt.Errorf("file %s was there, and was downloaded again", id)
		}
		if n > 1 {
			again++
		}
	}
	if again > 2*runWorkers {
		return fmt.Errorf("%d files were downloaded twice, and %d could be on their way at the kill", again, 2*runWorkers)
	}
	s.say("nothing that was there was downloaded again")
	return nil
}

// judgeReport wants the report to be there.
func (s *stage) judgeReport() error {
	pages, err := filepath.Glob(filepath.Join(s.dir, "media", reportFolder, "*.html"))
	if err == nil && len(pages) != 1+(len(s.files)+s.count(moved)+perPage-1)/perPage {
		err = fmt.Errorf("the report has %d pages", len(pages))
	}
	return err
}
