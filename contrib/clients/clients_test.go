// Package clients_test runs the clients for other languages against a server,
// each by the example program beside it.
package clients_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nylen/lockd/pkg/client"
	"github.com/nylen/lockd/pkg/server"
)

// patience is how long a test waits for what should come soon.
const patience = time.Minute

// A kind of client, and how its example is started: with a way to get the
// lock, its name, a number that belongs to the way, and how many seconds it
// works.
type kind struct {
	name  string
	start func(t *testing.T, s *service, way, name, n, seconds string) *example

	unix bool // it knows unix sockets
	page bool // it is a page: it works until it is closed, and is no process
}

// An example at work. What it tells comes as lines, the last one when it ends.
type example struct {
	lines <-chan string
	stop  func()
}

// outcome is what the examples themselves tell: all else is of errors.
var outcome = regexp.MustCompile(`^(got it \d+|not got|lost|done)$`)

// expect waits for an outcome, or for a line with this text in it; lines before
// it are told if it does not come.
func (e *example) expect(t *testing.T, want string) {
	t.Helper()
	var others []string
	late := time.After(patience)
	for {
		select {
		case line, ok := <-e.lines:
			if line == want || !outcome.MatchString(want) && strings.Contains(line, want) {
				return
			}
			if !ok {
				t.Fatalf("it ended without %q, after %q", want, others)
			}
			if outcome.MatchString(line) {
				t.Fatalf("it tells %q, not %q", line, want)
			}
			others = append(others, line)
		case <-late:
			t.Fatalf("%q never came, only %q", want, others)
		}
	}
}

// kinds are those that can be tried here. The others are skipped.
func kinds(t *testing.T, each func(t *testing.T, k kind)) {
	for _, program := range []struct {
		kind, file, interpreter, missing string
		unix                             bool
	}{
		{"bash", "bash/example.bash", "bash", "bash", false},
		{"node", "node/example.mjs", "node", "Node.js", true},
		{"php", "php/example.php", "php", "PHP", true},
		{"python", "python/example.py", "python3", "Python", true},
		{"ruby", "ruby/example.rb", "ruby", "Ruby", true},
	} {
		t.Run(program.kind, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("the examples are tried on unix systems")
			}
			interpreter, err := exec.LookPath(program.interpreter)
			if err != nil {
				t.Skip(program.missing, " is not installed")
			}
			each(t, kind{name: program.kind, unix: program.unix, start: func(t *testing.T, s *service, way, name, n, seconds string) *example {
				return startProgram(t, s, filepath.Dir(program.file), interpreter, filepath.Base(program.file), way, name, n, seconds)
			}})
		})
	}
	t.Run("browser", func(t *testing.T) {
		t.Parallel()
		each(t, kind{name: "browser", page: true, start: startPage})
	})
}

// startProgram starts an example that is a process, in its folder and by its
// bare name, as who has just copied it does.
func startProgram(t *testing.T, s *service, folder string, args ...string) *example {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "LOCKD_SERVER="+s.target, "LOCKD_TOKEN_FILE="+s.tokenFile)
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = in, in
	end := asGroup(cmd)
	err = cmd.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for text := bufio.NewScanner(out); text.Scan(); {
			lines <- text.Text()
		}
	}()
	stop := sync.OnceFunc(func() {
		end()
		cmd.Wait()
		out.Close()
	})
	t.Cleanup(stop)
	return &example{lines, stop}
}

// A service is a server, and what stands between it and the examples.
type service struct {
	*server.Server
	target    string // for the example
	direct    string // for the test's own clients
	socket    string // a unix socket
	token     string
	tokenFile string
	frozen    atomic.Bool // the network carries nothing more
}

