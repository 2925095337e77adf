package main

import (
	"bufio"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// writeTable prints rows with their columns aligned. It goes over them twice, so
// that a long table needs not be in memory a second time, as text. A row of one
// cell is a line between, and in no column.
func writeTable(to io.Writer, rows iter.Seq[[]string]) {
	var widths []int
	for cells := range rows {
		for i := range len(cells) - 1 {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cells[i]))
		}
	}
	w := bufio.NewWriter(to)
	defer w.Flush()
	for cells := range rows {
		for i, cell := range cells {
			w.WriteString(cell)
			if i < len(cells)-1 {
				w.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
			}
		}
		w.WriteByte('\n')
	}
}

// writeRows is writeTable for rows that are at hand.
func writeRows(to io.Writer, rows [][]string) { writeTable(to, slices.Values(rows)) }
