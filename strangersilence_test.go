package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests that what strangers send says nothing of the phone.

// One invented message after the other does not take the requests that find out whether the phone
// is back, nor make it count as silent about anybody else.
func TestStrangerDoesNotSilenceThePhone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.phone.Phone(silentAbout(mallory))
		var downloads sync.WaitGroup
		for i := range 240 { // twenty minutes
			p := r.receivePictureIn(wabox.Incoming{From: mallory})
			downloads.Go(func() { _, _ = r.client.Download(r.ctx(), p.image) })
			if i%12 == 11 {
				start := time.Now()
				r.heals(r.receivePictureIn(wabox.Incoming{From: alice}))
				if took := time.Since(start); took > time.Second {
					t.Errorf("after %d messages a picture of somebody else takes %s", i, took)
				}
			}
			time.Sleep(5 * time.Second)
		}
		downloads.Wait()
	})
}

// When the phone is back, a picture heals within two minutes though a stranger has sent a message
// each five seconds all the time.
func TestStrangerDoesNotTakeTheProbes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{SilencePause: -1})
		victim := r.receivePictureIn(wabox.Incoming{From: alice})
		r.phone.Phone(silent)
		for _, from := range []types.JID{alice, bob, carol} { // now it is silent
			go func() { _, _ = r.client.Download(r.ctx(), r.receivePictureIn(wabox.Incoming{From: from}).image) }()
			time.Sleep(defaultTimeout)
		}
		time.Sleep(20 * time.Second)
		r.phone.Phone(silentAbout(mallory))
		healed := make(chan time.Duration, 1)
		start := time.Now()
		go func() {
			for { // it asks once a minute
				if _, err := r.client.Download(r.ctx(), victim.image); err == nil {
					healed <- time.Since(start)
					return
				}
				time.Sleep(time.Minute - time.Since(start)%time.Minute)
			}
		}()
		var downloads sync.WaitGroup
		for range 60 {
			p := r.receivePictureIn(wabox.Incoming{From: mallory})
			downloads.Go(func() { _, _ = r.client.Download(r.ctx(), p.image) })
			time.Sleep(5 * time.Second)
		}
		downloads.Wait()
		if took := <-healed; took > 2*time.Minute+time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// Wrong rows of the bot's own table say nothing of the phone.
func TestWrongRowsDoNotSilenceThePhone(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		rows := make(map[string]reupload.Request)
		r := newRig(t, &reupload.Options{Lookup: func(_ context.Context, hash []byte) ([]reupload.Request, error) {
			return []reupload.Request{rows[string(hash)]}, nil
		}})
		r.phone.Strict(true)
		for i := range 4 {
			media := r.box.Upload(content(), whatsmeow.MediaImage)
			r.box.Expire(media)
			sender := types.NewJID(fmt.Sprint(491600000000+i), types.DefaultUserServer)
			rows[string(media.FileEncSHA256)] = reupload.Request{MessageID: fmt.Sprintf("WRONG%d", i), Chat: sender, MediaKey: media.MediaKey}
			r.phone.Script(fmt.Sprintf("WRONG%d", i), wabox.Answer{None: true})
			if _, err := r.client.Download(r.ctx(), media.Image()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
				t.Errorf("row %d: %v", i, reupload.Cause(err))
			}
		}
		start := time.Now()
		r.heals(r.receivePicture())
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

// A stranger's message that is never answered says nothing of the phone if that has just answered
// another: the second name of a person's message is tried.
func TestSecondFormBesideJunk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
		junk, other := r.receivePictureIn(wabox.Incoming{From: mallory}), r.receivePictureIn(wabox.Incoming{From: alice})
		r.phone.Script(junk.id(), wabox.Answer{None: true})
		r.phone.Script(p.id(), wabox.Answer{None: true}, wabox.Answer{Result: wabox.Success})
		lost := r.begin(junk.request())
		time.Sleep(defaultTimeout - 5*time.Second)
		healed := r.begin(p.request())
		time.Sleep(time.Second)
		r.heals(other)
		if _, err := lost.end(); !errors.Is(err, reupload.ErrTimeout) {
			t.Errorf("the stranger's: %v", err)
		}
		healed.succeeds(t)
	})
}

// A phone that answers others while it has a request is on, and has no answer to that one: nothing
// is held back for it, weeks later either.
func TestSecondFormLongAfterJunk(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r, p := addressed(t, nil, wabox.Incoming{From: carol}, false)
		junk, other := r.receivePictureIn(wabox.Incoming{From: mallory}), r.receivePictureIn(wabox.Incoming{From: alice})
		r.phone.Script(junk.id(), wabox.Answer{None: true})
		r.phone.Script(p.id(), wabox.Answer{None: true}, wabox.Answer{Result: wabox.Success})
		lost := r.begin(junk.request())
		time.Sleep(time.Second)
		r.heals(other)
		if _, err := lost.end(); !errors.Is(err, reupload.ErrTimeout) {
			t.Errorf("the stranger's: %v", err)
		}
		time.Sleep(14 * 24 * time.Hour)
		r.heals(p)
	})
}

// Three chats of strangers whose junk the phone does not answer do not make it count as silent if
// it answers others meanwhile.
func TestJunkBesideAnswersSilencesNobody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		var lost sync.WaitGroup
		for _, from := range []types.JID{bob, carol, mallory} {
			junk := r.receivePictureIn(wabox.Incoming{From: from})
			r.phone.Script(junk.id(), wabox.Answer{None: true})
			lost.Go(func() { r.fails(junk, reupload.ErrTimeout) })
		}
		time.Sleep(time.Second)
		r.heals(r.receivePictureIn(wabox.Incoming{From: alice}))
		lost.Wait()
		r.heals(r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice}))
	})
}
