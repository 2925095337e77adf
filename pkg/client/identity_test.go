package client_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// TestLockerName: each connection tells who it is, before all else, and nobody
// waits for the answer, whatever it is.
func TestLockerName(t *testing.T) {
	for _, answer := range []string{"1 ok", "0 disabled", "0 Not Allowed: iam", "0 Line Too Long"} {
		opts := fast(client.Options{Name: " web\t1 "})
		l, accept := scriptedLocker(t, opts)
		for range 2 {
			s := accept()
			s.expect("0 iam web 1")
			done := make(chan error)
			go func() { done <- second(l.TryAcquire(within(t), "x")) }()
			s.expect("1 g x")
			s.reply("1 9 Lock Get Success: x\n")
			must(t, <-done)
			s.reply("0 " + answer + "\n")
			go func() { done <- second(l.TryAcquire(within(t), "x")) }()
			s.expect("2 g x") // it goes on
			s.reply("2 10 Lock Get Success: x\n")
			must(t, <-done)
			s.conn.Close()
		}
	}
}

// TestProcessName: a Locker that is given no name takes the process's, and none
// if it is told so.
func TestProcessName(t *testing.T) {
	name := client.ProcessName()
	host, err := os.Hostname()
	must(t, err)
	want := fmt.Sprintf("%s:%s:%d", host, strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe"), os.Getpid())
	if name != want && len(want) < 100 {
		t.Errorf("got %q, want %q", name, want)
	}
	opts := transports["tcp"](t, server.Options{})
	ctx := within(t)
	registered := func() []client.Peer {
		peers, err := start(t, opts).Clients(ctx, "")
		must(t, err)
		return peers
	}
	l := locker(t, client.LockerOptions{Options: opts, Anonymous: true})
	must(t, second(l.TryAcquire(ctx, "x")))
	if peers := registered(); len(peers) > 0 {
		t.Errorf("registered: %v", peers)
	}
	l = locker(t, client.LockerOptions{Options: opts})
	must(t, second(l.TryAcquire(ctx, "y")))
	if peers := registered(); len(peers) != 1 || peers[0].Name != name {
		t.Errorf("registered: %v, want %q", peers, name)
	}
}

// TestNote: a session registers its note in front of the lock, and takes it back
// behind it; without a note there is nothing of it.
func TestNote(t *testing.T) {
	l, accept := scriptedLocker(t, client.LockerOptions{Options: client.Options{Name: "web 1"}})
	s := accept()
	s.expect("0 iam web 1")
	s.reply("0 1 ok\n")
	noted := client.WithNote(within(t), " order\n17 ")
	done := make(chan error)
	var lock *client.Lock
	acquire := func(ctx context.Context, acquire func(context.Context, string) (*client.Lock, error)) {
		go func() {
			var err error
			lock, err = acquire(ctx, "x")
			done <- err
		}()
	}
	release := func() {
		t.Helper()
		go func() { done <- lock.Release(within(t)) }()
		s.expect("1 r x")
		s.reply("1 1 Lock Release Success: x\n")
		must(t, <-done)
	}

	acquire(noted, l.TryAcquire)
	s.expect("1 iam web 1 order 17")
	s.expect("1 g x")
	s.reply("1 1 ok\n1 9 Lock Get Success: x\n")
	must(t, <-done)
	release()
	s.expect("1 iam") // and its answer takes its time

	acquire(within(t), l.TryAcquire) // somebody else
	s.expect("1 g x")
	s.reply("1 1 ok\n1 10 Lock Get Success: x\n")
	must(t, <-done)
	release()

	// Refused, whatever the registry says.
	acquire(noted, l.TryAcquire)
	s.expect("1 iam web 1 order 17")
	s.expect("1 g x")
	s.reply("1 0 disabled\n1 0 Lock Get Failure: x\n")
	mustBe(t, <-done, client.ErrNotAcquired)
	s.expect("1 iam")

	// Both answers are due when the next one asks, who has a note, too.
	acquire(client.WithNote(noted, "order 18"), l.TryAcquire)
	s.expect("1 iam web 1 order 18")
	s.expect("1 g x")
	s.reply("1 0 disabled\n1 1 ok\n1 11 Lock Get Success: x\n")
	must(t, <-done)
	release()
	s.expect("1 iam")
	s.reply("1 1 ok\n")

	// Given up while it waits.
	ctx, cancel := context.WithCancel(noted)
	acquire(ctx, l.Acquire)
	s.expect("1 iam web 1 order 17")
	s.expect("1 gw " + s.waitOf() + " x")
	s.reply("1 1 ok\n")
	cancel()
	mustBe(t, <-done, context.Canceled)
	s.expect("1 cancel")
	s.reply("1 0 Lock Get Canceled: x\n1 1 ok\n")
	s.expect("1 iam")
	s.reply("1 1 ok\n")

	// Taken back by an empty one.
	acquire(client.WithNote(noted, ""), l.TryAcquire)
	s.expect("1 g x")
	s.reply("1 12 Lock Get Success: x\n")
	must(t, <-done)
	release()

	// No room for the session.
	acquire(noted, l.TryAcquire)
	s.expect("1 iam web 1 order 17")
	s.expect("1 g x")
	s.reply("1 0 Too Many Sessions\n1 0 Too Many Sessions\n")
	mustBe(t, <-done, client.ErrTooManySessions)
}

// TestNoteLost: a wait goes on with its note over the next connection.
func TestNoteLost(t *testing.T) {
	l, accept := scriptedLocker(t, fast(client.Options{}))
	s := accept()
	done := make(chan error)
	go func() { done <- second(l.Acquire(client.WithNote(within(t), "order 17"), "x")) }()
	for i := range 2 {
		s.expect("1 iam order 17") // it is Anonymous
		s.expect("1 gw " + s.waitOf() + " x")
		if i == 0 {
			s.conn.Close()
			s = accept()
		}
	}
	s.reply("1 1 ok\n1 9 Lock Get Success: x\n")
	must(t, <-done)
}

// TestNoteTooLong: it is cut off where a character ends.
func TestNoteTooLong(t *testing.T) {
	l, accept := scriptedLocker(t, client.LockerOptions{Options: client.Options{Name: "web 1", MaxLine: 200}})
	s := accept()
	s.expect("0 iam web 1")
	go l.TryAcquire(client.WithNote(within(t), strings.Repeat("é", 1000)), "x")
	line, err := s.r.ReadString('\n')
	must(t, err)
	note, ok := strings.CutPrefix(line, "1 iam web 1 é")
	if note = strings.TrimLeft(note, "é"); !ok || note != "\n" || len(line) > 200 || len(line) < 190 {
		t.Errorf("%d bytes: %q", len(line), line)
	}
}

// TestServerNames: the names and notes are what a server shows.
func TestServerNames(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		c := start(t, opts)
		named := opts
		named.Name = "web 1"
		l := locker(t, client.LockerOptions{Options: named})
		err := l.Do(client.WithNote(ctx, "order 17"), "x", func(context.Context, *client.Lock) error {
			entries, err := c.Look(ctx, "x")
			if err != nil || len(entries) != 1 || entries[0].Registered != "web 1 order 17" {
				t.Error(entries, err)
			}
			return nil
		})
		must(t, err)
		must(t, l.Do(ctx, "x", func(context.Context, *client.Lock) error {
			entries, err := l.Look(ctx, "x")
			if err != nil || len(entries) != 1 || !strings.HasPrefix(entries[0].Registered, "web 1#") {
				t.Error(entries, err)
			}
			return nil
		}))

		other := start(t, named)
		must(t, other.Get(ctx, "y"))
		if holder, _, err := c.Dump(ctx, "y"); err != nil || holder != "web 1" {
			t.Error(holder, err)
		}
		must(t, other.SetName(ctx, "another name"))
		peers, err := c.Clients(ctx, "")
		must(t, err)
		var names []string
		for _, p := range peers {
			names = append(names, p.Name)
		}
		if !slices.Contains(names, "web 1") || !slices.Contains(names, "another name") {
			t.Errorf("registered: %q", names)
		}
	})
}

