package client_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"github.com/nylen/lockd/pkg/client"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // which Lockers tell that are without a server
	goleak.VerifyTestMain(m)
}

// A flavor is how one of the existing servers departs from the others.
type flavor struct {
	name      string
	crlf      bool // the ends of some replies are \r\n
	folds     bool // blanks in names are folded
	oneReader bool // a new reader for every line, so that pipelined lines are lost
	holders   bool // si counts for holders only
}

var (
	glockd  = flavor{name: "glockd", crlf: true, folds: true, oneReader: true}
	nodejs  = flavor{name: "node", holders: true}
	flavors = []flavor{glockd, nodejs}
)

// A fake is a server with locks and a flavor.
type fake struct {
	flavor
	addr string // where it listens

	mu       sync.Mutex
	off      bool // the dump and the registry are disabled
	ex       map[string]string
	sh       map[string][]string
	names    map[string]string
	counters map[string]int
	lines    []string // all that came in, without the end marks and probes
	conns    map[net.Conn]bool

	ended sync.WaitGroup
}

func newFake(t *testing.T, f flavor) *fake {
	t.Helper()
	return serveFake(t, f, (*fake).serveLines)
}

func newFakeWebSocket(t *testing.T, f flavor) *fake {
	t.Helper()
	return serveFake(t, f, (*fake).serveWebSocket)
}

func serveFake(t *testing.T, f flavor, serve func(*fake, net.Conn)) *fake {
	t.Helper()
	s := &fake{
		flavor: f, ex: map[string]string{}, sh: map[string][]string{}, names: map[string]string{},
		counters: map[string]int{"locks": 0, "connections": -1}, conns: map[net.Conn]bool{},
	}
	l := listen(t)
	s.addr = l.Addr().String()
	s.ended.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.ended.Go(func() {
				serve(s, conn)
				conn.Close()
				s.disconnect(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		s.hangUp()
		s.ended.Wait()
	})
	return s
}

func (s *fake) hangUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		conn.Close()
	}
}

func (s *fake) serveLines(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		if s.oneReader {
			r = bufio.NewReader(conn)
		}
		line, _, err := r.ReadLine()
		if err != nil {
			return
		}
		if reply := s.command(conn.RemoteAddr().String(), string(line)); reply != "" {
			io.WriteString(conn, reply)
		}
	}
}

func (s *fake) serveWebSocket(conn net.Conn) {
	origin := false
	u := ws.Upgrader{
		OnHeader: func(key, value []byte) error {
			origin = origin || string(key) == "Origin"
			return nil
		},
		OnBeforeUpgrade: func() (ws.HandshakeHeader, error) {
			if !origin {
				return nil, ws.RejectConnectionError(ws.RejectionStatus(http.StatusForbidden))
			}
			return nil, nil
		},
	}
	if _, err := u.Upgrade(conn); err != nil {
		return
	}
	for {
		msg, _, err := wsutil.ReadClientData(conn)
		if err != nil {
			return
		}
		reply := s.command(conn.RemoteAddr().String(), string(msg))
		if reply == "" && !s.oneReader {
			continue // glockd sends an empty message
		}
		if wsutil.WriteServerText(conn, []byte(reply)) != nil {
			return
		}
	}
}

func (s *fake) disconnect(conn net.Conn) {
	addr := conn.RemoteAddr().String()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
	delete(s.names, addr)
	for name, holder := range s.ex {
		if holder == addr {
			delete(s.ex, name)
		}
	}
	for name := range s.sh {
		s.releaseShared(name, addr)
	}
}

func (s *fake) releaseShared(name, addr string) bool {
	i := slices.Index(s.sh[name], addr)
	if i < 0 {
		return false
	}
	s.sh[name] = slices.Delete(s.sh[name], i, i+1)
	if len(s.sh[name]) == 0 {
		delete(s.sh, name)
	}
	return true
}

