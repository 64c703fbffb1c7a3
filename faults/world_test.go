package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// The course of a heal in which nothing goes wrong: a second after the call the client has the
// server's ack, and a second later the phone's answer. Where a phase of the fetch is looked at,
// that takes two more.
const (
	ackAfter    = time.Second
	answerAfter = time.Second // after the ack
	fetchTakes  = 2 * time.Second
)

// latency is that of the chat connection. In the phase in which an answer is on its way, it is
// longer.
func (w *world) latency() time.Duration {
	if w.cell.phase == answering && w.cell.fault.strike != nil && !w.hasStruck.Load() {
		return 500 * time.Millisecond
	}
	return 50 * time.Millisecond
}

// moments are when a fault strikes, after the call has begun. 0 is just before it.
var moments = [phases]time.Duration{
	queued:    1100 * time.Millisecond, // of two seconds
	sent:      600 * time.Millisecond,
	acked:     1600 * time.Millisecond,
	answering: ackAfter + answerAfter - 250*time.Millisecond,
	dial:      ackAfter + answerAfter + fetchTakes/2,
	headers:   ackAfter + answerAfter + fetchTakes/2,
	body:      ackAfter + answerAfter + fetchTakes/2,
}

// lead is how long before the call a fault strikes that strikes before it. It is no round time, so
// that nothing that follows from it comes in the same instant as something else.
const lead = 1030 * time.Millisecond

// patience is how long the context of a call lasts.
const patience = 2 * time.Minute

// mediaHost is where the client downloads from, and otherHost is where a redirect leads.
const (
	mediaHost = "mmg.whatsapp.net"
	otherHost = "media-fra3-1.cdn.whatsapp.net"
)

// A world is that of one cell: a box with an account, its phone and a picture that has expired, and
// a bot.
type world struct {
	*testing.T
	cell    cell
	box     *wabox.Box
	account *wabox.Account
	bot     *bot
	other   *whatsmeow.Client // has replaced the bot's; or nil
	store   *store
	chat    wabox.Incoming
	media   *wabox.Media
	info    types.MessageInfo
	image   *waE2E.ImageMessage

	cancel    context.CancelFunc // the call's
	struck    sync.WaitGroup
	hasStruck atomic.Bool
	timers    []*time.Timer

	mu          sync.Mutex
	began       time.Time // when the call that is measured has; the fault is there from then on,
	lifted      bool      // until then
	refusesChat bool
	nextCDN     wabox.Plan // for the next connection to the CDN
	cdnBegan    time.Time  // when the CDN's fault was met first
	path        string     // where the phone has uploaded the file last; "" if it has not
	asks        []wabox.Request
	answer      *waBinary.Node // the phone's last one about the picture
	strange     []string       // what must not be, and was seen on another goroutine
}

// newWorld makes everything, up to the moment before the call.
func newWorld(t *testing.T, c cell) *world {
	w := &world{T: t, cell: c, store: newStore(t, c), chat: wabox.Incoming{From: types.NewJID("4915112345678", types.DefaultUserServer)}}
	if c.forms == "two" {
		w.chat.Alt = types.NewJID("77000011112222", types.HiddenUserServer)
	}
	var err error
	w.box, err = wabox.New()
	w.must(err)
	t.Cleanup(w.end)
	w.box.MediaTTL(24 * time.Hour) // nothing is to wait for the CDN's hosts while the connection is bad
	w.box.Network(w.plan)
	if replays() || c.fault.again {
		w.box.OnEvent(w.tell)
	}
	w.account = w.box.NewAccount()
	w.account.Phone(w.phone)
	w.account.OnReceipt(w.receipt)
	w.bot = w.boot()
	_, err = w.bot.client.Download(t.Context(), w.box.Upload([]byte("a healthy file"), whatsmeow.MediaImage).Image())
	w.must(err)
	media := w.box.Upload(bytes.Repeat([]byte(c.place()), 60_000/len(c.place())), whatsmeow.MediaImage)
	evt := w.receive(&waE2E.Message{ImageMessage: media.Image()})
	w.box.Expire(media)
	w.set(func() { w.media, w.info, w.image = media, evt.Info, evt.Message.GetImageMessage() })
	return w
}

