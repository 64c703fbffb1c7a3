package reupload_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"runtime"
	"strings"
	"sync"
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

// Tests that a stranger does not steer other people's files, and that no bot is worse off with the
// plugin than without.

// silent is a phone that the server hands every request to, and that answers none.
func silent(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} }

// A stranger sends a picture with the path of somebody else's file, which lives, and the hashes and
// the key of a file that was healed.
func TestStrangerCannotMoveALivingFile(t *testing.T) {
	t.Parallel()
	for _, hashIgnored := range []bool{false, true} {
		r := newRig(t, nil)
		healed := r.receivePicture()
		r.heals(healed)
		victim := r.box.Upload(content(), whatsmeow.MediaImage)
		r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: victim.Image()})
		forged := healed.Media.Image()
		forged.DirectPath = proto.String(victim.DirectPath)
		r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: forged})
		if hashIgnored {
			r.box.SetStatus(victim.DirectPath, http.StatusNotFound, "")
		}
		_, _ = r.client.Download(r.ctx(), forged)
		r.box.SetStatus(victim.DirectPath, 0, "")
		r.phone.Phone(silent)
		before := len(r.box.Asked())
		for range 3 {
			if data, err := r.client.Download(r.ctx(), victim.Image()); err != nil || !bytes.Equal(data, victim.Plaintext) {
				t.Fatalf("the living file: %v (cause: %v)", err, reupload.Cause(err))
			}
		}
		for _, asked := range r.box.Asked()[before:] {
			if asked.Path != victim.Path() {
				t.Errorf("the living file was looked for under %s", asked.Path)
			}
		}
		r.asked(1)
		// And the one that was healed is still where it was found.
		r.heals(healed)
		r.asked(1)
	}
}

// A forged message makes other bytes come from a good new path. That says nothing of the path for
// the file that it is of.
func TestForgedHashDoesNotSpoilANewPath(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.heals(p)
	moved := r.box.Asked()[len(r.box.Asked())-1].Path
	forged := p.Media.Image() // of the victim's message and key, but of another file
	forged.FileEncSHA256 = bytes.Repeat([]byte{7}, 32)
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: moved + "?ccb=11-4&oh=x&oe=7FFFFFFF"})
	_, _ = r.plugin.Download(r.ctx(), &p.evt.Info, forged)
	asked := r.phone.RequestCount()
	r.phone.Phone(silent)
	r.phone.Script(p.id())
	r.heals(p)
	r.asked(asked)
}

// The path that a file has moved to goes, and the old one comes back: the bot gets what it would
// get without the plugin.
func TestOldPathIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.heals(p)
	moved := r.box.Asked()[len(r.box.Asked())-1].Path
	r.phone.Phone(silent)
	for _, status := range []int{http.StatusGone, http.StatusForbidden, http.StatusServiceUnavailable} {
		r.heals(p) // from where it is known to be
		r.box.SetStatus(moved, status, "")
		r.box.SetStatus(p.Path(), http.StatusOK, "")
		r.heals(p)
		if asked := r.box.Asked(); asked[len(asked)-1].Path != p.Path() {
			t.Errorf("with status %d at the new path, the old one was not tried", status)
		}
		r.box.SetStatus(moved, 0, "")
		r.box.SetStatus(p.Path(), http.StatusGone, "")
	}
	r.asked(1)
}

// An error about the same message id in another chat is not about the request that waits, and the
// one about it counts.
func TestErrorOfAnotherChatIsNotTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	foreign := func(n *waBinary.Node) { n.Attrs["jid"] = aGroup }
	r.phone.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{
			{ErrorCode: proto.String("2"), RMR: foreign},
			{Garbage: true, RMR: foreign},
			{Result: wabox.Success},
		}
	})
	r.heals(p)
	r.asked(1)
}

