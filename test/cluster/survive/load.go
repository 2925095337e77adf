//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// A load is what all clients on one machine want, in a process of their own: it can be
// stopped.
type load struct {
	Machine string
	Nodes   []place
	Fence   string // the store's file
	Names   int    // of locks of each kind, at a time
	Epoch   time.Duration

	Plain, Kept, Lockers, KeptLockers int // clients; of Lockers, goroutines
	Probes                            bool

	H, K    time.Duration
	Longest time.Duration // that a lock is held, as a rule
	Wait    time.Duration // at most for one
	Stop    time.Duration // S
	Roam    bool          // kept clients come back at any node
	Rate    float64       // of Lockers' clock, to the machine's; 0: 1
	Stall   time.Duration // for which clients may stand still

	fence *fenced
}

// anyNode is the home of who asks all of them.
const anyNode = "any node"

// A place is where a node is.
type place struct{ Name, Addr string }

// limit is that of all shared locks.
const limit = 3

// deed is one thing that somebody wants.
type deed struct {
	name  string // with verb
	line  string
	limit int
	hold  time.Duration
}

// epochs are how locks are new ones now and then, so that each has a history that can be
// judged.
func (l *load) epoch() int64 { return int64(now() / l.Epoch) }

func (l *load) deed() deed {
	d := deed{limit: 1, hold: rand.N(l.Longest/20 + 1)}
	switch rand.IntN(20) {
	case 0: // over a fail-over, or until its deadline
		d.hold = rand.N(2 * l.K)
	case 1, 2, 3, 4:
		d.hold = rand.N(l.Longest)
	}
	n := fmt.Sprintf("%d.%d", rand.IntN(l.Names), l.epoch())
	wait := rand.N(l.Wait).Milliseconds()
	switch rand.IntN(7) {
	case 0:
		d.name = "g lock" + n
		d.line = d.name
	case 1, 2, 3:
		d.name = "g lock" + n
		d.line = fmt.Sprintf("gw %d %s", wait, d.name[2:])
	case 4:
		d.name, d.limit = "s pool"+n, limit
		d.line = fmt.Sprintf("sgl %d %s", limit, d.name[2:])
	default:
		d.name, d.limit = "s pool"+n, limit
		d.line = fmt.Sprintf("sgw %d %d %s", limit, wait, d.name[2:])
	}
	return d
}

// pause is between two deeds.
func pause(ctx context.Context, most time.Duration) { wait(ctx, rand.N(max(most, 1))) }

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *load) home() int { return rand.IntN(len(l.Nodes)) }

// run has all of them come and go until the context ends.
func (l *load) run(ctx context.Context, w *witness) {
	l.fence = &fenced{path: l.Fence}
	var all sync.WaitGroup
	for i := range l.Kept {
		all.Go(func() { l.keepers(ctx, w, 1+i%3) })
	}
	for i := range l.Plain {
		all.Go(func() { l.plains(ctx, w, i%2 == 0) })
	}
	const each = 4 // goroutines of a Locker
	for i := 0; i < l.Lockers; i += each {
		all.Go(func() { l.lockers(ctx, w, "locker", 0, each, i/each%2 == 0) })
	}
	for i := 0; i < l.KeptLockers; i += each {
		all.Go(func() { l.lockers(ctx, w, "kept locker", l.K*95/100, each, i/each%2 == 0) })
	}
	if l.Probes {
		for home := range l.Nodes {
			all.Go(func() { l.probes(ctx, w, home) })
		}
	}
	all.Wait()
}

