package reupload

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
)

// A cdn answers downloads by their path. What is not there has expired.
type cdn map[string]string

func (c cdn) RoundTrip(req *http.Request) (*http.Response, error) {
	resp := &http.Response{StatusCode: http.StatusGone, Header: http.Header{}, Body: http.NoBody, Request: req}
	if content, there := c[req.URL.Path]; there {
		resp.StatusCode, resp.Body = http.StatusOK, io.NopCloser(strings.NewReader(content))
	}
	return resp, nil
}

// A path that has given other bytes is tried again when the phone names it again, and then it is as
// good as any.
func TestPathThatWasWrongCanBecomeRight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newStage(t)
		files := cdn{"/new": "something else"}
		p, err := Register(whatsmeow.NewClient(&store.Device{}, nil), &Options{SilencePause: -1, HTTPClient: &http.Client{Transport: files}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		p.sender.account.Store(&account{pn: stageOwn})
		p.pending.sender = s.line
		s.pending, s.queue, s.ledger = p.pending, p.queue, p.ledger

		hash := sha256.Sum256([]byte("the file"))
		ctx := WithRequest(t.Context(), file(1).Request, hash[:])
		client, _ := mediaClient(p.client)
		download := func(path string) (content []byte) {
			url := "https://cdn.test" + path + "?oe=1&hash=" + base64.URLEncoding.EncodeToString(hash[:]) + "&mms-type=image&__wa-mms="
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan struct{})
			go func() {
				defer close(done)
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				content, _ = io.ReadAll(resp.Body)
			}()
			synctest.Wait()
			s.finds(file(1), "/new?oe=2")
			<-done
			return content
		}
		for n, test := range []struct{ there, path, want string }{
			{"something else", "/dead", "something else"}, // which whatsmeow refuses
			{"the file", "/dead", "the file"},             // asked for again
			{"the file", "/dead, too", "the file"},        // from where it is known to be
		} {
			files["/new"] = test.there
			if got := download(strings.ReplaceAll(test.path, ", ", "-")); !bytes.Equal(got, []byte(test.want)) {
				t.Fatalf("download %d gives %q, want %q", n+1, got, test.want)
			}
		}
		if n := len(s.line.sendings); n != 2 {
			t.Errorf("the phone was asked %d times, want twice", n)
		}
	})
}
