package simulation

import (
	"fmt"
	"strconv"
	"strings"
)

// Ranges are numbers of steps, as "3-7,12".
type Ranges []Range

// A Range has both of its ends in it.
type Range struct{ From, To int }

// Has reports whether a number is in one of the ranges.
func (r Ranges) Has(n int) bool {
	for _, one := range r {
		if one.From <= n && n <= one.To {
			return true
		}
	}
	return false
}

// With returns the ranges with one more, in order and without gaps between neighbours.
func (r Ranges) With(more Range) Ranges {
	var all Ranges
	for _, one := range r {
		switch {
		case one.To+1 < more.From:
			all = append(all, one)
		case more.To+1 < one.From:
			all = append(all, more)
			more = one
		default:
			more = Range{min(one.From, more.From), max(one.To, more.To)}
		}
	}
	return append(all, more)
}

func (r Ranges) String() string {
	var parts []string
	for _, one := range r {
		part := strconv.Itoa(one.From)
		if one.To > one.From {
			part += "-" + strconv.Itoa(one.To)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ",")
}

// ParseRanges reads what String writes.
func ParseRanges(list string) (r Ranges, err error) {
	for _, part := range strings.FieldsFunc(list, func(c rune) bool { return c == ',' }) {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		var one Range
		if one.From, err = strconv.Atoi(first); err == nil {
			one.To, err = strconv.Atoi(last)
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no range of steps, such as 3-7", part)
		}
		r = r.With(one)
	}
	return r, nil
}
