package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
)

// run fetches until nothing is left to do, and tells what has become of everything. That the
// context ends is no error: the next run goes on.
func run(ctx context.Context, out, errOut io.Writer, cfg config) (err error) {
	shown := newProgress(cfg, out, errOut)
	log := cfg.log
	if log == nil {
		log = logger{shown.note, "Backfill", cfg.verbose}
	}
	askForHistory()
	w, err := openWriter(cfg.dir)
	if err != nil {
		return fmt.Errorf("the directory for media cannot be used; name another one with -dir: %w", err)
	}
	defer w.close()
	if cfg.writer != nil {
		cfg.writer(w)
	}
	// A signal ends ctx. What is being written is finished then, and told the database.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var list *catalog
	a, err := openAccount(ctx, cfg, log, func(u reupload.Reupload) {
		if err := list.revive(work, u.FileEncSHA256); err != nil && work.Err() == nil {
			log.Errorf("The catalog cannot be written: %v", err)
		}
	})
	if err != nil {
		return err
	}
	defer a.close()
	if list, err = openCatalog(ctx, a.db); err != nil {
		return fmt.Errorf("the database %s cannot be used; name another file with -db: %w", cfg.db, err)
	}
	h := &history{account: a, catalog: list, progress: shown, log: log}
	a.client.AddEventHandlerWithSuccessStatus(func(evt any) bool {
		a.watch(work, evt)
		if message, ok := evt.(*events.Message); ok {
			return h.take(work, message)
		}
		return true
	})
	person := out
	if cfg.json { // out is for a program
		person = errOut
	}
	if err = a.connect(ctx, person, cfg.phone); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	if err = list.claim(ctx, a.client.Store.GetJID()); err != nil {
		return err
	}
	log.Infof("Linked to +%s", a.client.Store.GetJID().User)
	if cfg.retry != "" && !cfg.dryRun {
		n, err := list.retry(ctx, cfg.retry, cfg.wanted)
		if err != nil {
			return err
		}
		log.Infof("%s to try again, by -retry %s", number(int(n), "file"), cfg.retry)
	}

	e := &elder{
		account: a, catalog: list, history: h, wanted: cfg.wanted, plan: cfg.plan,
		quiet: cfg.quiet / 4, timeout: min(olderTimeout, max(cfg.quiet, time.Second)), log: log,
	}
	e.idle.Store(!cfg.older || cfg.dryRun)
	lanes, rest := context.WithCancel(work)
	defer rest()
	f := &fetcher{
		account: a, catalog: list, writer: w, progress: shown, wanted: cfg.wanted, plan: cfg.plan, workers: cfg.workers,
		ready: h.settled(lanes, cfg.quiet/4), log: log, stop: cancel,
	}
	var others sync.WaitGroup
	others.Go(func() { h.run(lanes) })
	if !e.idle.Load() {
		others.Go(func() { e.run(lanes) })
	}
	if !cfg.dryRun {
		f.start(lanes, work)
	}
	err = waitDone(ctx, work, cfg, a, list, h, e, f, shown)
	rest()
	others.Wait()
	if !f.wait(cfg.patience) {
		log.Infof("What was not through after %v is left to the next run", cfg.patience)
	}
	shown.end()
	if errors.Is(err, errInterrupted) {
		err = nil
	}
	return errors.Join(err, tell(context.WithoutCancel(ctx), out, cfg, list, w, shown))
}

var errInterrupted = errors.New("interrupted")

// waitDone waits until there is nothing left to do, and shows how far it is.
func waitDone(ctx, work context.Context, cfg config, a *account, list *catalog, h *history, e *elder, f *fetcher, shown progress) error {
	for tick := time.NewTicker(tickPause); ; {
		select {
		case <-ctx.Done():
			return errInterrupted
		case <-work.Done():
			return context.Cause(work)
		case err := <-a.ended:
			return err
		case <-tick.C:
		}
		counts, err := list.counts(ctx, cfg.wanted)
		if err != nil {
			if ctx.Err() != nil {
				continue
			}
			return inDatabase(err)
		}
		shown.counts(counts)
		if !h.isQuiet(cfg.quiet) || !e.idle.Load() || !f.isHeard(cfg.quiet) {
			continue
		}
		if cfg.dryRun {
			_, part, err := list.nextPart(ctx)
			if err == nil && part == nil {
				return nil
			}
			continue
		}
		if done, err := list.isDone(ctx, cfg.wanted, time.Now().Add(cfg.quiet)); err == nil && done {
			return nil
		}
	}
}

// tickPause is how often progress is shown.
const tickPause = 500 * time.Millisecond

// tell prints the summary and writes the report, or says what a run would do.
func tell(ctx context.Context, out io.Writer, cfg config, list *catalog, w *writer, shown progress) error {
	counts, err := list.counts(ctx, cfg.wanted)
	if err != nil {
		return err
	}
	if cfg.dryRun {
		e, err := estimateOf(ctx, list, cfg)
		if err == nil {
			shown.estimate(e)
		}
		return err
	}
	pages, err := writeReport(ctx, list, w, cfg, counts)
	if err != nil {
		return onDisk(err)
	}
	shown.summary(counts, pages)
	return nil
}
