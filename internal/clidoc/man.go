package clidoc

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/alecthomas/kong"
)

// A Page is a manual page.
type Page struct {
	Name string // of its file: lockd-run.1
	Text []byte // in roff, with the macros of man
}

// An Edition is what the pages say of themselves.
type Edition struct {
	Version string
	Date    time.Time
	// Daemon is the command that is no person's: its page is in section 8.
	Daemon string
	// More is a section of the first page: the documents there are besides.
	More string
}

// Man returns the pages: one for the program and one for each command that has
// something to tell.
func Man(k *kong.Kong, e Edition) (pages []Page) {
	root := model(k)
	for _, c := range root.all() {
		if c.path != "" && len(c.subs) > 0 {
			continue // its own commands have pages
		}
		w := &manual{root: root, c: c, e: e}
		w.write()
		pages = append(pages, Page{fmt.Sprintf("%s.%s", pageName(root, c), e.section(c)), w.b.Bytes()})
	}
	return pages
}

func pageName(root, c *command) string {
	return strings.ReplaceAll(strings.TrimSpace(root.Name+" "+c.path), " ", "-")
}

func (e Edition) section(c *command) string {
	if c.path == e.Daemon {
		return "8"
	}
	return "1"
}

type manual struct {
	b    bytes.Buffer
	root *command
	c    *command
	e    Edition
}

func (w *manual) printf(format string, args ...any) { fmt.Fprintf(&w.b, format, args...) }

func (w *manual) write() {
	c := w.c
	name := pageName(w.root, c)
	w.printf(".\\\" Made of the program's command line: change the texts there.\n")
	w.printf(".TH %s %s %s %s\n", strings.ToUpper(name), w.e.section(c), w.e.Date.UTC().Format(time.DateOnly),
		roffQuote(w.root.Name+" "+w.e.Version))
	about := c.Help
	if c == w.root {
		about, _, _ = strings.Cut(about, "\n")
	}
	w.printf(".SH NAME\n%s \\- %s\n", roff(name), roff(lowerFirst(brief(about))))
	w.synopsis()
	w.printf(".SH DESCRIPTION\n")
	if c == w.root {
		_, detail, _ := strings.Cut(c.Help, "\n")
		w.text(detail)
		w.commands()
	} else {
		w.text(c.Help)
		if c.Detail != "" {
			w.printf(".PP\n")
			w.text(c.Detail)
		}
		w.arguments()
		w.options()
		w.environment()
	}
	w.seeAlso()
}

func (w *manual) synopsis() {
	w.printf(".SH SYNOPSIS\n")
	if w.c == w.root {
		w.printf(".B %s\n.I command\n[\\,\\fIflags\\/\\fR] [\\,\\fIarguments\\/\\fR]\n", roff(w.root.Name))
		return
	}
	w.printf(".B %s\n", roff(w.root.Name+" "+w.c.path))
	for _, f := range w.c.flags {
		if f.Required {
			w.printf("\\fB\\-\\-%s\\fR=\\fI%s\\fR\n", roff(f.Name), roff(holder(f.Value)))
		}
	}
	w.printf("[\\,\\fIflags\\/\\fR]\n")
	for _, v := range w.c.Positional {
		text := "\\fI" + roff(v.Name) + "\\fR"
		if repeats(v) {
			text += " ..."
		}
		if !v.Required {
			text = "[\\," + text + "\\/]"
		}
		w.printf("%s\n", text)
	}
}

func (w *manual) commands() {
	w.printf(".SH COMMANDS\n")
	for _, c := range w.root.all()[1:] {
		if len(c.subs) > 0 {
			continue
		}
		w.printf(".TP\n.BR %s (%s)\n%s\n", roff(pageName(w.root, c)), w.e.section(c), fill(c.Help))
	}
}

func (w *manual) arguments() {
	for i, v := range w.c.Positional {
		if i == 0 {
			w.printf(".SH ARGUMENTS\n")
		}
		w.printf(".TP\n.I %s\n%s\n", roff(v.Name), fill(v.Help))
	}
}