// keepers has clients come and go that are kept, one after another.
func (l *load) keepers(ctx context.Context, w *witness, sessions int) {
	for ctx.Err() == nil {
		k := &keeper{w: w, l: l, kind: "kept", home: l.home(), ask: l.K, stop: l.Stop}
		in, err := k.begin(ctx)
		if err != nil {
			var strange *strangeError
			if errors.As(err, &strange) {
				w.count("kept: " + err.Error())
			}
			pause(ctx, 200*time.Millisecond)
			continue
		}
		var all sync.WaitGroup
		done := make(chan struct{})
		go func() {
			defer close(done)
			k.run(context.WithoutCancel(ctx), in)
		}()
		life, end := context.WithCancel(ctx)
		for s := range sessions {
			all.Go(func() { l.session(life, w, k, s+1) })
		}
		select {
		case <-k.gone:
		case <-ctx.Done():
		case <-time.After(10*time.Second + rand.N(50*time.Second)): // another has another home
		}
		if ctx.Err() != nil {
			time.AfterFunc(l.K, func() { k.bye() }) // who gets no answer any more
		}
		end()
		all.Wait()
		k.bye()
		<-done
	}
}

// session is what one of a client's sessions does.
func (l *load) session(ctx context.Context, w *witness, k *keeper, session int) {
	owner := w.owner()
	for ctx.Err() == nil && !k.isOver() {
		if rand.IntN(8) == 0 {
			l.takings(ctx, w, func(line string) answer { return k.request(session, line, nil) })
		}
		d := l.deed()
		if k.get(session, owner, d.line, d.name, d.limit) {
			second := deed{}
			if rand.IntN(5) == 0 { // two at a time, the other without waiting
				second = l.deed()
				if second.name != d.name {
					line := second.name
					if line[0] == 's' {
						line = fmt.Sprintf("sgl %d %s", limit, line[2:])
					}
					k.get(session, owner, line, second.name, second.limit)
				}
			}
			half := rand.N(d.hold + 1)
			wait(ctx, half)
			l.write(w, k.kind, d.name, k.token(session, d.name), func() bool { return k.holding(session, d.name) })
			wait(ctx, d.hold-half)
			if second.name != "" && second.name != d.name {
				k.release(session, second.name)
			}
			k.release(session, d.name)
		}
		pause(ctx, l.Longest/20)
	}
}

// write writes to the store under a lock: who believes in that is not refused.
func (l *load) write(w *witness, kind, name string, token uint64, believes func() bool) {
	against, err := l.fence.write(name, token)
	if err != nil || against == 0 {
		return
	}
	if !believes() {
		w.count(kind + ": fenced")
		return
	}
	w.note(note{Loss: &loss{Kind: kind, Client: l.Machine, Name: name, At: now(), Never: true,
		Why: fmt.Sprintf("the store has refused a write under token %d, after one under %d", token, against)}})
}

// lockers are clients of pkg/client: those with the map know all nodes, and ask who
// serves a name; others ask one node, or any if they come back at any.
func (l *load) lockers(ctx context.Context, w *witness, kind string, keep time.Duration, goroutines int, mapped bool) {
	if mapped {
		kind += " with the map"
	}
	var targets []string
	for _, n := range l.Nodes {
		targets = append(targets, n.Addr)
	}
	for ctx.Err() == nil {
		home := l.Nodes[l.home()]
		switch {
		case mapped:
			home = place{anyNode, strings.Join(targets, ",")}
		case l.Roam && keep > 0:
			home.Addr = strings.Join(targets, ",")
			home.Name = anyNode
		}
		k, err := client.NewLocker(client.LockerOptions{
			Options: client.Options{Target: home.Addr, ConnectTimeout: l.K / 8},
			Keep:    keep, Logger: slog.New(slog.DiscardHandler), MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond, NoMap: !mapped,
			OnKeep: func(e client.KeepEvent) { w.count(kind + ": " + e.Kind.String()) },
		})
		if err != nil {
			w.count(kind + ": " + err.Error())
			return
		}
		life, end := context.WithTimeout(ctx, 20*time.Second+rand.N(60*time.Second))
		var all sync.WaitGroup
		for range goroutines {
			all.Go(func() { l.locker(life, w, kind, home.Name, k) })
		}
		all.Wait()
		end()
		k.Close()
	}
}

