package main

import "strings"

// A grid is a picture of a terminal: what is in it reaches the terminal a cell at
// a time, so no text can move the cursor or change anything but its own cells.
type grid struct {
	width, height int
	cells         []gridCell
	cursor        bool // whether the terminal's is shown, where somebody types
	x, y          int
}

type gridCell struct {
	text  string // one character with its marks; empty behind a wide one
	style gridStyle
}

// A gridStyle is how a cell looks. There are few colours, which any terminal has
// and which can be read on a light and on a dark background; no meaning is told by
// a colour alone.
type gridStyle uint8

const (
	styleBold gridStyle = 1 << iota
	styleDim
	styleReverse
	styleRed
	styleGreen

	stylePlain gridStyle = 0
)

func newGrid(width, height int) *grid {
	g := &grid{width: width, height: height, cells: make([]gridCell, width*height)}
	for i := range g.cells {
		g.cells[i].text = " "
	}
	return g
}

// put writes a text, as much of it as is within the grid, and returns the column
// behind it. What a terminal could take for more than a character is not written.
func (g *grid) put(x, y int, text string, style gridStyle) int {
	if y < 0 || y >= g.height || x < 0 {
		return x
	}
	for c := characters(text); c.Next(); {
		width, part := c.Width(), c.Value()
		if part < " " || strings.ContainsFunc(part, unshowable) {
			width, part = 1, "?"
		}
		if width == 0 { // a mark on nothing
			continue
		}
		if x+width > g.width {
			break
		}
		g.cells[y*g.width+x] = gridCell{part, style}
		for i := 1; i < width; i++ {
			g.cells[y*g.width+x+i] = gridCell{"", style}
		}
		x += width
	}
	return x
}

// unshowable is the last guard: texts are made visible before they come here.
func unshowable(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x200b && r <= 0x200f || r >= 0x2028 && r <= 0x202e || r >= 0x2060 && r <= 0x206f || r == 0xfeff
}

// fill gives a row a style, from a column on.
func (g *grid) fill(x, y int, style gridStyle) {
	if y < 0 || y >= g.height {
		return
	}
	for ; x < g.width; x++ {
		g.cells[y*g.width+x].style |= style
	}
}

// equal tells whether two grids look the same.
func (g *grid) equal(other *grid) bool {
	if other == nil || g.width != other.width || g.height != other.height || g.cursor != other.cursor || g.x != other.x || g.y != other.y {
		return false
	}
	for i, c := range g.cells {
		if c != other.cells[i] {
			return false
		}
	}
	return true
}

// String is the text alone, for tests, without blanks at the ends of lines.
func (g *grid) String() string {
	var b strings.Builder
	for y := range g.height {
		var line strings.Builder
		for x := range g.width {
			line.WriteString(g.cells[y*g.width+x].text)
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}
