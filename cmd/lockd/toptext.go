package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/clipperhouse/displaywidth"
)

// How lockd top spells things, in as little room as they need.

// marksShown is how many combining marks a letter may have. Some scripts need two
// or three; a pile of them reaches into the lines above and below.
const marksShown = 3

// legible spells what others have chosen: as plain does, and with escapes also
// where marks are piled up or stand on nothing.
func legible(name string) string { return fewMarks(plain(name)) }

func fewMarks(name string) string {
	marks := marksShown // there is nothing yet that could have one
	var b *strings.Builder
	for i, r := range name {
		switch {
		case !unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc):
			marks = 0
		case marks < marksShown:
			marks++
		default:
			if b == nil {
				b = new(strings.Builder)
				b.WriteString(name[:i])
			}
			fmt.Fprintf(b, `\u%04x`, r)
			continue
		}
		if b != nil {
			b.WriteRune(r)
		}
	}
	if b == nil {
		return name
	}
	return b.String()
}

// wideLetters is whether what may have one column or two, such as a block of a bar,
// has two: as the environment says it to tcell.
var wideLetters = slices.Contains([]string{"1", "true", "yes"}, strings.ToLower(os.Getenv("RUNEWIDTH_EASTASIAN")))

// characters goes over a text, a letter with its marks at a time.
func characters(text string) displaywidth.Graphemes[string] {
	return displaywidth.Options{EastAsianWidth: wideLetters}.StringGraphemes(text)
}

// widthOf is how many columns a text takes.
func widthOf(text string) int {
	return displaywidth.Options{EastAsianWidth: wideLetters}.String(text)
}

// shorten cuts a text in the middle: names often differ at their ends only.
func shorten(text string, width int, ellipsis string) string {
	if len(text) <= width && asciiIn(text) == len(text) || widthOf(text) <= width {
		return text
	}
	if width < 4 {
		return ends(text, width, false)
	}
	tail := (width - 1) / 2
	return ends(text, width-1-tail, false) + ellipsis + ends(text, tail, true)
}

// ends returns what of a text's beginning, or of its end, has room.
func ends(text string, width int, last bool) string {
	var parts []string
	if len(text) > 1<<14 { // longer than any line of a server by default
		text = text[:1<<14]
	}
	for g := characters(text); g.Next(); {
		parts = append(parts, g.Value())
	}
	var b strings.Builder
	if last {
		i, room := len(parts), width
		for i > 0 && widthOf(parts[i-1]) <= room {
			i--
			room -= widthOf(parts[i])
		}
		return strings.Join(parts[i:], "")
	}
	for _, part := range parts {
		if width -= widthOf(part); width < 0 {
			break
		}
		b.WriteString(part)
	}
	return b.String()
}

// short spells a number with three digits or so: 999, 1.2k, 12k, 1.5M.
func short(n float64) string {
	return scaled(n, 1000, []string{"", "k", "M", "G", "T", "P"})
}

// shortBytes is short for bytes: 512B, 1.5K, 120M.
func shortBytes(n float64) string {
	return scaled(n, 1024, []string{"B", "K", "M", "G", "T", "P"})
}

func scaled(n, base float64, units []string) string {
	i := 0
	for ; i < len(units)-1 && n >= base*0.9995; i++ { // 999.6 of one is 1.0 of the next
		n /= base
	}
	if i > 0 && n < 9.95 {
		return strconv.FormatFloat(n, 'f', 1, 64) + units[i]
	}
	return strconv.FormatFloat(n, 'f', 0, 64) + units[i]
}

// perSecond spells a rate, of which what is less than one matters, too.
func perSecond(n float64) string {
	if n > 0 && n < 9.95 {
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return short(n)
}

// lasting spells a time: 120ms, 3.2s, 5m12s, 3h20m, 4d3h.
func lasting(d time.Duration) string {
	switch {
	case d <= 0:
		return "0s"
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Truncate(100*time.Millisecond).Seconds())
	}
	return ago(d)
}

// bar draws how much of a width is used. levels are a cell from empty to full, so
// that a little looks like little; what is used at all shows, and full is only what
// is full.
func bar(used, limit int64, width int, levels string) string {
	steps := []rune(levels)
	per := len(steps) - 1 // steps a cell
	n := 0
	switch all := max(width, 0) * per; {
	case limit <= 0 || used <= 0:
	case used >= limit:
		n = all
	default:
		n = min(max(int(float64(used)/float64(limit)*float64(all)+0.5), 1), all-1)
	}
	var b strings.Builder
	for range width {
		b.WriteRune(steps[min(max(n, 0), per)])
		n -= per
	}
	return b.String()
}

// sparkline draws the last values, the highest of them in full height.
func sparkline(values []float64, width int, levels string) string {
	if width <= 0 {
		return ""
	}
	if len(values) > width {
		values = values[len(values)-width:]
	}
	highest := 0.0
	for _, v := range values {
		highest = max(highest, v)
	}
	steps := []rune(levels)
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", width-len(values)))
	for _, v := range values {
		i := 0
		if highest > 0 && v > 0 {
			i = min(max(int(v/highest*float64(len(steps)-1)+0.5), 1), len(steps)-1)
		}
		b.WriteRune(steps[i])
	}
	return b.String()
}

// pad fills a text up to a width, or shortens it.
func pad(text string, width int, right bool, ellipsis string) string {
	text = shorten(text, width, ellipsis)
	blanks := strings.Repeat(" ", max(width-widthOf(text), 0))
	if right {
		return blanks + text
	}
	return text + blanks
}

// oneRune tells whether a key's text is one letter, which a filter takes.
func oneRune(s string) bool {
	r, n := utf8.DecodeRuneInString(s)
	return n == len(s) && unicode.IsPrint(r)
}
