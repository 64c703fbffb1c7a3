package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of what comes of an answer, and of paths that are known without one.

// nowhere is a path under which there is nothing.
const nowhere = "/v/t62.7118-24/nowhere.enc?ccb=11-4&oh=x&oe=7FFFFFFF"

// A lateCDN gives nothing good out under a path at first.
type lateCDN struct {
	base  *http.Transport
	path  string
	spoil func(resp *http.Response)
	lasts time.Duration

	mu    sync.Mutex
	since time.Time
}

func (c *lateCDN) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := c.base.RoundTrip(req)
	if err != nil || req.URL.Path != c.path {
		return resp, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.since.IsZero() {
		c.since = time.Now()
	}
	if time.Since(c.since) < c.lasts {
		c.spoil(resp)
	}
	return resp, nil
}

// instead gives a response another body.
func instead(resp *http.Response, body []byte, end error) {
	resp.Body.Close()
	resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body), failingBody{end}))
	resp.ContentLength = -1
	resp.Header.Del("Content-Length")
}

type failingBody struct{ err error }

func (b failingBody) Read([]byte) (int, error) { return 0, b.err }

// A new path that gives nothing good for an instant heals the download all the same, with one
// request and no pause, whatever the size of the file.
func TestNewPathIsNotGoodAtOnce(t *testing.T) {
	t.Parallel()
	const large = 9 << 20
	for name, spoil := range map[string]func(size int) func(*http.Response){
		"404": func(int) func(*http.Response) {
			return func(resp *http.Response) {
				instead(resp, nil, io.EOF)
				resp.StatusCode, resp.Status = http.StatusNotFound, "404 Not Found"
			}
		},
		"nothing": func(int) func(*http.Response) {
			return func(resp *http.Response) { instead(resp, nil, io.EOF) }
		},
		"other bytes": func(size int) func(*http.Response) {
			return func(resp *http.Response) { instead(resp, make([]byte, size), io.EOF) }
		},
		"broken off": func(size int) func(*http.Response) {
			return func(resp *http.Response) {
				half := make([]byte, size-1000)
				_, _ = io.ReadFull(resp.Body, half)
				instead(resp, half, io.ErrUnexpectedEOF)
			}
		},
	} {
		for kind, size := range map[string]int{"small": 0, "large": large} {
			runInBubble(t, name+", "+kind, func(t *testing.T) {
				data := content()
				if size > 0 {
					data = append(data, make([]byte, size)...)
				}
				r := newUnregisteredRig(t)
				media := r.box.Upload(data, whatsmeow.MediaImage)
				path := r.box.Reupload(media)
				cdn := &lateCDN{base: r.box.Transport(), spoil: spoil(len(data)), lasts: 300 * time.Millisecond}
				cdn.path, _, _ = strings.Cut(path, "?")
				t.Cleanup(cdn.base.CloseIdleConnections)
				r.register(&reupload.Options{HTTPClient: &http.Client{Transport: cdn}})
				r.connect()
				evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
				r.box.SetStatus(media.DirectPath, http.StatusGone, "")
				p := picture{media, evt, evt.Message.GetImageMessage()}
				r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path})
				start := time.Now()
				r.heals(p)
				if took := time.Since(start); took > 5*time.Second {
					t.Errorf("it took %s", took)
				}
				r.heals(p)
				r.asked(1)
			})
		}
	}
}

// A new upload that stays broken counts as nonsense: it is not used, and another one is asked for
// after the pause for that.
func TestBrokenUploadIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		broken := r.box.Reupload(p.Media)
		r.box.Corrupt(broken)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: broken}, wabox.Answer{Result: wabox.Success})
		r.fails(p, reupload.ErrInvalidAnswer)
		time.Sleep(defaultSilencePause)
		r.heals(p)
		r.asked(2)
	})
}

// A new upload that breaks off each time is given its time once. Then another one is asked for.
func TestUploadThatBreaksOffIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		broken := r.box.Reupload(p.Media)
		r.box.Truncate(broken)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: broken}, wabox.Answer{Result: wabox.Success})
		r.fails(p, reupload.ErrReplayFailed)
		r.heals(p)
		r.asked(2)
	})
}

// Callers that download at once from a path which has just led to the file, and then fails for an
// instant, do not use up its time together.
func TestNewPathFailsForManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, status := range []int{http.StatusNotFound, http.StatusServiceUnavailable} {
		runInBubble(t, http.StatusText(status), func(t *testing.T) {
			r := newRig(t, nil)
			p := r.receivePicture()
			path := r.box.Reupload(p.Media)
			r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path, Delay: time.Second})
			var mu sync.Mutex
			var since time.Time // of the first download
			r.box.Serve(path, func(w http.ResponseWriter, _ *http.Request) bool {
				mu.Lock()
				defer mu.Unlock()
				if since.IsZero() {
					since = time.Now()
					return false
				}
				fails := time.Since(since) < 200*time.Millisecond
				if fails {
					w.WriteHeader(status)
				}
				return fails
			})
			var downloads sync.WaitGroup
			for range 12 {
				downloads.Go(func() {
					if _, err := r.client.Download(r.ctx(), p.image); err != nil {
						t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
					}
				})
			}
			downloads.Wait()
			r.heals(p)
			r.asked(1)
		})
	}
}