// TestServerNamesDisabled: a server that registers nobody is one like any other.
func TestServerNamesDisabled(t *testing.T) {
	overTransports(t, server.Options{DisableRegistry: true}, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		opts.Name = "web 1"
		l := locker(t, client.LockerOptions{Options: opts})
		for range 3 {
			must(t, l.Do(client.WithNote(ctx, "order 17"), "x", func(context.Context, *client.Lock) error { return nil }))
		}
		c := start(t, opts)
		must(t, c.Get(ctx, "x"))
		must(t, c.Release(ctx, "x"))
	})
}

// TestOldServerNames: each connection of a lock registers, with its note, which
// is gone with the lock when another one takes the connection.
func TestOldServerNames(t *testing.T) {
	for _, f := range flavors {
		for _, off := range []bool{false, true} {
			t.Run(fmt.Sprint(f.name, " ", off), func(t *testing.T) {
				ctx := within(t)
				srv := newFake(t, f)
				srv.mu.Lock()
				srv.off = off
				srv.mu.Unlock()
				l := locker(t, fast(client.Options{Target: srv.addr, Name: "web 1"}))
				expect := func(want string) {
					t.Helper()
					srv.mu.Lock()
					defer srv.mu.Unlock()
					for {
						if holder := srv.ex["x"]; off || srv.names[holder] == want {
							return
						}
						if ctx.Err() != nil {
							t.Fatalf("registered: %v, want %q", srv.names, want)
						}
						srv.mu.Unlock()
						time.Sleep(time.Millisecond)
						srv.mu.Lock()
					}
				}
				for _, note := range []string{"", "order 17", "order 17", "order 18", ""} {
					lock, err := l.TryAcquire(client.WithNote(ctx, note), "x")
					must(t, err)
					expect(strings.TrimSpace("web 1 " + note))
					must(t, lock.Release(ctx))
				}
				n := 0
				for _, line := range srv.log() {
					if strings.HasPrefix(line, "iam") {
						n++
					}
				}
				if n != 4 { // one at first, and one for each change
					t.Errorf("registered %d times: %q", n, srv.log())
				}
			})
		}
	}
}

// TestNameOptions: names that make no sense.
func TestNameOptions(t *testing.T) {
	for _, opts := range []client.Options{{Name: "a\nb"}, {Name: strings.Repeat("x", 256)}} {
		if err := opts.Validate(); err == nil {
			t.Errorf("%+v", opts)
		}
		if err := (client.LockerOptions{Options: opts}).Validate(); err == nil {
			t.Errorf("%+v", opts)
		}
	}
	if err := (client.LockerOptions{Options: client.Options{Name: "x"}, Anonymous: true}).Validate(); err == nil {
		t.Error("anonymous, with a name")
	}
	must(t, client.Options{Name: strings.Repeat("x", 255)}.Validate())
}
