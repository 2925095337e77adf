package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// The lines of a look, and what they mean.
var (
	lookLines = []string{
		"a b\texclusive\theld\t1500\t1764000000000001\t10.0.0.1:4000\tweb 1",
		"a b\texclusive\tkept\t2\t7\t10.0.0.1:4001#5\tweb 1#5",
		"a b\texclusive\twaits\t20\t0\tunix:3\tunix:3\tpid=12 uid=1000 program=a cron job",
		"a b\tshared\theld\t0\t2\t10.0.0.2:1\tx\tnew field\tpid=1 uid=0 program=",
		"a b\tshared\twaits\t3\t4\t10.0.0.2:2\ty",
		"a b\trate\tlimited\t600\t3",
		"a b\tlease\tlent\t1\t2\tz\tz",
	}
	lookEntries = []client.Entry{
		{Name: "a b", Kind: client.KindExclusive, State: client.StateHeld, Since: 1500 * time.Millisecond, Token: 1764000000000001, Addr: "10.0.0.1:4000", Registered: "web 1"},
		{Name: "a b", Kind: client.KindExclusive, State: client.StateKept, Since: 2 * time.Millisecond, Token: 7, Addr: "10.0.0.1:4001#5", Registered: "web 1#5"},
		{Name: "a b", Kind: client.KindExclusive, State: client.StateWaits, Since: 20 * time.Millisecond, Addr: "unix:3", Registered: "unix:3", More: []string{"pid=12 uid=1000 program=a cron job"}},
		{Name: "a b", Kind: client.KindShared, State: client.StateHeld, Count: 2, Addr: "10.0.0.2:1", Registered: "x", More: []string{"new field", "pid=1 uid=0 program="}},
		{Name: "a b", Kind: client.KindShared, State: client.StateWaits, Since: 3 * time.Millisecond, Count: 4, Addr: "10.0.0.2:2", Registered: "y"},
		{Name: "a b", Kind: client.KindRate, State: client.StateLimited, Since: 600 * time.Millisecond, Count: 3},
		{Name: "a b", Kind: "lease", State: "lent", Since: time.Millisecond, Count: 2, Addr: "z", Registered: "z"},
	}
)

// A looker asks: a Client or a Locker.
type looker interface {
	Look(ctx context.Context, name string) ([]client.Entry, error)
	List(ctx context.Context, prefix string) func(yield func(client.Entry, error) bool)
	Kick(ctx context.Context, addr string) error
}

type clientLooker struct{ *client.Client }

func (c clientLooker) List(ctx context.Context, prefix string) func(func(client.Entry, error) bool) {
	return c.Client.List(ctx, prefix)
}

type lockerLooker struct{ *client.Locker }

func (l lockerLooker) List(ctx context.Context, prefix string) func(func(client.Entry, error) bool) {
	return l.Locker.List(ctx, prefix)
}

// overLookers runs f with a Client and with a Locker, each of which asks a
// server that answers a request with what f has said in advance: lines, and an
// answer in the end. Nothing at all is what an old server says.
func overLookers(t *testing.T, f func(t *testing.T, l looker, answer func(request string, lines []string, last string))) {
	t.Run("Client", func(t *testing.T) {
		c, s := scripted(t, client.Options{})
		known := false
		f(t, clientLooker{c}, func(request string, lines []string, last string) {
			if !known {
				known = true
				s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
			}
			s.expect(request)
			if last != "" {
				lines = append(slices.Clone(lines), last)
			}
			for _, line := range lines {
				s.reply(line + "\n")
			}
			s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
		})
	})
	t.Run("Locker", func(t *testing.T) {
		l, accept := scriptedLocker(t, client.LockerOptions{})
		s := accept()
		f(t, lockerLooker{l}, func(request string, lines []string, last string) {
			got, err := s.r.ReadString('\n')
			number, ok := strings.CutSuffix(got, " "+request+"\n")
			if err != nil || !ok {
				t.Fatalf("server got %q, %v; want %q", got, err, request)
			}
			if last == "" {
				verb, _, _ := strings.Cut(request, " ")
				last = "0 Invalid Command: " + verb
			}
			for _, line := range lines {
				s.reply(number + " - " + line + "\n")
			}
			s.reply(number + " " + last + "\n")
		})
	})
}