// Two files of one message are asked for one after the other, and the error about the first says
// nothing of the second.
func TestErrorOfAnotherFileIsNotTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
	evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
	r.box.Expire(one)
	r.box.Expire(two)
	lost := wabox.Answer{ErrorCode: proto.String("2"), Edit: func(n *waBinary.Node) { n.Attrs["t"] = int64(1_700_000_000) }}
	r.phone.Script(evt.Info.ID, lost)
	if _, err := r.client.Download(r.ctx(), one.Image()); !errors.Is(reupload.Cause(err), reupload.ErrGeneral) {
		t.Fatalf("the first file: %v (cause: %v)", err, reupload.Cause(err))
	}
	r.phone.Script(evt.Info.ID)
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{lost, {Result: wabox.Success}} }) // the same error again
	if data, err := r.client.Download(r.ctx(), two.Video()); err != nil || !bytes.Equal(data, two.Plaintext) {
		t.Errorf("the second file: %v (cause: %v)", err, reupload.Cause(err))
	}
}

// A late error under a message id is nobody's: two files were asked for, and it does not say which
// it is about.
func TestLateErrorIsNobodys(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 2 * time.Second, SilencePause: -1})
	one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
	evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
	r.box.Expire(one)
	r.box.Expire(two)
	r.phone.Script(evt.Info.ID, wabox.Answer{None: true})
	_, _ = r.client.Download(r.ctx(), one.Image())
	request := r.asks(1)[0]
	r.answer(request, wabox.Answer{ErrorCode: proto.String("2")})
	r.marker()
	r.phone.Phone(func(wabox.Request) []wabox.Answer {
		return []wabox.Answer{{ErrorCode: proto.String("2")}, {Result: wabox.Success, Delay: 50 * time.Millisecond}}
	})
	r.phone.Script(evt.Info.ID)
	if _, err := r.client.Download(r.ctx(), two.Video()); err != nil {
		t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
	}
}

// Junk with the same file hash does not push the real message out.
func TestJunkDoesNotHideTheOriginal(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	for i := range 40 {
		junk := p.Media.Image()
		junk.MediaKey = bytes.Repeat([]byte{byte(i + 1)}, 32)
		r.receive(wabox.Incoming{From: carol, Timestamp: time.Now().Add(time.Duration(i+1) * time.Second)}, &waE2E.Message{ImageMessage: junk})
	}
	r.heals(p)
	if n := r.phone.RequestCount(); n > 2 {
		t.Errorf("the phone was asked %d times", n)
	}
}

// A refusal for a message that was named wrongly does not pause the right one.
func TestWronglyNamedMessageDoesNotPauseTheRightOne(t *testing.T) {
	t.Parallel()
	for name, wrong := range map[string]func(*types.MessageInfo){
		"chat":      func(info *types.MessageInfo) { info.Chat = aGroup; info.Sender = alice },
		"sender":    func(info *types.MessageInfo) { info.Sender = carol },
		"direction": func(info *types.MessageInfo) { info.IsFromMe = true },
	} {
		r := newRig(t, nil)
		r.phone.Strict(false) // it says so when it does not find a message
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: bob})
		if name == "chat" {
			p = r.receivePicture()
		}
		info := p.evt.Info
		wrong(&info)
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			if req.Chat == p.evt.Info.Chat && req.Participant == reupload.NewRequest(&p.evt.Info, p.image).Participant && req.FromMe == "false" {
				return []wabox.Answer{{Result: wabox.Success}}
			}
			return []wabox.Answer{{Result: wabox.NotFound}}
		})
		if _, err := r.plugin.RequestReupload(r.ctx(), reupload.NewRequest(&info, p.image)); err != nil {
			t.Errorf("wrong %s: %v", name, err)
		}
		r.heals(p)
	}
}

