// Doctor is a field kit for a person who has a WhatsApp account: it asks the account's phone for a
// few old files, slowly, and writes down what WhatsApp and the phone do. What it finds answers
// questions that take an account to answer, and is a test for everybody afterwards.
//
//	go run . -demo                        # try it without an account and without a network
//	go run . -db ../bot/bot.db            # with the session of examples/bot, which must not run meanwhile
//	go run .                              # link it by scanning a QR code
//
// It can be stopped at any time, and should be run again: an hour, a day and a week later. It then
// says what has come meanwhile, and whether the paths that the phone has told are still good.
//
// questions.go has the questions, and what answers them. run.go is one run from its start to its
// end; it chooses files in choose.go, asks for them in ask.go, hears the answers in hear.go, and
// looks at the CDN in cdn.go. state.go keeps what was seen between two runs, and report.go makes of
// it what may be shown. account.go and link.go are the connection, and demo.go the demo.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// A config is what the doctor is started with.
type config struct {
	db     string // the SQLite file with the session and the index
	state  string // what was seen so far; secret
	record string // what may be shown of it
	phone  string // to link by a code; empty: by QR code

	files int           // the most that the phone is asked for in this run
	pause time.Duration // between two of them
	wait  time.Duration // for an answer
	yes   bool          // do not ask the person anything

	quiet time.Duration // the history of a new session counts as complete when nothing of it has come for so long
	in    *bufio.Reader // where the person answers
	// newClient is whatsmeow.NewClient if it is nil, and media http.DefaultTransport. The demo's
	// lead to a WhatsApp in this process.
	newClient func(*store.Device, waLog.Logger) (*whatsmeow.Client, error)
	media     http.RoundTripper
}

func main() {
	cfg, isDemo, err := configOf(os.Args[1:], os.Stderr)
	if err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "doctor: "+err.Error())
		}
		os.Exit(2)
	}
	cfg.in = bufio.NewReader(os.Stdin)
	store.SetOSInfo("reupload doctor", [3]uint32{1, 0, 0}) // the name in the phone's list of linked devices

	// A second signal ends the process at once, as stop gives signals back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if isDemo {
		err = demo(ctx, os.Stdout)
	} else {
		err = run(ctx, os.Stdout, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "doctor: "+redact(err.Error()))
		os.Exit(1)
	}
}

// The limits of the flags: more, or faster, is no longer a question to a phone but a burden.
const (
	mostFiles     = 20
	shortestPause = 5 * time.Second
	shortestWait  = 10 * time.Second
)

// configOf reads the flags.
func configOf(args []string, out io.Writer) (cfg config, isDemo bool, err error) {
	flags := flag.NewFlagSet("doctor", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&cfg.db, "db", "doctor.db", "the SQLite `file` with WhatsApp's session and the index; keep it secret")
	flags.StringVar(&cfg.state, "state", "doctor.json", "the `file` with what was seen so far; keep it secret")
	flags.StringVar(&cfg.record, "record", "doctor-record.json", "the `file` with what may be shown of that")
	flags.StringVar(&cfg.phone, "phone", "", "link by a code, with this phone `number`, such as +491701234567")
	flags.IntVar(&cfg.files, "files", 5, fmt.Sprintf("ask the phone for so many files at the most, up to %d; 0 to look and listen only", mostFiles))
	flags.DurationVar(&cfg.pause, "pause", 30*time.Second, "the `time` from one file to the next")
	flags.DurationVar(&cfg.wait, "wait", 30*time.Second, "the `time` that an answer is waited for before the file is asked for by its other name")
	flags.BoolVar(&cfg.yes, "yes", false, "ask the person nothing, for scripts")
	flags.BoolVar(&isDemo, "demo", false, "show in a minute what it does, without an account and a network")
	if err = flags.Parse(args); err != nil {
		return cfg, false, err
	}
	cfg.quiet = time.Minute
	switch {
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is no flag", flags.Arg(0))
	case cfg.files < 0 || cfg.files > mostFiles:
		err = fmt.Errorf("-files is %d; it goes from 0 to %d", cfg.files, mostFiles)
	case cfg.pause < shortestPause:
		err = fmt.Errorf("-pause is %v; it must be %v or more, for the phone's sake", cfg.pause, shortestPause)
	case cfg.wait < shortestWait:
		err = fmt.Errorf("-wait is %v; it must be %v or more", cfg.wait, shortestWait)
	}
	return cfg, isDemo, err
}
