package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// A result is what became of a mutation.
type result string

const (
	noticed  result = "noticed"
	survived result = "SURVIVED"
	invalid  result = "invalid" // it does not compile
)

// A suite is some tests of one package.
type suite struct {
	dir  string // in the repository
	only string // a pattern of names, or all
}

func (s suite) String() string {
	if s.only == "" {
		return "./" + s.dir
	}
	return "./" + s.dir + " -run " + s.only
}

// testedFrom lists the packages, by the directory of the one that is mutated, whose tests are run
// after its own, the quickest first.
var testedFrom = map[string][]string{
	".":                          {"faults", "simulation"},
	"internal/host":              {"."},
	"wabox":                      {"."},
	"sqlindex":                   {"sqlindex/drivertest"},
	"sqlindex/internal/upgrades": {"sqlindex", "sqlindex/drivertest"},
	"indextest":                  {"sqlindex/drivertest"},
}

// longest is how long the tests of a package may take: a run that takes longer has noticed the
// mutation by standing still.
func longest(dir string) time.Duration {
	switch dir {
	case "examples/gateway", "examples/backfill", "sqlindex/drivertest": // a minute or more on an idle machine
		return 3 * time.Minute
	}
	return 90 * time.Second
}

// try runs the tests about a mutation until one fails.
func try(ctx context.Context, scratch string, m mutation) (result, string, error) {
	overlay, err := m.overlay(scratch)
	if err != nil {
		return "", "", err
	}
	for _, s := range suites(m.file) {
		cmd := exec.CommandContext(ctx, "go", "test", "-overlay", overlay, "-short", "-failfast", "-vet=off", "-timeout", longest(s.dir).String(), "-run", s.only, ".")
		cmd.Dir = s.dir
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		switch {
		case ctx.Err() != nil:
			return "", "", ctx.Err()
		case err == nil:
		case !errors.As(err, &exit):
			return "", "", err
		case strings.Contains(string(out), "[build failed]"), strings.Contains(string(out), "[setup failed]"):
			return invalid, "", nil
		default:
			return noticed, "by " + failed(string(out)), nil
		}
	}
	return survived, "", nil
}

// overlay writes the mutated file, and what tells the go command to use it.
func (m mutation) overlay(scratch string) (path string, err error) {
	source, err := os.ReadFile(m.file)
	if err != nil {
		return "", err
	}
	mutated := filepath.Join(scratch, "mutated.go")
	if err := os.WriteFile(mutated, m.apply(source), 0o600); err != nil {
		return "", err
	}
	original, err := filepath.Abs(m.file)
	if err != nil {
		return "", err
	}
	data, err := json.Marshal(map[string]any{"Replace": map[string]string{original: mutated}})
	if err != nil {
		return "", err
	}
	path = filepath.Join(scratch, "overlay.json")
	return path, os.WriteFile(path, data, 0o600)
}

var testName = regexp.MustCompile(`(?m)^func ((?:Test|Example)\w*)\(`)

// suites lists the tests about a file, the quickest first: those in the file of tests that has its
// name, all of its package, and those of other packages.
func suites(file string) []suite {
	dir := filepath.Dir(file)
	var all []suite
	if tests, err := os.ReadFile(strings.TrimSuffix(file, ".go") + "_test.go"); err == nil {
		var names []string
		for _, found := range testName.FindAllSubmatch(tests, -1) {
			names = append(names, string(found[1]))
		}
		if len(names) > 0 {
			all = append(all, suite{dir, fmt.Sprintf("^(%s)$", strings.Join(names, "|"))})
		}
	}
	all = append(all, suite{dir: dir})
	for _, other := range testedFrom[dir] {
		all = append(all, suite{dir: other})
	}
	return all
}

var failure = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)|^((?:panic|fatal error): .*)`)

// failed names what has failed first.
func failed(out string) string {
	for _, part := range failure.FindStringSubmatch(out) {
		if part != "" && !strings.HasPrefix(strings.TrimSpace(part), "---") {
			return part
		}
	}
	return "a test that could not run"
}
