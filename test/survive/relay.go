//go:build linux

package main

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// A relay passes bytes on between clients and a server, as a network does: late, in one
// direction only, or not at all.
type relay struct {
	listener net.Listener
	dial     dialer        // whoever it is for
	delay    time.Duration // at most, of each piece
	// first is how much earlier clients hear of the end of their connection than the
	// server. Who is not kept has no other way to know.
	first time.Duration

	// twist, if there is one, has a connection to itself: a relay that lies.
	twist func(client, server net.Conn)

	down atomic.Bool // nobody gets through

	mu     sync.Mutex // guards what follows
	passes map[*passage]bool
	closed bool
	ended  sync.WaitGroup
}

// A passage is one connection through a relay.
type passage struct {
	relay          *relay
	client, server *net.TCPConn
	over           chan struct{} // closed at its end
	once           sync.Once

	mu    sync.Mutex // guards what follows
	stuck [2]chan struct{}
	mute  [2]bool
}

// open has a relay, of which is said what it does, listen.
func (r *relay) open() (*relay, error) {
	var err error
	if r.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return nil, err
	}
	r.passes = map[*passage]bool{}
	r.ended.Go(r.accept)
	return r, nil
}

func (r *relay) addr() string { return r.listener.Addr().String() }

func (r *relay) accept() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.ended.Go(func() { r.pass(c) })
	}
}

func (r *relay) pass(c net.Conn) {
	up, err := r.dial(time.Second)
	if err == nil && r.down.Load() {
		up.Close()
		err = net.ErrClosed
	}
	if err != nil {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		return
	}
	p := &passage{relay: r, client: c.(*net.TCPConn), server: up.(*net.TCPConn), over: make(chan struct{})}
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		p.reset()
		return
	}
	r.passes[p] = true
	r.mu.Unlock()
	if r.twist != nil {
		r.twist(c, up)
		p.reset()
	} else {
		var both sync.WaitGroup
		both.Go(func() { r.pump(p, 0, p.client, p.server) })
		both.Go(func() { r.pump(p, 1, p.server, p.client) })
		both.Wait()
	}
	r.mu.Lock()
	delete(r.passes, p)
	r.mu.Unlock()
}

// pump passes on what comes from one side. A side that has ended ends the other, when
// what came before has been passed on, and if the way is not stuck.
func (r *relay) pump(p *passage, way int, from, to *net.TCPConn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if r.delay > 0 {
			time.Sleep(rand.N(r.delay))
		}
		p.mu.Lock()
		stuck, mute := p.stuck[way], p.mute[way]
		p.mu.Unlock()
		if stuck != nil {
			select {
			case <-stuck:
			case <-p.over:
			}
		}
		if mute && err == nil {
			continue
		}
		if mute { // not even the end is heard
			<-p.over
			return
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				p.reset()
				return
			}
		}
		if err == io.EOF {
			// Both ends at once: nobody here needs a half of a connection.
			p.close()
			return
		}
		if err != nil {
			p.reset()
			return
		}
	}
}

func (p *passage) end(linger int) {
	p.once.Do(func() {
		close(p.over)
		if linger == 0 {
			p.client.SetLinger(0)
			p.server.SetLinger(0)
		}
		p.client.Close()
		if linger == 0 {
			time.Sleep(p.relay.first)
		}
		p.server.Close()
	})
}

func (p *passage) close() { p.end(-1) }
func (p *passage) reset() { p.end(0) }

// stick holds all up for some time, in the directions that are asked for.
func (p *passage) stick(d time.Duration, ways ...int) {
	free := make(chan struct{})
	p.mu.Lock()
	for _, way := range ways {
		if p.stuck[way] == nil {
			p.stuck[way] = free
		}
	}
	p.mu.Unlock()
	time.AfterFunc(d, func() {
		p.mu.Lock()
		for _, way := range ways {
			if p.stuck[way] == free {
				p.stuck[way] = nil
			}
		}
		p.mu.Unlock()
		close(free)
	})
}

// halfOpen loses what is sent one way from now on, and ends it all much later.
func (p *passage) halfOpen(way int, d time.Duration) {
	p.mu.Lock()
	p.mute[way] = true
	p.mu.Unlock()
	time.AfterFunc(d, p.reset)
}

// some returns about one of n of the connections there are.
func (r *relay) some(n int) (all []*passage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for p := range r.passes {
		if n <= 1 || rand.N(n) == 0 {
			all = append(all, p)
		}
	}
	return all
}

// outage ends all connections, and makes none for some time.
func (r *relay) outage(d time.Duration) {
	r.down.Store(true)
	for _, p := range r.some(1) {
		go p.reset()
	}
	time.Sleep(d)
	r.down.Store(false)
}

// trouble does something to some of the connections, now and then, that is over within
// most.
func (r *relay) trouble(ctx context.Context, w *witness, what string, every, most time.Duration) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(every/2 + rand.N(every)):
		}
		all := r.some(1)
		if len(all) == 0 {
			continue
		}
		p := all[rand.N(len(all))]
		d := most/4 + rand.N(most*3/4)
		switch rand.N(7) {
		case 0, 1:
			w.count(what + ": reset")
			p.reset()
		case 2:
			w.count(what + ": half-open")
			p.halfOpen(rand.N(2), d)
		case 3:
			w.count(what + ": stuck both ways")
			p.stick(d, 0, 1)
		case 4:
			w.count(what + ": all away")
			r.outage(d / 4)
		default:
			w.count(what + ": stuck one way")
			p.stick(d, rand.N(2))
		}
	}
}

func (r *relay) close() {
	r.listener.Close()
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	for _, p := range r.some(1) {
		p.reset()
	}
	r.ended.Wait()
}