// Large ids and many files cost an index neither memory nor time.
func TestStrangersDoNotGrowTheIndex(t *testing.T) { // not in parallel: it measures the heap
	r := newUnregisteredRig(t)
	index := reupload.NewMemoryIndex(0)
	r.register(&reupload.Options{Index: index})
	handlers := r.client.DangerousInternals() //lint:ignore SA1019 there is no other way to a handler without a network
	deliver := func(id string, msg *waE2E.Message) {
		handlers.DispatchEvent(&events.Message{
			Info:    types.MessageInfo{ID: id, MessageSource: types.MessageSource{Chat: alice, Sender: alice}, Timestamp: time.Now()},
			Message: msg, RawMessage: msg,
		})
	}
	cards := func(n int, quotes string) *waE2E.Message {
		var cards []*waE2E.InteractiveMessage
		for i := range n {
			m := image(1)
			m.FileEncSHA256 = fmt.Appendf(nil, "%032d", i)
			m.ContextInfo = &waE2E.ContextInfo{
				StanzaID: proto.String(quotes), Participant: proto.String(quotes + "@s.whatsapp.net"),
				QuotedMessage: &waE2E.Message{ImageMessage: image(2)},
			}
			cards = append(cards, &waE2E.InteractiveMessage{Header: &waE2E.InteractiveMessage_Header{
				Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: m},
			}})
		}
		return &waE2E.Message{InteractiveMessage: &waE2E.InteractiveMessage{InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{
			CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{Cards: cards},
		}}}
	}
	heap := func() uint64 {
		var stats runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	for i := range 10 {
		deliver(fmt.Sprint("LARGE", i), cards(350, strings.Repeat("x", 30_000)))
	}
	if grown := int64(heap()) - int64(before); grown > 4<<20 {
		t.Errorf("ten messages have grown the index by %d bytes", grown)
	}
	if n := index.Len(); n > 10*64 {
		t.Errorf("%d files of ten messages are remembered", n)
	}
	start := time.Now()
	for range 40 {
		deliver("ONE", cards(250, "Q"))
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("10,000 files under one id took %s", took)
	}
	runtime.KeepAlive(index)
}

// Callers with little patience leave their request to the next one.
func TestImpatientCallersSendOneRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	answer := make(chan struct{})
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: answer})
	for range 5 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			defer cancel()
			r.asks(1)
			time.Sleep(50 * time.Millisecond)
		}()
		if _, err := r.client.Download(ctx, p.image); err == nil {
			t.Fatal("it has healed")
		}
	}
	close(answer)
	r.heals(p)
	r.asked(1)
}

// The time-out of the bot's HTTP client is for each exchange with the CDN, and not for the phone.
func TestTimeoutOfTheHTTPClient(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	r := newUnregisteredRig(t)
	r.client.SetMediaHTTPClient(&http.Client{Transport: r.box.Transport(), Timeout: timeout})
	r.register(nil)
	r.connect()
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Delay: 2 * timeout})
	r.heals(p)

	alive := r.box.Upload(content(), whatsmeow.MediaImage)
	stalled := make(chan struct{})
	defer close(stalled)
	r.box.Stall(alive.DirectPath, stalled)
	ctx, cancel := context.WithTimeout(t.Context(), 10*timeout)
	defer cancel()
	start := time.Now()
	status, err := fetch(ctx, r.client, alive)
	if took := time.Since(start); err == nil || ctx.Err() != nil || took < timeout/2 {
		t.Errorf("a download that stalls: status %d, %v after %s", status, err, took)
	}
}

// fetch makes one download request as whatsmeow does, without repeating it, and reads what comes.
func fetch(ctx context.Context, client *whatsmeow.Client, m *wabox.Media) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.URL()+"&hash="+hashOf(m)+"&mms-type=image&__wa-mms=", nil)
	if err != nil {
		return 0, err
	}
	resp, err := reupload.MediaClient(client).Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = new(bytes.Buffer).ReadFrom(resp.Body)
	return resp.StatusCode, err
}

// A download that begins when the answer has just come does not ask again.
func TestOneRequestForEachFileWithASlowIndex(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.register(&reupload.Options{Index: laggingIndex{reupload.NewMemoryIndex(100)}})
	r.connect()
	const files, downloads = 30, 4
	var wg sync.WaitGroup
	for range files {
		p := r.receivePicture()
		for i := range downloads {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				if _, err := r.client.Download(r.ctx(), p.image); err != nil {
					t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
				}
			})
		}
	}
	wg.Wait()
	r.asked(files)
}

