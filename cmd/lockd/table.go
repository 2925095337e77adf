package main

import (
	"bufio"
	"io"
	"iter"
	"slices"
	"strings"
	"unicode/utf8"
)

// widest is how wide a column gets for the sake of its longest cell. A name may
// have 4096 bytes: one of that length would put as many blanks into each row, of
// which there may be millions. What is longer moves the rest of its own row.
const widest = 100

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
			if width := utf8.RuneCountInString(cells[i]); width <= widest {
				widths[i] = max(widths[i], width)
			}
		}
	}
	w := bufio.NewWriter(to)
	defer w.Flush()
	for cells := range rows {
		for i, cell := range cells {
			w.WriteString(cell)
			if i < len(cells)-1 {
				w.WriteString(strings.Repeat(" ", max(widths[i]-utf8.RuneCountInString(cell), 0)+2))
			}
		}
		w.WriteByte('\n')
	}
}

// writeRows is writeTable for rows that are at hand.
func writeRows(to io.Writer, rows [][]string) { writeTable(to, slices.Values(rows)) }
