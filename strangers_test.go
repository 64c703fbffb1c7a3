package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests that nothing which a stranger sends, or somebody forwards, costs another person a picture.

// mallory sends what a stranger can send.
var mallory = types.NewJID("15550666", types.DefaultUserServer)

// forged is a picture with the file hash of another one, and a media key of its own.
func forged(p picture, n int) *waE2E.Message {
	image := p.Media.Image()
	image.MediaKey = bytes.Repeat([]byte{byte(n + 1)}, 32)
	return &waE2E.Message{ImageMessage: image}
}

// quoteOf is a command that quotes a picture.
func quoteOf(id types.MessageID, sender types.JID, media *wabox.Media) *waE2E.Message {
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text: proto.String("!sticker"),
		ContextInfo: &waE2E.ContextInfo{
			StanzaID: proto.String(id), Participant: proto.String(sender.String()), QuotedMessage: &waE2E.Message{ImageMessage: media.Image()},
		},
	}}
}

// quotedBy returns the picture that a message quotes.
func quotedBy(evt *events.Message) *waE2E.ImageMessage {
	return evt.Message.GetExtendedTextMessage().GetContextInfo().GetQuotedMessage().GetImageMessage()
}

// cardsIn is an edit of a message into one with many files.
func cardsIn(id types.MessageID, from, n int) *waE2E.Message {
	var cards []*waE2E.InteractiveMessage
	for i := range n {
		m := image(1)
		m.FileEncSHA256 = fmt.Appendf(nil, "%032d", from+i)
		cards = append(cards, &waE2E.InteractiveMessage{Header: &waE2E.InteractiveMessage_Header{
			Media: &waE2E.InteractiveMessage_Header_ImageMessage{ImageMessage: m},
		}})
	}
	return &waE2E.Message{ProtocolMessage: &waE2E.ProtocolMessage{
		Type: waE2E.ProtocolMessage_MESSAGE_EDIT.Enum(),
		Key:  &waCommon.MessageKey{ID: proto.String(id)},
		EditedMessage: &waE2E.Message{InteractiveMessage: &waE2E.InteractiveMessage{InteractiveMessage: &waE2E.InteractiveMessage_CarouselMessage_{
			CarouselMessage: &waE2E.InteractiveMessage_CarouselMessage{Cards: cards},
		}}},
	}}
}

// refuses is a phone that has a few messages, and has lost the files of all others.
func refuses(but ...types.MessageID) wabox.PhoneFunc {
	return func(req wabox.Request) []wabox.Answer {
		if slices.Contains(but, req.ID) {
			return []wabox.Answer{{Result: wabox.Success}}
		}
		return []wabox.Answer{{Result: wabox.NotFound}}
	}
}

// silentAbout is a phone that answers nothing about one chat.
func silentAbout(chat types.JID) wabox.PhoneFunc {
	return func(req wabox.Request) []wabox.Answer {
		if req.Chat.User == chat.User {
			return silent(req)
		}
		return []wabox.Answer{{Result: wabox.Success}}
	}
}

// The bot's own table is asked although the index knows a message with the file: that one can be
// anybody's.
func TestJunkDoesNotReplaceLookup(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newUnregisteredRig(t)
		r.connect()
		p := r.receivePicture()
		r.register(&reupload.Options{Lookup: func(context.Context, []byte) ([]reupload.Request, error) {
			return []reupload.Request{p.request()}, nil
		}})
		r.receive(wabox.Incoming{From: mallory}, forged(p, 0))
		r.phone.Phone(refuses(p.id()))
		r.heals(p)
	})
}

// A message that the phone is silent about does not end a download: another one with the file is
// asked for some seconds later.
func TestSilentMessageDoesNotEndADownload(t *testing.T) {
	t.Parallel()
	for name, age := range map[string]time.Duration{"newer": -time.Minute, "older": time.Hour} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.receivePicture()
			r.receive(wabox.Incoming{From: mallory, Timestamp: time.Now().Add(-age)}, forged(p, 0))
			r.phone.Phone(silentAbout(mallory))
			start := time.Now()
			r.heals(p)
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %s", took)
			}
		})
	}
}

