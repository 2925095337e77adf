package admin

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// MaxConnections is how many connections the admin address has at a time. They
// have descriptors of their own, which clients' connections leave alone, and take
// none of theirs.
const MaxConnections = 32

// A request under way is left alone for busyFor. One that takes longer does not
// get its answer taken, or sends a body.
const busyFor = time.Second

// places are the connections that there are. Where they are all taken, a new one
// gets the place of the one that has hung for longest, whose client may connect
// again: an operator must get in also where scrapers hang, or somebody keeps
// connections on purpose. Those without a request go first.
type places struct {
	log *slog.Logger

	mu    sync.Mutex // guards what follows
	taken map[net.Conn]state
	freed sync.Cond // a place is free, or may be
	told  time.Time // when the log was told last
}

// state is what a connection does.
type state struct {
	busy  bool // a request is under way
	since time.Time
}

func newPlaces(log *slog.Logger) *places {
	p := &places{log: log, taken: make(map[net.Conn]state, MaxConnections)}
	p.freed.L = &p.mu
	return p
}

// follow is called by net/http when a connection's state changes, for a new one by
// the goroutine that accepts: no other is accepted before there is a place.
func (p *places) follow(c net.Conn, to http.ConnState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch to {
	case http.StateNew:
		for len(p.taken) >= MaxConnections {
			p.makeRoom()
		}
		p.taken[c] = state{since: time.Now()}
	case http.StateActive, http.StateIdle:
		if _, ok := p.taken[c]; ok { // else it had to go
			p.taken[c] = state{to == http.StateActive, time.Now()}
			p.freed.Signal()
		}
	case http.StateClosed, http.StateHijacked:
		delete(p.taken, c)
		p.freed.Signal()
	}
}

// makeRoom ends the connection that has hung for longest, or waits until there is
// one that hangs, or has ended.
func (p *places) makeRoom() {
	var longest net.Conn
	for c, is := range p.taken {
		if longest == nil || is.hangsMore(p.taken[longest]) {
			longest = c
		}
	}
	is := p.taken[longest]
	if took := time.Since(is.since); is.busy && took < busyFor {
		defer time.AfterFunc(busyFor-took, p.freed.Signal).Stop()
		p.freed.Wait()
		return
	}
	if now := time.Now(); now.Sub(p.told) > time.Minute {
		p.told = now
		p.log.Warn("too many connections to the admin address: ending those that hang",
			"most", MaxConnections, "client", longest.RemoteAddr().String(), "request", is.busy)
	}
	delete(p.taken, longest)
	end(longest)
}

func (s state) hangsMore(than state) bool {
	if s.busy != than.busy {
		return than.busy
	}
	return s.since.Before(than.since)
}

// end closes what is below TLS, whose own Close may wait for a client that does not
// read.
func end(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	c.Close()
}
