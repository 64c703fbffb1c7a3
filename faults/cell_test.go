package faults

import (
	"fmt"
	"slices"
	"strings"
)

// A cell is one fault in one phase, for one kind of bot. Its expression is
//
//	FAULT@PHASE [WAY] [FORMS] [INDEX]
//
// such as "cut(5s)@acked handler two sqlite". What is left out stands for all that there are.
type cell struct {
	fault fault
	phase phase
	variant
}

func (c cell) String() string { return c.place() + " " + c.variant.String() }

// place is a cell's place in the tables, whatever the bot.
func (c cell) place() string { return c.fault.name + "@" + c.phase.String() }

// A phase is how far a heal has got when the fault happens.
type phase int

const (
	first     phase = iota // the file is about to be downloaded
	queued                 // its request waits for a place
	sent                   // the request was sent, and the server has not acknowledged it
	acked                  // it has, and the phone has not answered
	answering              // the answer is on its way
	dial                   // the new path is fetched: the connection is being made,
	headers                // the CDN was asked and has not answered,
	body                   // half of the file has come
	healed                 // the file was there, and is about to be downloaded again
	phases
)

var phaseNames = [phases]string{"first", "queued", "sent", "acked", "answering", "dial", "headers", "body", "healed"}

func (p phase) String() string { return phaseNames[p] }

// fetches reports whether the new path is being fetched.
func (p phase) fetches() bool { return p == dial || p == headers || p == body }

// A variant is what kind of bot it is: how it asks, whether there is one way to name the message or
// two, and where its index is.
type variant struct {
	way   string
	forms string
	index string
}

func (v variant) String() string { return v.way + " " + v.forms + " " + v.index }

// What a variant can be. The first of each is what the tables of the page are about.
var (
	ways    = []string{"download", "handler", "request", "all"}
	forms   = []string{"one", "two"}
	indexes = []string{"memory", "sqlite"}
)

// variants returns all kinds of bots.
func variants() (all []variant) {
	for _, way := range ways {
		for _, form := range forms {
			for _, index := range indexes {
				all = append(all, variant{way, form, index})
			}
		}
	}
	return all
}

// downloads reports whether the bot downloads, and does not only ask for the path.
func (v variant) downloads() bool { return v.way == "download" || v.way == "handler" }

// impossible says why there is no such cell, or "" if there is one.
func (c cell) impossible() string {
	if why := c.fault.family.impossible(c.fault, c.phase); why != "" {
		return why
	}
	switch {
	case c.way == "handler" && c.fault.name == "reregister":
		return "Register waits until the event handler has returned, which makes it `close`."
	case c.way == "handler" && c.fault.name == "replaced":
		return "whatsmeow looks at the server's word only after the event handler, or not at all; chance decides."
	case c.downloads():
	case c.phase.fetches(), c.fault.family == &ofCDN:
		return onlyAsks
	}
	return ""
}

// onlyAsks is why a bot that does not download has some cells less.
const onlyAsks = "A bot that asks for a path does not fetch it."

// parseCells returns the cells that an expression stands for.
func parseCells(expression string) (cells []cell, err error) {
	words := strings.Fields(expression)
	if len(words) == 0 {
		return nil, fmt.Errorf("the expression is empty")
	}
	name, at, ok := strings.Cut(words[0], "@")
	if !ok {
		return nil, fmt.Errorf("%q is not FAULT@PHASE", words[0])
	}
	f, err := parseFault(name)
	if err != nil {
		return nil, err
	}
	i := slices.Index(phaseNames[:], at)
	if i < 0 {
		return nil, fmt.Errorf("there is no phase %q; there are %s", at, strings.Join(phaseNames[:], ", "))
	}
	var want variant
	for _, word := range words[1:] {
		switch {
		case slices.Contains(ways, word):
			want.way = word
		case slices.Contains(forms, word):
			want.forms = word
		case slices.Contains(indexes, word):
			want.index = word
		default:
			return nil, fmt.Errorf("%q is no kind of bot; there are %s", word, strings.Join(slices.Concat(ways, forms, indexes), ", "))
		}
	}
	fits := func(want, is string) bool { return want == "" || want == is }
	var why string
	for _, v := range variants() {
		c := cell{f, phase(i), v}
		if !fits(want.way, v.way) || !fits(want.forms, v.forms) || !fits(want.index, v.index) {
			continue
		}
		if no := c.impossible(); no != "" {
			why = no
			continue
		}
		cells = append(cells, c)
	}
	if len(cells) == 0 {
		return nil, fmt.Errorf("there is no %s: %s", expression, why)
	}
	return cells, nil
}

// allCells returns the whole matrix.
func allCells() (cells []cell) {
	for _, name := range faultNames() {
		f, err := parseFault(name)
		if err != nil {
			panic(err)
		}
		for p := range phases {
			for _, v := range variants() {
				if c := (cell{f, p, v}); c.impossible() == "" {
					cells = append(cells, c)
				}
			}
		}
	}
	return cells
}