// end closes what there is. That no goroutine is left, the bubble sees to.
func (w *world) end() {
	for _, timer := range w.timers {
		timer.Stop()
	}
	w.account.Offline(false)
	time.Sleep(2 * time.Second) // a frame that arrives while a client disconnects keeps a goroutine of whatsmeow's
	if w.other != nil {
		w.other.Disconnect()
	}
	w.bot.end()
	w.box.Close()
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// suspect notes what must not be.
func (w *world) suspect(format string, args ...any) {
	w.set(func() { w.strange = append(w.strange, fmt.Sprintf(format, args...)) })
}

// after does something later.
func (w *world) after(d time.Duration, f func()) {
	w.timers = append(w.timers, time.AfterFunc(d, f))
}

// say tells a step of a cell that is replayed.
func (w *world) say(format string, args ...any) {
	if !replays() {
		return
	}
	w.mu.Lock()
	began := w.began
	w.mu.Unlock()
	since := "before"
	if !began.IsZero() {
		since = fmt.Sprintf("%.3fs", time.Since(began).Seconds())
	}
	w.Logf("%9s  %s", since, fmt.Sprintf(format, args...))
}

// tell notes what happens in the box.
func (w *world) tell(e wabox.Event) {
	if e.What == wabox.NodeOut && e.Node.Attrs["type"] == "mediaretry" && e.Node.Attrs["id"] == w.id() {
		w.set(func() { w.answer = e.Node })
	}
	what := map[string]string{wabox.NodeIn: "server ←", wabox.NodeOut: "server →", wabox.CDN: "CDN      "}[e.What]
	if e.Asked != nil {
		w.say("%s %s %s%s: %d", what, e.Asked.Method, e.Asked.Host, e.Asked.Path, e.Asked.Status)
	} else {
		w.say("%s %.160s", what, e.Node.String())
	}
}

// id returns the id of the picture's message.
func (w *world) id() types.MessageID {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.info.ID
}

// plan is what the network does to a connection.
func (w *world) plan(d wabox.Dial) (plan wabox.Plan) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if d.IsChat() {
		return wabox.Plan{Latency: w.latency(), Refuse: w.refusesChat}
	}
	if host := strings.TrimSuffix(d.Host, ":443"); host != mediaHost && (host != otherHost || w.cell.fault.name != "redirect") {
		w.strange = append(w.strange, "a connection to "+d.Host)
	}
	plan, w.nextCDN = w.nextCDN, wabox.Plan{}
	plan.Refuse = w.cell.fault.refuse && (w.cell.phase != dial || w.path != "") && w.isThere()
	return plan
}

// isThere reports whether the CDN's fault is there now. It needs w.mu.
func (w *world) isThere() bool {
	if w.began.IsZero() || w.lifted {
		return false
	}
	if w.cdnBegan.IsZero() {
		w.cdnBegan = time.Now()
	}
	lasts := w.cell.fault.lasts
	return lasts == 0 || time.Since(w.cdnBegan) < lasts
}

// spoil lets the CDN have its fault under a path.
func (w *world) spoil(path string) {
	w.box.Serve(path, func(rw http.ResponseWriter, r *http.Request) bool {
		w.mu.Lock()
		there := w.isThere()
		w.mu.Unlock()
		return there && w.cell.fault.serve(rw, r, w)
	})
}

// receipt notes a request for the picture.
func (w *world) receipt(r wabox.Request) (drop bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.ID != w.info.ID {
		return false
	}
	w.asks = append(w.asks, r)
	return w.cell.fault.dropped && !w.lifted
}

// phone is what the server and the phone do about a request.
func (w *world) phone(r wabox.Request) []wabox.Answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	good := wabox.Answer{Result: wabox.Success, AckDelay: ackAfter - 2*w.latency(), Delay: answerAfter}
	f, p := w.cell.fault, w.cell.phase
	switch {
	case w.lifted:
		return []wabox.Answer{{Result: wabox.Success}}
	case r.ID != w.info.ID, p == healed && w.began.IsZero():
	case f.answer != nil && p == sent && !f.byServer && len(w.asks) == 1: // it comes before the ack
		good.None = true
		return []wabox.Answer{good}
	case f.answer != nil && (p == answering || p == sent):
		return []wabox.Answer{f.answer(good)}
	}
	if r.ID == w.info.ID {
		w.path = w.box.Reupload(w.media)
		good.DirectPath = w.path
		w.prepare()
	}
	return []wabox.Answer{good}
}

// prepare sees to it that the fetch of the new path takes its time in the phase that is looked at,
// or has the CDN's fault. It needs w.mu.
func (w *world) prepare() {
	f, p := w.cell.fault, w.cell.phase
	if !p.fetches() {
		return
	}
	if p != headers || f.refuse {
		w.bot.cdn.CloseIdleConnections() // it has to be dialed
	}
	switch {
	case f.serve != nil:
		w.spoil(w.path)
	case f.refuse:
	case p == dial:
		w.nextCDN = wabox.Plan{Fault: wabox.Stall, For: fetchTakes}
	case p == headers:
		var once sync.Once
		w.box.Serve(w.path, func(http.ResponseWriter, *http.Request) bool {
			once.Do(func() { time.Sleep(fetchTakes) })
			return false
		})
	case p == body:
		w.nextCDN = wabox.Plan{Fault: wabox.Stall, AfterBytes: 30_000, For: fetchTakes}
	}
}

