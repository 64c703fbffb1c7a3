package reupload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// A stage has everything that a flight needs but a client: a line that does as the test says, and a
// clock that the test runs in no time.
type stage struct {
	*testing.T
	*flights
	line  *fakeLine
	began time.Time

	known []Entry // what the index knows

	mu      sync.Mutex
	stored  []Entry
	reports []string // new paths
}

const stageTimeout = 30 * time.Second

var (
	stageOwn  = types.NewJID("100", types.DefaultUserServer)
	stageChat = types.NewJID("200", types.DefaultUserServer)
	stageLID  = types.NewJID("222", types.HiddenUserServer)
)

// inBubble runs a test under a fake clock.
func inBubble(t *testing.T, test func(*testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, test)
}

// pass lets time pass, and everything happen that is due then.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// onStage runs a test with a stage in a bubble, and checks that nothing is left over.
func onStage(t *testing.T, test func(s *stage)) {
	t.Helper()
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		defer func() {
			if t.Failed() { // then let what is under way end
				s.shut()
				pass(24 * time.Hour)
			}
		}()
		test(s)
		s.isQuiet()
	})
}

func newStage(t *testing.T) *stage {
	s := &stage{T: t, began: time.Now()}
	s.line = &fakeLine{ownPN: stageOwn, online: true, returns: true, forms: []address{{stageOwn, stageChat, types.EmptyJID}}}
	s.flights = newFlights()
	s.flights.line = s.line
	s.flights.queue = newQueue(32, time.Second)
	s.flights.timeout, s.flights.root = stageTimeout, t.Context()
	s.flights.spawn = func(f func()) { s.landing.Go(f) }
	s.flights.underID = func(_ context.Context, id types.MessageID) (found []candidate) {
		for _, e := range s.known {
			if e.MessageID == id {
				found = append(found, candidate{entry: e, key: identityOf(stageOwn, &e)})
			}
		}
		return found
	}
	s.flights.store = func(e Entry) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stored = append(s.stored, e)
	}
	s.flights.report = &reporter{log: waLog.Noop, notify: func(r Reupload) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reports = append(s.reports, fmt.Sprintf("%s late=%t", r.Request.MessageID, r.Late))
	}}
	return s
}

// isQuiet checks that every flight has landed and left nothing. (That no goroutine is left, the
// bubble sees to.)
func (s *stage) isQuiet() {
	s.Helper()
	s.landing.Wait()
	synctest.Wait()
	if n := s.queue.waitingNow(); n != 0 {
		s.Errorf("%d tickets are left", n)
	}
	if len(s.records) != 0 || s.waiting() != 0 || s.line.open != 0 {
		s.Errorf("%d flights and %d wires are left", s.waiting(), s.line.open)
	}
}

// driver returns the driver of a file's flight.
func (s *stage) driver(e Entry) *driver {
	s.flights.mu.Lock()
	defer s.flights.mu.Unlock()
	d := s.find(asking(e).key)
	if d == nil {
		s.Fatalf("there is no flight for %v", e.Request)
	}
	return d
}

// twoForms lets messages be named in two ways.
func (s *stage) twoForms() {
	s.line.forms = append(s.line.forms, address{stageOwn, stageLID, types.EmptyJID})
}

// file returns one of many files, each in a message of its own.
func file(n byte) Entry {
	return Entry{
		Request:       Request{MessageID: fmt.Sprintf("3EB0%02d", n), Chat: stageChat, MediaKey: bytes.Repeat([]byte{n}, mediaKeySize)},
		FileEncSHA256: bytes.Repeat([]byte{n, 1}, fileHashSize/2),
	}
}

func asking(e Entry) question {
	return question{entry: e, key: identityOf(stageOwn, &e), source: e.Chat}
}

// A caller is one who waits for the answer to a question.
type caller struct {
	s      *stage
	cancel context.CancelFunc
	ended  chan struct{}
	after  time.Duration
	result Result
	err    error
}

// ask asks as one who waits. It returns when nothing more happens for the moment.
func (s *stage) ask(q question) *caller {
	ctx, cancel := context.WithCancel(s.Context())
	c := &caller{s: s, cancel: cancel, ended: make(chan struct{})}
	began := time.Now()
	go func() {
		defer cancel()
		c.result, c.err = s.flights.ask(ctx, q)
		c.after = time.Since(began)
		close(c.ended)
	}()
	synctest.Wait()
	return c
}

// ends waits for as long as it takes, and checks the error.
func (c *caller) ends(want error) {
	c.s.Helper()
	select {
	case <-c.ended:
	case <-time.After(24 * time.Hour):
	}
	synctest.Wait()
	if !c.done() || !errors.Is(c.err, want) || want == ErrTimeout && c.err != ErrTimeout {
		c.s.Fatalf("the caller ends: %t, with error %v, want %v", c.done(), c.err, want)
	}
}

func (c *caller) endsAfter(after time.Duration, want error) {
	c.s.Helper()
	c.ends(want)
	if c.after != after {
		c.s.Errorf("the caller ends after %s, want %s", c.after, after)
	}
}

// heals checks that the caller has got a path, by now.
func (c *caller) heals(path string) {
	c.s.Helper()
	synctest.Wait()
	if !c.done() || c.err != nil || c.result.DirectPath != path {
		c.s.Fatalf("the caller has ended: %t, with path %q, error %v; want %q", c.done(), c.result.DirectPath, c.err, path)
	}
}

// done reports whether the caller has ended.
func (c *caller) done() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

