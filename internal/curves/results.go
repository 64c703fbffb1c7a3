package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// results are the metrics of benchmarks, by the benchmark's name without its number of processors.
type results map[string]map[string]float64

// parse reads what go test prints.
func parse(output string) results {
	r := make(results)
	for line := range strings.Lines(output) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], "Benchmark") {
			continue
		}
		name := fields[0]
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i] // the number of processors
		}
		metrics := make(map[string]float64)
		for i := 2; i+1 < len(fields); i += 2 {
			if value, err := strconv.ParseFloat(fields[i], 64); err == nil {
				metrics[fields[i+1]] = value
			}
		}
		r[name] = metrics
	}
	return r
}

// A point is a value for one size.
type point struct{ x, y float64 }

// points returns a metric by the number in a benchmark's name, which stands between two parts.
func (r results) points(before, after, metric string) (all []point) {
	for name, metrics := range r {
		size, ok := strings.CutPrefix(name, before)
		if !ok {
			continue
		}
		if size, ok = strings.CutSuffix(size, after); !ok {
			continue
		}
		n, err := strconv.Atoi(size)
		if y, has := metrics[metric]; err == nil && has {
			all = append(all, point{float64(n), y})
		}
	}
	slices.SortFunc(all, func(a, b point) int { return cmp.Compare(a.x, b.x) })
	return all
}

// scaled returns points with another y, which f computes.
func scaled(points []point, f func(point) float64) []point {
	points = slices.Clone(points)
	for i := range points {
		points[i].y = f(points[i])
	}
	return points
}
