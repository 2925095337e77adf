package server_test

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/server"
)

// 10,000 wait for one lock: sessions of protocol 2 on a few connections of
// each transport, and a few hundred connections of protocol 1. Some are
// canceled, some time out, some connections are cut off. Those who are left
// are served in the order in which they came, none of them twice, none never.
//
// To know the order of arrival the waiters come one at a time, as far as the
// server is concerned: a connection sends as many as it has, and the next one
// begins when the server counts them.
func TestTenThousandInLine(t *testing.T) {
	t.Parallel()
	total, singles := 10_000, 300
	if testing.Short() {
		total, singles = 1000, 50
	}
	s := start(t, server.Options{})
	holder := s.dial(t, "tcp")
	holder.ask("g one", "1 Lock Get Success: one")

	type grant struct {
		arrival int
		token   uint64
	}
	var (
		rnd     = rand.New(rand.NewPCG(1, 10_000))
		mu      sync.Mutex // guards what follows
		grants  []grant
		gone    = make(map[int]string) // by arrival: why
		working sync.WaitGroup
		inside  atomic.Int32 // how many hold it
		arrived int
		waits   int // how many the server should count
		killed  = make(map[int]bool)
	)
	// A connection that will be cut off may lose the lock before it notices.
	granted := func(arrival int, token uint64, doomed bool) {
		if !doomed {
			if n := inside.Add(1); n != 1 {
				t.Errorf("%d hold the lock", n)
			}
			inside.Add(-1)
		}
		mu.Lock()
		defer mu.Unlock()
		grants = append(grants, grant{arrival, token})
	}
	lost := func(arrival int, why string) {
		mu.Lock()
		defer mu.Unlock()
		if was := gone[arrival]; was != "" {
			t.Errorf("waiter %d ended twice: %s, %s", arrival, was, why)
		}
		gone[arrival] = why
	}

	// A connection of protocol 2.
	type many struct {
		*client
		base, n int
		doomed  bool
		killed  atomic.Bool
	}
	serve := func(m *many) {
		defer working.Done()
		for left := m.n; left > 0; {
			line, err := m.in.ReadString('\n')
			if err != nil {
				if !m.killed.Load() {
					t.Errorf("%d waiters are left, and then: %v", left, err)
				}
				return
			}
			var session, number uint64
			if _, err := fmt.Sscan(line, &session, &number); err != nil {
				t.Errorf("%q: %v", line, err)
				return
			}
			arrival := m.base + int(session)
			switch _, text, _ := strings.Cut(line, " "); {
			case number > 1 && strings.HasSuffix(text, " Lock Get Success: one\n"):
				left--
				granted(arrival, number, m.doomed)
				io.WriteString(m, fmt.Sprintf("%d r one\n", session))
			case text == "0 Lock Get Canceled: one\n":
				left--
				lost(arrival, "canceled")
			case text == "0 Lock Get Timeout: one\n":
				left--
				lost(arrival, "timed out")
			case text == "1 ok\n" || text == "1 Lock Release Success: one\n":
			default:
				t.Errorf("got %q", line)
			}
		}
		// What comes now is what was asked last.
	}
	type fate struct {
		doomed bool
		atomic.Bool
	}
	single := func(c *client, arrival int, dead *fate) {
		defer working.Done()
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil && dead.Load():
		case err != nil:
			t.Errorf("waiter %d: %v", arrival, err)
		case line == "1 Lock Get Success: one\n":
			io.WriteString(c, "t one\n")
			line, err := c.in.ReadString('\n')
			number, text, _ := strings.Cut(line, " ")
			token, err2 := strconv.ParseUint(number, 10, 64)
			if err := cmp.Or(err, err2); err != nil || text != "Lock Token: one\n" {
				if !dead.Load() {
					t.Errorf("waiter %d, granted: %q, %v", arrival, line, err)
				}
				return
			}
			granted(arrival, token, dead.doomed)
			io.WriteString(c, "r one\n")
		case line == "0 Lock Get Timeout: one\n":
			lost(arrival, "timed out")
		case line == "0 Lock Get Canceled: one\n" && dead.Load(): // within TLS the end is said first
		default:
			t.Errorf("waiter %d: got %q", arrival, line)
		}
	}

	var manies []*many
	var alone []*client
	var aloneAt []int
	var aloneDead []*fate
	const perConn = 500
	for arrived < total {
		if n := min(perConn, total-arrived); len(alone) >= singles || len(manies)*perConn < arrived {
			m := &many{client: s.dial(t, streams[len(manies)%len(streams)]), base: arrived, n: n, doomed: rnd.IntN(5) == 0}
			m.ask("hello 2", "2 lockd "+server.Version)
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "%d gw 86400000 one\n", i)
			}
			m.send(b.String())
			manies = append(manies, m)
			working.Add(1)
			go serve(m)
			arrived += n
			waits += n
		} else {
			for range min(singles/4+1, singles-len(alone), total-arrived) {
				c := s.dial(t, streams[rnd.IntN(2)])
				dead := &fate{doomed: rnd.IntN(4) == 0}
				c.send("gw 86400000 one\n")
				working.Add(1)
				go single(c, arrived, dead)
				alone, aloneAt, aloneDead = append(alone, c), append(aloneAt, arrived), append(aloneDead, dead)
				arrived++
				waits++
				waitWaiters(t, s.Server, waits)
			}
		}
		waitWaiters(t, s.Server, waits)
	}

	// It begins: the line moves, and many leave it.
	go io.WriteString(holder, "r one\n")
	var canceling sync.WaitGroup
	for _, m := range manies {
		seed := rnd.Uint64()
		canceling.Go(func() {
			rnd := rand.New(rand.NewPCG(seed, 2))
			for range m.n / 8 {
				// The reply is `ok` alone where the wait is over.
				if _, err := io.WriteString(m, fmt.Sprintf("%d cancel\n", rnd.IntN(m.n))); err != nil {
					break // the reader says what is wrong
				}
			}
			if m.doomed {
				m.killed.Store(true)
				mu.Lock()
				for i := range m.n {
					killed[m.base+i] = true
				}
				mu.Unlock()
				linger(m.Conn)
				m.Close()
			}
		})
	}
	for i := range alone {
		if aloneDead[i].doomed {
			mu.Lock()
			killed[aloneAt[i]] = true
			mu.Unlock()
			aloneDead[i].Store(true)
			linger(alone[i].Conn)
			alone[i].Close()
		}
	}
	done := make(chan struct{})
	go func() { canceling.Wait(); working.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(giveUp * 2 / 3):
		mu.Lock()
		t.Fatalf("%d granted, %d gone of %d; the server counts %d waiters", len(grants), len(gone), total, metric(t, s.Server, "lockd_waiters"))
	}
	waitWaiters(t, s.Server, 0)
	last := s.dial(t, "tcp")
	last.ask("gw 30000 one", "1 Lock Get Success: one")

	slices.SortFunc(grants, func(a, b grant) int { return cmp.Compare(a.token, b.token) })
	seen := make(map[int]bool)
	for i, g := range grants {
		if seen[g.arrival] || gone[g.arrival] != "" {
			t.Errorf("waiter %d was granted the lock, and %d times, %s", g.arrival, i, gone[g.arrival])
		}
		seen[g.arrival] = true
		if i > 0 && grants[i-1].arrival >= g.arrival {
			t.Fatalf("waiter %d was served before waiter %d", grants[i-1].arrival, g.arrival)
		}
	}
	for arrival := range total {
		if !seen[arrival] && gone[arrival] == "" && !killed[arrival] {
			t.Errorf("waiter %d was lost", arrival)
		}
	}
	t.Logf("%d of %d granted, %d canceled, %d killed", len(grants), total, len(gone), len(killed))
}
