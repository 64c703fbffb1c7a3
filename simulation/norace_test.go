//go:build !race

package simulation

const (
	testSteps   = 150
	testWithout = ""
)
