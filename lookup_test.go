package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waHistorySync"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A bot that has its messages in a table of its own.
func TestLookup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.connect()
		known, unknown, failing, panicking := r.receivePicture(), r.receivePicture(), r.receivePicture(), r.receivePicture()
		asked := 0
		r.register(&reupload.Options{Lookup: func(ctx context.Context, hash []byte) ([]reupload.Request, error) {
			asked++
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("its time is not bounded")
			}
			switch {
			case bytes.Equal(hash, known.FileEncSHA256):
				return []reupload.Request{{MessageID: "bad"}, known.request()}, nil
			case bytes.Equal(hash, failing.FileEncSHA256):
				return nil, errors.New("no such table")
			case bytes.Equal(hash, panicking.FileEncSHA256):
				panic("a bug of the bot's")
			}
			return nil, nil
		}})
		r.heals(known)
		r.heals(known)
		if asked != 1 {
			t.Errorf("it was asked %d times", asked)
		}
		for _, p := range []picture{unknown, failing, panicking} {
			r.fails(p, reupload.ErrUnknownMessage)
		}
		r.asked(1)
	})
}

// A caller that has fields only, and of the sender not even a server.
func TestWithRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for mode, sender := range map[types.AddressingMode]types.JID{types.AddressingModePN: carol, types.AddressingModeLID: carolLID} {
			r := newUnregisteredRig(t)
			r.connect()
			r.phone.Group(carolGroup, mode, sender)
			p := r.receivePictureIn(wabox.Incoming{Chat: carolGroup, From: sender})
			r.register(nil)
			req := reupload.Request{MessageID: p.id(), Chat: carolGroup, MediaKey: p.MediaKey, Participant: types.JID{User: sender.User}}
			data, err := r.client.Download(reupload.WithRequest(r.ctx(), req, p.FileEncSHA256), p.image)
			if err != nil || !bytes.Equal(data, p.Plaintext) {
				t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
			}
			if got := r.asks(1)[0].Participant; got != sender {
				t.Errorf("asked for %v, want %v", got, sender)
			}
		}
	})
}

// What a table has of paths is tried before the phone is asked: a direct path, or a URL of any
// host, as it was stored. The bot names them in Lookup, or in the request of a download.
func TestPathsOfATable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		for form, around := range map[string][2]string{
			"a path":                {"", ""},
			"a URL":                 {"https://mmg.whatsapp.net", ""},
			"a URL of another host": {"http://media.example:8080", "&hash=abc&mms-type=image"},
		} {
			r := newUnregisteredRig(t)
			r.connect()
			r.phone.Group(carolGroup, types.AddressingModePN, carol)
			inLookup, inRequest := r.receivePicture(), r.receivePicture()
			var row reupload.Request
			r.register(&reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
				return []reupload.Request{row}, nil
			}})
			inIndex := r.receivePictureIn(wabox.Incoming{Chat: carolGroup, From: carol})
			for name, p := range map[string]picture{"Lookup": inLookup, "the request": inRequest, "the request of a known message": inIndex} {
				req := p.request()
				req.Paths = []string{
					"", "no path", p.DirectPath, "https://mmg.whatsapp.net/v/t62.7118-24/0_0_n.enc?oh=01_gone&oe=7FFFFFFF",
					around[0] + r.box.Reupload(p.Media) + around[1],
				}
				req.Participant.Server = ""
				ctx := r.ctx()
				if row = req; name != "Lookup" {
					row, ctx = reupload.Request{}, reupload.WithRequest(ctx, req, p.FileEncSHA256)
				}
				data, err := r.client.Download(ctx, p.image)
				if err != nil || !bytes.Equal(data, p.Plaintext) {
					t.Errorf("%s has %s: %v (cause: %v)", name, form, err, reupload.Cause(err))
				}
			}
			r.asked(0)
			for _, asked := range r.box.Asked() {
				if asked.Host != "mmg.whatsapp.net" {
					t.Errorf("%s was asked", asked.Host)
				}
			}
		}
	})
}

