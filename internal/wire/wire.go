// Package wire reads requests and writes replies: bytes to words and words
// to bytes, and nothing else. It knows no socket and no lock. Every verb and
// every text of a reply stands here, once, for all who speak the protocol; what
// they mean is the business of the package that answers them.
//
// A request is a line, `VERB NAME`, and a reply starts with a number. Parsing
// works in place and appending works on the caller's buffer, so a request
// costs no allocation from its first byte to the last byte of its reply.
//
// The rules are those of docs/protocol.md, "Reading a request" and "Writing a
// reply".
package wire

// blank tells the bytes that separate words. A newline is not among them: it
// ends the line and never reaches Parse.
var blank = [256]bool{' ': true, '\t': true, '\r': true, '\v': true, '\f': true}

// Parse splits a line, given without its newline, into its first word and the
// rest. Blanks (space, tab, \r, \v, \f) at both ends are dropped and runs of
// them inside the rest are folded to one space, so every spelling of a name
// is one name. A line of blanks alone has an empty verb.
//
// Folding happens in place: line is overwritten, and verb and name are slices
// of it, good for as long as the caller leaves line alone.
func Parse(line []byte) (verb, name []byte) {
	for len(line) > 0 && blank[line[0]] {
		line = line[1:]
	}
	for len(line) > 0 && blank[line[len(line)-1]] {
		line = line[:len(line)-1]
	}
	end := 0
	for end < len(line) && !blank[line[end]] {
		end++
	}
	verb, name = line[:end], line[end:]
	for len(name) > 0 && blank[name[0]] {
		name = name[1:]
	}
	for i, c := range name {
		// The name ends in a byte that is not blank, so i+1 is in range.
		if blank[c] && (c != ' ' || blank[name[i+1]]) {
			return verb, fold(name, i)
		}
	}
	return verb, name
}

// fold rewrites name from its first blank run that is not a single space.
func fold(name []byte, from int) []byte {
	out := name[:from]
	for i := from; i < len(name); i++ {
		switch {
		case !blank[name[i]]:
			out = append(out, name[i])
		case !blank[name[i+1]]:
			out = append(out, ' ')
		}
	}
	return out
}

// Number takes a decimal number off the front of b: digits, up to the first
// blank or the end. rest is what follows the blank.
func Number(b []byte) (n uint64, rest []byte, ok bool) {
	i := 0
	for ; i < len(b) && '0' <= b[i] && b[i] <= '9'; i++ {
		if i == 19 {
			return 0, nil, false // it might not fit into 64 bits
		}
		n = n*10 + uint64(b[i]-'0')
	}
	if i == 0 || i < len(b) && b[i] != ' ' {
		return 0, nil, false
	}
	return n, b[min(i+1, len(b)):], true
}
