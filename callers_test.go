package reupload

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
)

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
			c.endsAfter(time.Second, errInHandler)
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

// Somebody waits for a file that the backfill asks for: it goes before all others, and not for
// longer than Timeout.
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

// Of the files under one message id, one is asked for at a time: nothing but the id says which one
// an ack or an error is for.
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
