// Package drivertest tests sqlindex with real databases. It is a module of its own, so that no
// driver becomes a dependency of the plugin.
package drivertest

import (
	"os"
	"testing"
)

// lots returns n, or with the race detector a twentieth of it.
func lots(n int) int {
	if raceDetector {
		return n / 20
	}
	return n
}

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		runChild(role)
		return
	}
	code := m.Run()
	server.stop()
	os.Exit(code)
}
