// Backfill fetches all files that can still be had of a WhatsApp account into folders by chat and
// month: what WhatsApp's servers still have, and from the phone what they have forgotten.
//
//	go run . -demo                        # try it without an account and without a network
//	go run . -demo -dir try               # the same, and the files and the report stay in try
//	go run .                              # link it by scanning a QR code, and fetch
//	go run . -dry-run                     # count only
//
// It can be stopped at any time, by Ctrl+C, by kill -9 and by a power cut, and goes on where it
// was when it is started again.
//
// What has to do with reupload is in account.go, where it is registered, and in fetch.go, where
// files are downloaded. history.go reads what WhatsApp sends of the past, and older.go asks for
// more. catalog.go keeps what is to be fetched, plan.go decides when and what follows, writer.go
// and names.go have the files on the disk, and report.go makes the pages.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/term"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// A config is what the backfill is started with.
type config struct {
	db      string // the SQLite file
	dir     string // where files are saved
	phone   string // to link by a code; empty: by QR code
	dryRun  bool
	json    bool // events for programs in place of a progress bar
	wanted  filter
	plan    plan
	retry   string // stateLost or stateFailed, to try these now; or empty
	older   bool   // ask the phone for older history
	workers int    // downloads at once of each lane

	quiet    time.Duration // the history counts as complete when nothing of it has come for so long
	timeout  time.Duration // how long one request waits for the phone; 0 for the default
	patience time.Duration // how long downloads have when the run is interrupted
	terminal bool          // a person looks at the output
	log      waLog.Logger  // nil for the program's own
	verbose  bool
	// newClient is whatsmeow.NewClient if it is nil. The demo's clients go to a server in another
	// process.
	newClient func(*store.Device, waLog.Logger) (*whatsmeow.Client, error)
	// writer, if it is set, replaces the parts of the writer that a test of a bad disk needs.
	writer func(*writer)
}

// runWorkers is how many files are downloaded at once in each lane.
const runWorkers = 8

// The exit codes.
const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130 // as a shell has it
)

func main() {
	cfg, isDemo, err := configOf(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "backfill: "+err.Error())
		}
		os.Exit(exitUsage)
	}
	// A second signal ends the process at once, as stop gives signals back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	switch {
	case isDemo:
		err = demo(ctx, os.Stdout, cfg.dir)
	case os.Getenv(demoVariable) != "": // a run that the demo has started
		err = runOfDemo(ctx, cfg, os.Getenv(demoVariable))
	default:
		err = run(ctx, os.Stdout, os.Stderr, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "backfill: "+redact(err.Error()))
		os.Exit(exitFailed)
	}
	if ctx.Err() != nil {
		os.Exit(exitInterrupted)
	}
}

// configOf reads the flags.
func configOf(args []string, out io.Writer) (cfg config, isDemo bool, err error) {
	flags := flag.NewFlagSet("backfill", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&cfg.db, "db", "backfill.db", "the SQLite `file` with WhatsApp's session and the catalog; keep it secret")
	flags.StringVar(&cfg.dir, "dir", "media", "the `directory` that files and the report are saved in")
	flags.StringVar(&cfg.phone, "phone", "", "link by a code, with this phone `number`, such as +491701234567")
	flags.BoolVar(&cfg.dryRun, "dry-run", false, "count what there is, and say how long it will take; save nothing, and do not ask the phone")
	flags.StringVar(&cfg.wanted.chat, "chat", "", "only this `chat`: a part of its name, or a phone number")
	since := flags.String("since", "", "only files sent on this `day` or later, such as 2024-01-31")
	before := flags.String("before", "", "only files sent before this `day`")
	types := flags.String("types", "", "only these `kinds`, such as image,video; also audio, document, sticker, sticker-pack, other")
	flags.BoolVar(&cfg.wanted.statuses, "status", false, "also what people had in their status")
	flags.BoolVar(&cfg.wanted.newsletters, "newsletters", false, "also what newsletters (channels) have sent")
	hours := flags.String("hours", "", "ask the phone only in these `hours`, such as 1-6; it should be charging then, and online")
	flags.IntVar(&cfg.plan.perDay, "per-day", 2000, "ask the phone for no more than so many `files` a day; 0 for no limit")
	flags.DurationVar(&cfg.plan.pace, "pace", time.Second, "the least `time` between two requests to the phone")
	flags.StringVar(&cfg.retry, "retry", "", "try now what is `lost` (the phone does not have it) or failed (its time has not come)")
	flags.BoolVar(&cfg.older, "older", true, "ask the phone for messages that are older than the history it sends by itself")
	flags.DurationVar(&cfg.quiet, "quiet", 2*time.Minute, "end when nothing is left to do, and nothing of the history has come for this `time`")
	flags.BoolVar(&cfg.json, "json", false, "print one JSON object a line for each event")
	flags.BoolVar(&cfg.verbose, "v", false, "log what whatsmeow does as well")
	flags.BoolVar(&isDemo, "demo", false, "show in a minute what it does, without an account and a network; with -dir, the files stay there")
	if err = flags.Parse(args); err != nil {
		return cfg, false, err
	}
	named := false
	flags.Visit(func(f *flag.Flag) { named = named || f.Name == "dir" })
	if isDemo && !named {
		cfg.dir = ""
	}
	cfg.workers, cfg.patience = runWorkers, 8*time.Second
	cfg.terminal = !cfg.json && term.IsTerminal(int(os.Stdout.Fd()))
	for _, wrong := range []error{
		set(&cfg.wanted.since, dayOf, *since),
		set(&cfg.wanted.before, dayOf, *before),
		set(&cfg.wanted.kinds, kindsOf, *types),
		set(&cfg.plan.hours, hoursOf, *hours),
	} {
		err = errors.Join(err, wrong)
	}
	if flags.NArg() > 0 {
		err = errors.Join(err, fmt.Errorf("%q is no flag", flags.Arg(0)))
	}
	if err == nil {
		err = cfg.check()
	}
	return cfg, isDemo, err
}

// set sets a value to what a text says.
func set[T any](value *T, read func(string) (T, error), text string) (err error) {
	*value, err = read(text)
	return err
}

// check returns what is wrong with a config.
func (cfg config) check() error {
	switch {
	case cfg.retry != "" && cfg.retry != stateLost && cfg.retry != stateFailed:
		return fmt.Errorf("-retry is %q; it can be lost or failed", cfg.retry)
	case cfg.plan.perDay < 0 || cfg.plan.pace < 0 || cfg.quiet < 0:
		return errors.New("-per-day, -pace and -quiet must not be negative")
	}
	return cfg.wanted.check()
}
