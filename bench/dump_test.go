package bench

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

// BenchmarkSortedDump is one `dump`, which is sorted, by the number of locks.
func BenchmarkSortedDump(b *testing.B) {
	for _, locks := range []int{250_000, 1_000_000, 4_000_000} {
		b.Run(strconv.Itoa(locks), func(b *testing.B) {
			h := newHub()
			defer h.Close()
			s := newStream(h, "10.0.0.7:51234")
			defer s.Close()
			var in, out []byte
			for i := range locks {
				in = fmt.Appendf(in[:0], "g locks/orders/%010d\n", i*7919%locks)
				_, out, _ = s.Advance(in, out[:0])
			}
			for b.Loop() {
				rest, out, next := s.Advance([]byte("dump\n"), out[:0])
				bytes := len(out)
				for next == session.Full || next == session.More {
					rest, out, next = s.Advance(rest, out[:0])
					bytes += len(out)
				}
				if next != session.Idle || bytes < 30*locks {
					b.Fatalf("%d bytes, and then %d", bytes, next)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(locks), "ns/lock")
		})
	}
}
