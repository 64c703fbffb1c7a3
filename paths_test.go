package reupload

import (
	"strings"
	"testing"
)

// Whatever a path is called, as much as a real one takes is kept of it, and never that a file has
// moved to where it was.
func TestPathsKeepsWhatCanBeUsed(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", maxDirectPath)
	for path, want := range map[string]string{"/v/a": "/new", "/v/" + long: "", "/v/a?" + long: "", "/new": ""} {
		p, at := newPaths(), location{directPathOf(path), "hash"}
		p.move(at, "/new")
		if got := p.movedTo(at); got != want {
			t.Errorf("%.20s has moved to %q", path, got)
		}
		p.spoil(at)
		if isBad := len(path) <= maxDirectPath; p.isBad(at) != isBad {
			t.Errorf("%.20s is bad: %t", path, p.isBad(at))
		}
	}
}
