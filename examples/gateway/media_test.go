package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// ask asks for the file of a message of the first account.
func (s *stage) ask(t *testing.T, method string, id types.MessageID, header ...string) answer {
	t.Helper()
	return s.request(t, method, fmt.Sprintf("/accounts/%s/chats/%s/messages/%s/media", s.a, sender, id), header...)
}

func (s *stage) request(t *testing.T, method, path string, header ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, length: resp.ContentLength, body: body}
}

// downloads returns how often the CDN was asked for a file.
func (s *stage) downloads() (n int) {
	for _, asked := range s.box.Asked() {
		if asked.Method == http.MethodGet {
			n++
		}
	}
	return n
}

func testConditions(t *testing.T, s *stage) {
	content := strings.Repeat("0123456789", 100)
	media := s.upload(content)
	s.deliver(t, "CONDITIONS", &waE2E.Message{ImageMessage: media.Image()})
	s.waitRow(t, "CONDITIONS")
	etag := fmt.Sprintf(`"%x"`, media.Image().GetFileSHA256())
	before := s.downloads()
	if got := s.ask(t, http.MethodGet, "CONDITIONS", "If-None-Match", `"x", W/`+etag); got.status != http.StatusNotModified || len(got.body) > 0 ||
		got.header.Get("ETag") != etag || s.downloads() != before {
		t.Errorf("got %s, with %v", got, got.header)
	}
	for range 2 { // one downloads, one does not
		got := s.ask(t, http.MethodHead, "CONDITIONS")
		if got.status != http.StatusOK || len(got.body) > 0 || got.length != 1000 || got.header.Get("ETag") != etag {
			t.Errorf("got %s, with %v", got, got.header)
		}
		if control := got.header.Get("Cache-Control"); !strings.HasPrefix(control, "private") {
			t.Errorf("Cache-Control: %s", control)
		}
	}
	for _, c := range []struct {
		header, value string
		status        int
		body          string
	}{
		{"X", "", http.StatusOK, content},
		{"Range", "bytes=990-", http.StatusPartialContent, content[990:]},
		{"Range", "bytes=5000-", http.StatusRequestedRangeNotSatisfiable, ""},
		{"If-None-Match", `"other"`, http.StatusOK, content},
		{"If-None-Match", "*", http.StatusNotModified, ""},
	} {
		got := s.ask(t, http.MethodGet, "CONDITIONS", c.header, c.value)
		if got.status != c.status || c.body != "" && string(got.body) != c.body {
			t.Errorf("%s %s: got %s", c.header, c.value, got)
		}
	}
	if n := s.downloads() - before; n != 1 {
		t.Errorf("the file was downloaded %d times", n)
	}
	if got := s.ask(t, http.MethodHead, "NOSUCH"); got.status != http.StatusNotFound {
		t.Errorf("HEAD of an unknown message: %d", got.status)
	}
}

func testSharedDownload(t *testing.T, s *stage) {
	media := s.upload("shared")
	s.box.Expire(media)
	s.deliver(t, "SHARED", &waE2E.Message{ImageMessage: media.Image()})
	s.waitRow(t, "SHARED")
	before := s.downloads()
	hold := make(chan struct{})
	s.phones[s.a].Script("SHARED", wabox.Answer{Result: wabox.Success, Hold: hold})
	requests := s.phones[s.a].RequestCount()
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			if got := s.ask(t, http.MethodGet, "SHARED"); string(got.body) != "shared" {
				t.Errorf("got %s", got)
			}
		})
	}
	if _, err := s.phones[s.a].WaitRequests(t.Context(), requests+1); err != nil {
		t.Fatal(err)
	}
	for len(s.g.requests) < 6 { // until all are there
		time.Sleep(time.Millisecond)
	}
	close(hold)
	all.Wait()
	if n := s.downloads() - before; n != 2 { // the one that failed, and the one that did not
		t.Errorf("the CDN was asked %d times", n)
	}
}