func (c *caller) waits() {
	c.s.Helper()
	synctest.Wait()
	if c.done() {
		c.s.Fatalf("the caller has ended with %v, %v", c.result, c.err)
	}
}

// sealed returns an answer of the phone about a file.
func (s *stage) sealed(e Entry, status Status, path string) answer {
	s.Helper()
	c, err := newRetryCipher(e.MediaKey)
	if err != nil {
		s.Fatal(err)
	}
	plaintext, err := proto.Marshal(&waMmsRetry.MediaRetryNotification{
		StanzaID: &e.MessageID, DirectPath: &path, Result: waMmsRetry.MediaRetryNotification_ResultType(status).Enum(),
	})
	if err != nil {
		s.Fatal(err)
	}
	s.line.nonces++
	env := c.seal(e.MessageID, plaintext, append(make([]byte, retryIVSize-1), s.line.nonces))
	return answer{id: e.MessageID, chat: e.Chat, sender: e.Participant, envelope: env, stamp: "sealed " + string(env.iv)}
}

// answers lets the phone answer.
func (s *stage) answers(e Entry, status Status, path string) {
	s.answer(s.sealed(e, status, path))
	synctest.Wait()
}

func (s *stage) finds(e Entry, path string) { s.answers(e, StatusSuccess, path) }

// acks lets the server acknowledge a receipt, or with a code refuse it.
func (s *stage) acks(e Entry, code ...string) {
	ack := &waBinary.Node{Tag: "ack", Attrs: waBinary.Attrs{"id": e.MessageID, "class": "receipt", "type": "server-error"}}
	if len(code) > 0 {
		ack.Attrs["error"] = code[0]
	}
	s.ack(ack)
	synctest.Wait()
}

// logsIn brings the connection back, and tells so.
func (s *stage) logsIn() {
	s.line.comesBack()
	s.wentDown()
	s.tell(event{what: loggedIn})
	synctest.Wait()
}

// sent checks what was sent so far: "0@5.5s" is the first form, after so long.
func (s *stage) sent(want ...string) {
	s.Helper()
	synctest.Wait()
	var got []string
	for _, sending := range s.line.all() {
		got = append(got, fmt.Sprintf("%d@%s", sending.form, sending.at.Sub(s.began)))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("sent are %v, want %v", got, want)
	}
}

// outcomes checks with what files were stored, in order.
func (s *stage) outcomes(want ...Outcome) {
	s.Helper()
	s.landing.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	var got []Outcome
	for _, e := range s.stored {
		got = append(got, e.Asked.Outcome)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.Errorf("outcomes that were stored are %v, want %v", got, want)
	}
}

// storedNothing checks that nothing was stored, without waiting for flights.
func (s *stage) storedNothing() {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stored) > 0 {
		s.Errorf("stored are %v", s.stored)
	}
}

// A fakeLine is a connection that does as the test says.
type fakeLine struct {
	ownPN    types.JID // empty after a logout
	forms    []address
	returns  bool // whatsmeow brings a lost connection back
	naming   func(ctx context.Context)
	nameless error                           // that of the naming
	writing  func(ctx context.Context) error // what holds up or fails a send; nil for nothing
	tapless  bool                            // acks come on the wire
	deaf     bool                            // what is being written goes out despite its context

	mu       sync.Mutex
	online   bool
	sendings []sending
	wires    []chan *waBinary.Node
	ackWaits []chan *waBinary.Node
	open     int // wires that are not released
	nonces   byte
}

type sending struct {
	id   types.MessageID
	form int
	at   time.Time
}

// set changes how the line is.
func (l *fakeLine) set(how func(*fakeLine)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	how(l)
}

// all returns what was sent.
func (l *fakeLine) all() []sending {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.sendings)
}

func (l *fakeLine) own() (pn, lid types.JID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ownPN, types.EmptyJID
}

func (l *fakeLine) reconnecting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.returns
}

func (l *fakeLine) isOnline() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.online
}

func (l *fakeLine) addresses(ctx context.Context, _ Request) naming {
	if l.naming != nil {
		l.naming(ctx)
	}
	return naming{forms: l.forms, err: l.nameless}
}

func (l *fakeLine) send(ctx context.Context, req Request, addr address, _ retryCipher) (wire, error) {
	w := l.watch()
	if l.tapless {
		w.acks = l.nextAck(req.MessageID)
	}
	if l.writing != nil {
		if err := l.writing(ctx); err != nil {
			return w, err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case ctx.Err() != nil && !l.deaf:
		return w, ctx.Err()
	case !l.online && l.returns:
		return w, errInterrupted
	case !l.online:
		return w, whatsmeow.ErrNotConnected
	}
	for form, other := range l.forms {
		if other == addr {
			l.sendings = append(l.sendings, sending{req.MessageID, form, time.Now()})
		}
	}
	return w, nil
}

func (l *fakeLine) watch() wire {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open++
	gone := make(chan *waBinary.Node, 1)
	l.wires = append(l.wires, gone)
	return wire{gone: gone, free: func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.open--
	}}
}

func (l *fakeLine) nextAck(types.MessageID) <-chan *waBinary.Node {
	l.mu.Lock()
	defer l.mu.Unlock()
	ack := make(chan *waBinary.Node, 1)
	l.ackWaits = append(l.ackWaits, ack)
	return ack
}

// breaks ends the connection.
func (l *fakeLine) breaks() {
	l.mu.Lock()
	l.online = false
	for _, gone := range l.wires {
		gone <- &waBinary.Node{Tag: "xmlstreamend"}
	}
	l.wires = nil
	l.mu.Unlock()
	synctest.Wait()
}

func (l *fakeLine) comesBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.online = true
}
