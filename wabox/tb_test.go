package wabox_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
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
	box := newBox(t)
	account := box.NewAccount()
	cli := account.Login(t, func(c *whatsmeow.Client) {
		c.AddEventHandler(func(evt any) {
			msg, ok := evt.(*events.Message)
			if !ok || msg.Message.GetConversation() == "!quiet" {
				return
			}
			go c.SendMessage(t.Context(), msg.Info.Chat, text("re: "+msg.Message.GetConversation()))
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
	account.Logout()
	if failure := fails(func(t *recorder) { account.Chat(t, wabox.Incoming{}).Say("hello") }); !strings.Contains(failure, "no device is linked") {
		t.Errorf("said to nobody: %q", failure)
	}
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

// The README shows readme_test.go as it is.
func TestReadme(t *testing.T) {
	t.Parallel()
	code, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	bot, test, _ := strings.Cut(string(code[strings.Index(string(code), "// A pictureBot"):]), "\nfunc TestPictureBot")
	for _, part := range []string{bot, "func TestPictureBot" + test} {
		if !strings.Contains(string(readme), "```go\n"+strings.TrimSpace(part)+"\n```") {
			t.Errorf("the README does not show:\n%s", part)
		}
	}
}
