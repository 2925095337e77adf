package conn

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// Many that ask for sorted lists at a time all get them, each in its place among
// the replies, though some go while they wait for their turn, and others close
// their side.
func TestManyDumps(t *testing.T) {
	for _, loops := range []bool{true, false} {
		h := NewServer(testConfig())
		path, end := serveUnix(t, h, loops)
		holder := dialUnix(t, path)
		const locks = 20000
		takeLocks(holder, locks)
		var all sync.WaitGroup
		for i := range 12 {
			c := dialUnix(t, path)
			all.Go(func() {
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
		holder := dialUnix(t, path)
		const locks = 20000
		takeLocks(holder, locks)
		// A reply of some 4,000 bytes: about 50 of them fill a socket's buffer.
		ask := "i " + strings.Repeat("x", 4000) + "\n"
		for n := range 100 {
			go io.WriteString(dialUnix(t, path), strings.Repeat(ask, n)+"dump\ndump\n")
		}
		for range 20 {
			c := dialUnix(t, path)
			io.WriteString(c, "dump\nbye\n")
			got, err := io.ReadAll(c)
			if err != nil || !strings.HasSuffix(string(got), "]\n1 bye\n") {
				t.Fatalf("loops %t: %d bytes, %v", loops, len(got), err)
			}
		}
		end()
	}
}
