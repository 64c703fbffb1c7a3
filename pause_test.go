package reupload_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// A refusal is remembered for downloads, and not for those who ask in so many words.
func TestRefusalsAreRemembered(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer wabox.Answer
		want   error
		pause  time.Duration
	}{
		{"not found", wabox.Answer{Result: wabox.NotFound}, reupload.ErrNotFound, defaultRefusalPause},
		{"not found, in plain", wabox.Answer{ErrorCode: proto.String("2")}, reupload.ErrGeneral, defaultSilencePause},
		{"undecryptable", wabox.Answer{Garbage: true}, reupload.ErrDecryption, defaultRefusalPause},
		{"general error", wabox.Answer{}, reupload.ErrGeneral, defaultSilencePause},
		{"rejected", wabox.Answer{Ack: wabox.AckError("500")}, reupload.ErrRejected, defaultSilencePause},
		{"nonsense", wabox.Answer{Result: wabox.Success, NoPath: true}, reupload.ErrInvalidAnswer, defaultSilencePause},
	}
	for _, test := range tests {
		runInBubble(t, test.name, func(t *testing.T) {
			r := newRig(t, nil)
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer)
			for i := range 3 {
				_, err := r.client.Download(r.ctx(), p.image)
				cause := reupload.Cause(err)
				if !errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410) || !errors.Is(cause, test.want) {
					t.Fatalf("got %v (cause: %v)", err, cause)
				}
				_, until, remembered := strings.Cut(cause.Error(), "until ")
				if remembered != (i > 0) {
					t.Errorf("download %d: the cause is %v", i, cause)
				}
				if at, err := time.Parse(time.RFC3339, strings.Trim(until, "()")); remembered && (err != nil || time.Until(at) != test.pause) {
					t.Errorf("it is remembered until %q", until)
				}
			}
			time.Sleep(test.pause - time.Second)
			r.fails(p, test.want)
			r.asked(1)

			r.phone.Script(p.id(), test.answer, wabox.Answer{Result: wabox.Success})
			if c := r.requests(p.request()); c.err == nil && c.result.Status == reupload.StatusSuccess {
				t.Error("the phone was not asked at all")
			}
			r.asked(2)
			r.requests(p.request()).succeeds(t)
			r.asked(3)
			r.heals(p)
			r.asked(3)
		})
	}
}

func TestPausesEnd(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		opts   reupload.Options
		answer wabox.Answer
		pause  time.Duration
	}{
		{"refusal", reupload.Options{}, wabox.Answer{Result: wabox.NotFound}, defaultRefusalPause},
		{"silence", reupload.Options{}, wabox.Answer{}, defaultSilencePause},
		{"short refusal pause", reupload.Options{RefusalPause: time.Minute}, wabox.Answer{Result: wabox.NotFound}, time.Minute},
		{"short silence pause", reupload.Options{SilencePause: time.Minute}, wabox.Answer{}, time.Minute},
		{"no refusal pause", reupload.Options{RefusalPause: -1}, wabox.Answer{Result: wabox.NotFound}, 0},
		{"no silence pause", reupload.Options{SilencePause: -1}, wabox.Answer{}, 0},
	}
	for _, test := range tests {
		runInBubble(t, test.name, func(t *testing.T) {
			r := newRig(t, &test.opts)
			p := r.receivePicture()
			r.phone.Script(p.id(), test.answer, wabox.Answer{Result: wabox.Success})
			fails := func() {
				t.Helper()
				if _, err := r.client.Download(r.ctx(), p.image); reupload.Cause(err) == nil {
					t.Fatalf("got %v", err)
				}
				r.asked(1)
			}
			fails()
			if test.pause > 0 {
				time.Sleep(test.pause - time.Second)
				fails()
				time.Sleep(time.Second)
			}
			r.heals(p)
			r.asked(2)
		})
	}
}

func TestOldStatusIsNotAskedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		for age, want := range map[time.Duration]error{25 * time.Hour: reupload.ErrNotFound, 23 * time.Hour: nil} {
			before := r.phone.RequestCount()
			p := r.receivePictureIn(wabox.Incoming{Chat: types.StatusBroadcastJID, From: bob, Timestamp: time.Now().Add(-age)})
			if want == nil {
				r.heals(p)
				r.asked(before + 1)
				continue
			}
			r.fails(p, want)
			r.asked(before)
			r.requests(p.request()).succeeds(t) // who asks in so many words is heard
		}
	})
}

