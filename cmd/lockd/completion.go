package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nylen/lockd/internal/wire"
)

// What Tab does: it completes what stands left of the cursor as far as there is
// only one way to go on, and if that is no further, shows the ways that there
// are.

const (
	askedNames  = 1000        // how many names the server is asked for at most
	shownNames  = 60          // how many of them are shown
	completeFor = time.Second // how long that may take
)

// complete implements completer.
func (p *prompt) complete(line string, at int) (string, int) {
	head, tail := line[:at], line[at:]
	verb, rest, further := strings.Cut(strings.TrimLeft(head, " "), " ")
	switch v, known := p.verbs[verb]; {
	case !further:
		return p.choose(head, verb, tail, p.words(verb, true), false, " ")
	case verb == "help":
		word := strings.TrimLeft(rest, " ")
		return p.choose(head, word, tail, p.words(word, false), false, "")
	case known:
		for range v.Args {
			_, name, ok := strings.Cut(strings.TrimLeft(rest, " "), " ")
			if !ok {
				p.say(v.Usage() + ": " + v.Help)
				return line, at
			}
			rest = name
		}
		if v.Rest != "NAME" && v.Rest != "[NAME]" && v.Rest != "PREFIX" {
			p.say(v.Usage() + ": " + v.Help)
			return line, at
		}
		prefix := strings.TrimLeft(rest, " ")
		names, cut := p.names(prefix)
		return p.choose(head, prefix, tail, names, cut, "")
	}
	return line, at
}

// A choice is one way to go on.
type choice struct{ text, help string }

// choose goes on from head, which ends in prefix. Where there is but one way
// that is followed by after. If the list is cut there are others, too.
func (p *prompt) choose(head, prefix, tail string, choices []choice, cut bool, after string) (string, int) {
	if len(choices) == 0 {
		return head + tail, len(head)
	}
	common := choices[0].text
	for _, c := range choices {
		for !strings.HasPrefix(c.text, common) {
			_, size := utf8.DecodeLastRuneInString(common)
			common = common[:len(common)-size]
		}
	}
	switch {
	case len(choices) == 1 && !cut:
		common += after
	case cut || common == prefix:
		p.list(choices, cut)
		common = prefix
	}
	head = head[:len(head)-len(prefix)] + common
	return head + tail, len(head)
}

// list shows choices: those with a help one a line, others in columns.
func (p *prompt) list(choices []choice, cut bool) {
	var out strings.Builder
	width := 0
	for _, c := range choices {
		width = max(width, utf8.RuneCountInString(c.text))
	}
	width += 2
	columns := max(p.ed.width()/width, 1)
	shown := choices[:min(len(choices), shownNames)]
	for i, c := range shown {
		switch {
		case c.help != "":
			fmt.Fprintf(&out, "  %s\n", c.help)
		case i == len(shown)-1 || (i+1)%columns == 0:
			fmt.Fprintf(&out, "%s\n", c.text)
		default:
			fmt.Fprintf(&out, "%-*s", width, c.text)
		}
	}
	switch more := len(choices) - len(shown); {
	case cut:
		fmt.Fprintf(&out, "... and more than %d others: type more of the name\n", more)
	case more > 0:
		fmt.Fprintf(&out, "... and %d others: type more of the name\n", more)
	}
	p.ed.Write([]byte(out.String()))
}

// words returns the verbs that begin so, and of the shell's own words, too.
func (p *prompt) words(prefix string, own bool) (choices []choice) {
	width := usageWidth(verbs())
	for _, v := range verbs() {
		if strings.HasPrefix(v.Word, prefix) {
			choices = append(choices, choice{v.Word, fmt.Sprintf("%-*s  %s", width, v.Usage(), v.Help)})
		}
	}
	for _, w := range ownWords {
		if own && strings.HasPrefix(w.word, prefix) {
			choices = append(choices, choice{w.word, fmt.Sprintf("%-*s  %s", width, w.usage, w.help)})
		}
	}
	return choices
}

// names returns the names that begin so: those held here and, if it tells them
// soon, those that the server knows. It has told only some of them if cut.
func (p *prompt) names(prefix string) (choices []choice, cut bool) {
	prefix, ok := wire.FoldName(prefix)
	if !ok {
		return nil, false
	}
	found := p.holds(prefix)
	told, cut := p.look(prefix)
	found = append(found, told...)
	slices.Sort(found)
	for _, name := range slices.Compact(found) {
		if typable(name) {
			choices = append(choices, choice{text: name})
		}
	}
	return choices, cut
}

// typable tells whether a name can be typed.
func typable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// look asks the server, over a connection of its own: when that has told enough,
// or too late, it is closed, and the server stops.
func (p *prompt) look(prefix string) (names []string, cut bool) {
	connected, token := p.knows()
	if !connected {
		return nil, false
	}
	c, err := p.dial(context.Background(), 1, completeFor)
	if err != nil {
		return nil, false
	}
	defer c.Close()
	late := time.AfterFunc(completeFor, func() { c.Close() })
	defer late.Stop()
	if token != "" {
		if c.Send(token) != nil {
			return nil, false
		}
		if _, _, err := c.Read(); err != nil {
			return nil, false
		}
	}
	isMark, err := c.SendMarked(wire.LookAll + " " + prefix)
	if err != nil {
		return nil, false
	}
	for whole := true; len(names) < askedNames; {
		part, end, err := c.Read()
		if err != nil {
			return names, true
		}
		begin := whole
		whole = end
		if !begin {
			continue
		}
		if end && isMark(part) {
			return names, false
		}
		name, _, ok := strings.Cut(string(part), "\t")
		if ok && strings.HasPrefix(name, prefix) && (len(names) == 0 || names[len(names)-1] != name) {
			names = append(names, name)
		}
	}
	return names, true
}
