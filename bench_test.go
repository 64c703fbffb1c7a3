package reupload_test

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waCommon"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/proto/waMmsRetry"
	"go.mau.fi/whatsmeow/proto/waWeb"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// These benchmarks compare: each runs what it measures and what it measures against in turn, in one
// process, and reports the ratio of the medians. Absolute times on a shared machine mean little.

// A contest runs two functions in turn.
type contest struct {
	times   [2][]time.Duration
	cpu     [2][]time.Duration // of the whole process; of one heal where there are many in a round
	mallocs [2]uint64
}

func (c *contest) run(b *testing.B, ours, theirs func()) {
	var before, after runtime.MemStats
	for i := range atMost(b, longEnough) {
		for _, side := range [2]int{i & 1, 1 - i&1} { // which is first changes
			f := [2]func(){ours, theirs}[side]
			runtime.ReadMemStats(&before)
			start, cpu := time.Now(), cpuTime()
			f()
			took := time.Since(start)
			c.cpu[side] = append(c.cpu[side], cpuTime()-cpu)
			runtime.ReadMemStats(&after)
			c.times[side] = append(c.times[side], took)
			c.mallocs[side] += after.Mallocs - before.Mallocs
		}
	}
	c.report(b)
	allocs := func(side int) float64 { return float64(c.mallocs[side]) / float64(len(c.times[side])) }
	b.ReportMetric(allocs(0), "ours-allocs")
	b.ReportMetric(allocs(1), "theirs-allocs")
}

// added returns how much longer ours takes, in nanoseconds.
func (c *contest) added() float64 { return median(c.times[0]) - median(c.times[1]) }

// report reports the medians and their ratio.
func (c *contest) report(b *testing.B) {
	b.ReportMetric(0, "ns/op") // it would be the sum of both
	b.ReportMetric(median(c.times[0]), "ours-ns")
	b.ReportMetric(median(c.times[1]), "theirs-ns")
	b.ReportMetric(median(c.times[0])/median(c.times[1]), "time-ratio")
	if ours, theirs := median(c.cpu[0]), median(c.cpu[1]); theirs > 0 {
		b.ReportMetric(ours/theirs, "cpu-ratio")
	}
}

// median returns the median of some times, in nanoseconds.
func median(times []time.Duration) float64 {
	times = slices.Sorted(slices.Values(times))
	return float64(times[len(times)/2])
}

// A healthy download with the plugin, against one without it. Two clients of one box; the file
// has 100 kB.
func BenchmarkHealthyDownload(b *testing.B) {
	with := newRig(b, nil)
	with.box.RecordAsked(false)
	account := with.box.NewAccount()
	without := account.NewClient(nil)
	if err := without.Connect(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(without.Disconnect)
	if err := account.WaitOnline(with.ctx()); err != nil {
		b.Fatal(err)
	}
	media := with.box.Upload(bytes.Repeat([]byte("0123456789"), 10_000), whatsmeow.MediaImage)
	with.receive(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()})
	// Something has been healed before, so that there are dead paths to look up.
	with.heals(with.receivePicture())
	download := func(client *whatsmeow.Client) func() {
		msg := media.Image()
		return func() {
			if _, err := client.Download(b.Context(), msg); err != nil {
				b.Fatal(err)
			}
		}
	}
	ours, theirs := download(with.client), download(without)
	ours()
	theirs()
	new(contest).run(b, ours, theirs)
}

// The same without a network: what our transport adds to the one under it.
func BenchmarkHealthyRoundTrip(b *testing.B) {
	r := newUnregisteredRig(b)
	base := constant{}
	r.register(&reupload.Options{HTTPClient: &http.Client{Transport: base}})
	media := r.box.Upload([]byte("a file"), whatsmeow.MediaImage)
	req, err := http.NewRequest(http.MethodGet, media.URL()+"&hash=k0Yy0Dm0i5eyCKIlV2Ghk0Yy0Dm0i5eyCKIlV2Ghk0E=&mms-type=image&__wa-mms=", nil)
	if err != nil {
		b.Fatal(err)
	}
	transport := host.MediaClient(r.client).Transport
	b.ReportAllocs()
	for b.Loop() {
		if _, err := transport.RoundTrip(req); err != nil {
			b.Fatal(err)
		}
	}
}

type constant struct{}

var okResponse = &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}

func (constant) RoundTrip(*http.Request) (*http.Response, error) { return okResponse, nil }

