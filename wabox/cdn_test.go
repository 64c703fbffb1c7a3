package wabox_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"
)

func TestDownload(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	picture := bytes.Repeat([]byte("0123456789abcdef"), 10_000)
	for _, message := range []whatsmeow.DownloadableMessage{
		box.Upload(picture, whatsmeow.MediaImage).Image(),
		box.Upload(picture, whatsmeow.MediaVideo).Video(),
		box.Upload(picture, whatsmeow.MediaAudio).Audio(),
		box.Upload(picture, whatsmeow.MediaDocument).Document(),
		box.Upload(picture, whatsmeow.MediaImage).Sticker(),
		box.UploadPlain(picture, whatsmeow.MediaImage).Image(),
	} {
		data, err := b.Download(t.Context(), message)
		if err != nil || !bytes.Equal(data, picture) {
			t.Errorf("%T: got %d bytes, %v", message, len(data), err)
		}
	}

	thumbnail := box.Upload([]byte("small"), whatsmeow.MediaLinkThumbnail)
	data, err := b.DownloadThumbnail(t.Context(), &waE2E.ExtendedTextMessage{
		ThumbnailDirectPath: &thumbnail.DirectPath, ThumbnailSHA256: thumbnail.FileSHA256,
		ThumbnailEncSHA256: thumbnail.FileEncSHA256, MediaKey: thumbnail.MediaKey,
	})
	if err != nil || string(data) != "small" {
		t.Errorf("thumbnail: got %q, %v", data, err)
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	up, err := b.Upload(t.Context(), []byte("mine"), whatsmeow.MediaDocument)
	if err != nil {
		t.Fatal(err)
	}
	data, err := b.Download(t.Context(), &waE2E.DocumentMessage{
		DirectPath: &up.DirectPath, MediaKey: up.MediaKey, FileSHA256: up.FileSHA256, FileEncSHA256: up.FileEncSHA256,
	})
	if err != nil || string(data) != "mine" {
		t.Errorf("got %q, %v", data, err)
	}

	up, err = b.UploadNewsletter(t.Context(), []byte("everyone's"), whatsmeow.MediaImage)
	if err != nil {
		t.Fatal(err)
	}
	data, err = b.Download(t.Context(), &waE2E.ImageMessage{DirectPath: &up.DirectPath, FileSHA256: up.FileSHA256})
	if err != nil || string(data) != "everyone's" || up.Handle == "" {
		t.Errorf("got %q, %v, handle %q", data, err, up.Handle)
	}

	if err := b.DeleteMedia(t.Context(), whatsmeow.MediaImage, up.DirectPath, up.FileSHA256, ""); err != nil {
		t.Error(err)
	}
	_, err = b.Download(t.Context(), &waE2E.ImageMessage{DirectPath: &up.DirectPath, FileSHA256: up.FileSHA256})
	if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith404) {
		t.Errorf("got %v after deletion", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	image := media.Image()
	download := func(want error) {
		t.Helper()
		if _, err := b.Download(t.Context(), image); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	box.SetStatus(media.DirectPath, http.StatusNotFound, "")
	download(whatsmeow.ErrMediaDownloadFailedWith404)
	box.SetStatus(media.Path(), 0, "")
	download(nil)
	again := box.Reupload(media)
	box.Expire(media)
	download(whatsmeow.ErrMediaDownloadFailedWith410)
	image.DirectPath = &again
	download(whatsmeow.ErrMediaDownloadFailedWith410)
	image.DirectPath = proto.String(box.Reupload(media))
	download(nil)
	image.FileEncSHA256 = make([]byte, 32)
	download(whatsmeow.ErrMediaDownloadFailedWith404)
	image.FileEncSHA256 = media.FileEncSHA256
	image.DirectPath = proto.String(media.Path())
	box.SetStatus(media.Path(), 0, "")
	download(whatsmeow.ErrMediaDownloadFailedWith403)
	box.Corrupt(media.Path())
	image.DirectPath = &media.DirectPath
	download(whatsmeow.ErrInvalidMediaEncSHA256)

	if got := box.Hits(media.DirectPath); got != 5 {
		t.Errorf("%d hits, want 5", got)
	}
	asked := box.Asked()
	last := asked[len(asked)-1]
	if last.Method != http.MethodGet || last.Host != "mmg.whatsapp.net" || last.Path != media.Path() || last.Status != 200 ||
		!strings.Contains(last.RawQuery, "mms-type=image") || last.Header.Get("Origin") == "" || last.At.IsZero() {
		t.Errorf("got %+v", last)
	}
	box.RecordAsked(false)
	download(whatsmeow.ErrInvalidMediaEncSHA256)
	if got := len(box.Asked()); got != len(asked) {
		t.Errorf("%d requests recorded, want %d", got, len(asked))
	}
}

func TestWhatTheCDNDoesNotHave(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	transport := box.Transport()
	defer transport.CloseIdleConnections()
	for n, test := range []struct {
		method, path string
		status       int
	}{
		{http.MethodPut, media.DirectPath, http.StatusMethodNotAllowed},
		{http.MethodPost, "/nowhere/image/hash", http.StatusNotFound}, // for an upload
		{http.MethodPost, "/mms/image", http.StatusNotFound},
	} {
		req, err := http.NewRequestWithContext(t.Context(), test.method, "https://mmg.whatsapp.net"+test.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		asked := box.Asked()
		if resp.StatusCode != test.status || len(asked) != n+1 || asked[n].Status != resp.StatusCode {
			t.Errorf("%s %s: got %s, and recorded is %+v", test.method, test.path, resp.Status, asked)
		}
	}
}

// get downloads as whatsmeow does, without its patience for broken connections.
func get(box *wabox.Box, media *wabox.Media, directPath string) (status int, body []byte, err error) {
	transport := box.Transport()
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get(fmt.Sprintf("https://media-fra3-1.cdn.whatsapp.net%s&hash=%s&mms-type=image&__wa-mms=",
		directPath, base64.URLEncoding.EncodeToString(media.FileEncSHA256)))
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func TestExpiredSignature(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	past := fmt.Sprintf("%s?ccb=11-4&oh=01_x&oe=%X&_nc_sid=5e03e0", media.Path(), time.Now().Add(-time.Hour).Unix())
	status, body, err := get(box, media, past)
	if err != nil || status != http.StatusForbidden || !strings.Contains(string(body), "URL signature expired") {
		t.Errorf("got %d, %q, %v", status, body, err)
	}
	box.SetStatus("/nowhere", http.StatusTooManyRequests, "slow down")
	status, body, err = get(box, media, "/nowhere?oe=0")
	if err != nil || status != http.StatusTooManyRequests || string(body) != "slow down" {
		t.Errorf("got %d, %q, %v", status, body, err)
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.Upload(make([]byte, 100_000), whatsmeow.MediaImage)
	box.Truncate(media.DirectPath)
	status, body, err := get(box, media, media.DirectPath)
	if status != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF) || len(body) == 0 || len(body) > 60_000 {
		t.Errorf("got %d, %d bytes, %v", status, len(body), err)
	}
}

// downloads returns a channel that has a value for each request that the CDN is about to answer.
func downloads(box *wabox.Box) <-chan struct{} {
	asked := make(chan struct{}, 100)
	box.OnEvent(func(evt wabox.Event) {
		if evt.What == wabox.CDN {
			asked <- struct{}{}
		}
	})
	return asked
}

func TestServe(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	other := box.Reupload(media)
	gets := func(want int) {
		t.Helper()
		status, body, err := get(box, media, media.DirectPath)
		if status != want || err != nil || want == http.StatusOK && len(body) == 0 {
			t.Errorf("got status %d and %d bytes (%v), want status %d", status, len(body), err, want)
		}
	}
	served := 0
	box.Serve(media.DirectPath, func(w http.ResponseWriter, r *http.Request) bool {
		switch served++; served {
		case 1:
			w.WriteHeader(http.StatusTeapot)
		case 2:
			http.Redirect(w, r, other+"&"+r.URL.RawQuery[strings.Index(r.URL.RawQuery, "hash="):], http.StatusFound)
		default:
			return false
		}
		return true
	})
	gets(http.StatusTeapot)
	gets(http.StatusOK) // from the other path
	if asked := box.Asked(); len(asked) != 3 || asked[0].Status != 0 || asked[1].Status != 0 || asked[2].Path == media.Path() {
		t.Errorf("asked were %+v", asked)
	}
	gets(http.StatusOK)
	box.Serve(media.DirectPath, func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
	if _, _, err := get(box, media, media.DirectPath); err == nil {
		t.Error("the connection did not break")
	}
	if n := len(box.Asked()); n != 5 {
		t.Errorf("%d requests are recorded, want 5", n)
	}
	box.Serve(media.DirectPath, nil)
	gets(http.StatusOK)
	if served != 3 {
		t.Errorf("the function was called %d times", served)
	}
}

func TestStall(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	release := make(chan struct{})
	box.Stall(media.DirectPath, release)
	asked := downloads(box)
	done := make(chan error, 1)
	go func() {
		_, _, err := get(box, media, media.DirectPath)
		done <- err
	}()
	<-asked
	select {
	case err := <-done:
		t.Fatalf("answered before it was released: %v", err)
	default:
	}
	close(release)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestMediaHosts(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	b := login(t, box.NewAccount())
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	box.MediaHosts("media-fra3-1.fna.whatsapp.net", "mmg.whatsapp.net")
	if _, err := b.Download(t.Context(), media.Image()); err != nil {
		t.Fatal(err)
	}
	if asked := box.Asked(); len(asked) != 1 || asked[0].Host != "media-fra3-1.fna.whatsapp.net" {
		t.Errorf("got %+v", asked)
	}
}

func TestProxy(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	proxy, err := box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	account := box.NewAccount()
	b := newBot(t, account)
	if err := b.SetProxyAddress(proxy.URL().String()); err != nil {
		t.Fatal(err)
	}
	b.connect(t)
	media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
	if _, err := b.Download(t.Context(), media.Image()); err != nil {
		t.Fatal(err)
	}
	if got := proxy.Hits(); got != 2 {
		t.Errorf("%d connections through the proxy, want one for the websocket and one for media", got)
	}

	transport := box.Transport()
	defer transport.CloseIdleConnections()
	transport.Proxy = http.ProxyURL(proxy.URL())
	resp, err := (&http.Client{Transport: transport}).Get("https://static.whatsapp.net/nothing")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := proxy.Hits(); got != 3 {
		t.Errorf("%d connections through the proxy, want 3", got)
	}
}

func TestRange(t *testing.T) {
	t.Parallel()
	box := newBox(t)
	media := box.UploadPlain([]byte("0123456789"), whatsmeow.MediaImage)
	empty := box.UploadPlain(nil, whatsmeow.MediaImage)
	for _, c := range []struct {
		path, asked string
		status      int
		says, body  string
	}{
		{media.DirectPath, "bytes=0-0", http.StatusPartialContent, "bytes 0-0/10", "0"},
		{media.DirectPath, "bytes=8-99", http.StatusPartialContent, "bytes 8-9/10", "89"},
		{media.DirectPath, "bytes=10-10", http.StatusRequestedRangeNotSatisfiable, "bytes */10", ""},
		{media.DirectPath, "bytes=3-2", http.StatusOK, "", "0123456789"},
		{media.DirectPath, "lines=0-0", http.StatusOK, "", "0123456789"},
		{empty.DirectPath, "bytes=0-0", http.StatusRequestedRangeNotSatisfiable, "bytes */0", ""},
		{"/nowhere?oh=1&oe=FFFFFFFF", "bytes=0-0", http.StatusNotFound, "", ""},
	} {
		transport := box.Transport()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://mmg.whatsapp.net"+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Range", c.asked)
		resp, err := (&http.Client{Transport: transport}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		transport.CloseIdleConnections()
		if resp.StatusCode != c.status || resp.Header.Get("Content-Range") != c.says || string(body) != c.body || err != nil {
			t.Errorf("%s of %s: got %d, %q, %q, %v", c.asked, c.path, resp.StatusCode, resp.Header.Get("Content-Range"), body, err)
		}
	}
	if asked := box.Asked(); asked[0].Status != http.StatusPartialContent {
		t.Errorf("recorded as %d", asked[0].Status)
	}
}
