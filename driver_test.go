package reupload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

func TestFlightHeals(t *testing.T) {
	onStage(t, func(s *stage) {
		c := s.ask(asking(file(1)))
		s.sent("0@0s")
		s.acks(file(1))
		pass(time.Second)
		c.waits()
		if !s.finds(file(1), "/new?oe=1") {
			s.Error("nobody takes the answer")
		}
		c.heals("/new?oe=1")
		s.outcomes(OutcomeUnknown, OutcomeFound)
		if e := s.stored[1]; e.DirectPath != "/new?oe=1" || !e.Asked.At.Equal(time.Now()) || !s.stored[0].Asked.At.Equal(s.began) {
			s.Errorf("stored are %+v", s.stored)
		}
		if want := []string{"3EB001 late=false news=true"}; !slices.Equal(s.reports, want) {
			s.Errorf("reports are %q, want %q", s.reports, want)
		}
	})
}

// An answer can overtake the ack, and a request that is on its way to the socket.
func TestAnswerOvertakesTheAck(t *testing.T) {
	onStage(t, func(s *stage) {
		c := s.ask(asking(file(1)))
		s.finds(file(1), "/new")
		c.heals("/new")
	})
}

func TestSilence(t *testing.T) {
	onStage(t, func(s *stage) {
		c := s.ask(asking(file(1)))
		s.acks(file(1))
		c.endsAfter(stageTimeout, ErrTimeout)
		if s.queue.silences != 1 {
			s.Error("it is not the phone that was silent")
		}
		s.outcomes(OutcomeUnknown, OutcomeSilence)
		if vain := s.stored[1].Asked.Vain; vain != 1 {
			s.Errorf("it was in vain %d times, want once", vain)
		}
	})
}

func TestSilenceOfTheServerIsNotThePhones(t *testing.T) {
	onStage(t, func(s *stage) {
		s.twoForms()
		s.ask(asking(file(1))).endsAfter(stageTimeout, errNoAck)
		s.sent("0@0s") // whether the form is right, nobody knows
		if s.queue.silences != 0 {
			s.Error("the phone is taken for silent")
		}
	})
}

func TestAcksOnTheWire(t *testing.T) {
	onStage(t, func(s *stage) {
		s.line.tapless = true
		c := s.ask(asking(file(1)))
		ack := func(n int, class, code string) {
			node := &waBinary.Node{Tag: "ack", Attrs: waBinary.Attrs{"class": "receipt", "type": class}}
			if code != "" {
				node.Attrs["error"] = code
			}
			s.line.ackWaits[n] <- node
			synctest.Wait()
		}
		ack(0, "", "") // of the delivery
		c.waits()
		ack(1, "server-error", "479")
		c.ends(ErrRejected)
		s.outcomes(OutcomeUnknown, OutcomeRejected)

		c = s.ask(asking(file(2)))
		ack(2, "server-error", "")
		c.ends(ErrTimeout)
	})
}

func TestSecondForm(t *testing.T) {
	t.Run("after silence", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.twoForms()
			c := s.ask(asking(file(1)))
			pass(time.Second)
			s.acks(file(1))
			pass(formPause - time.Millisecond)
			s.sent("0@0s")
			pass(time.Millisecond)
			s.sent("0@0s", "1@9s")
			s.finds(file(1), "/new") // to either of them
			c.heals("/new")
		})
	})
	t.Run("after a refusal", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.twoForms()
			c := s.ask(asking(file(1)))
			s.acks(file(1), "479")
			s.sent("0@0s", "1@0s")
			s.acks(file(1), "479")
			c.ends(ErrRejected)
		})
	})
	t.Run("after NOT_FOUND", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.twoForms()
			c := s.ask(asking(file(1)))
			s.acks(file(1))
			s.answers(file(1), StatusNotFound, "")
			s.sent("0@0s", "1@0s")
			c.waits()
			s.answers(file(1), StatusNotFound, "")
			c.ends(nil)
			if c.result.Status != StatusNotFound {
				s.Errorf("the answer is %v", c.result)
			}
			s.outcomes(OutcomeUnknown, OutcomeUnknown, OutcomeNotFound)
		})
	})
	t.Run("not for the account alone", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.line.forms = append(s.line.forms, address{stageLID, stageChat, types.EmptyJID})
			c := s.ask(asking(file(1)))
			s.answers(file(1), StatusNotFound, "")
			c.ends(nil)
			s.sent("0@0s")
		})
	})
	t.Run("deadline is from the first", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.twoForms()
			c := s.ask(asking(file(1)))
			s.acks(file(1))
			pass(formPause)
			s.acks(file(1))
			c.endsAfter(stageTimeout, ErrTimeout)
			s.sent("0@0s", "1@8s")
		})
	})
}

