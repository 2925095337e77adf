// Package linear checks, with porcupine, that what many clients of a server saw
// at the same time could have happened one thing after another: that locks are
// linearizable. It is a module of its own, so that lockd does not depend on the
// checker.
package linear

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math"
	"math/bits"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/nylen/lockd/pkg/server"
)

// owners is a set of owners.
type owners [8]uint64

func (s owners) has(o int) bool       { return s[o/64]>>(o%64)&1 == 1 }
func (s owners) with(o int) owners    { s[o/64] |= 1 << (o % 64); return s }
func (s owners) without(o int) owners { s[o/64] &^= 1 << (o % 64); return s }
func (s owners) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// maxOwners is how many may take part in one history.
const maxOwners = len(owners{}) * 64

// state is that of one lock, exclusive or shared.
type state struct {
	holders owners
	dead    owners
}

// A request is what an owner asks of one lock.
type request struct {
	key   string // verb of the kind and name
	op    op
	owner int
	limit int // of holders; an exclusive lock's is 1, 0 is none
}

type op uint8

const (
	get op = iota // waiting or not
	release
	inspect
	end // of the owner
)

func (o op) String() string { return [...]string{"get", "release", "inspect", "end"}[o] }

// A reply is what came of it: a number, 0 being failure.
type reply struct {
	known bool
	n     int
	count bool // n is a count of holders, not just success
}

// step is the whole specification. A get that waits succeeds at some moment
// between its request and its reply; when it times out or is canceled the lock
// was not to be had at that moment. All limits of a lock are the same, so who
// waits does not matter for who does not.
func step(s state, r request, out reply) (bool, state) {
	if s.dead.has(r.owner) {
		return !out.known, s
	}
	held := s.holders.has(r.owner)
	switch r.op {
	case get:
		if !held && (r.limit == 0 || s.holders.count() < r.limit) {
			held = true
			s.holders = s.holders.with(r.owner)
		}
		return agree(out, held, s), s
	case release:
		s.holders = s.holders.without(r.owner)
		out.count = false
		return agree(out, held, s), s
	case inspect:
		return agree(out, s.holders.count() > 0, s), s
	default: // the end
		s.holders, s.dead = s.holders.without(r.owner), s.dead.with(r.owner)
		return true, s
	}
}

func agree(out reply, ok bool, s state) bool {
	return !out.known || (out.n > 0) == ok && (!ok || !out.count || out.n == s.holders.count())
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(request).key
			byKey[k] = append(byKey[k], o)
		}
		var all [][]porcupine.Operation
		for _, ops := range byKey {
			all = append(all, ops)
		}
		return all
	},
	Init: func() any { return state{} },
	Step: func(s, in, out any) (bool, any) { return step(s.(state), in.(request), out.(reply)) },
	DescribeOperation: func(in, out any) string {
		r, o := in.(request), out.(reply)
		if !o.known {
			return fmt.Sprintf("%d: %v %s -> ?", r.owner, r.op, r.key)
		}
		return fmt.Sprintf("%d: %v %s -> %d", r.owner, r.op, r.key, o.n)
	},
}

// A history is what all clients of a server saw.
type history struct {
	start  time.Time
	owners atomic.Int32
	mu     sync.Mutex // guards ops
	ops    []porcupine.Operation
}

func (h *history) now() int64 { return int64(time.Since(h.start)) }

// forever is the end of what may happen at any time, or never.
const forever = math.MaxInt64

func (h *history) add(r request, call int64, out reply, ret int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: r.owner, Input: r, Call: call, Output: out, Return: ret})
}

// A session is an owner as its client sees it.
type session struct {
	h       *history
	id      int
	prefix  string // in protocol 2
	conn    *connection
	replies chan string // closed at the end
	touched map[string]bool
}

// A connection has one session, or with protocol 2 several.
type connection struct {
	net.Conn
	mu       sync.Mutex // guards writes
	sessions []*session
}

