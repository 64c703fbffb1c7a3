package reupload

// A numbering gives small numbers to values that are few and come often, and counts how many
// records use each. It forgets those that no record uses any more.
type numbering[K comparable] struct {
	numbers map[K]uint32
	values  []K
	uses    []uint32
	free    []uint32
	own     func(K) K // makes a value its own that may be part of something large; nil if none is
}

func newNumbering[K comparable](own func(K) K) numbering[K] {
	return numbering[K]{numbers: make(map[K]uint32), own: own}
}

// use returns the number of a value for one more record.
func (t *numbering[K]) use(value K) uint32 {
	n, known := t.numbers[value]
	if !known {
		if t.own != nil {
			value = t.own(value)
		}
		if last := len(t.free) - 1; last >= 0 {
			n, t.free = t.free[last], t.free[:last]
			t.values[n] = value
		} else {
			n = uint32(len(t.values))
			t.values, t.uses = append(t.values, value), append(t.uses, 0)
		}
		t.numbers[value] = n
	}
	t.uses[n]++
	return n
}

// drop takes a use of a value back, and reports whether that was the last one.
func (t *numbering[K]) drop(n uint32) (last bool) {
	if t.uses[n]--; t.uses[n] > 0 {
		return false
	}
	delete(t.numbers, t.values[n])
	t.values[n] = *new(K)
	t.free = append(t.free, n)
	return true
}
