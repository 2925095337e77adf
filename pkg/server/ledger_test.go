package server_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/server"
)

// TestLedger: what the metrics say adds up. After any work each hold that was
// acquired is released, orphaned or there, and what is there is what `d` and `sd`
// list.
func TestLedger(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxLocks: 60, MaxLocksPerConnection: 14, MaxWaiters: 3})
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	watcher := s.dial(t, "memory")
	watcher.ask("hello 2", "2 lockd "+server.Version)

	var clients []*ledgerClient
	connect := func() *ledgerClient {
		c := &ledgerClient{client: s.dial(t, streams[r.IntN(len(streams))]), two: r.IntN(2) == 0}
		c.send("me\n") // by the reply it counts
		c.addr = strings.Fields(c.line())[1]
		if c.two {
			c.ask("hello 2", "2 lockd "+server.Version)
		}
		return c
	}
	for range 6 {
		clients = append(clients, connect())
	}
	for round := range 60 {
		for range 40 {
			i := r.IntN(len(clients))
			switch c := clients[i]; r.IntN(60) {
			case 0: // a client that dies
				c.Close()
				clients[i] = connect()
			case 1: // that waits while it dies
				c.send(c.request(r, "gw 60000 ") + "\n")
				c.Close()
				clients[i] = connect()
			case 2:
				c.finish(t, r, "bye")
				if !c.two || c.session == 0 {
					c.Close()
					clients[i] = connect()
				}
			case 4, 5: // kicked, by somebody else or by itself, while it waits perhaps
				if r.IntN(2) == 0 {
					c.send(c.request(r, "gw 60000 ") + "\n")
				}
				if r.IntN(3) == 0 && c.two {
					c.send("9 kick " + c.addr + "\n")
				} else {
					watcher.ask("0 kick "+c.addr, "0 1 Kicked: "+c.addr)
				}
				for {
					if _, err := c.in.ReadString('\n'); err != nil {
						break
					}
				}
				c.Close()
				clients[i] = connect()
			case 3: // waits that end, in any way: granted, timed out, canceled
				c.wait(t, r)
			default:
				c.finish(t, r, []string{"g ", "g ", "r ", "sg ", "sr ", "sgl 2 ", "gw 0 ", "gw 1 ", "sgw 1 1 ", "i ", "t "}[r.IntN(11)])
			}
		}
		waitConnections(t, s.Server, len(clients)+1) // those that died hold nothing by then
		for kind, list := range map[string]string{"exclusive": "d", "shared": "sd"} {
			held := watcher.lines(t, list)
			of := "kind=" + kind
			acquired := metric(t, s.Server, "lockd_acquire_total", of, "result=acquired")
			released, orphaned := metric(t, s.Server, "lockd_released_total", of), metric(t, s.Server, "lockd_orphans_total", of)
			if acquired != released+orphaned+held {
				t.Fatalf("round %d: %d %s locks were acquired, %d released, %d orphaned, %d are held", round, acquired, kind, released, orphaned, held)
			}
			there := metric(t, s.Server, "lockd_locks_held", of)
			if kind == "shared" {
				there = metric(t, s.Server, "lockd_shared_holders")
			}
			if there != held {
				t.Fatalf("round %d: %d %s locks are held, the metrics say %d", round, held, kind, there)
			}
		}
	}
	for _, kind := range []string{"exclusive", "shared"} {
		for _, result := range []string{"acquired", "again", "refused", "timed_out"} {
			if metric(t, s.Server, "lockd_acquire_total", "kind="+kind, "result="+result) == 0 {
				t.Errorf("nothing %s was %s: the test is too short", kind, result)
			}
		}
	}
}

// A ledgerClient asks one thing at a time, so that nothing is under way when it has its
// reply. In protocol 2 it has some sessions.
type ledgerClient struct {
	*client
	two     bool
	addr    string
	session int // of the last request
}

// request makes a request of a verb about one of a few names.
func (c *ledgerClient) request(r *rand.Rand, verb string) string {
	line := verb
	if strings.HasSuffix(verb, " ") {
		line += fmt.Sprint("n", r.IntN(16))
	}
	if c.two {
		c.session = r.IntN(4)
		line = fmt.Sprint(c.session, " ", line)
	}
	return line
}

// finish sends a request and reads its reply, whatever that is.
func (c *ledgerClient) finish(t *testing.T, r *rand.Rand, verb string) {
	c.send(c.request(r, verb) + "\n")
	c.line()
}

// wait begins to wait for what it may hold itself in another session, and then
// cancels that, or lets it go.
func (c *ledgerClient) wait(t *testing.T, r *rand.Rand) {
	if !c.two {
		c.finish(t, r, "gw 2 ")
		return
	}
	name := fmt.Sprint("n", r.IntN(16))
	c.send("1 g " + name + "\n2 gw 60000 " + name + "\n")
	if r.IntN(2) == 0 {
		c.send("1 r " + name + "\n")
		c.send("2 cancel\n")
	} else {
		c.send("2 cancel\n1 r " + name + "\n")
	}
	// Each session's last reply ends what it was asked.
	for left := 4; left > 0; left-- {
		c.line()
	}
}

// lines counts the lines of a list, in protocol 2.
func (c *client) lines(t *testing.T, list string) (n int) {
	t.Helper()
	c.send("0 " + list + "\n")
	for lines := bufio.NewScanner(c.in); lines.Scan(); n++ {
		if lines.Text() == "0 1 End" {
			return n
		}
	}
	t.Fatal("the list has no end")
	return 0
}
