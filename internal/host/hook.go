package host

import (
	"reflect"

	"go.mau.fi/whatsmeow"
	waBinary "go.mau.fi/whatsmeow/binary"
)

// hookOf returns the field Client.RawNodeHandler, in which forks of whatsmeow keep a function that
// gets each node when it is received. It is not valid if there is none that can be used.
//
// The function is taken by its shape, since each fork has its own: it gets a node, or a struct with
// a field Node, and returns nothing, or a node to go on with and whether to drop it. A field
// Outgoing of the struct says that a node was sent.
func hookOf(client *whatsmeow.Client) reflect.Value {
	field := reflect.ValueOf(client).Elem().FieldByName("RawNodeHandler")
	if field.IsValid() && field.CanSet() && isHook(field.Type()) {
		return field
	}
	return reflect.Value{}
}

var (
	nodeType = reflect.TypeFor[*waBinary.Node]()
	boolType = reflect.TypeFor[bool]()
)

func isHook(t reflect.Type) bool {
	if t.Kind() != reflect.Func || t.IsVariadic() || t.NumOut() != 0 && (t.NumOut() != 2 || t.Out(0) != nodeType || t.Out(1) != boolType) {
		return false
	}
	for i := range t.NumIn() {
		if bringsNode(t.In(i)) {
			return true
		}
	}
	return false
}

// bringsNode reports whether a parameter is a node, or a struct that has one.
func bringsNode(t reflect.Type) bool {
	if t.Kind() != reflect.Struct {
		return t == nodeType
	}
	node, ok := t.FieldByName("Node")
	return ok && node.Type == nodeType
}

// chain makes see get each received node, after the function that the hook has had before, and as
// that function has changed it. A node that it drops is seen all the same.
func chain(hook reflect.Value, see func(*waBinary.Node)) {
	t, before := hook.Type(), reflect.ValueOf(hook.Interface())
	hook.Set(reflect.MakeFunc(t, func(args []reflect.Value) (results []reflect.Value) {
		node := receivedIn(args)
		if before.IsNil() {
			for i := range t.NumOut() {
				results = append(results, reflect.Zero(t.Out(i)))
			}
		} else if results = before.Call(args); node != nil && len(results) > 0 && !results[0].IsNil() {
			node = results[0].Interface().(*waBinary.Node)
		}
		if node != nil {
			see(node)
		}
		return results
	}))
}

// receivedIn returns the node that a hook is called with, or nil if it was sent.
func receivedIn(args []reflect.Value) *waBinary.Node {
	for _, arg := range args {
		if !bringsNode(arg.Type()) {
			continue
		}
		if arg.Kind() == reflect.Struct {
			if out := arg.FieldByName("Outgoing"); out.IsValid() && out.Kind() == reflect.Bool && out.Bool() {
				return nil
			}
			arg = arg.FieldByName("Node")
		}
		return arg.Interface().(*waBinary.Node)
	}
	return nil
}
