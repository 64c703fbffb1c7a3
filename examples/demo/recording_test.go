package main

import (
	"bytes"
	"cmp"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"html"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var update = flag.Bool("update", false, "record the demo anew, in docs/demo.svg")

// TestRecordingIsCurrent compares docs/demo.svg with what the demo prints. With -update,
// it makes it.
func TestRecordingIsCurrent(t *testing.T) {
	t.Parallel()
	file := filepath.Join("..", "..", "docs", "demo.svg")
	var story bytes.Buffer
	if err := run(t.Context(), &story, "success", false); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(file, picture(story.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	recorded, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(recorded, []byte("var(")) {
		t.Errorf("%s has variables, which few programs that show pictures know: it would be black there", file)
	}
	text, err := textOf(recorded)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := mask(text), mask(command+"\n"+story.String()); got != want {
		t.Errorf("the demo no longer prints what %s shows; run scripts/record-demo. It shows\n%s\nand the demo prints\n%s", file, got, want)
	}
}

// command is what one types to see the demo.
const command = "$ go run ./examples/demo"

// varies are the times, and the sizes and names that have to do with chance.
var varies = regexp.MustCompile(`\d+(\.\d+)?(ms|µs|s| ms|B)|\d{1,4}_n`)

// mask leaves of a story what is the same each time.
func mask(story string) string {
	story = varies.ReplaceAllString(unwrap(story), "#")
	return regexp.MustCompile(` +`).ReplaceAllString(story, " ")
}

// The picture's measures, in pixels. Characters are as wide as textLength makes them, in any font.
const (
	char, line, padding = 8, 19, 20
	bar                 = 34 // above the text, as windows have it
)

// style has a light and a dark half, in plain colours: many programs that show pictures know no
// variables. Some know no style at all, and for these the light colours are attributes too. The
// picture shows which fonts the reader has, and loads none.
const style = `
    rect { fill: #ffffff; stroke: #d0d7de; }
    circle { fill: #d0d7de; }
    text { fill: #1f2328; font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; white-space: pre; }
    .dim { fill: #656d76; } .bot { fill: #0550ae; } .server { fill: #8250df; }
    .cdn { fill: #953800; } .good { fill: #116329; } .bad { fill: #cf222e; }
    .strong { font-weight: 600; }
    @media (prefers-color-scheme: dark) {
      rect { fill: #0d1117; stroke: #30363d; }
      circle { fill: #30363d; }
      text { fill: #e6edf3; }
      .dim { fill: #8b949e; } .bot { fill: #79c0ff; } .server { fill: #d2a8ff; }
      .cdn { fill: #ffa657; } .good { fill: #7ee787; } .bad { fill: #ff7b72; }
    }
  `

// speakers are the colours of those who do something.
var speakers = map[string]string{
	"stage": "dim", "legend": "dim", "bot": "bot strong", "bot does": "bot strong", "plugin": "good strong",
	"bot → CDN": "cdn strong", "bot → server": "bot strong", "server → bot": "server strong",
}

// picture makes an SVG of what the demo prints.
func picture(story string) []byte {
	lines := strings.Split(strings.TrimSuffix(story, "\n"), "\n")
	w, h := width*char+2*padding, bar+(len(lines)+2)*line+padding
	var svg bytes.Buffer
	fmt.Fprintf(&svg, "<svg xmlns=\"http://www.w3.org/2000/svg\" xml:space=\"preserve\" role=\"img\" fill=\"#1f2328\" font-family=\"monospace\" font-size=\"13\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %[1]d %[2]d\">\n", w, h)
	svg.WriteString("  <title>What go run ./examples/demo prints: an expired picture heals</title>\n")
	svg.WriteString("  <!-- made by scripts/record-demo -->\n  <style>" + style + "</style>\n")
	fmt.Fprintf(&svg, "  <rect x=\"0.5\" y=\"0.5\" width=\"%d\" height=\"%d\" rx=\"8\" fill=\"#ffffff\" stroke=\"#d0d7de\"/>\n", w-1, h-1)
	for i := range 3 {
		fmt.Fprintf(&svg, "  <circle cx=\"%d\" cy=\"18\" r=\"5\" fill=\"#d0d7de\"/>\n", padding+i*18)
	}
	y := bar + line
	// write puts text into a column of a line.
	write := func(column int, class, text string) {
		if text != "" {
			fmt.Fprintf(&svg, "  <text x=\"%d\" y=\"%d\" class=\"%s\" textLength=\"%d\" lengthAdjust=\"spacingAndGlyphs\">%s</text>\n",
				padding+column*char, y, class, utf8.RuneCountInString(text)*char, html.EscapeString(text))
		}
	}
	write(0, "strong", command)
	y += line / 2
	const name = margin - 14 // the column of the actor
	var class string
	for _, l := range lines {
		y += line
		at := []rune(l)
		who, what := strings.TrimSpace(string(at[name:margin])), strings.TrimLeft(string(at[margin:]), " ")
		if who != "" { // otherwise the line goes on
			class = ""
			if speakers[who] == "dim" {
				class = "dim"
			}
		}
		write(name-len(strings.TrimLeft(string(at[:name]), " ")), "dim", strings.TrimSpace(string(at[:name])))
		write(name, speakers[who], who)
		write(len(at)-utf8.RuneCountInString(what), cmp.Or(highlight(what), class), what)
	}
	svg.WriteString("</svg>\n")
	return svg.Bytes()
}

// highlight returns the colour of the lines that it is about.
func highlight(what string) string {
	switch {
	case strings.Contains(what, "410 Gone"):
		return "bad strong"
	case strings.Contains(what, "200 OK"), strings.Contains(what, ": equal"), strings.HasPrefix(what, "right:"):
		return "good strong"
	}
	return ""
}

// textOf returns the text of a picture, as the demo prints it.
func textOf(svg []byte) (string, error) {
	var text strings.Builder
	last := ""
	for decoder := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return strings.TrimPrefix(text.String(), "\n") + "\n", nil
		} else if err != nil {
			return "", err
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "text" {
			continue
		}
		var element struct {
			X    int    `xml:"x,attr"`
			Y    string `xml:"y,attr"`
			Text string `xml:",chardata"`
		}
		if err := decoder.DecodeElement(&element, &start); err != nil {
			return "", err
		}
		switch column := (element.X - padding) / char; {
		case element.Y == last:
			text.WriteString(" ")
		default:
			text.WriteString("\n" + strings.Repeat(" ", column))
		}
		text.WriteString(element.Text)
		last = element.Y
	}
}
