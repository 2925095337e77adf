package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
)

const (
	key      = "0123456789abcdef0123456789abcdef"
	otherKey = "fedcba9876543210fedcba9876543210"
)

// A keepLab is a Locker with Keep in a bubble with its own time, which the server's end
// of its connections is played to.
type keepLab struct {
	*client.Locker
	t     *testing.T
	conns chan net.Conn
	down  atomic.Pointer[error] // what connecting fails with, if not nil
	ahead atomic.Int64          // by how much the clock is ahead of Go's, as when the machine slept

	mu     sync.Mutex
	events []client.KeepEvent
}

// keepSpan is how long the Locker of a keepLab may be away: it asks for 20 s.
const keepSpan = 19 * time.Second

func newKeepLab(t *testing.T, opts client.LockerOptions) *keepLab {
	t.Helper()
	lab := &keepLab{t: t, conns: make(chan net.Conn, 1)}
	begun := time.Now()
	opts.SetClock(func() time.Duration { return time.Since(begun) + time.Duration(lab.ahead.Load()) })
	opts.Dial = func(ctx context.Context) (net.Conn, error) {
		if err := lab.down.Load(); err != nil {
			return nil, *err
		}
		near, far := net.Pipe()
		select {
		case lab.conns <- far:
			return near, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	opts.Anonymous = opts.Name == ""
	if opts.Keep == 0 {
		opts.Keep = keepSpan - opts.StopTime
	}
	opts.OnKeep = func(e client.KeepEvent) {
		lab.mu.Lock()
		defer lab.mu.Unlock()
		lab.events = append(lab.events, e)
	}
	lab.Locker = locker(t, opts)
	return lab
}

// cut lets connecting fail, or succeed with nil.
func (lab *keepLab) cut(err error) {
	if err == nil {
		lab.down.Store(nil)
	} else {
		lab.down.Store(&err)
	}
}

// told returns what the events were since it was asked last.
func (lab *keepLab) told() []client.KeepEvent {
	synctest.Wait()
	lab.mu.Lock()
	defer lab.mu.Unlock()
	events := lab.events
	lab.events = nil
	return events
}

func (lab *keepLab) mustTell(kinds ...client.KeepEventKind) []client.KeepEvent {
	lab.t.Helper()
	events := lab.told()
	var got []client.KeepEventKind
	for _, e := range events {
		got = append(got, e.Kind)
	}
	if !slices.Equal(got, kinds) {
		lab.t.Fatalf("told %+v, want %v", events, kinds)
	}
	return events
}

func (lab *keepLab) accept() *script {
	lab.t.Helper()
	conn := <-lab.conns
	lab.t.Cleanup(func() { conn.Close() })
	return &script{t: lab.t, conn: conn, r: bufio.NewReader(conn)}
}

// begin plays the beginning of a connection that is not kept yet. Granted is what
// `keep` is answered.
func (lab *keepLab) begin(granted string) *script {
	lab.t.Helper()
	s := lab.accept()
	s.expect("ping")
	s.expect("limits")
	s.reply("1 pong\n1 dead_peer_ms=20000 max_keep_ms=30000\n")
	s.expect("hello 2 notices")
	s.reply("2 lockd test\n")
	s.expect("0 keep 20000")
	s.reply("0 " + granted + "\n")
	return s
}

func (lab *keepLab) beginKept() *script {
	lab.t.Helper()
	return lab.begin("20000 Kept: " + key)
}

// resume plays the beginning of the next connection.
func (lab *keepLab) resume(answer string) *script {
	lab.t.Helper()
	s := lab.accept()
	s.expect("hello 2 notices")
	s.reply("2 lockd test\n")
	s.expect("0 resume " + key)
	s.saysNothing()
	s.reply("0 " + answer + "\n")
	return s
}

// saysNothing tells whether the client waits.
func (s *script) saysNothing() {
	s.t.Helper()
	synctest.Wait()
	s.conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
	if b, err := s.r.ReadByte(); err == nil {
		rest, _ := s.r.ReadString('\n')
		s.t.Fatalf("server got %q", string(b)+rest)
	}
	s.conn.SetReadDeadline(time.Time{})
}

// get has a lock granted, that is 9 if it is exclusive.
func (lab *keepLab) get(s *script, session int, name string) *client.Lock {
	lab.t.Helper()
	go func() {
		s.expect(fmt.Sprintf("%d g %s", session, name))
		s.reply(fmt.Sprintf("%d 9 Lock Get Success: %s\n", session, name))
	}()
	lock, err := lab.TryAcquire(lab.t.Context(), name)
	must(lab.t, err)
	return lock
}

func (lab *keepLab) getShared(s *script, session int, name string) *client.Lock {
	lab.t.Helper()
	go func() {
		s.expect(fmt.Sprintf("%d sgl 3 %s", session, name))
		s.reply(fmt.Sprintf("%d 2 Shared Lock Get Success: %s\n", session, name))
	}()
	lock, err := lab.TryAcquireShared(lab.t.Context(), name, 3)
	must(lab.t, err)
	return lock
}

func isHeld(t *testing.T, locks ...*client.Lock) {
	t.Helper()
	synctest.Wait()
	for _, lock := range locks {
		must(t, lock.Err())
		select {
		case <-lock.Lost():
			t.Errorf("%q is lost", lock.Name())
		default:
		}
	}
}

// TestKeepBlip: after a blip what is held is claimed, what was asked is asked again, and
// then the server is told that this was all. Nothing comes before the server knows
// who it is.
func TestKeepBlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{Options: client.Options{Name: "me"}})
		s := lab.beginKept()
		s.expect("0 iam me")
		s.reply("0 1 ok\n")
		lab.mustTell(client.KeepBegun)
		x, y := lab.get(s, 1, "x"), lab.getShared(s, 2, "y")
		waited := make(chan *client.Lock, 1)
		go func() {
			ctx, cancel := context.WithTimeout(client.WithNote(t.Context(), "note"), time.Hour)
			defer cancel()
			lock, err := lab.Acquire(ctx, "z")
			must(t, err)
			waited <- lock
		}()
		s.expect("3 iam me note")
		s.expect("3 gw 3600000 z")
		for range 3 { // one blip after another
			s.conn.Close()
			asked := make(chan bool, 1)
			s = lab.resume("4 Resumed: " + key)
			s.expect("1 claim 9 x")
			s.expect("2 claims 1 y")
			s.expect("0 iam me")
			s.expect("3 iam me note")
			s.expect("3 gw 3600000 z")
			s.expect("0 claimed")
			go func() {
				held, err := lab.Inspect(t.Context(), "z")
				must(t, err)
				asked <- held
			}()
			s.expect("4 i z") // it was asked behind
			isHeld(t, x, y)
			lab.mustTell(client.KeepBlip)
			s.reply("1 9 Lock Claim Success: x\n2 1 Shared Lock Claim Success: y\n0 1 ok\n3 1 ok\n0 1 ok\n4 1 Lock Is Locked: z\n")
			if !<-asked {
				t.Error("not held")
			}
			lab.mustTell(client.KeepResumed)
		}
		s.reply("3 12 Lock Get Success: z\n")
		z := <-waited
		isHeld(t, x, y, z)
		if z.Token() != 12 || x.Token() != 9 || y.Count() != 2 {
			t.Error(x.Token(), y.Count(), z.Token())
		}
		go func() {
			s.expect("3 r z")
			s.reply("3 1 Lock Release Success: z\n")
		}()
		must(t, z.Release(t.Context()))
	})
}

