package host_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/internal/host"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// What a bot loses with each name of whatsmeow that this package depends on, when the next
// whatsmeow has it no more.
//
// To compile whatsmeow for each name would take a minute and a half. So a name is changed where a
// Go program keeps it, in the type of the client or in the table of functions, in a copy of this
// very program. The copy runs TestBotOnAnyWhatsmeow and tells how it went.

// A life is what a bot does on some whatsmeow, and what comes of it.
type life struct {
	Hidden   string // what this package does not find
	Register string // the error of Register without options
	Degraded string // what Degraded says after Register,
	Later    string // and in the end
	Warned   int    // how often the log says that not everything works

	Live     string        // a download of a file that is there
	Outside  string        // of one that has expired, outside event handlers,
	Inside   string        // inside one that was added after Register,
	Early    string        // and inside one that was added before
	Again    string        // the same two files, outside
	Waits    time.Duration // how long an event handler waits for a silent phone
	Nested   string        // the error of Register inside an event handler
	Closed   string        // a download of a file that is there, after Close
	Panicked int

	Dialing string // what a request gets while whatsmeow dials, at its time-out,
	Hangs   bool   // and whether its send hangs until whatsmeow has dialed
}

// healthy is the life of a bot on the whatsmeow that these tests are compiled with.
var healthy = life{
	Live: "ok", Outside: "ok", Inside: "ok", Early: "ok", Again: "ok", Waits: 5 * time.Second, Closed: "ok",
	Nested:  "reupload: Register would deadlock inside an event handler; call it right after NewClient",
	Dialing: "not_connected",
}

const (
	lostTap   = "downloads inside event handlers do not heal at once, but fail and heal the next time: this version of whatsmeow has no receive logger that can be used"
	lostOrder = "other event handlers come first, so that what they download is not remembered yet; call Register before adding them"
	lostMedia = "a media HTTP client that the bot sets later is not noticed, so that its downloads do not heal: this version of whatsmeow hides it"
	lostQueue = "not every event handler is known as one, so that downloads inside one wait for Options.Timeout, and not for HandlerTimeout: this version of whatsmeow has no function handlerQueueLoop"
	lostEvent = "not every event handler is known as one, so that Register inside one can wait for ever: this version of whatsmeow has no function dispatchEvent"
)

// taken says for each name what is lost with it.
var taken = []struct {
	name  string
	where string // what stands before the name in a program
	lose  func(*life)
}{
	{"recvLog", field, func(l *life) {
		l.Hidden, l.Degraded, l.Warned = "recvLog", lostTap, 1
		l.Inside, l.Early, l.Waits = "handler_blocked", "handler_blocked", 0
	}},
	{"mediaHTTP", field, func(l *life) {
		l.Hidden, l.Degraded, l.Warned = "mediaHTTP", lostMedia, 1
		l.Register = "reupload: this version of whatsmeow hides its media HTTP client; pass the one to use, with its proxy, as Options.HTTPClient"
	}},
	{"eventHandlers", field, loseOrder},
	{"eventHandlersLock", field, loseOrder},
	{"id", field, loseOrder},
	{"socketLock", field, func(l *life) { l.Hidden, l.Hangs = "socketLock", true }},
	{"dispatchEvent", function, func(l *life) { l.Later, l.Warned = lostEvent, 1 }},
	{"handlerQueueLoop", function, func(l *life) { l.Later, l.Warned, l.Waits = lostQueue, 1, 30*time.Second }},
}

func loseOrder(l *life) {
	l.Hidden, l.Degraded, l.Warned, l.Early = "eventHandlers", lostOrder, 1, "unknown_message"
}

const (
	field    = "\x00" // not exported, and without a tag; then comes the length
	function = "\x00go.mau.fi/whatsmeow.(*Client)."
)

// reportTo names the file that a copy of this program writes its life to.
const reportTo = "HOST_TEST_LIFE"