// An unsealed answer counts if it names the chat in any form, and nobody else can be meant.
func TestUnsealedAnswer(t *testing.T) {
	onStage(t, func(s *stage) {
		s.twoForms()
		c := s.ask(asking(file(1)))
		offer := func(chat types.JID, stamp string) bool {
			a := answer{id: file(1).MessageID, chat: chat, isError: true, status: StatusGeneralError, stamp: stamp}
			taken, waiting := s.deliver(a)
			return !taken && waiting != nil && s.offer(waiting, a)
		}
		if offer(types.NewJID("666", types.DefaultUserServer), "a") {
			s.Error("an error for another chat is taken")
		}
		c.waits()
		if !offer(stageLID, "b") {
			s.Error("an error for the chat by LID is not taken")
		}
		c.ends(nil)
		s.outcomes(OutcomeUnknown, OutcomeGeneral)
	})
}

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

// storedNothing checks that nothing was stored, without waiting for flights.
func (s *stage) storedNothing() {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.stored) > 0 {
		s.Errorf("stored are %v", s.stored)
	}
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

// Of the files under one message id, one is asked for at a time: nothing but the id says which one an ack or an error is for.
func TestOneRequestPerMessageID(t *testing.T) {
	for name, end := range map[string]func(s *stage, first Entry){
		"answer":  func(s *stage, first Entry) { s.finds(first, "/first") },
		"refusal": func(s *stage, first Entry) { s.acks(first, "479") },
		"silence": func(s *stage, first Entry) { s.acks(first); pass(stageTimeout - time.Second) },
		"break":   func(s *stage, first Entry) { s.driver(first).happen(event{what: down, err: whatsmeow.ErrNotConnected}) },
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				first, second, third := file(1), file(2), file(3)
				second.MessageID, third.MessageID = first.MessageID, first.MessageID
				a := s.ask(asking(first))
				pass(time.Second)
				b, c := s.ask(asking(second)), s.ask(asking(third))
				if len(s.line.all()) != 1 {
					s.Fatalf("sent are %v", s.line.all())
				}
				end(s, first)
				synctest.Wait()
				if !a.done() || len(s.line.all()) != 2 {
					s.Fatalf("the first has ended: %t; sent are %v", a.done(), s.line.all())
				}
				s.acks(second)
				if !s.finds(second, "/second") {
					s.Error("the second one does not take its answer")
				}
				b.heals("/second")
				c.waits()
				s.finds(third, "/third")
				c.heals("/third")
			})
		})
	}
}

// An answer is for the flight whose key opens it, whoever is on the wire.
func TestAnswerForOneThatWaits(t *testing.T) {
	onStage(t, func(s *stage) {
		first, second := file(1), file(2)
		second.MessageID = first.MessageID
		a, b := s.ask(asking(first)), s.ask(asking(second))
		s.finds(second, "/second")
		b.heals("/second")
		a.waits()
		s.finds(first, "/first")
		a.heals("/first")
		if len(s.line.all()) != 1 {
			s.Errorf("sent are %v", s.line.all())
		}
	})
}

func TestCallersShareAFlight(t *testing.T) {
	onStage(t, func(s *stage) {
		s.queue.places = 2
		a, b, c := s.ask(asking(file(1))), s.ask(asking(file(1))), s.ask(asking(file(1)))
		s.sent("0@0s")
		if s.queue.taken != 1 {
			s.Errorf("a flight has %d places", s.queue.taken)
		}
		a.cancel()
		a.endsAfter(0, context.Canceled)
		s.finds(file(1), "/new")
		b.heals("/new")
		c.heals("/new")
	})
}

// Who joins a probe does not end it.
func TestCallersShareAProbe(t *testing.T) {
	onStage(t, func(s *stage) {
		for range silentAfter {
			s.queue.timedOut()
		}
		pass(probePause)
		a := s.ask(asking(file(1)))
		b := s.ask(asking(file(1)))
		a.waits()
		b.waits()
		s.ask(asking(file(2))).endsAfter(0, ErrPhoneSilent)
		s.finds(file(1), "/new")
		a.heals("/new")
		b.heals("/new")
	})
}