// connect makes a connection with n sessions, 0 meaning protocol 1.
func connect(h *history, dial func() (net.Conn, error), n int) (*connection, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	k := &connection{Conn: c}
	in := bufio.NewReader(c)
	byNumber := map[string]*session{}
	for i := range max(n, 1) {
		s := &session{h: h, id: int(h.owners.Add(1)) - 1, conn: k, replies: make(chan string, 4), touched: map[string]bool{}}
		if n > 0 {
			s.prefix = strconv.Itoa(i) + " "
		}
		if s.id >= maxOwners {
			return nil, fmt.Errorf("more than %d owners", maxOwners)
		}
		byNumber[s.prefix] = s
		k.sessions = append(k.sessions, s)
	}
	if n > 0 {
		if _, err := io.WriteString(c, "hello 2\n"); err != nil {
			return nil, err
		}
		if line, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "2 lockd ") {
			return nil, fmt.Errorf("hello: %q, %v", line, err)
		}
	}
	go func() {
		defer func() {
			for _, s := range k.sessions {
				close(s.replies)
			}
		}()
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			prefix := ""
			if n > 0 {
				number, rest, _ := strings.Cut(line, " ")
				prefix, line = number+" ", rest
			}
			if s := byNumber[prefix]; s != nil {
				s.replies <- line
			}
		}
	}()
	return k, nil
}

// send sends a request; that it cannot is seen by who waits for the reply.
func (s *session) send(line string) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	io.WriteString(s.conn.Conn, s.prefix+line+"\n")
}

// ask makes a request and notes it. With after, something else is done once
// the request is sent. It tells whether there was a reply.
func (s *session) ask(r request, line string, counts bool, after func()) bool {
	r.owner = s.id
	s.touched[r.key] = true
	call := s.h.now()
	s.send(line)
	if after != nil {
		after()
	}
	got, ok := <-s.replies
	if !ok {
		s.h.add(r, call, reply{}, forever)
		return false
	}
	ret := s.h.now()
	number, _, _ := strings.Cut(got, " ")
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil {
		panic(fmt.Sprintf("%q is answered %q", line, got))
	}
	s.h.add(r, call, reply{true, int(n), counts}, ret)
	return true
}

// ended notes the end of a session, at some time from call on or never.
func (s *session) ended(call int64) {
	for key := range s.touched {
		s.h.add(request{key: key, op: end, owner: s.id}, call, reply{}, forever)
	}
}

// limit is that of all shared locks.
const limit = 3

// act makes one request.
func (s *session) act(rnd *rand.Rand, names int, after func()) bool {
	i := rnd.IntN(names)
	name := "n" + strconv.Itoa(i)
	ms := []int{0, 1, 2, 5, 50}[rnd.IntN(5)]
	if rnd.IntN(2) == 0 {
		r := request{key: "g " + name, limit: 1}
		switch rnd.IntN(8) {
		case 0, 1:
			return s.ask(r, "g "+name, false, after)
		case 2, 3, 4:
			return s.ask(r, fmt.Sprintf("gw %d %s", ms, name), false, after)
		case 5, 6:
			r.op = release
			return s.ask(r, "r "+name, false, after)
		default:
			r.op = inspect
			return s.ask(r, "i "+name, false, after)
		}
	}
	r := request{key: "s " + name, limit: limit}
	switch rnd.IntN(9) {
	case 0:
		r.limit = 0
		return s.ask(r, "sg "+name, true, after)
	case 1, 2:
		return s.ask(r, fmt.Sprintf("sgl %d %s", limit, name), true, after)
	case 3, 4, 5:
		return s.ask(r, fmt.Sprintf("sgw %d %d %s", limit, ms, name), true, after)
	case 6, 7:
		r.op = release
		return s.ask(r, "sr "+name, true, after)
	default:
		r.op = inspect
		return s.ask(r, "si "+name, true, after)
	}
}

