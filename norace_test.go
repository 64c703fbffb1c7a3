//go:build !race

package reupload

const raceDetector = false
