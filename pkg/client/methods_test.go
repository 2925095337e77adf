package client_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/nylen/lockd/pkg/client"
)

// TestMethods runs every method against every kind of server.
func TestMethods(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name+"/tcp", func(t *testing.T) {
			s := newFake(t, f)
			testMethods(t, client.Options{Target: "tcp://" + s.addr}, f.holders)
		})
		t.Run(f.name+"/ws", func(t *testing.T) {
			s := newFakeWebSocket(t, f)
			testMethods(t, client.Options{Target: "ws://" + s.addr}, f.holders)
		})
		t.Run(f.name+"/dial", func(t *testing.T) {
			s := newFake(t, f)
			testMethods(t, client.Options{Dial: s.dialInPieces}, f.holders)
		})
		t.Run(f.name+"/dial ws", func(t *testing.T) {
			s := newFakeWebSocket(t, f)
			testMethods(t, client.Options{Target: "ws://somewhere", Dial: s.dialInPieces}, f.holders)
		})
	}
}

// testMethods needs a server without locks. holdersOnly says that it tells how
// many hold a shared lock to its holders only.
func testMethods(t *testing.T, opts client.Options, holdersOnly bool) {
	ctx := within(t)
	a, b := start(t, opts), start(t, opts)
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	is := func(err, want error) {
		t.Helper()
		if !errors.Is(err, want) {
			t.Fatalf("got error %v, want %v", err, want)
		}
	}
	equal := func(got, want any) {
		t.Helper()
		if got != want {
			t.Fatalf("got %v, want %v", got, want)
		}
	}

	meA, err := a.Name(ctx)
	ok(err)
	equal(meA.Name, meA.Addr)

	// Dumps of nothing, also as the first request of a connection.
	locks, err := b.DumpAll(ctx)
	ok(err)
	equal(len(locks), 0)
	sharedLocks, err := b.DumpAllShared(ctx)
	ok(err)
	equal(len(sharedLocks), 0)
	peers, err := b.Clients(ctx, "")
	ok(err)
	equal(len(peers), 0)
	_, held, err := b.Dump(ctx, "foo")
	ok(err)
	equal(held, false)

	// Exclusive locks.
	ok(a.Get(ctx, "foo"))
	ok(a.Get(ctx, "foo"))
	is(b.Get(ctx, "foo"), client.ErrNotAcquired)
	is(b.Release(ctx, "foo"), client.ErrNotHeld)
	locked, err := b.Inspect(ctx, "foo")
	ok(err)
	equal(locked, true)
	holder, held, err := b.Dump(ctx, "foo")
	ok(err)
	equal(held, true)
	equal(holder, meA.Addr)
	ok(a.Release(ctx, "foo"))
	is(a.Release(ctx, "foo"), client.ErrNotHeld)
	locked, err = b.Inspect(ctx, "foo")
	ok(err)
	equal(locked, false)

	// Names.
	ok(a.SetName(ctx, " the  builder "))
	meA, err = a.Name(ctx)
	ok(err)
	equal(meA.Name, "the builder")
	ok(b.SetName(ctx, "other"))
	peers, err = b.Clients(ctx, "")
	ok(err)
	equal(len(peers), 2)
	equal(slices.Contains(peers, meA), true)
	peers, err = b.Clients(ctx, "the builder")
	ok(err)
	equal(len(peers), 1)
	equal(peers[0], meA)
	peers, err = b.Clients(ctx, "nobody")
	ok(err)
	equal(len(peers), 0)

	names := []string{"", "a: b", "x \t y", "%s%d", "größe", "0 disabled", strings.Repeat("long", 1000)}
	want := map[string]string{}
	for _, name := range names {
		ok(a.Get(ctx, name))
		is(b.Get(ctx, name), client.ErrNotAcquired)
		holder, held, err := b.Dump(ctx, name)
		ok(err)
		equal(held, true)
		equal(holder, "the builder")
		want[strings.Join(strings.Fields(name), " ")] = "the builder"
	}
	is(b.Get(ctx, "x y"), client.ErrNotAcquired)
	locks, err = b.DumpAll(ctx)
	ok(err)
	if !maps.Equal(locks, want) {
		t.Fatalf("got %v, want %v", locks, want)
	}

	// Shared locks.
	n, err := a.GetShared(ctx, "pool")
	ok(err)
	equal(n, 1)
	n, err = b.GetShared(ctx, "pool")
	ok(err)
	equal(n, 2)
	n, err = b.GetShared(ctx, " pool")
	ok(err)
	equal(n, 2)
	n, err = a.GetShared(ctx, "")
	ok(err)
	equal(n, 1)
	holders, err := a.DumpShared(ctx, "pool")
	ok(err)
	if !slices.Equal(holders, []string{"the builder", "other"}) {
		t.Fatal(holders)
	}
	holders, err = a.DumpShared(ctx, "")
	ok(err)
	if !slices.Equal(holders, []string{"the builder"}) {
		t.Fatal(holders)
	}
	sharedLocks, err = a.DumpAllShared(ctx)
	ok(err)
	equal(len(sharedLocks), 2)
	if !slices.Equal(sharedLocks["pool"], []string{"the builder", "other"}) {
		t.Fatal(sharedLocks)
	}
	ok(a.ReleaseShared(ctx, "pool"))
	is(a.ReleaseShared(ctx, "pool"), client.ErrNotHeld)
	n, err = a.InspectShared(ctx, "pool")
	ok(err)
	if !holdersOnly {
		equal(n, 1)
	}
	n, err = b.InspectShared(ctx, "pool")
	ok(err)
	equal(n, 1)
	holders, err = b.DumpShared(ctx, "unknown")
	ok(err)
	equal(len(holders), 0)

	// Counters. command_d is there with every server once it was used.
	counters, err := a.Stats(ctx)
	ok(err)
	if counters["command_d"] == 0 || counters["command_q"] != 1 {
		t.Fatal(counters)
	}

	ok(b.SetName(ctx, ""))
	me, err := b.Name(ctx)
	ok(err)
	equal(me.Name, me.Addr)
	peers, err = b.Clients(ctx, "")
	ok(err)
	equal(slices.ContainsFunc(peers, func(p client.Peer) bool { return p.Name == "" || p.Addr == me.Addr }), false)

	// Closing.
	ok(a.Close())
	ok(a.Close())
	is(a.Get(ctx, "foo"), client.ErrClosed)
	is(a.Err(), client.ErrClosed)
	<-a.Lost()
	for {
		err := b.Get(ctx, "a: b")
		if err == nil {
			break
		}
		is(err, client.ErrNotAcquired) // until the server has noticed
	}
	equal(b.Err(), nil)
}

