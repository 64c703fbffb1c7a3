package reupload_test

import (
	"crypto/tls"
	"flag"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/whatsmeow-plugins/reupload/wabox"
	"go.mau.fi/whatsmeow"
)

// TestMain sees to it that no goroutine is left when every test has closed what it opened.
func TestMain(m *testing.M) {
	// Tests wait more than they compute. The fuzzer does not.
	flag.Parse()
	isSet := false
	flag.Visit(func(f *flag.Flag) { isSet = isSet || f.Name == "test.parallel" || f.Name == "test.fuzz" })
	if !isSet {
		if err := flag.Set("test.parallel", "16"); err != nil {
			panic(err)
		}
	}
	// Hours pass in bubbles, in which a keep-alive every 25 s would be most of what happens.
	whatsmeow.KeepAliveIntervalMin, whatsmeow.KeepAliveIntervalMax = 12*time.Hour, 24*time.Hour
	// whatsmeow's SetProxy clones the default transport, which has to trust the box then.
	tr := http.DefaultTransport.(*http.Transport)
	tr.TLSClientConfig = &tls.Config{RootCAs: wabox.CertPool()}
	tr.DialContext = wabox.DialContext
	code := m.Run()
	tr.CloseIdleConnections()
	if left := lingering(); code == 0 && len(left) > 0 {
		fmt.Fprintf(os.Stderr, "%d goroutines are left behind:\n\n%s\n", len(left), strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}

// notOurs are functions whose goroutines neither the plugin nor its tests have started.
var notOurs = [...]string{
	"handleHistorySyncNotificationLoop", // whatsmeow keeps it for a minute after the last history sync
	"(*FrameSocket).frameComplete",      // it waits for ever if a frame arrives while the client disconnects
	"os/signal.signal_recv",             // the fuzzer's
}

// lingering returns the goroutines besides this one that do not end.
func lingering() (left []string) {
	buf := make([]byte, 4<<20)
	for range 100 {
		left = nil
		for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")[1:] {
			if !slices.ContainsFunc(notOurs[:], func(function string) bool { return strings.Contains(stack, function) }) {
				left = append(left, stack)
			}
		}
		if len(left) == 0 {
			return nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	return left
}
