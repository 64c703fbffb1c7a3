package host_test

import (
	"context"
	"reflect"
	"slices"
	"testing"

	waBinary "go.mau.fi/whatsmeow/binary"

	"github.com/whatsmeow-plugins/reupload/internal/host"
)

// Hooks as there are.
type (
	chooser      func(context.Context, *waBinary.Node) (*waBinary.Node, bool)
	frameChooser func(context.Context, frame) (*waBinary.Node, bool)
	listener     func(rawNode)

	frame struct {
		Node  *waBinary.Node
		Frame []byte
	}
	rawNode struct {
		Node     *waBinary.Node
		Outgoing bool
		Handled  bool
	}
)

func TestHookIsKnownByItsShape(t *testing.T) {
	t.Parallel()
	for hook, want := range map[reflect.Type]bool{
		reflect.TypeFor[chooser]():                                      true,
		reflect.TypeFor[frameChooser]():                                 true,
		reflect.TypeFor[listener]():                                     true,
		reflect.TypeFor[func(*waBinary.Node)]():                         true,
		reflect.TypeFor[func(...*waBinary.Node)]():                      false,
		reflect.TypeFor[func(*waBinary.Node, ...string)]():              false,
		reflect.TypeFor[func(waBinary.Node)]():                          false,
		reflect.TypeFor[func(struct{ Node string })]():                  false,
		reflect.TypeFor[func()]():                                       false,
		reflect.TypeFor[*waBinary.Node]():                               false,
		reflect.TypeFor[func(*waBinary.Node) bool]():                    false, // what would false mean?
		reflect.TypeFor[func(*waBinary.Node) (bool, bool)]():            false,
		reflect.TypeFor[func(*waBinary.Node) (*waBinary.Node, error)](): false,
	} {
		if is := host.IsHook(hook); is != want {
			t.Errorf("%s: %t", hook, is)
		}
	}
}

func TestHookIsChained(t *testing.T) {
	t.Parallel()
	var seen []*waBinary.Node
	see := func(node *waBinary.Node) { seen = append(seen, node) }
	one, two := new(waBinary.Node), new(waBinary.Node)
	check := func(what string, want ...*waBinary.Node) {
		t.Helper()
		if !slices.Equal(seen, want) {
			t.Errorf("%s: %d nodes are seen, want %d, or others", what, len(seen), len(want))
		}
		seen = nil
	}

	var alone chooser
	host.Chain(&alone, see)
	if node, drop := alone(t.Context(), one); node != nil || drop {
		t.Error("a node is changed or dropped")
	}
	check("nothing was there before", one)

	for what, test := range map[string]struct {
		node *waBinary.Node
		drop bool
		want *waBinary.Node
	}{
		"the bot leaves the node": {nil, false, one},
		"changes it":              {two, false, two},
		"drops it":                {nil, true, one},
	} {
		hook := chooser(func(ctx context.Context, node *waBinary.Node) (*waBinary.Node, bool) {
			if ctx != t.Context() || node != one {
				t.Error("the bot's hook gets something else")
			}
			return test.node, test.drop
		})
		host.Chain(&hook, see)
		if node, drop := hook(t.Context(), one); node != test.node || drop != test.drop {
			t.Errorf("%s: whatsmeow gets %v, %t", what, node, drop)
		}
		check(what, test.want)
	}

	var framed frameChooser
	host.Chain(&framed, see)
	framed(t.Context(), frame{Node: one})
	framed(t.Context(), frame{})
	check("a struct with a node, and without one", one)

	heard := 0
	listening := listener(func(rawNode) { heard++ })
	host.Chain(&listening, see)
	listening(rawNode{Node: one, Handled: true})
	listening(rawNode{Node: two, Outgoing: true})
	if check("one received and one sent", one); heard != 2 {
		t.Errorf("the bot's hook was called %d times", heard)
	}
}
