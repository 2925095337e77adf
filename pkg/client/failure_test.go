package client_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/internal/netlab"
	"github.com/nylen/lockd/pkg/client"
)

// mustBeLost checks that a client is lost because of cause.
func mustBeLost(t *testing.T, c *client.Client, err, cause error) {
	t.Helper()
	<-c.Lost()
	for _, err := range []error{err, c.Err(), c.Get(context.Background(), "later")} {
		if !errors.Is(err, client.ErrLost) || !errors.Is(err, cause) {
			t.Errorf("got error %v, want ErrLost because of %v", err, cause)
		}
	}
}

// TestQueuesUntilConnected: requests made before there is a connection wait for
// it, and are sent in their order.
func TestQueuesUntilConnected(t *testing.T) {
	ctx := within(t)
	srv := newFake(t, glockd)
	gate := make(chan struct{})
	c := start(t, client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		<-gate
		return net.Dial("tcp", srv.addr)
	}})
	select {
	case <-c.Connected():
		t.Fatal("connected too early")
	default:
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if err := c.Get(ctx, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		})
	}
	close(gate)
	wg.Wait()
	<-c.Connected()
	if n := srv.locks(); n != 10 {
		t.Errorf("%d locks", n)
	}
}

func TestConnectRefused(t *testing.T) {
	for _, scheme := range []string{"tcp", "ws"} {
		c := start(t, client.Options{Target: scheme + "://" + netlab.Nobody})
		mustBeLost(t, c, c.Get(within(t), "x"), syscall.ECONNREFUSED)
		select {
		case <-c.Connected():
			t.Error("connected")
		default:
		}
	}
	missing := filepath.Join(t.TempDir(), "socket")
	c := start(t, client.Options{Target: "unix://" + missing})
	mustBeLost(t, c, c.Get(within(t), "x"), os.ErrNotExist)
}

func TestConnectTimeout(t *testing.T) {
	c := start(t, client.Options{
		ConnectTimeout: time.Millisecond,
		Dial: func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		},
	})
	err := c.Get(within(t), "x")
	mustBeLost(t, c, err, client.ErrTimeout)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("the error speaks of a context that is not the caller's")
	}

	// A server that takes the connection and never answers the handshake.
	c = start(t, client.Options{Target: "ws://" + listen(t).Addr().String(), ConnectTimeout: time.Millisecond})
	mustBeLost(t, c, c.Get(within(t), "x"), client.ErrTimeout)
}

func TestCloseWhileConnecting(t *testing.T) {
	dialing := make(chan struct{})
	c := start(t, client.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		close(dialing)
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	<-dialing
	c.Close()
	if err := c.Get(within(t), "x"); !errors.Is(err, client.ErrClosed) || errors.Is(err, client.ErrLost) {
		t.Error(err)
	}
}

func TestBadOptions(t *testing.T) {
	for _, target := range []string{
		"http://x:1", "tcp://", "tcp://nohost", "unix://", "ws://", "a:b:c", "x:", "0",
		"tcp://h:http", "tcp://h:1/path", "tcp://h:99999", "h:0", "h:+1", "unix://tmp/x", "unix://.hidden",
		"ws://h:99999/", "ws://h:x/", "ws://h:0/", "ws://user@h/", "ws://user:password@h:1/",
	} {
		if c, err := client.New(client.Options{Target: target}); err == nil {
			c.Close()
			t.Errorf("%q is taken for a target", target)
		}
	}
	if _, err := client.New(client.Options{MaxReply: -1}); err == nil {
		t.Error("a negative MaxReply is taken")
	}
	if _, err := client.New(client.Options{MaxLine: -1}); err == nil {
		t.Error("a negative MaxLine is taken")
	}
}

func TestConnectionLost(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	errs := make(chan error)
	for range 3 { // one of them on the wire, the others in the queue
		go func() { errs <- c.Get(ctx, "x") }()
	}
	s.expect("g x")
	s.conn.Close()
	for range 3 {
		mustBeLost(t, c, <-errs, client.ErrLost)
	}
	c.Close()
	mustBeLost(t, c, c.Err(), client.ErrLost) // the first reason stays
}

func TestIdleConnectionLost(t *testing.T) {
	c, s := scripted(t, client.Options{})
	s.conn.Close()
	mustBeLost(t, c, c.Get(within(t), "x"), client.ErrLost)
}

func TestCloseEndsPending(t *testing.T) {
	c, s := scripted(t, client.Options{})
	errs := make(chan error)
	go func() { errs <- c.Get(context.Background(), "x") }()
	s.expect("g x")
	c.Close()
	if err := <-errs; !errors.Is(err, client.ErrClosed) {
		t.Error(err)
	}
	if _, err := s.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}
}

