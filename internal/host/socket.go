package host

import (
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
)

// IsDialing reports whether whatsmeow holds its socket for longer than a moment, as it does while
// it dials. A send then waits for it, whatever its context says. It is false if whatsmeow hides
// that.
func IsDialing(client *whatsmeow.Client) bool {
	lock := fieldOf[sync.RWMutex](client, "socketLock")
	if lock == nil {
		return false
	}
	for range 20 {
		if lock.TryRLock() {
			lock.RUnlock()
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}