// TestKeepAsksInBlip: what is asked while there is no connection is asked over the
// next one, also by who fails fast.
func TestKeepAsksInBlip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{FailFast: true})
		s := lab.beginKept()
		must(t, lab.Ready(t.Context()))
		lab.cut(errDown)
		s.conn.Close()
		time.Sleep(5 * time.Second)
		got := make(chan *client.Lock, 1)
		go func() {
			lock, err := lab.TryAcquire(t.Context(), "x")
			must(t, err)
			got <- lock
		}()
		synctest.Wait()
		lab.cut(nil)
		s = lab.resume("1 Resumed: " + key)
		s.expect("1 g x")
		s.expect("0 claimed")
		s.reply("1 7 Lock Get Success: x\n0 1 ok\n")
		isHeld(t, <-got)
		lab.mustTell(client.KeepBegun, client.KeepBlip, client.KeepResumed)
	})
}

// TestKeepGivenUp: who gives up a wait, or releases a lock, while there is no connection
// does not name it by the next one. A wait that is given up returns at once, a release
// when the server has said so, whatever it says.
func TestKeepGivenUp(t *testing.T) {
	for answer, want := range map[string]error{
		"1 Lock Release Success: ": nil,
		"0 Lock Release Failure: ": nil, // the first request had been carried out
		"0 Not Allowed: r":         client.ErrNotAllowed,
	} {
		for _, when := range []string{"before", "in"} {
			synctest.Test(t, func(t *testing.T) {
				lab := newKeepLab(t, client.LockerOptions{})
				s := lab.beginKept()
				x, y := lab.get(s, 1, "x"), lab.get(s, 2, "y")
				ctx, cancel := context.WithCancel(t.Context())
				waited, released := make(chan error, 1), make(chan error, 1)
				go func() { waited <- second(lab.Acquire(ctx, "z")) }()
				s.expect("3 gw 86400000 z")
				giveUp := func() {
					cancel()
					mustBe(t, <-waited, context.Canceled)
					go func() { released <- x.Release(t.Context()) }()
					synctest.Wait()
					mustBe(t, y.Release(ctx), context.Canceled) // and it is for the mux to do
				}
				lab.cut(errDown)
				if when == "before" {
					giveUp()
					s.expect("3 cancel")
					s.expect("1 r x")
					s.expect("2 r y")
				}
				s.conn.Close()
				time.Sleep(time.Second)
				if when == "in" {
					giveUp()
				}
				select {
				case err := <-released:
					t.Fatal(err)
				default:
				}
				lab.cut(nil)
				s = lab.resume("4 Resumed: " + key)
				s.expect("1 r x")
				s.expect("0 claimed")
				if strings.Contains(answer, "Release") {
					answer = strings.TrimSuffix(answer, "x") + "x"
				}
				s.reply("1 " + answer + "\n0 1 ok\n")
				if err := <-released; !errors.Is(err, want) || want == nil && err != nil {
					t.Errorf("%s a blip, %q: %v", when, answer, err)
				}
				s.saysNothing()
			})
		}
	}
}

