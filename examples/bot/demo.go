package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

// demoTime bounds the whole demo.
const demoTime = time.Minute

// The messages of the demo.
const (
	healsID types.MessageID = "3EB0C0FFEE"
	lostID  types.MessageID = "3EB0DECAF0"
)

// The somebody who sends them, with both addresses.
var (
	sender    = types.NewJID("447700900123", types.DefaultUserServer)
	senderLID = types.NewJID("200000000000123", types.HiddenUserServer)
)

// demo runs the bot, unchanged, with a WhatsApp that is in this process. The error tells what went
// other than it has to.
func demo(ctx context.Context, out io.Writer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, demoTime, fmt.Errorf("the demo was not through after %v", demoTime))
	defer cancel()
	dir, err := os.MkdirTemp("", "reupload-bot-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	box, err := wabox.New(wabox.Sockets())
	if err != nil {
		return err
	}
	defer box.Close()
	return demoIn(ctx, out, dir, box)
}

func demoIn(ctx context.Context, out io.Writer, dir string, box *wabox.Box) error {
	s := &stage{
		out: out, box: box, answers: make(chan answer, 8),
		cfg: config{db: filepath.Join(dir, "bot.db"), dir: filepath.Join(dir, "media")},
	}
	s.cfg.log, s.cfg.newClient = logger{s, "bot", false}, s.newClient
	if err := s.play(ctx); err != nil {
		s.say("demo", "WRONG: %v", err)
		return err
	}
	s.say("demo", "right: this is how it has to go")
	return nil
}

// An answer is a message of the bot.
type answer struct {
	to   types.JID
	text string
}

// A stage is the world around the bot: a WhatsApp with the user's phone, and a chat.
type stage struct {
	box   *wabox.Box
	phone *wabox.Account
	cfg   config

	answers chan answer // what the bot has said

	mu  sync.Mutex
	out io.Writer
}

// newClient makes a client that goes to the box. A new device gets an account there, as linking
// would give it one.
func (s *stage) newClient(device *store.Device, log waLog.Logger) (*whatsmeow.Client, error) {
	if device.ID == nil {
		s.phone = s.box.Pair(device)
		if err := device.Save(context.Background()); err != nil {
			return nil, err
		}
		s.say("demo", "linked the bot to an account, and saved the session in %s", filepath.Base(s.cfg.db))
	}
	client := whatsmeow.NewClient(device, log)
	s.phone.Configure(client)
	return client, nil
}

func (s *stage) play(ctx context.Context) error {
	heals, err := s.draw(color.RGBA{R: 255})
	if err != nil {
		return err
	}
	lost, err := s.draw(color.RGBA{B: 255})
	if err != nil {
		return err
	}

	var account types.JID
	err = s.withBot(ctx, func(b *bot) error {
		account = b.client.Store.GetJID()
		s.say("demo", "somebody sends two pictures, %s and %s", healsID, lostID)
		if err := s.deliver(healsID, &waE2E.Message{ImageMessage: pictureOf(heals)}); err != nil {
			return err
		}
		if err := s.deliver(lostID, &waE2E.Message{ImageMessage: pictureOf(lost)}); err != nil {
			return err
		}
		return errors.Join(s.waitSaved(ctx, heals), s.waitSaved(ctx, lost))
	})
	if err != nil {
		return fmt.Errorf("before the restart: %w", err)
	}

	s.say("demo", "the bot has ended; weeks pass, and both files expire on WhatsApp's servers")
	s.box.Expire(heals)
	s.box.Expire(lost)
	s.say("demo", "the phone has lost %s; somebody empties %s", lostID, filepath.Base(s.cfg.dir))
	s.phone.Forget(lostID)
	if err = os.RemoveAll(s.cfg.dir); err != nil {
		return err
	}

	err = s.withBot(ctx, func(b *bot) error {
		if now := b.client.Store.GetJID(); now != account {
			return fmt.Errorf("the bot was %s, and is %s now", account, now)
		}
		return s.getBoth(ctx, heals, lost)
	})
	if err != nil {
		return fmt.Errorf("after the restart: %w", err)
	}
	return nil
}

func (s *stage) getBoth(ctx context.Context, heals, lost *wabox.Media) error {
	// Real replies name the message that they quote. These do not, so that only the index can know
	// which one it was.
	s.say("demo", "somebody replies !get to the first picture")
	if err := s.deliver("", reply(heals)); err != nil {
		return err
	}
	if err := s.expect(ctx, "Saved as "+fileName(pictureOf(heals))+"."); err != nil {
		return err
	}
	if err := s.waitSaved(ctx, heals); err != nil {
		return err
	}
	s.say("demo", "somebody replies !get to the second picture")
	if err := s.deliver("", reply(lost)); err != nil {
		return err
	}
	if err := s.expect(ctx, "The phone no longer has this file either. Ask whoever sent it to send it again."); err != nil {
		return err
	}
	return s.judgeRequests()
}

