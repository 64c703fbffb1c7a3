package reupload_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// freshPath returns the path of a picture, which has to be one that works.
func (r *rig) freshPath(p picture) string {
	r.Helper()
	path, err := r.plugin.FreshPath(r.ctx(), &p.evt.Info, p.image)
	if err != nil {
		r.Fatalf("no path: %v (cause: %v)", err, reupload.Cause(err))
	}
	r.works(p, path)
	return path
}

// works checks that anybody can download a picture from a path.
func (r *rig) works(p picture, path string) {
	r.Helper()
	transport := r.box.Transport()
	defer transport.CloseIdleConnections()
	url := "https://mmg.whatsapp.net" + path + "&hash=" + hashOf(p.Media) + "&mms-type=image&__wa-mms="
	resp, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		r.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		r.Errorf("the path gives %s", resp.Status)
	}
}

// ranges returns the status of each request for the first byte of a file, and how often whole files
// were downloaded with the header that whatsmeow sends.
func (r *rig) ranges() (firstBytes []int, whole int) {
	for _, asked := range r.box.Asked() {
		switch {
		case asked.Header.Get("Range") == "bytes=0-0":
			firstBytes = append(firstBytes, asked.Status)
		case asked.Header.Get("Origin") != "":
			whole++
		}
	}
	return firstBytes, whole
}

func TestFreshPath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, 0, "") // it is still there
		if got := r.freshPath(p); got != p.DirectPath {
			t.Errorf("got %q, want the path at hand", got)
		}
		r.asked(0)
		if firstBytes, whole := r.ranges(); !slices.Equal(firstBytes, []int{206}) || whole != 0 {
			t.Errorf("the CDN was asked for first bytes with %v, and for %d files", firstBytes, whole)
		}

		r.box.Expire(p.Media)
		told := r.freshPath(p)
		if told == p.DirectPath {
			t.Error("the path at hand is gone, and was returned")
		}
		r.asked(1)
		if again := r.freshPath(p); again != told {
			t.Errorf("got %q, want the path that is known by now, %q", again, told)
		}
		r.asked(1)
		if firstBytes, whole := r.ranges(); !slices.Equal(firstBytes, []int{206, 410, 206, 206}) || whole != 0 {
			t.Errorf("the CDN was asked for first bytes with %v, and for %d files", firstBytes, whole)
		}
		r.heals(p) // from the path that is known
		r.asked(1)
		if s := r.plugin.Stats(); s.Healthy != 3 || s.Expired != 1 || s.Healed != 1 {
			t.Errorf("counted as %+v", s)
		}

		r.box.Expire(p.Media) // the new path, too
		if third := r.freshPath(p); third == told {
			t.Error("the path that was told is gone, and was returned")
		}
		r.asked(2)
	})
}

// Callers that want the file and callers that want its path share one request.
func TestFreshPathSharesWithDownloads(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Delay: time.Second})
		paths := make([]string, 40)
		var callers sync.WaitGroup
		for i := range paths {
			callers.Go(func() {
				var err error
				if paths[i], err = r.plugin.FreshPath(r.ctx(), &p.evt.Info, p.image); err != nil {
					t.Error(err)
				}
			})
			callers.Go(func() { r.heals(p) })
		}
		callers.Wait()
		r.asked(1)
		if firstBytes, _ := r.ranges(); len(firstBytes) > 41 {
			t.Errorf("the CDN was asked for first bytes %d times: by each caller about the old path, and once about the new one", len(firstBytes))
		}
		if paths = slices.Compact(paths); len(paths) != 1 || paths[0] == p.DirectPath {
			t.Error("the callers have got several paths, or the old one")
		}
	})
}

