//go:build !unix

package reupload_test

import "time"

// cpuTime returns how much time the processors have spent on this process, or 0 if that is not
// known.
func cpuTime() time.Duration { return 0 }