func (w *manual) options() {
	w.printf(".SH OPTIONS\n")
	group := ""
	for _, f := range w.c.flags {
		if f.Group != nil && f.Group.Title != group {
			group = f.Group.Title
			w.printf(".SS %s\n", roffQuote(group))
		}
		var names []string
		for _, s := range spellings(f) {
			names = append(names, "\\fB"+roff(s)+"\\fR")
		}
		text := strings.Join(names, ", ")
		if takes(f) {
			text += "=\\fI" + roff(holder(f.Value)) + "\\fR"
		}
		w.printf(".TP\n%s\n%s\n", text, fill(f.Help))
	}
}

func (w *manual) environment() {
	head := ".SH ENVIRONMENT\nWhat is empty counts as not set; what the command line says comes first.\n"
	for _, f := range w.c.flags {
		for _, env := range f.Tag.Envs {
			w.printf("%s.TP\n.B %s\n\\fB\\-\\-%s\\fR\n", head, roff(env), roff(f.Name))
			head = ""
		}
	}
}

func (w *manual) seeAlso() {
	w.printf(".SH SEE ALSO\n")
	var others []string
	if w.c == w.root {
		w.text(w.e.More)
		return
	}
	others = append(others, fmt.Sprintf(".BR %s (1)", roff(w.root.Name)))
	// The neighbours: lockd token add, list and remove.
	if parent, _, nested := strings.Cut(w.c.path, " "); nested {
		for _, c := range w.root.all() {
			if c != w.c && len(c.subs) == 0 && strings.HasPrefix(c.path, parent+" ") {
				others = append(others, fmt.Sprintf(".BR %s (1)", roff(pageName(w.root, c))))
			}
		}
	} else if w.c.path != w.e.Daemon && w.e.Daemon != "" {
		others = append(others, fmt.Sprintf(".BR %s (8)", roff(pageName(w.root, w.root)+"-"+w.e.Daemon)))
	}
	w.printf("%s\n", strings.Join(others, ",\n"))
}

// text writes a help text: paragraphs with blank lines between, and, indented,
// what stays as it is.
func (w *manual) text(text string) {
	first := true
	for part := range strings.SplitSeq(strings.Trim(text, "\n"), "\n\n") {
		if part == "" {
			continue
		}
		if strings.HasPrefix(part, "\t") || strings.HasPrefix(part, "    ") {
			w.printf(".PP\n.RS 4\n.EX\n")
			for line := range strings.Lines(part) {
				line = strings.TrimPrefix(strings.TrimRight(line, "\n"), "\t")
				w.printf("%s\n", roff(strings.TrimPrefix(line, "    ")))
			}
			w.printf(".EE\n.RE\n")
			first = false
			continue
		}
		if !first {
			w.printf(".PP\n")
		}
		first = false
		w.printf("%s\n", fill(part))
	}
}

// roff spells a piece of text so that it is shown as it is.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", `\(ga`, "^", `\(ha`, "~", `\(ti`).Replace(text)
	if strings.HasPrefix(text, ".") {
		text = `\&` + text // no request
	}
	return text
}

// fill spells a paragraph, in short lines. A sentence ends a line: so roff knows
// how wide the gap behind it is.
func fill(text string) string {
	const width = 76
	var lines []string
	line := ""
	end := func() {
		if line != "" {
			lines = append(lines, roff(line))
		}
		line = ""
	}
	for _, word := range strings.Fields(text) {
		if line != "" && len(roff(line+" "+word)) > width {
			end()
		}
		line = strings.TrimSpace(line + " " + word)
		if strings.HasSuffix(word, ".") {
			end()
		}
	}
	end()
	return strings.Join(lines, "\n")
}

func roffQuote(text string) string { return `"` + strings.ReplaceAll(roff(text), `"`, `\(dq`) + `"` }

func lowerFirst(s string) string {
	if len(s) > 1 && s[1] == strings.ToLower(s)[1] {
		return strings.ToLower(s[:1]) + s[1:]
	}
	return s
}