func TestReadTimeout(t *testing.T) {
	c, s := scripted(t, client.Options{ReadTimeout: 10 * time.Millisecond})
	errs := make(chan error)
	go func() { errs <- c.Get(context.Background(), "x") }()
	s.expect("g x")
	mustBeLost(t, c, <-errs, client.ErrTimeout)
	if _, err := s.r.ReadByte(); err != io.EOF {
		t.Errorf("the connection is open: %v", err)
	}

	// The end mark's answer is missing.
	c, s = scripted(t, client.Options{ReadTimeout: 10 * time.Millisecond})
	go func() { _, err := c.Stats(context.Background()); errs <- err }()
	s.expectMark()
	mustBeLost(t, c, <-errs, client.ErrTimeout)
}

// TestCancelBlockedWrite: a context ends a request that the peer does not read.
func TestCancelBlockedWrite(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := start(t, client.Options{Dial: func(context.Context) (net.Conn, error) { return near, nil }})
	<-c.Connected()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if err := c.Get(ctx, "x"); err != context.DeadlineExceeded {
		t.Error(err)
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

// TestWriteFails: a connection that can be read from but not written to.
func TestWriteFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // which does not wait for the grace
		near, far := net.Pipe()
		defer far.Close()
		c := start(t, client.Options{Dial: func(context.Context) (net.Conn, error) { return deaf{near}, nil }})
		mustBeLost(t, c, c.Get(within(t), "x"), errDeaf)
	})
}

var errDeaf = errors.New("cannot write")

type deaf struct{ net.Conn }

func (deaf) Write([]byte) (int, error) { return 0, errDeaf }

// TestReadTimeoutBlockedWrite: a peer that does not read either.
func TestReadTimeoutBlockedWrite(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := start(t, client.Options{
		ReadTimeout: 10 * time.Millisecond,
		Dial:        func(context.Context) (net.Conn, error) { return near, nil },
	})
	mustBeLost(t, c, c.Get(context.Background(), "x"), client.ErrTimeout)
}

func TestTooManyConnections(t *testing.T) {
	ctx := within(t)
	l := listen(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "0 Too Many Connections\n")
			conn.Close()
		}
	})
	for range 20 { // the request comes before or after it
		c := start(t, client.Options{Target: l.Addr().String()})
		mustBeLost(t, c, c.Get(ctx, "x"), client.ErrTooManyConnections)
	}
	l.Close()
	wg.Wait()
}

// TestOutOfStep: a client that cannot tell which reply is whose gives up.
func TestOutOfStep(t *testing.T) {
	for _, reply := range []string{
		"1 Lock Release Success: x\n",
		"1 Lock Get Success: y\n",
		"1 Lock Get Success: xx\n",
		"Lock Get Success: x\n",
		"1\n",
		"-1 Lock Get Success: x\n",
		"99999999999999999999 Lock Get Success: x\n",
		"1 Lock Get Success: x\n1 Lock Get Success: x\n",
		strings.Repeat("1", 1<<20+1) + "\n",
	} {
		c, s := scripted(t, client.Options{})
		errs := make(chan error)
		go func() { errs <- c.Get(context.Background(), "x") }()
		s.expect("g x")
		go io.WriteString(s.conn, reply)
		err := <-errs
		if err == nil { // the first of two replies was its own
			err = errors.Join(client.ErrLost, client.ErrProtocol)
		}
		mustBeLost(t, c, err, client.ErrProtocol)
	}
	c, s := scripted(t, client.Options{})
	s.reply("1 Lock Get Success: never asked for\n")
	<-c.Lost()
	mustBeLost(t, c, c.Err(), client.ErrProtocol)
}

