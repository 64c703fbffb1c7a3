// Bot is a complete WhatsApp bot whose media does not expire. It saves every picture, video, audio
// and document that it sees, and saves the old one that somebody replies !get to. It has one SQLite
// file for everything.
//
//	go run . -demo                        # try it without an account and without a network
//	go run .                              # link it by scanning a QR code
//	go run . -phone +491701234567         # link it by typing a code on the phone
//
// This file starts with all that has to do with reupload. bot.go has the bot, from its start
// to its end, link.go how it gets an account, save.go its files, reply.go what it says, and
// demo.go the demo.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/store"
	waLog "go.mau.fi/whatsmeow/util/log"

	"github.com/whatsmeow-plugins/reupload"
	"github.com/whatsmeow-plugins/reupload/sqlindex"
)

// install is all that a bot has to do: keep an index in the database that it has anyway, and call
// Register. After that each client.Download heals, of what came before a restart too.
func install(ctx context.Context, client *whatsmeow.Client, db *sql.DB) (*reupload.Plugin, error) {
	index, err := sqlindex.New(ctx, db, dialect)
	if err != nil {
		return nil, err
	}
	return reupload.Register(client, &reupload.Options{Index: index}) // before Connect, and before other event handlers
}

// A config is what the bot is started with.
type config struct {
	db    string // the SQLite file
	dir   string // where media is saved
	phone string // to link by a code; empty: by QR code
	log   waLog.Logger
	// newClient is whatsmeow.NewClient if it is nil. The demo's clients go to a server
	// in this process.
	newClient func(*store.Device, waLog.Logger) (*whatsmeow.Client, error)
}

func main() {
	var cfg config
	flag.StringVar(&cfg.db, "db", "bot.db", "the SQLite `file` with WhatsApp's session and the index; keep it secret")
	flag.StringVar(&cfg.dir, "dir", "media", "the `directory` that media is saved in; each bot needs one of its own")
	flag.StringVar(&cfg.phone, "phone", "", "link by a code, with this phone `number`, such as +491701234567")
	withDemo := flag.Bool("demo", false, "show in a minute what the bot does, without an account and a network")
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
	cfg.log = waLog.Stdout("Bot", level, false)

	store.SetOSInfo("reupload bot", [3]uint32{1, 0, 0}) // the name in the phone's list of linked devices

	// A second signal ends the process at once, as stop gives signals back to the runtime.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	var err error
	if *withDemo {
		err = demo(ctx, os.Stdout)
	} else {
		err = run(ctx, os.Stdout, cfg)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bot: "+redact(err.Error()))
		os.Exit(1)
	}
}

// run runs the bot until the context ends, which is no error.
func run(ctx context.Context, out io.Writer, cfg config) error {
	b, err := openBot(ctx, cfg)
	if err != nil {
		return err
	}
	defer b.close()
	if err = b.connect(ctx, out, cfg.phone); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	select {
	case err = <-b.ended:
		return err
	case <-ctx.Done():
		cfg.log.Infof("Shutting down")
		return nil
	}
}