func (l *load) locker(ctx context.Context, w *witness, kind, home string, k *client.Locker) {
	owner := w.owner()
	for ctx.Err() == nil {
		d := l.deed()
		h := hold{Name: d.name, Owner: owner, Kind: kind, Home: home, Asked: now(), Limit: d.limit}
		within, stop := context.WithTimeout(ctx, rand.N(l.Wait)+10*time.Millisecond)
		var lock *client.Lock
		var err error
		if d.name[0] == 'g' {
			lock, err = k.Acquire(within, d.name[2:])
		} else {
			lock, err = k.AcquireShared(within, d.name[2:], limit)
		}
		stop()
		if err != nil {
			pause(ctx, l.Longest/20)
			continue
		}
		w.count(kind + ": grants")
		h.From, h.Token = now(), lock.Token()
		half := rand.N(d.hold + 1)
		lost := func(d time.Duration) {
			select {
			case <-time.After(d):
			case <-ctx.Done():
			case <-lock.Lost():
			}
		}
		lost(half)
		if d.name[0] == 'g' {
			l.write(w, kind, d.name, h.Token, func() bool { return lock.Err() == nil })
		}
		lost(d.hold - half)
		h.To = now()
		err = lock.Err()
		if err == nil {
			within, stop := context.WithTimeout(context.WithoutCancel(ctx), l.K)
			if lock.Release(within) == nil {
				h.Left = now()
			}
			stop()
		}
		w.note(note{Hold: &h})
		if err != nil {
			w.note(note{Loss: &loss{Kind: kind, Client: l.Machine, Home: home, Name: d.name, Why: err.Error(), At: now(), Held: &h}})
		}
		pause(ctx, l.Longest/20)
	}
}

// A plain client knows nothing of being kept. It believes in what it holds while its
// connection stands, and for a while after the last ping that was answered.
type plain struct {
	l    *load
	w    *witness
	kind string
	home place
	conn net.Conn
	two  bool

	lines  chan string   // closed at the end of the connection
	ended  atomic.Int64  // when that was, which it sees at once
	within time.Duration // how long a reply may take
}

// read reads replies until the connection ends.
func (p *plain) read() {
	defer close(p.lines)
	for in := bufio.NewReader(p.conn); ; {
		line, err := in.ReadString('\n')
		if err != nil {
			p.ended.Store(int64(now()))
			return
		}
		p.lines <- strings.TrimSuffix(line, "\n")
	}
}

// until is when it stops to believe in a lock: now, at the end of its connection, or at
// its deadline.
func (p *plain) until(deadline time.Duration) time.Duration {
	at := min(now(), deadline)
	if ended := p.ended.Load(); ended != 0 {
		at = min(at, time.Duration(ended))
	}
	return at
}

// plains has clients come and go that are not kept.
func (l *load) plains(ctx context.Context, w *witness, two bool) {
	for ctx.Err() == nil {
		home := l.Nodes[l.home()]
		conn, err := net.DialTimeout("tcp", home.Addr, time.Second)
		if err != nil {
			pause(ctx, 200*time.Millisecond)
			continue
		}
		p := &plain{l: l, w: w, kind: "plain, protocol 1", home: home, conn: conn, two: two, lines: make(chan string, 1), within: l.Wait + 4*l.K}
		if two {
			p.kind = "plain, protocol 2"
		}
		go p.read()
		life, end := context.WithTimeout(ctx, 5*time.Second+rand.N(55*time.Second))
		p.live(life, w.owner()) // another connection is another owner, whatever may be left of this one
		end()
		conn.Close()
		for range p.lines { // until it has ended
		}
		pause(ctx, 50*time.Millisecond)
	}
}

