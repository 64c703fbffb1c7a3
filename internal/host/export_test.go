package host

import (
	"reflect"
	"sync"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// HasField reports whether a whatsmeow client has a private field of type T.
func HasField[T any](client *whatsmeow.Client, name string) bool {
	return fieldOf[T](client, name) != nil
}

// ReceiveLogger returns the logger that whatsmeow hands each node to.
func ReceiveLogger(client *whatsmeow.Client) waLog.Logger {
	return *fieldOf[waLog.Logger](client, "recvLog")
}

// SocketLock returns the lock that whatsmeow holds while it dials.
func SocketLock(client *whatsmeow.Client) *sync.RWMutex {
	return fieldOf[sync.RWMutex](client, "socketLock")
}

// SetReceiveLogger exchanges that logger behind the back of a tap.
func SetReceiveLogger(client *whatsmeow.Client, log waLog.Logger) {
	*fieldOf[waLog.Logger](client, "recvLog") = log
}

// IsHook reports whether a field of a type is a hook for received nodes that can be used.
func IsHook(t reflect.Type) bool { return isHook(t) }

// Chain puts a function into the hook that p points to, behind what it has had before.
func Chain[T any](p *T, see func(*waBinary.Node)) { chain(reflect.ValueOf(p).Elem(), see) }