func TestNamesTakenAway(t *testing.T) {
	t.Parallel()
	for _, test := range taken {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			want := healthy
			test.lose(&want)
			want.Later = strings.Join(strings.Fields(want.Degraded+" "+want.Later), " ")
			compare(t, liveWithout(t, test.where, test.name), want)
		})
	}
}

// liveWithout runs a copy of this program without a name, and returns what its bot has lived
// through.
func liveWithout(t *testing.T, where, name string) (l life) {
	t.Helper()
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	before := where + name
	if where == field {
		before = where + string(rune(len(name))) + name
	}
	if !bytes.Contains(program, []byte(before)) {
		t.Fatalf("the program has no %q", before)
	}
	program = bytes.ReplaceAll(program, []byte(before), []byte(before[:len(before)-1]+"0"))
	dir := t.TempDir()
	path, report := filepath.Join(dir, filepath.Base(os.Args[0])), filepath.Join(dir, "life.json")
	if err := os.WriteFile(path, program, 0o700); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS == "darwin" { // which runs nothing whose signature is broken
		if out, err := exec.Command("codesign", "-f", "-s", "-", path).CombinedOutput(); err != nil {
			t.Fatalf("codesign: %v\n%s", err, out)
		}
	}
	cmd := exec.CommandContext(t.Context(), path, "-test.run=^TestBotOnAnyWhatsmeow$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), reportTo+"="+report)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	encoded, err := os.ReadFile(report)
	if err == nil {
		err = json.Unmarshal(encoded, &l)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func compare(t *testing.T, got, want life) {
	t.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	for i := range g.NumField() {
		if g.Field(i).Interface() != w.Field(i).Interface() {
			t.Errorf("%s: %v, want %v", g.Type().Field(i).Name, g.Field(i), w.Field(i))
		}
	}
}

// TestEveryNameIsTaken sees to it that the table above has each name that this package looks for.
func TestEveryNameIsTaken(t *testing.T) {
	t.Parallel()
	// RawNodeHandler is in forks alone, with what a parameter of it may have.
	known := map[string]bool{"RawNodeHandler": true, "Node": true, "Outgoing": true}
	for _, test := range taken {
		known[test.name] = true
	}
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) == 0 {
		t.Fatal(sources, err)
	}
	name := regexp.MustCompile(`(?:fieldOf\[.*\]\(\w+, |FieldByName\()"(\w+)"|"go\.mau\.fi/whatsmeow\.\(\*Client\)\.(\w+)"`)
	found := 0
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		source, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, hit := range name.FindAllStringSubmatch(string(source), -1) {
			found++
			if !known[hit[1]+hit[2]] {
				t.Errorf("%s looks for %s, and no test takes that away", path, hit[1]+hit[2])
			}
		}
	}
	if found < len(taken) {
		t.Errorf("%d names are looked for, and %d are taken away", found, len(taken))
	}
}

// A receive logger that gets no nodes is there, so that it shows with the first login alone.
func TestDeafAfterTheFirstLogin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(time.Second)
		box, err := wabox.New()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(box.Close)
		account, log := box.NewAccount(), new(warnings)
		client := account.NewClient(log)
		t.Cleanup(client.Disconnect)
		plugin, err := reupload.Register(client, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { plugin.Close() })
		tap := host.ReceiveLogger(client)
		host.SetReceiveLogger(client, waLog.Noop)
		const lost = "downloads inside event handlers do not heal at once, but fail and heal the next time: this version of whatsmeow hands its receive logger no nodes"
		check := func(when, degraded string, warned int) {
			t.Helper()
			if is := text(plugin.Degraded()); is != degraded || log.count("Not everything works") != warned {
				t.Errorf("%s: %q, warned %d times; want %q and %d", when, is, log.count("Not everything works"), degraded, warned)
			}
		}
		check("before the first login", "", 0)
		if err = client.Connect(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check("after it", lost, 1)

		media := box.Upload([]byte("picture"), whatsmeow.MediaImage)
		box.Expire(media)
		done := make(chan struct{})
		id := client.AddEventHandler(func(evt any) {
			if _, ok := evt.(*events.Message); ok {
				defer close(done)
				if _, err := client.Download(t.Context(), media.Image()); reupload.Cause(err) != reupload.ErrHandlerBlocked {
					t.Errorf("inside an event handler: %v", reupload.Cause(err))
				}
			}
		})
		if _, err = account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			t.Fatal(err)
		}
		<-done
		client.RemoveEventHandler(id)
		if _, err = client.Download(t.Context(), media.Image()); err != nil {
			t.Errorf("outside: %v", reupload.Cause(err))
		}
		account.Cut()
		time.Sleep(time.Minute)
		check("after another login", lost, 1)
		time.Sleep(time.Second)
		client.Disconnect()
		host.SetReceiveLogger(client, tap)
		if err = client.Connect(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		check("after nodes have come", "", 1)
	})
}

