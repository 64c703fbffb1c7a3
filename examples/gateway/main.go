// Gateway serves the media of several WhatsApp accounts over HTTP, however old it is.
// WhatsApp's sessions, the index of reupload and the gateway's own table of messages share
// one PostgreSQL database.
//
//	go run . -demo                                        # try it without an account and without a network
//	go run . -dsn postgres://user:password@host/gateway   # listens on 127.0.0.1:8080
//
// README.md lists the endpoints, and says which file has what.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"go.mau.fi/whatsmeow/store"
)

func main() {
	cfg := defaults()
	cfg.flags(flag.CommandLine)
	withDemo := flag.Bool("demo", false, "show in a minute what the gateway does; without -dsn in a PostgreSQL of its own")
	format := flag.String("log-format", "text", "text or json")
	verbose := flag.Bool("v", false, "log what whatsmeow does as well")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	store.SetOSInfo("reupload gateway", [3]uint32{1, 0, 0}) // the name in the phone's list of linked devices

	// A second signal ends the process at once, as stop gives signals back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var err error
	if cfg.log, err = newLog(os.Stdout, *format, level); err != nil {
	} else if *withDemo {
		err = demo(ctx, os.Stdout, cfg.dsn)
	} else if err = cfg.complete(); err == nil {
		err = run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway: "+redact(err.Error()))
		os.Exit(1)
	}
}

// run runs the gateway until the context ends, which is no error. If the leases are lost it begins
// again, as a new process does.
func run(ctx context.Context, cfg config) error {
	address, err := cfg.address()
	if err != nil {
		return err
	}
	listener, err := net.ListenTCP("tcp", address)
	if err != nil {
		return fmt.Errorf("name another address with -listen: %w", err)
	}
	defer listener.Close()
	if cfg.peerURL, err = cfg.peer(listener.Addr()); err != nil {
		return err
	}
	g, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	s := startServer(ctx, &cfg, listener, g.handler())
	defer s.cancel()
	cfg.log.Info("Listening", "url", "http://"+listener.Addr().String())
	for {
		err = s.serve(ctx, g)
		g.close()
		if !errors.Is(err, errNoLease) {
			return err
		}
		cfg.lost++
		if g, err = reopen(ctx, cfg); err != nil {
			return s.end(ctx, cfg.drain)
		}
	}
}

// reopenTime is how long it may take to open the gateway again before that is tried again.
const reopenTime = 30 * time.Second

// reopen opens the gateway again when the leases were lost. The error is the context's.
func reopen(ctx context.Context, cfg config) (*gateway, error) {
	for {
		limited, cancel := context.WithTimeout(ctx, reopenTime)
		g, err := open(limited, cfg)
		cancel()
		if err == nil {
			cfg.log.Info("Joined the other gateways again")
			return g, nil
		}
		cfg.log.Warn("The gateway cannot go on yet; it is tried again", "error", err)
		select {
		case <-time.After(cfg.leases.beat):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// shutdownTime is how long requests that run have to end by themselves.
const shutdownTime = 5 * time.Second

// A server hands requests to the gateway that there is: one after the other, if leases are lost.
type server struct {
	http    *http.Server
	current atomic.Pointer[http.Handler]
	cancel  context.CancelFunc // of requests
	ended   chan error
}

// startServer begins to accept requests. The handler gets the first one too. It closes the listener
// in the end.
func startServer(ctx context.Context, cfg *config, listener net.Listener, handler http.Handler) *server {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s := &server{cancel: cancel, ended: make(chan error, 1)}
	s.show(handler)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*s.current.Load()).ServeHTTP(w, r) }),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(cfg.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// Longer than it takes to get the file, so that a phone that does not answer makes a 504
		// and not a broken connection.
		WriteTimeout: cfg.patience() + 10*time.Minute,
		IdleTimeout:  2 * time.Minute,
	}
	go func() { s.ended <- s.http.Serve(listener) }()
	return s
}

func (s *server) show(handler http.Handler) { s.current.Store(&handler) }

// standIn answers while there is no gateway.
func standIn(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/livez" {
		writeJSON(w, http.StatusOK, map[string]string{"status": "alive"})
		return
	}
	fail(w, failureOf(errAway))
}

// serve serves requests with a gateway until the context ends. The error is errNoLease if the
// gateway has lost its leases; then there can be another one.
func (s *server) serve(ctx context.Context, g *gateway) error {
	s.show(g.handler())
	select {
	case err := <-s.ended:
		return err
	case <-g.leases.lost:
		s.show(http.HandlerFunc(standIn))
		return errNoLease
	case <-ctx.Done():
	}
	g.draining.Store(true)
	g.log.Info("Shutting down")
	return s.end(ctx, g.cfg.drain)
}

// end ends the server, when requests have been taken for a while still.
func (s *server) end(ctx context.Context, drain time.Duration) error {
	ctx = context.WithoutCancel(ctx)
	select { // until a load balancer has seen that no more requests are wanted
	case <-time.After(drain):
	case err := <-s.ended:
		return err
	}
	if err := s.shutdown(ctx); err != nil {
		s.cancel() // a caller that still waits for a phone gets 503
		if err = s.shutdown(ctx); err != nil {
			_ = s.http.Close()
		}
	}
	if err := <-s.ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *server) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	return s.http.Shutdown(ctx)
}

// serve serves requests until the context ends. It closes the listener.
func (g *gateway) serve(ctx context.Context, listener net.Listener) error {
	s := startServer(ctx, &g.cfg, listener, g.handler())
	defer s.cancel()
	return s.serve(ctx, g)
}
