package reupload_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestLateAnswer(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		away   bool // the client is, and the server holds the answer
		answer wabox.Answer
	}{
		{"after the time-out", false, wabox.Answer{Result: wabox.Success}},
		{"several times", false, wabox.Answer{Result: wabox.Success, Repeat: 3}},
		{"without rmr", false, wabox.Answer{Result: wabox.Success, NoRMR: true}},
		{"a refusal with a path", false, wabox.Answer{Result: wabox.NotFound, WithPath: true}},
		{"held while the client was away", true, wabox.Answer{Result: wabox.Success}},
	}
	for _, test := range tests {
		runInBubble(t, test.name, func(t *testing.T) {
			heard := make(told, 10)
			r := newRig(t, heard.options(reupload.Options{}))
			p := r.receivePicture()
			r.phone.Script(p.id(), wabox.Answer{None: true})
			c := r.begin(p.request())
			request := r.asks(1)[0]
			c.fails(t, reupload.ErrTimeout)
			if test.away {
				r.goesOffline()
			}
			if s := r.plugin.Stats(); s.Waiting != 0 || s.Late != 0 {
				t.Errorf("before the answer, stats are %+v", s)
			}
			r.answer(request, test.answer)
			r.phone.Offline(false)
			u := heard.next(t)
			if !u.Late || u.Request.MessageID != p.id() || u.Result.DirectPath == "" || string(u.FileEncSHA256) != string(p.FileEncSHA256) {
				t.Errorf("Options.OnReupload was told %+v", u)
			}
			if data, err := r.client.Download(r.ctx(), p.image); err != nil || string(data) != string(p.Plaintext) {
				t.Errorf("the download: %v (cause: %v)", err, reupload.Cause(err))
			}
			r.asked(2) // under either name of the account
			r.marker()
			r.plugin.Close()
			if n := r.plugin.Stats().Late; n != 1 || len(heard) > 0 {
				t.Errorf("%d late answers, told of %d more", n, len(heard))
			}
		})
	}
}

// The answer to a request of a process that has ended finds its message all the same, if the index
// has been kept.
func TestLateAnswerToAnEarlierPlugin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(told, 10)
		index := reupload.NewMemoryIndex(100)
		r := newRig(t, &reupload.Options{Index: index})
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		c := r.begin(p.request())
		request := r.asks(1)[0]
		r.plugin.Close()
		c.fails(t, reupload.ErrClosed)
		r.answer(request, wabox.Answer{Result: wabox.Success})
		next[*events.MediaRetry](r) // no plugin is registered

		r.register(heard.options(reupload.Options{Index: index}))
		r.answer(request, wabox.Answer{Result: wabox.Success})
		if u := heard.next(t); !u.Late {
			t.Errorf("Options.OnReupload was told %+v", u)
		}
		r.heals(p)
		r.asked(1)
	})
}

// An answer can have waited for the bot until its path had expired, too. Then the phone is asked
// again, as for any path that is old.
func TestLateAnswerThatIsOld(t *testing.T) {
	for name, restarts := range map[string]bool{"of an earlier plugin": true, "after a long break": false} {
		runInBubble(t, name, func(t *testing.T) {
			heard := make(told, 10)
			options := heard.options(reupload.Options{Index: reupload.NewMemoryIndex(100)})
			r := newRig(t, options)
			p := r.receivePicture()
			r.phone.Script(p.id(), wabox.Answer{None: true})
			c := r.begin(p.request())
			request := r.asks(1)[0]
			if restarts {
				r.plugin.Close()
				c.fails(t, reupload.ErrClosed)
				r.register(options)
			} else {
				c.fails(t, reupload.ErrTimeout)
				time.Sleep(2 * time.Hour)
			}
			r.answer(request, wabox.Answer{Result: wabox.Success})
			if u := heard.next(t); !u.Late {
				t.Errorf("Options.OnReupload was told %+v", u)
			}
			before := len(r.phone.Requests())
			r.box.Expire(p.Media)
			r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success})
			r.heals(p)
			r.asked(before + 1)
		})
	}
}