// serve starts a server. What examples say and hear goes through a relay, byte
// by byte. Pages have a WebSocket.
func serve(t *testing.T, k kind, opts server.Options) *service {
	t.Helper()
	s := &service{}
	dir, err := os.MkdirTemp("", "lockd") // of a short name, for the unix socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s.socket = filepath.Join(dir, "socket")
	if k.page {
		opts.WebSocketOrigins = []string{"*"}
	}
	if opts.AuthFile != "" {
		s.token, s.tokenFile = opts.AuthFile, filepath.Join(dir, "token")
		opts.AuthFile = filepath.Join(dir, "auth")
		line := fmt.Sprintf("tester admin sha256:%x\n", sha256.Sum256([]byte("right")))
		if err := errors.Join(os.WriteFile(opts.AuthFile, []byte(line), 0o600), os.WriteFile(s.tokenFile, []byte(s.token+"\n"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if s.Server, err = server.New(opts); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.cut)
	listen := func(network, addr string) net.Listener {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	lines, relay := listen("tcp", "127.0.0.1:0"), listen("tcp", "127.0.0.1:0")
	go s.Serve(lines)
	s.direct, s.target = "tcp://"+lines.Addr().String(), "tcp://"+relay.Addr().String()
	behind := lines.Addr().String()
	if k.page {
		sockets := listen("tcp", "127.0.0.1:0")
		go s.ServeWebSocket(sockets)
		s.target, behind = "ws://"+relay.Addr().String()+"/", sockets.Addr().String()
	}
	if k.unix {
		go s.Serve(listen("unix", s.socket))
	}
	t.Cleanup(func() { relay.Close() })
	go func() {
		for {
			c, err := relay.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", behind)
			if err != nil {
				c.Close()
				continue
			}
			go s.carry(c, to)
			go s.carry(to, c)
		}
	}()
	return s
}

// carry is one direction of the relay.
func (s *service) carry(from, to net.Conn) {
	defer to.Close()
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		if s.frozen.Load() {
			select {} // whoever is at the ends hears nothing, not even the end
		}
		for i := range n {
			if _, err := to.Write(b[i : i+1]); err != nil {
				return
			}
			runtime.Gosched()
		}
		if err != nil {
			return
		}
	}
}

// cut stops the server at once.
func (s *service) cut() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	s.Shutdown(now)
}

// client connects a client of the test's own, which is past the relay.
func (s *service) client(t *testing.T) *client.Client {
	t.Helper()
	opts := client.Options{Target: s.direct}
	if s.token != "" {
		opts.Token = func(context.Context) (string, error) { return "right", nil }
	}
	c, err := client.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// entries waits until as many hold or wait for a name.
func (s *service) entries(t *testing.T, name string, state client.State, n int) []client.Entry {
	t.Helper()
	c := s.client(t)
	defer c.Close()
	for late := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		all, err := c.Look(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		var found []client.Entry
		for _, e := range all {
			if e.State == state {
				found = append(found, e)
			}
		}
		if len(found) == n {
			return found
		}
		if time.Now().After(late) {
			t.Fatalf("of %q %d are %s, not %d: %v", name, len(found), state, n, all)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Get or skip: who comes second is told at once, and what a client holds is
// free when its program ends, however it does.
func TestSkip(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		s := serve(t, k, server.Options{})
		first := k.start(t, s, "skip", "foo", "0", "600")
		first.expect(t, "got it 1")
		if who := s.entries(t, "foo", client.StateHeld, 1)[0]; !k.page && !strings.Contains(who.Registered, "example.") {
			t.Errorf("lists show it as %q", who.Registered)
		}
		k.start(t, s, "skip", "foo", "0", "600").expect(t, "not got")
		first.stop()
		s.entries(t, "foo", client.StateHeld, 0)
		last := k.start(t, s, "skip", "foo", "0", "0.2")
		last.expect(t, "got it 1")
		if k.page {
			return // it is done when it is closed
		}
		last.expect(t, "done")
		s.entries(t, "foo", client.StateHeld, 0)
	})
}

// Wait with a limit: it gets the lock when that is released, or is told.
func TestWait(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		s := serve(t, k, server.Options{})
		holder := s.client(t)
		must(t, holder.Get(t.Context(), "foo"))
		k.start(t, s, "wait", "foo", "1", "600").expect(t, "not got")
		e := k.start(t, s, "wait", "foo", "600", "600")
		s.entries(t, "foo", client.StateWaits, 1)
		must(t, holder.Release(t.Context(), "foo"))
		e.expect(t, "got it 1")
	})
}

// Count: no more than the limit, and each knows how many there are.
func TestCount(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		s := serve(t, k, server.Options{})
		for range 2 {
			_, err := s.client(t).GetShared(t.Context(), "pool")
			must(t, err)
		}
		k.start(t, s, "count", "pool", "2", "600").expect(t, "not got")
		k.start(t, s, "count", "pool", "3", "600").expect(t, "got it 3")
		s.entries(t, "pool", client.StateHeld, 3)
	})
}

// Notice the loss, be it that the connection is ended, by an administrator or
// the server's end, or that nothing is heard any more: the program stops its
// work. Up to then it has asked whether the server is there.
func TestLoss(t *testing.T) {
	for what, lose := range map[string]func(t *testing.T, s *service){
		"kicked": func(t *testing.T, s *service) {
			must(t, s.client(t).Kick(t.Context(), s.entries(t, "foo", client.StateHeld, 1)[0].Addr))
		},
		"stopped": func(_ *testing.T, s *service) { s.cut() },
		"silent": func(t *testing.T, s *service) {
			c := s.client(t)
			for late := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
				stats, err := c.Stats(t.Context())
				must(t, err)
				if stats["command_ping"] > 0 {
					break
				}
				if time.Now().After(late) {
					t.Fatal("it does not ask whether the server is there")
				}
			}
			s.frozen.Store(true)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			kinds(t, func(t *testing.T, k kind) {
				h := time.Hour // they ask every some minutes, and have to see the end without
				if what == "silent" {
					h = 8 * time.Second
				}
				s := serve(t, k, server.Options{DeadPeerTimeout: h})
				e := k.start(t, s, "skip", "foo", "0", "600")
				e.expect(t, "got it 1")
				lose(t, s)
				e.expect(t, "lost")
			})
		})
	}
}

