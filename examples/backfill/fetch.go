package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
)

// A fetcher fetches what the catalog has, in two lanes that run side by side. Each file goes
// through the free lane first, which does not ask the phone: it takes a copy that is saved already,
// what WhatsApp's servers still have, and paths that are known. What has expired then waits for the
// phone's lane. So thousands of files that are there do not wait behind one that is not.
type fetcher struct {
	account  *account
	catalog  *catalog
	writer   *writer
	progress progress
	wanted   filter
	plan     plan
	workers  int
	ready    <-chan struct{} // closed when the phone may be asked, as far as the history goes
	log      waLog.Logger

	stop context.CancelCauseFunc // ends the run
	done sync.WaitGroup

	mu      sync.Mutex
	unheard time.Time // when the phone has left a request without an answer last
}

// isHeard reports whether no answer of the phone can be expected to come late: it was not silent
// for a while.
func (f *fetcher) isHeard(quiet time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.unheard) >= quiet
}

// start starts both lanes. They take files until the context ends. What they have taken by then
// they work on until work ends.
func (f *fetcher) start(ctx, work context.Context) {
	f.done.Go(func() { f.run(ctx, work, free) })
	f.done.Go(func() { f.run(ctx, work, phone) })
}

// wait waits for what was taken, and returns whether that was done in time.
func (f *fetcher) wait(patience time.Duration) bool {
	done := make(chan struct{})
	go func() {
		f.done.Wait()
		close(done)
	}()
	select {
	case <-done:
		return true
	case <-time.After(patience):
	}
	f.stop(errInterrupted)
	<-done
	return false
}

// run keeps the workers of a lane busy.
func (f *fetcher) run(ctx, work context.Context, l lane) {
	var working sync.WaitGroup
	defer working.Wait()
	places := make(chan struct{}, f.workers)
	for {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		file, until, err := f.next(ctx, l)
		if err != nil {
			if ctx.Err() == nil {
				f.stop(inDatabase(err))
			}
			return
		}
		working.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithDeadline(work, until)
			defer cancel()
			f.try(ctx, l, file)
		})
	}
}

// pollPause is how often a lane looks for files whose time has come.
const pollPause = time.Second

// next waits for a file of a lane, and until when it may be worked on.
func (f *fetcher) next(ctx context.Context, l lane) (file *file, until time.Time, err error) {
	for {
		changed := f.catalog.change()
		if err = f.account.waitConnected(ctx); err != nil {
			return nil, time.Time{}, err
		}
		if until, err = f.gate(ctx, l); err != nil {
			return nil, time.Time{}, err
		}
		files, err := f.catalog.take(ctx, l, f.wanted, 1, time.Now())
		if err != nil {
			return nil, time.Time{}, err
		}
		if len(files) > 0 {
			if l == phone {
				err = f.catalog.asks(ctx, files[0], time.Now()) // here, so that the gate counts it
			}
			return files[0], until, err
		}
		select {
		case <-changed:
		case <-time.After(pollPause):
		case <-ctx.Done():
			return nil, time.Time{}, ctx.Err()
		}
	}
}

// gate waits until the phone may be asked, and returns until when that is so. What has waited at
// WhatsApp comes first: the history, and the answers to what an earlier run has asked.
func (f *fetcher) gate(ctx context.Context, l lane) (until time.Time, err error) {
	if l == free {
		return time.Now().AddDate(1, 0, 0), nil
	}
	select {
	case <-f.ready:
	case <-ctx.Done():
		return time.Time{}, ctx.Err()
	}
	for {
		now := time.Now()
		asked, err := f.catalog.askedSince(ctx, midnight(now))
		if err != nil {
			return time.Time{}, err
		}
		ok, changes, reason := f.plan.mayAsk(now, asked)
		if ok {
			return changes, nil
		}
		f.progress.waits(reason, changes)
		select {
		case <-time.After(min(time.Until(changes), time.Minute)): // a machine that has slept has another time
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		}
	}
}

