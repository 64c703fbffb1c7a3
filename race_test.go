//go:build race

package reupload

const raceDetector = true

// fewer returns how many of so many dice a test of a pure room throws: it has one goroutine, on
// which the race detector takes ten times as long and sees nothing.
func fewer(n uint64) uint64 { return n / 10 }
