package reupload

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types"
)

// TestFaults lets everything happen in every phase, and nothing after that.
func TestFaults(t *testing.T) {
	type end struct {
		err   error
		after time.Duration // 0 for at once
		sends int
	}
	const timeout = stageTimeout
	moments := [...]struct {
		name   string
		before func(s *stage)
	}{
		{"queued", func(*stage) {}},
		{"sent", func(*stage) {}},
		{"acked", func(s *stage) { s.acks(file(1)) }},
		{"offline", func(s *stage) { s.line.breaks() }},
		{"held", func(s *stage) { s.acks(file(1)); s.line.breaks() }},
	}
	for _, fault := range [...]struct {
		name   string
		happen func(s *stage, c *caller)
		ends   [5]end // in the order of the moments
	}{
		{"silence", func(*stage, *caller) {}, [...]end{
			{ErrBusy, timeout, 0}, {errNoAck, timeout, 1}, {ErrTimeout, timeout, 1}, {errNoNetwork, timeout, 1}, {errNoNetwork, timeout, 1},
		}},
		{"answer", func(s *stage, _ *caller) { s.finds(file(1), "/new") }, [...]end{{nil, 0, 0}, {nil, 0, 1}, {nil, 0, 1}, {nil, 0, 1}, {nil, 0, 1}}},
		{"refusal", func(s *stage, _ *caller) { s.acks(file(1), "479") }, [...]end{
			{ErrBusy, timeout, 0}, {ErrRejected, 0, 1}, {ErrRejected, 0, 1}, {errNoNetwork, timeout, 1}, {errNoNetwork, timeout, 1},
		}},
		{"break", func(s *stage, _ *caller) { s.line.breaks() }, [...]end{
			{ErrBusy, timeout, 0}, {errNoNetwork, timeout, 1}, {errNoNetwork, timeout, 1}, {errNoNetwork, timeout, 1}, {errNoNetwork, timeout, 1},
		}},
		{"break and login", func(s *stage, _ *caller) { s.line.breaks(); s.logsIn() }, [...]end{
			{ErrBusy, timeout, 0}, {errNoAck, timeout, 2}, {ErrTimeout, timeout, 1}, {errNoAck, timeout, 2}, {ErrTimeout, timeout, 1},
		}},
		{"break, and a login that is missed", func(s *stage, _ *caller) { s.line.breaks(); s.line.comesBack() }, [...]end{
			{ErrBusy, timeout, 0}, {errNoAck, timeout, 2}, {errNoNetwork, timeout, 1}, {errNoAck, timeout, 2}, {errNoNetwork, timeout, 1},
		}},
		{"disconnect", func(s *stage, _ *caller) { s.line.set(func(l *fakeLine) { l.returns = false }); s.line.breaks() }, [...]end{
			{ErrBusy, timeout, 0}, {whatsmeow.ErrNotConnected, 0, 1}, {errNoNetwork, timeout, 1}, {whatsmeow.ErrNotConnected, watchPause, 1}, {errNoNetwork, timeout, 1},
		}},
		{"break by logout", func(s *stage, _ *caller) { s.line.set(func(l *fakeLine) { l.own = types.EmptyJID }); s.line.breaks() }, [...]end{
			{ErrBusy, timeout, 0}, {whatsmeow.ErrNotLoggedIn, 0, 1}, {whatsmeow.ErrNotLoggedIn, 0, 1}, {whatsmeow.ErrNotLoggedIn, watchPause, 1}, {errNoNetwork, timeout, 1},
		}},
		{"logout", func(s *stage, _ *caller) { s.tell(event{what: aborted, err: whatsmeow.ErrNotLoggedIn}) }, [...]end{
			{whatsmeow.ErrNotLoggedIn, 0, 0}, {whatsmeow.ErrNotLoggedIn, 0, 1}, {whatsmeow.ErrNotLoggedIn, 0, 1}, {whatsmeow.ErrNotLoggedIn, 0, 1}, {whatsmeow.ErrNotLoggedIn, 0, 1},
		}},
		{"Close", func(s *stage, _ *caller) { s.close() }, [...]end{
			{ErrClosed, 0, 0}, {ErrClosed, 0, 1}, {ErrClosed, 0, 1}, {ErrClosed, 0, 1}, {ErrClosed, 0, 1},
		}},
		{"caller leaves", func(_ *stage, c *caller) { c.cancel() }, [...]end{
			{context.Canceled, 0, 0}, {context.Canceled, 0, 1}, {context.Canceled, 0, 1}, {context.Canceled, 0, 1}, {context.Canceled, 0, 1},
		}},
		{"the bot asks", func(s *stage, _ *caller) { s.acks(file(1)) }, [...]end{
			{ErrTimeout, timeout, 0}, {ErrTimeout, timeout, 1}, {ErrTimeout, timeout, 1}, {errNoNetwork, timeout, 1}, {errNoNetwork, timeout, 1},
		}},
	} {
		for i, moment := range moments {
			t.Run(fault.name+"/"+moment.name, func(t *testing.T) {
				onStage(t, func(s *stage) {
					var others *ticket
					if moment.name == "queued" {
						s.queue.places = 1
						others = &ticket{call: func(error) {}}
						s.queue.enter(others)
					}
					c := s.ask(asking(file(1)))
					moment.before(s)
					fault.happen(s, c)
					want := fault.ends[i]
					c.endsAfter(want.after, want.err)
					pass(time.Hour) // and nothing more happens then
					if n := len(s.line.all()); n != want.sends {
						s.Errorf("%d receipts were sent, want %d", n, want.sends)
					}
					if others != nil {
						s.queue.leave(others)
					}
				})
			})
		}
	}
}