// Why there is no path is told as for a download.
func TestFreshPathFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		fails := func(ctx context.Context, want error) {
			t.Helper()
			path, err := r.plugin.FreshPath(ctx, &p.evt.Info, p.image)
			if path != "" || !errors.Is(reupload.Cause(err), want) || !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) {
				t.Errorf("got %q, %v (cause: %v), want the cause %v", path, err, reupload.Cause(err), want)
			}
		}
		fails(reupload.WithoutAsking(r.ctx()), reupload.ErrNotAsked)
		r.asked(0)
		r.phone.Script(p.id(), wabox.Answer{None: true})
		ctx, cancel := context.WithTimeout(r.ctx(), 3*time.Second)
		defer cancel()
		if path, err := r.plugin.FreshPath(ctx, &p.evt.Info, p.image); path != "" || err == nil || ctx.Err() == nil {
			t.Errorf("got %q, %v before the context's end", path, err)
		}
		fails(r.ctx(), reupload.ErrTimeout)
		r.asked(2) // one request, under both of the account's names

		p = r.receivePicture()
		r.phone.Forget(p.id())
		fails(r.ctx(), reupload.ErrNotFound)

		if path, err := r.plugin.FreshPath(r.ctx(), &p.evt.Info, nil); path != "" || err == nil {
			t.Errorf("without media: %q, %v", path, err)
		}
		r.plugin.Close()
		if path, err := r.plugin.FreshPath(r.ctx(), &p.evt.Info, p.image); path != "" || !errors.Is(err, reupload.ErrClosed) {
			t.Errorf("after Close: %q, %v", path, err)
		}
	})
}

// What a table has lost of a path, or the path itself, costs neither a download nor a request.
func TestFreshPathOfWhatATableHas(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.box.SetStatus(p.DirectPath, 0, "")
		for name, image := range map[string]*waE2E.ImageMessage{
			"without its query": {DirectPath: proto.String(p.Path())},
			"only a URL":        {URL: p.image.URL},
			"nothing":           {},
		} {
			image.MediaKey, image.FileEncSHA256, image.FileSHA256 = p.MediaKey, p.FileEncSHA256, p.FileSHA256
			path, err := r.plugin.FreshPath(r.ctx(), &p.evt.Info, image)
			if err != nil {
				t.Errorf("%s: %v (cause: %v)", name, err, reupload.Cause(err))
				continue
			}
			r.works(p, path)
			data, err := r.plugin.Download(r.ctx(), &p.evt.Info, image)
			if err != nil || !slices.Equal(data, p.Plaintext) {
				t.Errorf("%s: its download: %v (cause: %v)", name, err, reupload.Cause(err))
			}
		}
		r.asked(0)
	})
}

// A message that the bot has kept with its URL alone is remembered with the path in it.
func TestURLIsRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		image := media.Image()
		image.DirectPath = nil
		if err := r.plugin.Remember(r.ctx(), carrierInfo(alice, alice), &waE2E.Message{ImageMessage: image}); err != nil {
			t.Fatal(err)
		}
		image.DirectPath, image.URL = proto.String(media.Path()), nil
		data, err := r.client.Download(r.ctx(), image)
		if err != nil || !slices.Equal(data, media.Plaintext) {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
		r.asked(0)
	})
}

// Anybody can send the hash of a file with a path to another one. Such a path is not returned.
func TestFreshPathIsNotAStrangers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		for _, size := range []int{1000, 9 << 20} { // compared at once, and while it comes
			other := r.box.Upload(make([]byte, size), whatsmeow.MediaImage)
			r.box.Serve(other.DirectPath, func(w http.ResponseWriter, _ *http.Request) bool {
				_, _ = w.Write(make([]byte, size)) // whatever hash is asked for
				return true
			})
			forged := proto.CloneOf(p.image)
			forged.DirectPath = &other.DirectPath
			r.receive(wabox.Incoming{From: bob}, &waE2E.Message{ImageMessage: forged})
		}
		r.freshPath(p)
		r.asked(1)
	})
}

// Nor is it returned while a download has read only the beginning of the other file, or has ended
// there. Only an event handler gets it before all of it was compared.
func TestFreshPathOfHalfAFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		other := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Serve(other.DirectPath, func(w http.ResponseWriter, req *http.Request) bool {
			if req.Header.Get("Range") == "" {
				_, _ = w.Write(make([]byte, 9<<20))
				select {
				case <-req.Context().Done():
				case <-time.After(time.Minute):
				}
			}
			return true
		})
		forged := proto.CloneOf(p.image)
		forged.DirectPath = &other.DirectPath
		r.receive(wabox.Incoming{From: bob}, &waE2E.Message{ImageMessage: forged})
		ctx, cancel := context.WithCancel(r.ctx())
		var downloads sync.WaitGroup
		downloads.Add(1)
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetConversation() != "" {
				defer downloads.Done()
				if _, err := r.client.Download(ctx, p.image); !errors.Is(err, context.Canceled) {
					t.Errorf("the download: %v", err)
				}
			}
		})
		r.receive(wabox.Incoming{From: bob}, &waE2E.Message{Conversation: proto.String("!sticker")})
		time.Sleep(time.Second)
		downloads.Go(func() { r.freshPath(p) })
		time.Sleep(time.Second)
		cancel()
		downloads.Wait()
		r.freshPath(p)
		r.asked(1)
	})
}