// strike lets the fault happen, if it is one that happens at a moment.
func (w *world) strike() {
	f, p := w.cell.fault, w.cell.phase
	w.say("** %s", f.name)
	w.hasStruck.Store(true)
	switch {
	case f.strike != nil:
		f.strike(w)
	case f.again && p > answering:
		w.mu.Lock()
		answer := *w.answer
		w.mu.Unlock()
		again := func() { w.must(w.account.SendNode(answer)) }
		if p == healed {
			w.after(lead+moments[sent], again)
		} else {
			again()
		}
	case f.answer != nil && !f.byServer && p != answering:
		w.mu.Lock()
		ask := w.asks[len(w.asks)-1]
		w.mu.Unlock()
		w.must(w.account.SendAnswer(ask, f.answer(wabox.Answer{Result: wabox.Success})))
	}
}

// begin lets the fault be there from now on, or strike later.
func (w *world) begin() {
	f, p := w.cell.fault, w.cell.phase
	w.set(func() { w.began = time.Now() })
	switch p {
	case first:
		if f.serve != nil {
			w.spoil(w.media.DirectPath)
		}
	case healed:
		if f.serve != nil {
			w.spoil(w.path)
		}
	}
	if f.refuse {
		w.bot.cdn.CloseIdleConnections()
	}
	if moments[p] == 0 {
		w.strike()
		time.Sleep(lead)
		w.set(func() { w.began = time.Now() })
		return
	}
	if f.strike == nil && (f.answer == nil || f.byServer || p == answering) {
		return
	}
	w.struck.Go(func() {
		time.Sleep(moments[p])
		if why := w.isNotYet(); why != "" {
			w.suspect("it is not %v: %s", p, why)
		}
		w.strike()
	})
}

// isNotYet says why the heal is not in the phase in which the fault strikes.
func (w *world) isNotYet() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	hits := 0
	if w.path != "" {
		hits = w.box.Hits(w.path)
	}
	switch p := w.cell.phase; {
	case p == queued && len(w.asks) != 0, p > queued && len(w.asks) != 1:
		return fmt.Sprintf("%d requests were sent", len(w.asks))
	case p == dial && hits != 0, (p == headers || p == body) && hits != 1:
		return fmt.Sprintf("the CDN was asked %d times for the new path", hits)
	}
	return ""
}

// occupy lets a request for another file take the only place for two seconds.
func (w *world) occupy() {
	other := w.box.Upload([]byte("another file"), whatsmeow.MediaImage)
	evt := w.receive(&waE2E.Message{ImageMessage: other.Image()})
	before := w.account.RequestCount()
	b := w.bot
	w.struck.Go(func() {
		_, _ = b.plugin.RequestReupload(w.Context(), reupload.NewRequest(&evt.Info, evt.Message.GetImageMessage()))
	})
	_, err := w.account.WaitRequests(w.Context(), before+1)
	w.must(err)
}

// lift ends the fault, and waits until the bot gets messages again.
func (w *world) lift() {
	f := w.cell.fault
	w.say("** the fault is over")
	w.set(func() { w.lifted, w.refusesChat = true, false })
	w.account.Offline(false)
	if w.other != nil {
		time.Sleep(farewell)
		w.other.Disconnect()
		w.other = nil
	}
	switch {
	case f.pair:
		w.pair()
	case f.connect:
		if err := w.bot.client.Connect(); !errors.Is(err, whatsmeow.ErrAlreadyConnected) {
			w.must(err)
		}
	case f.register:
		w.bot.register()
	}
	time.Sleep(max(f.until, 10*time.Second) - time.Since(w.began)) // no answer is to come any more
	w.receive(&waE2E.Message{Conversation: proto.String("are you there?")})
	time.Sleep(time.Second)
}

// reconnectTime is how long it may take until the bot gets messages when a fault is over. With a
// half-open connection, whatsmeow needs more than three minutes.
const reconnectTime = 5 * time.Minute

// receive delivers a message and waits until the bot has it.
func (w *world) receive(msg *waE2E.Message) *events.Message {
	w.Helper()
	id, err := w.account.Deliver(w.chat, msg)
	w.must(err)
	timeout := time.After(reconnectTime)
	for {
		select {
		case evt := <-w.bot.messages:
			if evt.Info.ID == id {
				return evt
			}
		case <-timeout:
			w.Fatalf("a message has not come in %v", reconnectTime)
		}
	}
}