func TestCallersLeave(t *testing.T) {
	onStage(t, func(s *stage) {
		s.queue.places = 1
		a, b := s.ask(asking(file(1))), s.ask(asking(file(2)))
		a.cancel() // a flight that was sent outlives its callers
		b.cancel() // one that was not does not
		synctest.Wait()
		if !a.done() || !b.done() || s.waiting() != 1 {
			s.Fatalf("%d flights are left", s.waiting())
		}
		c := s.ask(asking(file(1))) // finds the flight
		s.finds(file(1), "/new")
		c.heals("/new")
		pass(time.Hour)
		s.sent("0@0s")
	})
}

// Who joins a flight in the moment in which its last caller leaves is not told that nobody waits.
func TestCallerJoinsWhenTheLastOneLeaves(t *testing.T) {
	onStage(t, func(s *stage) {
		s.queue.places = 1
		s.ask(asking(file(1)))
		c := s.ask(asking(file(2)))
		s.driver(file(2)).happen(event{what: abandoned})
		c.waits()
		s.finds(file(1), "/first")
		s.finds(file(2), "/second")
		c.heals("/second")
	})
}

func TestQuestionAboutWhatHasJustEnded(t *testing.T) {
	onStage(t, func(s *stage) {
		pass(time.Second)
		q := asking(file(1))
		pass(time.Second)
		c := s.ask(q)
		s.answers(file(1), StatusGeneralError, "")
		c.ends(nil)
		again := s.ask(q)
		again.endsAfter(0, nil)
		if again.result.Status != StatusGeneralError || !s.knows(q.key, q.since) {
			s.Errorf("the answer is %v", again.result)
		}
		pass(time.Second)
		if s.knows(q.key, time.Now()) {
			s.Error("it has ended since, it says")
		}
		s.ask(asking(file(1)))
		if !s.knows(q.key, time.Now()) || s.knows(asking(file(2)).key, time.Now()) {
			s.Error("it does not know what is on its way")
		}
		s.sent("0@2s", "0@3s")
	})
}

func TestQuestionsThatAreNotAsked(t *testing.T) {
	onStage(t, func(s *stage) {
		ctx, cancel := context.WithCancel(s.Context())
		cancel()
		if _, err := s.pending.ask(ctx, asking(file(1))); err != context.Canceled {
			s.Errorf("with a context that has ended: %v", err)
		}
		bad := file(1)
		bad.MediaKey = bad.MediaKey[1:]
		if _, err := s.pending.ask(s.Context(), asking(bad)); !errors.Is(err, ErrInvalidRequest) {
			s.Errorf("without a media key: %v", err)
		}
		s.close()
		if _, err := s.pending.ask(s.Context(), asking(file(1))); err != ErrClosed {
			s.Errorf("after Close: %v", err)
		}
		s.sent()
	})
}

func TestPatience(t *testing.T) {
	patient := func(limit time.Duration, err error) question {
		q := asking(file(1))
		q.patience = func() (time.Duration, error) { return limit, err }
		return q
	}
	t.Run("of an event handler", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.ask(patient(10*time.Second, errInHandler)).endsAfter(promptAnswer+10*time.Second, errInHandler)
			s.finds(file(1), "/new") // the flight goes on
			s.outcomes(OutcomeUnknown, OutcomeFound)
		})
	})
	t.Run("of one that blocks the answer", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.ask(patient(0, ErrHandlerBlocked)).endsAfter(promptAnswer, ErrHandlerBlocked)
			s.finds(file(1), "/new")
		})
	})
	t.Run("that has no end", func(t *testing.T) {
		onStage(t, func(s *stage) {
			c := s.ask(patient(0, nil))
			s.acks(file(1))
			c.endsAfter(stageTimeout, ErrTimeout)
		})
	})
	t.Run("is not asked for when the answer is prompt", func(t *testing.T) {
		onStage(t, func(s *stage) {
			q := asking(file(1))
			q.patience = func() (time.Duration, error) { s.Error("it is asked for"); return 0, nil }
			c := s.ask(q)
			pass(promptAnswer - time.Millisecond)
			s.finds(file(1), "/new")
			c.heals("/new")
		})
	})
	t.Run("ends when the phone becomes silent", func(t *testing.T) {
		onStage(t, func(s *stage) {
			c, patientOne := s.ask(patient(10*time.Second, errInHandler)), s.ask(asking(file(1)))
			pass(time.Second)
			for range silentAfter {
				s.queue.timedOut()
			}
			c.endsAfter(time.Second, ErrPhoneSilent)
			patientOne.waits()
			s.finds(file(1), "/new")
			patientOne.heals("/new")
		})
	})
	t.Run("leaves its turn to the next one", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.queue.places = 1
			first := s.ask(asking(file(2)))
			s.ask(patient(time.Second, errInHandler)).ends(errInHandler)
			s.finds(file(2), "/first")
			first.heals("/first")
			s.finds(file(1), "/second")
			s.sent("0@0s", "0@1.05s")
		})
	})
}

