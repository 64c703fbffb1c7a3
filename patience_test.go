package reupload_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// Tests of what the phone is not asked twice for, and of what it is.

// One message after the other may be the one that the phone cannot find, until it is clear that it
// answers nothing at all.
func TestSilentPhoneIsAskedForEachForwardOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, &reupload.Options{Timeout: 300 * time.Millisecond})
	media := r.box.Upload(content(), whatsmeow.MediaImage)
	for range 4 {
		r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	}
	r.box.Expire(media)
	r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
	for range 8 {
		if _, err := r.client.Download(r.ctx(), media.Image()); !errors.Is(reupload.Cause(err), reupload.ErrTimeout) {
			t.Errorf("error %v, cause %v", err, reupload.Cause(err))
		}
	}
	if n := r.phone.RequestCount(); n < 3 || n > 4 { // an ack that came too late does not count as the phone's silence
		t.Errorf("the phone was asked %d times", n)
	}
}

func TestUselessNewPathIsAskedForOnce(t *testing.T) {
	t.Parallel()
	const dead = "/v/nothing.enc?ccb=11-4&oh=x&oe=7FFFFFFF"
	for name, path := range map[string]func(*rig, picture) string{
		"nothing there": func(*rig, picture) string { return dead },
		"other bytes": func(r *rig, p picture) string {
			path := r.box.Reupload(p.Media)
			r.box.Corrupt(path)
			return path
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newUnregisteredRig(t)
			r.box.MediaHosts("mmg.whatsapp.net", "media.fna.whatsapp.net") // whatsmeow tries the next host for other bytes
			r.register(nil)
			r.connect()
			p := r.receivePicture()
			r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: path(r, p)})
			for range 5 {
				if _, err := r.client.Download(r.ctx(), p.image); err == nil {
					t.Fatal("it has healed")
				}
			}
			r.asked(1)
		})
	}
}

// A refusal is about one file, and a message can have several.
func TestRefusalOfOneFileLeavesTheOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
	evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
	r.box.Expire(one)
	r.box.Expire(two)
	r.phone.Script(evt.Info.ID, wabox.Answer{Result: wabox.NotFound}, wabox.Answer{Result: wabox.Success})
	if _, err := r.client.Download(r.ctx(), one.Image()); !errors.Is(reupload.Cause(err), reupload.ErrNotFound) {
		t.Errorf("error %v, cause %v", err, reupload.Cause(err))
	}
	if _, err := r.client.Download(r.ctx(), two.Video()); err != nil {
		t.Errorf("the other file: %v (cause: %v)", err, reupload.Cause(err))
	}
	r.asked(2)
}

// A late answer about one file of a message is no answer about another one that is waited for.
func TestLateAnswerAboutAnotherFileOfTheMessage(t *testing.T) {
	t.Parallel()
	heard := make(told, 10)
	r := newRig(t, heard.options(reupload.Options{Timeout: time.Second}))
	one, two := r.box.Upload(content(), whatsmeow.MediaImage), r.box.Upload(content(), whatsmeow.MediaVideo)
	evt := r.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: one.Image(), VideoMessage: two.Video()})
	r.box.Expire(one)
	r.box.Expire(two)
	answer := make(chan struct{})
	r.phone.Script(evt.Info.ID, wabox.Answer{None: true}, wabox.Answer{Result: wabox.Success, Hold: answer})
	done := make(chan error, 1)
	go func() { _, err := r.client.Download(r.ctx(), one.Image()); done <- err }()
	request := r.asks(1)[0]
	<-done // in vain
	go func() { _, err := r.client.Download(r.ctx(), two.Video()); done <- err }()
	r.asks(2)
	r.answer(request, wabox.Answer{Result: wabox.Success})
	if u := heard.next(t); !u.Late {
		t.Errorf("told of %+v", u)
	}
	close(answer)
	if err := <-done; err != nil {
		t.Errorf("the file that is waited for: %v (cause: %v)", err, reupload.Cause(err))
	}
	if _, err := r.client.Download(r.ctx(), one.Image()); err != nil {
		t.Errorf("the file that came late: %v (cause: %v)", err, reupload.Cause(err))
	}
	r.asked(2)
}

// Answers without ciphertext have nothing that tells them apart.
func TestEmptyAnswerTwice(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	p := r.receivePicture()
	r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, Edit: func(n *waBinary.Node) {
		n.Content = []waBinary.Node{n.GetChildByTag("rmr")}
	}})
	for range 2 {
		result, err := r.requests(p.request()).end()
		if err != nil || !errors.Is(result.Err(), reupload.ErrDecryption) {
			t.Errorf("got %v, %v", result.Status, err)
		}
	}
}

func TestRememberWithoutAnAccount(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	client := whatsmeow.NewClient(wabox.NewDevice(), nil)
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer plugin.Close()
	info, media := r.unseen("3EB0")
	if err = plugin.Remember(t.Context(), info, &waE2E.Message{ImageMessage: media.Image()}); !errors.Is(err, whatsmeow.ErrNotLoggedIn) {
		t.Errorf("got %v", err)
	}
}

// Naming a group's participant takes a question to the server, which cannot be asked while
// whatsmeow dials. Nor must Close wait for that.
func TestGroupRequestInADialThatHangs(t *testing.T) {
	t.Parallel()
	r := newUnregisteredRig(t)
	d := &hangingDialer{base: r.box.Transport(), dials: make(chan struct{}, 10), release: make(chan struct{})}
	t.Cleanup(d.base.CloseIdleConnections)
	r.client.SetWebsocketHTTPClient(&http.Client{Transport: d})
	r.register(&reupload.Options{Timeout: 400 * time.Millisecond})
	r.connect()
	defer close(d.release)
	<-d.dials
	if err := r.client.Store.LIDs.PutLIDMapping(r.ctx(), carolLID, carol); err != nil {
		t.Fatal(err)
	}
	info, media := r.unseen("3EB0")
	info.Chat = carolGroup
	d.hangs.Store(true)
	r.phone.Cut()
	<-d.dials
	if _, err := r.requests(reupload.NewRequest(info, media.Image())).end(); !errors.Is(err, whatsmeow.ErrNotConnected) {
		t.Errorf("got %v", err)
	}
	start := time.Now()
	r.plugin.Close()
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("Close took %v", took)
	}
}

func TestNamesFromBackupsAreTranslated(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	info, media := r.unseen("3EB0")
	info.Chat, info.Sender = carolGroup, types.NewJID(carol.User, types.LegacyUserServer)
	if _, err := r.requests(reupload.NewRequest(info, media.Image())).end(); err != nil {
		t.Fatal(err)
	}
	if got := r.phone.Requests()[0].Participant; got != carol {
		t.Errorf("the participant is %v", got)
	}
}
