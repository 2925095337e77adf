//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A keeper is a client of protocol 2 that has a node keep it, written for this test:
// it shares nothing with pkg/client, so that what both sides had wrong would show. One that
// roams comes back at any node, else at the one where it was.
//
// It believes in what it holds until 0.95 of what the server keeps have passed since it
// sent the last request that was answered, less the time to stop. Then it ends, and
// another one takes its place.
type keeper struct {
	w    *witness
	l    *load
	kind string
	home int           // the node
	ask  time.Duration // to be kept so long
	stop time.Duration // what it takes to stop working

	mu       sync.Mutex // guards what follows
	key      string
	anywhere bool          // any node takes it up
	life     int           // how many connections it has had
	keep     time.Duration // what was granted
	deadline time.Duration
	claiming bool // the server has forgotten, and has not answered `claimed` yet
	over     bool
	gone     chan struct{} // closed when it is over
	conn     net.Conn      // nil between two
	expected map[int][]expectation
	pinged   time.Duration // when the ping that is not answered was sent; 0: none
	calls    map[int]*call
	held     map[int]map[string]*hold // by session and by name with verb
}

// A call is a request of a session, which is made on as many connections as it takes.
type call struct {
	line  string
	get   *hold       // what it asks for; nil: no lock
	reply chan answer // closed without one when the client is over
}

// An expectation is a reply that has to come on this connection.
type expectation struct {
	sent  time.Duration
	call  *call  // or
	claim string // the name with verb, or
	what  string // ping or claimed
}

// begin connects, and returns when the server has promised to keep.
func (k *keeper) begin(ctx context.Context) (*bufio.Reader, error) {
	conn, in, err := k.dial(ctx)
	if err != nil {
		return nil, err
	}
	sent := now()
	fmt.Fprintf(conn, "0 keep %d\n", k.ask.Milliseconds())
	line, err := in.ReadString('\n')
	if err != nil {
		conn.Close()
		return nil, err
	}
	number, text := split(strings.TrimPrefix(line, "0 "))
	// A node says how far its promise goes, too: Kept Blips Only, Kept Everywhere.
	promise, key, ok := strings.Cut(text, ": ")
	ok = ok && number > 0 && strings.HasPrefix(promise, "Kept")
	if !ok {
		conn.Close()
		return nil, &strangeError{"keep", text}
	}
	k.anywhere, k.life = promise == "Kept Everywhere", 1
	k.key, k.keep = key, time.Duration(number)*time.Millisecond
	k.deadline = sent + k.keep*95/100 - k.stop
	k.gone = make(chan struct{})
	k.calls, k.held = map[int]*call{}, map[int]map[string]*hold{}
	k.expected = map[int][]expectation{}
	k.conn = conn
	conn.SetDeadline(time.Time{})
	return in, nil
}

// A strangeError is an answer that is no promise.
type strangeError struct{ request, answer string }

func (e *strangeError) Error() string { return fmt.Sprintf("%s is answered %q", e.request, e.answer) }

func split(line string) (uint64, string) {
	number, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	n, _ := strconv.ParseUint(number, 10, 64)
	return n, text
}

func (k *keeper) dial(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	d := net.Dialer{Timeout: k.ask / 8}
	conn, err := d.DialContext(ctx, "tcp", k.l.Nodes[k.home].Addr)
	if err != nil {
		return nil, nil, err
	}
	conn.SetDeadline(time.Now().Add(k.ask / 4))
	in := bufio.NewReader(conn)
	io.WriteString(conn, "hello 2 notices\n")
	line, err := in.ReadString('\n')
	if err == nil && !strings.HasPrefix(line, "2 lockd ") {
		err = &strangeError{"hello", line}
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, in, nil
}

// run keeps the connection until the client is over.
func (k *keeper) run(ctx context.Context, in *bufio.Reader) {
	go k.watch()
	for {
		k.mu.Lock()
		conn := k.conn
		k.mu.Unlock()
		if conn != nil {
			k.read(conn, in)
		}
		k.mu.Lock()
		k.away()
		over := k.over
		k.mu.Unlock()
		if over {
			return
		}
		k.w.count(k.kind + ": blips")
		for in = nil; in == nil; {
			if in, _ = k.resume(ctx); in == nil {
				if k.isOver() {
					return
				}
				time.Sleep(10*time.Millisecond + rand.N(60*time.Millisecond))
				if k.l.Roam && k.anywhere {
					k.mu.Lock()
					k.home = rand.IntN(len(k.l.Nodes))
					k.mu.Unlock()
				}
			}
		}
	}
}

func (k *keeper) isOver() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.expired()
}

// away has no connection any more. The caller holds k.mu.
func (k *keeper) away() {
	if k.conn != nil {
		k.conn.Close()
		k.conn = nil
	}
	clear(k.expected)
	k.pinged = 0
}

// expired is asked after each wake, before each reply and each request. The caller holds
// k.mu.
func (k *keeper) expired() bool {
	if !k.over && now() >= k.deadline {
		k.end("its deadline has come")
	}
	return k.over
}

