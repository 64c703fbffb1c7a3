// Gateway serves the media of several WhatsApp accounts over HTTP, however old it is. WhatsApp's sessions, the index of reupload
// and the gateway's own table of messages share one PostgreSQL database.
//
//	go run . -demo                                        # try it without an account and without a network
//	go run . -dsn postgres://user:password@host/gateway   # listens on 127.0.0.1:8080
//
//	POST /accounts {"phone": "+491701234567"}             links an account by a code
//	GET  /accounts                                        lists them
//	GET  /accounts/491701234567/chats/447700900123@s.whatsapp.net/messages/3EB0C0FFEE/media
//
// accounts.go has the clients and all that has to do with reupload, http.go the endpoints, status.go what status an error gets,
// messages.go the table. demo.go has the demo, with a private server of postgres.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// A config is what the gateway is started with.
type config struct {
	dsn     string // PostgreSQL
	listen  string
	host    string        // that a proxy in front passes on
	timeout time.Duration // Options.Timeout of reupload
	log     waLog.Logger
	// newClient is whatsmeow.NewClient if it is nil. The demo's clients go to a server in this process.
	newClient func(*store.Device, waLog.Logger) *whatsmeow.Client
}

func main() {
	var cfg config
	flag.StringVar(&cfg.dsn, "dsn", "", "the PostgreSQL `database`, such as postgres://user:password@host/gateway")
	flag.StringVar(&cfg.listen, "listen", "127.0.0.1:8080", "the `address` to listen on; the gateway has no log-in of its own")
	flag.StringVar(&cfg.host, "host", "", "the `name` that a proxy in front is asked by, if it passes that on")
	flag.DurationVar(&cfg.timeout, "timeout", 30*time.Second, "how long a request waits for a phone")
	withDemo := flag.Bool("demo", false, "show in a minute what the gateway does; without -dsn in a PostgreSQL of its own")
	verbose := flag.Bool("v", false, "log what whatsmeow does as well")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	level := "INFO"
	if *verbose {
		level = "DEBUG"
	}
	cfg.log = waLog.Stdout("Gateway", level, false)
	store.SetOSInfo("reupload gateway", [3]uint32{1, 0, 0}) // the name in the phone's list of linked devices

	// A second signal ends the process at once, as stop gives signals back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var err error
	if *withDemo {
		err = demo(ctx, os.Stdout, cfg.dsn)
	} else {
		err = run(ctx, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateway: "+redact(err.Error()))
		os.Exit(1)
	}
}

// run runs the gateway until the context ends, which is no error.
func run(ctx context.Context, cfg config) error {
	g, err := open(ctx, cfg)
	if err != nil {
		return err
	}
	defer g.close()
	listener, err := net.Listen("tcp", cfg.listen)
	if err != nil {
		return fmt.Errorf("name another address with -listen: %w", err)
	}
	cfg.log.Infof("Listening on http://%s", listener.Addr())
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
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		// Longer than it takes to get the file, so that a phone that does not answer makes a 504 and not a broken connection.
		WriteTimeout: g.patience() + 10*time.Minute,
		IdleTimeout:  2 * time.Minute,
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	g.log.Infof("Shutting down")
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
