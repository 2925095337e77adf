package api

import (
	"encoding/base64"
	"encoding/binary"
)

// A cursor is a place in a list, for who asks for its next page. To others it is a
// word that means nothing: the numbers of the place, behind what it is of, and
// when the server began, as another one has other places.
type cursor byte

const (
	cursorOfTop cursor = 1 + iota
	cursorOfSearch
	cursorOfClients
	cursorOfLosses
)

func (a *API) writeCursor(of cursor, place ...uint64) string {
	out := binary.AppendUvarint([]byte{byte(of)}, uint64(a.started.UnixNano()))
	for _, n := range place {
		out = binary.AppendUvarint(out, n)
	}
	return base64.RawURLEncoding.EncodeToString(out)
}

// cursor returns the place that a request asks for, as so many numbers, which are 0 if
// it asks for the beginning.
func (a *API) cursor(c *call, of cursor, numbers int) []uint64 {
	place := make([]uint64, numbers)
	text := c.param("cursor")
	if text == "" {
		return place
	}
	in, err := base64.RawURLEncoding.DecodeString(text)
	good := err == nil && len(in) > 0 && in[0] == byte(of)
	read := func() (n uint64) {
		if good {
			size := 0
			if n, size = binary.Uvarint(in); size > 0 {
				in = in[size:]
			} else {
				good = false
			}
		}
		return n
	}
	if good {
		in = in[1:]
		good = read() == uint64(a.started.UnixNano()) && good
	}
	for i := range place {
		place[i] = read()
	}
	if !good || len(in) > 0 {
		c.refuse("the cursor is of another list, or of a server that has ended: ask for the first page")
		clear(place)
	}
	return place
}