func TestCancelInQueue(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	errs := make(chan error)
	go func() { errs <- c.Get(ctx, "first") }()
	s.expect("g first")
	queued, cancel := context.WithCancel(ctx)
	go func() { errs <- c.Get(queued, "second") }()
	cancel()
	if err := <-errs; err != context.Canceled {
		t.Fatal(err)
	}
	s.reply("1 Lock Get Success: first\n")
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
	go func() { errs <- c.Get(ctx, "third") }()
	s.expect("g third")
	s.reply("0 Lock Get Failure: third\n")
	if err := <-errs; err != client.ErrNotAcquired {
		t.Fatal(err)
	}
}

// TestCancelInFlight: the reply of a request that was given up is dropped, and
// what it acquired is released before anything else happens.
func TestCancelInFlight(t *testing.T) {
	ctx := within(t)
	for _, v := range []struct {
		word, undo, yes, undone string
		get                     func(*client.Client, context.Context) error
	}{
		{"g", "r", "1 Lock Get Success: x", "1 Lock Release Success: x",
			func(c *client.Client, ctx context.Context) error { return c.Get(ctx, "x") }},
		{"sg", "sr", "3 Shared Lock Get Success: x", "1 Shared Lock Release Success: x",
			func(c *client.Client, ctx context.Context) error { _, err := c.GetShared(ctx, "x"); return err }},
	} {
		t.Run(v.word, func(t *testing.T) {
			c, s := scripted(t, client.Options{})
			errs := make(chan error)
			giveUp := func() {
				t.Helper()
				inFlight, cancel := context.WithCancel(ctx)
				go func() { errs <- v.get(c, inFlight) }()
				s.expect(v.word + " x")
				cancel()
				if err := <-errs; err != context.Canceled {
					t.Fatal(err)
				}
			}
			succeed := func() {
				t.Helper()
				go func() { errs <- v.get(c, ctx) }()
				s.expect(v.word + " x")
				s.reply(v.yes + "\n")
				if err := <-errs; err != nil {
					t.Fatal(err)
				}
			}

			giveUp()
			go func() { errs <- v.get(c, ctx) }() // waits behind the undoing
			s.reply(v.yes + "\r\n")
			s.expect(v.undo + " x")
			s.reply(v.undone + "\n")
			s.expect(v.word + " x")
			s.reply("0 Too Many Locks: x\n")
			if err := <-errs; err != client.ErrTooManyLocks {
				t.Fatal(err)
			}

			// A reply that says no has nothing to undo.
			giveUp()
			s.reply("0 Too Many Locks: x\n")
			succeed()

			// Held before, so it stays.
			giveUp()
			s.reply(v.yes + "\n")
			succeed()

			// Released, so it is no longer held before.
			go func() {
				if v.word == "g" {
					errs <- c.Release(ctx, "x")
				} else {
					errs <- c.ReleaseShared(ctx, "x")
				}
			}()
			s.expect(v.undo + " x")
			s.reply(v.undone + "\n")
			if err := <-errs; err != nil {
				t.Fatal(err)
			}
			giveUp()
			s.reply(v.yes + "\n")
			s.expect(v.undo + " x")
		})
	}
}

// TestCancelDump: the lines of a dump that was given up are dropped.
func TestCancelDump(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	errs := make(chan error)
	dump, cancel := context.WithCancel(ctx)
	go func() { _, err := c.DumpAll(dump); errs <- err }()
	probe := s.expectMark()
	s.reply("0 Lock Not Locked: " + probe + "\n")
	s.expect("d")
	mark := s.expectMark()
	s.reply("a: 1.2.3.4:5\n1 Lock Get Success: x\n")
	cancel()
	if err := <-errs; err != context.Canceled {
		t.Fatal(err)
	}
	go func() { errs <- c.Get(ctx, "x") }()
	s.reply("b: 1.2.3.4:5\n0 Lock Not Locked: " + mark + "\n")
	s.expect("g x")
	s.reply("1 Lock Get Success: x\n")
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}

