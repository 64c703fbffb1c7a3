package main

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"
)

// A chart has both axes logarithmic: what grows in proportion is a straight line upwards, and what
// does not grow is level.
type chart struct {
	title, x, y string
	lines       []line
}

type line struct {
	name   string
	points []point
	dashed bool // it is computed, and not measured
}

// drawAll returns the curves, by file name.
func drawAll(r results) map[string]string {
	total := func(p point) float64 { return p.x * p.y / 1e6 }
	atOnce := r.points("BenchmarkHealsAtOnce/", "", "ours-heals/s")
	return map[string]string{
		"clients.svg": chart{"Idle clients in one process", "clients", "MB of heap", []line{
			{name: "whatsmeow's clients", points: scaled(r.points("BenchmarkIdleClients/", "", "client-B"), total)},
			{name: "the plugin's part", points: scaled(r.points("BenchmarkIdleClients/", "", "added-B/client"), total)},
		}}.draw(),
		"heals.svg": chart{"Heals at once, with a phone that takes 20 ms", "at once", "heals a second", []line{
			{name: "the phone's bound", points: scaled(atOnce, func(p point) float64 { return p.x / 0.02 }), dashed: true},
			{name: "ask and download only", points: r.points("BenchmarkHealsAtOnce/", "", "theirs-heals/s")},
			{name: "with reupload", points: atOnce},
		}}.draw(),
		"rows.svg": chart{"Looking a file up in the index", "files in the index", "µs", []line{
			{name: "PostgreSQL", points: r.points("BenchmarkLook/Postgres/", "/ByFile", "median-µs")},
			{name: "SQLite", points: r.points("BenchmarkLook/SQLite/", "/ByFile", "median-µs")},
			{name: "in memory", points: scaled(r.points("BenchmarkMemoryIndex/", "/look-up", "median-ns"), func(p point) float64 { return p.y / 1000 })},
		}}.draw(),
		"bytes.svg": chart{"What one file takes in the index", "files in the index", "bytes a file", []line{
			{name: "PostgreSQL", points: r.points("BenchmarkLook/Postgres/", "/ByFile", "bytes/row")},
			{name: "SQLite", points: r.points("BenchmarkLook/SQLite/", "/ByFile", "bytes/row")},
			{name: "in memory", points: r.points("BenchmarkMemoryIndex/", "/look-up", "heap-B/file")},
		}}.draw(),
	}
}

const (
	width, height       = 640, 380
	left, right         = 64, 180 // of the plot: the labels of the lines stand at the right
	top, bottom         = 46, 48
	plotWide, plotHigh  = width - left - right, height - top - bottom
	grey                = "#767676" // as far from white as from black
	labelApart, average = 15, 0.5
)

// colours are told apart on light and on dark, and by people who do not see red.
var colours = [...]string{"#b3731b", "#2f8f6b", "#3d7fd6"}

func (c chart) draw() string {
	low, high := c.bounds()
	at := func(p point) (x, y float64) {
		return left + plotWide*share(p.x, low.x, high.x), top + plotHigh*(1-share(p.y, low.y, high.y))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" font-family="system-ui, sans-serif" font-size="12">`+"\n",
		width, height, width, height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(c.title))
	text(&b, left, 20, "start", grey, `font-size="14" font-weight="600"`, c.title)
	text(&b, left, 37, "start", grey, "", c.y)
	text(&b, left+plotWide/2, height-8, "middle", grey, "", c.x)
	for x := low.x; x <= high.x*1.001; x *= 10 {
		px, _ := at(point{x, low.y})
		rule(&b, px, top, px, top+plotHigh)
		text(&b, px, height-bottom+18, "middle", grey, "", short(x))
	}
	for y := low.y; y <= high.y*1.001; y *= 10 {
		_, py := at(point{low.x, y})
		rule(&b, left, py, left+plotWide, py)
		text(&b, left-8, py+4, "end", grey, "", short(y))
	}
	var ends []float64
	for _, l := range c.lines {
		if len(l.points) == 0 {
			ends = append(ends, 0)
			continue
		}
		_, y := at(l.points[len(l.points)-1])
		ends = append(ends, y)
	}
	for i, l := range c.lines {
		if len(l.points) == 0 {
			continue
		}
		colour, style := colours[i%len(colours)], ""
		if l.dashed {
			style = ` stroke-dasharray="5 4"`
		}
		var path strings.Builder
		for _, p := range l.points {
			x, y := at(p)
			fmt.Fprintf(&path, "%.1f,%.1f ", x, y)
			if !l.dashed {
				fmt.Fprintf(&b, `<circle cx="%.1f" cy="%.1f" r="3" fill="%s"><title>%s: %s</title></circle>`+"\n",
					x, y, colour, short(p.x), strconv.FormatFloat(p.y, 'g', 3, 64))
			}
		}
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"%s/>`+"\n", strings.TrimSpace(path.String()), colour, style)
		x, _ := at(l.points[len(l.points)-1])
		text(&b, x+10, spread(ends)[i]+4, "start", colour, "", l.name)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// bounds returns the powers of ten around all points.
func (c chart) bounds() (low, high point) {
	low, high = point{math.Inf(1), math.Inf(1)}, point{}
	for _, l := range c.lines {
		for _, p := range l.points {
			low = point{min(low.x, p.x), min(low.y, p.y)}
			high = point{max(high.x, p.x), max(high.y, p.y)}
		}
	}
	down := func(v float64) float64 { return math.Pow(10, math.Floor(math.Log10(v))) }
	up := func(v float64) float64 { return math.Pow(10, math.Ceil(math.Log10(v))) }
	return point{down(low.x), down(low.y)}, point{up(high.x), up(high.y)}
}

// share returns where a value is between two others, by its logarithm.
func share(v, low, high float64) float64 {
	return (math.Log(v) - math.Log(low)) / (math.Log(high) - math.Log(low))
}

// spread moves labels apart that would cover each other.
func spread(ys []float64) []float64 {
	moved := append([]float64(nil), ys...)
	for range 100 {
		for i := range moved {
			for k := range moved {
				gap := moved[k] - moved[i]
				if i != k && (gap > 0 || gap == 0 && k > i) && gap < labelApart {
					moved[i] -= (labelApart - gap) * average
					moved[k] += (labelApart - gap) * average
				}
			}
		}
	}
	return moved
}

func text(b *strings.Builder, x, y float64, anchor, colour, more, what string) {
	if more != "" {
		more = " " + more
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s"%s>%s</text>`+"\n", x, y, anchor, colour, more, html.EscapeString(what))
}

func rule(b *strings.Builder, x1, y1, x2, y2 float64) {
	fmt.Fprintf(b, `<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="%s" stroke-opacity="0.25"/>`+"\n", x1, y1, x2, y2, grey)
}

// short writes a power of ten as people read it.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return strconv.FormatFloat(v/1e6, 'g', 4, 64) + " M"
	case v >= 1e4:
		return strconv.FormatFloat(v/1e3, 'g', 4, 64) + " k"
	}
	return strconv.FormatFloat(v, 'g', 4, 64)
}
