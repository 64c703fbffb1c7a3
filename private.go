package reupload

import (
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// This file is the only door to what whatsmeow keeps private. Whatever goes through it is checked
// for presence and type first, so that a whatsmeow that has changed costs a feature and a line in
// the log, never a panic.
//
//	recvLog             the receive logger, which sees each node before it is queued: the tap
//	mediaHTTP           the media HTTP client, for which there is a setter only
//	eventHandlers       the handlers, to put ours in front, and to take it away without waiting
//	eventHandlersLock   whatsmeow's own lock of these
//	socketLock          to see whether whatsmeow dials
//	call stacks         whether a call comes from an event handler

// privateField returns a pointer to a field of the client, private or not, or nil if it is not
// there or not a T.
func privateField[T any](client *whatsmeow.Client, name string) *T {
	field := reflect.ValueOf(client).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return settable(field).Addr().Interface().(*T)
}

// settable returns a field that reflection would not let us touch so that it does,
// without importing unsafe.
func settable(field reflect.Value) reflect.Value {
	return reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem()
}

// mediaClient returns the HTTP client that downloads and uploads go through.
func mediaClient(client *whatsmeow.Client) (*http.Client, bool) {
	field := privateField[*http.Client](client, "mediaHTTP")
	if field == nil || *field == nil {
		return nil, false
	}
	return *field, true
}

// isDialing reports whether whatsmeow holds its socket for longer than a moment, as it does while
// it dials. Whoever sends then waits for it, whatever the context says.
func isDialing(client *whatsmeow.Client) bool {
	lock := privateField[sync.RWMutex](client, "socketLock")
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

// handlers is a client's list of event handlers, under whatsmeow's own lock.
type handlers struct {
	lock *sync.RWMutex
	list reflect.Value // a settable slice of structs with a field id
}

// handlersOf returns the list of a client, if it is as expected.
func handlersOf(client *whatsmeow.Client) (h handlers, ok bool) {
	h.lock = privateField[sync.RWMutex](client, "eventHandlersLock")
	field := reflect.ValueOf(client).Elem().FieldByName("eventHandlers")
	if h.lock == nil || !field.IsValid() || field.Kind() != reflect.Slice || field.Type().Elem().Kind() != reflect.Struct {
		return h, false
	}
	id, ok := field.Type().Elem().FieldByName("id")
	h.list = settable(field)
	return h, ok && id.Type == reflect.TypeFor[uint32]()
}

// isFree reports whether nobody uses the list for a moment: no event handler runs, so that one can
// be added without waiting.
func (h handlers) isFree(patience time.Duration) bool {
	if !h.tryLock(patience) {
		return false
	}
	h.lock.Unlock()
	return true
}

// tryLock takes the lock if it is free within some time. It never queues for it: behind a writer
// that waits, an event that a handler dispatches would wait for ever.
func (h handlers) tryLock(patience time.Duration) bool {
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if h.lock.TryLock() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

// find returns the index of a handler, or -1. It needs the lock.
func (h handlers) find(id uint32) int {
	for i := range h.list.Len() {
		if h.list.Index(i).FieldByName("id").Uint() == uint64(id) {
			return i
		}
	}
	return -1
}

// moveToFront makes a handler the first to get each event, and reports whether it is. It makes a
// new list, so that whoever still reads the old one is not disturbed.
func (h handlers) moveToFront(id uint32, patience time.Duration) bool {
	if !h.tryLock(patience) {
		return false
	}
	defer h.lock.Unlock()
	i := h.find(id)
	if i > 0 {
		list := reflect.MakeSlice(h.list.Type(), 0, h.list.Len()+1)
		list = reflect.Append(list, h.list.Index(i))
		list = reflect.AppendSlice(list, h.list.Slice(0, i))
		h.list.Set(reflect.AppendSlice(list, h.list.Slice(i+1, h.list.Len())))
	}
	return i >= 0
}

// remove takes a handler off the list, and reports whether it could. If it could not, a
// handler is running.
func (h handlers) remove(id uint32, patience time.Duration) bool {
	if !h.tryLock(patience) {
		return false
	}
	defer h.lock.Unlock()
	if i := h.find(id); i >= 0 {
		list := reflect.MakeSlice(h.list.Type(), 0, h.list.Len())
		list = reflect.AppendSlice(list, h.list.Slice(0, i))
		h.list.Set(reflect.AppendSlice(list, h.list.Slice(i+1, h.list.Len())))
	}
	return true
}

// A tap stands in for the receive logger. whatsmeow hands it every node, on the goroutine that
// reads the socket, before the node is queued behind the event handler that is running. It
// passes everything on.
//
// It stays for good: the field is not guarded by a lock, and the reader of a connection that
// has ended can still be at work. The tap of a closed plugin is mute, and the next Register
// takes it over.
type tap struct {
	waLog.Logger
	receive atomic.Pointer[func(*waBinary.Node)]
	live    atomic.Bool // a node has come through
}

// Debugf implements [waLog.Logger].
func (t *tap) Debugf(format string, args ...any) {
	if len(args) == 1 {
		if node, ok := args[0].(*waBinary.Node); ok && node != nil {
			t.live.Store(true)
			if receive := t.receive.Load(); receive != nil {
				(*receive)(node)
			}
		}
	}
	t.Logger.Debugf(format, args...)
}

// installTap makes receive see every node. The tap is nil if there is none: the error tells why,
// and is ErrAlreadyRegistered if another plugin holds it.
func installTap(client *whatsmeow.Client, receive func(*waBinary.Node)) (*tap, error) {
	field := privateField[waLog.Logger](client, "recvLog")
	if field == nil {
		return nil, errors.New("this version of whatsmeow has no receive logger that can be used")
	}
	if t, ok := (*field).(*tap); ok {
		if !t.receive.CompareAndSwap(nil, &receive) {
			return nil, ErrAlreadyRegistered
		}
		return t, nil
	}
	// An interface is two words and its reader takes no lock, so it is set only while
	// nobody reads it.
	if client.IsConnected() || !client.LastSuccessfulConnect.IsZero() {
		return nil, errors.New("the client was connected before; call Register before Connect")
	}
	t := &tap{Logger: *field}
	t.receive.Store(&receive)
	*field = t
	return t, nil
}

// mute makes the tap inert.
func (t *tap) mute() { t.receive.Store(nil) }

// Names of whatsmeow's functions as they stand in a call stack.
const (
	stackDispatch = "go.mau.fi/whatsmeow.(*Client).dispatchEvent"
	stackQueue    = "go.mau.fi/whatsmeow.(*Client).handlerQueueLoop"
)

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