// receiveLarge receives a large file, which expires, and returns a copy of its message that says
// where the file is now.
func (r *rig) receiveLarge() (p picture, forward *waE2E.ImageMessage) {
	media := r.box.Upload(make([]byte, comparedWhileItComes), whatsmeow.MediaImage)
	evt := r.receive(wabox.Incoming{From: alice}, &waE2E.Message{ImageMessage: media.Image()})
	r.box.Expire(media)
	forward = media.Image()
	forward.DirectPath = proto.String(r.box.Reupload(media))
	return picture{media, evt, evt.Message.GetImageMessage()}, forward
}

// A large file that another message leads to is where it is from then on, when all of it was read.
func TestLargeFileFromAnotherMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p, forward := r.receiveLarge()
		r.receive(wabox.Incoming{From: bob}, &waE2E.Message{ImageMessage: forward})
		var atOnce sync.WaitGroup
		for range 2 {
			atOnce.Go(func() { r.heals(p) })
		}
		atOnce.Wait()
		r.heals(p)
		if n := r.box.Hits(p.DirectPath); n != 2 {
			t.Errorf("the old path was asked for %d times", n)
		}
		if n := r.box.Hits(forward.GetDirectPath()); n != 4 { // one of the three has read it to its end first
			t.Errorf("the other path was asked for %d times", n)
		}
		if got := r.freshPath(p); got != forward.GetDirectPath() {
			t.Errorf("the path is %q", got)
		}
		r.asked(0)
	})
}

// For its path alone it is read once.
func TestFreshPathOfLargeFileFromAnotherMessage(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p, forward := r.receiveLarge()
		r.receive(wabox.Incoming{From: bob}, &waE2E.Message{ImageMessage: forward})
		if got := r.freshPath(p); got != forward.GetDirectPath() {
			t.Errorf("the path is %q", got)
		}
		if n := r.box.Hits(forward.GetDirectPath()); n != 2 { // the other is the one that shows that it works
			t.Errorf("the other path was asked for %d times", n)
		}
		r.asked(0)
	})
}

// An event handler has no time to read such a file twice, and gets it as it comes.
func TestLargeFileFromAnotherMessageInsideHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p, forward := r.receiveLarge()
		r.box.Serve(forward.GetDirectPath(), func(_ http.ResponseWriter, _ *http.Request) bool {
			time.Sleep(defaultHandlerTimeout * 3 / 4) // as long as a slow CDN takes for it
			return false
		})
		err := make(chan error, 1)
		r.client.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.Message); ok {
				_, failed := r.client.Download(t.Context(), p.image)
				err <- failed
			}
		})
		r.receive(wabox.Incoming{From: bob}, &waE2E.Message{ImageMessage: forward})
		if err := <-err; err != nil {
			t.Error(err)
		}
		if n := r.box.Hits(forward.GetDirectPath()); n != 1 {
			t.Errorf("the path was asked for %d times", n)
		}
		r.asked(0)
	})
}

// comparedWhileItComes is the size of a file that is too large to be compared before the caller
// gets it.
const comparedWhileItComes = 9 << 20

// An empty file, and what the CDN refuses, are no place for a file.
func TestFreshPathIsNotOfAnEmptyFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		for _, status := range []int{http.StatusRequestedRangeNotSatisfiable, http.StatusNotFound, http.StatusForbidden} {
			r.box.SetStatus(p.DirectPath, status, "URL signature expired")
			r.freshPath(p)
		}
		r.asked(1)
	})
}

// Inside an event handler it waits no longer than a download, and the answer comes.
func TestFreshPathInAHandler(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		got := make(chan error, 1)
		r.client.AddEventHandler(func(evt any) {
			if msg, ok := evt.(*events.Message); ok && msg.Message.GetConversation() != "" {
				_, err := r.plugin.FreshPath(context.Background(), &p.evt.Info, p.image)
				got <- err
			}
		})
		r.receive(wabox.Incoming{}, &waE2E.Message{Conversation: proto.String("!forward")})
		if err := <-got; err != nil {
			t.Errorf("%v (cause: %v)", err, reupload.Cause(err))
		}
	})
}
