package reupload_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// get asks the CDN as whatsmeow does, and returns what it would have got.
func (r *rig) get(m *wabox.Media) (status int, body string) {
	r.Helper()
	url := m.URL() + "&hash=" + base64.URLEncoding.EncodeToString(m.FileEncSHA256) + "&mms-type=image&__wa-mms="
	req, err := http.NewRequestWithContext(r.ctx(), http.MethodGet, url, nil)
	if err != nil {
		r.Fatal(err)
	}
	resp, err := host.MediaClient(r.client).Do(req)
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
	inBubble(t, func(t *testing.T) {
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
	})
}

// getAt is get for a path that was changed.
func (r *rig) getAt(m *wabox.Media) (status int, body string) {
	r.Helper()
	url := "https://mmg.whatsapp.net" + m.DirectPath + "&hash=" + base64.URLEncoding.EncodeToString(m.FileEncSHA256) + "&mms-type=image&__wa-mms="
	resp, err := host.MediaClient(r.client).Get(url)
	if err != nil {
		r.Fatal(err)
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data)
}

func TestMediaWithoutADirectPath(t *testing.T) {
	t.Parallel()
	pathless := func(r *rig) (picture, *waE2E.ImageMessage) {
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		image := media.Image()
		image.DirectPath, image.URL = nil, nil
		evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: image})
		return picture{media, evt, evt.Message.GetImageMessage()}, evt.Message.GetImageMessage()
	}
	runInBubble(t, "Plugin.Download", func(t *testing.T) {
		r := newRig(t, nil)
		p, image := pathless(r)
		if _, err := r.client.Download(r.ctx(), image); !errors.Is(err, whatsmeow.ErrNoURLPresent) {
			t.Errorf("whatsmeow says %v", err)
		}
		data, err := r.plugin.Download(r.ctx(), &p.evt.Info, image)
		if err != nil || !bytes.Equal(data, p.Plaintext) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		file, err := os.Create(filepath.Join(t.TempDir(), "picture"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		if err = r.plugin.DownloadToFile(r.ctx(), &p.evt.Info, image, file); err != nil {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(1)
		p, image = pathless(r)
		r.phone.Forget(p.id())
		_, err = r.plugin.Download(r.ctx(), &p.evt.Info, image)
		if !errors.Is(err, whatsmeow.ErrNoURLPresent) || !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		for _, asked := range r.box.Asked() {
			if strings.Contains(asked.Path, "reupload") {
				t.Errorf("the CDN was asked for %s", asked.Path)
			}
		}
	})
	runInBubble(t, "FillMissingPaths", func(t *testing.T) {
		r := newRig(t, &reupload.Options{FillMissingPaths: true})
		p, image := pathless(r)
		if image.GetDirectPath() == "" {
			t.Fatal("the bot's handler sees no stand-in")
		}
		for range 2 {
			r.heals(p)
		}
		r.asked(1)
		for _, asked := range r.box.Asked() {
			if strings.Contains(asked.Path, "reupload") {
				t.Errorf("the CDN was asked for %s", asked.Path)
			}
		}
	})
}

// A bot that has stored the path without its query.
func TestStrippedPath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		alive, lost := r.receivePicture(), r.receivePicture()
		for _, p := range []picture{alive, lost} {
			p.image.DirectPath = proto.String(p.Path())
		}
		for range 2 {
			r.heals(alive)
		}
		r.asked(1)
		r.phone.Forget(lost.id())
		r.fails(lost, reupload.ErrStrippedPath)
		r.fails(lost, reupload.ErrNotFound) // which it wraps
		if n := r.log.count("WARN", "without their query"); n != 1 {
			t.Errorf("warned %d times", n)
		}
	})
}

func TestForbiddenForAnotherReason(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, http.StatusForbidden, "nothing about its age")
		_, err := r.client.Download(r.ctx(), p.image)
		if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith403) || reupload.Label(reupload.Cause(err)) != "forbidden" {
			t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(0)
	})
}