// try fetches one file, and notes what came of it.
func (f *fetcher) try(ctx context.Context, l lane, file *file) {
	var v verdict
	err := f.fetch(ctx, l, file)
	var disk diskError
	switch {
	case err == nil:
		v = verdict{state: stateSaved, tried: true, asked: l == phone}
	case errors.As(err, &disk):
		f.stop(disk)
	default:
		v = judge(err, l, file, time.Now())
		f.log.Debugf("%v: %s", file, redact(fmt.Sprint(err, ": ", reupload.Cause(err))))
	}
	if err = f.catalog.settle(ctx, file, v); err != nil {
		f.stop(inDatabase(err))
		return
	}
	if v.state == stateFailed && v.asked {
		f.mu.Lock()
		f.unheard = time.Now()
		f.mu.Unlock()
	}
	if v.state != "" && v.state != stateExpired {
		f.progress.file(file)
	}
}

// fetch saves one file.
func (f *fetcher) fetch(ctx context.Context, l lane, file *file) error {
	folder, err := f.catalog.folder(ctx, file.request.Chat, func(number, name string) (string, string) {
		return f.identify(ctx, file.request.Chat, number, name)
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return diskError{inDatabase(err)}
	}
	saved := file.pathOf(folder)
	if copied, err := f.catalog.copyOf(ctx, file); err == nil && copied != "" && copied != saved {
		if err = f.writer.save(saved, file.checksum, f.writer.copyFrom(copied, file.checksum)); err == nil {
			file.saved = saved
			return nil
		} // it is not there any more, or is broken
	}
	var failed error // of the download
	err = f.writer.save(saved, file.checksum, func(to *os.File) error {
		target := &target{File: to}
		failed = f.download(ctx, l, file, target)
		if target.err != nil {
			failed = nil
			return target.err
		}
		return failed
	})
	switch {
	case failed != nil:
		return failed
	case err != nil:
		return onDisk(err)
	}
	file.saved = saved
	return nil
}

// download downloads a file. Everything that has to do with reupload is here: in the free lane the
// phone must not be asked, and in its own a download is a backfill, which keeps the pace, gives way
// to others, and waits while the phone is silent. Which message a file belongs to is in the index.
// That it is not named makes the plugin see the silence of a phone sooner, see its guide.
func (f *fetcher) download(ctx context.Context, l lane, file *file, to *target) error {
	ctx = reupload.WithBackfill(ctx)
	if l == free {
		return f.account.client.DownloadToFile(reupload.WithoutAsking(ctx), file, to)
	}
	err := f.account.client.DownloadToFile(ctx, file, to)
	if errors.Is(reupload.Cause(err), reupload.ErrUnknownMessage) { // the index has lost it
		err = f.account.plugin.DownloadToFile(ctx, file.info(), file, to)
	}
	if !file.insists || !bearsInsisting(reupload.Cause(err), file.cause) {
		return err
	}
	result, err := f.account.plugin.RequestReupload(ctx, file.request)
	if err == nil {
		err = result.Err()
	}
	if err != nil && result.DirectPath == "" {
		return err
	}
	return f.account.plugin.DownloadToFile(ctx, file.info(), file, to)
}

// identify finds out what a chat is called, and the phone number behind a LID.
func (f *fetcher) identify(ctx context.Context, jid types.JID, number, name string) (string, string) {
	device := f.account.client.Store
	if jid.Server == types.HiddenUserServer {
		if pn, err := device.LIDs.GetPNForLID(ctx, jid); err == nil && pn.User != "" {
			number = pn.User
		}
	}
	if name == "" {
		if contact, err := device.Contacts.GetContact(ctx, jid); err == nil {
			for _, known := range []string{contact.FullName, contact.BusinessName, contact.PushName} {
				if name == "" {
					name = known
				}
			}
		}
	}
	return number, name
}
