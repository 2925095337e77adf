package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A link is the connection that a lock of `lockd run` hangs on. It speaks
// protocol 2, session 0 holding the lock and session 1 asking whether the
// server is still there, or, with servers that know no better, protocol 1.
type link struct {
	conn     net.Conn
	sessions bool        // whether the server speaks protocol 2
	replies  chan string // to session 0
	pending  atomic.Int32

	once sync.Once
	lost chan struct{} // closes when the connection ends, and the lock with it
	err  error         // why; set before lost closes
}

const (
	// helloPatience is how long a server may take to greet, beside ten times
	// what it took to answer the request before. One that knows no protocol 2
	// never does.
	helloPatience = 2 * time.Second

	// pings is how many pings stay unanswered until the server is given up.
	pings = 3
)

// connect makes a link. The request of protocol 1 that comes first is one that
// every server answers, so that a server which is not there, full or none of
// ours is told from one that is old.
func connect(r *remote, name string) (*link, error) {
	network, addr, err := r.lineTarget()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), r.ConnectTimeout)
	defer cancel()
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 5 * time.Second, Interval: 5 * time.Second, Count: 3,
	}}
	conn, err := dialer.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s: %w", r.Server, err)
	}
	l := &link{conn: conn, replies: make(chan string, 1), lost: make(chan struct{})}
	in := bufio.NewReader(conn)
	if err := l.greet(in, name, r.ConnectTimeout); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", r.Server, err)
	}
	go l.read(in)
	return l, nil
}

func (l *link) greet(in *bufio.Reader, name string, patience time.Duration) error {
	exchange := func(request string, patience time.Duration) (string, error) {
		l.conn.SetDeadline(time.Now().Add(patience))
		defer l.conn.SetDeadline(time.Time{})
		if _, err := l.conn.Write([]byte(request + "\n")); err != nil {
			return "", err
		}
		line, err := in.ReadString('\n')
		return strings.TrimRight(line, "\r\n"), err
	}
	begin := time.Now()
	line, err := exchange("i "+name, patience)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if !strings.HasPrefix(line, "0 Lock Not Locked: ") && !strings.HasPrefix(line, "1 Lock Is Locked: ") {
		return refusal(line)
	}
	line, err = exchange("hello 2", helloPatience+10*time.Since(begin))
	switch {
	case err == nil && strings.HasPrefix(line, "2 "):
		l.sessions = true
	case err == nil:
		return refusal(line)
	case !errors.Is(err, os.ErrDeadlineExceeded) || line != "":
		return fmt.Errorf("no answer: %w", err)
	}
	return nil
}

// refusal is a reply that means no.
func refusal(line string) error {
	return fmt.Errorf("the server said %q", line)
}

// read hands out what the server sends.
func (l *link) read(in *bufio.Reader) {
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		l.pending.Store(0)
		line := lines.Text()
		if l.sessions {
			session, rest, _ := strings.Cut(line, " ")
			if session == "1" {
				continue
			}
			if session != "0" {
				l.fail(refusal(line))
				return
			}
			line = rest
		}
		select {
		case l.replies <- line:
		default:
			l.fail(fmt.Errorf("unexpected reply %q", line))
			return
		}
	}
	err := lines.Err()
	if err == nil {
		err = errors.New("the server closed the connection")
	}
	l.fail(err)
}

func (l *link) fail(err error) {
	l.once.Do(func() {
		l.err = err
		close(l.lost)
		l.conn.Close()
	})
}

// watch gives the server up when it stays silent for a time. It counts pings
// rather than time: a process that was stopped for an hour has missed a tick,
// not its lock. Protocol 1 leaves the watch to TCP's keep-alive, since there
// a ping would stand in the queue behind what the lock needs.
func (l *link) watch(silence time.Duration) {
	if !l.sessions {
		return
	}
	tick := time.NewTicker(max(silence/(pings+1), time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-l.lost:
			return
		case <-tick.C:
		}
		if l.pending.Load() >= pings {
			l.fail(fmt.Errorf("the server has been silent for %v", silence))
			return
		}
		l.pending.Add(1)
		l.send("1 ping", silence)
	}
}

func (l *link) send(line string, patience time.Duration) {
	l.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := l.conn.Write([]byte(line + "\n")); err != nil {
		l.fail(err)
	}
}

// ask sends a request and returns the reply's number and text. With a patience
// of 0 it waits for the reply as long as the server is there.
func (l *link) ask(request string, patience time.Duration) (number uint64, text string, err error) {
	if l.sessions {
		request = "0 " + request
	}
	var late <-chan time.Time
	if patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		late = timer.C
	}
	l.send(request, 10*time.Second)
	select {
	case line := <-l.replies:
		first, rest, _ := strings.Cut(line, " ")
		number, err = strconv.ParseUint(first, 10, 64)
		if err != nil {
			return 0, "", refusal(line)
		}
		return number, rest, nil
	case <-l.lost:
		return 0, "", fmt.Errorf("connection lost: %w", l.err)
	case <-late:
		l.fail(fmt.Errorf("no reply within %v", patience))
		return 0, "", l.err
	}
}
