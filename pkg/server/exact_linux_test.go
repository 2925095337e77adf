//go:build linux && !noloop

package server_test

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/internal/stress"
	"github.com/nylen/lockd/pkg/server"
)

// connections asks for the counters and returns how many connections there are.
// Others may be registered, or lines follow: it reads to the last one.
func (c *client) connections() string {
	c.tb.Helper()
	c.send("q\nping\n")
	n := "none"
	for {
		switch line := strings.TrimSuffix(c.line(), "\n"); {
		case line == "1 pong":
			return n
		case strings.HasPrefix(line, "connections: "):
			n = strings.TrimPrefix(line, "connections: ")
		}
	}
}

// q counts all connections that were made before it was sent, and none that was
// closed before, also when several ask at once.
func TestQueryIsExact(t *testing.T) {
	kinds := []string{"tcp", "unix"}
	stress.Crowd(t)
	for _, procs := range []int{1, 2, 4} {
		for _, made := range kinds {
			for _, asks := range append([]string{"memory"}, kinds...) {
				t.Run(fmt.Sprintf("%s counts %s/%d", asks, made, procs), func(t *testing.T) {
					defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(procs))
					s := start(t, server.Options{})
					a, b := s.dial(t, asks), s.dial(t, asks)
					a.connections()
					rounds := 0
					for end := time.Now().Add(stress.Time(t) / 18); time.Now().Before(end); rounds++ {
						var cs [3]*client
						for i := range cs {
							cs[i] = s.dial(t, made)
						}
						want := "5"
						var both sync.WaitGroup
						both.Go(func() {
							if n := b.connections(); n != want {
								t.Errorf("round %d: %s connections for another, not %s", rounds, n, want)
							}
						})
						if n := a.connections(); n != want {
							t.Errorf("round %d: %s connections, not %s", rounds, n, want)
						}
						both.Wait()
						if asks != "memory" { // also when the asker's end is right behind it
							c := s.dial(t, asks)
							c.send("q\n")
							c.closeWrite()
							if all, err := io.ReadAll(c.in); !strings.Contains(string(all), "connections: 6\n") {
								t.Errorf("round %d: %q, %v, not 6 connections", rounds, all, err)
							}
							c.Close()
						}
						for i, c := range cs {
							if rounds%2 == 1 {
								// Its end is behind that. Of one lock a client might wait for the
								// end of the one before it, and so long it is there, see docs/protocol.md.
								c.send(fmt.Sprintf("i foo%[1]d\ng foo%[1]d\n", i))
							}
							c.Close()
						}
						if n := a.connections(); n != "2" {
							t.Errorf("round %d: %s connections are left, not 2", rounds, n)
						}
						if t.Failed() {
							return
						}
					}
					t.Logf("%d rounds", rounds)
				})
			}
		}
	}
}