// TestKeepSessionUsedAgain: the session of a wait that was given up in a blip is free for
// another request when the server has let go what it may hold, and not earlier: a lock
// would be found there with the token of its last holder.
func TestKeepSessionUsedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		ctx, cancel := context.WithCancel(t.Context())
		waited := make(chan error, 1)
		go func() { waited <- second(lab.Acquire(ctx, "z")) }()
		s.expect("1 gw 86400000 z")
		lab.cut(errDown)
		s.conn.Close()
		synctest.Wait()
		cancel()
		mustBe(t, <-waited, context.Canceled)
		go func() { waited <- second(lab.TryAcquire(t.Context(), "other")) }()
		synctest.Wait()
		lab.cut(nil)
		s = lab.resume("2 Resumed: " + key)
		s.expect("2 g other")
		s.expect("0 claimed")
		s.reply("2 0 Lock Get Failure: other\n")
		mustBe(t, <-waited, client.ErrNotAcquired)
		x := lab.get(s, 2, "x")
		lab.get(s, 3, "y")
		s.reply("0 1 ok\n")
		synctest.Wait()
		lab.get(s, 1, "z")

		// So it is with a release that nobody waits for any more.
		lab.cut(errDown)
		s.conn.Close()
		synctest.Wait()
		mustBe(t, x.Release(ctx), context.Canceled)
		go func() { waited <- second(lab.TryAcquire(t.Context(), "x")) }()
		synctest.Wait()
		lab.cut(nil)
		s = lab.resume("4 Resumed: " + key)
		s.expect("1 claim 9 z")
		s.expect("3 claim 9 y")
		s.expect("4 g x")
		s.expect("0 claimed")
		s.reply("1 9 Lock Claim Success: z\n3 9 Lock Claim Success: y\n4 0 Lock Get Failure: x\n0 1 ok\n")
		mustBe(t, <-waited, client.ErrNotAcquired)
		lab.get(s, 4, "x")
		lab.get(s, 2, "z")
	})
}