func (p *plain) live(ctx context.Context, owner int) {
	if p.two {
		if got, err := p.say(p.within, "hello 2"); err != nil || !strings.HasPrefix(got, "2 lockd ") {
			return
		}
	}
	// Who has not asked for it is freed sooner than after H, if somebody wants what he has.
	if got, err := p.ask("limits"); err != nil || !strings.HasPrefix(got, "1 dead_peer_ms=") {
		return
	}
	for ctx.Err() == nil {
		if rand.IntN(8) == 0 {
			bad := false
			p.l.takings(ctx, p.w, func(line string) answer {
				sent := now()
				got, err := p.ask(line)
				bad = err != nil
				return answer{got, sent, now()}
			})
			if bad {
				return
			}
		}
		d := p.l.deed()
		h := hold{Name: d.name, Owner: owner, Kind: p.kind, Home: p.home.Name, Asked: now(), Limit: d.limit}
		got, err := p.ask(d.line)
		if err != nil {
			return
		}
		n, text := split(got)
		if n == 0 || !strings.Contains(text, "Success") {
			pause(ctx, p.l.Longest/20)
			continue
		}
		if d.name[0] == 'g' && p.two {
			h.Token = n
		}
		// What it has waited for it believes in when it has asked again, since when it
		// was granted nobody knows.
		sent := now()
		if got, err := p.ask("ping"); err != nil || got != "1 pong" {
			return
		}
		h.From = now()
		deadline := sent + p.l.H*9/10
		if h.From >= deadline {
			return
		}
		p.w.count(p.kind + ": grants")
		written := rand.N(d.hold+1) + now()
		for end := now() + d.hold; err == nil && now() < end && ctx.Err() == nil; {
			pause(ctx, min(end-now(), p.l.H/8))
			if now() > written {
				written = end + p.l.K
				p.l.write(p.w, p.kind, d.name, h.Token, func() bool { return now() < p.until(deadline) || p.ended.Load() == 0 && now() < deadline })
			}
			sent := now()
			if sent >= deadline {
				break
			}
			if got, err = p.askWithin(deadline-sent, "ping"); err == nil && got == "1 pong" && now() < deadline {
				deadline = sent + p.l.H*9/10
			}
		}
		h.To = p.until(deadline)
		if err != nil || now() >= deadline {
			p.w.note(note{Hold: &h})
			if h.To >= deadline {
				err = os.ErrDeadlineExceeded
			}
			p.lost(&h, fmt.Sprint(err), errors.Is(err, errStrange))
			return
		}
		verb := "r "
		if d.name[0] == 's' {
			verb = "sr "
		}
		got, err = p.ask(verb + d.name[2:])
		h.To = min(h.To, p.until(deadline))
		released := err == nil && strings.HasPrefix(got, "1 ")
		if released {
			h.Left = now()
		}
		p.w.note(note{Hold: &h})
		if !released {
			if err == nil && !strings.HasPrefix(got, "0 Unavailable") {
				p.lost(&h, fmt.Sprintf("a release is answered %q", got), false)
			}
			return // which releases it, too
		}
		pause(ctx, p.l.Longest/20)
	}
}

func (p *plain) lost(h *hold, why string, never bool) {
	p.w.note(note{Loss: &loss{Kind: p.kind, Client: p.l.Machine, Home: p.home.Name, Name: h.Name, Why: why, At: now(), Held: h, Never: never}})
}

// errStrange is a reply that none should be.
var errStrange = errors.New("a reply makes no sense")

func (p *plain) say(within time.Duration, line string) (string, error) {
	if _, err := io.WriteString(p.conn, line+"\n"); err != nil {
		return "", err
	}
	select {
	case got, ok := <-p.lines:
		if !ok {
			return "", io.EOF
		}
		return got, nil
	case <-time.After(within):
		return "", os.ErrDeadlineExceeded
	}
}

// ask asks with all the time that a request may take.
func (p *plain) ask(line string) (string, error) { return p.askWithin(p.within, line) }

func (p *plain) askWithin(within time.Duration, line string) (string, error) {
	if !p.two {
		return p.say(within, line)
	}
	got, err := p.say(within, "7 "+line)
	if err != nil {
		return "", err
	}
	rest, ok := strings.CutPrefix(got, "7 ")
	if !ok {
		return "", fmt.Errorf("%w: %q is answered %q", errStrange, line, got)
	}
	return rest, nil
}
