//go:build unix

package reupload_test

import (
	"syscall"
	"time"
)

// cpuTime returns how much time the processors have spent on this process.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