// TestKeepTimeRunsOut: who cannot come back has lost its locks when the time is up,
// counted from the last request that was answered, and what was waited for then is
// lost, too. A next connection begins anew.
func TestKeepTimeRunsOut(t *testing.T) {
	for _, stop := range []time.Duration{0, 8 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			begun := time.Now()
			lab := newKeepLab(t, client.LockerOptions{StopTime: stop})
			s := lab.beginKept()
			x := lab.get(s, 1, "x")
			s.expect("0 ping")
			asked := time.Since(begun)
			s.reply("0 1 pong\n")
			synctest.Wait()
			lab.cut(errDown)
			s.conn.Close()
			waited := make(chan error, 1)
			go func() { waited <- second(lab.Acquire(t.Context(), "z")) }()
			time.Sleep(asked + keepSpan - stop - time.Since(begun) - 1)
			isHeld(t, x)
			events := lab.mustTell(client.KeepBegun, client.KeepBlip)
			if got := events[0].Span; got != keepSpan-stop {
				t.Errorf("may be away for %v", got)
			}
			if got := events[1].Span; got != keepSpan-stop || !errors.Is(events[1].Err, io.EOF) {
				t.Errorf("%v left, %v", got, events[1].Err)
			}
			time.Sleep(time.Nanosecond)
			<-x.Lost()
			if got := time.Since(begun); got != asked+keepSpan-stop {
				t.Errorf("lost after %v", got)
			}
			for _, cause := range []error{client.ErrLost, io.EOF, errDown} {
				mustBe(t, x.Err(), cause)
			}
			lab.mustTell(client.KeepGone)
			lab.cut(nil)
			s = lab.begin("20000 Kept: " + otherKey)
			s.expect("1 gw 86400000 z")
			s.reply("1 4 Lock Get Success: z\n")
			must(t, <-waited)
			mustBe(t, x.Release(t.Context()), client.ErrLost)
			s.saysNothing()
		})
	}
}

// TestKeepPaused: a process that stood still for too long believes in nothing that
// comes, and has lost what it held, be it that it reads, writes or asks first.
func TestKeepPaused(t *testing.T) {
	for _, what := range []string{"reads", "writes", "asks", "looks"} {
		synctest.Test(t, func(t *testing.T) {
			lab := newKeepLab(t, client.LockerOptions{})
			s := lab.beginKept()
			x := lab.get(s, 1, "x")
			got := make(chan error, 1)
			go func() { got <- second(lab.TryAcquire(t.Context(), "y")) }()
			s.expect("2 g y")
			lab.ahead.Store(int64(keepSpan))
			switch what {
			case "reads":
				s.reply("2 10 Lock Get Success: y\n")
			case "writes":
				go lab.TryAcquire(t.Context(), "z")
			case "asks":
				mustBe(t, x.Err(), client.ErrLost)
			}
			if what == "reads" || what == "writes" {
				synctest.Wait()
			} else {
				time.Sleep(time.Second)
			}
			select {
			case <-x.Lost():
			default:
				t.Errorf("%s: not lost", what)
			}
			s.conn.SetReadDeadline(time.Now().Add(time.Hour))
			if line, err := s.r.ReadString('\n'); err == nil {
				t.Errorf("%s: server got %q", what, line)
			}
			s = lab.begin("20000 Kept: " + otherKey)
			for range 2 {
				line, err := s.r.ReadString('\n')
				must(t, err)
				number, request, _ := strings.Cut(strings.TrimSpace(line), " ")
				s.reply(number + " 20 Lock Get Success: " + strings.TrimPrefix(request, "g ") + "\n")
				if what != "writes" {
					break
				}
			}
			must(t, <-got)
		})
	}
}