// TestLook: what the lines of a look mean.
func TestLook(t *testing.T) {
	overLookers(t, func(t *testing.T, l looker, answer func(string, []string, string)) {
		ctx := within(t)
		type result struct {
			entries []client.Entry
			err     error
		}
		done := make(chan result)
		ask := func(name string) {
			go func() {
				var r result
				r.entries, r.err = l.Look(ctx, name)
				done <- r
			}()
		}
		ask(" a  b ")
		answer("look a b", lookLines, "1 End")
		r := <-done
		must(t, r.err)
		if !reflect.DeepEqual(r.entries, lookEntries) {
			t.Errorf("got %+v\nwant %+v", r.entries, lookEntries)
		}
		ask("x")
		answer("look x", nil, "1 End")
		if r := <-done; r.err != nil || len(r.entries) != 0 {
			t.Errorf("of nothing: %v, %v", r.entries, r.err)
		}
		for last, want := range map[string]error{
			"":                    client.ErrNoLook,
			"0 disabled":          client.ErrDisabled,
			"0 Not Allowed: look": client.ErrNotAllowed,
		} {
			ask("x")
			answer("look x", nil, last)
			mustBe(t, (<-done).err, want)
		}
		mustBe(t, client.ErrNoLook, client.ErrUnsupported)
		for _, bad := range []string{"x\texclusive\theld\t1", "x\texclusive\theld\tlong\t1", "x\texclusive\theld\t1\t-1\ty\tz"} {
			ask("x")
			answer("look x", []string{bad}, "1 End")
			var reply *client.ReplyError
			if r := <-done; !errors.As(r.err, &reply) {
				t.Errorf("%q: %v", bad, r.err)
			}
		}
		ask("x") // the connection is in step
		answer("look x", lookLines[:1], "1 End")
		if r := <-done; r.err != nil || len(r.entries) != 1 {
			t.Error(r.entries, r.err)
		}
		if _, err := l.Look(ctx, "x\ny"); !errors.Is(err, client.ErrBadName) {
			t.Error(err)
		}
	})
}

// TestEntryProcess: who is at the other end of a unix socket.
func TestEntryProcess(t *testing.T) {
	for i, want := range map[int]client.Process{
		2: {PID: 12, UID: 1000, Program: "a cron job"},
		3: {PID: 1},
	} {
		if p, ok := lookEntries[i].Process(); !ok || p != want {
			t.Errorf("%d: %+v, %v", i, p, ok)
		}
	}
	for _, more := range []string{"", "pid=1", "pid=x uid=1 program=y", "pid=1 uid= program=y", "program=y pid=1 uid=2"} {
		if p, ok := (client.Entry{More: []string{more}}).Process(); ok {
			t.Errorf("%q: %+v", more, p)
		}
	}
}

// overListers is overLookers for List. Of a Locker, each list has a
// connection of its own, which speaks protocol 1.
func overListers(t *testing.T, opts client.Options, f func(t *testing.T, list lister, next func() *script)) {
	t.Run("Client", func(t *testing.T) {
		c, s := scripted(t, opts)
		known := false
		f(t, clientLooker{c}.List, func() *script {
			if !known {
				known = true
				s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
			}
			return s
		})
	})
	t.Run("Locker", func(t *testing.T) {
		listener := listen(t)
		opts.Target = listener.Addr().String()
		opts.Name = "not the list's"
		l := locker(t, client.LockerOptions{Options: opts})
		conn, err := listener.Accept()
		must(t, err)
		begin(t, conn)
		f(t, lockerLooker{l}.List, func() *script {
			s := acceptScript(t, listener)
			s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
			return s
		})
	})
}

type lister func(ctx context.Context, prefix string) func(yield func(client.Entry, error) bool)

// acceptScript plays the server's end of the next connection.
func acceptScript(t *testing.T, listener net.Listener) *script {
	t.Helper()
	conn, err := listener.Accept()
	must(t, err)
	t.Cleanup(func() { conn.Close() })
	return &script{t: t, conn: conn, r: bufio.NewReader(conn)}
}

const (
	lineA = "a\tshared\theld\t1\t1\tx\tx\n"
	lineB = "b\tshared\theld\t1\t1\tx\tx\n"
)

