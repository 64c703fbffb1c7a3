package simulation

import (
	"context"
	"fmt"
	"time"

	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/types"
	"google.golang.org/protobuf/proto"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

// someMail returns one of the bot's mails, more often a late one, or nil.
func (b *bot) someMail(t *Throw, ok func(*mail) bool) *mail {
	b.mu.Lock()
	defer b.mu.Unlock()
	for range 20 {
		n := len(b.mails)
		if n == 0 {
			return nil
		}
		if t.Chance(0.3) {
			n = min(n, 40)
		}
		if m := b.mails[len(b.mails)-1-t.IntN(n)]; ok == nil || ok(m) {
			return m
		}
	}
	return nil
}

// expired returns a mail whose path is dead, if there is any.
func (b *bot) expired(t *Throw) *mail {
	return b.someMail(t, func(m *mail) bool {
		u := b.uploads[bare(m.media.GetDirectPath())]
		return u == nil || !time.Now().Before(u.dies)
	})
}

// someWay returns a way to download.
func (b *bot) someWay(t *Throw, m *mail) (how way) {
	how.named = m.how == "table" || t.Chance(0.1)
	switch t.IntN(25) {
	case 0:
		how.patience = t.Between(10*time.Millisecond, 20*time.Second)
	case 1:
		how.row = true
	case 2:
		how.row, how.oddRow = true, true
	case 3:
		how.silent = true
	case 4:
		how.backfill = true
	case 5:
		how.stripped = true
	case 6:
		how.pathless = true
	}
	return how
}

// opRevisit opens old files, one after the other or at once.
func (b *bot) opRevisit(t *Throw) { b.revisit(t, 1+t.IntN(3)) }

// opMany opens many old files at once.
func (b *bot) opMany(t *Throw) { b.revisit(t, 5+t.IntN(60)) }

func (b *bot) revisit(t *Throw, n int) {
	for range n {
		m := b.expired(t)
		if m == nil {
			if m = b.someMail(t, nil); m == nil {
				return
			}
		}
		how := b.someWay(t, m)
		pause := t.Between(0, time.Second)
		b.spawn(func() {
			if sleep(b.ctx, pause) {
				b.download(m, how)
			}
		})
	}
}

// ask calls one of the plugin's methods that ask, and notes that.
func (b *bot) explicitly(m *mail) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.explicit[askedFor{b.n, m.id}] = time.Now()
}

// opRequest asks for a file by RequestReupload.
func (b *bot) opRequest(t *Throw) {
	m := b.expired(t)
	if m == nil {
		return
	}
	b.explicitly(m)
	_, plugin := b.current()
	b.spawn(func() {
		b.mu.Lock()
		b.running++
		life, disturbed := b.life, b.disturbed
		b.mu.Unlock()
		ctx, cancel := context.WithTimeout(b.ctx, longestPatience)
		defer cancel()
		began := time.Now()
		result, err := b.requestReupload(ctx, plugin, m.request())
		b.look("a result", result)
		b.look("the error of RequestReupload", err)
		b.mu.Lock()
		b.running--
		asked := false
		for _, r := range b.receipts { // a request that is on its way is shared
			asked = asked || r.id == m.id && r.at.After(began.Add(-b.timeout()))
		}
		calm := b.life == life && !disturbed.After(began.Add(-time.Minute)) && !b.disturbed.After(began) && b.running < b.maxInFlight()/2
		b.mu.Unlock()
		b.count("end:" + Kind(orDefault(reupload.Label(err), "answered")))
		b.note("RequestReupload of %v: %v, %v", m.message, result, err)
		if !asked && err != nil && calm && !b.ending() && m.junk == "" && m.chat.kind != newsletter {
			b.violate(Violation{Rule: "asks", Err: err, Cause: reupload.Label(err), What: fmt.Sprintf("RequestReupload of %v sends nothing", m.message)})
		}
	})
}

// opRequestAll asks for many files at once.
func (b *bot) opRequestAll(t *Throw) {
	var requests []reupload.Request
	for range 3 + t.IntN(30) {
		if m := b.expired(t); m != nil {
			b.explicitly(m)
			requests = append(requests, m.request())
		}
	}
	_, plugin := b.current()
	leaves := t.Chance(0.1)
	b.spawn(func() {
		ctx, cancel := context.WithTimeout(b.ctx, time.Hour)
		defer cancel()
		for answer := range plugin.RequestAll(ctx, func(yield func(reupload.Request) bool) {
			for _, r := range requests {
				if !yield(r) {
					return
				}
			}
		}) {
			b.look("an answer of RequestAll", answer)
			if leaves {
				break
			}
		}
	})
}

