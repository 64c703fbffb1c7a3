package reupload_test

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A leakyTransport puts the whole URL into its errors, as one does that is built on an http.Client.
type leakyTransport struct {
	base  http.RoundTripper
	fails string // a path
}

func (l leakyTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == l.fails {
		return nil, &url.Error{Op: "Get", URL: req.URL.String(), Err: io.ErrUnexpectedEOF}
	}
	return l.base.RoundTrip(req)
}

// Media keys and direct paths are worth the file.
func TestNoSecretsInErrorsAndLog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const query = "?ccb=11-4&oh=01_SECRETTOKEN&oe=7FFFFFFF&_nc_sid=5e03e0"
		heard := make(told, 100)
		r := newUnregisteredRig(t)
		r.register(heard.options(reupload.Options{
			SilencePause: -1,
			RefusalPause: -1,
			HTTPClient:   &http.Client{Transport: leakyTransport{r.box.Transport(), "/v/secret-leaky"}},
		}))
		r.connect()
		secrets := map[string]string{"oh=": "a query", "SECRETTOKEN": "a query", "secret-": "a path", "evil": "a path"}
		var texts []string
		for _, answer := range []wabox.Answer{
			{Result: wabox.Success},
			{Result: wabox.NotFound},
			{Result: wabox.NotFound, WithPath: true},
			{Garbage: true},
			{WrongKey: true},
			{Result: wabox.Success, IV: make([]byte, 16)},
			{Ack: wabox.AckError("479")},
			{None: true},
			{Result: wabox.Success, StanzaID: proto.String("secret-other")},
			{Result: wabox.Success, DirectPath: "@evil.example/secret-a" + query},
			{Result: wabox.Success, DirectPath: "/secret-b\n" + query},
			{Result: wabox.Success, DirectPath: "/secret-%zz" + query},
			{Result: wabox.Success, DirectPath: "/v/secret-c" + query},     // there is nothing
			{Result: wabox.NotFound, DirectPath: "/v/secret-c" + query},    // there is nothing
			{Result: wabox.Success, DirectPath: "/v/secret-d" + query},     // forbidden
			{Result: wabox.Success, DirectPath: "/v/secret-leaky" + query}, // the transport fails
		} {
			p := r.receivePicture()
			r.box.SetStatus("/v/secret-d", http.StatusForbidden, "secret-body")
			r.phone.Script(p.id(), answer)
			_, err := r.client.Download(r.ctx(), p.image)
			if cause := reupload.Cause(err); cause != nil {
				texts = append(texts, cause.Error())
			}
			c := r.requests(p.request())
			texts = append(texts, fmt.Sprint(c.err), fmt.Sprint(c.result.Err()))
			if path, _, found := strings.Cut(c.result.DirectPath, "?"); found {
				secrets[path] = "a path"
			}
			short := p.request()
			short.MediaKey = short.MediaKey[:31]
			texts = append(texts, fmt.Sprint(r.requests(short).err))
			r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success})
			r.requests(p.request()).succeeds(t)
			key := p.MediaKey[:31]
			secrets[p.Path()] = "a path"
			secrets[hex.EncodeToString(key)], secrets[strings.ToUpper(hex.EncodeToString(key))] = "a media key", "a media key"
			secrets[base64.StdEncoding.EncodeToString(key)[:40]], secrets[base64.URLEncoding.EncodeToString(key)[:40]] = "a media key", "a media key"
			secrets[string(key)], secrets[fmt.Sprint(key[:16])[1:40]] = "a media key", "a media key"
		}
		// A late one, too.
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		c := r.requests(p.request())
		c.fails(t, reupload.ErrTimeout)
		requests := r.phone.Requests()
		r.answer(requests[len(requests)-1], wabox.Answer{Result: wabox.Success})
		until(t, "the late answer", func() bool { return r.plugin.Stats().Late > 0 })
		r.heals(p)
		r.plugin.Close()

		for _, text := range texts {
			for secret, what := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("an error holds %s: %q", what, text)
				}
			}
		}
		for line := range strings.Lines(r.log.all()) {
			if _, ours, found := strings.Cut(line, " Reupload: "); found {
				for secret, what := range secrets {
					if strings.Contains(ours, secret) {
						t.Errorf("the log holds %s: %q", what, line)
					}
				}
			}
		}
		if r.log.count("", " Reupload: ") == 0 {
			t.Error("nothing was logged at all")
		}
	})
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
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		quoting := &quotingTransport{base: r.box.Transport()}
		t.Cleanup(quoting.base.CloseIdleConnections)
		r.client.SetMediaHTTPClient(&http.Client{Transport: quoting})
		r.register(nil)
		r.connect()
		p := r.receivePicture()
		_, err := r.client.Download(r.ctx(), p.image)
		cause := reupload.Cause(err)
		if !errors.Is(cause, reupload.ErrReplayFailed) || errors.Is(cause, errQuoted) {
			t.Fatalf("got %v (cause: %v)", err, cause)
		}
		for _, text := range []string{cause.Error(), r.log.all()} {
			if strings.Contains(text, "oh=") || strings.Contains(text, "hash=") {
				t.Errorf("it says %s", text)
			}
		}
	})
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