// A message that is named with the sender's server and without is the same one: its refusal
// holds for both.
func TestSenderWithoutServerIsTheSameOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var row reupload.Request
		r := newRig(t, &reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
			return []reupload.Request{row}, nil
		}})
		refused := wabox.Answer{Result: wabox.NotFound}
		for name, asksFirst := range map[string]func(p picture){
			"RequestReupload": func(p picture) { _, _ = r.plugin.RequestReupload(r.ctx(), row) },
			"WithRequest": func(p picture) {
				_, _ = r.client.Download(reupload.WithRequest(r.ctx(), row, p.FileEncSHA256), p.image)
			},
			"Download": func(p picture) { _, _ = r.client.Download(r.ctx(), p.image) },
		} {
			p := r.receivePictureIn(wabox.Incoming{Chat: carolGroup, From: carol})
			r.phone.Script(p.id(), refused)
			row = reupload.Request{MessageID: p.id(), Chat: carolGroup, MediaKey: p.MediaKey, Participant: types.JID{User: carol.User}}
			before := r.phone.RequestCount()
			asksFirst(p)
			r.fails(p, reupload.ErrNotFound)
			_, err := r.client.Download(reupload.WithRequest(r.ctx(), row, p.FileEncSHA256), p.image)
			if n := r.phone.RequestCount() - before; n != 1 || !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
				t.Errorf("%s first: the phone was asked %d times, and at last: %v", name, n, reupload.Cause(err))
			}
		}
	})
}

// An own message of a group is one, whether the bot's table has its sender or not, and by which of
// the account's names.
func TestOwnMessageHasOneName(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var rows []reupload.Request
		r := newRig(t, &reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) { return rows, nil }})
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, FromMe: true})
		for _, sender := range []types.JID{{}, r.phone.PN, r.phone.LID, {User: r.phone.PN.User}, {User: r.phone.LID.User}} {
			req := p.request()
			req.Participant = sender
			rows = append(rows, req)
		}
		r.phone.Phone(refuses())
		r.fails(p, reupload.ErrNotFound)
		r.asked(1)
	})
}

func TestRememberHistory(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		var messages []*waHistorySync.HistorySyncMsg
		var files []*wabox.Media
		for i := range 3 {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			id := fmt.Sprintf("HISTORY%d", i)
			r.phone.Knows(id, media)
			r.box.Expire(media)
			files = append(files, media)
			messages = append(messages, &waHistorySync.HistorySyncMsg{Message: &waWeb.WebMessageInfo{
				Key:              &waCommon.MessageKey{ID: proto.String(id), RemoteJID: proto.String(alice.String()), FromMe: proto.Bool(false)},
				MessageTimestamp: proto.Uint64(uint64(time.Now().Unix())),
				Message:          &waE2E.Message{ImageMessage: media.Image()},
			}})
		}
		data := &waHistorySync.HistorySync{
			SyncType:      waHistorySync.HistorySync_RECENT.Enum(),
			Conversations: []*waHistorySync.Conversation{{ID: proto.String(alice.String()), Messages: messages}},
		}
		if err := r.plugin.RememberHistory(r.ctx(), data); err != nil {
			t.Fatal(err)
		}
		for _, media := range files {
			if got, err := r.client.Download(r.ctx(), media.Image()); err != nil || !bytes.Equal(got, media.Plaintext) {
				t.Errorf("got %v (cause: %v)", err, reupload.Cause(err))
			}
		}
		r.plugin.Close()
		if err := r.plugin.RememberHistory(r.ctx(), data); !errors.Is(err, reupload.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// ownMedia is a bot's own DownloadableMessage, as it comes from a database.
type ownMedia struct{ m *wabox.Media }

func (o ownMedia) GetDirectPath() string             { return o.m.DirectPath }
func (o ownMedia) GetMediaKey() []byte               { return o.m.MediaKey }
func (o ownMedia) GetFileSHA256() []byte             { return o.m.FileSHA256 }
func (o ownMedia) GetFileEncSHA256() []byte          { return o.m.FileEncSHA256 }
func (o ownMedia) GetMediaType() whatsmeow.MediaType { return o.m.Type }

func TestMessagesThatTheIndexCannotKnow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

func TestMessageOfAnotherFileIsNotAsked(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		other := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(other)
		_, err := r.client.Download(reupload.WithMessage(r.ctx(), &p.evt.Info, p.image), other.Image())
		if !errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
		r.asked(0)
	})
}

var errNoTable = errors.New("no such table: messages")

