//go:build !race

package reupload

const raceDetector = false

func fewer(n uint64) uint64 { return n }
