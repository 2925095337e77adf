package client_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

const goodToken = "lockd-5up3r-53cr37"

// tell is an Options.Token.
func tell(token string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return token, nil }
}

// A gate is in front of a server, and asks who one is. Behind it names have to begin
// with the prefix.
type gate struct {
	t      *testing.T
	server *server.Server
	known  bool   // it knows everybody, as by certificates
	prefix string // what may be inspected; everything if empty
	delay  time.Duration
	keeps  time.Duration // what the server says that it keeps for at most

	mu    sync.Mutex
	token string
	first []string // lines of connections
}

func newGate(t *testing.T) *gate {
	t.Helper()
	return &gate{t: t, server: newServer(t, server.Options{}), token: goodToken}
}

// dial is for client.Options.
func (g *gate) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go g.serve(far)
	return near, nil
}

// serve answers for the server until one is known, and carries the rest to it.
func (g *gate) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for known, number := g.known, 0; ; number++ {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		g.mu.Lock()
		if number == 0 {
			g.first = append(g.first, line)
		}
		token := g.token
		g.mu.Unlock()
		verb, rest, _ := strings.Cut(line, " ")
		switch {
		case verb == "auth" && rest == token:
			known = true
			time.Sleep(g.delay)
			io.WriteString(conn, "1 ok\n")
		case verb == "auth":
			time.Sleep(g.delay)
			io.WriteString(conn, "0 Auth Failed\n")
		case verb == "ping":
			io.WriteString(conn, "1 pong\n")
		case verb == "limits":
			fmt.Fprintf(conn, "1 dead_peer_ms=20000 max_keep_ms=%d\n", g.keeps.Milliseconds())
		case verb == "i" && known && !strings.HasPrefix(rest, g.prefix):
			io.WriteString(conn, "0 Not Allowed: i\n")
		case verb == "hello" && known:
			g.splice(conn, in, line)
			return
		case verb == "hello":
			io.WriteString(conn, "2 lockd test\n")
			g.protocol2(conn, in)
			return
		case !known:
			io.WriteString(conn, "0 Not Authenticated\n")
		default:
			g.one(conn, line)
		}
	}
}

// protocol2 knows nobody.
func (g *gate) protocol2(conn net.Conn, in *bufio.Reader) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		session, _, _ := strings.Cut(line, " ")
		io.WriteString(conn, session+" 0 Not Authenticated\n")
	}
}

// splice carries the rest of a connection, which begins with a line.
func (g *gate) splice(conn net.Conn, in io.Reader, line string) {
	to, err := g.server.Dial()
	if err != nil {
		return
	}
	go func() {
		io.WriteString(to, line+"\n")
		io.Copy(to, in)
		to.Close()
	}()
	io.Copy(conn, to)
}

// one has the server answer one request.
func (g *gate) one(conn net.Conn, line string) {
	to, err := g.server.Dial()
	if err != nil {
		return
	}
	defer to.Close()
	io.WriteString(to, line+"\n")
	to.(interface{ CloseWrite() error }).CloseWrite()
	io.Copy(conn, to)
}

// TestToken: it is the first thing that is said on each connection, and then all is
// as without.
func TestToken(t *testing.T) {
	for _, delay := range []time.Duration{0, 500 * time.Millisecond} { // is it the answer, or that to the mark behind it?
		t.Run(fmt.Sprint(delay), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t)
				g.delay = delay
				opts := client.Options{Dial: g.dial, Token: tell(goodToken), Name: "me"}
				for way, ask := range askers {
					if err := ask(t, opts); err != nil {
						t.Errorf("%s: %v", way, err)
					}
				}
				l := locker(t, client.LockerOptions{Options: opts})
				lock, err := l.Acquire(within(t), "x")
				must(t, err)
				found := 0
				for e, err := range l.List(within(t), "") { // over a connection of its own
					must(t, err)
					if e.Name == "x" {
						found++
					}
				}
				must(t, lock.Release(within(t)))
				if found != 1 {
					t.Errorf("listed %d locks", found)
				}
				if len(g.first) != 5 {
					t.Errorf("%d connections", len(g.first))
				}
				for _, line := range g.first {
					if line != "auth "+goodToken {
						t.Errorf("the first line was %q", line)
					}
				}
			})
		})
	}
}