// A new path that is not good at once is given its time by the next caller too, when the first one
// has left.
func TestNewPathOfACallerThatHasLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		path := r.box.Reupload(media)
		spoil := func(resp *http.Response) { instead(resp, []byte("other bytes"), io.EOF) }
		cdn := &lateCDN{base: r.box.Transport(), spoil: spoil, lasts: 2 * time.Second}
		cdn.path, _, _ = strings.Cut(path, "?")
		t.Cleanup(cdn.base.CloseIdleConnections)
		r.register(&reupload.Options{HTTPClient: &http.Client{Transport: cdn}})
		r.connect()
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
		r.box.SetStatus(media.DirectPath, http.StatusGone, "")
		p := picture{media, evt, evt.Message.GetImageMessage()}
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path})
		ctx, cancel := context.WithTimeout(r.ctx(), time.Second)
		defer cancel()
		if _, err := r.client.Download(ctx, p.image); err == nil {
			t.Errorf("the first caller: %v", err)
		}
		r.heals(p)
		r.asked(1)
	})
}

// A caller can leave before it is known that the new path leads nowhere. The next one finds that
// out, and does not ask the phone for another upload of what it does not have.
func TestUselessPathOfACallerThatHasLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, DirectPath: nowhere, Delay: 4 * time.Second}}
		})
		for i := range 5 {
			ctx, cancel := context.WithTimeout(r.ctx(), 5*time.Second)
			_, err := r.client.Download(ctx, p.image)
			cancel()
			if cause := reupload.Cause(err); i > 0 && !errors.Is(cause, reupload.ErrInvalidAnswer) {
				t.Errorf("attempt %d: %v (cause: %v)", i+1, err, cause)
			}
		}
		r.asked(1)
	})
}

// A file that the CDN forbids for another reason than its age is taken from a path that is known.
// The phone is not asked.
func TestForbiddenFileFromAKnownPath(t *testing.T) {
	t.Parallel()
	runInBubble(t, "of another message", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		again := p.Media.Image()
		again.DirectPath = proto.String(r.box.Reupload(p.Media))
		r.receive(wabox.Incoming{From: alice}, &waE2E.Message{ImageMessage: again})
		r.box.SetStatus(p.DirectPath, http.StatusForbidden, "bad signature")
		r.heals(p)
		r.asked(0)
	})
	runInBubble(t, "of none", func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, http.StatusForbidden, "bad signature")
		r.fails(p, reupload.ErrForbidden)
		r.asked(0)
	})
	runInBubble(t, "of the phone's, after a restart", func(t *testing.T) {
		index := reupload.NewMemoryIndex(0)
		r := newRig(t, &reupload.Options{Index: index})
		p := r.receivePicture()
		r.heals(p)
		r.plugin.Close()
		r.register(&reupload.Options{Index: index})
		r.box.SetStatus(p.DirectPath, http.StatusForbidden, "bad signature")
		r.heals(p)
		r.asked(1)
	})
}

// The ack of a second form that comes after its request has ended is not taken for the bot's own
// request: RequestReupload sends at once.
func TestLateAckOfTheSecondForm(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]wabox.Answer{
		"after an answer to the first": {Result: wabox.Success, Delay: 9 * time.Second},
		"after the time-out":           {None: true},
	} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.receivePicture()
			r.phone.Phone(func(wabox.Request) []wabox.Answer {
				switch r.phone.RequestCount() {
				case 1:
					return []wabox.Answer{first}
				case 2:
					late := 2 * time.Second
					if first.None {
						late = defaultTimeout
					}
					return []wabox.Answer{{None: true, AckDelay: late}}
				}
				return []wabox.Answer{{Result: wabox.Success}}
			})
			_, _ = r.requests(p.request()).end()
			r.asked(2)                   // under both names of the account
			time.Sleep(10 * time.Second) // the ack has come by now
			c := r.requests(p.request())
			c.succeeds(t)
			if c.took > time.Second {
				t.Errorf("it took %s", c.took)
			}
			r.asked(3)
			r.heals(r.receivePicture()) // the plugin has not learned that the bot asks by itself
		})
	}
}

