//go:build !race

package reupload

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// seed is what all dice are thrown from. Those that goroutines throw are seeded with what they are
// thrown for as well, so that it does not matter who is first.
const seed = 20260901

// A world is everything around the plugin: the group, the CDN, the server and the phone. It is the
// plugin's [line].
type world struct {
	testing.TB
	names int // of the account
	start time.Time
	dice  *rand.Rand // of the goroutine that lives the year
	index *MemoryIndex
	root  context.Context // ends with the year
	end   context.CancelFunc
	kill  context.CancelFunc // ends the bot's process
	doing sync.WaitGroup

	filling sync.WaitGroup // at most one, which has the next line
	old     []*posting     // that the backfill still has to do

	mu       sync.Mutex   // guards the rest, and the pictures
	media    *http.Client // that the bot's process downloads with
	plugin   *Plugin
	quiet    bool                // nothing new expires
	pictures map[string]*picture // by path, without its query
	postings map[types.MessageID]*posting
	backlog  time.Time // when the phone will have done what it was asked while it was off
	answers  uint64
	receipts []time.Time
	result
}

// upTo returns some duration from 0 to less than the limit.
func upTo(dice *rand.Rand, limit time.Duration) time.Duration {
	return time.Duration(dice.Int64N(int64(limit)))
}

func newWorld(t testing.TB, names int) *world {
	w := &world{
		TB: t, names: names, start: time.Now(), dice: rand.New(rand.NewPCG(seed, 0)), index: NewMemoryIndex(DefaultMemoryCapacity),
		postings: make(map[types.MessageID]*posting), pictures: make(map[string]*picture),
	}
	w.root, w.end = context.WithCancel(context.Background())
	return w
}

var (
	simulatedPN    = types.NewJID("491700000001", types.DefaultUserServer)
	simulatedLID   = types.NewJID("100000000000001", types.HiddenUserServer)
	simulatedGroup = types.NewJID("120363000000000001", types.GroupServer)
)

// newSimulatedClient returns a client that is logged in as far as the plugin can see. It never
// connects.
func newSimulatedClient() *whatsmeow.Client {
	return whatsmeow.NewClient(&store.Device{ID: &simulatedPN, LID: simulatedLID}, waLog.Noop)
}

type (
	// A picture is a file.
	picture struct {
		n         int
		content   string
		key, hash []byte
		isLost    bool
		uploads   int
		current   string    // path of the last upload, without its query
		gone      time.Time // when the CDN forgets it
		wanted    bool      // by the bot, which has not got it
	}
	// A posting is a message with a picture.
	posting struct {
		*picture
		number uint64
		info   types.MessageInfo
		path   string // that the message came with
	}
)

func (m *posting) media() *waE2E.ImageMessage {
	return &waE2E.ImageMessage{DirectPath: &m.path, MediaKey: m.key, FileEncSHA256: m.hash, FileSHA256: m.hash}
}

// newPicture returns a picture and the path of its first upload.
func (w *world) newPicture() (p *picture, path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p = &picture{n: len(w.pictures), key: make([]byte, mediaKeySize), isLost: w.dice.Float64() < lost}
	p.content = fmt.Sprint("picture ", p.n)
	hash := sha256.Sum256([]byte(p.content))
	p.hash = hash[:]
	binary.BigEndian.PutUint64(p.key, uint64(p.n))
	return p, w.upload(p)
}

// upload puts a picture on the CDN for two to three weeks, though its path says a month. It needs
// w.mu.
func (w *world) upload(p *picture) (path string) {
	p.uploads++
	dice := rand.New(rand.NewPCG(seed+uint64(p.uploads), uint64(p.n)))
	p.gone = time.Now().Add(14*day + upTo(dice, 7*day))
	p.current = fmt.Sprintf("/v/%d-%d.enc", p.n, p.uploads)
	w.pictures[p.current] = p
	return fmt.Sprintf("%s?ccb=11-4&oh=x&oe=%X", p.current, time.Now().Add(30*day).Unix())
}