// TestTokenTransports: any token will do for a server that asks for none.
func TestTokenTransports(t *testing.T) {
	overTransports(t, server.Options{}, func(t *testing.T, opts client.Options) {
		opts.Token = tell(goodToken)
		testMethods(t, opts, false)
		l := locker(t, client.LockerOptions{Options: opts})
		lock, err := l.Acquire(within(t), "x")
		must(t, err)
		must(t, lock.Release(within(t)))
	})
}

// TestTokenRefused: who is not known is told so, and what to do. To a Locker it is no
// outage.
func TestTokenRefused(t *testing.T) {
	failing := func(err error) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { return "", err }
	}
	for name, test := range map[string]struct {
		token func(context.Context) (string, error)
		cause error
		said  string
		sent  bool
	}{
		"wrong":    {tell("wrong"), client.ErrAuthFailed, "the server does not know this client's token", true},
		"none":     {nil, client.ErrNotAuthenticated, "the server asks for a token", true},
		"empty":    {tell(""), client.ErrNoToken, "no token: what Options.Token returned is empty", false},
		"lines":    {tell("a\ng stolen"), client.ErrNoToken, "more than a token, which is a single word", false},
		"blank":    {tell("a b"), client.ErrNoToken, "a single word", false},
		"too long": {tell(strings.Repeat("x", 1025)), client.ErrNoToken, "over 1024 bytes", false},
		"longest":  {tell(strings.Repeat("x", 1024)), client.ErrAuthFailed, "does not know", true},
		"no file":  {client.TokenFile("/nonexistent"), client.ErrNoToken, "no token: stat /nonexistent: no such file", false},
		"failing":  {failing(errDown), client.ErrNoToken, "no token: " + errDown.Error(), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t)
				opts := client.Options{Dial: g.dial, Token: test.token}
				is := func(err error, lost bool) {
					t.Helper()
					if !errors.Is(err, test.cause) || !strings.Contains(err.Error(), test.said) || errors.Is(err, client.ErrLost) != lost {
						t.Errorf("got error %v, want %v, lost: %v", err, test.cause, lost)
					}
					if strings.Contains(err.Error(), "xxx") || strings.Contains(err.Error(), "stolen") {
						t.Errorf("it tells the token: %v", err)
					}
				}
				is(askers["client"](t, opts), test.token != nil)
				l := locker(t, client.LockerOptions{Options: opts})
				is(l.Ready(within(t)), false)
				_, err := l.Acquire(context.Background(), "x") // which would wait for ever
				is(err, false)
				is(l.Do(context.Background(), "x", nil), false)
				_, err = l.Inspect(context.Background(), "x")
				is(err, false)
				for _, err := range l.List(context.Background(), "") {
					is(err, false)
				}
				_, err = l.Limiter("x", 1, time.Minute).Allow(context.Background())
				is(err, false)
				c, err := client.Dial(within(t), opts, 2)
				if test.token == nil { // somebody may type one
					must(t, err)
					must(t, c.Send("0 g x"))
					if got := readLine(t, c); got != "0 0 Not Authenticated" {
						t.Errorf("got %q", got)
					}
					c.Close()
				} else {
					is(err, false)
				}
				if sent := len(g.first) > 0; sent != test.sent {
					t.Errorf("the server was told %q", g.first)
				}
			})
		})
	}
}

