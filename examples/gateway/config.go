package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// A config is what the gateway is started with. What it says of itself stands in flags.
type config struct {
	dsn     string // PostgreSQL
	listen  string
	host    string // that a proxy in front passes on
	token   string // that whoever asks must know; "" for nobody
	timeout time.Duration
	keep    time.Duration // of messages; 0 for ever
	drain   time.Duration // how long requests are still taken once the gateway is not ready any more
	cache   cacheConfig
	// requests is how many requests for media may run at once.
	requests int
	log      *slog.Logger
	// newClient is whatsmeow.NewClient if it is nil. The demo's clients go to a server
	// in this process.
	newClient func(*store.Device, waLog.Logger) *whatsmeow.Client
	// wrapStore is for tests that make the storing of a message fail.
	wrapStore func(storeFunc) storeFunc
}

// defaults returns the config that a gateway has without any flag.
func defaults() config {
	return config{
		listen:   "127.0.0.1:8080",
		timeout:  30 * time.Second,
		requests: 256,
		cache:    cacheConfig{limit: 4 << 30, largest: 256 << 20, parallel: 32},
		log:      slog.New(slog.DiscardHandler),
	}
}

// flags adds the flags that set the config. Secrets can come from the environment, as everybody on
// a machine can see its command lines.
func (cfg *config) flags(set *flag.FlagSet) {
	set.StringVar(&cfg.dsn, "dsn", "", "the PostgreSQL `database`, such as postgres://user:password@host/gateway (default $GATEWAY_DSN)")
	set.StringVar(&cfg.listen, "listen", cfg.listen, "the `address` to listen on; beyond this machine only with $GATEWAY_TOKEN")
	set.StringVar(&cfg.host, "host", "", "the `name` that a proxy in front is asked by, if it passes that on")
	set.DurationVar(&cfg.timeout, "timeout", cfg.timeout, "how long a request waits for a phone")
	set.DurationVar(&cfg.keep, "keep", 0, "how long messages are kept after they were sent, such as 8760h (default for ever)")
	set.DurationVar(&cfg.drain, "drain", 0, "how long to take requests after /readyz has begun to say no, for a load balancer to see it")
	set.IntVar(&cfg.requests, "max-requests", cfg.requests, "how many requests for media may run at once")
	set.IntVar(&cfg.cache.parallel, "max-downloads", cfg.cache.parallel, "how many files are downloaded at once")
	set.StringVar(&cfg.cache.dir, "cache-dir", "", "a `directory` of the gateway's own for the files asked for last (default a temporary one)")
	set.Var((*megabytes)(&cfg.cache.limit), "cache-size", "how many `MB` of files to keep there")
	set.Var((*megabytes)(&cfg.cache.largest), "max-file", "how many `MB` one file may have")
}

// complete takes the rest from the environment, and says what cannot be. The demo does without, as
// it must not touch the database that the environment names.
func (cfg *config) complete() error {
	if cfg.dsn == "" {
		cfg.dsn = os.Getenv("GATEWAY_DSN")
	}
	cfg.token = os.Getenv("GATEWAY_TOKEN")
	if cfg.requests < 1 || cfg.cache.parallel < 1 || cfg.cache.largest < 1 || cfg.timeout <= 0 {
		return errors.New("-max-requests, -max-downloads, -max-file and -timeout must be more than 0")
	}
	return nil
}

// shortestToken is how long a token must be at least, so that it cannot be guessed.
const shortestToken = 16

// address returns the address to listen on, or says what is wrong about who could then ask.
func (cfg *config) address() (*net.TCPAddr, error) {
	address, err := net.ResolveTCPAddr("tcp", cfg.listen)
	switch {
	case err != nil:
		return nil, fmt.Errorf("name another address with -listen: %w", err)
	case cfg.token == "" && !address.IP.IsLoopback():
		return nil, fmt.Errorf("others could ask at %s: set GATEWAY_TOKEN to a secret of %d characters or more, or let -listen name 127.0.0.1",
			cfg.listen, shortestToken)
	case cfg.token != "" && len(cfg.token) < shortestToken:
		return nil, fmt.Errorf("GATEWAY_TOKEN must have %d characters or more, such as openssl rand -hex 32 makes", shortestToken)
	case strings.TrimSpace(cfg.token) != cfg.token:
		return nil, errors.New("GATEWAY_TOKEN begins or ends with a space or a line break; remove it")
	}
	return address, nil
}

// megabytes is a flag for a number of bytes.
type megabytes int64

func (m *megabytes) String() string { return strconv.FormatInt(int64(*m)>>20, 10) }

func (m *megabytes) Set(s string) error {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return errors.New("name a whole number of MB, without a unit")
	}
	*m = megabytes(n << 20)
	return nil
}