// TestLimits has a gateway that may do little.
func TestLimits(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.cfg.requests, s.cfg.cache.largest = 1, 1000
	err := s.withGateway(t.Context(), func(context.Context) error {
		media := s.upload("waits")
		s.box.Expire(media)
		hold := make(chan struct{})
		s.phones[s.a].Script("WAITS", wabox.Answer{Result: wabox.Success, Hold: hold})
		s.deliver(t, "WAITS", &waE2E.Message{ImageMessage: media.Image()})
		lies := s.box.Upload(bytes.Repeat([]byte("x"), 100_000), "WhatsApp Image Keys").Image()
		lies.FileLength = proto.Uint64(10)
		s.deliver(t, "LIES", &waE2E.Message{ImageMessage: lies})
		s.deliver(t, "LARGE", &waE2E.Message{ImageMessage: s.upload(strings.Repeat("x", 1001)).Image()})
		s.deliver(t, "FITS", &waE2E.Message{ImageMessage: s.upload(strings.Repeat("x", 1000)).Image()})
		s.waitRow(t, "FITS")

		var all sync.WaitGroup
		all.Go(func() {
			if got := s.ask(t, http.MethodGet, "WAITS"); string(got.body) != "waits" {
				t.Errorf("got %s", got)
			}
		})
		if _, err := s.phones[s.a].WaitRequests(t.Context(), 1); err != nil {
			return err
		}
		got := s.ask(t, http.MethodGet, "FITS")
		if after, _ := strconv.Atoi(got.header.Get("Retry-After")); got.status != http.StatusServiceUnavailable || after < 1 {
			t.Errorf("too many requests: got %s, with %v", got, got.header)
		}
		close(hold)
		all.Wait()

		if got := s.ask(t, http.MethodGet, "FITS"); got.status != http.StatusOK {
			t.Errorf("got %s", got)
		}
		for _, id := range []types.MessageID{"LARGE", "LIES"} {
			if got := s.ask(t, http.MethodGet, id); got.status != http.StatusBadGateway || !strings.Contains(string(got.body), "-max-file") {
				t.Errorf("%s: got %s", id, got)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// testCauses has the status and the label of what a phone or the server can do.
func testCauses(t *testing.T, s *stage) {
	for id, c := range map[types.MessageID]struct {
		answer wabox.Answer
		status int
		cause  string
		after  bool
	}{
		"GONE":     {wabox.Answer{Result: wabox.NotFound}, http.StatusGone, "not_found", false},
		"KEYLESS":  {wabox.Answer{Result: wabox.DecryptionError}, http.StatusGone, "decryption", false},
		"GENERAL":  {wabox.Answer{}, http.StatusBadGateway, "general", true},
		"REJECTED": {wabox.Answer{Ack: wabox.AckError("479")}, http.StatusBadGateway, "rejected", true},
		"PATHLESS": {wabox.Answer{Result: wabox.Success, NoPath: true}, http.StatusBadGateway, "invalid_answer", true},
	} {
		media := s.upload("cause " + id)
		s.box.Expire(media)
		s.phones[s.a].Script(id, c.answer)
		s.deliver(t, id, &waE2E.Message{ImageMessage: media.Image()})
		s.waitRow(t, id)
		got := s.ask(t, http.MethodGet, id)
		if got.status != c.status || !strings.Contains(string(got.body), `"cause":"`+c.cause+`"`) || c.after != (got.header.Get("Retry-After") != "") {
			t.Errorf("%s: got %s, with %v", id, got, got.header)
		}
		if got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: may be cached", id)
		}
	}
}

// testPauses has files that the phone was asked for before without success, and looks whether
// Retry-After is when reupload asks it again.
func testPauses(t *testing.T, s *stage) {
	heard := s.upload("the phone answers this, and so is not silent")
	s.box.Expire(heard)
	s.deliver(t, "HEARD", &waE2E.Message{ImageMessage: heard.Image()})
	if got := s.waitStored(t, "HEARD"); got.status != http.StatusOK {
		t.Fatalf("got %s", got)
	}
	account := types.NewJID(s.a, types.DefaultUserServer)
	const general, silence, rejected, invalid reupload.Outcome = 5, 6, 7, 8 // as the plugin numbers them
	for i, c := range []struct {
		ago      time.Duration
		outcome  reupload.Outcome
		failures int
		cause    string
		left     time.Duration // 0 if the phone is asked
	}{
		{30 * time.Minute, general, 1, "general", 30 * time.Minute},
		{150 * time.Minute, general, 3, "general", 90 * time.Minute},
		{23 * time.Hour, rejected, 50, "rejected", time.Hour},
		{50 * time.Minute, invalid, 1, "invalid_answer", 10 * time.Minute},
		{20 * time.Minute, silence, 1, "timeout", 40 * time.Minute},
		{61 * time.Minute, silence, 1, "", 0},
		{241 * time.Minute, general, 3, "", 0},
	} {
		id := types.MessageID(fmt.Sprint("PAUSE", i))
		media := s.upload("paused " + id)
		s.box.Expire(media)
		s.deliver(t, id, &waE2E.Message{ImageMessage: media.Image()})
		s.waitRow(t, id)
		var entries []reupload.Entry
		for len(entries) == 0 && t.Context().Err() == nil {
			var err error
			if entries, err = s.g.index.ByMessage(t.Context(), account, id); err != nil {
				t.Fatal(err)
			}
		}
		entries[0].Asked = reupload.Asked{At: time.Now().Add(-c.ago), Outcome: c.outcome, Failures: c.failures}
		if err := s.g.index.Put(t.Context(), account, entries[:1]); err != nil {
			t.Fatal(err)
		}
		before := s.phones[s.a].RequestCount()
		got := s.ask(t, http.MethodGet, id)
		if asked := s.phones[s.a].RequestCount() > before; asked != (c.left == 0) {
			t.Errorf("%+v: the phone was asked: %v", c, asked)
		}
		if c.left == 0 {
			if got.status != http.StatusOK {
				t.Errorf("%+v: got %s", c, got)
			}
			continue
		}
		after, _ := strconv.Atoi(got.header.Get("Retry-After"))
		if !strings.Contains(string(got.body), `"cause":"`+c.cause+`"`) || (c.left-time.Duration(after)*time.Second).Abs() > time.Minute {
			t.Errorf("%+v: got %s, with %v", c, got, got.header)
		}
	}
}

// testNewsletter has a file that is not encrypted, and that no phone has.
func testNewsletter(t *testing.T, s *stage) {
	chat := types.NewJID("120363000000000001", types.NewsletterServer)
	media := s.box.UploadPlain([]byte("to all the world"), whatsmeow.MediaImage)
	if _, err := s.phones[s.a].Deliver(wabox.Incoming{ID: "NEWS", Chat: chat}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
		t.Fatal(err)
	}
	s.deliver(t, "AFTERNEWS", &waE2E.Message{ImageMessage: s.upload("after the news").Image()})
	s.waitRow(t, "AFTERNEWS")
	before := s.phones[s.a].RequestCount()
	for range 2 {
		if got, err := s.get(t.Context(), s.a, chat.String(), "NEWS"); err != nil || string(got.body) != "to all the world" {
			t.Errorf("got %s, %v", got, err)
		}
	}
	s.box.Expire(media)
	s.g.cache.forget(media.Image())
	got, err := s.get(t.Context(), s.a, chat.String(), "NEWS")
	if err != nil || got.status != http.StatusGone || !strings.Contains(string(got.body), `"cause":"newsletter","retry":false`) {
		t.Errorf("got %s, %v", got, err)
	}
	if n := s.phones[s.a].RequestCount() - before; n > 0 {
		t.Errorf("the phone was asked %d times", n)
	}
}