// TestEndMark: lines of a dump that look like the end mark's answer are lines.
func TestEndMark(t *testing.T) {
	ctx := within(t)
	c, s := scripted(t, client.Options{})
	type result struct {
		locks map[string]string
		err   error
	}
	results := make(chan result)
	go func() { locks, err := c.DumpAll(ctx); results <- result{locks, err} }()
	s.reply("0 Lock Not Locked: " + s.expectMark() + "\r\n") // as glockd would
	want := "d" + strings.Repeat(" ", 4094) + "\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(s.r, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	mark := s.expectMark()
	s.reply("0 Lock Not Locked: x\r\n0 Lock Not Locked: 1:2\n")
	s.reply("0 Lock Not Locked: " + mark[1:] + ": " + mark[1:] + "\n")
	s.reply("x0 Lock Not Locked: " + mark + "\n")
	s.reply("0 Lock Not Locked: " + mark + "\r\n")
	r := <-results
	if r.err != nil || len(r.locks) != 3 || r.locks["0 Lock Not Locked"] != "1:2" {
		t.Fatal(r)
	}
}

// TestSharedByMany lets goroutines with short patience use one client, and
// checks that no lock remains and that no reply went to the wrong one.
func TestSharedByMany(t *testing.T) {
	ctx := within(t)
	for _, f := range flavors {
		for _, scheme := range []string{"tcp", "ws"} {
			t.Run(f.name+"/"+scheme, func(t *testing.T) {
				srv := newFake
				if scheme == "ws" {
					srv = newFakeWebSocket
				}
				s := srv(t, f)
				c := start(t, client.Options{Target: scheme + "://" + s.addr})
				var wg sync.WaitGroup
				for g := range 6 {
					wg.Go(func() {
						rnd := rand.New(rand.NewSource(int64(g)))
						name := fmt.Sprintf("lock %d", g)
						for range 60 {
							hasty, cancel := context.WithTimeout(ctx, time.Duration(rnd.Intn(200))*time.Microsecond)
							if c.Get(hasty, name) == nil {
								if holder, held, err := c.Dump(hasty, name); err == nil && !held {
									t.Errorf("%s is held by %q, %v", name, holder, held)
								}
								if err := c.Release(ctx, name); err != nil {
									t.Error(err)
								}
							}
							if n, err := c.GetShared(hasty, name); err == nil {
								if n != 1 {
									t.Errorf("%s is held by %d", name, n)
								}
								if err := c.ReleaseShared(ctx, name); err != nil {
									t.Error(err)
								}
							}
							cancel()
						}
					})
				}
				wg.Wait()
				if _, err := c.Inspect(ctx, "after all"); err != nil {
					t.Fatal(err)
				}
				if n := s.locks(); n != 0 {
					t.Errorf("%d locks remain", n)
				}
			})
		}
	}
}

// TestWholeRequestInOneWrite: a request is one write, since glockd and others
// read whatever is there.
func TestWholeRequestInOneWrite(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	c := start(t, client.Options{ReadTimeout: -1, Dial: func(context.Context) (net.Conn, error) { return near, nil }})
	errs := make(chan error)
	go func() { errs <- c.Get(within(t), "a lock") }()
	buf := make([]byte, 100)
	n, err := far.Read(buf)
	if err != nil || string(buf[:n]) != "g a lock\n" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	io.WriteString(far, "1 Lock Get ")
	io.WriteString(far, "Success: a lock")
	io.WriteString(far, "\n")
	if err := <-errs; err != nil {
		t.Fatal(err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := start(t, client.Options{Target: "unix://" + path})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	peers := make(chan client.Peer)
	go func() {
		p, err := c.Name(within(t))
		if err != nil {
			t.Error(err)
		}
		peers <- p
	}()
	line, _ := bufio.NewReader(conn).ReadString('\n')
	io.WriteString(conn, "1 unix:7 my own name\n")
	if p := <-peers; line != "me\n" || p != (client.Peer{Addr: "unix:7", Name: "my own name"}) {
		t.Error(line, p)
	}
}

func TestOrder(t *testing.T) {
	ctx := within(t)
	srv := newFake(t, nodejs)
	c := start(t, client.Options{Target: srv.addr, ReadTimeout: -1})
	var want []string
	for i := range 20 {
		name := fmt.Sprint("n", i)
		if err := c.Get(ctx, name); err != nil {
			t.Fatal(err)
		}
		want = append(want, "g "+name)
	}
	if got := srv.log(); !slices.Equal(got, want) {
		t.Error(got)
	}
}
