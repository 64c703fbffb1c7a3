package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// A config is what the gateway is started with. What it says of itself stands in flags.
type config struct {
	dsn     string // PostgreSQL
	listen  string
	host    string // that a proxy in front passes on
	token   string // that every caller must send; "" if none is needed
	timeout time.Duration
	keep    time.Duration // of messages; 0 for ever
	drain   time.Duration // how long requests are still taken once the gateway is not ready any more
	cache   cacheConfig
	// requests is how many requests for media may run at once.
	requests int
	log      *slog.Logger
	// peerURL is where other gateways on the database reach this one.
	peerURL string
	leases  leaseTimes
	lost    int // how often this process has lost its leases
	// settle is how long requests wait for an account that has just come to this process.
	settle time.Duration
	// transport leads to WhatsApp. That of the demo leads to a server in this process.
	transport http.RoundTripper
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
		leases:   usualTimes,
		settle:   15 * time.Second,
		// A copy, as whatsmeow makes one for each client.
		transport: http.DefaultTransport.(*http.Transport).Clone(),
	}
}

// flags adds the flags that set the config. Secrets can come from the environment, as everybody on
// a machine can see its command lines.
func (cfg *config) flags(set *flag.FlagSet) {
	set.StringVar(&cfg.dsn, "dsn", "", "the PostgreSQL `database`, such as postgres://user:password@host/gateway (default $GATEWAY_DSN)")
	set.StringVar(&cfg.listen, "listen", cfg.listen, "the `address` to listen on; beyond this machine only with $GATEWAY_TOKEN")
	set.StringVar(&cfg.host, "host", "", "the `name` that a proxy in front is asked by, if it passes that on")
	set.StringVar(&cfg.peerURL, "peer-url", "", "the `URL` where other gateways on the database reach this one (default by -listen, or by the host's name)")
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

// peer returns where others reach a gateway that listens on an address.
func (cfg *config) peer(listening net.Addr) (string, error) {
	if cfg.peerURL != "" {
		u, err := url.Parse(cfg.peerURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return "", errors.New("-peer-url is a URL such as http://gateway-1:8080, without a path")
		}
		return u.Scheme + "://" + u.Host, nil
	}
	host, port, err := net.SplitHostPort(listening.String())
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil {
			return "", fmt.Errorf("name this gateway with -peer-url: %w", err)
		}
	}
	return "http://" + net.JoinHostPort(host, port), nil
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
