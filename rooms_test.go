package reupload_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/whatsmeow-plugins/reupload"
)

// The rooms of docs/architecture.md: a file of the package uses files below it in the table there,
// and none above.

// climbs are the uses of a file above that there are today. A new one is a fault, and so is one on
// this list that is there no more: take it off.
var climbs = []arrow{{"driver.go", "flights.go"}} // a flight and its driver are one room with two doors

// circles are the files today that use each other, by whatever way around. The same holds for them.
var circles = []string{"driver.go flights.go"}

// An arrow is what one file uses of another: identifiers of the package, methods and fields.
type arrow struct{ from, to string }

// A house is the files of the package and the arrows between them, with an example of each.
type house struct {
	files  []string
	arrows map[arrow]string
	// doors are the places that go around internal/host to whatsmeow's private side.
	doors []string
}

func TestNoRoomUsesOneAbove(t *testing.T) {
	t.Parallel()
	h := theHouse(t)
	order := roomsInOrder(t)
	for _, file := range h.files {
		if n := len(slices.DeleteFunc(slices.Clone(order), func(room string) bool { return room != file })); n != 1 {
			t.Errorf("%s is %d times in the table of rooms of docs/architecture.md, want once", file, n)
		}
	}
	var up []arrow
	for a := range h.arrows {
		if slices.Index(order, a.to) < slices.Index(order, a.from) {
			up = append(up, a)
		}
	}
	for _, a := range up {
		if !slices.Contains(climbs, a) {
			t.Errorf("%s uses %s, which is above it: %s", a.from, a.to, h.arrows[a])
		}
	}
	for _, a := range climbs {
		if !slices.Contains(up, a) {
			t.Errorf("%s uses nothing above it in %s any more: take that off the list of climbs", a.from, a.to)
		}
	}
	t.Logf("%d files, %d arrows, %d of them upward", len(h.files), len(h.arrows), len(up))
}

func TestNoRoomsInACircle(t *testing.T) {
	t.Parallel()
	h := theHouse(t)
	found := h.circles()
	for _, circle := range found {
		t.Logf("a circle of %d files: %s", strings.Count(circle, " ")+1, circle)
		if !slices.Contains(circles, circle) {
			t.Errorf("these files use each other: %s", circle)
		}
	}
	for _, circle := range circles {
		if !slices.Contains(found, circle) {
			t.Errorf("these files are no circle any more: take them off the list of circles: %s", circle)
		}
	}
	t.Logf("%d circles", len(found))
}

func TestHostIsTheOnlyDoor(t *testing.T) {
	t.Parallel()
	for _, door := range theHouse(t).doors {
		t.Errorf("%s looks into whatsmeow, which is for internal/host alone", door)
	}
}

// What is read first stays short: the README, and the file that puts the parts together.
func TestSizes(t *testing.T) {
	t.Parallel()
	needsCheckout(t)
	for file, limit := range map[string]int{"README.md": 150, "plugin.go": 300} {
		if n := strings.Count(readDocument(t, file), "\n"); n >= limit {
			t.Errorf("%s has %d lines, and should have less than %d", file, n, limit)
		}
	}
}

// roomsInOrder returns the files in the first column of the table of rooms, from top to bottom.
func roomsInOrder(t *testing.T) (files []string) {
	t.Helper()
	_, section, _ := strings.Cut(readDocument(t, "docs/architecture.md"), "\n## The rooms\n")
	section, _, _ = strings.Cut(section, "\n## ")
	name := regexp.MustCompile(`\b[a-z_]+\.go\b`)
	for line := range strings.Lines(section) {
		if cells := strings.Split(line, "|"); len(cells) > 2 {
			files = append(files, name.FindAllString(cells[1], -1)...)
		}
	}
	return files
}

// circles returns the files of each circle, sorted.
func (h house) circles() (found []string) {
	reaches := make(map[arrow]bool)
	for a := range h.arrows {
		reaches[a] = true
	}
	for _, by := range h.files {
		for _, from := range h.files {
			for _, to := range h.files {
				if reaches[arrow{from, by}] && reaches[arrow{by, to}] {
					reaches[arrow{from, to}] = true
				}
			}
		}
	}
	for _, file := range h.files {
		var circle []string
		for _, other := range h.files {
			if reaches[arrow{file, other}] && reaches[arrow{other, file}] {
				circle = append(circle, other)
			}
		}
		if len(circle) > 1 && circle[0] == file {
			found = append(found, strings.Join(circle, " "))
		}
	}
	return found
}

// theHouse is read once for all tests.
func theHouse(t *testing.T) house {
	t.Helper()
	needsCheckout(t)
	h, err := readHouse()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

var readHouse = sync.OnceValues(func() (h house, err error) {
	h.arrows = make(map[arrow]string)
	fset := token.NewFileSet()
	files, info, err := checkPackage(fset)
	if err != nil {
		return h, err
	}
	for _, file := range files {
		h.files = append(h.files, fset.Position(file.Pos()).Filename)
	}
	slices.Sort(h.files)
	used := slices.SortedFunc(maps.Keys(info.Uses), func(a, b *ast.Ident) int { return cmp.Compare(a.Pos(), b.Pos()) })
	for _, id := range used {
		obj, at := info.Uses[id], fset.Position(id.Pos())
		switch {
		case obj.Pkg() == nil: // of the language itself
		case opensADoor(obj):
			h.doors = append(h.doors, fmt.Sprintf("%s:%d (%s)", at.Filename, at.Line, obj.Name()))
		case obj.Pkg().Path() == packagePath:
			a := arrow{at.Filename, fset.Position(obj.Pos()).Filename}
			if a.from != a.to && h.arrows[a] == "" {
				h.arrows[a] = fmt.Sprintf("%s in line %d", obj.Name(), at.Line)
			}
		}
	}
	return h, nil
})

// opensADoor reports whether something leads to private fields, or to what whatsmeow exports under
// protest.
func opensADoor(obj types.Object) bool {
	_, isFunction := obj.(*types.Func)
	switch obj.Pkg().Path() {
	case "unsafe":
		return true
	case "reflect":
		return isFunction && slices.Contains([]string{"NewAt", "Pointer", "UnsafeAddr", "UnsafePointer"}, obj.Name())
	case "go.mau.fi/whatsmeow":
		return obj.Name() == "DangerousInternals"
	}
	return false
}

const packagePath = "github.com/whatsmeow-plugins/reupload"

// checkPackage parses the package's files without its tests, and finds out what each identifier in
// them means. What they import comes from where the go command has compiled it to, which takes a
// small part of the time that it would take from source.
func checkPackage(fset *token.FileSet) (files []*ast.File, info *types.Info, err error) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		return nil, nil, err
	}
	list := []string{"list", "-export", "-f", "{{.ImportPath}}\t{{.Export}}"}
	if reupload.RaceDetector {
		list = append(list, "-race") // these are compiled already
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		files = append(files, file)
		for _, imported := range file.Imports {
			list = append(list, strings.Trim(imported.Path.Value, `"`))
		}
	}
	command := exec.Command("go", list...)
	command.Stderr = os.Stderr
	lines, err := command.Output()
	if err != nil {
		return nil, nil, fmt.Errorf("go list: %w", err)
	}
	compiled := make(map[string]string)
	for line := range strings.Lines(string(lines)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "\t")
		compiled[path] = file
	}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", func(path string) (io.ReadCloser, error) {
		return os.Open(compiled[path])
	})}
	info = &types.Info{Uses: make(map[*ast.Ident]types.Object)}
	_, err = config.Check(packagePath, fset, files, info)
	return files, info, err
}
