package wabox_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types/events"
)

// guestVariable has the invitation for a test binary that is started as a bot.
const guestVariable = "WABOX_TEST_INVITATION"

// guest is a bot in a process of its own, until its standard input ends. It writes its QR codes,
// and answers each message with its text. A picture it downloads.
func guest(invitation string) {
	remote, err := wabox.Join(invitation)
	if err != nil {
		fmt.Println("failed to join:", err)
		return
	}
	if _, err := wabox.Join(invitation); err != nil {
		fmt.Println("failed to join again:", err)
		return
	}
	if _, err := wabox.New(); err == nil {
		fmt.Println("a process that has joined has a box of its own")
		return
	}
	ctx := context.Background()
	client := whatsmeow.NewClient(wabox.NewDevice(), nil)
	remote.Configure(client)
	if proxy := os.Getenv(proxyVariable); proxy != "" {
		transport := http.DefaultTransport.(*http.Transport)
		transport.TLSClientConfig = &tls.Config{RootCAs: wabox.CertPool()}
		if err := client.SetProxyAddress(proxy); err != nil {
			fmt.Println(err)
			return
		}
	}
	client.AddEventHandler(func(evt any) {
		msg, ok := evt.(*events.Message)
		if !ok {
			return
		}
		answer := "you said " + msg.Message.GetConversation()
		if image := msg.Message.GetImageMessage(); image != nil {
			data, err := client.Download(ctx, image)
			answer = fmt.Sprintf("%d bytes, %v", len(data), err)
		}
		go client.SendMessage(ctx, msg.Info.Chat, text(answer))
	})
	codes, err := client.GetQRChannel(ctx)
	if err == nil {
		err = client.Connect()
	}
	if err != nil {
		fmt.Println("failed to connect:", err)
		return
	}
	for item := range codes {
		fmt.Println(item.Event, item.Code)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

const proxyVariable = "WABOX_TEST_PROXY"

// startGuest starts a guest that ends with the test, and links it.
func startGuest(t *testing.T, box *wabox.Box, environment ...string) *wabox.Account {
	t.Helper()
	child := exec.CommandContext(t.Context(), os.Args[0])
	child.Env = append(append(os.Environ(), guestVariable+"="+box.Invitation()), environment...)
	child.Stderr = os.Stderr
	if _, err := child.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	})
	line, _ := bufio.NewReader(out).ReadString('\n')
	code, ok := strings.CutPrefix(strings.TrimSpace(line), whatsmeow.QRChannelEventCode+" ")
	if !ok {
		t.Fatalf("the bot says %q", line)
	}
	phone := box.NewPhone()
	if err := phone.Scan(withPatience(t), code); err != nil {
		t.Fatal(err)
	}
	phone.AwaitOnline(t)
	return phone
}

func TestJoin(t *testing.T) {
	t.Parallel()
	box := wabox.Start(t, wabox.Sockets())
	account := startGuest(t, box)
	chat := account.Chat(t, wabox.Incoming{})
	chat.Say("hello")
	if got := chat.Next().Text(); got != "you said hello" {
		t.Errorf("got %q", got)
	}
	chat.Send(picture(box))
	if got := chat.Next().Text(); got != "1000 bytes, <nil>" {
		t.Errorf("got %q", got)
	}
}

func TestJoinThroughAProxy(t *testing.T) {
	t.Parallel()
	box := wabox.Start(t, wabox.Sockets())
	proxy, err := box.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	chat := startGuest(t, box, proxyVariable+"="+proxy.URL().String()).Chat(t, wabox.Incoming{})
	chat.Send(picture(box))
	if got := chat.Next().Text(); got != "1000 bytes, <nil>" {
		t.Errorf("got %q", got)
	}
	if proxy.Hits() == 0 {
		t.Error("the proxy was not used")
	}
}

func TestWrongInvitations(t *testing.T) {
	t.Parallel()
	box := wabox.Start(t, wabox.Sockets())
	good := box.Invitation()
	if strings.ContainsAny(good, " \t\n") {
		t.Errorf("there is white space in %q", good)
	}
	if remote, err := wabox.Join(good + "\n"); err != nil || remote == nil {
		t.Errorf("the box's own process cannot join: %v", err)
	}
	_, root, _ := strings.Cut(good, "root=")
	for invitation, want := range map[string]string{
		"":                                      "wabox://",
		"http://127.0.0.1:80":                   "wabox://",
		"wabox://127.0.0.1:80":                  "root key has 0 bytes",
		good[:len(good)-8]:                      "root key has",
		strings.Replace(good, "ca=", "ca=A", 1): "not an invitation",
		strings.Replace(good, root, strings.Repeat("A", 43), 1): "trusts another box",
	} {
		if _, err := wabox.Join(invitation); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", invitation, err, want)
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("there is an invitation to a box in memory")
		}
	}()
	wabox.Start(t).Invitation()
}

// picture uploads a picture of 1000 bytes, and returns a message with it.
func picture(box *wabox.Box) *waE2E.Message {
	return &waE2E.Message{ImageMessage: box.Upload(make([]byte, 1000), whatsmeow.MediaImage).Image()}
}
