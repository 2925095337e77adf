//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

// The names that actors fight for, few, so that they do, and how many may hold a
// shared one.
const (
	exclusiveNames = 4
	sharedNames    = 2
	sharedLimit    = 3
)

// An actor is one client that does one kind of thing over and over, until its time
// is over.
type actor struct {
	at     addresses
	rnd    *rand.Rand
	tally  *tally
	kind   string
	locks  []*witness // exclusive
	shares []*witness
	rates  *rates // nil: in a process of its own, where nobody could count them
}

func newActor(kind string, at addresses, dir string, seed uint64, t *tally, r *rates) (*actor, error) {
	a := &actor{at: at, rnd: rand.New(rand.NewPCG(seed, 0)), tally: t, kind: kind, rates: r}
	for i := range exclusiveNames + sharedNames {
		name, limit, into := fmt.Sprint("lock", i), 1, &a.locks
		if i >= exclusiveNames {
			name, limit, into = fmt.Sprint("share", i), sharedLimit, &a.shares
		}
		w, err := newWitness(dir, name, limit)
		if err != nil {
			return nil, err
		}
		*into = append(*into, w)
	}
	return a, nil
}

func (a *actor) close() {
	for _, w := range append(a.locks, a.shares...) {
		w.close()
	}
}

// deeds are what actors do, by kind: one call is one visit to the server.
var deeds = map[string]func(*actor, context.Context) error{
	"protocol 1": func(a *actor, ctx context.Context) error { return a.lines(ctx, false) },
	"protocol 2": func(a *actor, ctx context.Context) error { return a.lines(ctx, true) },
	"locker":     (*actor).useLocker,
	"quitter":    (*actor).quit,
	"reader":     (*actor).readSlowly,
	"stranger":   (*actor).babble,
	"kicker":     (*actor).kick,
	"limited":    (*actor).takeRates,
}

// run does it until ctx is done, and returns what went wrong.
func (a *actor) run(ctx context.Context) error {
	for ctx.Err() == nil {
		a.tally.add(a.kind, "visits")
		if err := deeds[a.kind](a, ctx); err != nil {
			return fmt.Errorf("%s: %w", a.kind, err)
		}
	}
	return nil
}

func (a *actor) one(all []*witness) *witness { return all[a.rnd.IntN(len(all))] }

func (a *actor) nap(most time.Duration) { time.Sleep(time.Duration(a.rnd.Int64N(int64(most)))) }

// lines takes locks over a connection by any transport, and ends it in any way.
func (a *actor) lines(ctx context.Context, two bool) error {
	l, err := connect(a.at, transports[a.rnd.IntN(len(transports))], two)
	if err != nil {
		return err
	}
	defer l.Close()
	for range 1 + a.rnd.IntN(20) {
		if ctx.Err() != nil {
			break
		}
		session := a.rnd.IntN(3)
		request, release, w := "g ", "r ", a.one(a.locks)
		switch a.rnd.IntN(6) {
		case 0:
			request = "gw 0 "
		case 1, 2:
			request = fmt.Sprintf("gw %d ", 1+a.rnd.IntN(50))
		case 3:
			request, release, w = fmt.Sprintf("sgl %d ", sharedLimit), "sr ", a.one(a.shares)
		case 4:
			request, release, w = fmt.Sprintf("sgw %d %d ", sharedLimit, 1+a.rnd.IntN(50)), "sr ", a.one(a.shares)
		}
		n, text, err := l.ask(session, request+w.name)
		if err != nil {
			return err
		}
		a.tally.add(a.kind, "requests")
		if n == 0 {
			if !strings.HasSuffix(text, ": "+w.name) {
				return fmt.Errorf("%s%s is answered %q", request, w.name, text)
			}
			continue
		}
		a.tally.add(a.kind, "grants")
		token := uint64(0)
		if release == "r " {
			if token, text, err = l.ask(session, "t "+w.name); err != nil || token == 0 {
				return breach{fmt.Errorf("the holder of %s asks for its token: %q, %v", w.name, text, err)}
			}
		}
		if err := w.enter(token); err != nil {
			return err
		}
		a.nap(2 * time.Millisecond)
		w.leave()
		switch a.rnd.IntN(20) {
		case 0: // with the lock
			a.tally.add(a.kind, "resets")
			l.reset()
			return nil
		case 1:
			a.tally.add(a.kind, "half-closes")
			l.halfClose()
			return nil
		case 2:
			l.Close()
			return nil
		case 3:
			if !two {
				l.say("bye")
				return nil
			}
			if n, text, err := l.ask(session, "bye"); n != 1 {
				return fmt.Errorf("bye is answered %q, %v", text, err)
			}
		default:
			if n, text, err := l.ask(session, release+w.name); n != 1 {
				return breach{fmt.Errorf("the holder of %s cannot release it: %q, %v", w.name, text, err)}
			}
		}
	}
	return nil
}

