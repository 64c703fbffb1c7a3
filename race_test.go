//go:build race

package reupload

const raceDetector = true
