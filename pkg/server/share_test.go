package server_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// dialFrom connects from an address of the machine's own, or skips.
func dialFrom(t *testing.T, s *testServer, ip string) *client {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: giveUp}
	c, err := d.Dial("tcp", s.tcp)
	if err != nil {
		t.Skip("there is no such address: ", err)
	}
	t.Cleanup(func() { c.Close() })
	return newClient(t, c, nil)
}

// What counts as one client, by --share-by, and that one's share does not keep
// another client from anything.
func TestShareBy(t *testing.T) {
	t.Parallel()
	for by, together := range map[string]bool{"": true, "address": true, "token": true, "connection": false} {
		t.Run("by "+by, func(t *testing.T) {
			s := start(t, server.Options{MaxLocks: 4, ShareBy: by})
			a, b, other := s.dial(t, "tcp"), s.dial(t, "tcp"), dialFrom(t, s, "127.0.0.2")
			for _, name := range []string{"1", "2"} {
				a.ask("g "+name, "1 Lock Get Success: "+name)
			}
			a.ask("g 3", "0 Too Many Locks: 3")
			if together {
				b.ask("g 3", "0 Too Many Locks: 3")
				other.ask("g 3", "1 Lock Get Success: 3")
			} else {
				b.ask("g 3", "1 Lock Get Success: 3")
			}
			if n, want := metric(t, s.Server, "lockd_rejected_total", "reason=share_of_locks"), 1; !together && n != want || together && n != 2 {
				t.Errorf("%d were refused", n)
			}
		})
	}
}

// Clients in the server's own process have the bounds of all, and no shares.
func TestShareWithin(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxLocks: 2})
	c := s.dial(t, "memory")
	c.ask("g 1", "1 Lock Get Success: 1")
	c.ask("g 2", "1 Lock Get Success: 2")
	c.ask("g 3", "0 Too Many Locks: 3")
	if n := metric(t, s.Server, "lockd_rejected_total", "reason=too_many_locks"); n != 1 {
		t.Errorf("%d were refused at the bound of all", n)
	}
}

// A client that fills its share with rates that last for a day, and leaves, has
// them on its account when it comes again; nobody else is refused.
func TestShareOfRatesOutlivesConnections(t *testing.T) {
	t.Parallel()
	s := start(t, server.Options{MaxLocks: 2000})
	for n := range 20 {
		c := s.dial(t, "tcp")
		for i := range 50 {
			name := fmt.Sprint(n*50 + i)
			c.ask("rl 1 86400000 1 "+name, "1 Rate Allowed: "+name)
		}
		c.Close()
	}
	waitConnections(t, s.Server, 0)
	// Others come and go meanwhile, so that accounts that nobody has are dropped.
	for n := range 200 {
		c := dialFrom(t, s, fmt.Sprintf("127.0.2.%d", n+1))
		c.ask("g x", "1 Lock Get Success: x")
		c.ask("r x", "1 Lock Release Success: x")
		c.Close()
	}
	again := s.dial(t, "tcp")
	again.ask("rl 1 86400000 1 more", "0 Too Many Locks: more")
	again.ask("g more", "0 Too Many Locks: more")
	dialFrom(t, s, "127.0.0.2").ask("rl 1 86400000 1 more", "1 Rate Allowed: more")
	again.ask("rd 7", "1 Rate Dropped: 7")
	again.ask("g more", "1 Lock Get Success: more")
}

// The log tells of a bound that is reached, once a minute, and who has most.
func TestShortagesAreLogged(t *testing.T) {
	t.Parallel()
	log := new(logBuffer)
	s := start(t, server.Options{MaxLocks: 8, Logger: slog.New(slog.NewTextHandler(log, nil))})
	var clients []*client
	for i, n := range []int{1, 4, 2, 1} {
		c := dialFrom(t, s, fmt.Sprintf("127.0.0.%d", i+1))
		c.ask(fmt.Sprint("iam worker ", i+1), "1 ok")
		for j := range n {
			name := fmt.Sprint(i, j)
			c.ask("g "+name, "1 Lock Get Success: "+name)
		}
		clients = append(clients, c)
	}
	const largest = `largest="127.0.0.2 (worker 2): 4 locks, [0-9.]+ \w+; 127.0.0.3 (worker 3): 2 locks, [0-9.]+ \w+; 127.0.0.1 (worker 1): 1 locks, [0-9.]+ \w+"`
	pattern := strings.NewReplacer("(worker", `\(worker`, "):", `\):`).Replace(largest)
	for range 3 {
		clients[1].ask("g more", "0 Too Many Locks: more")
		clients[0].ask("g more", "0 Too Many Locks: more")
	}
	for _, line := range []string{
		`level=WARN msg="a client has its share of locks: refusing it more" client=127.0.0.2 ` + pattern,
		`level=WARN msg="too many locks: refusing more" ` + pattern,
	} {
		re := regexp.MustCompile(line)
		eventually(t, "in the log: "+line, func() bool { return re.MatchString(log.String()) })
	}
	time.Sleep(10 * time.Millisecond) // for one that must not come
	if n := strings.Count(log.String(), "refusing"); n != 2 {
		t.Errorf("the log tells of it %d times:\n%s", n, log)
	}
}

