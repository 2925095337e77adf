package conn

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Many that ask for sorted lists at a time all get them, each in its place among
// the replies, though some go while they wait for their turn, and others close
// their side.
func TestManyDumps(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		dial := func() net.Conn {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Error(err)
				return nil
			}
			c.SetDeadline(time.Now().Add(60 * time.Second))
			return c
		}
		holder := dial()
		const locks = 20000
		in := make([]byte, 0, 20*locks)
		for i := range locks {
			in = fmt.Appendf(in, "g %06d\n", i)
		}
		go holder.Write(in)
		for lines, n := bufio.NewScanner(holder), 0; n < locks && lines.Scan(); n++ {
		}
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				c := dial()
				defer c.Close()
				switch i % 4 {
				case 0: // gone at once
					io.WriteString(c, "dump\n")
					return
				case 1: // gone while it reads
					io.WriteString(c, "dump\ndump\ndump\n")
					io.ReadFull(c, make([]byte, 1000))
					return
				case 2:
					io.WriteString(c, "i a\ndump\ni b\n")
					c.(*net.UnixConn).CloseWrite()
				case 3:
					io.WriteString(c, "i a\ndump\ni b\nbye\n")
				}
				got, err := io.ReadAll(c)
				want := "0 Lock Not Locked: a\nmap[000000:"
				if err != nil || !strings.HasPrefix(string(got), want) || strings.Count(string(got), " 0")+strings.Count(string(got), "\n0 ") < locks ||
					!strings.Contains(string(got), "]\n0 Lock Not Locked: b\n") {
					t.Errorf("%d: %d bytes, %v: %.60q", i, len(got), err, got)
				}
			})
		}
		all.Wait()
		holder.Close()
		end()
	}
}

// A server that shuts down ends those that wait for their turn, too.
func TestDrainCutsOffDumps(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		for range 5 {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			io.WriteString(c, "g a\n"+strings.Repeat("dump\n", 100))
			io.ReadFull(c, make([]byte, 10))
		}
		end()
	}
}

// Those who do not read keep nobody waiting for a sorted list, however much of the
// replies before theirs has been sent when their turn comes.
func TestDumpsNotReadKeepNobodyWaiting(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		dial := func() net.Conn {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			c.SetDeadline(time.Now().Add(60 * time.Second))
			return c
		}
		holder := dial()
		const locks = 20000
		in := make([]byte, 0, 20*locks)
		for i := range locks {
			in = fmt.Appendf(in, "g %06d\n", i)
		}
		go holder.Write(in)
		for lines, n := bufio.NewScanner(holder), 0; n < locks && lines.Scan(); n++ {
		}
		// A reply of some 4,000 bytes: about 50 of them fill a socket's buffer.
		ask := "i " + strings.Repeat("x", 4000) + "\n"
		for n := range 100 {
			go io.WriteString(dial(), strings.Repeat(ask, n)+"dump\ndump\n")
		}
		for range 20 {
			c := dial()
			io.WriteString(c, "dump\nbye\n")
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasSuffix(string(got), "]\n1 bye\n") {
				t.Fatalf("loops %t: %d bytes, %v", loops, len(got), err)
			}
		}
		end()
	}
}
