//go:build !race

package reupload_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// seed is what all dice are thrown from. Those that goroutines throw are seeded with what they are
// thrown for as well, so that it does not matter who is first.
const seed = 20260901

// A life is one bot's: its group, the CDN and the phone, and the bot itself, which is started again
// and again.
type life struct {
	*testing.T
	group
	box     *wabox.Box
	account *wabox.Account
	chat    types.JID
	senders []types.JID
	start   time.Time
	dice    *rand.Rand // of the goroutine that lives the year
	index   *reupload.MemoryIndex
	root    context.Context // ends with the year
	end     context.CancelFunc
	doing   sync.WaitGroup
	quiet   atomic.Bool // nothing new expires

	kill    context.CancelFunc // ends the bot's process
	filling sync.WaitGroup     // the process's backfills

	mu       sync.Mutex // guards the rest, and the pictures
	client   *whatsmeow.Client
	plugin   *reupload.Plugin
	pictures map[string]*groupPicture // by media key
	postings map[types.MessageID]*posting
	old      map[types.MessageID]reupload.Request // that the backfill still has to do
	backlog  time.Time                            // when the phone will have done what it was asked while it was off
	result
}

type (
	// A groupPicture is a file.
	groupPicture struct {
		*wabox.Media
		n       int
		isLost  bool
		uploads int
		gone    time.Time // when the CDN forgets the first upload
		wanted  bool      // by the bot, which has not got it
	}
	// A posting is a message with a picture.
	posting struct {
		*groupPicture
		id     types.MessageID
		sender types.JID
		number int
		life   *life
	}
)

// upTo returns some duration from 0 to less than the limit.
func upTo(dice *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(limit)))
}

func newLife(t *testing.T, g group, lid bool) *life {
	l := &life{
		T: t, group: g, box: wabox.Start(t), start: time.Now(), dice: rand.New(rand.NewPCG(seed, 0)),
		index:    reupload.NewMemoryIndex(reupload.DefaultMemoryCapacity),
		pictures: make(map[string]*groupPicture), postings: make(map[types.MessageID]*posting), old: make(map[types.MessageID]reupload.Request),
	}
	l.root, l.end = context.WithCancel(t.Context())
	l.box.RecordAsked(false)
	l.box.MediaTTL(day)
	l.account = l.box.NewAccount()
	l.account.Phone(l.asked)
	mode := types.AddressingModePN
	if lid {
		mode = types.AddressingModeLID
	} else {
		l.account.HideLID()
	}
	var numbers []types.JID
	for n := range g.members {
		number := types.NewJID(fmt.Sprint(491700000100+n), types.DefaultUserServer)
		numbers, l.senders = append(numbers, number), append(l.senders, number)
		if lid {
			l.senders[n] = types.NewJID(fmt.Sprint(200000000000100+n), types.HiddenUserServer)
			l.box.Link(number, l.senders[n])
		}
	}
	l.chat = l.account.NewGroup(mode, numbers...)
	return l
}

// newPicture puts a picture on the CDN, and returns a message with it.
func (l *life) newPicture() *posting {
	l.mu.Lock()
	p := &groupPicture{n: len(l.pictures), isLost: l.dice.Float64() < lost}
	p.Media = l.box.Upload(fmt.Appendf(nil, "picture %d", p.n), whatsmeow.MediaImage)
	l.pictures[string(p.MediaKey)] = p
	life := p.lives()
	p.gone = time.Now().Add(life)
	l.mu.Unlock()
	time.AfterFunc(life, func() { l.box.SetStatus(p.DirectPath, http.StatusGone, "") })
	return (&posting{groupPicture: p, life: l}).again()
}

// lives returns how long the CDN keeps the next upload: two to three weeks, though its path says a
// month. It needs l.mu.
func (p *groupPicture) lives() time.Duration {
	p.uploads++
	return 14*day + upTo(rand.New(rand.NewPCG(seed+uint64(p.uploads), uint64(p.n))), 7*day)
}

// again returns another message with the same file.
func (m *posting) again() *posting {
	l := m.life
	l.mu.Lock()
	defer l.mu.Unlock()
	next := &posting{groupPicture: m.groupPicture, number: len(l.postings), life: l}
	next.id = fmt.Sprintf("3EB0%016X", next.number)
	next.sender = l.senders[next.number%len(l.senders)]
	l.postings[next.id] = next
	return next
}

func (m *posting) message() *waE2E.Message { return &waE2E.Message{ImageMessage: m.Image()} }

