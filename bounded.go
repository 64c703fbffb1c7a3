package reupload

// A bounded map forgets what was put in first when it is full. It is not safe for concurrent use.
// While nothing was put in, it takes next to no memory: a client of thousands has a dozen.
type bounded[K comparable, V any] struct {
	limit    int
	contents *contents[K, V] // nil until the first is put in
}

type contents[K comparable, V any] struct {
	values map[K]slotted[V]
	order  []K // a ring once it is full; it can hold keys that were removed
	oldest int
}

type slotted[V any] struct {
	value V
	slot  int // in the ring
}

func newBounded[K comparable, V any](limit int) *bounded[K, V] {
	return &bounded[K, V]{limit: limit}
}

func (b *bounded[K, V]) get(key K) (value V) {
	if b.contents == nil {
		return value
	}
	return b.contents.values[key].value
}

func (b *bounded[K, V]) set(key K, value V) {
	c := b.contents
	if c == nil {
		c = &contents[K, V]{values: make(map[K]slotted[V])}
		b.contents = c
	}
	if p, known := c.values[key]; known {
		c.values[key] = slotted[V]{value, p.slot}
		return
	}
	slot := len(c.order)
	if slot < b.limit {
		c.order = append(c.order, key)
	} else {
		slot = c.oldest
		c.oldest = (c.oldest + 1) % b.limit
		if first := c.order[slot]; c.values[first].slot == slot { // and not put in again elsewhere
			delete(c.values, first)
		}
		c.order[slot] = key
	}
	c.values[key] = slotted[V]{value, slot}
}

func (b *bounded[K, V]) remove(key K) {
	if b.contents != nil {
		delete(b.contents.values, key)
	}
}

// all goes through what is in the map, from which it may be removed meanwhile.
func (b *bounded[K, V]) all(yield func(K, V) bool) {
	if b.contents == nil {
		return
	}
	for key, v := range b.contents.values {
		if !yield(key, v.value) {
			return
		}
	}
}
