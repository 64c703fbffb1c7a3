// Simulate lets bots live in worlds that are made up at random. scripts/simulate -h says how.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/whatsmeow-plugins/reupload/simulation"
)

func main() {
	if simulation.IsWorker() {
		simulation.Work()
		return
	}
	flags := flag.NewFlagSet("simulate", flag.ExitOnError)
	run := simulation.Flags(flags)
	_ = flags.Parse(os.Args[1:])
	ok, err := run(os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}
