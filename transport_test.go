package reupload_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A spy is a transport that counts what goes through it, and how often each body is closed.
type spy struct {
	base   http.RoundTripper
	mu     sync.Mutex
	urls   []string
	bodies []*countedBody
}

type countedBody struct {
	io.ReadCloser
	closed atomic.Int32
}

func (b *countedBody) Close() error {
	b.closed.Add(1)
	return b.ReadCloser.Close()
}

func (s *spy) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body := &countedBody{ReadCloser: resp.Body}
	resp.Body = body
	s.mu.Lock()
	defer s.mu.Unlock()
	s.urls = append(s.urls, req.URL.String())
	s.bodies = append(s.bodies, body)
	return resp, nil
}

// closedOnce checks every body that has gone by.
func (s *spy) closedOnce(t testing.TB, atLeast int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bodies) < atLeast {
		t.Errorf("only %d responses have gone by", len(s.bodies))
	}
	for i, b := range s.bodies {
		if n := b.closed.Load(); n != 1 {
			t.Errorf("response %d of %d: body closed %d times", i+1, len(s.bodies), n)
		}
	}
}

// spied makes a rig whose media requests go through a spy.
func spied(t testing.TB, opts reupload.Options) (*rig, *spy) {
	t.Helper()
	r := newUnregisteredRig(t)
	s := &spy{base: r.box.Transport()}
	opts.HTTPClient = &http.Client{Transport: s}
	r.register(&opts)
	r.connect()
	return r, s
}

func TestBodiesAreClosedOnce(t *testing.T) {
	t.Parallel()
	t.Run("healed", func(t *testing.T) {
		t.Parallel()
		r, s := spied(t, reupload.Options{})
		r.heals(r.receivePicture())
		s.closedOnce(t, 2)
	})
	t.Run("lost", func(t *testing.T) {
		t.Parallel()
		r, s := spied(t, reupload.Options{})
		p := r.receivePicture()
		r.phone.Forget(p.id())
		if _, err := r.client.Download(r.ctx(), p.image); err == nil {
			t.Fatal("a lost file was downloaded")
		}
		s.closedOnce(t, 1)
	})
	t.Run("new path is dead", func(t *testing.T) {
		t.Parallel()
		r, s := spied(t, reupload.Options{})
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: "/v/nothing.enc?ccb=11-4&oh=x&oe=7FFFFFFF"})
		_, err := r.client.Download(r.ctx(), p.image)
		if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrInvalidAnswer) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		s.closedOnce(t, 2)
	})
	t.Run("expired 403", func(t *testing.T) {
		t.Parallel()
		r, s := spied(t, reupload.Options{})
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, 403, "URL signature expired")
		r.heals(p)
		s.closedOnce(t, 2)
	})
}

