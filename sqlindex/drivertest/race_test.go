//go:build race

package drivertest

// With the race detector, SQLite in Go takes fifteen times as long. It checks this package, so that
// fewer rows and fewer ways to open a database will do.
const raceDetector = true