// A laggingIndex takes some milliseconds for each call, as a database does.
type laggingIndex struct{ *reupload.MemoryIndex }

func (x laggingIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	time.Sleep(5 * time.Millisecond)
	return x.MemoryIndex.Put(ctx, account, entries)
}

func (x laggingIndex) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	found, err := x.MemoryIndex.ByFile(ctx, account, hash)
	time.Sleep(5 * time.Millisecond)
	return found, err
}

// The body of a 410 that does not come holds up nobody.
func TestStalledBodyOfAnExpiredFile(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	stall := &stallingTransport{base: r.box.Transport(), release: make(chan struct{})}
	t.Cleanup(func() { close(stall.release); stall.base.CloseIdleConnections() })
	r.client.SetMediaHTTPClient(&http.Client{Transport: stall})
	r.register(nil)
	r.connect()
	p := r.receivePicture()
	start := time.Now()
	r.heals(p)
	if took := time.Since(start); took > prompt {
		t.Errorf("it took %s", took)
	}
}

// A stallingTransport sends the headers of failed responses, and no bodies.
type stallingTransport struct {
	base    *http.Transport
	release chan struct{}
}

func (s *stallingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(req)
	if err == nil && resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		resp.Body = &stalledBody{release: s.release, closed: make(chan struct{})}
	}
	return resp, err
}

type stalledBody struct {
	release, closed chan struct{}
	once            sync.Once
}

func (b *stalledBody) Read([]byte) (int, error) {
	select {
	case <-b.release:
	case <-b.closed:
	}
	return 0, errors.New("closed")
}

func (b *stalledBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

// An answer that comes in time is the caller's, however long the index takes to keep it.
func TestAnswerInTimeIsNotLateForTheIndex(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.register(&reupload.Options{Timeout: 500 * time.Millisecond, Index: slowPuts{reupload.NewMemoryIndex(100)}})
	r.connect()
	p := r.receivePicture()
	start := time.Now()
	r.requests(p.request()).succeeds(t)
	if took := time.Since(start); took > 900*time.Millisecond {
		t.Errorf("it took %s", took)
	}
}

type slowPuts struct{ *reupload.MemoryIndex }

func (x slowPuts) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	if entries[0].DirectPath != "" || !entries[0].Asked.At.IsZero() {
		time.Sleep(time.Second)
	}
	return x.MemoryIndex.Put(ctx, account, entries)
}

// A new path can lead on to another one.
func TestRedirectFromTheNewPath(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	redirects := &redirectingTransport{base: r.box.Transport()}
	t.Cleanup(redirects.base.CloseIdleConnections)
	r.client.SetMediaHTTPClient(&http.Client{Transport: redirects})
	r.register(nil)
	r.connect()
	p := r.receivePicture()
	target := r.box.Reupload(p.Media)
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: "/redirect?ccb=11-4&oh=x&oe=7FFFFFFF"})
	redirects.to = target
	for range 2 {
		r.heals(p)
	}
	r.asked(1)
}

type redirectingTransport struct {
	base *http.Transport
	to   string
}

func (s *redirectingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path != "/redirect" {
		return s.base.RoundTrip(req)
	}
	_, suffix, _ := strings.Cut(req.URL.RawQuery, "&hash=")
	return &http.Response{
		StatusCode: http.StatusFound, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: http.NoBody, Request: req,
		Header: http.Header{"Location": {"https://mmg.whatsapp.net" + s.to + "&hash=" + suffix}},
	}, nil
}

