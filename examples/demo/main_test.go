package main

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// mainVariable makes the process of a test the demo itself, as its users run it.
const mainVariable = "DEMO_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestMainSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"-h"}, 0, []string{"Usage: go run ./examples/demo", "-fault", "-v", "Faults:", "offline"}},
		{[]string{"-nonsense"}, 2, []string{"-nonsense", "Usage: go run ./examples/demo"}},
		{[]string{"-fault", "nonsense"}, 2, []string{"nonsense", "offline"}},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], test.args...)
		cmd.Env = append(os.Environ(), mainVariable+"=1")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != test.code {
			t.Errorf("%q: code %d", test.args, code)
		}
		for _, want := range test.want {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q: it does not say %q, but %q", test.args, want, out.String())
			}
		}
	}
}