// opInvalid makes invalid requests.
func (b *bot) opInvalid(t *Throw) {
	_, plugin := b.current()
	requests := []reupload.Request{
		{},
		{MessageID: "X", Chat: b.people[1].pn, MediaKey: []byte("short")},
		{MessageID: "X", Chat: types.NewJID("1", types.NewsletterServer), MediaKey: make([]byte, 32)},
		{MessageID: "X", Chat: types.NewJID("120363040000000000", types.GroupServer), MediaKey: make([]byte, 32), Participant: types.NewJID("120363040000000000", types.GroupServer)},
	}
	n := t.IntN(len(requests))
	before := b.account.RequestCount()
	ctx, cancel := context.WithTimeout(b.ctx, longestPatience)
	defer cancel()
	_, err := plugin.RequestReupload(ctx, requests[n])
	b.count("end:" + Kind(reupload.Label(err)))
	b.look("the error of an invalid request", err)
	if n == 3 && b.account.RequestCount() > before {
		b.note("a request for an impossible participant: %v", err)
	}
}

// opRestart restarts the bot in order, and keeps its index.
func (b *bot) opRestart(t *Throw) {
	b.stop(false)
	time.Sleep(t.Between(time.Second, time.Minute))
	b.boot(false)
}

// opKill restarts it as after a kill.
func (b *bot) opKill(t *Throw) {
	b.stop(true)
	time.Sleep(t.Between(time.Second, time.Minute))
	b.boot(false)
}

// opForget restarts it with an empty index, if the index is not shared.
func (b *bot) opForget(t *Throw) {
	b.stop(t.Chance(0.5))
	time.Sleep(t.Between(time.Second, time.Minute))
	b.boot(!b.Shared)
}

// opReregister closes the plugin and registers another one while the client is connected. (Not
// while an event handler waits for something: whatsmeow holds a lock meanwhile, for which Register
// waits.)
func (b *bot) opReregister(t *Throw) {
	if b.inHandlers {
		return
	}
	b.touch(5 * time.Second)
	b.mu.Lock()
	b.life++
	b.unregistered = true
	b.mu.Unlock()
	_ = b.plugin.Close()
	time.Sleep(t.Between(0, time.Second))
	b.register()
}

// opMediaClient gives the client another media client, while nothing runs.
func (b *bot) opMediaClient(*Throw) {
	b.mu.Lock()
	busy := b.running > 0
	b.mu.Unlock()
	if !busy && !b.inHandlers {
		b.newMediaClient()
		b.unnoticed.Store(true) // until the next event
	}
}

// opSend writes in a chat.
func (b *bot) opSend(t *Throw) {
	if b.Unstable || b.HalfOpen {
		return // whatsmeow holds a lock while it waits for the server
	}
	c := b.someChat(t)
	b.mu.Lock()
	disturbed := b.disturbed.After(time.Now())
	b.mu.Unlock()
	if disturbed || c.kind == newsletter || c.kind == status || c.kind == list {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
	defer cancel()
	_, err := b.client.SendMessage(ctx, c.jid, &waE2E.Message{Conversation: proto.String("hello")})
	b.note("sent to %s: %v", c.jid, err)
}

// netCut breaks the bot's connection.
func (b *bot) netCut(*Throw) {
	b.touch(20 * time.Second)
	b.account.Cut()
}

// netOffline cuts the bot off for a while.
func (b *bot) netOffline(t *Throw) {
	d := t.Between(time.Second, 3*time.Minute)
	b.touch(d + 3*time.Minute)
	b.account.Offline(true)
	b.spawn(func() {
		sleep(b.ctx, d)
		b.account.Offline(false)
	})
	time.Sleep(d + 2*time.Minute)
}

// netStall lets nothing through for a while.
func (b *bot) netStall(t *Throw) {
	d := t.Between(time.Second, 9*time.Second)
	b.touch(d + 20*time.Second)
	_ = b.account.Disturb(wabox.Stall, d)
}

// netHalfOpen ends the connection for one side only.
func (b *bot) netHalfOpen(t *Throw) {
	b.touch(8 * time.Minute)
	_ = b.account.Disturb(pick(t, wabox.ClientUnaware, wabox.ServerUnaware), 0)
	time.Sleep(5 * time.Minute)
}

// netRefuse refuses dials of the CDN for a moment, and netLatency makes it slow.
func (b *bot) netRefuse(t *Throw) {
	b.plan(t.Between(time.Second, 4*time.Second), wabox.Plan{Refuse: true})
}

func (b *bot) netLatency(t *Throw) {
	b.plan(t.Between(time.Minute, 10*time.Minute), wabox.Plan{Latency: t.Between(time.Millisecond, 100*time.Millisecond)})
}

func (b *bot) plan(lasts time.Duration, plan wabox.Plan) {
	for _, other := range b.bots {
		other.touch(lasts + time.Minute)
	}
	b.box.Network(func(d wabox.Dial) wabox.Plan {
		if d.IsChat() {
			return wabox.Plan{}
		}
		return plan
	})
	b.spawn(func() {
		sleep(b.ctx, lasts)
		b.box.Network(nil)
	})
}