// A load is who does what to a server.
type load struct {
	seed    uint64
	clients int
	names   int
	actions int  // of each session
	kills   bool // connections end in the middle of things
	dial    func(i int) (net.Conn, error)
	two     bool // some speak protocol 2
}

// run records a history.
func (l load) run(t *testing.T) []porcupine.Operation {
	t.Helper()
	h := &history{start: time.Now()}
	var wg sync.WaitGroup
	for i := range l.clients {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(l.seed, uint64(i)))
			for left := l.actions; left > 0; {
				n := 0
				if l.two && i%2 == 1 {
					n = 3
				}
				c, err := connect(h, func() (net.Conn, error) { return l.dial(i) }, n)
				if err != nil {
					t.Error(err)
					return
				}
				actions := left
				if l.kills {
					actions = min(left, 5+rnd.IntN(40))
				}
				left -= actions
				reset := rnd.IntN(2) == 0
				var called int64
				var once sync.Once
				kill := func() {
					once.Do(func() {
						called = h.now()
						if t, ok := c.Conn.(*net.TCPConn); ok && reset {
							t.SetLinger(0)
						}
						c.Close()
					})
				}
				var sessions sync.WaitGroup
				for k, s := range c.sessions {
					rnd := rand.New(rand.NewPCG(rnd.Uint64(), uint64(k)))
					sessions.Go(func() {
						for a := range actions {
							var after func()
							switch {
							case l.kills && k == 0 && a == actions-1 && rnd.IntN(3) > 0:
								after = kill
							case n > 0 && rnd.IntN(10) == 0:
								after = func() { s.send("cancel") }
							}
							if !s.act(rnd, l.names, after) {
								return
							}
							if n > 0 && after != nil && a != actions-1 {
								<-s.replies // cancel's
							}
						}
					})
				}
				sessions.Wait()
				kill()
				for _, s := range c.sessions {
					s.ended(called)
				}
			}
		})
	}
	wg.Wait()
	// What ended before it was called did not begin before: porcupine wants
	// calls in order.
	slices.SortFunc(h.ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return h.ops
}

func start(t *testing.T) *server.Server {
	t.Helper()
	s, err := server.New(server.Options{TCP: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(ctx)
	})
	return s
}

// patience is how long the checker may take for a history. It takes
// milliseconds.
const patience = 20 * time.Second

func TestLocksAreLinearizable(t *testing.T) {
	for _, kills := range []bool{false, true} {
		t.Run(fmt.Sprintf("kills=%v", kills), func(t *testing.T) {
			runs := 12
			if testing.Short() {
				runs = 3
			}
			for seed := range uint64(runs) {
				s := start(t)
				addr := s.Addrs()[0].String()
				l := load{seed: seed, clients: 8, names: 2, actions: 150, kills: kills, two: true}
				l.dial = func(i int) (net.Conn, error) {
					if i%4 >= 2 {
						return s.Dial()
					}
					return net.Dial("tcp", addr)
				}
				ops := l.run(t)
				succeeded, unknown := 0, 0
				for _, o := range ops {
					if out := o.Output.(reply); !out.known {
						unknown++
					} else if out.n > 0 {
						succeeded++
					}
				}
				began := time.Now()
				if r := porcupine.CheckOperationsTimeout(model, ops, patience); r != porcupine.Ok {
					t.Fatalf("seed %d: a history of %d operations: %v", seed, len(ops), r)
				}
				if succeeded < len(ops)/10 {
					t.Errorf("seed %d: only %d of %d operations succeeded", seed, succeeded, len(ops))
				}
				if seed == 0 {
					t.Logf("%d operations, %d succeeded, %d of unknown end, checked in %v", len(ops), succeeded, unknown, time.Since(began))
				}
			}
		})
	}
}

// A liar stands between clients and a server, and does not always pass on what
// they say. request returns what goes to the server and, if that is nothing,
// the reply; reply returns what goes to the client.
type liar struct {
	request func(line string) (pass, answer string)
	reply   func(line string) string
	chances atomic.Int32
	lies    atomic.Int32
}

