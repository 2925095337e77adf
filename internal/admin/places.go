package admin

import (
	"context"
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

// keepFor is how long a connection may keep its place from others, since it is there,
// or since its last request has begun or ended: enough for a scraper that is far away
// to send a request, behind a TLS handshake, and for its answer to be made.
const keepFor = time.Second

// followFor is the same for one whose client follows events, since it has taken one:
// they come every second.
const followFor = 3 * time.Second

// places are the connections that there are. Where they are all taken, a new one
// gets the place of the one that has hung for longest, whose client may connect
// again: an operator must get in also where scrapers hang, or somebody keeps
// connections on purpose.
type places struct {
	log *slog.Logger

	mu    sync.Mutex             // guards what follows
	taken map[net.Conn]time.Time // and until when each keeps its place
	freed sync.Cond              // a place is free, or may be
	told  time.Time              // when the log was told last
}

func newPlaces(log *slog.Logger) *places {
	p := &places{log: log, taken: make(map[net.Conn]time.Time, MaxConnections)}
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
		p.taken[c] = time.Now().Add(keepFor)
	case http.StateActive, http.StateIdle:
		p.stayLocked(c, keepFor)
	case http.StateClosed, http.StateHijacked:
		delete(p.taken, c)
		p.freed.Signal()
	}
}

// stay has a connection keep its place, whose client has just taken an event.
func (p *places) stay(c net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stayLocked(c, followFor)
}

func (p *places) stayLocked(c net.Conn, so time.Duration) {
	if _, ok := p.taken[c]; ok { // else it had to give its place up
		p.taken[c] = time.Now().Add(so)
		p.freed.Signal()
	}
}

// name tells requests of a connection whose place it is. It is called by net/http.
func (p *places) name(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, placeOf{}, ownPlace{p, c})
}

// makeRoom ends the connection that has hung for longest, or waits until there is
// one that hangs, or has ended.
func (p *places) makeRoom() {
	var longest net.Conn
	for c, until := range p.taken {
		if longest == nil || until.Before(p.taken[longest]) {
			longest = c
		}
	}
	now := time.Now()
	if keeps := p.taken[longest].Sub(now); keeps > 0 {
		defer time.AfterFunc(keeps, p.freed.Signal).Stop()
		p.freed.Wait()
		return
	}
	if now.Sub(p.told) > time.Minute {
		p.told = now
		p.log.Warn("too many connections to the admin address: ending those that hang",
			"most", MaxConnections, "client", longest.RemoteAddr().String())
	}
	delete(p.taken, longest)
	end(longest)
}

// end closes what is below TLS, whose own Close may wait for a client that does not
// read.
func end(c net.Conn) { below(c).Close() }

// below returns what is below TLS, or the connection itself.
func below(c net.Conn) net.Conn {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c
}