// TestList: entries are passed on, and a loop may end early, or fail.
func TestList(t *testing.T) {
	overListers(t, client.Options{}, func(t *testing.T, list lister, next func() *script) {
		ctx := within(t)
		names := make(chan string, 10)
		errs := make(chan error)
		ask := func(ctx context.Context, prefix string, most int) {
			go func() {
				n := 0
				for e, err := range list(ctx, prefix) {
					if err != nil {
						errs <- err
						continue
					}
					names <- e.Name
					if n++; n == most {
						break
					}
				}
				errs <- nil
			}()
		}
		ask(ctx, "", 9)
		s := next()
		s.expect("look*")
		mark := s.expectMark()
		s.reply(lineA + lineB + "1 End\n0 Lock Not Locked: " + mark + "\n")
		must(t, <-errs)
		if a, b := <-names, <-names; a != "a" || b != "b" {
			t.Errorf("got %q and %q", a, b)
		}

		ask(ctx, " a  b ", 1)
		s = next()
		s.expect("look* a b")
		mark = s.expectMark()
		s.reply(lineA)
		must(t, <-errs)
		if name := <-names; name != "a" {
			t.Errorf("got %q", name)
		}
		io.WriteString(s.conn, lineB+"1 End\n0 Lock Not Locked: "+mark+"\n") // it may be gone

		canceled, cancel := context.WithCancel(ctx)
		ask(canceled, "c", 9)
		s = next()
		s.expect("look* c")
		mark = s.expectMark()
		s.reply(lineA)
		<-names
		cancel()
		mustBe(t, <-errs, context.Canceled)
		must(t, <-errs) // the error came once, and last
		io.WriteString(s.conn, lineB+"1 End\n0 Lock Not Locked: "+mark+"\n")

		for last, want := range map[string]error{
			"":                       client.ErrNoLook,
			"0 disabled\n":           client.ErrDisabled,
			"0 Not Allowed: look*\n": client.ErrNotAllowed,
		} {
			ask(ctx, "", 9)
			s = next()
			s.expect("look*")
			s.reply(last + "0 Lock Not Locked: " + s.expectMark() + "\n")
			mustBe(t, <-errs, want)
			must(t, <-errs)
		}

		ask(ctx, "", 9)
		s = next()
		s.expect("look*")
		s.reply(lineA)
		<-names
		s.conn.Close()
		mustBe(t, <-errs, client.ErrLost)
		must(t, <-errs)
	})
}

// TestKick: what becomes of it.
func TestKick(t *testing.T) {
	overLookers(t, func(t *testing.T, l looker, answer func(string, []string, string)) {
		ctx := within(t)
		errs := make(chan error)
		for last, want := range map[string]error{
			"1 Kicked: 1.2.3.4:5#6":         nil,
			"0 No Such Client: 1.2.3.4:5#6": client.ErrNoSuchClient,
			"0 Not Allowed: kick":           client.ErrNotAllowed,
			"":                              client.ErrNoKick,
		} {
			go func() { errs <- l.Kick(ctx, "1.2.3.4:5#6") }()
			answer("kick 1.2.3.4:5#6", nil, last)
			if err := <-errs; !errors.Is(err, want) {
				t.Errorf("%q: got %v, want %v", last, err, want)
			}
		}
		mustBe(t, client.ErrNoKick, client.ErrUnsupported)
		mustBe(t, l.Kick(ctx, "x\ny"), client.ErrBadName)
	})
}

// TestNotAllowedList: what looks like a line of a list is none.
func TestNotAllowedList(t *testing.T) {
	c, s := scripted(t, client.Options{})
	errs := make(chan error)
	go func() {
		_, err := c.DumpAll(within(t))
		errs <- err
	}()
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\n")
	s.expect("d")
	s.reply("0 Not Allowed: d\n0 Lock Not Locked: " + s.expectMark() + "\n")
	mustBe(t, <-errs, client.ErrNotAllowed)
}

// TestListAsItComes: a loop has an entry before the next one is sent, so
// that a long list needs not be in memory. In all they are more than MaxReply:
// what was passed on does not count.
func TestListAsItComes(t *testing.T) {
	const many = 3000
	line := func(i int) string { return fmt.Sprintf("%d\tshared\theld\t1\t1\tx\tx\n", i) }
	overListers(t, client.Options{MaxReply: 100}, func(t *testing.T, list lister, next func() *script) {
		lines := make(chan string, 1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			s := next()
			s.expect("look*")
			mark := s.expectMark()
			for line := range lines {
				s.reply(line)
			}
			s.reply("1 End\n0 Lock Not Locked: " + mark + "\n")
		}()
		i := 0
		lines <- line(i)
		for e, err := range list(within(t), "") {
			must(t, err)
			if e.Name != fmt.Sprint(i) {
				t.Fatalf("entry %d is %q", i, e.Name)
			}
			if i++; i < many {
				lines <- line(i)
			} else {
				close(lines)
			}
		}
		if i != many {
			t.Errorf("%d entries", i)
		}
		<-ended
	})
}

