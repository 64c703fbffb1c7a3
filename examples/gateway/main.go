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

// run runs the gateway until the context ends, which is no error.
func run(ctx context.Context, cfg config) error {
	address, err := cfg.address()
	if err != nil {
		return err
	}
	g, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer g.close()
	listener, err := net.ListenTCP("tcp", address)
	if err != nil {
		return fmt.Errorf("name another address with -listen: %w", err)
	}
	cfg.log.Info("Listening", "url", "http://"+listener.Addr().String())
	return g.serve(ctx, listener)
}

// shutdownTime is how long requests that run have to end by themselves.
const shutdownTime = 5 * time.Second

// serve serves requests until the context ends. It closes the listener.
func (g *gateway) serve(ctx context.Context, listener net.Listener) error {
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	server := &http.Server{
		Handler:           g.handler(),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ErrorLog:          slog.NewLogLogger(g.log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// Longer than it takes to get the file, so that a phone that does not answer makes a 504
		// and not a broken connection.
		WriteTimeout: g.cfg.patience() + 10*time.Minute,
		IdleTimeout:  2 * time.Minute,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	g.draining.Store(true)
	g.log.Info("Shutting down")
	select { // until a load balancer has seen that no more requests are wanted
	case <-time.After(g.cfg.drain):
	case err := <-ended:
		return err
	}
	if err := shutdown(requests, server); err != nil {
		cancel() // who still waits for a phone gets 503
		if err = shutdown(context.WithoutCancel(requests), server); err != nil {
			_ = server.Close()
		}
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func shutdown(ctx context.Context, server *http.Server) error {
	ctx, cancel := context.WithTimeout(ctx, shutdownTime)
	defer cancel()
	return server.Shutdown(ctx)
}
