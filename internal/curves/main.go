// Command curves draws what grows with what: scripts/curves -h says how.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// resultsFile is where the benchmarks' own output is kept, from which the curves are drawn.
const resultsFile = "results.txt"

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "curves:", err)
		os.Exit(1)
	}
}

func run() error {
	dir := flag.String("dir", "docs/curves", "where results.txt and the curves are")
	draw := flag.Bool("draw", false, "only draw, from the results that are there")
	rows := flag.String("rows", "1000,10000,100000,1000000", "sizes of the indexes; 10000000 takes an hour, and 10 GB of disk")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "scripts/curves [flags]")
		fmt.Fprintln(flag.CommandLine.Output(), "\nRuns the benchmarks about thousands, some twenty minutes, and draws their curves.")
		flag.PrintDefaults()
	}
	flag.Parse()
	if !*draw {
		if err := measure(*dir, *rows); err != nil {
			return err
		}
	}
	results, err := os.ReadFile(filepath.Join(*dir, resultsFile))
	if err != nil {
		return err
	}
	for name, svg := range drawAll(parse(string(results))) {
		if err := os.WriteFile(filepath.Join(*dir, name), []byte(svg), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// measure runs the benchmarks.
func measure(dir, rows string) error {
	var results bytes.Buffer
	for _, c := range []struct {
		dir, what string
		more      []string
	}{
		{".", "^BenchmarkIdleClients$", []string{"-benchtime", "1x"}},
		{".", "^BenchmarkHealsAtOnce$", []string{"-benchtime", "20x"}},
		{".", "^BenchmarkMemoryIndex$", []string{"-benchtime", "3000x", "-args", "-rows", rows}},
		{"sqlindex/drivertest", "^BenchmarkLook$", []string{"-benchtime", "3000x", "-timeout", "5h", "-args", "-rows", rows}},
	} {
		cmd := exec.Command("go", append([]string{"test", "-run", "^$", "-bench", c.what}, c.more...)...)
		cmd.Dir = c.dir
		cmd.Stdout, cmd.Stderr = io.MultiWriter(&results, os.Stdout), os.Stderr
		if err := cmd.Run(); err != nil {
			return errors.Join(fmt.Errorf("%s: %w", c.what, err), os.WriteFile(filepath.Join(dir, resultsFile), results.Bytes(), 0o644))
		}
	}
	return os.WriteFile(filepath.Join(dir, resultsFile), results.Bytes(), 0o644)
}