// send brings a message into the group.
func (l *life) send(m *posting) {
	for { // it fails while the bot is being paired
		if _, err := l.account.Deliver(wabox.Incoming{ID: m.id, Chat: l.chat, From: m.sender}, m.message()); err == nil || !l.sleep(time.Minute) {
			return
		}
	}
}

// asked is the phone, which is off at times and then does one after the other.
func (l *life) asked(req wabox.Request) []wabox.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, now := l.pictures[string(req.MediaKey)], time.Now()
	takes := time.Second + time.Duration(p.n%500)*time.Millisecond
	if p.isLost {
		takes = 300 * time.Millisecond
	}
	if back := l.start.Add(backAt(now.Sub(l.start))); back.After(now) {
		if l.backlog.Before(back) {
			l.backlog = back
		}
		l.backlog = l.backlog.Add(takes)
		takes = l.backlog.Sub(now)
	}
	time.AfterFunc(takes, func() { l.answer(p, req) })
	return []wabox.Answer{{None: true}} // the server acknowledges it
}

func (l *life) answer(p *groupPicture, req wabox.Request) {
	if l.root.Err() != nil {
		return
	}
	answer := wabox.Answer{Result: wabox.NotFound}
	if !p.isLost {
		answer = wabox.Answer{Result: wabox.Success, DirectPath: l.box.Reupload(p.Media)}
		l.mu.Lock()
		life := p.lives()
		l.mu.Unlock()
		time.AfterFunc(life, func() { l.box.SetStatus(answer.DirectPath, http.StatusGone, "") })
	}
	_ = l.account.SendAnswer(req, answer) // an account that is being paired gets none
}

// boot starts the bot's process, which knows nothing but what is in the index and which old files
// it wants.
func (l *life) boot() {
	client := l.account.NewClient(nil)
	l.run(client)
	if err := client.Connect(); err != nil {
		l.Fatal(err)
	}
	l.account.AwaitOnline(l)
}

func (l *life) run(client *whatsmeow.Client) {
	media := l.box.Transport()
	media.IdleConnTimeout = 0 // a handshake costs more than all else about a picture
	client.SetMediaHTTPClient(&http.Client{Transport: media})
	plugin, err := reupload.Register(client, &reupload.Options{Index: l.index})
	if err != nil {
		l.Fatal(err)
	}
	var alive context.Context
	alive, l.kill = context.WithCancel(context.Background())
	l.mu.Lock()
	l.client, l.plugin = client, plugin
	l.mu.Unlock()
	client.AddEventHandler(func(evt any) {
		switch evt := evt.(type) {
		case *events.Message:
			m := l.posting(evt.Info.ID)
			if m != nil {
				l.doing.Go(func() { l.receive(m, evt.Message.GetImageMessage()) })
			}
		case *events.HistorySync:
			l.filling.Go(func() { l.history(alive, client, plugin, evt) })
		}
	})
	l.filling.Go(func() { l.fillBack(alive, plugin) })
}

func (l *life) posting(id types.MessageID) *posting {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.postings[id]
}

// shutDown ends the bot's process.
func (l *life) shutDown() {
	l.kill()
	time.Sleep(time.Second) // a frame that arrives while a client disconnects keeps a goroutine of whatsmeow's for good
	l.client.Disconnect()
	l.plugin.Close()
	host.MediaClient(l.client).CloseIdleConnections()
	l.filling.Wait()
}

// pair pairs the bot again. A history sync brings old files, which have all expired.
func (l *life) pair() {
	l.account.Logout()
	time.Sleep(time.Second)
	l.shutDown()
	client := whatsmeow.NewClient(wabox.NewDevice(), nil)
	l.account.Configure(client)
	l.run(client)
	codes, err := client.GetQRChannel(l.root)
	if err != nil {
		l.Fatal(err)
	}
	if err = client.Connect(); err != nil {
		l.Fatal(err)
	}
	if err = l.account.Scan(l.root, (<-codes).Code); err != nil {
		l.Fatal(err)
	}
	l.account.AwaitOnline(l)
	l.account.Device = client.Store

	conversation := &waHistorySync.Conversation{ID: proto.String(l.chat.String())}
	postings := make([]*posting, l.oldFiles)
	for i := range postings {
		m := l.newPicture()
		l.mu.Lock()
		m.gone = time.Now()
		l.mu.Unlock()
		l.box.Expire(m.Media)
		postings[i] = m
		conversation.Messages = append(conversation.Messages, &waHistorySync.HistorySyncMsg{Message: &waWeb.WebMessageInfo{
			Key:         &waCommon.MessageKey{ID: &m.id, RemoteJID: proto.String(l.chat.String()), FromMe: proto.Bool(false)},
			Participant: proto.String(m.sender.String()), MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())), Message: m.message(),
		}})
	}
	if err = l.account.DeliverHistory(&waHistorySync.HistorySync{
		SyncType: waHistorySync.HistorySync_RECENT.Enum(), Conversations: []*waHistorySync.Conversation{conversation},
	}); err != nil {
		l.Fatal(err)
	}
	for i := range l.openedOld {
		m := postings[l.oldFiles-1-i]
		l.after(upTo(l.dice, time.Duration(l.oldFiles)*time.Second), func() { l.open(m, m.Image()) })
	}
}