// What the event handler adds to a message, on whatsmeow's handler queue: a text, a text that
// quotes another, and a picture.
func BenchmarkEventHandler(b *testing.B) {
	r := newUnregisteredRig(b)
	plain := r.phone.NewClient(nil)
	r.register(nil)
	quote := &waE2E.ContextInfo{
		StanzaID: proto.String("QUOTED"), Participant: proto.String(bob.String()),
		QuotedMessage: &waE2E.Message{Conversation: proto.String("hello")},
	}
	for name, msg := range map[string]*waE2E.Message{
		"text":  {Conversation: proto.String("hello")},
		"quote": {ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("hello"), ContextInfo: quote}},
		"image": {ImageMessage: image(1), MessageContextInfo: &waE2E.MessageContextInfo{MessageSecret: make([]byte, 32)}},
	} {
		b.Run(name, func(b *testing.B) {
			const rounds = 1000 // to measure more than the clock
			messages := make([]*events.Message, rounds)
			for i := range messages {
				messages[i] = &events.Message{
					Info: types.MessageInfo{
						ID:            fmt.Sprintf("3EB0%018d", i),
						MessageSource: types.MessageSource{Chat: alice, Sender: alice},
						Timestamp:     time.Now(),
					},
					Message:    msg,
					RawMessage: msg,
				}
			}
			dispatch := func(client *whatsmeow.Client) func() {
				internals := host.Internals(client)
				return func() {
					for _, evt := range messages {
						internals.DispatchEvent(evt)
					}
				}
			}
			c := new(contest)
			c.run(b, dispatch(r.client), dispatch(plain))
			b.ReportMetric(c.added()/rounds, "added-ns/message")
		})
	}
}

// A history sync of 100,000 media messages, against what whatsmeow itself takes to parse them
// for a bot.
func BenchmarkHistorySync(b *testing.B) {
	r := newUnregisteredRig(b)
	r.register(&reupload.Options{Index: reupload.NewMemoryIndex(200_000)})
	const n = 100_000
	messages := make([]*waWeb.WebMessageInfo, n)
	for i := range messages {
		m := image(0)
		m.FileEncSHA256 = fmt.Appendf(nil, "%032d", i)
		messages[i] = &waWeb.WebMessageInfo{
			Key:         &waCommon.MessageKey{ID: proto.String(fmt.Sprintf("3EB0%018d", i)), RemoteJID: proto.String(aGroup.String())},
			Participant: proto.String(bob.String()),
			Message:     &waE2E.Message{ImageMessage: m},
		}
	}
	evt := &events.HistorySync{Data: history(aGroup, messages...)}
	handlers := host.Internals(r.client)
	parse := func() {
		for _, m := range messages {
			if _, err := r.client.ParseWebMessage(aGroup, m); err != nil {
				b.Fatal(err)
			}
		}
	}
	new(contest).run(b, func() { handlers.DispatchEvent(evt) }, parse)
	b.ReportMetric(n, "messages")
}

// Sealing a request and opening its answer, against whatsmeow. Its sealing half is not exported, so
// that the comparison is with opening twice, which derives the key and runs the cipher as often.
func BenchmarkSealAndOpen(b *testing.B) {
	const id = "3EB0A0B7F3F79DC2E7223227"
	key, iv := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{9}, 12)
	plaintext, err := proto.Marshal(&waMmsRetry.MediaRetryNotification{
		StanzaID: proto.String(id), Result: waMmsRetry.MediaRetryNotification_SUCCESS.Enum(),
		DirectPath: proto.String("/v/t62.7118-24/13375842_1204_n.enc?ccb=11-4&oh=01_Q5AaIC&oe=66A1B2C3&_nc_sid=5e03e0"),
	})
	if err != nil {
		b.Fatal(err)
	}
	ciphertext, err := reupload.SealWith(key, id, plaintext, iv)
	if err != nil {
		b.Fatal(err)
	}
	evt := &events.MediaRetry{MessageID: id, Ciphertext: ciphertext, IV: iv}
	const rounds = 200 // to measure more than the clock
	ours := func() {
		for range rounds {
			if err := reupload.SealAndOpen(key, id, ciphertext, iv); err != nil {
				b.Fatal(err)
			}
		}
	}
	theirs := func() {
		for range 2 * rounds {
			if _, err := whatsmeow.DecryptMediaRetryNotification(evt, key); err != nil {
				b.Fatal(err)
			}
		}
	}
	new(contest).run(b, ours, theirs)
}
