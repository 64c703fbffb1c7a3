// Command mutate changes the code in small ways, one at a time, and tells which changes no test
// notices: scripts/mutate -h says how.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "mutate:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	seed := flag.Uint64("seed", 1, "which mutations are drawn")
	count := flag.Int("n", 300, "how many")
	skip := flag.Int("skip", 0, "how many to leave out first, to go on where an earlier run has ended")
	only := flag.String("only", "", "only of files whose path begins so, as queue.go or sqlindex/")
	list := flag.Bool("list", false, "only list them")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "scripts/mutate [flags]")
		fmt.Fprintln(flag.CommandLine.Output(), "\nChanges the code in small ways, one at a time, runs the tests that are about it, and tells what none notices.")
		flag.PrintDefaults()
	}
	flag.Parse()

	files, err := sources(*only)
	if err != nil {
		return err
	}
	all, err := mutationsOf(files)
	if err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })

	scratch, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	var total tally
	for i, m := range all[min(*skip, len(all)):] {
		if ctx.Err() != nil || total.noticed+total.survived == *count {
			break
		}
		if *list {
			fmt.Println(m)
			total.survived++
			continue
		}
		began := time.Now()
		result, by, err := try(ctx, scratch, m)
		if err != nil {
			return err
		}
		total.add(result)
		fmt.Printf("%4d %-8s %4.0fs  %s  %s\n", *skip+i, result, time.Since(began).Seconds(), m, by)
	}
	if *list {
		return nil
	}
	fmt.Printf("seed %d: %d mutations, %d noticed (%.1f%%), %d not; %d more did not compile\n", *seed, total.noticed+total.survived,
		total.noticed, 100*float64(total.noticed)/float64(max(1, total.noticed+total.survived)), total.survived, total.invalid)
	return ctx.Err()
}

// A tally counts results.
type tally struct{ noticed, survived, invalid int }

func (t *tally) add(r result) {
	switch r {
	case noticed:
		t.noticed++
	case survived:
		t.survived++
	case invalid:
		t.invalid++
	}
}

// notMutated are the packages that have no behaviour of their own to lose: these tools, and the
// simulated world, which is a test.
var notMutated = []string{"internal/mutate/", "internal/curves/", "simulation/"}

// sources lists the files that can be mutated: what git knows, without tests.
func sources(prefix string) ([]string, error) {
	out, err := exec.Command("git", "ls-files", "*.go").Output()
	if err != nil {
		return nil, fmt.Errorf("git ls-files: %w", err)
	}
	var files []string
	for file := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		if strings.HasSuffix(file, "_test.go") || !strings.HasPrefix(file, prefix) || isNotMutated(file) {
			continue
		}
		files = append(files, file)
	}
	if len(files) == 0 {
		return nil, errors.New("no file's path begins with " + prefix)
	}
	return files, nil
}

func isNotMutated(file string) bool {
	for _, dir := range notMutated {
		if strings.HasPrefix(file, dir) {
			return true
		}
	}
	return strings.Contains(filepath.ToSlash(file), "/testdata/")
}
