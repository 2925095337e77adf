package session

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/nylen/lockd/internal/shard"
)

// From a request's first byte to its reply's last, nothing is allocated.
func TestRequestsDoNotAllocate(t *testing.T) {
	cfg := testConfig()
	cfg.Table.LocksPerOwner = 2000
	h := newHub(cfg)
	s, other, full := newStream(h, "1.1.1.1:1", nil), newStream(h, "2.2.2.2:2", nil), newStream(h, "3.3.3.3:3", nil)
	feedAll(t, other, []byte("g taken\nsg taken\nsg a\n"))
	for i := range 1000 {
		feedAll(t, full, []byte(fmt.Sprintf("g full%d\nsg full%d\n", i, i)))
	}
	feedAll(t, s, []byte("g mine\nsg mine\n"))
	in, out := make([]byte, 0, 16<<10), make([]byte, 0, 64<<10)
	n := 0
	// Every % stands for a number that was never there before, every | for an
	// end of a piece.
	feed := func(s *Stream, requests string) {
		in = in[:0]
		n++
		for i := range len(requests) {
			if requests[i] == '%' {
				in = strconv.AppendInt(in, int64(n), 10)
			} else {
				in = append(in, requests[i])
			}
		}
		out = out[:0]
		for rest, more := in, true; more; {
			var piece []byte
			piece, rest, more = bytes.Cut(rest, []byte("|"))
			left, replies, _ := s.Answer(piece, out)
			if out = replies; len(left) > 0 {
				t.Fatalf("%q is left of %q", left, piece)
			}
		}
	}
	for range 2000 {
		feed(s, "g long enough that it takes a block or two besides its head %\nr long enough that it takes a block or two besides its head %\n"+
			"sg long enough that it takes a block or two besides its head %\nsr long enough that it takes a block or two besides its head %\n")
	}
	for _, c := range []struct {
		s              *Stream
		requests, want string
	}{
		{s, "g x%\nr x%\n", "1 "},
		{s, "g never seen, with a name that does not fit into a head %\nr never seen, with a name that does not fit into a head %\n", "1 "},
		{s, "sg x%\nsr x%\n", "1 "},
		{s, "sg never seen, with a name that does not fit into a head %\nsr never seen, with a name that does not fit into a head %\n", "1 "},
		{s, "sg a\nsr a\n", "2 "},
		{s, "g mine\n", "1 "},
		{s, "sg mine\n", "1 "},
		{s, "g taken\n", "0 Lock Get Failure"},
		{s, "r taken\n", "0 "},
		{s, "r x%\n", "0 "},
		{s, "sr x%\n", "0 "},
		{s, "i taken\n", "1 "},
		{s, "i x%\n", "0 "},
		{s, "si a\n", "1 "},
		{s, "si x%\n", "0 "},
		{s, " g \t y   x%  \r\nr y x%\n", "1 Lock Get Success: y x"},
		{full, "g x%\n", "0 Too Many Locks"},
		{full, "sg x%\n", "0 Too Many Locks"},
		{s, "g x|%\nr x%|\n", "1 "},
		{s, "|g|| x|%|\n|r| x%\n|", "1 "},
		{s, "sg x%\ns|r x%\ns|i x%\n", "1 "},
		{s, "unknown x%\n\n\n", ""},
		{s, "me\n", "1 1.1.1.1:1 1.1.1.1:1"},
		{s, "d taken\n", "taken: 2.2.2.2:2"},
	} {
		feed(c.s, c.requests)
		if !bytes.HasPrefix(out, []byte(c.want)) {
			t.Errorf("%q is answered %q", c.requests, out)
		}
		if allocs := testing.AllocsPerRun(1000, func() { feed(c.s, c.requests) }); allocs != 0 {
			t.Errorf("%q: %v allocations", c.requests, allocs)
		}
	}
}

// Lines over the limit are passed over without allocating.
func TestLongLinesDoNotAllocate(t *testing.T) {
	h := newHub(testConfig())
	s := newStream(h, "a", nil)
	long := bytes.Repeat([]byte{'x'}, 5000)
	long[len(long)-1] = '\n'
	in, out := make([]byte, 5000), make([]byte, 0, 100)
	if allocs := testing.AllocsPerRun(100, func() {
		_, out, _ = s.Answer(in[:copy(in, long)], out[:0])
		if string(out) != "0 Line Too Long\n" {
			t.Fatalf("%q", out)
		}
	}); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	s.Close()
	if h.locks.Stats().Locks != [shard.Kinds]int{} {
		t.Error("locks are left")
	}
}