// What is known of a file survives the process, in the index.
func TestPausesSurviveARestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer wabox.Answer
		want   error
		asked  int
	}{
		"lost":     {wabox.Answer{Result: wabox.NotFound}, reupload.ErrNotFound, 1},
		"silence":  {wabox.Answer{None: true}, reupload.ErrTimeout, 2}, // under either name of the account
		"rejected": {wabox.Answer{Ack: wabox.AckError("479")}, reupload.ErrRejected, 1},
		"in plain": {wabox.Answer{ErrorCode: proto.String("2")}, reupload.ErrGeneral, 1},
	} {
		runInBubble(t, name, func(t *testing.T) {
			index := reupload.NewMemoryIndex(100)
			r := newRig(t, &reupload.Options{Index: index})
			p := r.receivePicture()
			r.phone.Script(p.id(), c.answer)
			r.fails(p, c.want)
			for range 3 {
				r.plugin.Close()
				r.register(&reupload.Options{Index: index})
				r.fails(p, c.want)
			}
			r.asked(c.asked)
		})
	}
}

// A process that ends while the phone is asked leaves word of that. The next one waits for the
// answer, and does not ask again.
func TestRequestInTheAirSurvivesARestart(t *testing.T) {
	t.Parallel()
	ways := map[string]func(*rig, picture) error{
		"a download": func(r *rig, p picture) error {
			_, err := r.client.Download(r.ctx(), p.image)
			if cause := reupload.Cause(err); cause != nil {
				return cause
			}
			return err
		},
		"RequestAll": func(r *rig, p picture) (err error) {
			for answer := range r.plugin.RequestAll(r.ctx(), slices.Values([]reupload.Request{p.request()})) {
				err = errors.Join(answer.Err, answer.Result.Err())
			}
			return err
		},
	}
	for way, call := range ways {
		restarted := func(t *testing.T, answer wabox.Answer) (*rig, picture) {
			index := reupload.NewMemoryIndex(100)
			r := newRig(t, &reupload.Options{Index: index})
			p := r.receivePicture()
			r.phone.Script(p.id(), answer)
			go r.client.Download(r.ctx(), p.image)
			r.asks(1)
			until(t, "the index knows that the phone was asked", func() bool {
				found, _ := index.ByMessage(t.Context(), r.phone.PN.ToNonAD(), p.id())
				return len(found) == 1 && !found[0].Asked.At.IsZero()
			})
			r.plugin.Close()
			r.register(&reupload.Options{Index: index})
			return r, p
		}
		runInBubble(t, way+": the answer comes", func(t *testing.T) {
			r, p := restarted(t, wabox.Answer{Result: wabox.Success, Delay: 20 * time.Second})
			if err := call(r, p); err != nil {
				t.Error(err)
			}
			r.heals(p)
			r.asked(1)
		})
		runInBubble(t, way+": no answer comes", func(t *testing.T) {
			r, p := restarted(t, wabox.Answer{None: true})
			began := time.Now()
			if err := call(r, p); !errors.Is(err, reupload.ErrTimeout) || errors.Is(err, reupload.ErrPhoneSilent) {
				t.Errorf("the first call: %v", err)
			}
			if took := time.Since(began); took != defaultTimeout {
				t.Errorf("it took %v", took)
			}
			if err := call(r, p); !errors.Is(err, reupload.ErrPhoneSilent) {
				t.Errorf("the next call: %v", err)
			}
			r.asked(1)
		})
		runInBubble(t, way+": it was longer ago", func(t *testing.T) {
			r, p := restarted(t, wabox.Answer{None: true})
			time.Sleep(defaultTimeout)
			if err := call(r, p); !errors.Is(err, reupload.ErrPhoneSilent) {
				t.Error(err)
			}
			r.asked(1)
		})
	}
}

// A refusal is about one file, and a message can have several.
func TestRefusalOfOneFileLeavesTheOther(t *testing.T) {
	inBubble(t, func(t *testing.T) {
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
	})
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
		runInBubble(t, name, func(t *testing.T) {
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
