package reupload_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.mau.fi/whatsmeow/types"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestMaxInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const files, limit = 200, 4
		r := newRig(t, &reupload.Options{MaxInFlight: limit, Pace: -1})
		answers := make(chan struct{})
		r.phone.Phone(func(wabox.Request) []wabox.Answer { return []wabox.Answer{{Result: wabox.Success, Hold: answers}} })
		calls := make([]*call, files)
		for i := range calls {
			info, media := r.unseen(fmt.Sprintf("ID%d", i))
			calls[i] = r.begin(reupload.NewRequest(info, media.Image()))
		}
		r.asks(limit)
		if n := r.plugin.Stats().Waiting; n != files {
			t.Errorf("%d requests wait, want %d", n, files)
		}
		close(answers)
		for _, c := range calls {
			c.succeeds(t)
		}
		r.asked(files)
		if n := r.phone.MaxWaiting(); n != limit {
			t.Errorf("up to %d requests were out at once, want %d", n, limit)
		}
	})
}

// The time in the queue does not count as time of the phone's.
func TestQueueTimeIsNotWaitingTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{MaxInFlight: 1})
		info, media := r.unseen("FIRST")
		answer := make(chan struct{})
		r.phone.Script(info.ID, wabox.Answer{Result: wabox.Success, Hold: answer})
		first := r.begin(reupload.NewRequest(info, media.Image()))
		r.asks(1)
		info, media = r.unseen("SECOND")
		r.phone.Script(info.ID, wabox.Answer{None: true})
		second := r.begin(reupload.NewRequest(info, media.Image()))
		time.Sleep(20 * time.Second)
		close(answer)
		first.succeeds(t)
		if _, err := second.end(); !errors.Is(err, reupload.ErrTimeout) {
			t.Errorf("the second request: %v", err)
		}
		if second.took != 20*time.Second+defaultTimeout {
			t.Errorf("the second request waited for %s", second.took)
		}
	})
}

// A download that gets no place in the time that the phone would have fails with ErrBusy.
func TestNoPlace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{MaxInFlight: 1})
		info, media := r.unseen("FIRST")
		r.phone.Script(info.ID, wabox.Answer{None: true})
		first := r.begin(reupload.NewRequest(info, media.Image()))
		r.asks(1)
		time.Sleep(time.Second)
		var busy []*call
		for i := range 5 {
			info, media := r.unseen(fmt.Sprintf("ID%d", i))
			r.phone.Script(info.ID, wabox.Answer{None: true})
			busy = append(busy, r.begin(reupload.NewRequest(info, media.Image())))
		}
		first.fails(t, reupload.ErrTimeout)
		var n int
		for _, c := range busy {
			if _, err := c.end(); errors.Is(err, reupload.ErrBusy) {
				n++
			}
		}
		if n != 4 { // one of them gets the place of the first
			t.Errorf("%d of 5 were told that there was no place", n)
		}
	})
}

// A backlog of requests without an answer does not keep a live download from its own error.
func TestLiveDownloadBehindABacklog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{MaxInFlight: 8, Pace: -1})
		r.phone.Phone(silent)
		p := r.receivePicture()
		ctx, cancel := context.WithCancel(t.Context())
		var backlog sync.WaitGroup
		for i := range 1000 {
			info, media := r.unseen(fmt.Sprintf("BACKLOG%d", i))
			backlog.Go(func() { r.plugin.RequestReupload(reupload.WithBackfill(ctx), reupload.NewRequest(info, media.Image())) })
		}
		r.asks(7) // one place is free
		start := time.Now()
		r.fails(p, reupload.ErrTimeout)
		if took := time.Since(start); took > defaultTimeout {
			t.Errorf("it took %s", took)
		}
		cancel()
		backlog.Wait()
	})
}

// Live downloads overtake a backfill, which keeps its pace.
func TestLiveOvertakesBackfill(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, &reupload.Options{MaxInFlight: 2})
		p := r.receivePicture()
		var requests []reupload.Request
		for i := range 6 {
			info, media := r.unseen(fmt.Sprintf("ID%d", i))
			requests = append(requests, reupload.NewRequest(info, media.Image()))
		}
		start := time.Now()
		for a := range r.plugin.RequestAll(r.ctx(), slices.Values(requests)) {
			if a.Err != nil {
				t.Errorf("%v: %v", a.Request, a.Err)
			}
			if p.Media != nil {
				r.heals(p)
				p.Media = nil
			}
		}
		if took := time.Since(start); took < 5*defaultPace {
			t.Errorf("six requests took %s", took)
		}
		place := slices.IndexFunc(r.phone.Requests(), func(req wabox.Request) bool { return req.ID == p.id() })
		if place > 3 {
			t.Errorf("it came after %d of the backfill", place)
		}
	})
}

func TestRequestAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const n = 200
		index := reupload.NewMemoryIndex(1000)
		r := newRig(t, &reupload.Options{Index: index, MaxInFlight: 8, Pace: -1})
		want := make(map[types.MessageID]error)
		var requests []reupload.Request
		for i := range n {
			id := fmt.Sprintf("ALL%d", i)
			info, media := r.unseen(id)
			requests, want[id] = append(requests, reupload.NewRequest(info, media.Image())), nil
			if i%10 == 0 {
				r.phone.Script(id, wabox.Answer{Result: wabox.NotFound})
				want[id] = reupload.ErrNotFound
			}
		}
		requests = append(requests, reupload.Request{MessageID: "INVALID"})
		want["INVALID"] = reupload.ErrInvalidRequest
		collect := func() {
			t.Helper()
			got := make(map[types.MessageID]int)
			for a := range r.plugin.RequestAll(r.ctx(), slices.Values(requests)) {
				id := a.Request.MessageID
				err := a.Err
				if err == nil {
					err = a.Result.Err()
				}
				if got[id]++; !errors.Is(err, want[id]) || want[id] == nil && a.Result.DirectPath == "" {
					t.Errorf("%s: %v, %v", id, a.Result, a.Err)
				}
			}
			for id := range want {
				if got[id] != 1 {
					t.Errorf("%s came %d times", id, got[id])
				}
			}
		}
		collect()
		r.asked(n)
		if most := r.phone.MaxWaiting(); most > 8 {
			t.Errorf("%d were in the air", most)
		}
		collect() // all is known now
		r.asked(n)
		r.plugin.Close()
		r.register(&reupload.Options{Index: index})
		collect() // and after a restart
		r.asked(n)
	})
}

func TestRequestAllStops(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const inAir = 4
		r := newRig(t, &reupload.Options{MaxInFlight: inAir, Pace: -1})
		pulled := 0
		endless := func(yield func(reupload.Request) bool) {
			for {
				pulled++
				info, media := r.unseen(fmt.Sprintf("ID%d", pulled))
				if !yield(reupload.NewRequest(info, media.Image())) {
					return
				}
			}
		}
		for a := range r.plugin.RequestAll(t.Context(), endless) {
			if a.Err != nil {
				t.Errorf("got %v, %v", a.Request, a.Err)
			}
			break
		}
		if pulled > inAir {
			t.Errorf("%d requests were taken", pulled)
		}
		r.phone.Phone(silent)
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(200*time.Millisecond, cancel)
		n := 0
		for a := range r.plugin.RequestAll(ctx, endless) {
			if n++; !errors.Is(a.Err, context.Canceled) {
				t.Errorf("got %v, %v", a.Request, a.Err)
			}
		}
		if n < 1 || n > inAir {
			t.Errorf("%d answers after the end, with %d in the air", n, inAir)
		}
	})
}

// A live download of a file that waits in a backfill does not wait behind the backfill.
func TestLiveDownloadOfAFileInABackfill(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		var downloads sync.WaitGroup
		var last picture
		for range 100 {
			last = r.receivePicture()
			p := last
			downloads.Go(func() {
				if _, err := r.client.Download(reupload.WithBackfill(r.ctx()), p.image); err != nil {
					t.Errorf("backfill: %v (cause: %v)", err, reupload.Cause(err))
				}
			})
		}
		time.Sleep(time.Second)
		start := time.Now()
		r.heals(last)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("it took %s", took)
		}
		downloads.Wait()
	})
}

// Nor does it end the other download: when the phone is silent the one fails, and the backfill
// waits.
func TestLiveDownloadDoesNotEndABackfill(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		p := r.receivePictureIn(wabox.Incoming{Chat: aGroup, From: alice})
		r.phone.Phone(silent)
		for _, from := range []types.JID{bob, carol, mallory} { // until the phone is silent
			r.fails(r.receivePictureIn(wabox.Incoming{From: from}), reupload.ErrTimeout)
		}
		var download sync.WaitGroup
		download.Go(func() {
			if _, err := r.client.Download(reupload.WithBackfill(r.ctx()), p.image); err != nil {
				t.Errorf("backfill: %v (cause: %v)", err, reupload.Cause(err))
			}
		})
		time.Sleep(time.Second) // less than until the next probe
		start := time.Now()
		r.fails(p, reupload.ErrPhoneSilent)
		if took := time.Since(start); took > time.Second {
			t.Errorf("it took %s", took)
		}
		r.phone.Phone(nil)
		download.Wait()
	})
}
