package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// messageID is a short one, for lines that can be read.
const messageID types.MessageID = "3EB0C0FFEE"

// sender sends the picture, in a chat of two.
var sender = types.NewJID("447700900123", types.DefaultUserServer)

// patience bounds a whole run: it is longer than any Options.Timeout in it.
const patience = time.Minute

// run plays one fault by its name, and tells on out what happens. The error is errUnknownFault, or
// says what went wrong.
func run(ctx context.Context, out io.Writer, name string, verbose bool) error {
	f, err := findFault(name)
	if err != nil {
		return err
	}
	s, err := newStage(out, f, verbose)
	if err != nil {
		return err
	}
	return s.play(ctx)
}

// A stage is the world around the bot: a server with a CDN, the user's phone, and a picture
// that has expired.
type stage struct {
	*narrator
	fault   fault
	box     *wabox.Box
	phone   *wabox.Account
	client  *whatsmeow.Client
	picture *wabox.Media

	downloads chan download
	late      chan reupload.Reupload
	strayed   atomic.Bool // a download went to a host that is not WhatsApp's
}

// A download is what the bot got out of one.
type download struct {
	image *waE2E.ImageMessage
	data  []byte
	err   error
	took  time.Duration
}

// newStage builds the world. It ends with play.
func newStage(out io.Writer, f fault, verbose bool) (*stage, error) {
	picture, err := drawPicture()
	if err != nil {
		return nil, err
	}
	s := &stage{
		narrator:  newNarrator(out),
		fault:     f,
		downloads: make(chan download, 8),
		late:      make(chan reupload.Reupload, 8),
	}
	if s.box, err = wabox.New(wabox.Sockets()); err != nil {
		return nil, err
	}
	s.box.OnEvent(s.watch)
	s.phone = s.box.NewAccount()
	s.short = strings.NewReplacer(s.phone.PN.String(), "OWN", s.phone.LID.String(), "OWN@lid", sender.String(), "CHAT")
	s.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{f.answer} })
	if f.cut {
		s.cutOnce()
	}
	log := waLog.Noop
	if verbose {
		log = logger{narrator: s.narrator}
	}
	s.client = s.phone.NewClient(log)
	s.client.SetMediaHTTPClient(&http.Client{Transport: guard{s.box.Transport(), s}})

	s.picture = s.box.Upload(picture, whatsmeow.MediaImage)
	s.box.Expire(s.picture)
	return s, nil
}

// cutOnce makes the connection break when the first request has arrived, before the server's ack.
func (s *stage) cutOnce() {
	s.phone.OnReceipt(func(wabox.Request) (drop bool) {
		if s.phone.RequestCount() == 1 {
			s.say("stage", "the connection breaks")
			s.phone.Cut()
		}
		return false
	})
	s.phone.Phone(func(wabox.Request) []wabox.Answer {
		answer := s.fault.answer
		if s.phone.RequestCount() == 1 {
			answer.Ack = wabox.AckNone // it goes down with the connection
		}
		return []wabox.Answer{answer}
	})
}

// A guard sees where downloads go. The box has only WhatsApp's hosts, and would not notice a
// request to another.
type guard struct {
	base  http.RoundTripper
	stage *stage
}

func (g guard) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Hostname() == evilHost {
		g.stage.strayed.Store(true)
	}
	return g.base.RoundTrip(req)
}

// drawPicture returns a small PNG file.
func drawPicture() ([]byte, error) {
	const size = 96
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for x := range size {
		for y := range size {
			img.Set(x, y, color.RGBA{uint8(x * 2), uint8(y * 2), uint8(x * y), 255})
		}
	}
	var file bytes.Buffer
	err := png.Encode(&file, img)
	return file.Bytes(), err
}

// play lets the bot get the picture, and returns what went other than it has to.
func (s *stage) play(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer s.end()
	defer s.box.Close()
	defer s.client.Disconnect()
	defer cancel()
	s.say("stage", "%s: %s", s.fault.name, s.fault.story)
	s.say("legend", "OWN   %s, bot and phone\nCHAT  %s, who sends the picture\n99B   so many bytes, which are encrypted or a nonce", s.phone.PN, sender)

	plugin, err := startBot(ctx, s.client, s.options(), s.got)
	if plugin != nil {
		defer plugin.Close()
	}
	if err != nil {
		return fmt.Errorf("starting the bot: %w", err)
	}
	if err = s.phone.WaitOnline(ctx); err != nil {
		return fmt.Errorf("the bot did not log in: %w", err)
	}
	s.say("bot", "logged in, with reupload")
	s.say("stage", "CHAT sends a picture, a PNG of %d bytes that is no longer on the CDN", len(s.picture.Plaintext))
	if _, err = s.phone.Deliver(wabox.Incoming{ID: messageID, From: sender}, &waE2E.Message{ImageMessage: s.picture.Image()}); err != nil {
		return err
	}
	first, err := receive(ctx, s.downloads)
	if err != nil {
		return fmt.Errorf("the bot got no picture: %w", err)
	}
	s.tell(first)
	err = s.judge(first)
	if err == nil && s.fault.late {
		err = s.answerLate(ctx, first)
	}
	stats := plugin.Stats()
	s.say("plugin", "stats: %d expired, %d asked, %d healed, %d late", stats.Expired, stats.Asked, stats.Healed, stats.Late)
	if err != nil {
		s.say("stage", "WRONG: %v", err)
		return err
	}
	s.say("stage", "right: this is how it has to go")
	return nil
}

