package reupload_test

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests that a stranger does not steer other people's files, and that no bot is worse off with the
// plugin than without.

// A stranger sends a picture with the path of somebody else's file, which lives, and the hashes and
// the key of a file that was healed.
func TestStrangerCannotMoveALivingFile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// A forged message makes other bytes come from a good new path. That says nothing of the path for
// the file that it is of.
func TestForgedHashDoesNotSpoilANewPath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// Junk with the same file hash does not push the real message out.
func TestJunkDoesNotHideTheOriginal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
}

// A refusal for a message that was named wrongly does not pause the right one.
func TestWronglyNamedMessageDoesNotPauseTheRightOne(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
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
	before = uint64(index.Len())
	for range 40 {
		deliver("ONE", cards(250, "Q"))
	}
	if n := index.Len() - int(before); n > 256 {
		t.Errorf("%d files of one id are remembered", n)
	}
	runtime.KeepAlive(index)
}

// A path of a stranger's that leads to nothing or to another file is tried once, and not by each
// download.
func TestBadPathIsTriedOnce(t *testing.T) {
	t.Parallel()
	for name, isDead := range map[string]bool{"nothing": true, "another file": false} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.receivePicture()
			junk := forged(p, 0)
			other := r.box.Upload(content(), whatsmeow.MediaImage)
			if isDead {
				r.box.Expire(other)
			}
			junk.ImageMessage.DirectPath = &other.DirectPath
			r.receive(wabox.Incoming{From: mallory}, junk)
			r.phone.Phone(refuses())
			for range 3 {
				r.fails(p, reupload.ErrNotFound)
			}
			if n := r.box.Hits(other.DirectPath); n != 1 {
				t.Errorf("it was asked for %d times", n)
			}
		})
	}
}