// TestKeepForgotten: when the server does not know the KEY any more, all is lost at once,
// and the Locker goes on with another one.
func TestKeepForgotten(t *testing.T) {
	for _, answer := range []string{"0 Unknown Key: " + key, "0 Keep Disabled", "0 Invalid Command: resume"} {
		synctest.Test(t, func(t *testing.T) {
			lab := newKeepLab(t, client.LockerOptions{})
			s := lab.beginKept()
			x := lab.get(s, 1, "x")
			s.conn.Close()
			lab.resume(answer)
			<-x.Lost()
			mustBe(t, x.Err(), client.ErrLost)
			mustBe(t, x.Err(), client.ErrForgotten)
			mustBe(t, x.Err(), io.EOF)
			s = lab.begin("20000 Kept: " + otherKey)
			isHeld(t, lab.get(s, 1, "x"))
			lab.mustTell(client.KeepBegun, client.KeepBlip, client.KeepGone, client.KeepBegun)
		})
	}
}

// TestKeepRefused: an attempt to come back that comes to nothing is followed by another.
func TestKeepRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x := lab.get(s, 1, "x")
		s.conn.Close()
		for _, answer := range []string{"0 Not Allowed: resume", "0 Not Authenticated", "0 Shutting Down: resume", "5 what", "nonsense"} {
			lab.resume(answer)
		}
		s = lab.accept()
		s.expect("hello 2 notices")
		s.reply("0 Too Many Connections\n")
		s = lab.accept()
		s.expect("hello 2 notices")
		s.conn.Close()
		s = lab.resume("2 Resumed: " + key)
		s.expect("1 claim 9 x")
		s.expect("0 claimed")
		s.reply("1 9 Lock Claim Success: x\n0 1 ok\n")
		isHeld(t, x)
		lab.mustTell(client.KeepBegun, client.KeepBlip, client.KeepResumed)
	})
}

// TestKeepRecovers: after a restart what is held is claimed. What is not to be had any
// more is lost alone.
func TestKeepRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x, y, z := lab.get(s, 1, "x"), lab.getShared(s, 2, "y"), lab.get(s, 3, "z")
		s.conn.Close()
		s = lab.resume("0 Claims Open 15000: " + key)
		s.expect("1 claim 9 x")
		s.expect("2 claims 1 y")
		s.expect("3 claim 9 z")
		s.expect("0 claimed")
		s.reply("1 0 Lock Claim Failure: x\n2 0 Shared Lock Claim Failure: y\n3 9 Lock Claim Success: z\n0 1 ok\n")
		<-x.Lost()
		<-y.Lost()
		for _, lock := range []*client.Lock{x, y} {
			mustBe(t, lock.Err(), client.ErrLost)
			mustBe(t, lock.Err(), client.ErrRevoked)
			mustBe(t, lock.Release(t.Context()), client.ErrRevoked)
		}
		isHeld(t, z)
		events := lab.mustTell(client.KeepBegun, client.KeepBlip, client.KeepRecovered)
		if events[2].Lost != 2 {
			t.Errorf("%+v", events[2])
		}
		s.saysNothing()
		lab.get(s, 2, "again") // their sessions are free, the last one first
		lab.get(s, 1, "y")
	})
}

// TestKeepClaimsEnd: until the server has said that all claims are made, nothing else
// that it says counts, however often the connection is lost in the meantime.
func TestKeepClaimsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const open = 25 * time.Second
		begun := time.Now()
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x := lab.get(s, 1, "x")
		s.conn.Close()
		for range 3 {
			left := open - time.Since(begun)
			s = lab.resume(fmt.Sprintf("0 Claims Open %d: %s", left.Milliseconds(), key))
			s.expect("1 claim 9 x")
			s.expect("0 claimed")
			s.reply("1 9 Lock Claim Success: x\n")
			asked := make(chan error, 1)
			go func() {
				_, err := lab.Inspect(t.Context(), "y")
				asked <- err
			}()
			s.expect("2 i y")
			s.reply("2 1 Lock Is Locked: y\n")
			must(t, <-asked)
			if time.Since(begun) < 14*time.Second {
				s.saysNothing()
				time.Sleep(7 * time.Second)
				s.conn.Close()
			}
		}
		<-x.Lost()
		// 95 % of what was left at last, from when that was asked: some 11 s.
		if got := time.Since(begun); got < 24*time.Second || got >= open-400*time.Millisecond {
			t.Errorf("lost after %v", got)
		}
		time.Sleep(time.Second)
		lab.mustTell(client.KeepBegun, client.KeepBlip, client.KeepBlip, client.KeepBlip,
			client.KeepBlip, client.KeepGone) // the last one because the server was silent
	})
}

