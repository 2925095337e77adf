package conn

import (
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/nylen/lockd/internal/session"
)

// Many who look at the whole server at a time all get their replies, each in its place
// among the others, though some go while they wait, others close their side, and some
// send far more behind than is kept.
func TestManyTops(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		holder := dialUnix(t, path)
		const locks = 20000
		takeLocks(holder, locks)
		ask := "top 1000 oldest\n"
		const long = 2 * session.MaxBacklog / 5
		var all sync.WaitGroup
		for i := range 60 {
			c := dialUnix(t, path)
			all.Go(func() {
				defer c.Close()
				pings, tops := 1, 1
				switch i % 6 {
				case 0: // gone at once
					io.WriteString(c, ask)
					return
				case 1: // gone while it reads
					io.WriteString(c, strings.Repeat(ask, 100))
					io.ReadFull(c, make([]byte, 1000))
					return
				case 2:
					io.WriteString(c, "i a\n"+ask+"ping\n")
					c.(*net.UnixConn).CloseWrite()
				case 3:
					io.WriteString(c, "i a\n"+ask+"ping\nbye\n")
				case 4:
					pings = long
					go io.WriteString(c, "i a\n"+ask+strings.Repeat("ping\n", long)+"bye\n")
				case 5:
					tops = 30
					go io.WriteString(c, "i a\n"+strings.Repeat(ask, tops)+"ping\nbye\n")
				}
				got, err := io.ReadAll(c)
				text := string(got)
				if err != nil || !strings.HasPrefix(text, "0 Lock Not Locked: a\n0") || strings.Count(text, "\texclusive\t1\t") != tops*1000 ||
					strings.Count(text, "\n1 End\n") != tops || strings.Count(text, "\n1 pong") != pings {
					t.Errorf("loops %t, %d: %d bytes, %v: %.100q", loops, i, len(got), err, got)
				}
			})
		}
		all.Wait()
		holder.Close()
		end()
	}
}

// In protocol 2 many sessions may ask at once; what others of the connection ask goes on
// behind them.
func TestManyTopsOfSessions(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		c := dialUnix(t, path)
		var in strings.Builder
		in.WriteString("hello 2\n0 g x\n")
		const sessions = 90
		for round := range 5 {
			for i := range sessions {
				fmt.Fprintf(&in, "%d %s\n", i+1, []string{"top 5 oldest", "clients 3", "ping"}[(i+round)%3])
			}
		}
		go io.WriteString(c, in.String())
		c.(*net.UnixConn).SetReadBuffer(4 << 10)
		var got []byte
		for strings.Count(string(got), " 1 End\n")+strings.Count(string(got), " 1 pong\n") < 5*sessions {
			piece := make([]byte, 512)
			n, err := c.Read(piece)
			if err != nil {
				t.Fatalf("loops %t: %v behind %d bytes", loops, err, len(got))
			}
			got = append(got, piece[:n]...)
		}
		if n := strings.Count(string(got), " - x\texclusive\t"); n != 5*sessions/3 {
			t.Errorf("loops %t: %d", loops, n)
		}
		c.Close()
		end()
	}
}

// A server that shuts down ends those who wait to see it, too, and those who read
// nothing of what they have asked for keep a bounded part of it.
func TestDrainCutsOffTops(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		holder := dialUnix(t, path)
		takeLocks(holder, 5000)
		before := h.Hub().Stats().Memory
		for range 5 {
			c := dialUnix(t, path)
			io.WriteString(c, "ping\n")
			io.ReadFull(c, make([]byte, 7))
			go io.WriteString(c, strings.Repeat("top 1000 oldest\n", 10000))
			io.ReadFull(c, make([]byte, 10))
		}
		if n := h.Hub().Stats().Memory - before; n > 5<<20 {
			t.Errorf("loops %t: they keep %d bytes", loops, n)
		}
		end()
	}
}
