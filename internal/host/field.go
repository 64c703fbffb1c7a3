package host

import (
	"reflect"

	"go.mau.fi/whatsmeow"
)

// fieldOf returns a pointer to a field of the client, private or not, or nil if it is not there or
// not a T.
func fieldOf[T any](client *whatsmeow.Client, name string) *T {
	field := reflect.ValueOf(client).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[T]() {
		return nil
	}
	return settable(field).Addr().Interface().(*T)
}

// settable returns a field that reflection does not let us touch so that it does, without importing
// unsafe.
func settable(field reflect.Value) reflect.Value {
	return reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem()
}

// wordsOf returns the words of what p points to, which must be as large as W.
func wordsOf[W, T any](p *T) *W {
	return reflect.NewAt(reflect.TypeFor[W](), reflect.ValueOf(p).UnsafePointer()).Interface().(*W)
}