// get asks the CDN as whatsmeow does, and returns what it would have got.
func (r *rig) get(m *wabox.Media) (status int, body string) {
	r.Helper()
	url := m.URL() + "&hash=" + base64.URLEncoding.EncodeToString(m.FileEncSHA256) + "&mms-type=image&__wa-mms="
	req, err := http.NewRequestWithContext(r.ctx(), http.MethodGet, url, nil)
	if err != nil {
		r.Fatal(err)
	}
	resp, err := reupload.MediaClient(r.client).Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		r.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

func TestWhichResponsesMeanExpired(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	long := strings.Repeat("a body that is much longer than what is looked at. ", 1000)
	for _, c := range []struct {
		status  int
		body    string
		oe      string
		expired bool
	}{
		{status: 404, expired: true},
		{status: 410, expired: true},
		{status: 403, body: "<h1>URL signature expired</h1>", expired: true},
		{status: 403, body: "Bad URL hash", oe: fmt.Sprintf("%X", time.Now().Add(-time.Hour).Unix()), expired: true},
		{status: 403, body: "Bad URL hash", oe: fmt.Sprintf("%x", time.Now().Add(time.Hour).Unix())},
		{status: 403, body: "Bad URL hash", oe: "soon"},
		{status: 403, body: long},
		{status: 403, body: ""},
		{status: 400, body: "bad"},
		{status: 401, body: "who are you"},
		{status: 429, body: "slowly"},
		{status: 500, body: long},
		{status: 507, body: "full"},
	} {
		p := r.receivePicture()
		media := *p.Media
		if c.oe != "" {
			before, after, _ := strings.Cut(media.DirectPath, "oe=")
			_, after, _ = strings.Cut(after, "&")
			media.DirectPath = before + "oe=" + c.oe + "&" + after
		}
		r.box.SetStatus(p.DirectPath, c.status, c.body)
		asked := r.phone.RequestCount()
		var status int
		var body string
		if c.oe == "" {
			status, body = r.get(&media)
		} else {
			status, body = r.getAt(&media)
		}
		if c.expired {
			if status != 200 {
				t.Errorf("%d %q with oe=%s: was not healed", c.status, c.body, c.oe)
			}
			continue
		}
		if status != c.status || body != c.body {
			t.Errorf("%d %.30q: passed as %d with a body of %d bytes", c.status, c.body, status, len(body))
		}
		r.asked(asked)
	}
}

// getAt is get for a path that was changed.
func (r *rig) getAt(m *wabox.Media) (status int, body string) {
	r.Helper()
	url := "https://mmg.whatsapp.net" + m.DirectPath + "&hash=" + base64.URLEncoding.EncodeToString(m.FileEncSHA256) + "&mms-type=image&__wa-mms="
	resp, err := reupload.MediaClient(r.client).Get(url)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

func TestUploadsAndUnknownFilesPassThrough(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	// A file that came in no message.
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.SetStatus(media.DirectPath, 410, "gone for good")
	if status, body := r.get(media); status != 410 || body != "gone for good" {
		t.Errorf("got %d %q", status, body)
	}
	_, err := r.client.Download(r.ctx(), media.Image())
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	up, err := r.client.Upload(r.ctx(), content(), whatsmeow.MediaDocument)
	if err != nil || up.DirectPath == "" {
		t.Errorf("upload: %v", err)
	}
	r.asked(0)
	if s := r.plugin.Stats(); s.Expired != 2 || s.Unhealed["unknown_message"] != 2 {
		t.Errorf("stats are %+v", s)
	}
}

func TestCauseOfOtherErrors(t *testing.T) {
	t.Parallel()
	for _, err := range []error{nil, io.EOF, whatsmeow.ErrMediaDownloadFailedWith404, whatsmeow.DownloadHTTPError{}, reupload.ErrTimeout} {
		if cause := reupload.Cause(err); cause != nil {
			t.Errorf("cause of %v is %v", err, cause)
		}
	}
}

func TestReplayThatFailsForAnotherReason(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	path := r.box.Reupload(p.Media)
	r.box.SetStatus(path, 500, "not now")
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path})
	_, err := r.client.Download(r.ctx(), p.image)
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(reupload.Cause(err), reupload.ErrReplayFailed) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	if n := r.box.Hits(path); n != 3 {
		t.Errorf("the new path was tried %d times, want 3", n)
	}
	// The path is remembered: when the CDN is well again, nobody needs to be asked.
	r.box.SetStatus(path, 0, "")
	r.heals(p)
	r.asked(1)
	visits := r.box.Hits(p.DirectPath)
	r.heals(p)
	if r.box.Hits(p.DirectPath) != visits {
		t.Error("the dead path was visited again")
	}
}

func TestWrongBytesUnderTheNewPath(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{SilencePause: -1})
	p := r.receivePicture()
	path := r.box.Reupload(p.Media)
	r.box.Corrupt(path)
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path}, wabox.Answer{Result: wabox.Success})
	if _, err := r.client.Download(r.ctx(), p.image); !errors.Is(err, whatsmeow.ErrInvalidMediaEncSHA256) {
		t.Fatalf("download of wrong bytes: %v", err)
	}
	r.heals(p) // not from there again
	r.asked(2)
}

func TestNewPathExpiresToo(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	for n := 1; n <= 3; n++ {
		r.heals(p)
		r.asked(n)
		r.box.Expire(p.Media)
	}
}

func TestOneReceiptForManyDownloads(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	hold := make(chan struct{})
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Hold: hold})
	var downloads sync.WaitGroup
	for range 50 {
		downloads.Go(func() { r.heals(p) })
	}
	if _, err := r.phone.WaitRequests(r.ctx(), 1); err != nil {
		t.Fatal(err)
	}
	until(t, "all have failed", func() bool { return r.plugin.Stats().Expired == 50 })
	close(hold)
	downloads.Wait()
	r.asked(1)
}

