package reupload

import (
	"context"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"
)

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