func TestShareOptions(t *testing.T) {
	t.Parallel()
	for _, share := range [][]string{
		{"off"}, {"locks=off"}, {"locks=1"}, {"locks=0.5%", "bytes=1MiB"}, {"waiters=100%", "rates=7", "sessions=10%"},
	} {
		if _, err := server.New(server.Options{MaxShare: share}); err != nil {
			t.Errorf("%q: %v", share, err)
		}
	}
	for _, share := range [][]string{
		{""}, {"locks"}, {"locks="}, {"locks=0"}, {"locks=-1"}, {"locks=0%"}, {"locks=101%"}, {"locks=x%"}, {"locks=NaN%"},
		{"connections=10%"}, {"bytes=0"}, {"bytes=many"}, {"off", "locks=1"}, {"locks=1", "locks=2"}, {"locks=1 "},
	} {
		if _, err := server.New(server.Options{MaxShare: share}); err == nil || !strings.Contains(err.Error(), "max-share: ") {
			t.Errorf("%q: %v", share, err)
		}
	}
	for _, opts := range []server.Options{{ShareBy: "name"}, {MaxMemory: 1}, {MaxMemory: -2}} {
		if _, err := server.New(opts); err == nil {
			t.Errorf("%+v: no error", opts)
		}
	}
}

// Whatever a server has kept for clients, it counts, over each transport, and
// counts it out when they are gone; and one that has it keep too much is cut off,
// while others go on.
func TestMemoryOfConnections(t *testing.T) {
	const most = 32 << 20
	for _, transport := range []string{"tcp", "unix", "memory"} {
		t.Run(transport, func(t *testing.T) {
			s := start(t, server.Options{MaxMemory: most, MaxLine: 1 << 20, MaxShare: []string{"off"}})
			used := func() int { return metric(t, s.Server, "lockd_memory_bytes") }
			limit := metric(t, s.Server, "lockd_memory_limit_bytes")
			if limit < most/8 || limit > most {
				t.Fatalf("%d bytes for clients", limit)
			}
			before := used()
			holder := s.dial(t, transport)
			holder.ask("g held", "1 Lock Get Success: held")
			var crowd []*client
			for range 40 {
				crowd = append(crowd, s.dial(t, transport))
			}
			for n := 0; metric(t, s.Server, "lockd_rejected_total", "reason=cut_off") == 0; n++ {
				if n == len(crowd) {
					t.Fatal("nobody is cut off")
				}
				c := crowd[n]
				at := used()
				go io.WriteString(c, strings.Repeat("x", 500_000)) // the beginning of a line
				eventually(t, "what was sent is kept", func() bool {
					return used() > at+400_000 || metric(t, s.Server, "lockd_rejected_total", "reason=cut_off") > 0
				})
			}
			if n := used(); n > limit*3/2 {
				t.Errorf("%d bytes are kept, of %d", n, limit)
			}
			// Long before that, no more connections are let in.
			if s.dial(t, transport).line() != "0 Too Many Connections\n" {
				t.Error("there is room for a connection")
			}
			holder.ask("g held", "1 Lock Get Success: held")
			holder.ask("g more", "0 Server Full: more")
			holder.ask("iam somebody", "0 Server Full: somebody")
			holder.ask("rl 1 1000 1 more", "0 Server Full: more")
			holder.ask("gw 1000 held", "1 Lock Get Success: held")
			for _, c := range crowd {
				c.Close()
			}
			waitConnections(t, s.Server, 1)
			holder.ask("g more", "1 Lock Get Success: more")
			holder.ask("iam somebody", "1 ok")
			holder.Close()
			waitConnections(t, s.Server, 0)
			// Tables keep a few empty chunks, and the directory its pages.
			if n := used(); n > before+256<<10 {
				t.Errorf("%d bytes are left, before it was %d", n, before)
			}
		})
	}
}

// Connections are not shared out, and so are not the bytes that each takes, within
// TLS most: those of a fleet behind a load balancer are all one client's. They count
// as memory all the same.
func TestConnectionsAreNoShare(t *testing.T) {
	const crowd = 60
	s := start(t, server.Options{MaxShare: []string{"bytes=256KiB"}})
	before := metric(t, s.Server, "lockd_memory_bytes")
	var all []*client
	for n := range crowd {
		c := s.dial(t, "tls")
		c.ask(fmt.Sprintf("g %d", n), fmt.Sprintf("1 Lock Get Success: %d", n))
		all = append(all, c)
	}
	if n := metric(t, s.Server, "lockd_memory_bytes"); n < before+crowd*(16<<10) {
		t.Errorf("%d connections within TLS take %d bytes", crowd, n-before)
	}
	for _, c := range all {
		c.Close()
	}
	waitConnections(t, s.Server, 0)
	eventually(t, "they take nothing, but for what tables keep", func() bool { return metric(t, s.Server, "lockd_memory_bytes") < before+256<<10 })
}