// TestKeepRevoked: a lock that the server takes away is lost alone, whenever it says so.
func TestKeepRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x, y := lab.get(s, 1, "x"), lab.getShared(s, 2, "y")
		s.reply("1 ! Lock Lost: other\n7 ! Lock Lost: x\n0 ! Something New\n1 ! Lock Lost: x\n1 ! Lock Lost: x\n")
		<-x.Lost()
		mustBe(t, x.Err(), client.ErrLost)
		mustBe(t, x.Err(), client.ErrRevoked)
		isHeld(t, y)
		mustBe(t, x.Release(t.Context()), client.ErrRevoked)
		mustBe(t, x.Release(t.Context()), client.ErrNotHeld)

		// Right behind its grant: whoever gets it knows.
		go func() {
			s.expect("1 g z")
			s.reply("1 10 Lock Get Success: z\n1 ! Lock Lost: z\n")
		}()
		z, err := lab.TryAcquire(t.Context(), "z")
		must(t, err)
		<-z.Lost()

		// While it is released: then it was lost before.
		go func() {
			s.expect("2 sr y")
			s.reply("2 ! Lock Lost: y\n2 0 Shared Lock Release Failure: y\n")
		}()
		mustBe(t, y.Release(t.Context()), client.ErrRevoked)
		lab.get(s, 2, "next")
		lab.get(s, 1, "last")

		// Do ends its function's context.
		go func() {
			s.expect("3 gw 86400000 x")
			s.reply("3 10 Lock Get Success: x\n3 ! Lock Lost: x\n")
		}()
		mustBe(t, lab.Do(t.Context(), "x", func(ctx context.Context, lock *client.Lock) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}), client.ErrRevoked)
	})
}

// TestKeepDraining: that the server is about to end is told, and what it refuses for that
// reason is asked again.
func TestKeepDraining(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x := lab.get(s, 1, "x")
		s.reply("0 ! Draining\n")
		lab.mustTell(client.KeepBegun, client.KeepDraining)
		got := make(chan error, 1)
		go func() { got <- second(lab.TryAcquire(t.Context(), "y")) }()
		for range 3 {
			s.expect("2 g y")
			s.reply("2 0 Shutting Down: y\n")
		}
		s.expect("2 g y")
		s.conn.Close()
		s = lab.resume("0 Claims Open 10000: " + key)
		s.expect("1 claim 9 x")
		s.expect("2 g y")
		s.expect("0 claimed")
		s.reply("1 9 Lock Claim Success: x\n2 0 Server Recovering: y\n")
		s.expect("2 g y")
		s.reply("0 1 ok\n2 10 Lock Get Success: y\n")
		must(t, <-got)
		isHeld(t, x)
	})
}

// TestKeepOnce: what must not be done twice is not asked again.
func TestKeepOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		got := make(chan error, 1)
		go func() { got <- lab.Kick(t.Context(), "1.2.3.4:5") }()
		s.expect("1 kick 1.2.3.4:5")
		s.conn.Close()
		mustBe(t, <-got, client.ErrLost)
		s = lab.resume("1 Resumed: " + key)
		s.expect("0 claimed")
		s.reply("0 1 ok\n")
		lab.get(s, 1, "x")
	})
}

