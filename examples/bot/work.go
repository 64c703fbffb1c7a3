package main

import (
	"errors"
	"sync"
)

// Why a pool takes no work.
var (
	errBusy   = errors.New("too much is waiting already")
	errEnding = errors.New("the bot is ending")
)

// A pool does work on a few goroutines, in order. How much can wait is bounded, since anybody can
// send the bot anything.
type pool struct {
	mu      sync.Mutex
	jobs    chan func() // nil after close
	workers sync.WaitGroup
}

func newPool(workers, waiting int) *pool {
	jobs := make(chan func(), waiting)
	p := &pool{jobs: jobs}
	for range workers {
		p.workers.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	return p
}

// offer hands work to the pool, and never blocks. The error is errBusy or errEnding.
func (p *pool) offer(job func()) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.jobs == nil {
		return errEnding
	}
	select {
	case p.jobs <- job:
		return nil
	default:
		return errBusy
	}
}

// close lets the pool take no more work. What it has taken is still done, and wait waits for that.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.jobs != nil {
		close(p.jobs)
		p.jobs = nil
	}
}

func (p *pool) wait() { p.workers.Wait() }
