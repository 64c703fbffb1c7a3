package reupload_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The documents name files, sections and versions. These tests see to it that they are there.

// needsCheckout skips a test in the module cache, which has none of the modules that lie inside
// this one.
func needsCheckout(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("examples/bot/go.mod"); err != nil {
		t.Skip("this is not a checkout of the repository")
	}
}

func readDocument(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocumentsNameFilesThatAreThere is about the text. That the table of rooms has every file is
// for TestNoRoomUsesOneAbove.
func TestDocumentsNameFilesThatAreThere(t *testing.T) {
	t.Parallel()
	needsCheckout(t)
	name := regexp.MustCompile(`[a-z_/]*\b[a-z_]+\.go\b`)
	for _, document := range []string{"docs/architecture.md", "docs/decisions.md", "CONTRIBUTING.md", "SECURITY.md"} {
		for _, named := range name.FindAllString(readDocument(t, document), -1) {
			if _, err := os.Stat(named); err != nil {
				t.Errorf("%s names %s, which is not there", document, named)
			}
		}
	}
}

// TestLinksLeadSomewhere follows the links between the documents, to files and to sections of them.
func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	needsCheckout(t)
	var documents []string
	for _, pattern := range []string{"*.md", "docs/*.md", "wabox/*.md", "simulation/*.md", "examples/*/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("%s: %v, %v", pattern, found, err)
		}
		documents = append(documents, found...)
	}
	link := regexp.MustCompile(`\]\(([^)#\s]*)(#[^)\s]+)?\)`)
	for _, document := range documents {
		for _, found := range link.FindAllStringSubmatch(readDocument(t, document), -1) {
			path, section := found[1], found[2]
			if strings.Contains(path, "://") {
				continue
			}
			target := document
			if path != "" {
				target = filepath.Join(filepath.Dir(document), path)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", document, path, err)
			} else if section != "" && !slices.Contains(sectionsOf(readDocument(t, target)), section) {
				t.Errorf("%s links to %s, which has no section %s", document, target, section)
			}
		}
	}
}

// TestEachClaimHasItsTest is about docs/security.md: each line of its tables names tests, and each
// of those is there.
func TestEachClaimHasItsTest(t *testing.T) {
	t.Parallel()
	needsCheckout(t)
	text := readDocument(t, "docs/security.md")
	named := regexp.MustCompile("`(?:([a-z_/]+_test\\.go): )?((?:Test|Fuzz)\\w+)`")
	inTable := false
	for line := range strings.Lines(text) {
		row := strings.HasPrefix(line, "|")
		if head := row && !inTable; !head && row && !strings.HasPrefix(line, "| ---") && !named.MatchString(line) {
			t.Errorf("this names no test: %s", line)
		}
		inTable = row
	}
	names := named.FindAllStringSubmatch(text, -1)
	if len(names) < 50 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, name := range names {
		pattern := name[1]
		if pattern == "" {
			pattern = "*_test.go"
		}
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(files, func(file string) bool {
			return strings.Contains(readDocument(t, file), "\nfunc "+name[2]+"(")
		}) {
			t.Errorf("there is no %s in %s", name[2], pattern)
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// sectionsOf returns the anchors that GitHub gives the headings of a document.
func sectionsOf(text string) (anchors []string) {
	code := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			code = !code
		}
		if heading := strings.TrimLeft(line, "#"); heading != line && !code {
			heading = notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			anchors = append(anchors, "#"+strings.ReplaceAll(heading, " ", "-"))
		}
	}
	return anchors
}

// TestVersionsAreThoseOfTheModules compares the versions that the documents give with those in
// go.mod.
func TestVersionsAreThoseOfTheModules(t *testing.T) {
	t.Parallel()
	needsCheckout(t)
	for _, test := range []struct{ document, mod, module string }{
		{"README.md", "go.mod", "go.mau.fi/whatsmeow"},
		{"README.md", "examples/bot/go.mod", "go.mau.fi/whatsmeow"},
		{"docs/upgrading.md", "go.mod", "go.mau.fi/whatsmeow"},
		{"docs/upgrading.md", "examples/bot/go.mod", "go.mau.fi/whatsmeow"},
		{"docs/upstream.md", "examples/bot/go.mod", "go.mau.fi/whatsmeow"},
		{"docs/upgrading.md", "sqlindex/drivertest/go.mod", "modernc.org/sqlite"},
		{"docs/upgrading.md", "sqlindex/drivertest/go.mod", "github.com/mattn/go-sqlite3"},
		{"docs/upgrading.md", "sqlindex/drivertest/go.mod", "github.com/jackc/pgx/v5"},
		{"docs/upgrading.md", "sqlindex/drivertest/go.mod", "github.com/lib/pq"},
	} {
		require := regexp.MustCompile(`(?m)^\s+` + regexp.QuoteMeta(test.module) + ` (v\S+)`)
		version := require.FindStringSubmatch(readDocument(t, test.mod))
		if version == nil {
			t.Errorf("%s requires no %s", test.mod, test.module)
		} else if !strings.Contains(readDocument(t, test.document), version[1]) {
			t.Errorf("%s requires %s %s, and %s does not say so", test.mod, test.module, version[1], test.document)
		}
	}
}
