package client

import "strings"

// fold gives a name the spelling that every server agrees on, or ErrBadName if
// it has a line break in it. lockd folds blanks itself; lockd for Node.js does
// not, and would take two spellings for two locks. A name that is in order
// already, as nearly all are, is returned as it is and costs no allocation.
func fold(name string) (string, error) {
	folded := true
	last := byte(' ') // so that a blank in front counts as a double one
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch c {
		case '\n', '\r':
			return "", ErrBadName
		case '\t', '\v', '\f':
			folded = false
		case ' ':
			folded = folded && last != ' '
		}
		last = c
	}
	if folded && (name == "" || last != ' ') {
		return name, nil
	}
	// Not strings.Fields: that would fold Unicode's blanks too.
	return strings.Join(strings.FieldsFunc(name, func(r rune) bool {
		return r == ' ' || r == '\t' || r == '\v' || r == '\f'
	}), " "), nil
}