func TestBotOnAnyWhatsmeow(t *testing.T) {
	t.Parallel()
	var got life
	synctest.Test(t, func(t *testing.T) {
		defer time.Sleep(time.Second) // for frames that are on their way
		got = live(t)
	})
	got.Dialing, got.Hangs = dialing(t)
	path := os.Getenv(reportTo)
	if path == "" {
		compare(t, got, healthy)
		return
	}
	encoded, err := json.Marshal(got)
	if err == nil {
		err = os.WriteFile(path, encoded, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// live is the life of a bot.
func live(t *testing.T) (l life) {
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	account, log := box.NewAccount(), new(warnings)
	client := account.NewClient(log)
	t.Cleanup(client.Disconnect)
	l.Hidden = hidden(client)

	var inside, early atomic.Pointer[func(*events.Message)]
	callIn := func(here *atomic.Pointer[func(*events.Message)]) func(any) {
		return func(evt any) {
			if f := here.Load(); f != nil {
				if evt, ok := evt.(*events.Message); ok {
					(*f)(evt)
				}
			}
		}
	}
	client.AddEventHandler(callIn(&early))
	plugin, err := reupload.Register(client, nil)
	if err != nil {
		l.Register = err.Error()
		if plugin, err = reupload.Register(client, &reupload.Options{HTTPClient: &http.Client{Transport: box.Transport()}}); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { plugin.Close() })
	client.AddEventHandler(callIn(&inside))
	l.Degraded = text(plugin.Degraded())
	if err = client.Connect(); err != nil {
		t.Fatal(err)
	}
	if err = account.WaitOnline(t.Context()); err != nil {
		t.Fatal(err)
	}

	files := 0
	// deliver sends the bot a picture, and calls a function inside one of its event handlers.
	deliver := func(expired bool, here *atomic.Pointer[func(*events.Message)], f func(*events.Message)) *wabox.Media {
		files++
		media := box.Upload(bytes.Repeat(fmt.Appendf(nil, "picture %d ", files), 100), whatsmeow.MediaImage)
		if expired {
			box.Expire(media)
		}
		done := make(chan struct{})
		handle := func(evt *events.Message) { f(evt); close(done) }
		here.Store(&handle)
		if _, err := account.Deliver(wabox.Incoming{}, &waE2E.Message{ImageMessage: media.Image()}); err != nil {
			t.Fatal(err)
		}
		<-done
		here.Store(nil)
		time.Sleep(time.Second) // the other handlers
		return media
	}
	download := func(media *wabox.Media) string {
		data, err := client.Download(t.Context(), media.Image())
		switch {
		case err != nil:
			return reupload.Label(reupload.Cause(err))
		case !bytes.Equal(data, media.Plaintext):
			return "other bytes"
		}
		return "ok"
	}
	nothing := func(*events.Message) {}

	l.Live = download(deliver(false, &inside, nothing))
	l.Outside = download(deliver(true, &inside, nothing))
	var again []string
	for here, result := range map[*atomic.Pointer[func(*events.Message)]]*string{&inside: &l.Inside, &early: &l.Early} {
		media := deliver(true, here, func(evt *events.Message) {
			_, err := client.Download(t.Context(), evt.Message.GetImageMessage())
			if *result = "ok"; err != nil {
				*result = reupload.Label(reupload.Cause(err))
			}
		})
		if is := download(media); is != "ok" {
			again = append(again, is)
		}
	}
	if l.Again = strings.Join(again, " "); again == nil {
		l.Again = "ok"
	}
	account.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{None: true}} })
	deliver(true, &inside, func(evt *events.Message) {
		began := time.Now()
		_, _ = client.Download(t.Context(), evt.Message.GetImageMessage())
		l.Waits = time.Since(began).Round(time.Second)
		_, err := reupload.Register(client, nil)
		l.Nested = text(err)
	})
	l.Later = text(plugin.Degraded())
	plugin.Close()
	l.Closed = download(deliver(false, &inside, nothing))
	l.Warned, l.Panicked = log.count("Not everything works"), log.count("anic")
	return l
}

