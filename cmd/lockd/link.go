package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nylen/lockd/internal/wire"
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

// longestReply bounds a line of the server's. A name cannot make one so long: on
// Linux an argument has at most 128 KiB.
const longestReply = 256 << 10

// pings is how many pings stay unanswered until the server is given up.
const pings = 3

// connect makes a link.
func connect(r *remote) (*link, error) {
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
		return nil, fmt.Errorf("cannot reach %s: %w", r.Server, plainly(err, r.ConnectTimeout))
	}
	l := &link{conn: conn, replies: make(chan string, 1), lost: make(chan struct{})}
	in := bufio.NewReaderSize(conn, longestReply)
	if err := l.greet(in, r.ConnectTimeout); err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", r.Server, err)
	}
	go l.read(in)
	return l, nil
}

// greet begins protocol 2 if the server speaks it.
//
// The first inspection, of a name that nobody uses, is answered by all servers;
// glockd's answer ends in \r\n, and it would lose what follows a request at
// once. A server that knows ping knows hello, too, and the second inspection
// shows whether a pong was going to come. So nothing is timed, and nothing that
// comes late is taken for the reply to something else.
func (l *link) greet(in *bufio.Reader, patience time.Duration) error {
	l.conn.SetDeadline(time.Now().Add(patience))
	defer l.conn.SetDeadline(time.Time{})
	reply := func() (string, error) {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", plainly(err, patience)
		}
		return string(line[:len(line)-1]), nil
	}
	mark := rand.Text()
	free := "0 " + wire.NotLocked + mark
	if _, err := fmt.Fprintf(l.conn, "i %s\n", mark); err != nil {
		return plainly(err, patience)
	}
	switch line, err := reply(); {
	case err != nil:
		return err
	case line == free+"\r":
		return nil
	case line != free:
		return refusal(line)
	}
	if _, err := fmt.Fprintf(l.conn, "ping\ni %s\nhello 2\n", mark); err != nil {
		return plainly(err, patience)
	}
	for _, want := range []string{"1 pong", free, "2 lockd "} {
		switch line, err := reply(); {
		case err != nil:
			return err
		case want == "1 pong" && line == free:
			return nil // no pong: protocol 1
		case !strings.HasPrefix(line, want):
			return refusal(line)
		}
	}
	l.sessions = true
	return nil
}

// refusal is a reply that means no.
func refusal(line string) error {
	if strings.HasSuffix(line+"\n", wire.LineTooLong[len("0 "):]) {
		return errTooLong
	}
	return fmt.Errorf("the server said %q", line)
}

// read hands out what the server sends.
func (l *link) read(in *bufio.Reader) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longestReply)
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
		err = io.EOF
	}
	l.fail(plainly(err, 0))
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
		l.fail(plainly(err, patience))
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
