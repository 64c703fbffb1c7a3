package host

import (
	"reflect"
	"sync"
	"time"

	"go.mau.fi/whatsmeow"
)

// Handlers is a client's list of event handlers, under whatsmeow's own lock. The lock is only ever
// tried: behind a writer that waits for it, an event that a handler dispatches would wait for ever.
type Handlers struct {
	lock *sync.RWMutex
	list reflect.Value // a settable slice of structs with a field id
}

// HandlersOf returns the list of a client. It is not ok if the list is not as expected, and must
// not be used then.
func HandlersOf(client *whatsmeow.Client) (h Handlers, ok bool) {
	h.lock = fieldOf[sync.RWMutex](client, "eventHandlersLock")
	field := reflect.ValueOf(client).Elem().FieldByName("eventHandlers")
	if h.lock == nil || !field.IsValid() || field.Kind() != reflect.Slice || field.Type().Elem().Kind() != reflect.Struct {
		return h, false
	}
	id, ok := field.Type().Elem().FieldByName("id")
	h.list = settable(field)
	return h, ok && id.Type == reflect.TypeFor[uint32]()
}

// IsFree reports whether the lock comes free within some time: then no event handler runs, and one
// can be added without waiting.
func (h Handlers) IsFree(patience time.Duration) bool {
	if !h.tryLock(patience) {
		return false
	}
	h.lock.Unlock()
	return true
}

// Len returns how many handlers there are. It waits for the lock.
func (h Handlers) Len() int {
	h.lock.RLock()
	defer h.lock.RUnlock()
	return h.list.Len()
}

// MoveToFront makes a handler the first to get each event, and reports whether it is: not if the
// lock does not come free within some time, or there is no such handler. It makes a new list, so
// that a reader of the old one is not disturbed.
func (h Handlers) MoveToFront(id uint32, patience time.Duration) bool {
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

// Remove takes a handler off the list, and reports whether it is off. If it is not, the lock has
// not come free within some time: an event handler is running.
func (h Handlers) Remove(id uint32, patience time.Duration) bool {
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

// tryLock takes the lock if it comes free within some time.
func (h Handlers) tryLock(patience time.Duration) bool {
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
func (h Handlers) find(id uint32) int {
	for i := range h.list.Len() {
		if h.list.Index(i).FieldByName("id").Uint() == uint64(id) {
			return i
		}
	}
	return -1
}