// TestKeepClose: a Locker that is closed tells the server, whose locks are free at once;
// while there is no connection it cannot.
func TestKeepClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x := lab.get(s, 1, "x")
		closed := make(chan struct{})
		go func() {
			lab.Close()
			close(closed)
		}()
		<-x.Lost()
		mustBe(t, x.Err(), client.ErrClosed)
		s.expect("0 bye")
		synctest.Wait()
		select {
		case <-closed:
			t.Error("did not wait for the answer")
		default:
		}
		s.reply("0 1 bye\n")
		s.conn.Close()
		<-closed

		lab = newKeepLab(t, client.LockerOptions{})
		s = lab.beginKept()
		x = lab.get(s, 1, "x")
		begun := time.Now()
		lab.Close() // of a server that says nothing
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("closed after %v", took)
		}
		mustBe(t, x.Err(), client.ErrClosed)

		lab = newKeepLab(t, client.LockerOptions{})
		s = lab.beginKept()
		x = lab.get(s, 1, "x")
		lab.cut(errDown)
		s.conn.Close()
		time.Sleep(3 * time.Second)
		lab.Close()
		mustBe(t, x.Err(), client.ErrClosed)
		lab.mustTell(client.KeepBegun, client.KeepBlip)
	})
}

// TestKeepSilence: a server that is silent is left for another connection while there is
// time for that, and what it held is not lost.
func TestKeepSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{})
		s := lab.beginKept()
		x := lab.get(s, 1, "x")
		begun := time.Now()
		s.expect("0 ping")
		s = lab.resume("2 Resumed: " + key)
		if got := time.Since(begun); got > keepSpan*2/3 {
			t.Errorf("%v later", got)
		}
		s.expect("1 claim 9 x")
		s.expect("0 claimed")
		s.reply("1 9 Lock Claim Success: x\n0 1 ok\n")
		isHeld(t, x)
	})
}

// TestKeepLasts: as long as the server answers, the lock is held.
func TestKeepLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lab := newKeepLab(t, client.LockerOptions{Options: client.Options{ReadTimeout: -1}})
		s := lab.beginKept()
		x := lab.get(s, 1, "x")
		go func() {
			for {
				line, err := s.r.ReadString('\n')
				if err != nil {
					return
				}
				if line != "0 ping\n" {
					t.Errorf("server got %q", line)
				}
				s.reply("0 1 pong\n")
			}
		}()
		time.Sleep(time.Hour)
		isHeld(t, x)
		lab.mustTell(client.KeepBegun)
		s.conn.Close()
		s = lab.resume("2 Resumed: " + key)
		s.expect("1 claim 9 x")
	})
}

// TestKeepLimited: what a server does not give is told, and the Locker works without it.
func TestKeepLimited(t *testing.T) {
	type begins func(lab *keepLab) *script
	granted := func(what string) begins { return func(lab *keepLab) *script { return lab.begin(what) } }
	limits := func(what string) begins {
		return func(lab *keepLab) *script {
			s := lab.accept()
			s.expect("ping")
			s.expect("limits")
			s.reply("1 pong\n1 " + what + "\n")
			return plainly(s)
		}
	}
	for name, test := range map[string]struct {
		begin   begins
		missing []error
		span    time.Duration
	}{
		"as asked":       {granted("20000 Kept: " + key), nil, keepSpan},
		"shorter":        {granted("10000 Kept: " + key), []error{client.ErrShortKeep}, 9500 * time.Millisecond},
		"blips only":     {granted("20000 Kept Blips Only: " + key), []error{client.ErrBlipsOnly}, keepSpan},
		"full":           {granted("0 Server Full: keep"), []error{client.ErrNoKeep, client.ErrServerFull}, 0},
		"disabled after": {granted("0 Keep Disabled"), []error{client.ErrNoKeep}, 0},
		"not allowed":    {granted("0 Not Allowed: keep"), []error{client.ErrNoKeep, client.ErrNotAllowed}, 0},
		"disabled":       {limits("dead_peer_ms=20000 max_keep_ms=0"), []error{client.ErrNoKeep}, 0},
		"too old":        {limits("dead_peer_ms=20000"), []error{client.ErrNoKeep}, 0},
		"knows no limits": {func(lab *keepLab) *script {
			s := lab.accept()
			s.expect("ping")
			s.expect("limits")
			s.reply("1 pong\n")
			s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
			return plainly(s)
		}, []error{client.ErrNoKeep}, 0},
		"slow": {func(lab *keepLab) *script {
			s := lab.accept()
			s.expect("ping")
			s.expect("limits")
			s.reply("1 pong\n")
			mark := s.expectMark()
			s.reply("1 dead_peer_ms=20000 max_keep_ms=30000\n0 Lock Not Locked: " + mark + "\n")
			s.expect("hello 2 notices")
			s.reply("2 lockd test\n")
			s.expect("0 keep 20000")
			s.reply("0 20000 Kept: " + key + "\n")
			return s
		}, nil, keepSpan},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				lab := newKeepLab(t, client.LockerOptions{})
				s := test.begin(lab)
				missing, err := lab.Missing(t.Context())
				must(t, err)
				all := errors.Join(missing...)
				if (all != nil) != (test.missing != nil) {
					t.Error(all)
				}
				for _, want := range test.missing {
					mustBe(t, all, want)
				}
				kind := client.KeepBegun
				if len(missing) > 0 {
					kind = client.KeepLimited
				}
				if e := lab.mustTell(kind)[0]; e.Span != test.span {
					t.Errorf("%+v", e)
				}
				x := lab.get(s, 1, "x")
				isHeld(t, x)
				lab.cut(errDown)
				s.conn.Close()
				if test.span == 0 {
					synctest.Wait()
				}
				time.Sleep(test.span)
				<-x.Lost()
			})
		})
	}
}