// dial connects to a server through the liar.
func (l *liar) dial(s *server.Server) (net.Conn, error) {
	up, err := s.Dial()
	if err != nil {
		return nil, err
	}
	client, down := net.Pipe()
	go func() {
		defer up.Close()
		defer down.Close()
		in, back := bufio.NewReader(down), bufio.NewReader(up)
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			answer := ""
			if l.request != nil {
				line, answer = l.request(line)
			}
			if line != "" {
				io.WriteString(up, line)
				if answer, err = back.ReadString('\n'); err != nil {
					return
				}
				if l.reply != nil {
					answer = l.reply(answer)
				}
			}
			if _, err := io.WriteString(down, answer); err != nil {
				return
			}
		}
	}()
	return client, nil
}

// sometimes is one time in five.
func (l *liar) sometimes() bool { return l.chances.Add(1)%5 == 0 }

// replace says something else now and then.
func (l *liar) replace(from, to string) func(string) string {
	return func(line string) string {
		if strings.HasPrefix(line, from) && l.sometimes() {
			l.lies.Add(1)
			return to + strings.TrimPrefix(line, from)
		}
		return line
	}
}

// drop does not do now and then what it says it did.
func (l *liar) drop(verb, answer string) func(string) (string, string) {
	return func(line string) (string, string) {
		if name, ok := strings.CutPrefix(line, verb+" "); ok && l.sometimes() {
			l.lies.Add(1)
			return "", answer + name
		}
		return line, ""
	}
}

// The test above finds a broken server: each of these is one.
func TestLiarsAreCaught(t *testing.T) {
	for _, c := range []struct {
		what string
		make func(l *liar)
	}{
		{"nothing but the truth", func(l *liar) {}},
		{"a refused get succeeds", func(l *liar) { l.reply = l.replace("0 Lock Get Failure: ", "1 Lock Get Success: ") }},
		{"a get that timed out succeeds", func(l *liar) { l.reply = l.replace("0 Lock Get Timeout: ", "1 Lock Get Success: ") }},
		{"a get is forgotten", func(l *liar) { l.request = l.drop("g", "1 Lock Get Success: ") }},
		{"a get that succeeds is refused", func(l *liar) { l.reply = l.replace("1 Lock Get Success: ", "0 Lock Get Failure: ") }},
		{"a release is forgotten", func(l *liar) { l.request = l.drop("r", "1 Lock Release Success: ") }},
		{"a shared release is forgotten", func(l *liar) { l.request = l.drop("sr", "1 Shared Lock Release Success: ") }},
		{"a count is wrong", func(l *liar) { l.reply = l.replace("2 Shared Lock Get Success: ", "3 Shared Lock Get Success: ") }},
		{"a limit is passed", func(l *liar) {
			l.reply = l.replace("0 Shared Lock Limit Reached: ", "3 Shared Lock Get Success: ")
		}},
		{"nobody holds what somebody holds", func(l *liar) { l.reply = l.replace("1 Lock Is Locked: ", "0 Lock Not Locked: ") }},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := start(t)
			l := new(liar)
			c.make(l)
			want := porcupine.Illegal
			if l.request == nil && l.reply == nil {
				want = porcupine.Ok
			}
			// Without kills: what may have happened at any time explains much, and
			// to find that it does not explain a lie takes long.
			load := load{seed: 1, clients: 6, names: 2, actions: 300}
			load.dial = func(int) (net.Conn, error) { return l.dial(s) }
			ops := load.run(t)
			if got := porcupine.CheckOperationsTimeout(model, ops, patience); got != want {
				t.Errorf("%d operations, %d lies: %v, want %v", len(ops), l.lies.Load(), got, want)
			}
			t.Logf("%d operations, %d lies", len(ops), l.lies.Load())
		})
	}
}