// After Close inside a handler, an event that this handler dispatches does not hang.
func TestNestedDispatchAfterCloseInsideHandler(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.register(nil)
	other := r.box.NewAccount().NewClient(r.log)
	done := make(chan error, 1)
	r.client.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Message); !ok {
			return
		}
		r.plugin.Close()
		time.Sleep(100 * time.Millisecond)                                          // for whoever would wait for the lock
		r.client.DangerousInternals().DispatchEvent(&events.AppStateSyncComplete{}) //lint:ignore SA1019 as FetchAppState does
		p, err := reupload.Register(other, nil)                                     // of another client, which is not held up by this handler
		if err == nil {
			p.Close()
		}
		done <- err
	})
	r.connect()
	if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("x")}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Register for another client: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the handler hangs")
	}
	until(t, "our handler is gone", func() bool { return reupload.HandlerCount(r.client) == 2 })
}

// A proxy or media client that is set while connected is wrapped before the next download that an
// event leads to.
func TestProxyThatIsSetWhileConnected(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	proxy, err := r.box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	r.client.SetProxy(http.ProxyURL(proxy.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
	r.heals(r.receivePicture())
	if proxy.Hits() == 0 {
		t.Error("the proxy was not used")
	}
	// And before the next event, if it is the plugin that is called.
	p, hits := r.receivePicture(), proxy.Hits()
	second, err := r.box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	r.client.SetProxy(http.ProxyURL(second.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
	if _, err = r.plugin.Download(r.ctx(), &p.evt.Info, p.image); err != nil || second.Hits() == 0 || proxy.Hits() != hits {
		t.Errorf("through the first proxy went %d more, through the second %d: %v", proxy.Hits()-hits, second.Hits(), err)
	}
	spy := &http.Client{Transport: r.box.Transport(), Timeout: time.Minute}
	t.Cleanup(spy.CloseIdleConnections)
	r.client.SetMediaHTTPClient(spy)
	hits = second.Hits()
	r.heals(r.receivePicture())
	if second.Hits() != hits {
		t.Error("the old proxy was used")
	}
	r.plugin.Close()
	if reupload.MediaClient(r.client) != spy {
		t.Error("the bot's own client is not back")
	}
}

// What the bot has set of Options.HTTPClient stays when it sets a proxy, and what the client had
// before comes back with that proxy.
func TestProxyAfterAnHTTPClientOfOnesOwn(t *testing.T) {
	t.Parallel()
	const timeout = time.Minute
	r := newUnregisteredRig(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	before := reupload.MediaClient(r.client)
	r.register(&reupload.Options{HTTPClient: &http.Client{Transport: r.box.Transport(), Timeout: timeout, Jar: jar}})
	proxy, err := r.box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	r.client.SetProxy(http.ProxyURL(proxy.URL()), whatsmeow.SetProxyOptions{NoWebsocket: true})
	r.connect()
	r.heals(r.receivePicture())
	if got := reupload.MediaClient(r.client); got.Jar != jar || reupload.ExchangeTimeout(got) != timeout || proxy.Hits() == 0 {
		t.Errorf("jar kept: %t, time-out %s, %d through the proxy", got.Jar == jar, reupload.ExchangeTimeout(got), proxy.Hits())
	}
	r.plugin.Close()
	after := reupload.MediaClient(r.client)
	if after.Jar != nil || after.Timeout != before.Timeout {
		t.Error("after Close, the client has what was meant for the plugin")
	}
	after.CloseIdleConnections() // what counts is each new one
	hits := proxy.Hits()
	if _, err = r.client.Download(r.ctx(), r.receivePicture().image); proxy.Hits() == hits {
		t.Errorf("after Close, the proxy is lost: %v", err)
	}
	after.CloseIdleConnections()
}

// A download inside a Connected handler, after a break, is sent again.
func TestDownloadInsideConnectedHandlerAfterABreak(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	var drop = true
	r.phone.OnReceipt(func(wabox.Request) bool { // the first request is lost with the connection
		defer func() { drop = false }()
		if drop {
			r.phone.Cut()
		}
		return drop
	})
	done := make(chan error, 10)
	c := r.begin(p.request())
	r.client.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Connected); ok {
			_, err := r.client.Download(r.ctx(), p.image)
			done <- err
		}
	})
	if err := <-done; err != nil {
		t.Errorf("download: %v (cause: %v)", err, reupload.Cause(err))
	}
	c.succeeds(t)
	r.asked(2)
}

// A connection that goes before the server has a request says nothing of the file.
func TestOutageDuringARequestDoesNotPauseTheFile(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 2 * time.Second})
	r.heals(r.receivePicture()) // whatsmeow knows the media hosts from now on
	p := r.receivePicture()
	r.phone.OnReceipt(func(wabox.Request) bool {
		r.phone.Offline(true)
		return true
	})
	r.fails(p, whatsmeow.ErrNotConnected)
	r.phone.OnReceipt(nil)
	r.phone.Offline(false)
	next[*events.Connected](r)
	r.heals(p)
}

