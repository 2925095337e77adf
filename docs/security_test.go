package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAttacks: each attack in docs/security.md has tests, and these are there.
func TestAttacks(t *testing.T) {
	tests := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`)
	walk(t, func(file string) {
		if !strings.HasSuffix(file, "_test.go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			t.Error(err)
		}
		for _, m := range declared.FindAllSubmatch(text, -1) {
			tests[string(m[1])] = true
		}
	})
	attacks := 0
	for _, row := range table(t, part(t, "docs/security.md", "attacks")) {
		if len(row) == 1 || strings.Join(row[1:], "") == "" {
			continue // a heading within the table
		}
		attacks++
		if len(row) != 3 || row[1] == "" || len(quoted(row[2])) == 0 {
			t.Errorf("%q: says not what it gets, or names no test", row)
			continue
		}
		for _, name := range quoted(row[2]) {
			if !tests[name] {
				t.Errorf("%q: there is no %s", row[0], name)
			}
		}
	}
	if attacks < 20 {
		t.Errorf("found only %d attacks", attacks)
	}
}
