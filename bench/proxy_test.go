package bench

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/session"
	"github.com/nylen/lockd/internal/shard"
)

// Proxy is the request path of `lockd proxy`, from the bytes of 50 clients that send 64
// requests at a time to the server's and back, without a socket. What the server has to do
// with them is in it; direct is that alone, over connections of their own.
func BenchmarkProxy(b *testing.B) {
	const clients, deep = 50, 64
	cfg := session.Config{
		Table:   shard.Config{Start: 1},
		MaxLine: 4096, MaxOutput: 1 << 20, MaxKeep: time.Hour, DeadPeer: time.Second,
	}
	requests := func(client int) (in []byte) {
		for i := range deep / 2 {
			name := fmt.Sprintf("locks/%d/%d", client, i)
			in = append(in, "g "+name+"\nr "+name+"\n"...)
		}
		return in
	}
	drive := func(b *testing.B, streams []*session.Stream, pass func()) {
		var said [clients][]byte
		for c := range said {
			said[c] = requests(c)
		}
		in, out := make([]byte, len(said[clients-1])), make([]byte, 0, 64<<10)
		do := func() {
			lines := 0
			for c, s := range streams {
				n := copy(in, said[c]) // Advance overwrites
				_, out, _ = s.Advance(in[:n], out[:0])
				lines += bytes.Count(out, []byte("\n"))
			}
			pass()
			for _, s := range streams {
				if lines == clients*deep {
					break
				}
				_, out, _ = s.Advance(nil, out[:0])
				lines += bytes.Count(out, []byte("\n"))
			}
			if lines != clients*deep {
				b.Fatalf("%d replies", lines)
			}
		}
		do()
		b.ReportAllocs()
		for b.Loop() {
			do()
		}
		perRequest(b, clients*deep)
	}
	connect := func(h *session.Hub) (streams []*session.Stream) {
		for c := range clients {
			streams = append(streams, newCarried(h, fmt.Sprint("client ", c)))
		}
		return streams
	}
	b.Run("direct", func(b *testing.B) {
		h := session.NewHub(cfg, nowhere{})
		defer h.Close()
		drive(b, connect(h), func() {})
	})
	b.Run("through", func(b *testing.B) {
		server := session.NewHub(cfg, nowhere{})
		defer server.Close()
		own := cfg
		own.MaxKeep = 0
		nothing := func() {}
		own.Upstream = &session.UpstreamConfig{
			Prompt: time.Hour, Flush: nothing, Cut: nothing, Log: func(string, ...any) {},
			Relay: func(string, []byte, session.Relay) func() { return nothing },
		}
		h := session.NewHub(own, nowhere{})
		defer h.Close()
		up, there := h.Upstream(), newCarried(server, "proxy")
		var lines, replies []byte
		pass := func() {
			for up.Pending() {
				lines = up.Take(lines)
				_, replies, _ = there.Advance(lines, replies[:0])
				if err := up.Receive(replies); err != nil {
					b.Fatal(err)
				}
			}
		}
		up.Begin("")
		pass()
		drive(b, connect(h), pass)
	})
}

// carrier is one of a stream that is driven by hand.
type carrier struct{}

func (carrier) Wake() {}

func newCarried(h *session.Hub, addr string) *session.Stream {
	st := new(session.Stream)
	st.Begin(h, session.Address{Name: addr}, carrier{}, new(session.Turn))
	return st
}
