package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	fits, long := strings.Repeat("f", widest), strings.Repeat("l", widest+1)
	for _, test := range []struct {
		rows [][]string
		want string
	}{
		{nil, ""},
		{[][]string{{"A", "B"}, {"long", "x"}, {"é", ""}}, "A     B\nlong  x\né     \n"},
		{[][]string{{"a line that is in no column"}, nil, {"A", "B"}}, "a line that is in no column\n\nA  B\n"},
		{[][]string{{"a", "B"}, {fits, "b"}}, "a" + strings.Repeat(" ", widest+1) + "B\n" + fits + "  b\n"},
		// One name cannot make every row as long as itself.
		{[][]string{{"a", "B"}, {long, "b"}, {"cc", "d"}}, "a   B\n" + long + "  b\ncc  d\n"},
	} {
		var b strings.Builder
		writeRows(&b, test.rows)
		if b.String() != test.want {
			t.Errorf("got\n%swant\n%s", b.String(), test.want)
		}
	}
}