// A download asks for a few messages at the most. As long as others are left that may have the
// file, it has not failed for good, and a later one goes on with those.
func TestCauseIsNotFinalWhileMessagesAreLeft(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		var all []picture
		for i := range 8 {
			sent := time.Now().Add(time.Duration(i-10) * time.Minute)
			evt := r.receive(wabox.Incoming{From: mallory, Timestamp: sent}, &waE2E.Message{ImageMessage: media.Image()})
			all = append(all, picture{media, evt, evt.Message.GetImageMessage()})
		}
		r.box.Expire(media)
		r.phone.Phone(refuses(all[4].id()))
		_, err := r.client.Download(r.ctx(), all[4].image)
		if cause := reupload.Cause(err); err != nil && (cause == nil || errors.Is(cause, reupload.ErrNotFound) || errors.Is(cause, reupload.ErrDecryption)) {
			t.Errorf("of eight messages four were asked for, and the cause is %v", cause)
		}
		r.heals(all[4])
	})
}

// A quoted picture stays in the index beside any number of messages with its file, and beside any
// number of files under its message id.
func TestQuotedPictureStaysKnown(t *testing.T) {
	t.Parallel()
	for name, flood := range map[string]func(r *rig, quoted picture){
		"messages with its file": func(r *rig, quoted picture) {
			for i := range 40 {
				r.receive(wabox.Incoming{From: mallory}, forged(quoted, i))
			}
		},
		"edits under its id": func(r *rig, _ picture) {
			for i := range 6 {
				r.receive(wabox.Incoming{Chat: aGroup, From: mallory}, cardsIn("3EB0LONGAGO", 64*i, 64))
			}
		},
	} {
		runInBubble(t, name, func(t *testing.T) {
			index := reupload.NewMemoryIndex(0)
			r := newRig(t, &reupload.Options{Index: index})
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			flood(r, picture{Media: media})
			evt := r.receive(wabox.Incoming{Chat: aGroup, From: alice}, quoteOf("3EB0LONGAGO", bob, media))
			flood(r, picture{Media: media})
			r.box.Expire(media)
			known, err := index.ByFile(r.ctx(), r.phone.PN, media.FileEncSHA256)
			if err != nil || !slices.ContainsFunc(known, func(e reupload.Entry) bool { return e.MessageID == "3EB0LONGAGO" && e.Participant == bob }) {
				t.Errorf("of %d messages with the file none is the quoted one (%v)", len(known), err)
			}
			r.phone.Phone(refuses("3EB0LONGAGO"))
			p := picture{media, evt, quotedBy(evt)}
			r.heals(p)
		})
	}
}

// Silent requests of one chat leave places for others.
func TestSilentRequestsLeavePlaces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.phone.Phone(silentAbout(mallory))
		var downloads sync.WaitGroup
		for range 50 {
			p := r.receivePictureIn(wabox.Incoming{From: mallory})
			downloads.Go(func() { _, _ = r.client.Download(r.ctx(), p.image) })
		}
		time.Sleep(time.Second)
		start := time.Now()
		r.heals(r.receivePictureIn(wabox.Incoming{From: alice}))
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		downloads.Wait()
	})
}

// A burst of one chat is spread over time, and holds up nothing of another chat.
func TestBurstOfOneChat(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		var burst []picture
		for range 300 {
			burst = append(burst, r.receivePictureIn(wabox.Incoming{From: mallory}))
		}
		other := r.receivePictureIn(wabox.Incoming{From: alice})
		ctx, cancel := context.WithCancel(r.ctx())
		var downloads sync.WaitGroup
		for _, p := range burst {
			downloads.Go(func() { _, _ = r.client.Download(ctx, p.image) })
		}
		time.Sleep(time.Second)
		start := time.Now()
		r.heals(other)
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the other chat's picture took %s", took)
		}
		time.Sleep(time.Minute)
		if n := r.phone.RequestCount(); n > 60+62 {
			t.Errorf("in the first minute the phone was asked %d times", n)
		}
		cancel()
		downloads.Wait()
	})
}

// Messages under another one's id do not stand before it.
func TestFilesUnderOneIDDoNotQueue(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		victim := r.receivePictureIn(wabox.Incoming{From: alice})
		r.phone.Phone(silentAbout(mallory))
		var downloads sync.WaitGroup
		for range 4 {
			p := r.receivePictureIn(wabox.Incoming{ID: victim.id(), From: mallory})
			downloads.Go(func() { _, _ = r.client.Download(r.ctx(), p.image) })
		}
		time.Sleep(time.Second)
		start := time.Now()
		r.heals(victim)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		downloads.Wait()
	})
}