// TestDialect: the first dump works whatever was inspected before it.
func TestDialect(t *testing.T) {
	ctx := within(t)
	for _, f := range flavors {
		c := start(t, client.Options{Target: newFake(t, f).addr})
		if err := c.Get(ctx, "x"); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if held, err := c.Inspect(ctx, "x"); !held || err != nil {
				t.Fatal(held, err)
			}
			if locks, err := c.DumpAll(ctx); len(locks) != 1 || err != nil {
				t.Fatal(locks, err)
			}
		}
	}
}

// TestManyLines gets dumps of more than one packet.
func TestManyLines(t *testing.T) {
	ctx := within(t)
	for _, f := range flavors {
		for _, scheme := range []string{"tcp", "ws"} {
			t.Run(f.name+"/"+scheme, func(t *testing.T) {
				s := newFake
				if scheme == "ws" {
					s = newFakeWebSocket
				}
				srv := s(t, f)
				for i := range 5000 {
					srv.ex[strings.Repeat("n", i%400)+string(rune('a'+i/400))] = "10.0.0.1:1"
				}
				c := start(t, client.Options{Target: scheme + "://" + srv.addr})
				for range 2 {
					locks, err := c.DumpAll(ctx)
					if err != nil || len(locks) != len(srv.ex) {
						t.Fatalf("%d locks of %d, %v", len(locks), len(srv.ex), err)
					}
				}
			})
		}
	}
}

