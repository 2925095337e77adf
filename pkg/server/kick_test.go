package server_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/stress"
	"github.com/nylen/lockd/pkg/server"
)

// Clients that hold and wait are kicked by others, who kick each other and
// themselves, too, while somebody looks:
// each kick is answered, once what was held is free, and nothing is left at the
// end.
func TestKicksUnderLoad(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	type victim struct{ addr, name string }
	const victims, kickers = 12, 4
	var there [victims + kickers]atomic.Pointer[victim]
	var kicked, answered atomic.Int64
	until := time.Now().Add(stress.Time(t))
	over := func() bool { return time.Now().After(until) }
	var all, work sync.WaitGroup
	stop := make(chan struct{})
	for i := range victims {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				transport := []string{"tcp", "unix", "memory"}[n%3]
				c := s.dial(t, transport)
				name := fmt.Sprintf("own %d %d", i, n)
				// What may be cut off at any time is not checked line by line.
				fmt.Fprintf(c.Conn, "me\ng %s\nsg all\n", name)
				me, err := c.in.ReadString('\n')
				if words := strings.Fields(me); err == nil && len(words) == 3 {
					there[i].Store(&victim{words[1], name})
				}
				if n%2 == 0 {
					fmt.Fprintf(c.Conn, "gw 60000 busy\n")
				}
				for err == nil {
					_, err = c.in.ReadString('\n')
				}
				c.Close()
			}
		})
	}
	for k := range kickers {
		work.Go(func() {
			var c *client
			ask := func(request string) (string, error) {
				if _, err := fmt.Fprintf(c.Conn, "%s\n", request); err != nil {
					return "", err
				}
				return c.in.ReadString('\n')
			}
			for !over() {
				c = s.dial(t, "tcp")
				me, err := ask("me")
				if words := strings.Fields(me); err == nil {
					there[victims+k].Store(&victim{words[1], fmt.Sprintf("own %d", k)})
				}
				for err == nil && !over() {
					v := there[rand.IntN(len(there))].Load()
					if v == nil {
						continue
					}
					var reply string
					kicked.Add(1)
					if reply, err = ask("kick " + v.addr); err != nil {
						break
					}
					answered.Add(1)
					switch strings.TrimSuffix(reply, v.addr+"\n") {
					case "1 Kicked: ", "0 No Such Client: ":
					default:
						t.Errorf("%q", reply)
					}
					if reply, err = ask("i " + v.name); err == nil && !strings.HasPrefix(reply, "0 ") {
						t.Errorf("kicked, and %q", reply)
					}
				}
				c.Close()
			}
		})
	}
	// Somebody looks all the while.
	work.Go(func() {
		c := s.dial(t, "unix")
		defer c.Close()
		for !over() {
			c.send("look* own\n")
			for c.line() != "1 End\n" {
			}
			time.Sleep(time.Millisecond)
		}
	})
	work.Wait()
	close(stop)
	last := s.dial(t, "tcp")
	for left := true; left; {
		left = false
		for i := range there {
			if v := there[i].Swap(nil); v != nil {
				left = true
				last.send("kick " + v.addr + "\n")
				last.line()
			}
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Millisecond):
			left = true
		}
	}
	last.send("look*\n")
	if line := last.line(); line != "1 End\n" {
		t.Errorf("left is %q", line)
	}
	if answered.Load() < 10 {
		t.Errorf("%d kicks, %d answered", kicked.Load(), answered.Load())
	}
}

// Who kicks and closes its side gets the reply as everybody does: when what was
// held is free.
func TestKickAndHalfClose(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{})
	for range 5 {
		for _, transport := range streams {
			victim := s.dial(t, "tcp")
			victim.send("me\n")
			me := strings.Fields(victim.line())[1]
			var in strings.Builder
			const locks = 3000
			for i := range locks {
				fmt.Fprintf(&in, "g %d\n", i)
			}
			victim.sendAll(in.String() + "g last\n")
			for range locks + 1 {
				victim.line()
			}
			k := s.dial(t, transport)
			k.send("kick " + me + "\ni last\ni 0\n")
			k.closeWrite()
			for _, want := range []string{"1 Kicked: " + me + "\n", "0 Lock Not Locked: last\n", "0 Lock Not Locked: 0\n"} {
				if got := k.line(); got != want {
					t.Errorf("%s: %q, want %q", transport, got, want)
				}
			}
			k.Close()
			victim.Close()
		}
	}
}
