package reupload_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// What a heal costs, against the flow that whatsmeow's documentation describes (the comment on
// SendMediaRetryReceipt), written by hand with whatsmeow's own functions. Both bots have the same
// box, in this process, so that their CPU time has its part in it.

// longEnough is how long a benchmark repeats what it measures, however many iterations are asked
// for: -benchtime 1500x is a second for most, and would be half an hour for some.
const longEnough = 10 * time.Second

// atMost is b.Loop with a bound: after it, the iterations that are left do nothing.
func atMost(b *testing.B, bound time.Duration) iter.Seq[int] {
	return func(yield func(int) bool) {
		began := time.Now()
		for i := 0; b.Loop(); i++ {
			if time.Since(began) < bound && !yield(i) {
				return
			}
		}
	}
}

// A benchBot is a bot with the plugin, or one that does by hand what whatsmeow's documentation
// says.
type benchBot struct {
	box     *wabox.Box
	account *wabox.Account
	client  *whatsmeow.Client
	plugin  *reupload.Plugin // nil by hand
	answers sync.Map         // by hand: of chan *events.MediaRetry, by message id
	places  chan struct{}    // by hand: as many requests wait for the phone at once; nil for any number
}

// newBenchBot makes a bot that is logged in. Without options it does all by hand.
func newBenchBot(b *testing.B, box *wabox.Box, opts *reupload.Options) *benchBot {
	bot := &benchBot{box: box, account: box.NewAccount()}
	bot.client = bot.account.NewClient(nil)
	if opts != nil {
		p, err := reupload.Register(bot.client, opts)
		if err != nil {
			b.Fatal(err)
		}
		bot.plugin = p
		b.Cleanup(func() { p.Close() })
	} else {
		bot.client.AddEventHandler(func(evt any) {
			if retry, ok := evt.(*events.MediaRetry); ok {
				if answer, ok := bot.answers.LoadAndDelete(retry.MessageID); ok {
					answer.(chan *events.MediaRetry) <- retry
				}
			}
		})
	}
	if err := bot.client.Connect(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(bot.client.Disconnect)
	if err := bot.account.WaitOnline(b.Context()); err != nil {
		b.Fatal(err)
	}
	return bot
}

// quickly are options under which a bot may ask as often as it likes.
func quickly() *reupload.Options { return &reupload.Options{Pace: -1} }

// newBenchBox returns a box that keeps no record.
func newBenchBox(b *testing.B) *wabox.Box {
	box, err := wabox.New()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(box.Close)
	box.RecordAsked(false)
	return box
}

// answersAfter lets the phone of each bot think for a while.
func answersAfter(delay time.Duration, bots ...*benchBot) {
	for _, bot := range bots {
		bot.account.Phone(func(wabox.Request) []wabox.Answer {
			return []wabox.Answer{{Result: wabox.Success, Delay: delay}}
		})
	}
}

// A benchPicture is a picture that a bot has received, in one of a hundred chats.
type benchPicture struct {
	info  types.MessageInfo
	image *waE2E.ImageMessage
}

// pictures returns pictures that are known to the bot and its phone, and have expired.
func (bot *benchBot) pictures(b *testing.B, count int) []benchPicture {
	all := make([]benchPicture, count)
	for i := range all {
		media := bot.box.Upload(bytes.Repeat(content()[:20], 500), whatsmeow.MediaImage)
		chat := types.NewJID(fmt.Sprintf("4477009%05d", i%100), types.DefaultUserServer)
		p := &all[i]
		p.image = media.Image()
		p.info.Chat, p.info.Sender, p.info.Timestamp = chat, chat, time.Now()
		msg := &waE2E.Message{ImageMessage: p.image}
		p.info.ID = bot.account.KnowsMessage(wabox.Incoming{Chat: chat, From: chat}, msg)
		if bot.plugin != nil {
			if err := bot.plugin.Remember(b.Context(), &p.info, msg); err != nil {
				b.Fatal(err)
			}
		}
		bot.box.Expire(media)
	}
	return all
}

// get downloads a picture that has expired.
func (bot *benchBot) get(ctx context.Context, p benchPicture) error {
	data, err := bot.client.Download(ctx, p.image)
	if bot.plugin == nil && (errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith404) || errors.Is(err, whatsmeow.ErrMediaDownloadFailedWith410)) {
		data, err = bot.askAndDownload(ctx, p)
	}
	if err == nil && len(data) == 0 {
		err = errors.New("the file is empty")
	}
	return err
}

