// Demo shows what happens when a WhatsApp bot downloads a picture that has expired. It needs no
// account, no network and no configuration: chat server, phone and CDN run in this process, and an
// unmodified whatsmeow client logs in to them.
//
//	go run ./examples/demo                   # the phone uploads the picture again
//	go run ./examples/demo -fault offline    # the phone does not answer; -h lists what else can happen
//	go run ./examples/demo -v                # with whatsmeow's own log
//
// It exits with 0 only if everything went as it has to.
//
// This file has the bot, which is all that a bot has to write. stage.go builds the world around it,
// faults.go lists what the phone can do, and narrator.go prints what happens.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/types/events"

	"github.com/whatsmeow-plugins/reupload"
)

// startBot starts a bot that downloads each picture it gets. The call of Register is all that it
// has to do with reupload; the options can be nil.
func startBot(ctx context.Context, client *whatsmeow.Client, opts *reupload.Options, got func(download)) (*reupload.Plugin, error) {
	plugin, err := reupload.Register(client, opts) // before Connect, and before other event handlers
	if err != nil {
		return nil, err
	}
	client.AddEventHandler(func(evt any) {
		msg, ok := evt.(*events.Message)
		if !ok || msg.Message.GetImageMessage() == nil {
			return
		}
		start := time.Now()
		data, err := client.Download(ctx, msg.Message.GetImageMessage()) // plain whatsmeow, right inside the handler
		got(download{msg.Message.GetImageMessage(), data, err, time.Since(start)})
	})
	return plugin, client.Connect()
}

func main() {
	name := flag.String("fault", "success", "what happens: a `name` of the list below")
	verbose := flag.Bool("v", false, "show whatsmeow's own log as well")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "Usage: go run ./examples/demo [-fault name] [-v]")
		flag.PrintDefaults()
		fmt.Fprint(flag.CommandLine.Output(), "\nFaults:\n"+listOfFaults())
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout, *name, *verbose)
	stop()
	switch {
	case errors.Is(err, errUnknownFault):
		fmt.Fprintf(os.Stderr, "demo: %v. There are:\n%s", err, listOfFaults())
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, redact("demo: "+err.Error()))
		os.Exit(1)
	}
}
