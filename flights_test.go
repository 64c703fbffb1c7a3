package reupload

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
)

// Of two files under one id, the second goes out when the server has acknowledged the first, and
// acks belong to them in that order.
func TestFilesUnderOneID(t *testing.T) {
	onStage(t, func(s *stage) {
		first, second := file(1), file(2)
		second.MessageID = first.MessageID
		a, b := s.ask(asking(first)), s.ask(asking(second))
		s.sent("0@0s")
		s.acks(first)
		s.sent("0@0s", "0@0s")
		s.acks(second, "479") // the second one's
		b.ends(ErrRejected)
		a.waits()
		s.finds(first, "/first")
		a.heals("/first")
	})
}

// An ack that comes when its request has ended is not taken for that of a request of the bot's.
func TestLateAckIsNotTheBots(t *testing.T) {
	onStage(t, func(s *stage) {
		s.known = []Entry{file(1)}
		s.ask(asking(file(1))).ends(ErrServerSilent)
		s.acks(file(1))
		if s.botAsks() || s.botWaits(file(1).MessageID) {
			t.Error("it was taken for the bot's")
		}
		s.acks(file(1)) // there is no other request of ours
		if !s.botAsks() || !s.botWaits(file(1).MessageID) {
			t.Error("the bot's own was not noticed")
		}
	})
}

// A path is checked by the file's hash and does no harm where it does not belong, but a refusal is
// booked on the message that the answer names: a member of a group can use an id and a key again.
func TestLateRefusalIsBookedOnItsMessage(t *testing.T) {
	onStage(t, func(s *stage) {
		victim, stranger := file(1), file(1)
		victim.Participant, stranger.Participant = stageLID, stageOwn
		s.known = []Entry{victim, stranger}
		s.answers(stranger, StatusNotFound, "")
		s.landing.Wait()
		if len(s.stored) != 1 || s.stored[0].Participant != stranger.Participant {
			t.Errorf("stored are %v", s.stored)
		}
	})
}

// What a name is not certain of is booked on no file.
func TestUncertainNameIsNoPause(t *testing.T) {
	onStage(t, func(s *stage) {
		s.line.nameless = errStore
		c := s.ask(asking(file(1)))
		s.acks(file(1))
		c.endsAfter(stageTimeout, ErrTimeout)
		s.outcomes(outcomeUnknown, outcomeOutage)
		if s.queue.mayBeOff(0) {
			t.Error("the phone counts as silent")
		}
	})
}

// A caller that looks just before a request ends, and asks just after that, gets how it has ended,
// and nothing is sent.
func TestRequestThatHasJustEnded(t *testing.T) {
	onStage(t, func(s *stage) {
		e := file(1)
		c := s.ask(asking(e))
		s.acks(e)
		c.endsAfter(stageTimeout, ErrTimeout)
		s.ask(asking(e)).ends(ErrTimeout)
		s.sent("0@0s")
		insisting := asking(e)
		insisting.insists = true
		d := s.ask(insisting)
		s.finds(e, "/new")
		d.heals("/new")
		s.sent("0@0s", "0@30s")
		s.landing.Wait()
		s.ask(asking(e)).heals("/new")
		known := asking(e)
		s.recall(known.key, &known.entry)
		f := s.ask(known)
		s.finds(e, "/newer")
		f.heals("/newer")
		s.sent("0@0s", "0@30s", "0@30s")
	})
}

// An answer may wait for a bot that was away: the file is asked for again after a minute.
func TestBotThatIsAway(t *testing.T) {
	onStage(t, func(s *stage) {
		c := s.ask(asking(file(1)))
		s.acks(file(1))
		s.line.breaks()
		c.endsAfter(stageTimeout, errAway)
		s.outcomes(outcomeUnknown, outcomePartial)
		if last := s.stored[len(s.stored)-1].Asked; last.Failures != 1 {
			t.Errorf("stored is %v", last) // so that a connection that goes each time does not make it each minute
		}
	})
}

