package host_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

func TestIsDialing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := newClient()
		lock := host.SocketLock(client)
		for held, want := range map[time.Duration]bool{0: false, 10 * time.Millisecond: false, time.Hour: true} {
			lock.Lock()
			timer := time.AfterFunc(held, lock.Unlock)
			synctest.Wait()
			began := time.Now()
			if is := host.IsDialing(client); is != want || time.Since(began) > 100*time.Millisecond {
				t.Errorf("with a socket that is held for %s it is %t, after %s", held, is, time.Since(began))
			}
			if timer.Stop() {
				lock.Unlock()
			}
		}
		lock.RLock() // as IsConnected does
		defer lock.RUnlock()
		if host.IsDialing(client) {
			t.Error("a socket that is looked at counts as dialing")
		}
	})
}