// history is what the bot does with a history sync: it asks for all files in it.
func (l *life) history(alive context.Context, client *whatsmeow.Client, plugin *reupload.Plugin, evt *events.HistorySync) {
	for _, conversation := range evt.Data.GetConversations() {
		for _, m := range conversation.GetMessages() {
			parsed, err := client.ParseWebMessage(l.chat, m.GetMessage())
			if err != nil {
				l.Error(err)
				return
			}
			l.mu.Lock()
			l.want(l.postings[parsed.Info.ID].groupPicture)
			l.old[parsed.Info.ID] = reupload.NewRequest(&parsed.Info, parsed.Message.GetImageMessage())
			l.mu.Unlock()
		}
	}
	l.fillBack(alive, plugin)
}

// fillBack asks for the old files, in each process until none is left.
func (l *life) fillBack(alive context.Context, plugin *reupload.Plugin) {
	l.mu.Lock()
	old := slices.SortedFunc(maps.Values(l.old), func(a, b reupload.Request) int { return cmp.Compare(a.MessageID, b.MessageID) })
	l.mu.Unlock()
	for a := range plugin.RequestAll(alive, slices.Values(old)) {
		l.mu.Lock()
		if l.settle(l.postings[a.Request.MessageID].groupPicture, cmp.Or(a.Err, a.Result.Err())) {
			delete(l.old, a.Request.MessageID)
		}
		l.mu.Unlock()
	}
}

// receive is what the bot does with a message: it downloads the picture at once, and perhaps
// again after months.
func (l *life) receive(m *posting, image *waE2E.ImageMessage) {
	l.open(m, image)
	if dice := rand.New(rand.NewPCG(seed, uint64(m.number))); dice.Float64() < opened {
		if l.sleep(60*day + upTo(dice, 120*day)) {
			l.open(m, image)
		}
	}
}

// open downloads a picture, again and again until it is there or lost.
func (l *life) open(m *posting, image *waE2E.ImageMessage) {
	for !l.quiet.Load() {
		l.mu.Lock()
		client := l.client
		if !time.Now().Before(m.gone) {
			l.want(m.groupPicture)
		}
		l.mu.Unlock()
		data, err := client.Download(l.root, image)
		if err == nil && !bytes.Equal(data, m.Plaintext) {
			l.Errorf("the download of picture %d gave other bytes", m.n)
		}
		l.mu.Lock()
		settled := l.settle(m.groupPicture, cmp.Or(reupload.Cause(err), err))
		l.mu.Unlock()
		if settled || !l.sleep(again) {
			return
		}
	}
}

// want notes that the bot needs a picture that the CDN does not have any more. It needs l.mu.
func (l *life) want(p *groupPicture) {
	if !p.wanted {
		p.wanted = true
		l.expired++
	}
}

// settle notes what came of a picture that the bot wants, and reports whether that is final. It
// needs l.mu.
func (l *life) settle(p *groupPicture, err error) bool {
	isLost := errors.Is(err, reupload.ErrNotFound)
	if err != nil && !isLost {
		return false
	}
	if p.wanted && isLost {
		l.lost++
	} else if p.wanted {
		l.healed++
	}
	p.wanted = false
	return true
}

// count returns the result, with the minute in which most receipts were sent, wherever it begins.
func (l *life) count() result {
	receipts := l.account.Requests()
	l.sent = len(receipts)
	from := 0
	for i, r := range receipts {
		if r.Wrong != "" {
			l.Errorf("a receipt names its message wrongly: %s", r.Wrong)
		}
		for r.At.Sub(receipts[from].At) >= time.Minute {
			from++
		}
		l.busiest = max(l.busiest, i-from+1)
	}
	return l.result
}

// after does something after a while, unless the year ends before.
func (l *life) after(pause time.Duration, do func()) {
	l.doing.Go(func() {
		if l.sleep(pause) {
			do()
		}
	})
}

func (l *life) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-l.root.Done():
		return false
	}
}

func (l *life) sleepUntil(at time.Duration) { time.Sleep(time.Until(l.start.Add(at))) }
