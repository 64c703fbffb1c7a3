package faults

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

const pageFile = "../docs/faults.md"

// A page is what docs/faults.md says of each cell, by its expression.
type page map[string]record

// none stands in a table where there is no such cell.
const none = "–"

const intro = `# Faults

What can go wrong while a picture heals, when it can, and what your bot sees of it.

A test writes this page. It lets each fault happen in each phase, with an unmodified whatsmeow client that is logged in to
[wabox](../wabox/README.md), under a fake clock. The test fails if a call ends in another way than this page says, or later; if the file
that comes is not the file; if the file cannot be had when the fault is over; if the phone is asked for a file that is there; if the
client connects to a host that is not WhatsApp's; or if a goroutine is left.

## How to read it

A cell says how the call ends, how long that takes at the most, and what follows:

    timeout 30 s ×2, 1 h

- ` + "`timeout`" + ` is the label of the cause; causes.md has [what each cause means](causes.md). ` + "`healed`" + ` means that the
  file came, or its new path if the bot asks for that. What is not a label, such as ` + "`HTTP 503`" + ` or ` + "`cut short`" + `, is an error of
  whatsmeow's that the plugin passes on.
- 30 s is the longest that the call takes.
- ×2 is how many requests the server got in all, until the file was there. No number means one.
- 1 h is how long downloads do not get the file after the fault, because the phone is not asked again. If there is no time, the next
  download gets it; "named" means that this download must say which message the file is in, as plugin.Download does.
  plugin.RequestReupload asks at once, whatever the pause.

## The phases

The client has the server's ack one second after the call, and the phone's answer after two. Where the fault happens during the fetch of
the new path, that fetch takes two more seconds. So a heal takes 2 or 4 s if nothing goes wrong. Options are the defaults.

| Phase | The fault happens |
| --- | --- |
`

// phaseMeans says what the phases are.
var phaseMeans = [phases]string{
	first:     "before the first download",
	queued:    "while the request waits for a place, which another one has for two seconds (MaxInFlight is 1)",
	sent:      "when the request is on its way, and the client has no ack of the server's",
	acked:     "when the server has acknowledged it, and the phone has not answered",
	answering: "when the phone's answer is on its way",
	dial:      "while the new path is fetched, and the connection to the CDN is being made",
	headers:   "when the CDN was asked for the new path, and has not answered",
	body:      "when half of the file has come from there",
	healed:    "when the file was there; what follows is the next download",
}

const kindsOfBots = `
## The bots

The tables are about a bot that calls client.Download in a goroutine. Below each table is what is different for other bots; the rest
is the same for all.

| Word | The bot |
| --- | --- |
| ` + "`download`" + ` | calls client.Download in a goroutine |
| ` + "`handler`" + ` | calls client.Download in its event handler |
| ` + "`request`" + ` | calls plugin.RequestReupload |
| ` + "`all`" + ` | calls plugin.RequestAll |
| ` + "`one`" + ` | can name the message in one way, as it does not know the contact's LID |
| ` + "`two`" + ` | can name the message in two ways, as it does |
| ` + "`memory`" + `, ` + "`sqlite`" + ` | has its index there |

The account itself has a phone number and a LID in all cells: after eight seconds of silence, the phone is asked under the account's other
name. ` + "`request`" + ` and ` + "`all`" + ` do not fetch the file, so the phases of the fetch and the faults of the CDN are not for them.

## See it happen

Paste a fault, a phase and, if you like, a kind of bot to see each step of that cell:

` + "```sh" + `
cd faults && go test -v -run TestMatrix -cell 'cut(5s)@acked handler two sqlite'
` + "```" + `

The fault can be one that is in no table: ` + "`http(418)@headers`" + `, ` + "`late(2h)@answering`" + `.
`

// render writes the page.
func (p page) render() []byte {
	var b bytes.Buffer
	b.WriteString(intro)
	for ph := range phases {
		fmt.Fprintf(&b, "| `%v` | %s |\n", ph, phaseMeans[ph])
	}
	b.WriteString(kindsOfBots)
	for _, f := range families {
		p.renderFamily(&b, f)
	}
	return b.Bytes()
}

func quoted(names []string) string {
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = "`" + name + "`"
	}
	return strings.Join(quoted, ", ")
}

func (p page) renderFamily(b *bytes.Buffer, f *family) {
	fmt.Fprintf(b, "\n## %s\n\n| Fault | |\n| --- | --- |\n", f.title)
	for _, k := range f.kinds {
		fmt.Fprintf(b, "| %s | %s |\n", quoted(k.names()), k.means)
	}
	p.renderTable(b, f)
	p.renderDifferences(b, f)
	renderImpossible(b, f)
}

// text is what the page says of a cell.
func (p page) text(c cell) string {
	if c.impossible() != "" {
		return none
	}
	return p[c.String()].String()
}