// askAndDownload asks the phone for a picture, and downloads it from the new path.
func (bot *benchBot) askAndDownload(ctx context.Context, p benchPicture) ([]byte, error) {
	path, err := bot.ask(ctx, p)
	if err != nil {
		return nil, err
	}
	p.image.DirectPath = &path
	return bot.client.Download(ctx, p.image)
}

func (bot *benchBot) ask(ctx context.Context, p benchPicture) (path string, err error) {
	if bot.places != nil {
		bot.places <- struct{}{}
		defer func() { <-bot.places }()
	}
	answer := make(chan *events.MediaRetry, 1)
	bot.answers.Store(p.info.ID, answer)
	if err := bot.client.SendMediaRetryReceipt(ctx, &p.info, p.image.GetMediaKey()); err != nil {
		return "", err
	}
	retry, err := whatsmeow.DecryptMediaRetryNotification(<-answer, p.image.GetMediaKey())
	if err != nil {
		return "", err
	}
	if retry.GetResult() != waMmsRetry.MediaRetryNotification_SUCCESS {
		return "", errors.New(retry.GetResult().String())
	}
	return retry.GetDirectPath(), nil
}

// A duel is two bots that heal one picture after the other, in turn.
type duel struct {
	contest
	bots [2]*benchBot
}

// round lets each of the bots heal so many pictures.
func (d *duel) round(b *testing.B, i, heals int) {
	var all [2][]benchPicture
	for side, bot := range d.bots {
		all[side] = bot.pictures(b, heals)
	}
	for _, side := range [2]int{i & 1, 1 - i&1} {
		time.Sleep(2 * time.Millisecond) // what is under way ends
		before := cpuTime()
		for _, p := range all[side] {
			start := time.Now()
			if err := d.bots[side].get(b.Context(), p); err != nil {
				b.Fatal(err, reupload.Cause(err))
			}
			d.times[side] = append(d.times[side], time.Since(start))
		}
		time.Sleep(2 * time.Millisecond)
		d.cpu[side] = append(d.cpu[side], (cpuTime()-before)/time.Duration(heals))
	}
}

// healsAtATime is how many heals are timed together: the clock of CPU time is coarse.
const healsAtATime = 16

// A phone that answers at once.
func BenchmarkHeal(b *testing.B) {
	box := newBenchBox(b)
	d := &duel{bots: [2]*benchBot{newBenchBot(b, box, quickly()), newBenchBot(b, box, nil)}}
	for i := range atMost(b, longEnough) {
		d.round(b, i, healsAtATime)
	}
	d.report(b)
}

// A phone that takes as long as a quick one does.
func BenchmarkHealSlowPhone(b *testing.B) {
	box := newBenchBox(b)
	d := &duel{bots: [2]*benchBot{newBenchBot(b, box, quickly()), newBenchBot(b, box, nil)}}
	answersAfter(300*time.Millisecond, d.bots[:]...)
	for i := range atMost(b, longEnough) {
		d.round(b, i, 1)
	}
	d.report(b)
}

// A bot that has healed many pictures before, against one that has healed one.
func BenchmarkHealAfterMany(b *testing.B) {
	before := 5000
	if testing.Short() {
		before = 500
	}
	box := newBenchBox(b)
	d := &duel{bots: [2]*benchBot{newBenchBot(b, box, quickly()), newBenchBot(b, box, quickly())}}
	d.bots[0].getAll(b, d.bots[0].pictures(b, before), 16)
	d.bots[1].getAll(b, d.bots[1].pictures(b, 1), 1)
	for i := range atMost(b, longEnough) {
		if len(d.times[1]) < before/10 { // it is to stay young
			d.round(b, i, healsAtATime)
		}
	}
	d.report(b)
}

// getAll downloads pictures, so many at once.
func (bot *benchBot) getAll(b *testing.B, all []benchPicture, atOnce int) {
	each(b, atOnce, all, func(p benchPicture) error { return bot.get(b.Context(), p) })
}

// each calls a function for each picture, on so many goroutines.
func each(b *testing.B, goroutines int, all []benchPicture, do func(benchPicture) error) {
	next := make(chan benchPicture)
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for p := range next {
				if err := do(p); err != nil {
					b.Error(err, reupload.Cause(err))
				}
			}
		})
	}
	for _, p := range all {
		next <- p
	}
	close(next)
	wg.Wait()
	if b.Failed() {
		b.FailNow()
	}
}