// plainly plays the rest of the beginning with a server that keeps nothing.
func plainly(s *script) *script {
	s.t.Helper()
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
	s.expect("ping")
	s.expect("limits")
	mark := s.expectMark()
	s.expect("hello 2")
	s.reply("1 pong\n0 Lock Not Locked: " + mark + "\n2 lockd test\n")
	return s
}

// TestKeepOldServer: with a server of protocol 1 all is as without Keep.
func TestKeepOldServer(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			ctx := within(t)
			l := locker(t, client.LockerOptions{Options: client.Options{Target: newFake(t, f).addr}, Keep: time.Second})
			missing, err := l.Missing(ctx)
			must(t, err)
			mustBe(t, errors.Join(missing...), client.ErrNoKeep)
			mustBe(t, errors.Join(missing...), client.ErrNoWaiting)
			lock, err := l.TryAcquire(ctx, "x")
			must(t, err)
			must(t, lock.Release(ctx))
		})
	}
}

// TestKeepBlipsOnly: where the server does not keep locks over its own restart, they are
// lost as soon as there is no server.
func TestKeepBlipsOnly(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for granted, gone := range map[string]bool{"20000 Kept Blips Only: ": true, "20000 Kept: ": false} {
		synctest.Test(t, func(t *testing.T) {
			lab := newKeepLab(t, client.LockerOptions{})
			s := lab.begin(granted + key)
			x := lab.get(s, 1, "x")
			lab.cut(errDown)
			s.conn.Close()
			time.Sleep(5 * time.Second)
			isHeld(t, x)
			lab.cut(refused)
			time.Sleep(5 * time.Second)
			if lost := x.Err() != nil; lost != gone {
				t.Errorf("%s: %v", granted, x.Err())
			}
			if gone {
				mustBe(t, x.Err(), client.ErrForgotten)
			}
		})
	}
}

// TestKeepOptions: what makes no sense is refused, and what does is not.
func TestKeepOptions(t *testing.T) {
	for _, opts := range []client.LockerOptions{
		{Keep: -1}, {Keep: 24 * time.Hour}, {Keep: time.Hour, StopTime: 23 * time.Hour}, {Keep: 1<<63 - 1}, {Keep: 1, StopTime: 1<<63 - 1},
	} {
		if err := opts.Validate(); err == nil || !strings.Contains(err.Error(), "Keep") {
			t.Errorf("%v, %v: %v", opts.Keep, opts.StopTime, err)
		}
	}
	for _, opts := range []client.LockerOptions{{Keep: 1}, {Keep: 22 * time.Hour}, {Keep: time.Second, StopTime: 22 * time.Hour}} {
		must(t, opts.Validate())
	}
}