// standard is the kind of bot that the tables are about.
func standard() variant { return variant{ways[0], forms[0], indexes[0]} }

// renderTable writes the table of a family. Phases in which nothing can happen are left out, and
// what is alike stands once: neighbouring phases, and faults.
func (p page) renderTable(b *bytes.Buffer, f *family) {
	faults := f.faults()
	column := func(ph phase) (texts []string) {
		for _, fault := range faults {
			texts = append(texts, p.text(cell{fault, ph, standard()}))
		}
		return texts
	}
	var columns [][]phase
	for ph := range phases {
		texts := column(ph)
		if !slices.ContainsFunc(texts, func(text string) bool { return text != none }) {
			continue
		}
		if n := len(columns); n > 0 && slices.Equal(texts, column(columns[n-1][0])) {
			columns[n-1] = append(columns[n-1], ph)
		} else {
			columns = append(columns, []phase{ph})
		}
	}
	b.WriteString("\n| ")
	for _, phases := range columns {
		fmt.Fprintf(b, "| %s ", list(phases))
	}
	fmt.Fprintf(b, "|\n|%s\n", strings.Repeat(" --- |", len(columns)+1))
	var rows []string // the cells
	names := make(map[string][]string)
	for _, fault := range faults {
		row := ""
		for _, phases := range columns {
			row += " " + p.text(cell{fault, phases[0], standard()}) + " |"
		}
		if names[row] == nil {
			rows = append(rows, row)
		}
		names[row] = append(names[row], fault.name)
	}
	for _, row := range rows {
		fmt.Fprintf(b, "| %s |%s\n", quoted(names[row]), row)
	}
}

func list[T fmt.Stringer](all []T) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = one.String()
	}
	return strings.Join(names, ", ")
}

func (f *family) faults() (faults []fault) {
	for _, k := range f.kinds {
		for _, name := range k.names() {
			fault, err := parseFault(name)
			if err != nil {
				panic(err)
			}
			faults = append(faults, fault)
		}
	}
	return faults
}

// A difference is what comes of some cells for some kinds of bots.
type difference struct{ bots, phases, text string }

