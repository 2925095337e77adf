package bench

import (
	"bytes"
	"fmt"
	"strconv"
	"testing"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
	"github.com/nylen/lockd/internal/wire"
)

// newHub makes a hub whose clock is far ahead of its fencing tokens, as after
// some hours of common use: grants that come faster than microseconds would wait
// for it.
func newHub() *session.Hub {
	return session.NewHub(session.Config{
		Table:   shard.Config{Start: 1},
		MaxLine: 4096, MaxOutput: 64 << 10,
	}, nowhere{})
}

// nowhere is a network without connections.
type nowhere struct{}

func (nowhere) Connections() int                   { return 0 }
func (nowhere) CatchUp(func()) bool                { return false }
func (nowhere) Gone([]session.Carrier) int         { return -1 }
func (nowhere) Want([]session.Carrier)             {}
func (nowhere) Kick(session.Carrier, session.Kick) {}
func (nowhere) Detach(session.Carrier)             {}
func (nowhere) Outlives(session.Carrier)           {}

func (nowhere) Authenticated(*session.Stream, *session.Access) {}

func newStream(h *session.Hub, addr string) *session.Stream {
	st := new(session.Stream)
	st.Begin(h, session.Address{Name: addr}, nil, new(session.Turn))
	return st
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct{ name, line string }{
		{"short", "g foo"},
		{"usual", "g locks/orders/0123456789"},
		{"crlf", "g locks/orders/0123456789\r"},
		{"folded", " g  locks \t orders  0123456789 "},
		{"long", "g " + string(bytes.Repeat([]byte{'x'}, 1000))},
	} {
		b.Run(c.name, func(b *testing.B) {
			buf := make([]byte, len(c.line))
			b.SetBytes(int64(len(c.line)))
			b.ReportAllocs()
			for b.Loop() {
				// Folding overwrites the line.
				verb, name := wire.Parse(buf[:copy(buf, c.line)])
				if len(verb) == 0 || len(name) == 0 {
					b.Fatal("nothing")
				}
			}
		})
	}
}

func BenchmarkAppendReply(b *testing.B) {
	name, out := []byte("locks/orders/0123456789"), make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		out = wire.AppendReply(out[:0], 1, wire.GetSuccess, name)
	}
}

// Session is the request path from bytes to bytes, without a socket. Its
// ns/req is what lockd itself costs.
func BenchmarkSession(b *testing.B) {
	for _, c := range []struct {
		name, requests string
		count          int
		cut            bool
	}{
		{"get-release", "g locks/orders/0123456789\nr locks/orders/0123456789\n", 2, false},
		{"get-release-cut", "g locks/orders/0123456789\nr locks/orders/0123456789\n", 2, true},
		{"get-held", "g held\n", 1, false},
		{"get-refused", "g taken\n", 1, false},
		{"inspect", "i taken\n", 1, false},
		{"shared-get-release", "sg locks/orders/0123456789\nsr locks/orders/0123456789\n", 2, false},
		{"shared-inspect", "si taken\n", 1, false},
		{"unknown", "nonsense foo\n", 1, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			h := newHub()
			s, other := newStream(h, "127.0.0.1:1"), newStream(h, "127.0.0.1:2")
			other.Advance([]byte("g taken\nsg taken\n"), nil)
			s.Advance([]byte("g held\nsg other\n"), nil)
			in, out := make([]byte, len(c.requests)), make([]byte, 0, 1<<10)
			do := func() {
				copy(in, c.requests) // Advance overwrites
				if c.cut {
					_, out, _ = s.Advance(in[:10], out[:0])
					_, out, _ = s.Advance(in[10:], out)
				} else {
					_, out, _ = s.Advance(in, out[:0])
				}
			}
			do()
			b.ReportAllocs()
			for b.Loop() {
				do()
			}
			perRequest(b, c.count)
		})
	}
	b.Run("never-seen", func(b *testing.B) {
		s := newStream(newHub(), "127.0.0.1:1")
		in, out := make([]byte, 0, 128), make([]byte, 0, 1<<10)
		n := int64(0)
		do := func() {
			n++
			in = strconv.AppendInt(append(in[:0], "g never/"...), n, 10)
			in = strconv.AppendInt(append(in, "\nr never/"...), n, 10)
			_, out, _ = s.Advance(append(in, '\n'), out[:0])
		}
		do()
		b.ReportAllocs()
		for b.Loop() {
			do()
		}
		perRequest(b, 2)
	})
}

// perRequest reports what a request costs when an operation is n of them.
func perRequest(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/req")
}

// Dump is a listing of 100,000 locks.
func BenchmarkDump(b *testing.B) {
	const n = 100_000
	for _, request := range []string{"d", "sd", "dump", "dump shared"} {
		b.Run(request, func(b *testing.B) {
			h := newHub()
			s := newStream(h, "127.0.0.1:1")
			var line, out []byte
			for i := range n {
				line = fmt.Appendf(line[:0], "g lock/%011d\nsg lock/%011d\n", i, i)
				_, out, _ = s.Advance(line, out[:0])
			}
			out = make([]byte, 0, 1<<20)
			total := 0
			b.ReportAllocs()
			for b.Loop() {
				total = 0
				in := append(line[:0], request...)
				in = append(in, '\n')
				for next := session.More; next != session.Idle; {
					in, out, next = s.Advance(in, out[:0])
					total += len(out)
				}
			}
			if total < n*len("lock/00000000000:") {
				b.Fatalf("only %d bytes", total)
			}
			b.SetBytes(int64(total))
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/lock")
		})
	}
}
