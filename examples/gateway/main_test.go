package main

import (
	"bytes"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mainVariable makes the process of a test the gateway itself, as its users run it.
const mainVariable = "GATEWAY_TEST_MAIN"

func TestMainSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"nonsense"}, 2, "-dsn"},
		{[]string{"-nonsense"}, 2, "-dsn"},
		{nil, 1, "gateway: name the PostgreSQL database with -dsn"},
		{[]string{"-log-format", "xml"}, 1, "gateway: "},
		{[]string{"-dsn", "host=127.0.0.1 port=1 user=u password=secret dbname=d", "-listen", "127.0.0.1:0"}, 1, "gateway: "},
		{[]string{"-dsn", "host=127.0.0.1 port=1", "-listen", "nowhere"}, 1, "-listen"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], test.args...)
		cmd.Env = append(os.Environ(), mainVariable+"=1", "GATEWAY_DSN=", "GATEWAY_TOKEN=")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		_ = cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(stderr.String(), test.want) || strings.Contains(stderr.String(), "secret") {
			t.Errorf("%q: code %d, and it says %q", test.args, code, stderr.String())
		}
	}
}

func TestMainServesUntilItIsTold(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-dsn", newDatabase(t), "-listen", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), mainVariable+"=1", "GATEWAY_TOKEN=")
	var out safeBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var url string
	for deadline := time.Now().Add(time.Minute); url == ""; time.Sleep(10 * time.Millisecond) {
		if found := listeningURL.FindStringSubmatch(out.String()); found != nil {
			url = found[1]
		} else if time.Now().After(deadline) {
			t.Fatalf("it does not listen:\n%s", out.String())
		}
	}
	resp, err := http.Get(url + "/accounts")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("GET /accounts: %s, %q, %v", resp.Status, body, err)
	}
	if err = cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err = cmd.Wait(); err != nil {
		t.Errorf("it ends with %v:\n%s", err, out.String())
	}
}