func TestLateAnswerIsKept(t *testing.T) {
	onStage(t, func(s *stage) {
		e := file(1)
		c := s.ask(asking(e))
		s.acks(e)
		c.ends(ErrTimeout)
		a := s.sealed(e, StatusSuccess, "/late")
		if taken, waiting := s.deliver(a); taken || waiting != nil {
			s.Fatal("somebody waits for it")
		}
		cipher, _ := newRetryCipher(e.MediaKey)
		r, _ := a.read(cipher)
		s.late(e, asking(e).key, r)
		s.outcomes(OutcomeUnknown, OutcomeSilence, OutcomeFound)
		if s.stored[2].DirectPath != "/late" {
			s.Errorf("stored is %v", s.stored[2])
		}
		s.late(e, asking(e).key, r) // once more is no news
		want := []string{"3EB001 late=false news=false", "3EB001 late=true news=true", "3EB001 late=true news=false"}
		if !slices.Equal(s.reports, want) {
			s.Errorf("reports are %q, want %q", s.reports, want)
		}
	})
}

// The bot asks by itself, as mautrix does: its answer is for everybody.
func TestAskedByTheBot(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.acks(file(1))
			pass(stageTimeout - time.Second)
			c := s.ask(asking(file(1)))
			s.sent()
			c.waits()
			s.finds(file(1), "/new")
			c.heals("/new")
			s.outcomes(OutcomeUnknown, OutcomeFound)
			c = s.ask(asking(file(1))) // the bot does not wait any more
			s.sent("0@29s")
			s.finds(file(1), "/new")
			c.heals("/new")
		})
	})
	t.Run("too long ago", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.acks(file(1))
			pass(stageTimeout)
			s.ask(asking(file(1)))
			s.sent("0@30s")
		})
	})
	t.Run("and the phone is silent", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.acks(file(1))
			s.ask(asking(file(1))).endsAfter(stageTimeout, ErrTimeout)
			if s.queue.silences != 1 {
				s.Error("the silence does not count")
			}
		})
	})
	t.Run("and the answer names the chat by LID, not sealed", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.twoForms()
			s.acks(file(1))
			c := s.ask(asking(file(1)))
			a := answer{id: file(1).MessageID, chat: stageLID, isError: true, stamp: "error"}
			_, waiting := s.deliver(a)
			if waiting == nil || !s.offer(waiting, a) {
				s.Error("it is not taken")
			}
			c.ends(nil)
		})
	})
	t.Run("and is refused", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.acks(file(1), "479")
			s.ask(asking(file(1)))
			s.sent("0@0s")
		})
	})
	t.Run("for one that waits for a place", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.queue.places = 1
			s.ask(asking(file(1)))
			c := s.ask(asking(file(2)))
			pass(time.Second)
			s.acks(file(2))
			for range silentAfter {
				s.queue.timedOut()
			}
			c.waits() // its request is on the wire
			s.finds(file(1), "/first")
			if s.queue.taken != 0 {
				s.Error("it takes a place now")
			}
			s.finds(file(2), "/new")
			c.heals("/new")
		})
	})
	t.Run("or it was us", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.ask(asking(file(1))).ends(errNoAck)
			s.acks(file(1)) // late
			if !s.ledger.botAsked(file(1).MessageID).IsZero() {
				s.Error("a late ack for our request is taken for one for the bot's")
			}
		})
	})
	t.Run("with an id that is too long", func(t *testing.T) {
		onStage(t, func(s *stage) {
			long := file(1)
			long.MessageID = string(make([]byte, maxMessageID+1))
			s.acks(long)
			long.MessageID = long.MessageID[1:]
			s.acks(long)
			if n := len(s.ledger.foreign.values); n != 1 {
				s.Errorf("%d ids are remembered", n)
			}
		})
	})
	t.Run("and the connection breaks", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.acks(file(1))
			c := s.ask(asking(file(1)))
			s.line.breaks()
			c.ends(errNoNetwork)
		})
	})
}