// dialing asks the phone while whatsmeow dials, for which it holds a lock, so that this takes real
// time.
func dialing(t *testing.T) (outcome string, hangs bool) {
	box, err := wabox.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(box.Close)
	account := box.NewAccount()
	client := account.NewClient(nil)
	t.Cleanup(client.Disconnect)
	d := &slowDialer{Transport: box.Transport(), dials: make(chan struct{}, 10), release: make(chan struct{})}
	t.Cleanup(d.CloseIdleConnections)
	client.SetWebsocketHTTPClient(&http.Client{Transport: d})
	opts := &reupload.Options{Timeout: 300 * time.Millisecond, HTTPClient: &http.Client{Transport: box.Transport()}}
	plugin, err := reupload.Register(client, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { plugin.Close() })
	online := make(chan struct{})
	once := sync.OnceFunc(func() { close(online) })
	client.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Connected); ok {
			once()
		}
	})
	if err = client.Connect(); err != nil {
		t.Fatal(err)
	}
	<-online
	<-d.dials
	d.hangs.Store(true)
	account.Cut()
	<-d.dials
	_, err = plugin.RequestReupload(t.Context(), reupload.Request{
		MessageID: "3EB0", Chat: types.NewJID("1", types.DefaultUserServer), MediaKey: make([]byte, 32),
	})
	outcome = reupload.Label(err)
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	close(d.release)
	return outcome, bytes.Contains(stacks, []byte("DangerousInternalClient).SendNode"))
}

// A slowDialer is a network on which a dial can take long.
type slowDialer struct {
	*http.Transport
	hangs   atomic.Bool
	dials   chan struct{}
	release chan struct{}
}

func (d *slowDialer) RoundTrip(req *http.Request) (*http.Response, error) {
	d.dials <- struct{}{}
	if d.hangs.Load() {
		<-d.release
	}
	return d.Transport.RoundTrip(req)
}

// hidden returns what this package does not find in a client.
func hidden(client *whatsmeow.Client) string {
	var names []string
	for name, is := range map[string]bool{
		"recvLog":    host.HasField[waLog.Logger](client, "recvLog"),
		"mediaHTTP":  host.HasField[*http.Client](client, "mediaHTTP"),
		"socketLock": host.HasField[sync.RWMutex](client, "socketLock"),
	} {
		if !is {
			names = append(names, name)
		}
	}
	if _, ok := host.HandlersOf(client); !ok {
		names = append(names, "eventHandlers")
	}
	return strings.Join(names, " ")
}

// text returns an error's text on one line.
func text(err error) string {
	if err == nil {
		return ""
	}
	return strings.ReplaceAll(err.Error(), "\n", " ")
}

// warnings keeps what is logged at Warn and above.
type warnings struct {
	mu    sync.Mutex
	lines []string
}

func (w *warnings) Warnf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, fmt.Sprintf(format, args...))
}

func (w *warnings) count(part string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, line := range w.lines {
		if strings.Contains(line, part) {
			n++
		}
	}
	return n
}

func (w *warnings) Errorf(format string, args ...any) { w.Warnf(format, args...) }
func (w *warnings) Infof(string, ...any)              {}
func (w *warnings) Debugf(string, ...any)             {}
func (w *warnings) Sub(string) waLog.Logger           { return w }