// judgeRequests wants the phone to have been asked for just the two messages, under the ids that
// they came with. It can be asked for one twice, because the chat has two addresses: a phone number
// and a LID.
func (s *stage) judgeRequests() error {
	var asked []types.MessageID
	for _, r := range s.phone.Requests() {
		asked = append(asked, r.ID)
	}
	if got := slices.Compact(asked); !slices.Equal(got, []types.MessageID{healsID, lostID}) {
		return fmt.Errorf("the phone should have been asked for %s and %s, and was asked for %v", healsID, lostID, got)
	}
	s.say("demo", "the phone was asked for %s and %s: the index has kept the ids", healsID, lostID)
	return nil
}

// withBot runs the bot, as main does, while f plays with it.
func (s *stage) withBot(ctx context.Context, f func(*bot) error) error {
	b, err := openBot(ctx, s.cfg)
	if err != nil {
		return err
	}
	defer b.close()
	b.send = s.hear
	if err = b.connect(ctx, s.out, ""); err != nil {
		return err
	}
	if err = s.phone.WaitOnline(ctx); err != nil {
		return fmt.Errorf("the bot did not log in: %w", err)
	}
	return f(b)
}

// hear takes a message of the bot.
func (s *stage) hear(ctx context.Context, to types.JID, msg *waE2E.Message) error {
	text := msg.GetConversation()
	if text == "" {
		text = msg.GetExtendedTextMessage().GetText()
	}
	select {
	case s.answers <- answer{to, text}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// draw makes a small picture and puts it on WhatsApp's servers.
func (s *stage) draw(c color.RGBA) (*wabox.Media, error) {
	const size = 64
	img := image.NewRGBA(image.Rect(0, 0, size, size))
	for x := range size {
		for y := range size {
			img.Set(x, y, color.RGBA{c.R, uint8(x * y), c.B, 255})
		}
	}
	var file bytes.Buffer
	err := png.Encode(&file, img)
	return s.box.Upload(file.Bytes(), whatsmeow.MediaImage), err
}

func pictureOf(m *wabox.Media) *waE2E.ImageMessage {
	picture := m.Image()
	picture.Mimetype = proto.String("image/png")
	return picture
}

func reply(to *wabox.Media) *waE2E.Message {
	return &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
		Text:        proto.String("!get"),
		ContextInfo: &waE2E.ContextInfo{QuotedMessage: &waE2E.Message{ImageMessage: pictureOf(to)}},
	}}
}

func (s *stage) deliver(id types.MessageID, msg *waE2E.Message) error {
	_, err := s.phone.Deliver(wabox.Incoming{ID: id, From: sender, Alt: senderLID}, msg)
	return err
}

func (s *stage) expect(ctx context.Context, want string) error {
	got, err := s.next(ctx)
	if err != nil {
		return fmt.Errorf("the bot has not answered %q: %w", want, err)
	}
	if got.text != want {
		return fmt.Errorf("the bot should have answered %q, and has answered %q", want, got.text)
	}
	return nil
}

// next waits for the next message of the bot.
func (s *stage) next(ctx context.Context) (answer, error) {
	select {
	case got := <-s.answers:
		return got, nil
	case <-ctx.Done():
		return answer{}, context.Cause(ctx)
	}
}

// waitSaved waits for a file, and compares it with the original. It is there completely as soon as
// it is there.
func (s *stage) waitSaved(ctx context.Context, want *wabox.Media) error {
	name := fileName(pictureOf(want))
	for {
		saved, err := os.ReadFile(filepath.Join(s.cfg.dir, name))
		if err == nil && !bytes.Equal(saved, want.Plaintext) {
			return fmt.Errorf("%s is not the original", name)
		}
		if err == nil {
			s.say("demo", "%s is there, and is the original", name)
			return nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s was not saved: %w", name, context.Cause(ctx))
		}
	}
}

func (s *stage) say(who, format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "%-9s  %s\n", who, redact(fmt.Sprintf(format, args...)))
}

// A logger shows what the bot and the plugin log, and nothing of whatsmeow's but errors.
type logger struct {
	*stage
	who   string
	quiet bool
}

func (l logger) Debugf(string, ...any) {}
func (l logger) Infof(format string, args ...any) {
	if !l.quiet {
		l.say(l.who, format, args...)
	}
}

func (l logger) Warnf(format string, args ...any) {
	if !l.quiet {
		l.say(l.who, "warning: "+format, args...)
	}
}
func (l logger) Errorf(format string, args ...any) { l.say(l.who, "error: "+format, args...) }
func (l logger) Sub(module string) waLog.Logger {
	if module == "Reupload" {
		return logger{l.stage, "plugin", false}
	}
	return logger{l.stage, "whatsmeow", true}
}
