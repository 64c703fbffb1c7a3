package main

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// mainVariable makes the process of a test the doctor itself, as its users run it.
const mainVariable = "DOCTOR_TEST_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(mainVariable) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestMainSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "a file")
	if err := os.WriteFile(file, []byte("no database"), 0o600); err != nil {
		t.Fatal(err)
	}
	private := filepath.Join(dir, "447700900123@lid")
	if err := os.Mkdir(private, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nonsense"}, 2, "is no flag"},
		{[]string{"-nonsense"}, 2, "-demo"},
		{[]string{"-files", "100"}, 2, "doctor: -files is 100"},
		{[]string{"-yes", "-state", private}, 1, "name another file with -state"},
		{[]string{"-yes", "-db", file, "-state", filepath.Join(dir, "state.json"), "-record", filepath.Join(dir, "record.json")}, 1, "doctor: "},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], test.args...)
		cmd.Env = append(os.Environ(), mainVariable+"=1")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(stderr.String(), test.want) ||
			strings.Contains(stderr.String(), "447700900123") {
			t.Errorf("%q: code %d, and it says %q", test.args, code, stderr.String())
		}
	}
}

func TestDemoNeedsSomewhereToWrite(t *testing.T) {
	t.Setenv("TMPDIR", filepath.Join(t.TempDir(), "none"))
	if err := demo(t.Context(), io.Discard); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