// TestTokenRefusedCalms: a Locker whose token is refused does not hammer the server,
// says why, and is well again when the server knows the token.
func TestTokenRefusedCalms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t)
		var log bytes.Buffer
		l := locker(t, client.LockerOptions{
			Options: client.Options{Dial: g.dial, Token: tell("new")}, MaxBackoff: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		mustBe(t, l.Ready(within(t)), client.ErrAuthFailed)
		time.Sleep(time.Hour)
		g.mu.Lock()
		attempts := len(g.first)
		g.token = "new"
		g.mu.Unlock()
		if attempts < 30 || attempts > 600 { // every 30 s on average
			t.Errorf("%d attempts in an hour", attempts)
		}
		mustBe(t, l.Ready(within(t)), client.ErrAuthFailed) // at once, for all that is known
		time.Sleep(time.Minute)
		must(t, l.Ready(within(t)))
		l.Close()
		if why := strings.Count(log.String(), "does not know this client's token"); why < attempts {
			t.Errorf("the log says why %d times, of %d: %s", why, attempts, log.String())
		}
	})
}

// TestTokenRefusedLater: a call that waits for a connection ends when it turns out
// that there is none for this client.
func TestTokenRefusedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t)
		var down atomic.Bool
		w := &wire{dial: func(ctx context.Context) (net.Conn, error) {
			if down.Load() {
				return nil, errDown
			}
			return g.dial(ctx)
		}}
		opts := client.Options{Dial: w.dial, Token: tell(goodToken)}
		l := locker(t, client.LockerOptions{Options: opts})
		other := locker(t, client.LockerOptions{Options: opts})
		lock, err := l.Acquire(within(t), "x")
		must(t, err)
		ended := make(chan error)
		go func() {
			_, err := other.Acquire(context.Background(), "x")
			ended <- err
		}()
		synctest.Wait()
		down.Store(true)
		g.mu.Lock()
		g.token = "another"
		g.mu.Unlock()
		now, cancel := context.WithCancel(context.Background())
		cancel()
		go g.server.Shutdown(now)
		<-lock.Lost()
		synctest.Wait()
		select {
		case err := <-ended:
			t.Fatalf("the wait ended in an outage: %v", err)
		default:
		}
		down.Store(false)
		mustBe(t, <-ended, client.ErrAuthFailed)
	})
}

// TestTokenOldServer: a server that says nothing to a token is too old, and that is
// said, whether it loses what comes behind a request or not.
func TestTokenOldServer(t *testing.T) {
	for _, f := range flavors {
		for _, target := range []string{newFake(t, f).addr, "ws://" + newFakeWebSocket(t, f).addr} {
			opts := client.Options{Target: target, Token: tell(goodToken)}
			for way, ask := range askers {
				err := ask(t, opts)
				if !errors.Is(err, client.ErrNoAuth) || !errors.Is(err, client.ErrUnsupported) || strings.Contains(err.Error(), goodToken) {
					t.Errorf("%s, %s of %s: %v", f.name, way, target, err)
				}
			}
		}
	}
}

// TestTokenSecret: no error, log or print of options has it, whatever a server
// replies.
func TestTokenSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, reply := range []string{
			"0 Auth Failed\n", "0 Invalid Argument: auth\n", "0 Invalid: " + goodToken + "\n", "1 " + goodToken + "\n", goodToken + "\n",
			"0 Too Many Connections\n", "2 " + goodToken + "\n",
		} {
			var log bytes.Buffer
			opts := client.Options{Token: tell(goodToken), Dial: func(context.Context) (net.Conn, error) {
				near, far := net.Pipe()
				go lineByLine(far, func(string) string { return reply })
				return near, nil
			}}
			for way, ask := range askers {
				if err := ask(t, opts); err == nil || strings.Contains(err.Error(), goodToken) {
					t.Errorf("%s of %q: %v", way, reply, err)
				}
			}
			l := locker(t, client.LockerOptions{Options: opts, Logger: slog.New(slog.NewTextHandler(&log, nil)), FailFast: true})
			l.Ready(within(t))
			time.Sleep(time.Minute)
			l.Close()
			if text := log.String(); text == "" || strings.Contains(text, goodToken) {
				t.Errorf("%q: logged %q", reply, text)
			}
		}
	})
	path := filepath.Join(t.TempDir(), "token")
	must(t, os.WriteFile(path, []byte(goodToken), 0o600))
	opts := client.Options{Token: client.TokenFile(path)}
	if _, err := opts.Token(within(t)); err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%v %+v %#v", opts, opts, &opts); strings.Contains(text, goodToken) {
		t.Error(text)
	}
}

