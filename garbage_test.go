//go:build !race

package reupload_test

import "runtime/debug"

// A box for each test is much garbage. Under the race detector it would be too much.
func init() { debug.SetGCPercent(400) }
