//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
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
		name, limit, into := fmt.Sprint(prefix, "lock", i), 1, &a.locks
		if i >= exclusiveNames {
			name, limit, into = fmt.Sprint(prefix, "share", i), sharedLimit, &a.shares
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
	"protocol 1":  func(a *actor, ctx context.Context) error { return a.lines(ctx, false) },
	"protocol 2":  func(a *actor, ctx context.Context) error { return a.lines(ctx, true) },
	"locker":      (*actor).useLocker,
	"quitter":     (*actor).quit,
	"reader":      (*actor).readSlowly,
	"stranger":    (*actor).babble,
	"kicker":      (*actor).kick,
	"limited":     (*actor).takeRates,
	"client":      (*actor).useClient,
	"lodger":      (*actor).stay,
	"prier":       (*actor).pry,
	"hanger":      (*actor).hang,
	"turned away": (*actor).turnAway,
}

// run does it until ctx is done, and returns what went wrong.
func (a *actor) run(ctx context.Context) error {
	for ctx.Err() == nil {
		a.tally.add(a.kind, "visits")
		if err := deeds[a.kind](a, ctx); err != nil {
			return fmt.Errorf("%s: %w", a.kind, err)
		}
		a.nap(5 * time.Millisecond) // or connecting is all it does, and it runs out of ports
	}
	return nil
}

// connect connects as anybody who has one of some roles.
func (a *actor) connect(two bool, roles ...string) (*line, error) {
	who := a.at.anybody(a.rnd, roles...)
	a.tally.comes(who)
	return connect(a.at, who, two)
}

func (a *actor) one(all []*witness) *witness { return all[a.rnd.IntN(len(all))] }

func (a *actor) nap(most time.Duration) { time.Sleep(time.Duration(a.rnd.Int64N(int64(most)))) }

// lines takes locks over a connection by any transport, and ends it in any way.
func (a *actor) lines(ctx context.Context, two bool) error {
	l, err := a.connect(two, "lock", "admin")
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
			return l.halfClose()
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
	return a.as(ctx, a.lockerOf)
}

// as has somebody do something, who may find that his token counts no more.
func (a *actor) as(ctx context.Context, do func(context.Context, caller) error) error {
	who := a.at.anybody(a.rnd, "lock", "admin")
	a.tally.comes(who)
	token := a.tokenNow(who.identity)
	err := do(ctx, who)
	if errors.Is(err, client.ErrAuthFailed) && a.tokenNow(who.identity) != token {
		return nil // two new ones have come since it was read
	}
	return err
}

func (a *actor) lockerOf(ctx context.Context, who caller) error {
	options, err := who.options(a.at)
	if err != nil {
		return err
	}
	l, err := client.NewLocker(client.LockerOptions{Options: options})
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
	l, err := a.connect(a.rnd.IntN(2) == 0, "lock", "admin")
	if err != nil {
		return err
	}
	session := func() string {
		if l.two {
			return fmt.Sprint(a.rnd.IntN(50), " ")
		}
		return ""
	}
	for range 1 + a.rnd.IntN(5) {
		fmt.Fprintf(l, "%sgw 60000 %s\n%ssgw 1 60000 %s\n", session(), a.one(a.locks).name, session(), a.one(a.shares).name)
	}
	a.nap(5 * time.Millisecond)
	a.tally.add(a.kind, "resets")
	if a.rnd.IntN(2) == 0 {
		return l.halfClose()
	}
	l.reset()
	return nil
}