// renderDifferences writes what is different for other kinds of bots.
func (p page) renderDifferences(b *bytes.Buffer, f *family) {
	type key struct{ bots, fault, text string }
	where := make(map[key][]phase)
	var keys []key
	for _, fault := range f.faults() {
		for ph := range phases {
			base := p.text(cell{fault, ph, standard()})
			others := make(map[string][]variant)
			for _, v := range variants() {
				c := cell{fault, ph, v}
				if text := p.text(c); c.impossible() == "" && text != base {
					others[text] = append(others[text], v)
				}
			}
			for _, text := range slices.Sorted(maps.Keys(others)) {
				k := key{botsOf(fault, ph, others[text]), fault.name, text}
				if where[k] == nil {
					keys = append(keys, k)
				}
				where[k] = append(where[k], ph)
			}
		}
	}
	names := make(map[difference][]string) // without faults
	var differences []difference
	for _, k := range keys {
		d := difference{bots: k.bots, phases: list(where[k]), text: k.text}
		if names[d] == nil {
			differences = append(differences, d)
		}
		names[d] = append(names[d], k.fault)
	}
	if len(differences) == 0 {
		return
	}
	slices.SortStableFunc(differences, func(a, b difference) int { return cmp.Compare(a.bots, b.bots) })
	b.WriteString("\n| Different for | fault | at | |\n| --- | --- | --- | --- |\n")
	for _, d := range differences {
		faults := quoted(names[d])
		if slices.Equal(names[d], f.possibleAt(d.phases)) && len(names[d]) > 1 {
			faults = everyFault
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", d.bots, faults, d.phases, d.text)
	}
}

// everyFault stands for all of a family that can happen in the phases beside it.
const everyFault = "every one"

// possibleAt returns the names of the faults that can happen in all of some phases.
func (f *family) possibleAt(at string) (names []string) {
	for _, fault := range f.faults() {
		possible := true
		for name := range strings.SplitSeq(at, ", ") {
			_, err := parseCells(fault.name + "@" + name)
			possible = possible && err == nil
		}
		if possible {
			names = append(names, fault.name)
		}
	}
	return names
}

// botsOf says in the words of expressions which of the kinds of bots that a cell can have some are.
func botsOf(f fault, ph phase, some []variant) string {
	var words []string
	for _, v := range some {
		word := ""
		for i, other := range []func(variant) variant{
			func(v variant) variant { v.way = ""; return v },
			func(v variant) variant { v.forms = ""; return v },
			func(v variant) variant { v.index = ""; return v },
		} {
			like := func(w variant) bool { return other(w) == other(v) }
			var possible, are int
			for _, w := range variants() {
				if like(w) && (cell{f, ph, w}).impossible() == "" {
					possible++
				}
			}
			for _, w := range some {
				if like(w) {
					are++
				}
			}
			if possible != are {
				word += " " + []string{v.way, v.forms, v.index}[i]
			}
		}
		if word = strings.TrimSpace(word); !slices.Contains(words, word) {
			words = append(words, word)
		}
	}
	return strings.Join(words, ", ")
}

// renderImpossible says which cells there are not, and why.
func renderImpossible(b *bytes.Buffer, f *family) {
	whys := make(map[string][]cell)
	var order []string
	for _, fault := range f.faults() {
		for ph := range phases {
			for _, v := range variants() {
				c := cell{fault, ph, v}
				if why := c.impossible(); why != "" && why != onlyAsks {
					if whys[why] == nil {
						order = append(order, why)
					}
					whys[why] = append(whys[why], c)
				}
			}
		}
	}
	if len(order) > 0 {
		b.WriteString("\nWhat cannot be:\n\n")
	}
	for _, why := range order {
		fmt.Fprintf(b, "- %s: %s\n", describe(f, whys[why]), why)
	}
}

// describe names cells by what they have in common.
func describe(f *family, cells []cell) string {
	var faults, at, bots []string
	for _, c := range cells {
		faults = append(faults, c.fault.name)
		at = append(at, c.phase.String())
		bots = append(bots, c.way)
	}
	part := func(names []string, all int) []string {
		var some []string
		for _, name := range names {
			if !slices.Contains(some, name) {
				some = append(some, name)
			}
		}
		if len(some) == all {
			return nil
		}
		return some
	}
	var parts []string
	if some := part(faults, len(f.faults())); some != nil {
		parts = append(parts, quoted(some))
	}
	if some := part(at, int(phases)); some != nil {
		slices.SortFunc(some, func(a, b string) int {
			return cmp.Compare(slices.Index(phaseNames[:], a), slices.Index(phaseNames[:], b))
		})
		parts = append(parts, "at "+strings.Join(some, ", "))
	}
	if some := part(bots, len(ways)); some != nil {
		parts = append(parts, "for "+quoted(some))
	}
	return strings.Join(parts, " ")
}

// parsePage reads what a page says of each cell.
func parsePage(text string) (page, error) {
	p := make(page)
	sections := strings.Split(text, "\n## ")
	for _, f := range families {
		i := slices.IndexFunc(sections, func(section string) bool { return strings.HasPrefix(section, f.title+"\n") })
		if i < 0 {
			return nil, fmt.Errorf("there is no section %q", f.title)
		}
		if err := p.parseFamily(f, sections[i]); err != nil {
			return nil, fmt.Errorf("section %q: %w", f.title, err)
		}
	}
	return p, nil
}

func (p page) parseFamily(f *family, section string) error {
	tables := strings.Split(section, "\n\n|")
	if len(tables) < 3 {
		return fmt.Errorf("there is no table of outcomes")
	}
	rows := rowsOf(tables[2])
	columns := rows[0][1:]
	for _, row := range rows[2:] {
		for i, text := range row[1:] {
			if err := p.say(row[0], columns[i], "", text); err != nil {
				return err
			}
		}
	}
	if len(tables) < 4 {
		return nil
	}
	for _, row := range rowsOf(tables[3])[2:] {
		if len(row) != 4 {
			return fmt.Errorf("a line has %d columns: %q", len(row), row)
		}
		for bots := range strings.SplitSeq(strings.Trim(row[0], "`"), ", ") {
			faults := row[1]
			if faults == everyFault {
				faults = quoted(f.possibleAt(row[2]))
			}
			if err := p.say(faults, row[2], bots, row[3]); err != nil {
				return err
			}
		}
	}
	return nil
}

// rowsOf splits a table.
func rowsOf(table string) (rows [][]string) {
	table, _, _ = strings.Cut(table, "\n\n")
	for line := range strings.SplitSeq(strings.TrimSpace(table), "\n") {
		var row []string
		for text := range strings.SplitSeq(strings.Trim(line, "| "), "|") {
			row = append(row, strings.TrimSpace(text))
		}
		rows = append(rows, row)
	}
	if len(rows[0]) < len(rows[len(rows)-1]) { // the first column of the header is empty
		rows[0] = append([]string{""}, rows[0]...)
	}
	return rows
}

// say notes what stands in one cell of a table, for all that it is about.
func (p page) say(faults, at, bots, text string) error {
	if text == none {
		return nil
	}
	r, err := parseRecord(text)
	if err != nil {
		return err
	}
	for name := range strings.SplitSeq(faults, ", ") {
		for ph := range strings.SplitSeq(at, ", ") {
			cells, err := parseCells(strings.Trim(name, "`") + "@" + ph + " " + bots)
			if err != nil {
				return err
			}
			for _, c := range cells {
				p[c.String()] = r
			}
		}
	}
	return nil
}