// end gives all up, once. The caller holds k.mu.
func (k *keeper) end(why string) {
	if k.over {
		return
	}
	k.over = true
	at := min(now(), k.deadline)
	for _, held := range k.held {
		for name, h := range held {
			h.To = at
			k.w.note(note{Hold: h})
			if why != "" {
				k.lost(name, why, h)
			}
		}
	}
	if why != "" {
		k.w.count(k.kind + ": over, " + why)
	}
	k.held = nil
	for _, c := range k.calls {
		close(c.reply)
	}
	k.calls = nil
	k.away()
	close(k.gone)
}

// watch looks at the clock, and asks whether the server is there.
func (k *keeper) watch() {
	tick := time.NewTicker(k.keep / 100)
	defer tick.Stop()
	var last time.Duration
	for range tick.C {
		k.mu.Lock()
		if k.expired() {
			k.mu.Unlock()
			return
		}
		if k.conn != nil {
			switch t := now(); {
			case k.pinged != 0 && t-k.pinged > k.keep/5:
				k.conn.Close() // who reads it sees that
			case k.pinged == 0 && t-last > k.keep/10:
				last, k.pinged = t, t
				k.send(0, "ping", expectation{what: "ping"})
			}
		}
		k.mu.Unlock()
	}
}

// send sends a request. The caller holds k.mu.
func (k *keeper) send(session int, line string, e expectation) {
	e.sent = now()
	k.expected[session] = append(k.expected[session], e)
	k.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	fmt.Fprintf(k.conn, "%d %s\n", session, line)
}

// resume tries to come back, and returns what to read from then.
func (k *keeper) resume(ctx context.Context) (*bufio.Reader, error) {
	conn, in, err := k.dial(ctx)
	if err != nil {
		return nil, err
	}
	if k.isOver() {
		conn.Close()
		return nil, nil
	}
	sent := now()
	k.life++
	if k.anywhere {
		fmt.Fprintf(conn, "0 resume %s %d %d\n", k.key, k.life, k.keep.Milliseconds())
	} else {
		fmt.Fprintf(conn, "0 resume %s\n", k.key)
	}
	line, err := in.ReadString('\n')
	if err != nil {
		conn.Close()
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.expired() {
		conn.Close()
		return nil, nil
	}
	_, text := split(strings.TrimPrefix(line, "0 "))
	switch {
	case strings.HasPrefix(text, "Resumed: "):
		k.w.count(k.kind + ": resumed")
		k.extend(sent)
	case strings.HasPrefix(text, "Claims Open "):
		ms, _, _ := strings.Cut(strings.TrimPrefix(text, "Claims Open "), ":")
		left, err := strconv.Atoi(ms)
		if err != nil {
			conn.Close()
			return nil, fmt.Errorf("resume is answered %q", line)
		}
		k.w.count(k.kind + ": claims open")
		k.claiming = true
		k.deadline = max(k.deadline, sent+time.Duration(left)*time.Millisecond*95/100-k.stop)
	case strings.HasPrefix(text, "Unknown Key: "):
		conn.Close()
		k.end("its key is unknown")
		return nil, nil
	default: // full, or about to end
		k.w.count(k.kind + ": resume is answered " + text)
		conn.Close()
		return nil, nil
	}
	conn.SetDeadline(time.Time{})
	k.conn = conn
	for session, held := range k.held {
		for name, h := range held {
			line := fmt.Sprintf("claim %d %s", h.Token, name[2:])
			if name[0] == 's' {
				line = "claims 1 " + name[2:]
			}
			k.send(session, line, expectation{claim: name})
		}
	}
	for session, c := range k.calls {
		k.send(session, c.line, expectation{call: c})
	}
	k.send(0, "claimed", expectation{what: "claimed"})
	return in, nil
}

// extend notes that a request was answered. The caller holds k.mu.
func (k *keeper) extend(sent time.Duration) {
	if !k.claiming {
		k.deadline = max(k.deadline, sent+k.keep*95/100-k.stop)
	}
}

// read reads replies until the connection ends, or is given up.
func (k *keeper) read(conn net.Conn, in *bufio.Reader) {
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		if err := k.hear(conn, line); err == net.ErrClosed {
			return
		} else if err != nil {
			k.w.note(note{Loss: &loss{Kind: k.kind, Client: k.l.Machine, Home: k.l.Nodes[k.home].Name, Why: err.Error(), At: now(), Never: true}})
			return
		}
	}
}

