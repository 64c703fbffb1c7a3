package reupload

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

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

// An answer can come before the send returns that it is the answer to. How the request
// ended stands then.
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