// A Lookup that hangs ends a download after the two seconds that it has, and any number of
// downloads leave four of its calls behind at the most, which end when it returns.
func TestLookupThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		var running, most atomic.Int32
		r := newRig(t, &reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
			most.Store(max(most.Load(), running.Add(1)))
			defer running.Add(-1)
			<-release
			return nil, nil
		}})
		start := time.Now()
		_, err := r.client.Download(r.ctx(), r.box.Upload(content(), whatsmeow.MediaImage).Image())
		if err != nil {
			t.Errorf("a file that lives: %v", err)
		}
		var downloads sync.WaitGroup
		for range 30 {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.box.Expire(media)
			downloads.Go(func() {
				_, err := r.client.Download(r.ctx(), media.Image())
				if cause := reupload.Cause(err); !errors.Is(cause, reupload.ErrLookupFailed) || !errors.Is(cause, reupload.ErrUnknownMessage) {
					t.Errorf("the cause is %v", cause)
				}
			})
		}
		downloads.Wait()
		if took := time.Since(start); took > 40*time.Second {
			t.Errorf("it took %s", took)
		}
		if n := most.Load(); n > 4 {
			t.Errorf("%d calls ran at once", n)
		}
		known := r.receivePicture()
		start = time.Now()
		r.heals(known) // what the index knows does not wait for it
		if took := time.Since(start); took > time.Second {
			t.Errorf("a file that the index knows took %s", took)
		}
		close(release)
		synctest.Wait()
		if n := running.Load(); n != 0 {
			t.Errorf("%d calls have not ended", n)
		}
	})
}

// What is wrong with Lookup, or with what it returns, is in the cause.
func TestLookupThatIsWrong(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var rows []reupload.Request
		var failure error
		r := newRig(t, &reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) { return rows, failure }})
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(media)
		for _, test := range []struct {
			rows    []reupload.Request
			failure error
			want    error
		}{
			{nil, errNoTable, errNoTable},
			{[]reupload.Request{{MessageID: "ID", Chat: alice, MediaKey: []byte("too short")}}, nil, reupload.ErrInvalidRequest},
			{[]reupload.Request{{MessageID: "ID", Chat: aGroup, Participant: aGroup, MediaKey: media.MediaKey}}, nil, reupload.ErrInvalidRequest},
			{nil, nil, reupload.ErrUnknownMessage},
		} {
			rows, failure = test.rows, test.failure
			_, err := r.client.Download(r.ctx(), media.Image())
			if cause := reupload.Cause(err); !errors.Is(cause, test.want) || errors.Is(cause, reupload.ErrLookupFailed) != (test.want != reupload.ErrUnknownMessage) {
				t.Errorf("want %v, the cause is %v", test.want, cause)
			}
		}
		r.asked(0)
	})
}

// A countingIndex counts how often it is called.
type countingIndex struct {
	reupload.Index
	calls atomic.Int32
}

func (x *countingIndex) Put(ctx context.Context, account types.JID, entries []reupload.Entry) error {
	x.calls.Add(1)
	return x.Index.Put(ctx, account, entries)
}

func (x *countingIndex) ByFile(ctx context.Context, account types.JID, hash []byte) ([]reupload.Entry, error) {
	x.calls.Add(1)
	return x.Index.ByFile(ctx, account, hash)
}

func (x *countingIndex) ByMessage(ctx context.Context, account types.JID, id types.MessageID) ([]reupload.Entry, error) {
	x.calls.Add(1)
	return x.Index.ByMessage(ctx, account, id)
}

// Of thirty thousand rows that Lookup returns sixteen are looked at, and the likeliest is asked
// for.
func TestLookupWithManyRows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var rows []reupload.Request
		index := &countingIndex{Index: reupload.NewMemoryIndex(0)}
		r := newUnregisteredRig(t)
		r.connect()
		p := r.receivePicture()
		r.register(&reupload.Options{Index: index, Lookup: func(context.Context, []byte) ([]reupload.Request, error) { return rows, nil }})
		rows = append(rows, p.request())
		for i := range 30_000 {
			rows = append(rows, reupload.Request{MessageID: fmt.Sprintf("ROW%d", i), Chat: alice, MediaKey: p.MediaKey})
		}
		r.heals(p)
		r.asked(1)
		if n := index.calls.Load(); n > 16*2+10 {
			t.Errorf("the index was called %d times", n)
		}
	})
}