// The newest is the likeliest to be on the phone still, the oldest is the original.
func TestForwardsAreAskedNewestThenOldest(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	now := time.Now().Truncate(time.Second)
	var ids []string
	for _, age := range []time.Duration{2 * time.Hour, time.Hour, 3 * time.Hour} { // they do not arrive in order
		evt := r.receive(wabox.Incoming{Timestamp: now.Add(-age)}, &waE2E.Message{ImageMessage: media.Image()})
		ids = append(ids, evt.Info.ID)
	}
	r.box.Expire(media)
	r.phone.Forget(ids[1])
	r.phone.Forget(ids[2])
	data, err := r.client.Download(r.ctx(), media.Image())
	if err != nil || !bytes.Equal(data, media.Plaintext) {
		t.Fatalf("download: %v (cause: %v)", err, reupload.Cause(err))
	}
	var order []string
	for _, req := range r.phone.Requests() {
		order = append(order, req.ID)
	}
	if want := []string{ids[1], ids[2], ids[0]}; !slices.Equal(order, want) {
		t.Errorf("asked for %v, want %v", order, want)
	}
}

func TestSilentPhoneIsNotAskedForForwards(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 300 * time.Millisecond})
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	for range 3 {
		r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	}
	r.box.Expire(media)
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
	_, err := r.client.Download(r.ctx(), media.Image())
	if !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	r.asked(1)
}

// ownMedia is a bot's own DownloadableMessage, as it comes from a database.
type ownMedia struct{ m *wabox.Media }

func (o ownMedia) GetDirectPath() string             { return o.m.DirectPath }
func (o ownMedia) GetMediaKey() []byte               { return o.m.MediaKey }
func (o ownMedia) GetFileSHA256() []byte             { return o.m.FileSHA256 }
func (o ownMedia) GetFileEncSHA256() []byte          { return o.m.FileEncSHA256 }
func (o ownMedia) GetMediaType() whatsmeow.MediaType { return o.m.Type }

func TestMessagesThatTheIndexCannotKnow(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.connect()
	pictures := []picture{r.receivePicture(), r.receivePicture(), r.receivePicture(), r.receivePicture()}
	r.register(nil)

	if _, err := r.client.Download(r.ctx(), pictures[0].image); !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	p := pictures[0]
	data, err := r.client.Download(reupload.WithMessage(r.ctx(), &p.evt.Info, p.image), p.image)
	if err != nil || !bytes.Equal(data, p.Plaintext) {
		t.Errorf("WithMessage: %v (cause: %v)", err, reupload.Cause(err))
	}
	r.heals(p) // known from now on

	p = pictures[1]
	data, err = r.plugin.Download(r.ctx(), &p.evt.Info, ownMedia{p.Media})
	if err != nil || !bytes.Equal(data, p.Plaintext) {
		t.Errorf("Plugin.Download: %v (cause: %v)", err, reupload.Cause(err))
	}

	p = pictures[2]
	if err = r.plugin.Remember(r.ctx(), &p.evt.Info, p.evt.Message); err != nil {
		t.Error(err)
	}
	r.heals(p)

	p = pictures[3]
	file, err := os.Create(filepath.Join(t.TempDir(), "picture"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// What an earlier try left behind, longer than the picture.
	if _, err = file.Write(bytes.Repeat([]byte("half a picture"), 10000)); err != nil {
		t.Fatal(err)
	}
	if err = r.plugin.DownloadToFile(r.ctx(), &p.evt.Info, p.image, file); err != nil {
		t.Errorf("DownloadToFile: %v (cause: %v)", err, reupload.Cause(err))
	}
	if data, err = os.ReadFile(file.Name()); err != nil || !bytes.Equal(data, p.Plaintext) {
		t.Errorf("the file has %d bytes, want %d (%v)", len(data), len(p.Plaintext), err)
	}
	r.asked(4)

	// A file that cannot be had leaves nothing behind.
	r.box.Expire(p.Media)
	r.phone.Forget(p.id())
	if err = r.plugin.DownloadToFile(r.ctx(), &p.evt.Info, p.image, file); !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%d bytes are left (%v)", info.Size(), err)
	}
}

func TestMessageOfAnotherFileIsNotAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	other := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.Expire(other)
	_, err := r.client.Download(reupload.WithMessage(r.ctx(), &p.evt.Info, p.image), other.Image())
	if !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	r.asked(0)
}

func TestNewsletterMediaIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	media := r.box.UploadPlain(content(), whatsmeow.MediaImage)
	chat := types.NewJID("120363041234567890", types.NewsletterServer)
	evt := r.receive(wabox.Incoming{Chat: chat}, &waE2E.Message{ImageMessage: media.Image()})
	r.box.Expire(media)
	_, err := r.plugin.Download(r.ctx(), &evt.Info, evt.Message.GetImageMessage())
	if err == nil || !errors.Is(reupload.Cause(err), reupload.ErrNewsletter) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	r.asked(0)
}

func TestContextEndsTheWait(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{None: true})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = r.phone.WaitRequests(r.ctx(), 1)
		cancel()
	}()
	_, err := r.client.Download(ctx, p.image)
	if err == nil || !errors.Is(err, context.Canceled) && !errors.Is(reupload.Cause(err), context.Canceled) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	if n := r.plugin.Stats().Waiting; n != 1 { // its answer is for the next download
		t.Errorf("%d requests wait, want 1", n)
	}
}

func TestProxyIsNeverBypassed(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(r *rig, proxy *wabox.Proxy){
		"set before Register": func(r *rig, proxy *wabox.Proxy) {
			r.client.SetProxy(http.ProxyURL(proxy.URL()))
			r.register(nil)
		},
		"set after Register": func(r *rig, proxy *wabox.Proxy) {
			r.register(nil)
			r.client.SetProxy(http.ProxyURL(proxy.URL()))
		},
		"client set after Register": func(r *rig, proxy *wabox.Proxy) {
			r.register(nil)
			tr := http.DefaultTransport.(*http.Transport).Clone()
			tr.Proxy = http.ProxyURL(proxy.URL())
			r.client.SetMediaHTTPClient(&http.Client{Transport: tr})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newUnregisteredRig(t)
			proxy, err := r.box.NewProxy()
			if err != nil {
				t.Fatal(err)
			}
			set(r, proxy)
			// Only the proxy knows where WhatsApp's hosts are: a request that bypasses it
			// cannot be answered.
			r.client.SetWebsocketHTTPClient(&http.Client{Transport: r.box.Transport()})
			r.connect()
			p := r.receivePicture()
			before := proxy.Hits()
			r.heals(p)
			r.asked(1)
			reupload.MediaClient(r.client).CloseIdleConnections()
			if proxy.Hits() == before {
				t.Error("nothing went through the proxy")
			}
			r.plugin.Close()
			if _, err = r.client.Download(r.ctx(), p.image); !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
				t.Errorf("after Close: %v", err)
			}
			reupload.MediaClient(r.client).CloseIdleConnections()
		})
	}
}

func TestMediaClientIsCopiedAndPutBack(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	tr := r.box.Transport()
	own := &http.Client{Transport: tr, Timeout: time.Minute, Jar: jar}
	r.client.SetMediaHTTPClient(own)
	logger := reupload.ReceiveLogger(r.client)
	r.register(nil)
	wrapped := reupload.MediaClient(r.client)
	if wrapped == own || own.Transport != tr {
		t.Error("the bot's own client was changed")
	}
	if wrapped.Jar != jar {
		t.Error("the Jar is lost")
	}
	tap := reupload.ReceiveLogger(r.client)
	if tap == logger {
		t.Error("there is no tap")
	}
	if _, err = reupload.Register(r.client, nil); !errors.Is(err, reupload.ErrAlreadyRegistered) {
		t.Errorf("second Register: %v", err)
	}
	r.plugin.Close()
	if reupload.MediaClient(r.client) != own || own.Transport != tr {
		t.Error("the media client is not back")
	}
	if reupload.ReceiveLogger(r.client) != tap {
		t.Error("the tap was taken away, though nothing tells whether somebody reads it")
	}

	// And the whole once more, connected this time.
	r.register(nil)
	r.connect()
	r.heals(r.receivePicture())
	r.client.SetProxy(nil)
	if _, err = reupload.Register(r.client, nil); !errors.Is(err, reupload.ErrAlreadyRegistered) {
		t.Errorf("Register while registered and with another proxy: %v", err)
	}
	r.plugin.Close()
	r.client.SetMediaHTTPClient(own)
	r.register(nil)
	r.heals(r.receivePicture()) // our handler is the first again
	if err = r.plugin.Degraded(); err != nil {
		t.Errorf("the tap that was left in place was not taken over: %v", err)
	}
}

