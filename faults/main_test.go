// Handshakes are most of what a cell costs.
//go:debug tlsmlkem=0

// Package faults lets every fault happen in every phase of a heal, over the box and an unmodified
// whatsmeow client, and keeps docs/faults.md. It is a module of its own, so that no database driver
// becomes a dependency of the plugin.
package faults

import (
	"flag"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"go.mau.fi/whatsmeow"

	"github.com/whatsmeow-plugins/reupload/wabox"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// A client notices a half-open connection by its keep-alives. Their pause is up to chance, and
	// times on the page are not.
	whatsmeow.KeepAliveIntervalMin = 25 * time.Second
	whatsmeow.KeepAliveIntervalMax = whatsmeow.KeepAliveIntervalMin + time.Millisecond
	debug.SetGCPercent(400)
	wabox.CertPool() // what all cells share is made outside of their bubbles
	emptyDatabase()
	os.Exit(m.Run())
}
