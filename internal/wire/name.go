package wire

import (
	"strings"
	"unicode/utf8"
)

// What numbers in requests may be.
const (
	MaxWait  = 86_400_000 // the longest wait and window of a rate, in milliseconds: a day
	MaxLimit = 1<<32 - 2  // of a shared lock or a rate
)

// FoldName spells a name as Parse does, before it is sent: other servers do
// not fold blanks and would take two spellings for two locks. It is not ok if
// it has a line break in it, behind which another request would begin. A name
// that is in order already, as nearly all are, costs no allocation.
func FoldName(name string) (folded string, ok bool) {
	inOrder := true
	last := byte(' ') // so that a blank in front counts as a double one
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch c {
		case '\n', '\r':
			return "", false
		case '\t', '\v', '\f':
			inOrder = false
		case ' ':
			inOrder = inOrder && last != ' '
		}
		last = c
	}
	if inOrder && (name == "" || last != ' ') {
		return name, true
	}
	// Not strings.Fields: that would fold Unicode's blanks, too.
	return strings.Join(strings.FieldsFunc(name, func(r rune) bool {
		return r < 0x80 && blank[r]
	}), " "), true
}

// ShortName makes a name of any text: spelled as FoldName does, a line break being
// a blank, and cut to so many bytes, but not within a letter.
func ShortName(text string, most int) string {
	text, _ = FoldName(lineBreaks.Replace(text))
	if len(text) <= most {
		return text
	}
	most = max(most, 0)
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.TrimRight(text[:most], " ")
}

var lineBreaks = strings.NewReplacer("\n", " ", "\r", " ")
