package reupload

import (
	"errors"
	"net/http"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// This file is the only door to what whatsmeow keeps private. Whatever goes through it is checked for presence and type
// first, so that a whatsmeow that has changed costs a feature and a line in the log, never a panic.
//
//	recvLog           the receive logger, which sees each node before it is queued: the tap
//	mediaHTTP         the media HTTP client, for which there is a setter only
//	eventHandlers     the handlers, to see whether Register comes first and only once
//	call stacks       whether a call comes from an event handler

// privateField returns a pointer to a field of the client, private or not, or nil if it is not there or not a T.
func privateField[T any](client *whatsmeow.Client, name string) *T {
	field := reflect.ValueOf(client).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		return nil
	}
	// NewAt makes a settable value of a field that reflection would not let us touch, without importing unsafe.
	return reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Interface().(*T)
}

// mediaClient returns the HTTP client that downloads and uploads go through.
func mediaClient(client *whatsmeow.Client) (*http.Client, bool) {
	field := privateField[*http.Client](client, "mediaHTTP")
	if field == nil || *field == nil {
		return nil, false
	}
	return *field, true
}

// handlersOf counts the event handlers that a client has, and tells whether one of them runs the same code as own.
func handlersOf(client *whatsmeow.Client, own whatsmeow.EventHandlerWithSuccessStatus) (n int, has bool) {
	lock := privateField[sync.RWMutex](client, "eventHandlersLock")
	handlers := reflect.ValueOf(client).Elem().FieldByName("eventHandlers")
	if lock == nil || !handlers.IsValid() || handlers.Kind() != reflect.Slice || handlers.Type().Elem().Kind() != reflect.Struct {
		return 0, false
	}
	lock.RLock()
	defer lock.RUnlock()
	code := reflect.ValueOf(own).Pointer()
	for i := range handlers.Len() {
		fn := handlers.Index(i).FieldByName("fn")
		has = has || fn.IsValid() && fn.Kind() == reflect.Func && fn.Pointer() == code
	}
	return handlers.Len(), has
}

// A tap stands in for the receive logger. whatsmeow hands it every node, on the goroutine that reads the socket, before the
// node is queued behind the event handler that is running. It passes everything on.
//
// It stays in place when the plugin is closed while a connection is up, because the field is not guarded by a lock; it is
// inert then, and the next Register takes it over.
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

// installTap makes receive see every node. The tap is nil if there is none: reason tells why.
func installTap(client *whatsmeow.Client, receive func(*waBinary.Node)) (t *tap, reason string) {
	field := privateField[waLog.Logger](client, "recvLog")
	if field == nil {
		return nil, "this version of whatsmeow has no receive logger that can be used"
	}
	if t, ok := (*field).(*tap); ok {
		if !t.receive.CompareAndSwap(nil, &receive) {
			return nil, "another plugin holds the receive logger"
		}
		return t, ""
	}
	// An interface is two words and its reader takes no lock, so it is set only while nobody reads it.
	if client.IsConnected() {
		return nil, "the client is connected already; call Register before Connect"
	}
	t = &tap{Logger: *field}
	t.receive.Store(&receive)
	*field = t
	return t, ""
}

// mute makes the tap inert.
func (t *tap) mute() { t.receive.Store(nil) }

// remove puts the client's own logger back in the place of a muted tap, or leaves that there if a connection is up.
func (t *tap) remove(client *whatsmeow.Client) {
	if field := privateField[waLog.Logger](client, "recvLog"); field != nil && *field == waLog.Logger(t) && !client.IsConnected() {
		*field = t.Logger
	}
}

// Names of whatsmeow's functions as they stand in a call stack.
const (
	stackDispatch = "go.mau.fi/whatsmeow.(*Client).dispatchEvent"
	stackQueue    = "go.mau.fi/whatsmeow.(*Client).handlerQueueLoop"
)

// calledFrom tells whether a function, or one declared in it, is on this goroutine's call stack.
func calledFrom(function string) bool {
	pcs := make([]uintptr, 64)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var frame runtime.Frame
			frame, more = frames.Next()
			if rest, ok := strings.CutPrefix(frame.Function, function); ok && (rest == "" || rest[0] == '.') {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}

var errNoMediaClient = errors.New("reupload: this version of whatsmeow hides its media HTTP client; pass the one to use, with its proxy, as Options.HTTPClient")
