package main

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
)

func TestMutations(t *testing.T) {
	const source = `package p

import "strconv"

type sized struct {
	fixed [3]int
}

func f(a, b int, l log) (bool, error) {
	if a == b && l.ok() {
		return true, nil
	}
	for l.ok() {
		l.Debugf("%d", a+7)
		a++
		a += 40
	}
	if l.ok() {
		strconv.Itoa(0)
	}
	_, err := strconv.Atoi("1")
	return false, err
}
`
	found, err := mutations("p.go", []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range found {
		got = append(got, m.String())
	}
	want := []string{
		"p.go:10: && -> ||", "p.go:10: == -> !=", "p.go:11: true -> false",
		"p.go:15: ++ -> --",
		"p.go:16: += -> -=", "p.go:16: a += 40 -> (nothing)", "p.go:16: 40 -> 80",
		"p.go:18: l.ok() -> !(l.ok())", "p.go:19: strconv.Itoa(0) -> (nothing)", "p.go:19: 0 -> 1",
		"p.go:22: false -> true", "p.go:22: err -> nil",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
	for _, m := range found {
		if _, err := parser.ParseFile(token.NewFileSet(), "p.go", m.apply([]byte(source)), 0); err != nil {
			t.Errorf("%s: %v", m, err)
		}
	}
}

// A module whose tests notice one thing and not another.
func TestTry(t *testing.T) {
	dir, scratch := t.TempDir(), t.TempDir()
	t.Chdir(dir)
	if err := os.Mkdir("p", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"go.mod":      "module m\n",
		"p/f.go":      "package m\n\nfunc add(a, b int) int { return a + b }\n\nfunc unseen() int { return 1 }\n\nfunc text() string { return \"a\" + \"b\" }\n",
		"p/f_test.go": "package m\n\nimport \"testing\"\n\nfunc TestAdd(t *testing.T) {\n\tif add(1, 2) != 3 {\n\t\tt.Error()\n\t}\n}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	found, err := mutationsOf([]string{"p/f.go"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range found {
		result, by, err := try(t.Context(), scratch, m)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.String()+": "+string(result)+" "+by)
	}
	want := []string{
		"p/f.go:3: + -> -: noticed by TestAdd",
		"p/f.go:5: 1 -> 2: SURVIVED ",
		"p/f.go:7: + -> -: invalid ",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%q, want\n%q", got, want)
	}
}

func TestSuites(t *testing.T) {
	t.Chdir("../..")
	got := suites("memindex.go")
	if len(got) != 4 || got[0].dir != "." || got[0].only == "" || got[1] != (suite{dir: "."}) || got[3] != (suite{dir: "simulation"}) {
		t.Errorf("got %v", got)
	}
	hasTests := func(dir string) bool {
		tests, _ := filepath.Glob(filepath.Join(dir, "*_test.go"))
		return len(tests) > 0
	}
	for _, others := range testedFrom {
		for _, other := range others {
			if !hasTests(other) {
				t.Errorf("there are no tests in %s", other)
			}
		}
	}
	files, err := sources("")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !slices.ContainsFunc(suites(file), func(s suite) bool { return hasTests(s.dir) }) {
			t.Errorf("no tests are run for %s", file)
		}
	}
}