// RequestAll and downloads know of each other's answers, though a request does not tell the file,
// and though the index has never seen the message.
func TestRequestAllAndDownloadsShareAnswers(t *testing.T) {
	t.Parallel()
	for name, isSeen := range map[string]bool{"seen": true, "unseen": false} {
		runInBubble(t, name, func(t *testing.T) {
			opts := &reupload.Options{Index: reupload.NewMemoryIndex(0)}
			r := newUnregisteredRig(t)
			if isSeen {
				r.register(opts)
			}
			r.connect()
			healed, lost := r.receivePicture(), r.receivePicture()
			r.phone.Forget(lost.id())
			if !isSeen {
				r.register(opts)
			}
			download := func(p picture) error {
				_, err := r.client.Download(reupload.WithRequest(r.ctx(), p.request(), p.FileEncSHA256), p.image)
				return reupload.Cause(err)
			}
			askFor := func(p picture) (got reupload.Answer) {
				for got = range r.plugin.RequestAll(r.ctx(), slices.Values([]reupload.Request{p.request()})) {
				}
				return got
			}
			if cause := download(healed); cause != nil {
				t.Errorf("not healed: %v", cause)
			}
			r.asked(1)
			if a := askFor(healed); a.Err != nil || a.Result.DirectPath == "" {
				t.Errorf("after a download that healed: %v, %v", a.Result, a.Err)
			}
			r.asked(1)
			if a := askFor(lost); a.Err != nil || !errors.Is(a.Result.Err(), reupload.ErrNotFound) {
				t.Errorf("of a lost file: %v, %v", a.Result, a.Err)
			}
			r.asked(2)
			if cause := download(lost); !errors.Is(cause, reupload.ErrNotFound) {
				t.Errorf("the cause is %v", cause)
			}
			r.asked(2)
		})
	}
}

// A redirectingCDN sends downloads from one path to another host, which has nothing.
type redirectingCDN struct {
	base *http.Transport
	path string

	mu    sync.Mutex
	hosts map[string][]string // by path
}

const elsewhere = "media.elsewhere.example"

func (c *redirectingCDN) RoundTrip(req *http.Request) (*http.Response, error) {
	c.mu.Lock()
	c.hosts[req.URL.Path] = append(c.hosts[req.URL.Path], req.URL.Host)
	c.mu.Unlock()
	resp := &http.Response{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}
	switch {
	case req.URL.Host == elsewhere:
		resp.StatusCode = http.StatusGone
	case req.URL.Path == c.path:
		to := *req.URL
		to.Host = elsewhere
		resp.StatusCode = http.StatusFound
		resp.Header.Set("Location", to.String())
	default:
		return c.base.RoundTrip(req)
	}
	return resp, nil
}

// Many callers that wait for one file do not all download it at the same time.
func TestCallersDownloadInTurns(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		path := r.box.Reupload(p.Media)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Delay: time.Second, DirectPath: path})
		var now, most atomic.Int32
		r.box.Serve(path, func(http.ResponseWriter, *http.Request) bool {
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			time.Sleep(time.Second)
			now.Add(-1)
			return false
		})
		var callers sync.WaitGroup
		for range 40 {
			callers.Go(func() { r.heals(p) })
		}
		began := time.Now()
		for range 5 { // who want the path alone wait for the first download, and no turn
			callers.Go(func() {
				got, err := r.plugin.FreshPath(r.ctx(), &p.evt.Info, p.image)
				if took := time.Since(began); got != path || took != 2*time.Second {
					t.Errorf("after %v the path is %s, %v", took, got, err)
				}
			})
		}
		callers.Wait()
		if n := most.Load(); n != 16 {
			t.Errorf("%d callers downloaded at the same time", n)
		}
		r.asked(1)
	})
}

// Where a file has moved to is tried first as long as it is there. When it is gone it is tried as a
// path that is known as well, and then not again.
func TestMoveThatIsOver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		path := r.box.Reupload(p.Media)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path}, wabox.Answer{Result: wabox.NotFound})
		r.heals(p)
		r.heals(p)
		r.box.SetStatus(path, http.StatusGone, "")
		hits := r.box.Hits(path)
		for range 3 {
			r.fails(p, reupload.ErrNotFound)
		}
		if n := r.box.Hits(path) - hits; n != 2 {
			t.Errorf("the path that is gone was tried %d times", n)
		}
	})
}

// The new path goes to the host that whatsmeow has chosen, and never to the one that a redirect
// names: it is worth the file.
func TestNewPathStaysWithItsHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		cdn := &redirectingCDN{base: r.box.Transport(), hosts: make(map[string][]string)}
		t.Cleanup(cdn.base.CloseIdleConnections)
		r.register(&reupload.Options{HTTPClient: &http.Client{Transport: cdn}})
		r.connect()
		p := r.receivePicture()
		cdn.path = p.Path()
		path := r.box.Reupload(p.Media)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path})
		for range 2 {
			r.heals(p)
		}
		r.asked(1)
		path, _, _ = strings.Cut(path, "?")
		cdn.mu.Lock()
		defer cdn.mu.Unlock()
		if len(cdn.hosts[path]) != 2 || slices.Contains(cdn.hosts[path], elsewhere) {
			t.Errorf("the new path went to %v", cdn.hosts[path])
		}
		if !slices.Contains(cdn.hosts[cdn.path], elsewhere) {
			t.Error("nothing was redirected")
		}
	})
}
