package host_test

import (
	"testing"

	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// deep calls a function under so many others.
//
//go:noinline
func deep(calls int, f func()) {
	if calls == 0 {
		f()
		return
	}
	deep(calls-1, f)
}

func TestWhereACallComesFrom(t *testing.T) {
	t.Parallel()
	check := func(where string, dispatch, queue bool) {
		t.Helper()
		for range 2 { // found, and remembered
			if host.InDispatch() != dispatch || host.InHandlerQueue() != queue {
				t.Errorf("%s: in a handler %t, in the queue %t, want %t and %t", where, host.InDispatch(), host.InHandlerQueue(), dispatch, queue)
			}
		}
	}
	check("in a test", false, false)
	b := newBot(t)
	b.connect()
	b.receive(func() {
		check("in the handler of a message", true, true)
		deep(1000, func() { check("deep in it", true, true) })
		done := make(chan struct{})
		go func() {
			defer close(done)
			check("in a goroutine of it", false, false)
		}()
		<-done
	})
	client := newClient()
	client.AddEventHandler(func(any) { check("in the handler of an event without a node", true, false) })
	host.Internals(client).DispatchEvent(&events.Connected{})
}