// useLocker does the same with the client that programs use, which has many
// goroutines on one connection.
func (a *actor) useLocker(ctx context.Context) error {
	targets := []string{a.at.TCP, "unix://" + a.at.Unix, "ws://" + a.at.WebSocket}
	l, err := client.NewLocker(client.LockerOptions{Options: client.Options{Target: targets[a.rnd.IntN(len(targets))]}})
	if err != nil {
		return err
	}
	defer l.Close()
	for range 1 + a.rnd.IntN(40) {
		if ctx.Err() != nil {
			break
		}
		w, acquire := a.one(a.locks), l.Acquire
		if a.rnd.IntN(3) == 0 {
			w = a.one(a.shares)
			acquire = func(ctx context.Context, name string) (*client.Lock, error) {
				return l.AcquireShared(ctx, name, sharedLimit)
			}
		}
		short, cancel := context.WithTimeout(context.Background(), time.Duration(1+a.rnd.Int64N(int64(100*time.Millisecond))))
		lock, err := acquire(short, w.name)
		cancel()
		a.tally.add(a.kind, "requests")
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, client.ErrTooManyWaiters) || errors.Is(err, client.ErrTooManyLocks) {
			continue
		} else if err != nil {
			return err
		}
		a.tally.add(a.kind, "grants")
		if err := w.enter(lock.Token()); err != nil {
			return err
		}
		a.nap(2 * time.Millisecond)
		w.leave()
		if err := lock.Err(); err != nil {
			return fmt.Errorf("a lock was lost: %w", err)
		}
		if a.rnd.IntN(20) == 0 {
			return nil // with the lock
		}
		long, cancel := context.WithTimeout(context.Background(), patience)
		err = lock.Release(long)
		cancel()
		if err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}

// quit waits for what it does not wait for.
func (a *actor) quit(context.Context) error {
	l, err := connect(a.at, transports[a.rnd.IntN(len(transports))], a.rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	prefix := func() string {
		if l.two {
			return fmt.Sprint(a.rnd.IntN(50), " ")
		}
		return ""
	}
	for range 1 + a.rnd.IntN(5) {
		fmt.Fprintf(l, "%sgw 60000 %s\n%ssgw 1 60000 %s\n", prefix(), a.one(a.locks).name, prefix(), a.one(a.shares).name)
	}
	a.nap(5 * time.Millisecond)
	a.tally.add(a.kind, "resets")
	if a.rnd.IntN(2) == 0 {
		l.halfClose()
	} else {
		l.reset()
	}
	return nil
}

// readSlowly asks for much and reads late, or never.
func (a *actor) readSlowly(ctx context.Context) error {
	l, err := connect(a.at, transports[a.rnd.IntN(len(transports))], false)
	if err != nil {
		return err
	}
	defer l.reset()
	l.SetDeadline(time.Now().Add(200 * time.Millisecond))
	for range 300 {
		if _, err := io.WriteString(l, "dump\nd\nlook* \ndump shared\nwho\nq\n"); err != nil || ctx.Err() != nil {
			break // it reads from nobody who does not read
		}
	}
	a.nap(20 * time.Millisecond)
	if a.rnd.IntN(2) == 0 {
		l.SetDeadline(time.Now().Add(100 * time.Millisecond))
		io.CopyN(io.Discard, l.in, int64(a.rnd.IntN(1<<20)))
	}
	return nil
}

// babble says what makes no sense.
func (a *actor) babble(context.Context) error {
	t := transports[a.rnd.IntN(len(transports))]
	l, err := connect(a.at, t, a.rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	defer l.Close()
	l.SetDeadline(time.Now().Add(patience))
	const letters = "gr sgw0123456789 lookidump#:\n\n\t\x00\xff" // which no name of a witness is made of
	b := make([]byte, a.rnd.IntN(5000))
	for i := range b {
		b[i] = letters[a.rnd.IntN(len(letters))]
	}
	in := []string{"half a li", strings.Repeat("long ", 1000) + "\n", "GET / HTTP/1.1\r\n\r\n", "gw -1 x\n", "99999999999 g x\n", string(b)}
	for range 1 + a.rnd.IntN(3) {
		if _, err := io.WriteString(l, in[a.rnd.IntN(len(in))]); err != nil {
			break
		}
	}
	l.halfClose()
	return nil
}

// kick holds something, and ends itself.
func (a *actor) kick(context.Context) error {
	// Of a unix socket: an address of TCP may be two clients' at a time, of whom each
	// has connected to another port of the server.
	l, err := connect(a.at, transports[1], false)
	if err != nil {
		return err
	}
	defer l.Close()
	me, err := l.say("me")
	if err != nil {
		return err
	}
	other, err := connect(a.at, transports[1], false) // a unix socket
	if err != nil {
		return err
	}
	defer other.Close()
	name := fmt.Sprint("kicked ", a.rnd.Uint64())
	if n, text, err := l.ask(0, "g "+name); n != 1 {
		return fmt.Errorf("g is answered %q, %v", text, err)
	}
	if n, text, err := other.ask(0, "kick "+strings.Fields(me)[1]); n != 1 {
		return fmt.Errorf("kick is answered %q, %v", text, err)
	}
	if n, text, err := other.ask(0, "g "+name); n != 1 {
		return breach{fmt.Errorf("what somebody held who was kicked is not free: %q, %v", text, err)}
	}
	a.tally.add(a.kind, "kicks")
	return nil
}

// takeRates takes units, of which there may be so many.
func (a *actor) takeRates(ctx context.Context) error {
	l, err := connect(a.at, transports[a.rnd.IntN(len(transports))], false)
	if err != nil {
		return err
	}
	defer l.Close()
	for range 50 {
		if ctx.Err() != nil {
			break
		}
		cost := 1 + a.rnd.IntN(3)
		n, text, err := l.ask(0, fmt.Sprintf("rl %d %d %d rate", rateLimit, rateWindow.Milliseconds(), cost))
		if err != nil {
			return err
		}
		a.tally.add(a.kind, "requests")
		if n > 0 {
			a.tally.add(a.kind, "grants")
			if err := a.rates.took(cost); err != nil {
				return err
			}
		} else if !strings.HasPrefix(text, "Rate Limited ") {
			return fmt.Errorf("rl is answered %q", text)
		}
		a.nap(2 * time.Millisecond)
	}
	return nil
}