func TestCloseInsideHandler(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	r.register(nil)
	closed := make(chan error, 1)
	r.client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok {
			_, err := r.client.Download(t.Context(), msg.Message.GetImageMessage())
			closed <- err
		}
	})
	r.connect()
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.Expire(media)
	if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.phone.WaitRequests(r.ctx(), 1); err != nil {
		t.Fatal(err)
	}
	r.plugin.Close() // while a handler waits
	if err := <-closed; !errors.Is(reupload.Cause(err), reupload.ErrClosed) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}

	done := make(chan struct{})
	r.register(&reupload.Options{HandlerTimeout: 100 * time.Millisecond}) // for the handler that downloads
	r.client.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Message); ok {
			r.plugin.Close() // inside a handler
			close(done)
		}
	})
	if _, err := r.phone.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatal("Close inside a handler hangs")
	}
}

func TestRegisterAfterConnect(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	downloads := make(chan error, 1)
	r.client.AddEventHandler(func(evt any) {
		if msg, ok := evt.(*events.Message); ok && r.plugin != nil && msg.Message.GetImageMessage() != nil {
			_, err := r.plugin.Download(t.Context(), &msg.Info, msg.Message.GetImageMessage())
			downloads <- err
		}
	})
	r.connect()
	r.register(nil)
	if n := r.log.count("WARN", "downloads inside event handlers do not heal at once"); n != 1 {
		t.Errorf("said %d times that there is no tap", n)
	}
	if err := r.plugin.Degraded(); err == nil || !strings.Contains(err.Error(), "call Register before Connect") {
		t.Errorf("Degraded says %v", err)
	}

	// Inside the handler the answer cannot arrive. The download fails at once, and the request is
	// on its way.
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.Expire(media)
	start := time.Now()
	evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	if err := <-downloads; !errors.Is(reupload.Cause(err), reupload.ErrHandlerBlocked) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	if waited := time.Since(start); waited > 10*time.Second {
		t.Errorf("it took %v", waited)
	}
	// Outside it heals, without a second request.
	r.heals(picture{media, evt, evt.Message.GetImageMessage()})
	r.asked(1)
}

func TestRegisterInsideHandlerIsRefused(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	errs := make(chan error, 100)
	r.client.AddEventHandler(func(evt any) {
		_, err := reupload.Register(r.client, nil)
		errs <- err
	})
	r.connect()
	if err := <-errs; err == nil || !strings.Contains(err.Error(), "inside an event handler") {
		t.Errorf("got %v", err)
	}
}

func TestPrivateFieldsAreGuarded(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	if reupload.HasField[int](r.client, "recvLog") || reupload.HasField[*http.Client](r.client, "noSuchField") {
		t.Error("a field that is not there was found")
	}
	if !reupload.HasField[*http.Client](r.client, "mediaHTTP") || !reupload.HasField[sync.RWMutex](r.client, "eventHandlersLock") {
		t.Error("whatsmeow has changed")
	}
	r.client.SetMediaHTTPClient(nil)
	if _, err := reupload.Register(r.client, nil); err == nil || !strings.Contains(err.Error(), "Options.HTTPClient") {
		t.Errorf("Register without a media client: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	for _, opts := range []reupload.Options{{Timeout: -1}, {MaxInFlight: -1}} {
		if _, err := reupload.Register(r.client, &opts); err == nil {
			t.Errorf("%+v was accepted", opts)
		}
	}
	if _, err := reupload.Register(nil, nil); !errors.Is(err, whatsmeow.ErrClientIsNil) {
		t.Errorf("nil client: %v", err)
	}
}
