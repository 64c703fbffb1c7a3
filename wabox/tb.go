package wabox

import (
	"context"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"
)

// TB is what this package needs of a testing.TB. It is spelled out so that programs that run a box
// without tests do not get the testing package, and its flags, along with it.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// patience is how long the functions that take a TB wait for what is bound to happen. Bots have
// time-outs of their own, 30 s as a rule, and a test that waits for one is not to fail before that.
const patience = time.Minute

// Start starts a box, as [New] does, that is closed at the end of the test. Inside a
// testing/synctest bubble, t is the test that the bubble has.
func Start(t TB, opts ...Option) *Box {
	t.Helper()
	b, err := New(opts...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(b.Close)
	return b
}

// Login returns a client of the account that is logged in, and disconnects it at the end of
// the test. What a bot does to its client before it connects, such as to add its event
// handler, goes into prepare.
func (a *Account) Login(t TB, prepare ...func(*whatsmeow.Client)) *whatsmeow.Client {
	t.Helper()
	cli := a.NewClient(nil)
	for _, f := range prepare {
		f(cli)
	}
	a.Connect(t, cli)
	return cli
}

// Connect logs in a client of the account that was made elsewhere and has been through
// [Account.Configure], and disconnects it at the end of the test.
func (a *Account) Connect(t TB, cli *whatsmeow.Client) {
	t.Helper()
	t.Cleanup(func() {
		a.waitQuiet()
		cli.Disconnect()
	})
	if err := cli.Connect(); err != nil {
		t.Fatalf("wabox: failed to connect: %v", err)
	}
	a.AwaitOnline(t)
}

// waitQuiet lets the client end what it is at, such as to send a message that the test has seen
// already, and what is on its way to it arrive. whatsmeow's clients have a data race if they are
// disconnected while several of their goroutines wait for the server, and keep a goroutine for good
// if anything arrives at that moment.
func (a *Account) waitQuiet() {
	const quiet, most = 20 * time.Millisecond, time.Second
	for begin := time.Now(); ; time.Sleep(quiet / 4) {
		a.mu.Lock()
		c, waiting := a.conn, len(a.outbox.waiting) > 0
		a.mu.Unlock()
		if c == nil || time.Since(begin) > most+c.latency() {
			return
		}
		if !waiting && time.Since(time.UnixMicro(c.busy.Load())) > quiet+c.latency() {
			return
		}
	}
}

// AwaitOnline is [Account.WaitOnline] for a test.
func (a *Account) AwaitOnline(t TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := a.WaitOnline(ctx); err != nil {
		t.Fatalf("wabox: the client %s has not logged in: %v", a.PN.User, err)
	}
}

// AwaitRequests is [Account.WaitRequests] for a test.
func (a *Account) AwaitRequests(t TB, n int) []Request {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	requests, err := a.WaitRequests(ctx, n)
	if err != nil {
		t.Fatalf("wabox: the client %s has asked the phone %d times in %v, want %d", a.PN.User, len(requests), patience, n)
	}
	return requests
}

// A Chat is one chat of an account in a test: what somebody writes in it, and what the client does.
// Its methods are for the goroutine of the test.
type Chat struct {
	t       TB
	account *Account
	in      Incoming
	heard   int // how many of the client's messages the test has seen or gone past
}

// Chat begins a conversation of a test. with says where messages come from, as for
// [Account.Deliver], of which each gets an id and a time of its own; the zero Incoming is a chat
// with some contact. What the client has sent before does not belong to it.
func (a *Account) Chat(t TB, with Incoming) *Chat {
	in := a.withDefaults(with)
	in.ID, in.Timestamp = "", time.Time{}
	return &Chat{t, a, in, len(a.Sent())}
}

// JID returns the address of the chat.
func (c *Chat) JID() types.JID { return c.in.Chat }

// Say sends the client a text, and returns its id.
func (c *Chat) Say(text string) types.MessageID {
	c.t.Helper()
	return c.Send(&waE2E.Message{Conversation: proto.String(text)})
}

// Send sends the client a message, and returns its id.
func (c *Chat) Send(msg *waE2E.Message) types.MessageID {
	c.t.Helper()
	id, err := c.account.Deliver(c.in, msg)
	if err != nil {
		c.t.Fatalf("%v", err)
	}
	return id
}

// Next waits for the next message that the client sends to the chat. The test fails if none comes,
// or one that cannot be decrypted.
func (c *Chat) Next() Sent {
	c.t.Helper()
	sent, ok := c.next(patience)
	if !ok && sent.Err != nil {
		c.t.Fatalf("%v", fmt.Errorf("wabox: %w", sent.Err))
	}
	if !ok {
		c.t.Fatalf("wabox: the client has sent nothing to %s in %v", c.in.Chat, patience)
	}
	return sent
}

// Quiet fails the test if the client sends anything to the chat within d.
func (c *Chat) Quiet(d time.Duration) {
	c.t.Helper()
	if sent, _ := c.next(d); sent.ID != "" {
		c.t.Fatalf("wabox: the client has sent %v to %s", sent.Message, c.in.Chat)
	}
}

// next waits for the next message. If no recipient can decrypt it in time, next returns it and
// false.
func (c *Chat) next(patience time.Duration) (next Sent, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	_ = c.account.wait(ctx, func() bool {
		for _, s := range c.account.sent[c.heard:] {
			if c.account.box.people.same(s.Chat, c.in.Chat) {
				if next = s; s.Message == nil {
					return false
				}
				c.heard++
				ok = true
				return true
			}
			c.heard++
		}
		return false
	})
	return next, ok
}