// readSlowly asks for much and reads late, or never.
func (a *actor) readSlowly(ctx context.Context) error {
	l, err := a.connect(false, "read", "admin")
	if err != nil {
		return err
	}
	defer l.reset()
	l.SetDeadline(time.Now().Add(200 * time.Millisecond))
	for range 300 {
		if _, err := io.WriteString(l, "dump\nd\nlook* \ndump shared\nwho\nq\nlosses 100000\n"); err != nil || ctx.Err() != nil {
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
	l, err := a.connect(a.rnd.IntN(2) == 0, "lock", "read", "admin", "")
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
	return l.halfClose()
}

// kick ends somebody who holds something.
func (a *actor) kick(ctx context.Context) error {
	if a.rnd.IntN(4) == 0 {
		return a.kickLocker(ctx)
	}
	who := a.victim()
	l, err := connect(a.at, who, a.rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	defer l.Close()
	_, me, err := l.ask(0, "me")
	if err != nil {
		return err
	}
	name := fmt.Sprint(prefix, "kicked ", a.rnd.Uint64())
	if n, text, err := l.ask(0, "g "+name); n == 0 {
		return fmt.Errorf("g is answered %q, %v", text, err)
	}
	boss, err := a.connect(a.rnd.IntN(2) == 0, "admin")
	if err != nil {
		return err
	}
	defer boss.Close()
	if n, text, err := boss.ask(0, "kick "+strings.Fields(me)[0]); n != 1 {
		return fmt.Errorf("kick is answered %q, %v", text, err)
	}
	if n, text, err := boss.ask(0, "g "+name); n == 0 {
		return breach{fmt.Errorf("what somebody held who was kicked is not free: %q, %v", text, err)}
	}
	a.tally.add(a.kind, "kicks")
	return nil
}

// victim is somebody whose address is nobody else's: one of TCP may be two clients'
// at a time, of whom each has connected to another port of the server.
func (a *actor) victim() caller {
	who := a.at.anybody(a.rnd, "lock", "admin")
	for runtime.GOOS != "linux" && who.transport.name != "unix" { // where lo is 127.0.0.1 alone
		who = a.at.anybody(a.rnd, "lock", "admin")
	}
	if who.transport.name != "unix" {
		who.from = net.IPv4(127, byte(1+a.rnd.IntN(250)), byte(a.rnd.IntN(256)), byte(1+a.rnd.IntN(250)))
	}
	a.tally.comes(who)
	return who
}

// kickLocker ends a Locker's connection, which makes another one.
func (a *actor) kickLocker(ctx context.Context) error {
	who := a.victim()
	options, err := who.options(a.at)
	if err != nil {
		return err
	}
	l, err := client.NewLocker(client.LockerOptions{Options: options, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	defer l.Close()
	boss, err := a.connect(false, "admin")
	if err != nil {
		return err
	}
	defer boss.Close()
	name := fmt.Sprint(prefix, "again ", a.rnd.Uint64())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	var last uint64
	for range 1 + a.rnd.IntN(3) {
		lock, err := l.Acquire(ctx, name)
		if err != nil {
			return fmt.Errorf("somebody who was kicked comes again: %w", err)
		}
		if lock.Token() <= last {
			return breach{fmt.Errorf("%s was granted with the token %d after %d", name, lock.Token(), last)}
		}
		last = lock.Token()
		entries, err := l.Look(ctx, name)
		if err != nil || len(entries) != 1 {
			return fmt.Errorf("look at %s: %v, %v", name, entries, err)
		}
		if n, text, err := boss.ask(0, "kick "+entries[0].Addr); n != 1 {
			return fmt.Errorf("kick is answered %q, %v", text, err)
		}
		select {
		case <-lock.Lost():
		case <-ctx.Done():
			return breach{fmt.Errorf("who was kicked does not notice: %w", ctx.Err())}
		}
		a.tally.add(a.kind, "reconnects")
	}
	return nil
}

// useClient is useLocker with the simple client, which owns all that it gets.
func (a *actor) useClient(ctx context.Context) error {
	return a.as(ctx, a.clientOf)
}

func (a *actor) clientOf(ctx context.Context, who caller) error {
	options, err := who.options(a.at)
	if err != nil {
		return err
	}
	c, err := client.New(options)
	if err != nil {
		return err
	}
	defer c.Close()
	long, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	for range 1 + a.rnd.IntN(20) {
		if ctx.Err() != nil {
			break
		}
		w := a.one(a.locks)
		a.tally.add(a.kind, "requests")
		err := c.Get(long, w.name)
		if errors.Is(err, client.ErrNotAcquired) {
			continue
		} else if err != nil {
			return err
		}
		a.tally.add(a.kind, "grants")
		if err := w.enter(0); err != nil {
			return err
		}
		a.nap(2 * time.Millisecond)
		held, err := c.Inspect(long, w.name)
		w.leave()
		if err != nil || !held {
			return breach{fmt.Errorf("the holder of %s asks whether it is locked: %v, %v", w.name, held, err)}
		}
		if a.rnd.IntN(20) == 0 {
			return nil // with the lock
		}
		if err := c.Release(long, w.name); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}

// stay holds a lock for long, while tokens and certificates change.
func (a *actor) stay(ctx context.Context) error {
	who := a.at.anybody(a.rnd, "lock", "admin")
	a.tally.comes(who)
	name := fmt.Sprint(prefix, "lodging ", a.rnd.Uint64())
	end := time.Now().Add(time.Duration(a.rnd.Int64N(int64(20 * time.Second))))
	if a.rnd.IntN(2) == 0 {
		return a.stayAsLocker(ctx, who, name, end)
	}
	l, err := connect(a.at, who, a.rnd.IntN(2) == 0)
	if err != nil {
		return err
	}
	defer l.Close()
	if n, text, err := l.ask(0, "g "+name); n == 0 {
		return fmt.Errorf("g is answered %q, %v", text, err)
	}
	token, _, err := l.ask(0, "t "+name)
	for err == nil && ctx.Err() == nil && time.Now().Before(end) {
		pause(ctx, time.Duration(a.rnd.Int64N(int64(time.Second))))
		n, text, err := l.ask(0, "t "+name)
		if err != nil || n != token {
			return breach{fmt.Errorf("%v: %s was held with the token %d; then t is answered %d %q, %v", who, name, token, n, text, err)}
		}
		a.tally.add(a.kind, "requests")
	}
	return err
}

func (a *actor) stayAsLocker(ctx context.Context, who caller, name string, end time.Time) error {
	options, err := who.options(a.at)
	if err != nil {
		return err
	}
	l, err := client.NewLocker(client.LockerOptions{Options: options})
	if err != nil {
		return err
	}
	defer l.Close()
	long := context.WithoutCancel(ctx)
	lock, err := l.Acquire(long, name)
	if err != nil {
		return err
	}
	for ctx.Err() == nil && time.Now().Before(end) {
		pause(ctx, time.Duration(a.rnd.Int64N(int64(time.Second))))
		// Whatever needs to be let in: others are inspected, and its own.
		if held, err := l.Inspect(long, name); err != nil || !held {
			return breach{fmt.Errorf("%v: %s was held, and then: %v, %v", who, name, held, err)}
		}
		if err := lock.Err(); err != nil {
			return breach{fmt.Errorf("%v: %s was lost: %w", who, name, err)}
		}
		a.tally.add(a.kind, "requests")
	}
	return lock.Release(long)
}

// takeRates takes units, of which there may be so many.
func (a *actor) takeRates(ctx context.Context) error {
	if a.rnd.IntN(10) == 0 {
		return a.dropRate()
	}
	l, err := a.connect(a.rnd.IntN(2) == 0, "lock", "admin")
	if err != nil {
		return err
	}
	defer l.Close()
	for range 50 {
		if ctx.Err() != nil {
			break
		}
		cost := 1 + a.rnd.IntN(3)
		n, text, err := l.ask(0, fmt.Sprintf("rl %d %d %d %srate", rateLimit, rateWindow.Milliseconds(), cost, prefix))
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

// dropRate takes all of a rate for a day, and has it dropped.
func (a *actor) dropRate() error {
	l, err := a.connect(a.rnd.IntN(2) == 0, "lock", "admin")
	if err != nil {
		return err
	}
	defer l.Close()
	boss, err := a.connect(a.rnd.IntN(2) == 0, "admin")
	if err != nil {
		return err
	}
	defer boss.Close()
	name := fmt.Sprint(prefix, "a day's ", a.rnd.Uint64())
	for _, want := range []uint64{3, 0, 3} {
		if n, text, err := l.ask(0, "rl 3 86400000 3 "+name); err != nil || n != want {
			return breach{fmt.Errorf("%d units were open of 3, %q, not %d, %v", n, text, want, err)}
		}
		if want == 3 {
			continue
		}
		if n, text, err := boss.ask(0, "rd "+name); n != 1 {
			return fmt.Errorf("rd is answered %q, %v", text, err)
		}
	}
	if n, text, err := boss.ask(0, "rd "+name); n != 1 {
		return fmt.Errorf("rd is answered %q, %v", text, err)
	}
	a.tally.add(a.kind, "requests")
	return nil
}