// Names that could not be found out without a connection are found out when it is back.
func TestNamesAreFoundOutAgain(t *testing.T) {
	onStage(t, func(s *stage) {
		right := s.line.forms[0]
		wrong := right
		wrong.chat = stageLID
		s.line.forms, s.line.nameless = []address{wrong, right}, whatsmeow.ErrNotConnected
		s.line.online, s.line.returns = false, true
		c := s.ask(asking(file(1)))
		s.sent()
		s.line.forms, s.line.nameless = []address{right}, nil
		s.logsIn()
		pass(resendPause)
		s.sent("0@500ms") // the fake line counts it among the forms that it has now
		s.finds(file(1), "/new")
		c.heals("/new")
	})
}

// What an earlier process has asked for is waited for. Silence then says nothing of the phone, as
// the server may not have had the request.
func TestSilenceAboutAnEarlierProcess(t *testing.T) {
	onStage(t, func(s *stage) {
		e := file(1)
		e.Asked = Asked{At: time.Now(), Outcome: outcomeUnknown, Failures: 2}
		s.ask(asking(e)).endsAfter(stageTimeout, ErrTimeout)
		s.sent()
		if s.queue.mayBeOff(0) {
			t.Error("the phone counts as silent")
		}
		s.landing.Wait()
		last := s.stored[len(s.stored)-1].Asked
		if last.Outcome != outcomeSilence || last.Failures != 3 {
			t.Errorf("stored is %v", last)
		}
	})
}

// The answer to what an earlier process has asked for does not tell under which name of the account
// that was.
func TestAnswerToAnEarlierProcess(t *testing.T) {
	onStage(t, func(s *stage) {
		e := file(1)
		e.Asked = Asked{At: time.Now(), Outcome: outcomeUnknown}
		c := s.ask(asking(e))
		s.finds(e, "/new")
		c.heals("/new")
		s.sent()
		if s.isNamed(stageOwn) {
			t.Error("it counts as an answer to the likeliest name")
		}
	})
}

// What ends before its send has returned leaves no word of a request that waits for its answer,
// whether or not the ending says something of the file.
func TestEndBeforeTheSendHasReturned(t *testing.T) {
	t.Parallel()
	refusal := answer{id: file(1).MessageID, chat: stageChat, isError: true, status: StatusNotFound, stamp: "refusal"}
	for name, c := range map[string]struct {
		nameless error
		happens  func(*stage)
		stored   []Outcome
	}{
		"an answer":                         {nil, func(s *stage) { s.answer(refusal) }, []Outcome{outcomeGeneral}},
		"an answer under an uncertain name": {errStore, func(s *stage) { s.answer(refusal) }, nil},
		"an outage": {nil, func(s *stage) {
			s.driver(file(1)).happen(event{what: down, err: whatsmeow.ErrNotConnected})
		}, nil},
		"Close": {nil, func(s *stage) { s.shut() }, []Outcome{outcomeUnknown}}, // the next process may wait for the answer
	} {
		t.Run(name, func(t *testing.T) {
			onStage(t, func(s *stage) {
				returns := make(chan struct{})
				s.line.nameless, s.line.deaf = c.nameless, true
				s.line.writing = func(context.Context) error { <-returns; return nil }
				s.ask(asking(file(1)))
				c.happens(s)
				synctest.Wait()
				close(returns)
				s.outcomes(c.stored...)
				if e := file(1); len(c.stored) == 0 {
					if s.recall(asking(e).key, &e); !e.Asked.At.IsZero() {
						t.Errorf("what is known is %v", e.Asked)
					}
				}
			})
		})
	}
}

// A path in a late answer can be dead after an hour, and is then only one to try.
func TestAnswerIsOldAfterAnHour(t *testing.T) {
	onStage(t, func(s *stage) {
		e := file(1)
		key := identityOf(stageOwn, &e)
		for ago, isOld := range map[time.Duration]bool{0: false, time.Hour: false, time.Hour + time.Second: true} {
			s.flights.endings.set(key, ending{asked: Asked{At: time.Now().Add(-ago)}})
			if s.flights.isOld(key) != isOld {
				s.Errorf("after %v it is old: %t", ago, !isOld)
			}
		}
	})
}
