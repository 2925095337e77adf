package server_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/nylen/lockd/internal/stress"
	"github.com/nylen/lockd/pkg/server"
)

// "A line over the limit gets one reply, `0 Line Too Long`, and is skipped up
// to its `\n` in constant memory; the connection stays in step." A line of
// 1 GiB, of which the server must keep next to nothing.
func TestHugeLine(t *testing.T) {
	for name, verb := range map[string]string{"get": "g ", "nothing": "", "post": "POSTED "} {
		t.Run(name, func(t *testing.T) {
			s := startWired(t, server.Options{})
			head := pieces("g foo\n" + verb)
			chunk := bytes.Repeat([]byte("x"), 64<<10)
			left := 1 << 30
			tail := pieces("\ni foo\n", "r foo\n")
			before, most := stress.Heap(), int64(0)
			got := s.run(t, func() []byte {
				if p := head(); p != nil {
					return p
				}
				if left > 0 {
					if left -= len(chunk); left%(1<<28) == 0 {
						most = max(most, stress.Heap())
					}
					return chunk
				}
				return tail()
			})
			if most-before > 1<<20 {
				t.Errorf("the heap grew by %d bytes", most-before)
			}
			want := []string{"1 Lock Get Success: foo\n", "0 Line Too Long\n", "1 Lock Is Locked: foo\n", "1 Lock Release Success: foo\n"}
			if !slices.Equal(got, want) {
				t.Errorf("got %q, not %q", got, want)
			}
		})
	}
}

// The answer to a line that is too long does not wait for its end.
func TestLongLineIsAnsweredEarly(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		c.send("g " + strings.Repeat("x", 10000))
		if got := c.line(); got != "0 Line Too Long\n" {
			t.Fatalf("got %q", got)
		}
		c.send(strings.Repeat("x", 10000))
		c.send("\n")
		c.ask("i foo", "0 Lock Not Locked: foo")
		c.closeWrite()
		c.end()
	})
}

// Many long lines through a real connection, each answered once.
func TestLongLines(t *testing.T) {
	t.Parallel()
	overStreams(t, server.Options{}, func(t *testing.T, s *testServer, transport string) {
		c := s.dial(t, transport)
		const n = 200
		c.sendAll(strings.Repeat("g "+strings.Repeat("y", 64<<10)+"\ni foo\n", n), c.closeWrite)
		got, err := io.ReadAll(c.in)
		must(t, err)
		if want := strings.Repeat("0 Line Too Long\n0 Lock Not Locked: foo\n", n); string(got) != want {
			t.Fatalf("got %d bytes, not %d, or others: %.80q", len(got), len(want), got)
		}
		if got := metric(t, s.Server, "lockd_rejected_total", "reason=line_too_long"); got != n {
			t.Errorf("%d lines counted, not %d", got, n)
		}
	})
}