func (s *fake) command(addr, line string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folds {
		line = strings.TrimSpace(line)
	}
	verb, name, _ := strings.Cut(line, " ")
	if s.folds {
		name = strings.Join(strings.Fields(name), " ")
	}
	// Recognized by its look, so that scripts can ignore it.
	if len(line) > 2000 || len(line) != 28 || verb != "i" {
		s.lines = append(s.lines, line)
	}
	s.counters["command_"+verb]++
	end := "\n"
	if s.crlf && (verb == "i" || verb == "g") && s.ex[name] != addr {
		end = "\r\n" // what a client holds itself is answered by other code
	}
	who := func(addr string) string {
		if n := s.names[addr]; n != "" {
			return n
		}
		return addr
	}
	var b strings.Builder
	switch verb {
	case "g":
		if h, ok := s.ex[name]; ok && h != addr {
			return "0 Lock Get Failure: " + name + end
		}
		s.ex[name] = addr
		return "1 Lock Get Success: " + name + end
	case "r":
		if s.ex[name] != addr {
			return "0 Lock Release Failure: " + name + end
		}
		delete(s.ex, name)
		return "1 Lock Release Success: " + name + end
	case "i":
		if _, ok := s.ex[name]; ok {
			return "1 Lock Is Locked: " + name + end
		}
		return "0 Lock Not Locked: " + name + end
	case "sg":
		if !slices.Contains(s.sh[name], addr) {
			s.sh[name] = append(s.sh[name], addr)
		}
		return fmt.Sprintf("%d Shared Lock Get Success: %s\n", len(s.sh[name]), name)
	case "sr":
		if !s.releaseShared(name, addr) {
			return "0 Shared Lock Release Failure: " + name + end
		}
		return "1 Shared Lock Release Success: " + name + end
	case "si":
		if n := len(s.sh[name]); n > 0 && (!s.holders || slices.Contains(s.sh[name], addr)) {
			return fmt.Sprintf("%d Shared Lock Is Locked: %s\n", n, name)
		}
		return "0 Shared Lock Not Locked: " + name + end
	case "me":
		return "1 " + addr + " " + who(addr) + end
	case "q":
		for k, n := range s.counters {
			fmt.Fprintf(&b, "%s: %d%s", k, n, end)
		}
		return b.String()
	case "d", "sd", "iam", "who":
		if s.off {
			return "0 disabled" + end
		}
	default:
		return ""
	}
	switch verb {
	case "iam":
		s.names[addr] = name
		return "1 ok" + end
	case "d":
		for lock, holder := range s.ex {
			if name == "" || name == lock {
				b.WriteString(lock + ": " + who(holder) + end)
			}
		}
	case "sd":
		for lock, holders := range s.sh {
			for _, holder := range holders {
				if name == "" || name == lock {
					b.WriteString(lock + ": " + who(holder) + end)
				}
			}
		}
	case "who":
		for addr, n := range s.names {
			if name == "" || name == n {
				b.WriteString(addr + ": " + n + end)
			}
		}
	}
	return b.String()
}

func (s *fake) log() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lines)
}

func (s *fake) locks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ex) + len(s.sh)
}

// A script is the server's end of one connection, played by the test.
type script struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

// scripted returns a client and the server's end of its connection.
func scripted(t *testing.T, opts client.Options) (*client.Client, *script) {
	t.Helper()
	l := listen(t)
	opts.Target = l.Addr().String()
	if opts.ReadTimeout == 0 {
		opts.ReadTimeout = -1 // it does not ask by itself
	}
	c := start(t, opts)
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return c, &script{t: t, conn: conn, r: bufio.NewReader(conn)}
}

func (s *script) expect(want string) {
	s.t.Helper()
	got, err := s.r.ReadString('\n')
	if err != nil || got != want+"\n" {
		s.t.Fatalf("server got %q, %v; want %q", got, err, want)
	}
}

// expectMark reads an inspection, and returns the lock that it asks for.
func (s *script) expectMark() string {
	s.t.Helper()
	got, err := s.r.ReadString('\n')
	mark, ok := strings.CutPrefix(strings.TrimSuffix(got, "\n"), "i ")
	if err != nil || !ok {
		s.t.Fatalf("server got %q, %v; want an inspection", got, err)
	}
	return mark
}

func (s *script) reply(lines string) {
	s.t.Helper()
	if _, err := io.WriteString(s.conn, lines); err != nil {
		s.t.Fatal(err)
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	return listenAt(t, "127.0.0.1")
}

func listenAt(t *testing.T, host string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// start makes a client that is closed when the test ends.
func start(t *testing.T, opts client.Options) *client.Client {
	t.Helper()
	c, err := client.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// within returns a context that ends a test which hangs.
func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}