// A path that is known and forbidden does not keep the phone from being asked.
func TestForbiddenPathDoesNotEndADownload(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePicture()
		r.heals(p)
		moved := r.box.Asked()[len(r.box.Asked())-1].Path
		r.box.SetStatus(moved, http.StatusForbidden, "bad signature")
		r.heals(p)
		r.asked(2)
		r.heals(p)
		r.asked(2)
	})
}

// Paths that other messages bring, with other bytes under them, cost no download, whether these are
// compared before the caller gets them or would be while it does.
func TestPathsOfStrangersCostNoDownload(t *testing.T) {
	for name, path := range map[string]func(r *rig) string{
		"small": func(r *rig) string { return r.box.Upload(content(), whatsmeow.MediaImage).DirectPath },
		"large": (*rig).largeJunk,
	} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.receivePicture()
			for i := range 6 {
				junk := forged(p, i)
				junk.ImageMessage.DirectPath = proto.String(path(r))
				r.receive(wabox.Incoming{From: mallory}, junk)
			}
			r.phone.Phone(refuses(p.id()))
			r.heals(p)
			r.asked(1)
		})
	}
}

// largeJunk is a path under which a large other file lies, whatever hash is asked for.
func (r *rig) largeJunk() string {
	other := r.box.Upload(content(), whatsmeow.MediaImage)
	r.box.Serve(other.DirectPath, func(w http.ResponseWriter, _ *http.Request) bool {
		_, _ = w.Write(make([]byte, comparedWhileItComes))
		return true
	})
	return other.DirectPath
}

// A stranger's older message with the file, for which the phone uploads something else that is
// large, does not stand before the right one.
func TestLargeJunkDoesNotHideTheOriginal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		junk := media.Image()
		junk.MediaKey = bytes.Repeat([]byte{7}, 32)
		first := r.receive(wabox.Incoming{From: mallory}, &waE2E.Message{ImageMessage: junk})
		time.Sleep(2 * time.Second)
		evt := r.receive(wabox.Incoming{From: alice}, &waE2E.Message{ImageMessage: media.Image()})
		r.box.Expire(media)
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			if req.ID == first.Info.ID {
				return []wabox.Answer{{Result: wabox.Success, DirectPath: r.largeJunk()}}
			}
			return []wabox.Answer{{Result: wabox.Success}}
		})
		r.heals(picture{media, evt, evt.Message.GetImageMessage()})
		r.asked(2)
	})
}

// Nor does it count as the file, which would have the phone asked for it any number of times.
func TestLargeJunkHealsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		media := r.box.Upload(content(), whatsmeow.MediaImage)
		r.box.Expire(media)
		r.phone.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, DirectPath: r.largeJunk()}}
		})
		for range 10 {
			evt := r.receive(wabox.Incoming{From: mallory}, &waE2E.Message{ImageMessage: media.Image()})
			if _, err := r.client.Download(r.ctx(), evt.Message.GetImageMessage()); err == nil {
				t.Error("it gave a file")
			}
		}
		r.asked(8)
	})
}

// Many messages with one file within a second are one request.
func TestOneFileInManyMessages(t *testing.T) {
	t.Parallel()
	type download = func(r *rig, p picture) ([]byte, error)
	for name, get := range map[string]download{
		"client": func(r *rig, p picture) ([]byte, error) { return r.client.Download(r.ctx(), p.image) },
		"plugin": func(r *rig, p picture) ([]byte, error) { return r.plugin.Download(r.ctx(), &p.evt.Info, p.image) },
	} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Delay: time.Second}} })
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.box.Expire(media)
			var downloads sync.WaitGroup
			for i := range 20 {
				from := types.NewJID(fmt.Sprint(491600000000+i), types.DefaultUserServer)
				evt := r.receive(wabox.Incoming{From: from}, &waE2E.Message{ImageMessage: media.Image()})
				downloads.Go(func() {
					data, err := get(r, picture{media, evt, evt.Message.GetImageMessage()})
					if err != nil || !bytes.Equal(data, media.Plaintext) {
						t.Errorf("download %d: %v (cause: %v)", i, err, reupload.Cause(err))
					}
				})
				time.Sleep(40 * time.Millisecond)
			}
			downloads.Wait()
			r.asked(1)
		})
	}
}

