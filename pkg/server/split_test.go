package server_test

import (
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// The requests of the split tests hold nothing at their end, so that they may
// run again and again, and have all that matters where a cut may fall: CRLF,
// blanks, an empty line, an unknown verb, lines at and over the bound of 32
// bytes, replies of several lines and none.
const (
	splitRequests = "g foo\n g  foo \r\n\nxx yy\ni foo\r\n\r\n" +
		"sg a \t b\nsi a b\nd\ndump\ndump shared\nd none\n" +
		"i 0123456789012345678901234567" + "89\n" +
		"i 0123456789012345678901234567" + "890\n" +
		"i 0123456789012345678901234567" + "890123456789012345678901234567890123456789\n" +
		"me\niam x:\xff y\nwho\nme\niam\nsr a b\nsd\nr foo\nr foo\nr\n"
	splitReplies = "1 Lock Get Success: foo\n" +
		"1 Lock Get Success: foo\n" +
		"1 Lock Is Locked: foo\n" +
		"1 Shared Lock Get Success: a b\n" +
		"1 Shared Lock Is Locked: a b\n" +
		"foo: " + wireAddr + "\n" +
		"map[foo:" + wireAddr + "]\n" +
		"map[a b:[" + wireAddr + "]]\n" +
		"0 Lock Not Locked: 012345678901234567890123456789\n" +
		"0 Line Too Long\n" +
		"0 Line Too Long\n" +
		"1 " + wireAddr + " " + wireAddr + "\n" +
		"1 ok\n" +
		wireAddr + ": x:\xff y\n" +
		"1 " + wireAddr + " x:\xff y\n" +
		"1 ok\n" +
		"1 Shared Lock Release Success: a b\n" +
		"1 Lock Release Success: foo\n" +
		"0 Lock Release Failure: foo\n" +
		"0 Lock Release Failure: \n"
)

func startSplit(t *testing.T) func(ps ...string) {
	s := startWired(t, server.Options{MaxLine: 32})
	return func(ps ...string) {
		t.Helper()
		if got := strings.Join(s.run(t, pieces(ps...)), ""); got != splitReplies {
			t.Fatalf("cut as %q\ngot  %q\nwant %q", ps, got, splitReplies)
		}
	}
}

// "Ours must not lose one, however the bytes are cut up."
func TestSplitInTwo(t *testing.T) {
	t.Parallel()
	run := startSplit(t)
	for i := range len(splitRequests) + 1 {
		run(splitRequests[:i], splitRequests[i:])
	}
}

func TestSplitInThree(t *testing.T) {
	t.Parallel()
	run := startSplit(t)
	for i := range len(splitRequests) {
		for _, n := range []int{1, 2, 31, 32, 33} {
			if i+n <= len(splitRequests) {
				run(splitRequests[:i], splitRequests[i:i+n], splitRequests[i+n:])
			}
		}
	}
}

func TestSplitIntoEqualPieces(t *testing.T) {
	t.Parallel()
	run := startSplit(t)
	for n := 1; n < 80; n++ {
		var ps []string
		for rest := splitRequests; rest != ""; {
			cut := min(n, len(rest))
			ps = append(ps, rest[:cut])
			rest = rest[cut:]
		}
		run(ps...)
	}
}

// The same bytes, each in a write of its own, through real connections.
func TestByteByByte(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{MaxLine: 32}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		c.send("me\n")
		addr := strings.Fields(c.line())[1]
		for i := range len(splitRequests) {
			c.send(splitRequests[i : i+1])
		}
		want := strings.ReplaceAll(splitReplies, wireAddr, addr)
		if got := c.reply(want, false); got != want {
			t.Fatalf("got  %q\nwant %q", got, want)
		}
		c.closeWrite()
		c.end()
	})
}
