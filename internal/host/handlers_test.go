package host_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// listOf returns the handlers of a client, which have to be there.
func listOf(t *testing.T, client *whatsmeow.Client) host.Handlers {
	t.Helper()
	list, ok := host.HandlersOf(client)
	if !ok {
		t.Fatal("whatsmeow has changed")
	}
	return list
}

func TestHandlersAreMovedAndRemoved(t *testing.T) {
	t.Parallel()
	client := newClient()
	list := listOf(t, client)
	var called []int
	var ids []uint32
	for i := range 4 {
		ids = append(ids, client.AddEventHandler(func(any) { called = append(called, i) }))
	}
	unknown := ids[3] + 1<<20
	for _, step := range []struct {
		what string
		do   func(id uint32, patience time.Duration) bool
		id   uint32
		is   bool
		want []int
	}{
		{"the third to the front", list.MoveToFront, ids[2], true, []int{2, 0, 1, 3}},
		{"the first to the front", list.MoveToFront, ids[2], true, []int{2, 0, 1, 3}},
		{"the last to the front", list.MoveToFront, ids[3], true, []int{3, 2, 0, 1}},
		{"an unknown one to the front", list.MoveToFront, unknown, false, []int{3, 2, 0, 1}},
		{"an unknown one off the list", list.Remove, unknown, true, []int{3, 2, 0, 1}},
		{"one in the middle off the list", list.Remove, ids[2], true, []int{3, 0, 1}},
		{"the first off the list", list.Remove, ids[3], true, []int{0, 1}},
	} {
		if is := step.do(step.id, 0); is != step.is {
			t.Errorf("%s: %t", step.what, is)
		}
		called = nil
		host.Internals(client).DispatchEvent(&events.Connected{})
		if !slices.Equal(called, step.want) || list.Len() != len(step.want) {
			t.Errorf("%s: called are %v, want %v; %d are on the list", step.what, called, step.want, list.Len())
		}
	}
}

// While an event handler runs the list is waited for, and not for longer than is said.
func TestHandlersAreWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		list := listOf(t, client)
		id := client.AddEventHandler(func(any) { time.Sleep(time.Second) })
		for what, do := range map[string]func(time.Duration) bool{
			"to be free":        list.IsFree,
			"to move a handler": func(patience time.Duration) bool { return list.MoveToFront(id, patience) },
			"to remove one":     func(patience time.Duration) bool { return list.Remove(id+1<<20, patience) },
		} {
			go host.Internals(client).DispatchEvent(&events.Connected{})
			synctest.Wait()
			began := time.Now()
			if do(0) || time.Since(began) > 10*time.Millisecond {
				t.Errorf("%s: it can be had while a handler runs, or %s are waited for", what, time.Since(began))
			}
			if do(time.Second / 2) {
				t.Errorf("%s: it can be had after half of the time that the handler takes", what)
			}
			if !do(time.Second) || time.Since(began) > 1100*time.Millisecond {
				t.Errorf("%s: it cannot be had after the handler, or after %s", what, time.Since(began))
			}
		}
	})
}

// Whatever is asked of the list inside a handler, an event that this handler dispatches goes
// through: a lock that is queued for would hold it up for ever.
func TestHandlersAreNotQueuedFor(t *testing.T) {
	t.Parallel()
	client := newClient()
	list := listOf(t, client)
	var nested bool
	var id uint32
	id = client.AddEventHandler(func(evt any) {
		if _, ok := evt.(*events.Disconnected); ok {
			nested = true
			return
		}
		if list.IsFree(0) || list.MoveToFront(id, 0) || list.Remove(id, 0) {
			t.Error("the list can be had while a handler runs")
		}
		host.Internals(client).DispatchEvent(&events.Disconnected{})
	})
	host.Internals(client).DispatchEvent(&events.Connected{})
	if !nested || !list.IsFree(0) || !list.Remove(id, 0) {
		t.Error("the list cannot be had after the handler")
	}
}