// A lost message that is quoted under any number of invented senders is asked for eight times in an
// hour at the most.
func TestInventedSenders(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]wabox.Answer{"refused": {Result: wabox.NotFound}, "silent": {None: true}} {
		runInBubble(t, name, func(t *testing.T) {
			r := newRig(t, nil)
			r.phone.Strict(false)
			r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{answer} })
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.box.Expire(media)
			start := time.Now()
			for i := range 30 {
				sender := types.NewJID(fmt.Sprint(491600000000+i), types.DefaultUserServer)
				evt := r.receive(wabox.Incoming{Chat: aGroup, From: mallory}, quoteOf("3EB0LOST", sender, media))
				if _, err := r.client.Download(r.ctx(), quotedBy(evt)); reupload.Cause(err) == nil {
					t.Errorf("quote %d: %v", i, err)
				}
				if time.Since(start) > time.Hour-defaultTimeout {
					break
				}
			}
			if n := r.phone.RequestCount(); n > 8 {
				t.Errorf("the phone was asked %d times", n)
			}
		})
	}
}

// What was asked for a file counts until it has healed. A popular one may expire, and heal, any
// number of times in an hour.
func TestHealedFileIsAskedForAnew(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		for n := range 12 {
			r.heals(p)
			r.asked(n + 1)
			r.box.Expire(p.Media)
		}
	})
}

// A request that was not sent, because the phone is silent, does not count among those that a file
// may have in an hour.
func TestWhatIsNotSentDoesNotCount(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		r.phone.Phone(silent)
		for _, from := range []types.JID{bob, carol, mallory} { // until the phone is silent
			r.fails(r.receivePictureIn(wabox.Incoming{From: from}), reupload.ErrTimeout)
		}
		before := r.phone.RequestCount()
		for range 20 {
			r.fails(p, reupload.ErrPhoneSilent)
		}
		r.asked(before)
		r.phone.Phone(nil)
		time.Sleep(time.Minute)
		r.heals(p)
	})
}

// A member of a group who sends a message with the id and the media key of another one's does not
// get the answer to that.
func TestMemberDoesNotTakeALateAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		victim := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		r.phone.Phone(silent)
		r.fails(victim, reupload.ErrTimeout)
		request := r.phone.Requests()[0]
		r.receive(wabox.Incoming{ID: victim.id(), Chat: aGroup, From: mallory}, likeness(victim))
		r.answer(request, wabox.Answer{Result: wabox.Success, DirectPath: r.box.Reupload(victim.Media)})
		r.marker()
		before := r.phone.RequestCount()
		r.heals(victim)
		r.asked(before)
	})
}

// A refusal for the message of such a member is not one for the other's.
func TestMemberDoesNotRefuseForAnother(t *testing.T) {
	t.Parallel()
	refused := wabox.Answer{Result: wabox.NotFound}
	runInBubble(t, "while both wait", func(t *testing.T) {
		r := newRig(t, nil)
		victim := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		evt := r.receive(wabox.Incoming{ID: victim.id(), Chat: aGroup, From: mallory}, likeness(victim))
		r.phone.Phone(func(req wabox.Request) []wabox.Answer {
			if req.Participant == alice {
				return []wabox.Answer{{Result: wabox.Success, Delay: 2 * time.Second}}
			}
			return []wabox.Answer{{Result: wabox.NotFound, Delay: time.Second}}
		})
		var healing sync.WaitGroup
		healing.Go(func() { r.heals(victim) })
		r.asks(1)
		if _, err := r.client.Download(r.ctx(), evt.Message.GetImageMessage()); !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
			t.Errorf("the member's file: %v (cause: %v)", err, reupload.Cause(err))
		}
		healing.Wait()
		r.asked(2)
	})
	runInBubble(t, "when it is late", func(t *testing.T) {
		r := newRig(t, nil)
		victim := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		evt := r.receive(wabox.Incoming{ID: victim.id(), Chat: aGroup, From: mallory}, likeness(victim))
		r.phone.Phone(silent)
		if _, err := r.client.Download(r.ctx(), evt.Message.GetImageMessage()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
			t.Errorf("the member's file: %v (cause: %v)", err, reupload.Cause(err))
		}
		r.phone.Phone(nil)
		r.answer(r.phone.Requests()[0], refused)
		r.marker()
		r.heals(victim)
	})
}

// likeness is a picture with the media key of another one, and another file that is nowhere.
func likeness(p picture) *waE2E.Message {
	image := p.Media.Image()
	image.FileEncSHA256 = bytes.Repeat([]byte{9}, 32)
	image.DirectPath = proto.String(nowhere)
	return &waE2E.Message{ImageMessage: image}
}