// TestListSlowly: what a loop does not take is bounded.
func TestListSlowly(t *testing.T) {
	const room = 1 << 20
	overListers(t, client.Options{MaxReply: room}, func(t *testing.T, list lister, next func() *script) {
		looking, sent := make(chan struct{}), make(chan struct{})
		done := make(chan error)
		n := 0
		go func() {
			for _, err := range list(within(t), "") {
				if err != nil {
					done <- err
					return
				}
				if n++; n == 1 {
					close(looking)
					<-sent
				}
			}
			done <- nil
		}()
		s := next()
		s.expect("look*")
		s.reply(lineA)
		<-looking
		for range 3 {
			io.WriteString(s.conn, strings.Repeat(lineA, room/2/len(lineA)))
		}
		s.conn.Read(make([]byte, 1000)) // until it hangs up, an inspection aside
		s.conn.Read(make([]byte, 1000))
		close(sent)
		err := <-done
		mustBe(t, err, client.ErrReplyTooLong)
		mustBe(t, err, client.ErrLost)
	})
}

// TestLockerList: a list has nothing to do with the connection of the
// Locker's locks, but that both end with the Locker.
func TestLockerList(t *testing.T) {
	ctx := within(t)
	listener := listen(t)
	opts := fast(client.Options{Target: listener.Addr().String()})
	opts.Anonymous = true
	l := locker(t, opts)
	errs := make(chan error)
	look := func(body func()) {
		go func() {
			for _, err := range l.List(ctx, "") {
				if err != nil {
					errs <- err
					return
				}
				body()
			}
			errs <- nil
		}()
	}
	look(func() {}) // it waits for the other connection
	conn, err := listener.Accept()
	must(t, err)
	s := begin(t, conn)
	p := acceptScript(t, listener)
	p.reply("0 Lock Not Locked: " + p.expectMark() + "\n")
	p.expect("look*")
	p.conn.Close()
	mustBe(t, <-errs, client.ErrLost)
	must(t, l.Ready(ctx))

	look(func() {
		lock, err := l.TryAcquire(ctx, "x")
		must(t, err)
		must(t, lock.Release(ctx))
		errs <- nil
	})
	p = acceptScript(t, listener)
	p.reply("0 Lock Not Locked: " + p.expectMark() + "\n")
	p.expect("look*")
	p.expectMark()
	p.reply(lineA)
	s.expect("1 g x")
	s.reply("1 9 Lock Get Success: x\n")
	s.expect("1 r x")
	s.reply("1 1 Lock Release Success: x\n")
	must(t, <-errs)
	l.Close()
	mustBe(t, <-errs, client.ErrClosed)
	look(func() {})
	mustBe(t, <-errs, client.ErrClosed)
}

// TestLookLost: a look is repeated over the next connection, and what came over
// the first one counts no more. A kick never is: the address may be somebody else's
// by then.
func TestLookLost(t *testing.T) {
	ctx := within(t)
	l, accept := scriptedLocker(t, fast(client.Options{}))
	errs := make(chan error)
	var entries []client.Entry
	go func() {
		var err error
		entries, err = l.Look(ctx, "x")
		errs <- err
	}()
	s := accept()
	s.expect("1 look x")
	s.reply("1 - " + lineA + "1 - " + lineA)
	s.conn.Close()
	s = accept()
	s.expect("1 look x")
	s.reply("1 - " + lineB + "1 1 End\n")
	must(t, <-errs)
	if len(entries) != 1 || entries[0].Name != "b" {
		t.Errorf("got %+v", entries)
	}

	go func() { errs <- l.Kick(ctx, "1.2.3.4:5") }()
	s.expect("1 kick 1.2.3.4:5")
	s.conn.Close()
	mustBe(t, <-errs, client.ErrLost)
}

// TestLookTooLong: a look over a Locker's connection that is too long fails alone.
func TestLookTooLong(t *testing.T) {
	ctx := within(t)
	l, accept := scriptedLocker(t, client.LockerOptions{Options: client.Options{MaxReply: 2*len(lineA) + 1}})
	s := accept()
	for n, want := range map[int]error{2: nil, 3: client.ErrReplyTooLong, 300: client.ErrReplyTooLong} {
		errs := make(chan error)
		go func() {
			entries, err := l.Look(ctx, "x")
			if err == nil && len(entries) != n {
				err = fmt.Errorf("%d entries", len(entries))
			}
			errs <- err
		}()
		s.expect("1 look x")
		s.reply(strings.Repeat("1 - "+lineA, n) + "1 1 End\n")
		if err := <-errs; !errors.Is(err, want) || errors.Is(err, client.ErrLost) {
			t.Errorf("%d entries: %v", n, err)
		}
	}
}