// An answer that has waited for the bot can come just before a request for the file goes out. Its
// path is tried, and if that has died meanwhile, the phone is asked by the same download.
func TestOldAnswerBeforeARequest(t *testing.T) {
	t.Parallel()
	// prepare leaves a request without an answer for twenty days, in which all paths of its file
	// die.
	prepare := func(r *rig) (p picture, late func()) {
		p = r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		c := r.begin(p.request())
		request := r.asks(1)[0]
		c.fails(r, reupload.ErrTimeout)
		path := r.box.Reupload(p.Media)
		time.Sleep(20 * 24 * time.Hour)
		r.box.Expire(p.Media)
		r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success})
		return p, func() { r.answer(request, wabox.Answer{Result: wabox.Success, DirectPath: path}) }
	}
	runInBubble(t, "which waits for its turn", func(t *testing.T) {
		r := newRig(t, &reupload.Options{MaxInFlight: 1})
		p, late := prepare(r)
		other := r.receivePictureIn(wabox.Incoming{From: bob})
		r.phone.Script(other.id(), wabox.Answer{Result: wabox.Success, Delay: 3 * time.Second})
		var downloads sync.WaitGroup
		downloads.Go(func() { r.heals(other) })
		time.Sleep(time.Second)
		before := r.phone.RequestCount()
		downloads.Go(func() { r.heals(p) })
		time.Sleep(time.Second)
		late()
		downloads.Wait()
		r.asked(before + 1)
	})
	runInBubble(t, "while another path is tried", func(t *testing.T) {
		r := newRig(t, nil)
		p, late := prepare(r)
		forward := p.Media.Image()
		forward.DirectPath = proto.String(r.box.Reupload(p.Media))
		r.phone.Forget(r.receive(wabox.Incoming{From: bob}, &waE2E.Message{ImageMessage: forward}).Info.ID)
		r.box.Serve(forward.GetDirectPath(), func(w http.ResponseWriter, _ *http.Request) bool {
			time.Sleep(2 * time.Second)
			w.WriteHeader(http.StatusGone)
			return true
		})
		before := r.phone.RequestCount()
		var downloads sync.WaitGroup
		downloads.Go(func() { r.heals(p) })
		time.Sleep(time.Second)
		late()
		downloads.Wait()
		r.asked(before + 1)
	})
}

// While a path that leads nowhere is given its time, another answer can come, such as the one to an
// earlier request. Its path stays known.
func TestAnswerBesideAUselessPath(t *testing.T) {
	t.Parallel()
	for name, healed := range map[string]bool{"of a new file": false, "of a file that has healed": true} {
		runInBubble(t, name, func(t *testing.T) {
			options := &reupload.Options{Index: reupload.NewMemoryIndex(100)}
			r := newRig(t, options)
			p := r.receivePicture()
			if healed {
				r.heals(p)
				r.box.Expire(p.Media)
			}
			before := r.phone.RequestCount()
			r.phone.Script(p.id(), wabox.Answer{Result: wabox.Success, DirectPath: nowhere})
			var downloads sync.WaitGroup
			downloads.Go(func() { r.fails(p, reupload.ErrInvalidAnswer) })
			time.Sleep(2 * time.Second)
			r.answer(r.phone.Requests()[before], wabox.Answer{Result: wabox.Success})
			downloads.Wait()
			r.heals(p)
			r.plugin.Close()
			r.register(options)
			r.heals(p)
			r.asked(before + 1)
		})
	}
}

func TestLateRefusal(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(told, 10)
		r := newRig(t, heard.options(reupload.Options{}))
		p := r.receivePicture()
		r.phone.Script(p.id(), wabox.Answer{None: true})
		c := r.requests(p.request())
		c.fails(t, reupload.ErrTimeout)
		r.answer(r.asks(1)[0], wabox.Answer{Result: wabox.NotFound})
		until(t, "a download is refused for what the phone has said", func() bool {
			_, err := r.client.Download(r.ctx(), p.image)
			return errors.Is(reupload.Cause(err), reupload.ErrNotFound)
		})
		r.plugin.Close()
		if n := r.plugin.Stats().Late; n != 0 || len(heard) > 0 {
			t.Errorf("%d new paths, told of %d", n, len(heard))
		}
	})
}

func TestAnswerThatNobodyAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(told, 10)
		r := newRig(t, heard.options(reupload.Options{}))
		known := r.receivePicture()
		stranger := r.box.Upload(content(), whatsmeow.MediaImage)
		r.phone.Knows("STRANGER", stranger)
		// Another device of the account has asked; or somebody plays with us.
		request := wabox.Request{ID: "STRANGER", To: r.phone.PN, Node: &waBinary.Node{
			Tag:     "receipt",
			Content: []waBinary.Node{{Tag: "rmr", Attrs: waBinary.Attrs{"jid": carol, "from_me": "false"}}},
		}}
		code := "2"
		answers := []wabox.Answer{
			{Result: wabox.Success, DirectPath: "/v/t62?oh=01&oe=7FFFFFFF"}, {Garbage: true}, {Result: wabox.Success, IV: []byte{}}, {ErrorCode: &code},
		}
		for _, answer := range answers {
			r.answer(request, answer)
			next[*events.MediaRetry](r)
		}
		request.ID = known.id() // known to the index, but the answer is under another key
		for _, answer := range answers[:3] {
			r.answer(request, answer)
			next[*events.MediaRetry](r)
		}
		r.heals(known)
		r.asked(1)
		if u := heard.next(t); u.Late || u.Request.MessageID != known.id() {
			t.Errorf("Options.OnReupload was told %+v", u)
		}
		r.plugin.Close()
		if n := r.plugin.Stats().Late; n != 0 || len(heard) > 0 {
			t.Errorf("%d late answers, told of %d more", n, len(heard))
		}
		if r.log.count("WARN Reupload", "")+r.log.count("ERROR", "") > 0 { // whatsmeow warns of contacts without a LID
			t.Errorf("the log is not quiet:\n%s", r.log.all())
		}
	})
}