func TestLoginAfterABreak(t *testing.T) {
	t.Run("sends what the server does not have", func(t *testing.T) {
		onStage(t, func(s *stage) {
			c := s.ask(asking(file(1)))
			s.line.breaks()
			pass(5 * time.Second)
			s.logsIn()
			pass(resendPause)
			s.sent("0@0s", "0@5.5s")
			s.acks(file(1))
			s.finds(file(1), "/new")
			c.heals("/new")
		})
	})
	t.Run("lets the answer come first", func(t *testing.T) {
		onStage(t, func(s *stage) {
			c := s.ask(asking(file(1)))
			s.line.breaks()
			s.logsIn()
			pass(resendPause - time.Millisecond)
			s.finds(file(1), "/new")
			c.heals("/new")
			pass(time.Minute)
			s.sent("0@0s")
		})
	})
	t.Run("sends nothing that the server has", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.twoForms()
			c := s.ask(asking(file(1)))
			s.acks(file(1))
			s.line.breaks()
			pass(20 * time.Second)
			s.logsIn()
			pass(formPause - time.Millisecond)
			s.sent("0@0s")
			pass(time.Millisecond) // the phone has had its time
			s.sent("0@0s", "1@28s")
			s.finds(file(1), "/new")
			c.heals("/new")
		})
	})
	t.Run("that nobody has told", func(t *testing.T) {
		onStage(t, func(s *stage) {
			c := s.ask(asking(file(1)))
			s.line.breaks()
			pass(time.Second + watchPause/2)
			s.line.comesBack()
			pass(watchPause/2 + resendPause)
			s.sent("0@0s", "0@1.75s")
			s.finds(file(1), "/new")
			c.heals("/new")
		})
	})
	t.Run("and another break", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.ask(asking(file(1)))
			s.acks(file(1))
			s.line.breaks()
			s.logsIn()
			s.line.breaks() // the flight watches the new connection
			pass(5 * time.Second)
			s.logsIn()
			s.line.set(func(l *fakeLine) { l.returns = false })
			s.line.breaks()
			c := s.ask(asking(file(1)))
			c.endsAfter(stageTimeout-5*time.Second, errNoNetwork)
			s.sent("0@0s")
		})
	})
	t.Run("while there was no connection to send on", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.line.breaks()
			c := s.ask(asking(file(1)))
			s.sent()
			s.storedNothing()
			pass(3 * time.Second)
			s.logsIn()
			pass(resendPause)
			s.sent("0@3.5s")
			s.finds(file(1), "/new")
			c.heals("/new")
		})
	})
}

func TestNoConnectionAtAll(t *testing.T) {
	onStage(t, func(s *stage) {
		s.line.set(func(l *fakeLine) { l.returns = false })
		s.line.breaks()
		s.ask(asking(file(1))).endsAfter(0, whatsmeow.ErrNotConnected)
		s.line.writing = func(context.Context) error { return whatsmeow.ErrNotLoggedIn }
		s.ask(asking(file(1))).endsAfter(0, whatsmeow.ErrNotLoggedIn)
		s.outcomes()
	})
}

// A send can hang, while whatsmeow dials or asks for the group. The flight ends in time
// all the same.
func TestSendThatHangs(t *testing.T) {
	hang := func(ctx context.Context) error { time.Sleep(time.Hour); return ctx.Err() }
	t.Run("while it is written", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.queue.places = 1
			s.line.writing = hang
			c := s.ask(asking(file(1)))
			s.line.writing = nil
			pass(time.Second)
			next := s.ask(asking(file(2)))
			c.endsAfter(stageTimeout, errNoNetwork)
			s.sent("0@30s") // the place is free
			s.finds(file(2), "/new")
			next.heals("/new")
			pass(time.Hour)
			s.sent("0@30s") // nothing goes out after the end
			s.outcomes(OutcomeUnknown, OutcomeFound)
		})
	})
	t.Run("while it is named", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.line.naming = func(ctx context.Context) { _ = hang(ctx) }
			s.ask(asking(file(1))).endsAfter(stageTimeout, errNoNetwork)
			pass(time.Hour)
			s.sent()
		})
	})
	t.Run("and an answer comes", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.line.writing = hang
			c := s.ask(asking(file(1)))
			s.finds(file(1), "/new")
			c.heals("/new")
			s.outcomes(OutcomeFound)
		})
	})
	t.Run("and Close", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.line.writing = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
			c := s.ask(asking(file(1)))
			s.close()
			c.endsAfter(0, ErrClosed)
			synctest.Wait()
			if s.line.open != 0 {
				s.Error("the send goes on")
			}
		})
	})
}