// TestLookGivenUp: a look that nobody waits for any more delays nobody, and its
// session is used again when the list has ended.
func TestLookGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, accept := pipedLocker(t, client.LockerOptions{})
		s := accept()
		ctx, cancel := context.WithCancel(t.Context())
		errs := make(chan error)
		look := func(ctx context.Context) {
			_, err := l.Look(ctx, "x")
			errs <- err
		}
		go look(ctx)
		s.expect("1 look x")
		s.reply("1 - " + lineA)
		cancel()
		err := <-errs
		mustBe(t, err, context.Canceled)
		if want := `lockd: look "x": context canceled`; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
		s.reply("1 - " + lineA)
		go look(t.Context())
		s.expect("2 look x")
		s.reply("2 1 End\n")
		must(t, <-errs)
		s.reply("1 1 End\n")
		synctest.Wait()
		go look(t.Context())
		s.expect("1 look x") // the last one freed
		s.reply("1 1 End\n")
		must(t, <-errs)
	})
}

// TestLookOldServers: those that do not know it say so, and go on.
func TestLookOldServers(t *testing.T) {
	for _, f := range flavors {
		t.Run(f.name, func(t *testing.T) {
			ctx := within(t)
			fake := newFake(t, f)
			opts := client.Options{Target: fake.addr}
			c := start(t, opts)
			for _, l := range []looker{clientLooker{c}, lockerLooker{locker(t, fast(opts))}} {
				_, err := l.Look(ctx, "x")
				mustBe(t, err, client.ErrNoLook)
				for _, err := range l.List(ctx, "") {
					mustBe(t, err, client.ErrNoLook)
				}
				mustBe(t, l.Kick(ctx, "1.2.3.4:5"), client.ErrNoKick)
			}
			must(t, c.Get(ctx, "x"))
		})
	}
}

// TestServerLook asks a real server.
func TestServerLook(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		ctx := within(t)
		c, l := start(t, opts), locker(t, client.LockerOptions{Options: opts})
		must(t, c.Get(ctx, "x"))
		waiting := make(chan error, 1)
		go func() {
			lock, err := l.Acquire(ctx, "x")
			if err == nil {
				err = lock.Release(ctx)
			}
			waiting <- err
		}()
		me, err := c.Name(ctx)
		must(t, err)
		for _, ask := range []looker{clientLooker{c}, lockerLooker{l}} {
			for {
				entries, err := ask.Look(ctx, "x")
				must(t, err)
				if len(entries) < 2 {
					continue // it is about to wait
				}
				held, waits := entries[0], entries[1]
				if len(entries) != 2 || held.Name != "x" || held.Kind != client.KindExclusive || held.State != client.StateHeld ||
					held.Token == 0 || held.Addr != me.Addr || waits.State != client.StateWaits || waits.Token != 0 {
					t.Errorf("%+v", entries)
				}
				if p, ok := held.Process(); runtime.GOOS == "linux" && ok != strings.HasSuffix(t.Name(), "unix") ||
					ok && (p.PID != os.Getpid() || p.UID != os.Getuid()) {
					t.Errorf("process %+v, %v", p, ok)
				}
				break
			}
			n := 0
			for e, err := range ask.List(ctx, "") {
				must(t, err)
				if e.Name == "x" {
					n++
				}
			}
			if n != 2 {
				t.Errorf("%d entries", n)
			}
		}
		if strings.Contains(t.Name(), "pipe") { // which may come from anywhere
			mustBe(t, l.Kick(ctx, me.Addr), client.ErrNotAllowed)
			mustBe(t, c.Kick(ctx, me.Addr), client.ErrNotAllowed)
			must(t, c.Release(ctx, "x"))
			must(t, <-waiting)
			return
		}
		mustBe(t, l.Kick(ctx, "1.2.3.4:5"), client.ErrNoSuchClient)
		mustBe(t, c.Kick(ctx, "1.2.3.4:5"), client.ErrNoSuchClient)
		must(t, l.Kick(ctx, me.Addr))
		<-c.Lost()
		must(t, <-waiting)
	})
}