func TestDeadlineInTheQueue(t *testing.T) {
	onStage(t, func(s *stage) {
		s.queue.places = 1
		others := &ticket{call: func(error) {}}
		s.queue.enter(others)
		slow := asking(file(2))
		slow.lane = backfill
		b := s.ask(slow)
		s.ask(asking(file(1))).endsAfter(stageTimeout, ErrBusy)
		s.storedNothing()
		pass(time.Hour) // backfill has all the time there is
		b.waits()
		s.queue.leave(others)
		synctest.Wait()
		s.acks(file(2))
		b.endsAfter(time.Hour+2*stageTimeout, ErrTimeout) // the phone has its time from when it is asked
	})
}

// The deadline counts from when the phone is asked.
func TestTimeInTheQueueIsNotThePhones(t *testing.T) {
	onStage(t, func(s *stage) {
		s.queue.places = 1
		s.ask(asking(file(1)))
		pass(20 * time.Second)
		c := s.ask(asking(file(2)))
		pass(5 * time.Second)
		s.finds(file(1), "/new")
		s.acks(file(2))
		c.endsAfter(5*time.Second+stageTimeout, ErrTimeout)
	})
}

// Somebody waits for a file that the backfill asks for: it goes before all others, and not for longer than Timeout.
func TestLiveCallerJoinsBackfill(t *testing.T) {
	slowly := func(e Entry) question {
		q := asking(e)
		q.lane = backfill
		return q
	}
	t.Run("and goes first", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.ask(slowly(file(1)))
			a, b := s.ask(slowly(file(2))), s.ask(slowly(file(3)))
			c := s.ask(asking(file(3)))
			s.sent("0@0s", "0@0s")
			s.finds(file(3), "/new")
			b.heals("/new")
			c.heals("/new")
			a.waits()
		})
	})
	t.Run("and is told when the phone is silent", func(t *testing.T) {
		onStage(t, func(s *stage) {
			for range silentAfter {
				s.queue.timedOut()
			}
			a := s.ask(slowly(file(1)))
			s.ask(asking(file(1))).endsAfter(0, ErrPhoneSilent)
			a.waits() // for the phone to come back
			pass(probePause)
			s.finds(file(1), "/new")
			a.heals("/new")
		})
	})
	t.Run("and is told when there is no place", func(t *testing.T) {
		onStage(t, func(s *stage) {
			s.queue.places = 1
			others := &ticket{call: func(error) {}}
			s.queue.enter(others)
			a := s.ask(slowly(file(1)))
			pass(time.Minute)
			s.ask(asking(file(1))).endsAfter(stageTimeout, ErrBusy)
			a.waits()
			s.queue.leave(others)
			s.finds(file(1), "/new")
			a.heals("/new")
		})
	})
}

// A send can hang, while whatsmeow dials or asks for the group. The flight ends in time all the same.
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

// An answer can come before the send returns that it is the answer to. How the request ended stands then.
func TestAnswerComesBeforeSendReturns(t *testing.T) {
	onStage(t, func(s *stage) {
		q := asking(file(1))
		pass(time.Second)
		s.line.writing = func(context.Context) error { time.Sleep(time.Second); return nil }
		s.line.set(func(l *fakeLine) { l.deaf = true })
		c := s.ask(q)
		s.finds(file(1), "/new")
		c.heals("/new")
		pass(2 * time.Second)
		e := file(1)
		s.ledger.recall(q.key, &e)
		if e.DirectPath != "/new" || e.Asked.Outcome != OutcomeFound {
			s.Errorf("what is known is %+v", e.Asked)
		}
		if s.ledger.isOwn(e.MessageID) {
			s.Error("the request waits for an answer, it says")
		}
		s.outcomes(OutcomeFound)
	})
}

// That the phone was asked is stored before how that ended, however slow the store is.
func TestStoreKeepsTheOrder(t *testing.T) {
	onStage(t, func(s *stage) {
		keep := s.store
		s.store = func(e Entry) {
			if e.Asked.Outcome == OutcomeUnknown {
				time.Sleep(10 * time.Second)
			}
			keep(e)
		}
		c := s.ask(asking(file(1)))
		s.finds(file(1), "/new")
		c.heals("/new") // who does not wait for the store
		s.outcomes(OutcomeUnknown, OutcomeFound)
	})
}

// Many fly at once, and each gets its own.
func TestManyFlights(t *testing.T) {
	onStage(t, func(s *stage) {
		s.queue.places = 4
		var callers []*caller
		for n := range byte(20) {
			callers = append(callers, s.ask(asking(file(n))))
		}
		for n := range byte(20) {
			s.finds(file(n), fmt.Sprintf("/%d", n))
			callers[n].heals(fmt.Sprintf("/%d", n))
		}
	})
}
