package client

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// unblocked makes a connection's writes wait for nobody, so that a goroutine
// which sends a request can still give it up when its context ends, and one
// that reads, or that will read the replies to what it writes, may write
// without a deadlock. A socket is like that by itself: the kernel's buffer has
// room for all that a client ever has on its way, and so is TLS over one when it has
// shaken hands. Others may not be, such as net.Pipe, whose writes wait for the other
// end to read, or TLS that shakes hands with its first bytes.
func unblocked(conn net.Conn, use use) net.Conn {
	if isSocket(conn) {
		return conn
	}
	return newPump(conn, use.room())
}

func isSocket(conn net.Conn) bool {
	switch c := conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	case *secureConn:
		return isSocket(c.NetConn())
	}
	return false
}

func newPump(conn net.Conn, room int) *pump {
	p := &pump{Conn: conn, room: room, wake: make(chan struct{}, 1), closed: make(chan struct{}), ended: make(chan struct{})}
	go p.run()
	return p
}

// pumpRoom is how much a pump holds: a few requests. More is only written by a
// client whose peer replies and does not read.
const pumpRoom = 4 << 20

// muxRoom is the same for the many callers of a mux. It bounds nothing that
// they do not bound themselves, each having a request or two on its way.
const muxRoom = 1 << 30

// closeTimeout is how long closing waits for what is pending to be written.
const closeTimeout = 100 * time.Millisecond

var errPumpFull = errors.New("peer does not read")

// A pump is a connection that is written to by a goroutine of its own, which
// ends with Close.
type pump struct {
	net.Conn
	room   int
	wake   chan struct{}
	closed chan struct{}
	ended  chan struct{}
	once   sync.Once

	mu      sync.Mutex // guards what follows
	pending []byte
	last    []byte // to be written behind it
	err     error  // of the write that ended the goroutine
}

func (p *pump) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	if len(p.pending)+len(b) > p.room {
		return 0, errPumpFull
	}
	p.pending = append(p.pending, b...)
	p.wakeLocked()
	return len(b), nil
}

// writeLast writes b in the place of what it was last given and has not begun
// to write.
func (p *pump) writeLast(b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.last = append(p.last[:0], b...)
	p.wakeLocked()
	return nil
}

func (p *pump) wakeLocked() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *pump) run() {
	defer close(p.ended)
	var b []byte
	for last := false; !last; {
		select {
		case <-p.wake:
		case <-p.closed:
			last = true
		}
		if cap(b) > keptRoom {
			b = nil
		}
		p.mu.Lock()
		b, p.pending = append(p.pending, p.last...), b[:0]
		p.last = p.last[:0]
		p.mu.Unlock()
		if len(b) == 0 {
			continue // another wake was for what the last write took
		}
		if _, err := p.Conn.Write(b); err != nil {
			p.mu.Lock()
			p.err = err
			p.mu.Unlock()
			p.Conn.SetReadDeadline(time.Now().Add(grace))
			return
		}
	}
}

// Read reads, and tells why writing ended if that is why reading does.
func (p *pump) Read(b []byte) (int, error) {
	n, err := p.Conn.Read(b)
	if err != nil && err != io.EOF {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.err != nil {
			err = p.err
		}
	}
	return n, err
}

// Close writes what is pending, if that does not take longer than closeTimeout,
// closes the connection, and returns when the goroutine has ended.
func (p *pump) Close() error {
	p.once.Do(func() { close(p.closed) })
	late := time.AfterFunc(closeTimeout, func() { p.Conn.Close() })
	<-p.ended
	late.Stop()
	return p.Conn.Close()
}