// post brings a message with a picture into the group.
func (w *world) post(p *picture, path string) *posting {
	w.mu.Lock()
	defer w.mu.Unlock()
	m := &posting{picture: p, number: uint64(len(w.postings)), path: path}
	m.info = types.MessageInfo{ID: fmt.Sprintf("3EB0%016X", m.number), Timestamp: time.Now()}
	m.info.Chat, m.info.IsGroup = simulatedGroup, true
	m.info.Sender = types.NewJID(fmt.Sprint(491700000100+p.n%50), types.DefaultUserServer)
	w.postings[m.info.ID] = m
	return m
}

// RoundTrip is the CDN.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pictures[req.URL.Path]
	if req.URL.Path != p.current || !time.Now().Before(p.gone) {
		return &http.Response{StatusCode: http.StatusGone, Body: http.NoBody, Request: req}, nil
	}
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(p.content)), Request: req}, nil
}

// The connection never breaks.

func (w *world) ownID() types.JID                              { return simulatedPN }
func (w *world) watch() wire                                   { return wire{} }
func (w *world) nextAck(types.MessageID) <-chan *waBinary.Node { return nil }
func (w *world) reconnecting() bool                            { return true }
func (w *world) isOnline() bool                                { return true }

// addresses names the message as the sender does in a group whose addressing mode is known: only
// the account has two names.
func (w *world) addresses(_ context.Context, req Request) []address {
	return []address{{simulatedPN, req.Chat, req.Participant}, {simulatedLID, req.Chat, req.Participant}}[:w.names]
}

// send is the server, which acknowledges a receipt and keeps it for a phone that is off. The phone
// knows itself by both names.
func (w *world) send(_ context.Context, req Request, _ address, c retryCipher) (wire, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	w.receipts = append(w.receipts, now)
	time.AfterFunc(50*time.Millisecond, func() {
		w.process().tapped(&waBinary.Node{
			Tag: "ack", Attrs: waBinary.Attrs{"id": req.MessageID, "class": "receipt", "type": "server-error"},
		})
	})
	m := w.postings[req.MessageID]
	takes := time.Second + time.Duration(m.n%500)*time.Millisecond
	if m.isLost {
		takes = 300 * time.Millisecond
	}
	if back := w.start.Add(backAt(now.Sub(w.start))); back.After(now) { // then it does one after the other
		if w.backlog.Before(back) {
			w.backlog = back
		}
		w.backlog = w.backlog.Add(takes)
		takes = w.backlog.Sub(now)
	}
	time.AfterFunc(takes, func() { w.answer(m, c) })
	return wire{}, nil
}

// answer is the phone.
func (w *world) answer(m *posting, c retryCipher) {
	n := &waMmsRetry.MediaRetryNotification{StanzaID: &m.info.ID, Result: waMmsRetry.MediaRetryNotification_NOT_FOUND.Enum()}
	w.mu.Lock()
	if !m.isLost {
		n.Result, n.DirectPath = waMmsRetry.MediaRetryNotification_SUCCESS.Enum(), proto.String(w.upload(m.picture))
	}
	w.answers++
	nonce := binary.BigEndian.AppendUint64(make([]byte, 4), w.answers)
	w.mu.Unlock()
	plaintext, err := proto.Marshal(n)
	if err != nil {
		panic(err)
	}
	env := c.seal(m.info.ID, plaintext, nonce)
	w.process().tapped(&waBinary.Node{
		Tag:   "notification",
		Attrs: waBinary.Attrs{"id": m.info.ID, "type": "mediaretry", "from": simulatedPN},
		Content: []waBinary.Node{
			{Tag: "encrypt", Content: []waBinary.Node{{Tag: "enc_p", Content: env.ciphertext}, {Tag: "enc_iv", Content: env.iv}}},
			{Tag: "rmr", Attrs: waBinary.Attrs{"jid": simulatedGroup}},
		},
	})
}

// process returns the plugin of the process that runs.
func (w *world) process() *Plugin {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.plugin
}

// after does something after a while, unless the year ends before.
func (w *world) after(pause time.Duration, do func()) {
	w.doing.Go(func() {
		if w.sleep(pause) {
			do()
		}
	})
}

func (w *world) sleep(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-w.root.Done():
		return false
	}
}

func (w *world) sleepUntil(at time.Duration) { time.Sleep(time.Until(w.start.Add(at))) }
