package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestConfig sets the environment, and so does not run beside others.
func TestConfig(t *testing.T) {
	t.Setenv("GATEWAY_DSN", "postgres://user:PASSWORD@host/environment")
	t.Setenv("GATEWAY_TOKEN", "TOKEN-of-the-environment")
	parse := func(args ...string) (cfg config, help string, err error) {
		cfg = defaults()
		var out bytes.Buffer
		set := flag.NewFlagSet("gateway", flag.ContinueOnError)
		set.SetOutput(&out)
		cfg.flags(set)
		set.Usage()
		err = set.Parse(args)
		return cfg, out.String(), err
	}
	cfg, help, err := parse()
	if err != nil || cfg.dsn != "" || cfg.token != "" {
		t.Errorf("the demo would use the database of the environment: %v, %v", cfg.dsn, err)
	}
	if strings.Contains(help, "PASSWORD") || strings.Contains(help, "TOKEN-") {
		t.Errorf("-help tells secrets:\n%s", help)
	}
	if !strings.Contains(help, "one file may have (default 256)") || !strings.Contains(help, "to keep there (default 4096)") {
		t.Errorf("-help does not tell the sizes:\n%s", help)
	}
	if err = cfg.complete(); err != nil || !strings.HasSuffix(cfg.dsn, "/environment") || cfg.token != "TOKEN-of-the-environment" {
		t.Errorf("got %v, %v", cfg.dsn, err)
	}
	if cfg, _, err = parse("-dsn", "flag", "-cache-size", "3", "-max-file", "2", "-keep", "48h"); err != nil {
		t.Fatal(err)
	}
	if err = cfg.complete(); err != nil || cfg.dsn != "flag" || cfg.cache.limit != 3<<20 || cfg.cache.largest != 2<<20 || cfg.keep != 48*time.Hour {
		t.Errorf("got %+v, %v", cfg, err)
	}
	if _, _, err = parse("-cache-size", "3GB"); err == nil || !strings.Contains(err.Error(), "MB") {
		t.Errorf("got %v", err)
	}
	for _, flag := range []string{"-max-requests", "-max-downloads", "-max-file", "-timeout"} {
		value := "0"
		if cfg, _, err = parse(flag, value); err != nil {
			t.Fatal(err)
		}
		if err = cfg.complete(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("%s %s: got %v", flag, value, err)
		}
	}
}

func TestDatabaseThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	const dsn = "host=127.0.0.1 port=1 user=nobody connect_timeout=1"
	if err := waitForDB(ctx, dsn, nil); err == nil {
		t.Error("a database that is not there answers")
	}
	ended := make(chan struct{})
	close(ended)
	if err := waitForDB(t.Context(), dsn, ended); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("its server has ended: %v", err)
	}
}

// The defaults in the README are those of the program.
func TestReadmeHasTheDefaults(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	cfg := defaults()
	set := flag.NewFlagSet("gateway", flag.ContinueOnError)
	cfg.flags(set)
	found := regexp.MustCompile("`-max-file`, `-max-downloads`, `-max-requests` [|] ([0-9]+) MB, ([0-9]+), ([0-9]+) ").FindStringSubmatch(string(readme))
	if found == nil {
		t.Fatal("the README has no line about -max-file")
	}
	for i, name := range []string{"max-file", "max-downloads", "max-requests"} {
		if got := set.Lookup(name).DefValue; got != found[i+1] {
			t.Errorf("-%s is %s, and the README says %s", name, got, found[i+1])
		}
	}
}
