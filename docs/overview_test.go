package docs_test

import (
	"bufio"
	"io"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

// TestFigures compares the figures of `stats` in the document with those that a server
// tells.
func TestFigures(t *testing.T) {
	document, code := make(map[string]bool), make(map[string]bool)
	for _, row := range table(t, part(t, "docs/protocol.md", "figures")) {
		if row[0] == "`stats`" {
			for _, word := range quoted(row[1]) {
				document[word] = true
			}
		}
	}
	c, err := newServer(t).Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "stats\nbye\n"); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(c); lines.Scan(); {
		if word, _, ok := strings.Cut(lines.Text(), "\t"); ok {
			code[word] = true
		}
	}
	same(t, "figures", document, code)
}

// TestWhys compares the reasons of losses.
func TestWhys(t *testing.T) {
	document, code := make(map[string]bool), make(map[string]bool)
	for _, row := range table(t, part(t, "docs/protocol.md", "whys")) {
		document[strings.Trim(row[0], "`")] = true
	}
	for why := session.WhyDisconnect; why <= session.WhyRefused; why++ {
		code[why.String()] = true
	}
	same(t, "why", document, code)
}