// TestTokenFile: what may be in it.
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	token := client.TokenFile(path)
	for _, test := range []struct{ text, token, err string }{
		{"abc", "abc", ""},
		{"abc\n", "abc", ""},
		{" abc\t\r\n\n", "abc", ""},
		{strings.Repeat("x", 1023) + "\n", strings.Repeat("x", 1023), ""},
		{strings.Repeat("x", 1024), strings.Repeat("x", 1024), ""},
		{strings.Repeat("x", 1025), "", " holds more than a token, over 1024 bytes"},
		{strings.Repeat("x", 1<<20), "", " holds more than a token, over 1024 bytes"},
		{"", "", " is empty"},
		{" \n\n", "", " is empty"},
		{"abc\ndef\n", "", " holds more than a token, which is a single word"},
		{"abc def", "", " holds more than a token, which is a single word"},
		{"a\x00b", "", " holds more than a token, which is a single word"},
		{"-----BEGIN PRIVATE KEY-----\nabc\n", "", " holds more than a token, which is a single word"},
	} {
		must(t, os.WriteFile(path, []byte(test.text), 0o600)) // the same function, and what is new
		got, err := token(within(t))
		want := ""
		if test.err != "" {
			want = path + test.err
		}
		if got != test.token || err == nil && want != "" || err != nil && err.Error() != want {
			t.Errorf("%.40q: %.40q, %v", test.text, got, err)
		}
	}
	if _, err := client.TokenFile(filepath.Dir(path))(within(t)); err == nil || !strings.Contains(err.Error(), "is a directory") {
		t.Error(err)
	}
}

// TestNotAllowed: what a client has no right to is said.
func TestNotAllowed(t *testing.T) {
	c, s := scripted(t, client.Options{})
	done := make(chan error, 1)
	go func() { done <- c.Get(within(t), "x") }()
	s.expect("g x")
	s.reply("0 Not Allowed: g\n")
	err := <-done
	if !errors.Is(err, client.ErrNotAllowed) || err.Error() != "lockd: not allowed by the server: this client may not send \"g\", or not with that name" {
		t.Error(err)
	}
	if c.Err() != nil {
		t.Error("the client is lost: ", c.Err())
	}
}

// TestPrefix: who may not inspect any lock still gets whole lists, and protocol 2,
// whether it is known by its token or otherwise.
func TestPrefix(t *testing.T) {
	for _, token := range []func(context.Context) (string, error){tell(goodToken), nil} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(t)
			g.prefix, g.known = "deploy/", token == nil
			opts := client.Options{Dial: g.dial, Token: token}
			l := locker(t, client.LockerOptions{Options: opts, FailFast: true})
			lock, err := l.TryAcquire(within(t), "deploy/web")
			must(t, err)
			c := start(t, opts)
			mustBe(t, func() error { _, err := c.Inspect(within(t), "other"); return err }(), client.ErrNotAllowed)
			for range 2 {
				locks, err := c.DumpAll(within(t))
				if err != nil || len(locks) != 1 || locks["deploy/web"] == "" {
					t.Errorf("%v, %v", locks, err)
				}
			}
			must(t, lock.Release(within(t)))
			if locks, err := c.DumpAll(within(t)); err != nil || len(locks) != 0 {
				t.Errorf("%v, %v", locks, err)
			}
			must(t, askers["conn"](t, opts))
		})
	}
}

// TestPrefixOfAFirstInspection: that a lock may be inspected does not mean that any
// may, so the end of the list behind it is asked for in a way that anybody may.
func TestPrefixOfAFirstInspection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t)
		g.prefix, g.known = "deploy/", true
		c := start(t, client.Options{Dial: g.dial})
		if held, err := c.Inspect(within(t), "deploy/web"); held || err != nil {
			t.Errorf("%v, %v", held, err)
		}
		if entries, err := c.Look(within(t), "deploy/web"); len(entries) != 0 || err != nil {
			t.Errorf("%v, %v", entries, err)
		}
	})
}