func TestDisabled(t *testing.T) {
	ctx := within(t)
	for _, f := range flavors {
		srv := newFake(t, f)
		srv.off = true
		c := start(t, client.Options{Target: srv.addr})
		check := func(method string, err error) {
			t.Helper()
			if !errors.Is(err, client.ErrDisabled) {
				t.Errorf("%s: %v", method, err)
			}
		}
		_, _, err := c.Dump(ctx, "a")
		check("Dump", err)
		_, err = c.DumpAll(ctx)
		check("DumpAll", err)
		_, err = c.DumpShared(ctx, "a")
		check("DumpShared", err)
		_, err = c.DumpAllShared(ctx)
		check("DumpAllShared", err)
		_, err = c.Clients(ctx, "")
		check("Clients", err)
		check("SetName", c.SetName(ctx, "x"))
		if err := c.Get(ctx, "still well"); err != nil {
			t.Error(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	ask := func(reply string, f func(context.Context, string) error) error {
		got := make(chan error)
		go func() { got <- f(ctx, "x") }()
		if _, err := s.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		s.reply(reply + "\n")
		return <-got
	}
	if err := ask("0 Too Many Locks: x", c.Get); !errors.Is(err, client.ErrTooManyLocks) {
		t.Error(err)
	}
	getShared := func(ctx context.Context, name string) error { _, err := c.GetShared(ctx, name); return err }
	if err := ask("0 Too Many Locks: x", getShared); !errors.Is(err, client.ErrTooManyLocks) {
		t.Error(err)
	}
	if err := ask("0 Line Too Long", c.Get); !errors.Is(err, client.ErrLineTooLong) {
		t.Error(err)
	}
	var refused *client.ReplyError
	if err := ask("0 Quite Impossible", c.Get); !errors.As(err, &refused) || refused.Reply != "0 Quite Impossible" {
		t.Error(err)
	}
	if err := ask("1 Lock Get Success: x", c.Get); err != nil {
		t.Error(err)
	}
}

// TestNothingSent: what is refused by the client itself leaves no trace.
func TestNothingSent(t *testing.T) {
	ctx := within(t)
	srv := newFake(t, glockd)
	c := start(t, client.Options{Target: srv.addr})
	for _, name := range []string{"a\nb", "a\r", "\n", "x\r\nr y"} {
		_, errShared := c.GetShared(ctx, name)
		_, errInspect := c.Inspect(ctx, name)
		_, _, errDump := c.Dump(ctx, name)
		_, errDumpShared := c.DumpShared(ctx, name)
		_, errClients := c.Clients(ctx, name)
		for _, err := range []error{
			c.Get(ctx, name), c.Release(ctx, name), c.ReleaseShared(ctx, name), c.SetName(ctx, name),
			errShared, errInspect, errDump, errDumpShared, errClients,
		} {
			if !errors.Is(err, client.ErrBadName) {
				t.Errorf("%q: %v", name, err)
			}
		}
	}
	if err := c.Get(ctx, strings.Repeat("x", 4094)); !errors.Is(err, client.ErrLineTooLong) {
		t.Error(err)
	}
	if err := c.Get(ctx, strings.Repeat("x", 4093)); err != nil {
		t.Error(err)
	}
	if log := srv.log(); len(log) != 1 {
		t.Error(log)
	}
}

// dialInPieces connects through a network that cuts everything into pieces.
func (s *fake) dialInPieces(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", s.addr)
	return inPieces{conn}, err
}

type inPieces struct{ net.Conn }

func (c inPieces) Write(b []byte) (n int, err error) {
	for piece := range slices.Chunk(b, 7+len(b)/5) {
		m, err := c.Conn.Write(piece)
		if n += m; err != nil {
			return n, err
		}
		runtime.Gosched()
	}
	return n, nil
}

func (c inPieces) Read(b []byte) (int, error) { return c.Conn.Read(b[:min(len(b), 11)]) }

// TestNonsense: lists that are none.
func TestNonsense(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	probe := make(chan error)
	go func() { _, err := c.DumpAll(ctx); probe <- err }()
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\n") // which tells the dialect
	s.expect("d")
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
	if err := <-probe; err != nil {
		t.Fatal(err)
	}
	for reply, f := range map[string]func() error{
		"no border\n":                  func() error { _, err := c.DumpAll(ctx); return err },
		"a: b\nno border\n":            func() error { _, err := c.DumpAllShared(ctx); return err },
		"no border":                    func() error { _, _, err := c.Dump(ctx, "x"); return err },
		"0 Novel Refusal\n":            func() error { _, err := c.Clients(ctx, "x"); return err },
		"locks: many\n":                func() error { _, err := c.Stats(ctx); return err },
		"locks\n":                      func() error { _, err := c.Stats(ctx); return err },
		"locks: 9223372036854775808\n": func() error { _, err := c.Stats(ctx); return err },
		"0 Not Today: nobody":          func() error { _, err := c.Stats(ctx); return err },
	} {
		errs := make(chan error)
		go func() { errs <- f() }()
		if _, err := s.r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		mark := s.expectMark()
		s.reply(strings.TrimSuffix(reply, "\n") + "\n0 Lock Not Locked: " + mark + "\n")
		var refused *client.ReplyError
		if err := <-errs; !errors.As(err, &refused) || !strings.Contains(reply, refused.Reply) {
			t.Errorf("%q: %v", reply, err)
		} else if !strings.Contains(err.Error(), refused.Reply) {
			t.Error(err)
		}
	}
	errs := make(chan error)
	go func() { _, err := c.Name(ctx); errs <- err }()
	s.expect("me")
	s.reply("1 1.2.3.4:5\n")
	var refused *client.ReplyError
	if err := <-errs; !errors.As(err, &refused) || refused.Reply != "1 1.2.3.4:5" {
		t.Error(err)
	}
}

// TestRespelled: a server may rewrite what is not ASCII.
func TestRespelled(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	errs := make(chan error)
	go func() { errs <- c.Get(ctx, "a\u00a0b") }()
	s.expect("g a\u00a0b")
	s.reply("1 Lock Get Success: a b\n")
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	// It is the same lock, so giving up getting it again leaves it alone.
	again, cancel := context.WithCancel(ctx)
	go func() { errs <- c.Get(again, "a b") }()
	s.expect("g a b")
	cancel()
	if err := <-errs; err != context.Canceled {
		t.Fatal(err)
	}
	s.reply("1 Lock Get Success: a b\n")
	go func() {
		holder, held, err := c.Dump(ctx, "a\u00a0b")
		if holder != "me" || !held {
			t.Error(holder, held)
		}
		errs <- err
	}()
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
	s.expect("d a\u00a0b")
	s.reply("a b: me\n0 Lock Not Locked: " + s.expectMark() + "\n")
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}