func (s *stage) options() *reupload.Options {
	return &reupload.Options{
		Timeout: s.fault.timeout,
		OnReupload: func(r reupload.Reupload) {
			if r.Late {
				s.say("plugin", "OnReupload: %s has a new path, told when nobody waited", r.Request.MessageID)
				s.late <- r
			}
		},
	}
}

// got takes what the bot has downloaded. A message can come again after a break of the connection;
// the first time counts.
func (s *stage) got(d download) {
	select {
	case s.downloads <- d:
	default:
	}
}

// answerLate lets the phone answer after the bot has given up, and the bot download a second
// time.
func (s *stage) answerLate(ctx context.Context, first download) error {
	asked := s.phone.Requests()
	if len(asked) == 0 {
		return errors.New("the phone was never asked")
	}
	s.say("stage", "the phone is switched on, and finds the request")
	if err := s.phone.SendAnswer(asked[0], wabox.Answer{Result: wabox.Success}); err != nil {
		return err
	}
	if _, err := receive(ctx, s.late); err != nil {
		return fmt.Errorf("the late answer had no effect: %w", err)
	}
	s.say("bot does", "client.Download again, with the old message")
	start := time.Now()
	data, err := s.client.Download(ctx, first.image)
	again := download{first.image, data, err, time.Since(start)}
	s.tell(again)
	if err := s.judgeHealed(again); err != nil {
		return err
	}
	if n := s.phone.RequestCount(); n != len(asked) {
		return fmt.Errorf("the phone was asked %d times more, though the new path was known", n-len(asked))
	}
	s.say("stage", "no other request was sent")
	return nil
}

// tell prints how a download ended.
func (s *stage) tell(d download) {
	took := d.took.Round(100 * time.Microsecond)
	if d.err != nil {
		s.say("bot", "client.Download failed after %v: %v", took, d.err)
		cause := reupload.Cause(d.err)
		label := reupload.Label(cause)
		s.say("bot", "reupload.Cause: %v", cause)
		s.say("bot does", "%s: %s", label, advice[label])
		return
	}
	s.say("bot", "client.Download returned %d bytes after %v", len(d.data), took)
	equal := "equal"
	if !bytes.Equal(d.data, s.picture.Plaintext) {
		equal = "NOT EQUAL"
	}
	s.say("bot", "SHA-256 of the file:     %.8x…", sha256.Sum256(d.data))
	s.say("stage", "SHA-256 of the original: %.8x…: %s", sha256.Sum256(s.picture.Plaintext), equal)
	s.say("bot does", "%s", advice[reupload.Label(nil)])
}

// judge returns what is wrong with the outcome of a download, or nil.
func (s *stage) judge(d download) error {
	if s.strayed.Load() {
		return errors.New("a download went to " + evilHost)
	}
	want := s.fault.cause
	if want == nil {
		return s.judgeHealed(d)
	}
	cause := reupload.Cause(d.err)
	switch {
	case d.err == nil:
		return fmt.Errorf("the download succeeded, and should have failed with %q", want)
	case !errors.Is(d.err, whatsmeow.ErrMediaDownloadFailedWith410):
		return fmt.Errorf("the error should be whatsmeow's for HTTP status 410, and is: %w", d.err)
	case !errors.Is(cause, want):
		return fmt.Errorf("the cause should be %q, and is %q", want, fmt.Sprint(cause))
	}
	return nil
}

func (s *stage) judgeHealed(d download) error {
	if d.err != nil {
		return fmt.Errorf("the download should have healed, and failed: %w", d.err)
	}
	if !bytes.Equal(d.data, s.picture.Plaintext) {
		return errors.New("the file is not the original")
	}
	if _, err := png.Decode(bytes.NewReader(d.data)); err != nil {
		return fmt.Errorf("the file is not a picture: %w", err)
	}
	return nil
}

// receive returns the next value of a channel, or the context's error.
func receive[T any](ctx context.Context, from <-chan T) (value T, err error) {
	select {
	case value = <-from:
		return value, nil
	case <-ctx.Done():
		return value, context.Cause(ctx)
	}
}
