package reupload

import (
	"testing"
	"testing/synctest"
	"time"

	waBinary "go.mau.fi/whatsmeow/binary"
	"go.mau.fi/whatsmeow/types"
)

// An answer can overtake the ack, and a request that is on its way to the socket.
func TestAnswerOvertakesTheAck(t *testing.T) {
	onStage(t, func(s *stage) {
		c := s.ask(asking(file(1)))
		s.finds(file(1), "/new")
		c.heals("/new")
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
		s.outcomes(outcomeUnknown, outcomeRejected)

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
			s.answers(file(1), StatusNotFound, "") // sealed: the phone knows the message
			s.sent("0@0s")
			c.ends(nil)
			if c.result.Status != StatusNotFound {
				s.Errorf("the answer is %v", c.result)
			}
			s.outcomes(outcomeUnknown, outcomeNotFound)
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

// That the phone was asked is stored before how that ended, however slow the store is.
func TestStoreKeepsTheOrder(t *testing.T) {
	onStage(t, func(s *stage) {
		keep := s.store
		s.store = func(e Entry) {
			if e.Asked.Outcome == outcomeUnknown {
				time.Sleep(10 * time.Second)
			}
			keep(e)
		}
		c := s.ask(asking(file(1)))
		s.finds(file(1), "/new")
		c.heals("/new") // who does not wait for the store
		s.outcomes(outcomeUnknown, outcomeFound)
	})
}
