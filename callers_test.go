package reupload

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
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
