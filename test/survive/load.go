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

// A load is what all clients want.
type load struct {
	names   int           // of locks of each kind
	longest time.Duration // that a lock is held, as a rule
	wait    time.Duration // at most for one
	silence time.Duration // H: a plain client that hears nothing for so long has lost all
	keep    time.Duration // K
	stop    time.Duration // S
	vanish  chan struct{} // one of the kept clients does, for each
}

// limit is that of all shared locks.
const limit = 3

// deed is one thing that somebody wants.
type deed struct {
	name  string // with verb
	line  string
	limit int
	hold  time.Duration
}

func (l *load) deed() deed {
	d := deed{limit: 1, hold: rand.N(l.longest/20 + 1)}
	switch rand.IntN(20) {
	case 0: // over several starts, or until its deadline
		d.hold = rand.N(2 * l.keep)
	case 1, 2, 3, 4:
		d.hold = rand.N(l.longest)
	}
	n := rand.IntN(l.names)
	wait := rand.N(l.wait).Milliseconds()
	switch rand.IntN(7) {
	case 0:
		d.name = fmt.Sprintf("g lock%d", n)
		d.line = d.name
	case 1, 2, 3:
		d.name = fmt.Sprintf("g lock%d", n)
		d.line = fmt.Sprintf("gw %d %s", wait, d.name[2:])
	case 4:
		d.name, d.limit = fmt.Sprintf("s pool%d", n), limit
		d.line = fmt.Sprintf("sgl %d %s", limit, d.name[2:])
	default:
		d.name, d.limit = fmt.Sprintf("s pool%d", n), limit
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

// keepers has clients come and go that are kept, one after another.
func (l *load) keepers(ctx context.Context, w *witness, kind, addr string, sessions int) {
	for ctx.Err() == nil {
		k := &keeper{w: w, kind: kind, addr: addr, ask: l.keep, stop: l.stop}
		in, err := k.begin(ctx)
		if err != nil {
			pause(ctx, 100*time.Millisecond)
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
		case <-l.vanish:
			k.vanish()
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
			pause(ctx, d.hold)
			if second.name != "" && second.name != d.name {
				k.release(session, second.name)
			}
			k.release(session, d.name)
		}
		pause(ctx, l.longest/20)
	}
}

// lockers are clients of pkg/client that are kept.
func (l *load) lockers(ctx context.Context, w *witness, kind, addr string, goroutines int) error {
	k, err := client.NewLocker(client.LockerOptions{
		Options: client.Options{Target: addr, ConnectTimeout: l.keep / 8},
		Keep:    l.keep * 95 / 100, Logger: slog.New(slog.DiscardHandler), MinBackoff: 10 * time.Millisecond, MaxBackoff: 50 * time.Millisecond,
		OnKeep: func(e client.KeepEvent) { w.count(kind + ": " + e.Kind.String()) },
	})
	if err != nil {
		return err
	}
	defer k.Close()
	var all sync.WaitGroup
	for range goroutines {
		owner := w.owner()
		all.Go(func() {
			for ctx.Err() == nil {
				d := l.deed()
				h := hold{Name: d.name, Owner: owner, Asked: now(), Limit: d.limit}
				wait, stop := context.WithTimeout(ctx, rand.N(l.wait))
				var lock *client.Lock
				var err error
				if d.name[0] == 'g' {
					lock, err = k.Acquire(wait, d.name[2:])
				} else {
					lock, err = k.AcquireShared(wait, d.name[2:], limit)
				}
				stop()
				if err != nil {
					pause(ctx, l.longest/20)
					continue
				}
				w.count(kind + ": grants")
				h.From, h.Token = now(), lock.Token()
				select {
				case <-time.After(d.hold):
				case <-ctx.Done():
				case <-lock.Lost():
				}
				h.To = now()
				if err := lock.Err(); err != nil {
					w.lost(loss{Kind: kind, What: d.name, Why: err.Error(), Early: lock.Silence() < l.keep/2})
				} else if lock.Release(context.WithoutCancel(ctx)) == nil {
					h.Left = now()
				}
				w.note(note{Hold: &h})
				pause(ctx, l.longest/20)
			}
		})
	}
	all.Wait()
	return nil
}

// A door is where plain clients come to a proxy.
type door struct {
	kind  string // of clients
	dial  dialer
	proxy *process
	own   bool   // nobody between them and the proxy cuts connections
	cable *cable // between the proxy and its server; nil: there is none
}

// A plain client knows nothing of being kept. It believes in what it holds while its
// connection stands, and for a while after the last ping that was answered.
type plain struct {
	door
	l    *load
	w    *witness
	conn net.Conn
	two  bool

	began  time.Duration // when it was connected
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
func (l *load) plains(ctx context.Context, w *witness, d door) {
	owner := w.owner()
	for ctx.Err() == nil {
		conn, err := d.dial(time.Second)
		if err != nil {
			pause(ctx, 100*time.Millisecond)
			continue
		}
		p := &plain{door: d, l: l, w: w, conn: conn, began: now(), lines: make(chan string, 1), within: l.wait + 4*l.keep}
		go p.read()
		p.live(ctx, owner)
		conn.Close()
		for range p.lines { // until it has ended
		}
		w.count(d.kind + ": connections")
		// Another connection is another owner, whatever may be left of this one.
		owner = w.owner()
		pause(ctx, 50*time.Millisecond)
	}
}

func (p *plain) live(ctx context.Context, owner int) {
	if rand.IntN(2) == 0 {
		if got, err := p.say(p.within, "hello 2"); err != nil || !strings.HasPrefix(got, "2 lockd ") {
			return
		}
		p.two = true
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
		h := hold{Name: d.name, Owner: owner, Asked: now(), Limit: d.limit}
		got, err := p.ask(d.line)
		if err != nil {
			return
		}
		n, text := split(got)
		if n == 0 || !strings.Contains(text, "Success") {
			pause(ctx, p.l.longest/20)
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
		p.w.count(p.kind + ": grants")
		deadline := sent + p.l.silence*9/10
		for end := now() + d.hold; err == nil && now() < end && ctx.Err() == nil; {
			pause(ctx, min(end-now(), p.l.silence/6))
			sent := now()
			if sent >= deadline {
				break
			}
			if got, err = p.askWithin(deadline-sent, "ping"); err == nil && got == "1 pong" && now() < deadline {
				deadline = sent + p.l.silence*9/10
			}
		}
		h.To = p.until(deadline)
		if err != nil || now() >= deadline {
			p.w.note(note{Hold: &h})
			l := loss{Kind: p.kind, What: d.name}
			if h.To >= deadline {
				err = os.ErrDeadlineExceeded
			}
			l.Why, l.Early = p.why(err)
			if l.Early {
				l.Why += ": " + h.String()
			}
			p.w.lost(l)
			return
		}
		verb := "r "
		if d.name[0] == 's' {
			verb = "sr "
		}
		if got, err = p.ask(verb + d.name[2:]); err == nil {
			h.Left = now()
		}
		h.To = min(h.To, p.until(deadline))
		p.w.note(note{Hold: &h})
		if err == nil && !strings.HasPrefix(got, "1 ") {
			p.w.lost(loss{Kind: p.kind, What: d.name, Why: fmt.Sprintf("a release is answered %q, %v", got, h), Early: true})
			return
		}
		pause(ctx, p.l.longest/20)
	}
}

// why says for what a client has lost what it held by an error, and whether that must
// not be.
func (p *plain) why(err error) (why string, early bool) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "no ping is answered", false
	case errors.Is(err, errStrange):
		return err.Error(), true
	case p.proxy.killedSince(p.began):
		return "its proxy is killed", false
	case !p.own:
		return "its own connection is cut", false
	case p.cable.lossy(now() - 2*p.l.keep):
		return "the proxy has given up, its cable is bad", false
	}
	// Nothing keeps the proxy from its server for as long as it is kept.
	return fmt.Sprintf("the proxy has closed the connection: %v", err), true
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
