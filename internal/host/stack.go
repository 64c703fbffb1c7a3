package host

import (
	"runtime"
	"strings"
	"sync"
)

// Names of whatsmeow's functions as they stand in a call stack.
const (
	stackDispatch = "go.mau.fi/whatsmeow.(*Client).dispatchEvent"
	stackQueue    = "go.mau.fi/whatsmeow.(*Client).handlerQueueLoop"
)

// InDispatch reports whether the caller runs inside an event handler, on the goroutine that
// whatsmeow dispatches the event on. It holds the lock of [Handlers] then.
func InDispatch() bool { return calledFrom(stackDispatch) || calledFrom(stackQueue) }

// InHandlerQueue reports whether the caller runs on the goroutine of whatsmeow's handler queue: the
// next node waits until it returns.
func InHandlerQueue() bool { return calledFrom(stackQueue) }

// Unseen returns the names of the functions that are not on the caller's stack, although the caller
// is an event handler that whatsmeow has called for a message: they have been renamed.
func Unseen() (names []string) {
	for _, name := range [...]string{stackDispatch, stackQueue} {
		if !calledFrom(name) {
			names = append(names, name[strings.LastIndexByte(name, '.')+1:])
		}
	}
	return names
}

// calledFrom reports whether a function, or one declared in it, is on this goroutine's call stack.
func calledFrom(function string) bool {
	pcs := make([]uintptr, 128)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		for _, pc := range pcs[:n] {
			if namesAt(pc)[function] {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

// frameNames are the names of these functions at a program counter, as there can be several when
// they are inlined. A process has few such callers, and to find the names takes much longer than to
// find the caller.
var frameNames sync.Map // of map[string]bool, by uintptr

func namesAt(pc uintptr) map[string]bool {
	if known, ok := frameNames.Load(pc); ok {
		return known.(map[string]bool)
	}
	var names map[string]bool
	frames := runtime.CallersFrames([]uintptr{pc})
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		for _, name := range [...]string{stackDispatch, stackQueue} {
			if rest, ok := strings.CutPrefix(frame.Function, name); ok && (rest == "" || rest[0] == '.') {
				names = map[string]bool{name: true}
			}
		}
	}
	frameNames.Store(pc, names)
	return names
}
