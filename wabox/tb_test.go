package wabox_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	"google.golang.org/protobuf/proto"
)

var _ wabox.TB = testing.TB(nil)

// A recorder is a test that notes how it fails.
type recorder struct {
	failure  string
	cleanups []func()
}

func (*recorder) Helper()            {}
func (r *recorder) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	panic(r)
}

// fails returns how a test fails.
func fails(f func(t *recorder)) (failure string) {
	var r recorder
	defer func() {
		if p := recover(); p != nil && p != any(&r) {
			panic(p)
		}
		for _, cleanup := range slices.Backward(r.cleanups) {
			cleanup()
		}
		failure = r.failure
	}()
	f(&r)
	return r.failure
}

func TestLoginInATest(t *testing.T) {
	t.Parallel()
	var box *wabox.Box
	var client *whatsmeow.Client
	if failure := fails(func(t *recorder) {
		box = wabox.Start(t)
		client = box.NewAccount().Login(t, func(c *whatsmeow.Client) { c.EnableAutoReconnect = false })
		if !client.IsLoggedIn() || client.EnableAutoReconnect {
			t.Fatalf("logged in: %t, prepared: %t", client.IsLoggedIn(), !client.EnableAutoReconnect)
		}
	}); failure != "" {
		t.Error(failure)
	}
	if client.IsConnected() {
		t.Error("the client is connected after the test")
	}
	if _, err := box.NewProxy(); err == nil {
		t.Error("the box is open after the test")
	}
	if failure := fails(func(t *recorder) {
		account := wabox.Start(t).NewAccount()
		account.Offline(true)
		account.Login(t)
	}); !strings.Contains(failure, "failed to connect") {
		t.Errorf("an account that is offline: %q", failure)
	}
}

func TestChat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, testChat)
}

func testChat(t *testing.T) {
	box := newBox(t)
	account := box.NewAccount()
	cli := account.Login(t, func(c *whatsmeow.Client) {
		c.AddEventHandler(func(evt any) {
			msg, ok := evt.(*events.Message)
			if !ok || msg.Message.GetConversation() == "!quiet" {
				return
			}
			// whatsmeow has a data race if the context of a request ends while its answer comes.
			go c.SendMessage(context.Background(), msg.Info.Chat, text("re: "+msg.Message.GetConversation()))
		})
	})
	if _, err := cli.SendMessage(t.Context(), anna, text("before")); err != nil {
		t.Fatal(err)
	}
	group := account.NewGroup(types.AddressingModeLID, anna, bert)
	private, inGroup := account.Chat(t, wabox.Incoming{From: anna}), account.Chat(t, wabox.Incoming{From: annaLID, Chat: group})
	if private.JID() != anna || inGroup.JID() != group {
		t.Errorf("the chats are %v and %v", private.JID(), inGroup.JID())
	}
	for i := range 3 {
		private.Say(fmt.Sprint("private ", i))
		inGroup.Say(fmt.Sprint("group ", i))
		if got, want := inGroup.Next().Text(), fmt.Sprint("re: group ", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for i := range 3 { // in whatever order the goroutines have sent them
		if got := private.Next().Text(); !strings.HasPrefix(got, "re: private ") {
			t.Errorf("message %d is %q", i, got)
		}
	}
	private.Say("!quiet")
	private.Quiet(20 * time.Millisecond)
	if failure := fails(func(t *recorder) {
		chat := account.Chat(t, wabox.Incoming{From: bert})
		chat.Say("hello")
		chat.Quiet(5 * time.Second)
	}); !strings.Contains(failure, "re: hello") {
		t.Errorf("quiet: %q", failure)
	}
	other := box.NewPhone()
	if failure := fails(func(t *recorder) { other.Chat(t, wabox.Incoming{}).Say("hello") }); !strings.Contains(failure, "no device is linked") {
		t.Errorf("said to nobody: %q", failure)
	}
}

func TestAwaitRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		account := newBox(t).NewAccount()
		client := account.Login(t)
		time.AfterFunc(10*time.Second, func() {
			info := &types.MessageInfo{ID: "3EB0", MessageSource: types.MessageSource{Chat: anna, Sender: anna}}
			if err := client.SendMediaRetryReceipt(t.Context(), info, make([]byte, 32)); err != nil {
				t.Error(err)
			}
		})
		if requests := account.AwaitRequests(t, 1); len(requests) != 1 || requests[0].ID != "3EB0" {
			t.Errorf("got %v", requests)
		}
		if failure := fails(func(t *recorder) { account.AwaitRequests(t, 2) }); !strings.Contains(failure, "asked the phone 1 times in 1m") {
			t.Errorf("got %q", failure)
		}
	})
}

func TestText(t *testing.T) {
	t.Parallel()
	for _, msg := range []*waE2E.Message{
		text("hello"),
		{ExtendedTextMessage: &waE2E.ExtendedTextMessage{Text: proto.String("hello")}},
		{ImageMessage: &waE2E.ImageMessage{Caption: proto.String("hello")}},
		{VideoMessage: &waE2E.VideoMessage{Caption: proto.String("hello")}},
		{DocumentMessage: &waE2E.DocumentMessage{Caption: proto.String("hello")}},
		{DocumentWithCaptionMessage: &waE2E.FutureProofMessage{Message: &waE2E.Message{
			DocumentMessage: &waE2E.DocumentMessage{Caption: proto.String("hello")},
		}}},
	} {
		if got := (wabox.Sent{Message: msg}).Text(); got != "hello" {
			t.Errorf("the text of %v is %q", msg, got)
		}
	}
	if got := (wabox.Sent{Message: &waE2E.Message{AudioMessage: &waE2E.AudioMessage{}}}).Text(); got != "" {
		t.Errorf("the text of a voice message is %q", got)
	}
}

// Programs that run a box must not get the testing package, and its flags, along with it.
func TestNoTestingPackage(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "go.mau.fi/whatsmeow") || slices.Contains(deps, "testing") {
		t.Errorf("the dependencies are %v", deps)
	}
}

// All code that the README shows is from tests, word for word.
func TestReadme(t *testing.T) {
	t.Parallel()
	var sources string
	for _, name := range []string{"readme_test.go", "../examples/bot/kill_test.go"} {
		code, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) {
			t.Skip("this is not a checkout of the repository")
		}
		if err != nil {
			t.Fatal(err)
		}
		sources += withoutIndent(string(code))
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```go\n")[1:]
	for _, block := range blocks {
		block, _, _ = strings.Cut(block, "```")
		if !strings.Contains(sources, withoutIndent(block)) {
			t.Errorf("no test has what the README shows:\n%s", block)
		}
	}
	if len(blocks) < 7 {
		t.Errorf("the README shows %d pieces of code", len(blocks))
	}
}

// withoutIndent returns lines of code without what they begin and end with.
func withoutIndent(code string) (lines string) {
	for line := range strings.Lines(code) {
		lines += strings.TrimSpace(line) + "\n"
	}
	return lines
}