func TestDownloadAfterCloseHasACause(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.plugin.Close()
	_, err := r.plugin.Download(r.ctx(), &p.evt.Info, p.image)
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrClosed) {
		t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
	}
	if err = r.plugin.DownloadToFile(r.ctx(), &p.evt.Info, p.image, nil); !errors.Is(err, reupload.ErrInvalidRequest) {
		t.Errorf("without a file: %v", err)
	}
}

func TestStatsAreJSON(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.phone.Forget(p.id())
	_, _ = r.client.Download(r.ctx(), p.image)
	encoded, err := json.Marshal(r.plugin.Stats())
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"Healthy":0,"Expired":1,"Asked":1,"Healed":0,"Late":0,"Unhealed":{"not_found":1},"Waiting":0}`; string(encoded) != want {
		t.Errorf("got %s, want %s", encoded, want)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	key := []byte("a media key that nobody may read")
	req := reupload.Request{MessageID: "ID", Chat: alice, MediaKey: key}
	result := reupload.Result{Status: reupload.StatusSuccess, DirectPath: "/path?oh=token", MessageSecret: []byte("a message secret")}
	for _, value := range []any{
		req, &req, result, &result, reupload.Reupload{Request: req, Result: result}, reupload.Entry{Request: req, DirectPath: "/path?oh=token"},
		reupload.Answer{Request: req, Result: result},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			text := fmt.Sprintf(verb, value)
			for _, secret := range []string{string(key), "oh=token", "a message secret", fmt.Sprintf("%x", key), fmt.Sprint(key), fmt.Sprintf("%d", key[0])} {
				if strings.Contains(text, secret) {
					t.Errorf("%s of a %T prints %q", verb, value, text)
				}
			}
		}
	}
}

// An error of a transport can quote the URL. It does not get into the cause.
func TestTransportErrorsDoNotLeak(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	quoting := &quotingTransport{base: r.box.Transport()}
	t.Cleanup(quoting.base.CloseIdleConnections)
	r.client.SetMediaHTTPClient(&http.Client{Transport: quoting})
	r.register(nil)
	r.connect()
	p := r.receivePicture()
	_, err := r.client.Download(r.ctx(), p.image)
	cause := reupload.Cause(err)
	if !errors.Is(cause, reupload.ErrReplayFailed) || !errors.Is(cause, errQuoted) {
		t.Fatalf("got %v (cause: %v)", err, cause)
	}
	for _, text := range []string{cause.Error(), r.log.all()} {
		if strings.Contains(text, "oh=") || strings.Contains(text, "hash=") {
			t.Errorf("it says %s", text)
		}
	}
}

var errQuoted = errors.New("broken")

type quotingTransport struct{ base *http.Transport }

func (q *quotingTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := q.base.RoundTrip(req)
	if err == nil && resp.StatusCode == http.StatusOK && strings.Contains(req.URL.RawQuery, "hash=") {
		resp.Body.Close()
		return nil, fmt.Errorf("cannot get %s: %w", req.URL, errQuoted)
	}
	return resp, err
}

// An answer without a stanza id is authentic all the same.
func TestAnswerWithoutAStanzaID(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, StanzaID: proto.String("")})
	r.heals(p)
}

func hashOf(m *wabox.Media) string { return base64.URLEncoding.EncodeToString(m.FileEncSHA256) }