func (k *keeper) hear(conn net.Conn, line string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.expired() || k.conn != conn {
		return net.ErrClosed
	}
	number, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	session, err := strconv.Atoi(number)
	if err != nil {
		return fmt.Errorf("got %q", line)
	}
	if notice, ok := strings.CutPrefix(text, "! "); ok {
		if name, ok := strings.CutPrefix(notice, "Lock Lost: "); ok {
			k.lose(session, "g "+name, "the server says so")
			k.lose(session, "s "+name, "the server says so")
		}
		return nil
	}
	if len(k.expected[session]) == 0 {
		return fmt.Errorf("got %q unasked", line)
	}
	e := k.expected[session][0]
	k.expected[session] = k.expected[session][1:]
	switch {
	case e.what == "claimed":
		if text != "1 ok" {
			return fmt.Errorf("claimed is answered %q", line)
		}
		k.claiming = false
	case e.what == "ping":
		k.pinged = 0
		if strings.HasPrefix(text, "0 Unavailable") {
			return nil // which says nothing
		}
		if text != "1 pong" {
			return fmt.Errorf("ping is answered %q", line)
		}
	case e.claim != "":
		n, said := split(text)
		if n == 0 && (strings.HasPrefix(said, "Unavailable") || strings.HasPrefix(said, "Server Recovering")) {
			k.w.count(k.kind + ": a claim is answered " + said[:strings.IndexByte(said, ':')])
			return net.ErrClosed // it is not decided: it comes back once more
		}
		if n == 0 {
			k.lose(session, e.claim, fmt.Sprintf("a claim is answered %q", text))
		} else {
			k.w.count(k.kind + ": claims")
		}
	default:
		if e.call == nil {
			return net.ErrClosed // that of bye
		}
		// What is answered is what was asked: each reply ends with the name.
		asked := e.call.line[strings.LastIndexByte(e.call.line, ' ')+1:]
		if !strings.HasSuffix(text, ": "+asked) && text != "0 disabled" {
			return fmt.Errorf("%q is answered %q", e.call.line, line)
		}
		if shared := e.call.line[0] == 's'; shared != strings.Contains(text, "Shared") && strings.Contains(text, "Lock") {
			return fmt.Errorf("%q is answered %q", e.call.line, line)
		}
		delete(k.calls, session)
		k.got(session, e.call.get, text)
		e.call.reply <- answer{text, e.sent, now()}
	}
	k.extend(e.sent)
	return nil
}

// lose notes that something was lost before its time. The caller holds k.mu.
func (k *keeper) lose(session int, name, why string) {
	if h := k.held[session][name]; h != nil {
		delete(k.held[session], name)
		h.To = now()
		k.w.note(note{Hold: h})
		k.lost(name, why, h)
	}
}

// lost notes that. The caller holds k.mu.
func (k *keeper) lost(name, why string, h *hold) {
	held := *h
	k.w.note(note{Loss: &loss{Kind: k.kind, Client: k.l.Machine, Home: k.l.Nodes[k.home].Name, Name: name, Why: why, At: now(), Held: &held}})
}

// got notes a lock, if that is what a reply says, at once: the next resume has to claim
// it. The caller holds k.mu.
func (k *keeper) got(session int, h *hold, text string) {
	n, text := split(text)
	if h == nil || n == 0 || !strings.Contains(text, "Success") {
		return
	}
	if h.Name[0] == 'g' {
		h.Token = n
	}
	h.From = now()
	h.Home = k.l.Nodes[k.home].Name
	if k.held[session] == nil {
		k.held[session] = map[string]*hold{}
	}
	k.held[session][h.Name] = h
	k.w.count(k.kind + ": grants")
}

// request makes a request of a session and returns the answer, none if the client is
// over.
func (k *keeper) request(session int, line string, get *hold) answer {
	k.mu.Lock()
	if k.expired() {
		k.mu.Unlock()
		return answer{}
	}
	c := &call{line: line, get: get, reply: make(chan answer, 1)}
	k.calls[session] = c
	if k.conn != nil {
		k.send(session, line, expectation{call: c})
	}
	k.mu.Unlock()
	return <-c.reply
}

// get asks for a lock, and tells whether it has it.
func (k *keeper) get(session, owner int, line, name string, limit int) bool {
	k.request(session, line, &hold{Name: name, Owner: owner, Kind: k.kind, Asked: now(), Limit: limit})
	return k.holding(session, name)
}

// release stops to believe in a lock, and then says so.
func (k *keeper) release(session int, name string) {
	k.mu.Lock()
	h := k.held[session][name]
	if h == nil || k.expired() {
		k.mu.Unlock()
		return
	}
	delete(k.held[session], name)
	h.To = now()
	k.mu.Unlock()
	verb := "r "
	if name[0] == 's' {
		verb = "sr "
	}
	if k.request(session, verb+name[2:], nil).text != "" {
		h.Left = now()
	}
	k.w.note(note{Hold: h})
}

// holding tells whether a session believes in a lock.
func (k *keeper) holding(session int, name string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return !k.expired() && k.held[session][name] != nil
}

// bye ends it as one should.
func (k *keeper) bye() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	if k.conn != nil {
		k.send(0, "bye", expectation{})
		conn := k.conn
		k.conn = nil // its reply is nobody's
		time.AfterFunc(100*time.Millisecond, func() { conn.Close() })
	}
	k.end("")
}

// token is that of a lock that it believes in; 0: none.
func (k *keeper) token(session int, name string) uint64 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if h := k.held[session][name]; h != nil && !k.expired() {
		return h.Token
	}
	return 0
}
