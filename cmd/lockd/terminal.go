package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// canRedraw tells whether what a terminal shows can be replaced, which takes
// more than one on which lines just follow each other.
func canRedraw(fd int) bool { return term.IsTerminal(fd) && os.Getenv("TERM") != "dumb" }

// terminalSize returns how many columns and rows a terminal has, or a guess.
func terminalSize(fd int) (columns, rows int) {
	columns, rows, err := term.GetSize(fd)
	if err != nil || columns == 0 || rows == 0 {
		return 80, 24
	}
	return columns, rows
}

// A statusLine is a terminal's last line, which is written over until it is
// cleared. The cursor stays at its beginning, so that what the terminal shows
// of a Ctrl-C, or a message of another process, is not far to the right.
type statusLine struct {
	to    io.Writer
	shown bool
}

func (l *statusLine) show(text string) {
	fmt.Fprintf(l.to, "\r%s\x1b[K\r", text)
	l.shown = true
}

func (l *statusLine) clear() {
	if l.shown {
		fmt.Fprint(l.to, "\r\x1b[K")
		l.shown = false
	}
}

// fit cuts a text to so many columns.
func fit(text string, columns int) string {
	if columnsOf(text) <= columns {
		return text
	}
	var b strings.Builder
	room := columns - 1 // for the sign that something is missing
	for _, r := range text {
		if room -= columnsOf(string(r)); room < 0 {
			break
		}
		b.WriteRune(r)
	}
	return strings.TrimRight(b.String(), " ") + "…"
}

// columnsOf returns how wide a text may be: nobody knows of which characters
// that are not ASCII a terminal makes two columns, so each of them counts as
// two.
func columnsOf(text string) int { return 2*utf8.RuneCountInString(text) - asciiIn(text) }

func asciiIn(text string) (n int) {
	for _, r := range text {
		if r < utf8.RuneSelf {
			n++
		}
	}
	return n
}