// What is neither yes nor no is not taken for one of them.
func TestRefused(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		s := serve(t, k, server.Options{MaxLocks: 1, MaxShare: []string{"off"}})
		must(t, s.client(t).Get(t.Context(), "the only one"))
		k.start(t, s, "skip", "foo", "0", "600").expect(t, "Too Many Locks: foo")
		k.start(t, s, "count", "foo", "3", "600").expect(t, "Too Many Locks: foo")
	})
}

// A name arrives as it is, and is one name; a variable that was not set is
// none.
func TestNames(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		s := serve(t, k, server.Options{})
		for _, name := range []string{"façade 😀", `a "quoted" $(name) %s \n \\ 'too' *`, "Lock Get Timeout: foo"} {
			e := k.start(t, s, "skip", name, "0", "600")
			e.expect(t, "got it 1")
			s.entries(t, name, client.StateHeld, 1)
			e.stop()
		}
		k.start(t, s, "skip", "foo\ng bar", "0", "600").expect(t, "line break")
		k.start(t, s, "skip", " ", "0", "600").expect(t, "empty name")
		k.start(t, s, "skip", strings.Repeat("x", 5000), "0", "600").expect(t, "Line Too Long")
		s.entries(t, "bar", client.StateHeld, 0)
	})
}

// A token gets it in, and a wrong one does not.
func TestToken(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		right := serve(t, k, server.Options{AuthFile: "right"})
		k.start(t, right, "skip", "foo", "0", "600").expect(t, "got it 1")
		right.entries(t, "foo", client.StateHeld, 1)
		wrong := serve(t, k, server.Options{AuthFile: "wrong"})
		k.start(t, wrong, "skip", "foo", "0", "600").expect(t, "Auth Failed")
	})
}

// Unix sockets, where a client knows them.
func TestUnix(t *testing.T) {
	kinds(t, func(t *testing.T, k kind) {
		if !k.unix {
			t.Skip("it has none")
		}
		s := serve(t, k, server.Options{})
		s.target = "unix://" + s.socket
		e := k.start(t, s, "skip", "foo", "0", "600")
		e.expect(t, "got it 1")
		if addr := s.entries(t, "foo", client.StateHeld, 1)[0].Addr; !strings.HasPrefix(addr, "unix:") {
			t.Errorf("it comes from %s", addr)
		}
	})
}

// docs/clients.md shows the files as they are, and all of them.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/clients.md")
	must(t, err)
	quoted := make(map[string]string)
	for _, m := range regexp.MustCompile("(?ms)^<!-- file: ([^ ]+) -->\n```[a-z]+\n(.*?)^```$").FindAllSubmatch(text, -1) {
		quoted[string(m[1])] = string(m[2])
	}
	must(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(path, ".go") {
			return err
		}
		file := "contrib/clients/" + filepath.ToSlash(path)
		content, err := os.ReadFile(path)
		if quoted[file] != string(content) {
			t.Errorf("docs/clients.md does not show %s as it is", file)
		}
		delete(quoted, file)
		return err
	}))
	for file := range quoted {
		t.Errorf("docs/clients.md shows %s, which is not there", file)
	}
}

// An error in the work, or before there is any, leaves no connection in a program that
// goes on: what it held is free, and the server is alone again.
func TestErrorsLeaveNothing(t *testing.T) {
	for _, program := range []struct{ kind, interpreter, flag, text string }{
		{"python", "python3", "-c", `
import os, sys, time
from lockd import Lockd
try:
    with Lockd() as one:
        one.get("foo")
        raise KeyError
except KeyError:
    pass
os.environ["LOCKD_TOKEN_FILE"] = "/there/is/none"
try:
    Lockd()
except FileNotFoundError:
    print("done", flush=True)
time.sleep(600)`},
		{"ruby", "ruby", "-e", `
require "./lockd"
$stdout.sync = true
ENV["LOCKD_TOKEN_FILE"] = "/there/is/none"
begin
  Lockd.new
rescue Errno::ENOENT
  puts "done"
end
sleep 600`},
		{"node", "node", "-e", `
import("./lockd.mjs").then(async ({ Lockd }) => {
  process.env.LOCKD_TOKEN_FILE = "/there/is/none";
  await Lockd.connect().catch((error) => console.log(error.code === "ENOENT" ? "done" : error));
  setTimeout(() => {}, 600_000);
});`},
	} {
		t.Run(program.kind, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("the examples are tried on unix systems")
			}
			interpreter, err := exec.LookPath(program.interpreter)
			if err != nil {
				t.Skip(program.interpreter, " is not installed")
			}
			s := serve(t, kind{name: program.kind}, server.Options{})
			e := startProgram(t, s, program.kind, interpreter, program.flag, program.text)
			e.expect(t, "done")
			looker := s.client(t)
			for end := time.Now().Add(patience); ; {
				stats, err := looker.Stats(t.Context())
				must(t, err)
				if stats["connections"] == 1 && stats["locks"] == 0 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("there are %d connections and %d locks", stats["connections"], stats["locks"])
				}
				time.Sleep(10 * time.Millisecond)
			}
		})
	}
}
